//! Keeps the addresses of the lifelines fresh.
//!
//! In: the configuration, the nucleus' endpoints, the host's resolvers and time servers, the nucleus' open MQTT
//! connections. Out: addresses for the enforcer, and what did not resolve for the board.

use std::time::Duration;

use greengrass_ipc::Client;
use tokio::sync::{oneshot, watch};

use super::board::Board;
use super::enforcer::{Command, Handle};
use crate::cloud::nucleus;
use crate::config::Config;
use crate::host::{surroundings, uplinks};
use crate::quarantine::lifeline::{Endpoint, Purpose, Surroundings, targets};
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
    /// Runs until it is dropped; `first` hears when addresses were looked up for the first time.
    pub async fn run(mut self, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        let mut endpoints = nucleus::Endpoints::default();
        loop {
            if let Ok(fresh) = nucleus::endpoints(&self.client).await {
                endpoints = fresh;
            }
            let config = self.config.borrow_and_update().clone();
            let complete = self.pass(&config, &endpoints).await;
            if let Some(first) = first.take() {
                let _ = first.send(());
            }
            let wait = if complete { REFRESH } else { RETRY };
            // A closed channel means that the agent is stopping; the timeout then only paces the loop.
            let _ = tokio::time::timeout(wait, self.config.changed()).await;
        }
    }

    async fn pass(&self, config: &Config, endpoints: &nucleus::Endpoints) -> bool {
        let lifelines = &config.isolation.settings.lifelines;
        let mut time_servers = surroundings::time_servers();
        time_servers.extend(config.isolation.time_servers.iter().cloned());
        let around = Surroundings {
            data_endpoint: config
                .isolation
                .data_endpoint
                .clone()
                .or_else(|| endpoints.data.clone()),
            mqtt_port: endpoints.mqtt_port,
            resolvers: surroundings::resolvers(),
            time_servers,
        };
        let mut found = Vec::new();
        let mut unresolved = Vec::new();
        if lifelines.data_endpoint && around.data_endpoint.is_none() {
            unresolved.push(
                "the nucleus does not tell its iotDataEndpoint and isolation.dataEndpoint is empty".into(),
            );
        }
        for target in targets(lifelines, &around) {
            match surroundings::resolve(&target.host).await {
                Ok(addresses) => found.extend(addresses.into_iter().flat_map(|address| {
                    let purpose = target.purpose;
                    target.ports.iter().map(move |(protocol, port)| Endpoint {
                        purpose,
                        address,
                        protocol: *protocol,
                        port: *port,
                    })
                })),
                Err(why) => unresolved.push(why),
            }
        }
        if lifelines.data_endpoint {
            found.extend(self.open_uplinks(endpoints.mqtt_port));
        }
        let complete = unresolved.is_empty();
        self.board.update(|status| {
            status.lifelines.addresses = found.len();
            if status.lifelines.unresolved != unresolved {
                for why in &unresolved {
                    tracing::warn!("lifeline: {why}");
                }
            }
            status.lifelines.unresolved = unresolved;
        });
        self.enforcer.send(Command::Addresses(found)).await;
        complete
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
