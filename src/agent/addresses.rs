//! Keeps the addresses of the lifelines fresh.
//!
//! In: the configuration, the nucleus' endpoints, the host's resolvers and time servers, the nucleus' open connections,
//! whether the control channel works. Out: addresses for the enforcer, what to watch for in DNS answers
//! ([`super::dns_feed`]), and what did not resolve for the board. When what is looked up is `quarantine::lifelines::lookups`'.

use std::net::IpAddr;
use std::time::Duration;

use greengrass_ipc::Client;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::board::Board;
use super::enforcer::{Command, Handle};
use crate::cloud::nucleus;
use crate::config::Config;
use crate::control::status::LifelineStatus;
use crate::host::net::uplinks::{self, Uplink};
use crate::host::{clock, surroundings};
use crate::quarantine::lifelines::dns_answers::WatchedNames;
use crate::quarantine::lifelines::lifeline::{Endpoint, Purpose, Surroundings, control_ports, targets};
use crate::quarantine::lifelines::lookups::Lookups;
use crate::quarantine::orders::order::Protocol;

/// From one look at the nucleus' and the host's configuration to the next.
const LOOK_AROUND: Duration = Duration::from_secs(60);
/// The same while the nucleus has not told its endpoint.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The same while the control channel is broken behind our rules: the nucleus may be connected somewhere new.
const LOOK_URGENT: Duration = Duration::from_secs(10);
/// How long the nucleus may take to tell its endpoints; names must not wait for it longer.
const NUCLEUS_LIMIT: Duration = Duration::from_secs(10);

/// Resolves for ever.
pub struct Resolver {
    /// The nucleus.
    pub client: Client,
    /// The configuration.
    pub config: watch::Receiver<Config>,
    /// The Region as the nucleus tells it to components.
    pub region: Option<String>,
    /// Where addresses go.
    pub enforcer: Handle,
    /// Whether the control channel works.
    pub works: watch::Receiver<bool>,
    /// What answers of others are watched for.
    pub watched: watch::Sender<WatchedNames>,
    /// Where the nucleus is connected: a change means that messages may have been missed.
    pub uplinks: watch::Sender<Vec<Uplink>>,
    /// The board.
    pub board: Board,
}

type Answers = JoinSet<(String, Result<Vec<IpAddr>, String>)>;

