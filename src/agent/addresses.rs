//! Keeps the addresses of the lifelines fresh.
//!
//! In: the configuration, the nucleus' endpoints, the host's resolvers and time servers, the nucleus' open MQTT
//! connections. Out: addresses for the enforcer, and what did not resolve for the board.

use std::time::Duration;

use greengrass_ipc::Client;
use tokio::sync::{oneshot, watch};

use super::board::{Board, LifelineStatus};
use super::enforcer::{Command, Handle};
use crate::cloud::nucleus;
use crate::config::Config;
use crate::host::{surroundings, uplinks};
use crate::quarantine::lifeline::{Endpoint, Purpose, Surroundings, Target, targets};
use crate::quarantine::order::Protocol;

/// From one resolution to the next. IoT endpoints have a time to live of a minute.
const REFRESH: Duration = Duration::from_secs(60);
/// After a name did not resolve.
const RETRY: Duration = Duration::from_secs(5);

/// Resolves for ever.
pub struct Resolver {
    /// The nucleus.
    pub client: Client,
    /// The configuration.
    pub config: watch::Receiver<Config>,
    /// Where addresses go.
    pub enforcer: Handle,
    /// The board.
    pub board: Board,
}

impl Resolver {
    /// Runs until it is dropped; `first` hears when the control channel was looked up for the first time.
    pub async fn run(mut self, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        let mut endpoints = nucleus::Endpoints::default();
        loop {
            if let Ok(fresh) = nucleus::endpoints(&self.client).await {
                endpoints = fresh;
            }
            let config = self.config.borrow_and_update().clone();
            let around = look_around(&config, &endpoints);
            let lifelines = &config.isolation.settings.lifelines;
            // The control channel first: names of other lifelines may take seconds each.
            let (control, others): (Vec<Target>, Vec<Target>) = targets(lifelines, &around)
                .into_iter()
                .partition(|target| target.purpose == Purpose::DataEndpoint);
            let mut unresolved = Vec::new();
            let mut found = self.resolve(&control, &mut unresolved).await;
            if lifelines.data_endpoint {
                found.extend(self.open_uplinks(endpoints.mqtt_port));
                if around.data_endpoint.is_none() {
                    unresolved.push(
                        "the nucleus tells no iotDataEndpoint and isolation.dataEndpoint is empty".into(),
                    );
                }
            }
            let mut addresses = found.len();
            self.enforcer.send(Command::Addresses(found)).await;
            if let Some(first) = first.take() {
                let _ = first.send(());
            }
            let found = self.resolve(&others, &mut unresolved).await;
            addresses += found.len();
            self.enforcer.send(Command::Addresses(found)).await;
            let wait = if unresolved.is_empty() { REFRESH } else { RETRY };
            self.tell(addresses, unresolved);
            // A closed channel means that the agent is stopping; the timeout then only paces the loop.
            let _ = tokio::time::timeout(wait, self.config.changed()).await;
        }
    }

    async fn resolve(&self, targets: &[Target], unresolved: &mut Vec<String>) -> Vec<Endpoint> {
        let mut found = Vec::new();
        for target in targets {
            match surroundings::resolve(&target.host).await {
                Ok(addresses) => found.extend(addresses.into_iter().flat_map(|address| {
                    let purpose = target.purpose;
                    let endpoint = move |(protocol, port): &(Protocol, u16)| Endpoint {
                        purpose,
                        address,
                        protocol: *protocol,
                        port: *port,
                    };
                    target.ports.iter().map(endpoint)
                })),
                Err(why) => unresolved.push(why),
            }
        }
        found
    }

    fn tell(&self, addresses: usize, unresolved: Vec<String>) {
        self.board.update(|status| {
            if status.lifelines.unresolved != unresolved {
                unresolved
                    .iter()
                    .for_each(|why| tracing::warn!("lifeline: {why}"));
            }
            status.lifelines = LifelineStatus {
                addresses,
                unresolved,
            };
        });
    }

    /// Where the nucleus is connected right now: DNS may already name other addresses.
    fn open_uplinks(&self, mqtt_port: Option<u16>) -> Vec<Endpoint> {
        let found = uplinks::of_nucleus(nucleus::pid(&self.client), mqtt_port);
        let endpoint = |remote: std::net::SocketAddr| Endpoint {
            purpose: Purpose::DataEndpoint,
            address: remote.ip(),
            protocol: Protocol::Tcp,
            port: remote.port(),
        };
        found
            .into_iter()
            .filter(|remote| !remote.ip().is_loopback())
            .map(endpoint)
            .collect()
    }
}

fn look_around(config: &Config, endpoints: &nucleus::Endpoints) -> Surroundings {
    let mut time_servers = surroundings::time_servers();
    time_servers.extend(config.isolation.time_servers.iter().cloned());
    Surroundings {
        data_endpoint: config
            .isolation
            .data_endpoint
            .clone()
            .or_else(|| endpoints.data.clone()),
        mqtt_port: endpoints.mqtt_port,
        resolvers: surroundings::resolvers(),
        time_servers,
    }
}