impl Resolver {
    /// Runs until it is dropped; `first` hears when the control channel was looked up for the first time.
    pub async fn run(mut self, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        let mut lookups = Lookups::default();
        let mut answers: Answers = JoinSet::new();
        let mut states = self.enforcer.state();
        let mut asked = Asked::default();
        let mut looked = None;
        loop {
            let urgent = states.borrow_and_update().may_cut() && !*self.works.borrow_and_update();
            let now = clock::now().uptime;
            asked.ask_when_due(&self.client, now);
            if wait(looked, asked.pause(urgent), now).is_zero() {
                self.look_around(&asked.endpoints, &mut lookups).await;
                self.tell(&lookups, &asked.endpoints);
                looked = Some(now);
            }
            for host in lookups.start(urgent, now) {
                answers.spawn(async move {
                    let outcome = surroundings::resolve(&host).await;
                    (host, outcome)
                });
            }
            if asked.answered
                && lookups.control_was_tried()
                && let Some(first) = first.take()
            {
                let _ = first.send(());
            }
            let look = wait(looked, asked.pause(urgent), now);
            let sleep = lookups.wait(urgent, now).min(look);
            tokio::select! {
                Some(Ok(outcome)) = asked.running.join_next() => if asked.take(outcome) {
                    looked = None;
                },
                Some(Ok((host, outcome))) = answers.join_next() => {
                    let found = lookups.done(&host, outcome, clock::now().uptime);
                    if !found.is_empty() {
                        self.enforcer.send(Command::Addresses(found)).await;
                    }
                    self.tell(&lookups, &asked.endpoints);
                }
                changed = self.config.changed() => match changed {
                    Ok(()) => looked = None,
                    // The agent is stopping.
                    Err(_) => return,
                },
                Ok(()) = self.works.changed() => {}
                Ok(()) = states.changed() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Reads what may have changed around us: which names to look up, and where the nucleus is connected.
    async fn look_around(&mut self, endpoints: &nucleus::Endpoints, lookups: &mut Lookups) {
        let config = self.config.borrow_and_update().clone();
        let around = self.surroundings(&config, endpoints);
        let lifelines = &config.isolation.settings.lifelines;
        let targets = targets(lifelines, &around);
        self.watched
            .send_replace(WatchedNames::new(&targets, surroundings::nameservers()));
        lookups.set(targets);
        if lifelines.data_endpoint {
            let open = self.open_uplinks(&control_ports(&around));
            self.enforcer.send(Command::Addresses(open)).await;
        }
    }

    fn surroundings(&self, config: &Config, endpoints: &nucleus::Endpoints) -> Surroundings {
        let mut time_servers = surroundings::time_servers();
        time_servers.extend(config.isolation.time_servers.iter().cloned());
        let configured = config.isolation.data_endpoint.clone();
        let endpoints = endpoints.clone();
        Surroundings {
            data_endpoint: configured.or(endpoints.data),
            mqtt_port: endpoints.mqtt_port,
            proxy: endpoints.proxy,
            region: endpoints.region.or_else(|| self.region.clone()),
            credentials: endpoints.credentials,
            data_plane_is_iotdata: endpoints.data_plane_is_iotdata,
            data_plane_port: endpoints.data_plane_port,
            resolvers: surroundings::resolvers(),
            time_servers,
        }
    }

    fn tell(&self, lookups: &Lookups, endpoints: &nucleus::Endpoints) {
        let mut unresolved = lookups.unresolved();
        let isolation = &self.config.borrow().isolation;
        let known = endpoints.data.is_some() || isolation.data_endpoint.is_some();
        if isolation.settings.lifelines.data_endpoint && !known {
            unresolved
                .push("the nucleus tells no iotDataEndpoint and isolation.dataEndpoint is empty".into());
        }
        self.board.update(|status| {
            let before = &status.lifelines.unresolved;
            unresolved
                .iter()
                .filter(|why| !before.contains(why))
                .for_each(|why| tracing::warn!("lifeline: {why}"));
            status.lifelines = LifelineStatus {
                addresses: lookups.endpoints(),
                unresolved,
            };
        });
    }

    /// Where the nucleus is connected right now: DNS may already name other addresses.
    fn open_uplinks(&self, ports: &[u16]) -> Vec<Endpoint> {
        let found = uplinks::of_nucleus(nucleus::pid(&self.client), ports);
        let endpoint = |uplink: &Uplink| Endpoint {
            purpose: Purpose::DataEndpoint,
            address: uplink.remote.ip(),
            protocol: Protocol::Tcp,
            port: uplink.remote.port(),
        };
        let away = found.iter().filter(|uplink| !uplink.remote.ip().is_loopback());
        let endpoints = away.map(endpoint).collect();
        self.uplinks.send_if_modified(|known| {
            let changed = *known != found;
            *known = found;
            changed
        });
        endpoints
    }
}

/// What the nucleus told last. It is asked beside everything else: a nucleus that is not there holds up nothing.
#[derive(Default)]
struct Asked {
    endpoints: nucleus::Endpoints,
    /// Whether a first question has ended.
    answered: bool,
    when: Option<Duration>,
    running: JoinSet<Option<nucleus::Endpoints>>,
}

impl Asked {
    fn ask_when_due(&mut self, client: &Client, now: Duration) {
        if !self.running.is_empty() || !wait(self.when, self.pause(false), now).is_zero() {
            return;
        }
        self.when = Some(now);
        let client = client.clone();
        self.running.spawn(async move {
            let answer = tokio::time::timeout(NUCLEUS_LIMIT, nucleus::endpoints(&client)).await;
            let error = match answer.ok()? {
                Ok(endpoints) => return Some(endpoints),
                Err(error) => error,
            };
            tracing::debug!(
                "the nucleus does not tell its endpoints: {}",
                crate::error_text(&error)
            );
            None
        });
    }

    /// Takes the outcome; whether that is news.
    fn take(&mut self, outcome: Option<nucleus::Endpoints>) -> bool {
        let first = !std::mem::replace(&mut self.answered, true);
        match outcome {
            Some(endpoints) if endpoints != self.endpoints => {
                self.endpoints = endpoints;
                true
            }
            _ => first,
        }
    }

    /// From one look around to the next.
    fn pause(&self, urgent: bool) -> Duration {
        if self.endpoints.data.is_none() {
            LOOK_AGAIN
        } else if urgent {
            LOOK_URGENT
        } else {
            LOOK_AROUND
        }
    }
}

/// How long until `pause` after `last` is over; not at all when there was no last time.
fn wait(last: Option<Duration>, pause: Duration, now: Duration) -> Duration {
    last.map_or(Duration::ZERO, |last| (last + pause).saturating_sub(now))
}
