//! Keeps the addresses of the lifelines fresh.
//!
//! In: the configuration, the nucleus' endpoints, the host's resolvers and time servers, whether the
//! control channel works. Out: addresses for the enforcer, what to watch for in DNS answers
//! ([`super::dns_feed`]), and what did not resolve for the board. When what is looked up is `quarantine::lifelines::lookups`'.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::context::Connected;
use super::enforcer::EnforcerCommand;
use super::host_reader::HostReader;
use super::names::Names;
use super::nucleus_watch::{ControlPorts, NucleusSigns};
use crate::cloud::link::Nucleus;
use crate::cloud::nucleus;
use crate::config::Config;
use crate::control::status::LifelineStatus;
use crate::host::clock;
use crate::quarantine::lifelines::dns_answers::WatchedNames;
use crate::quarantine::lifelines::host_settings::HostSettings;
use crate::quarantine::lifelines::lifeline::{Surroundings, control_ports, targets};
use crate::quarantine::lifelines::lookups::Lookups;

/// From one look at the nucleus' and the host's configuration to the next.
const LOOK_AROUND: Duration = Duration::from_secs(60);
/// The same while the nucleus has not told its endpoint.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The same while the control channel is broken behind our rules: the nucleus may be connected somewhere new.
const LOOK_URGENT: Duration = Duration::from_secs(10);
/// How long the nucleus may take to tell its endpoints; names must not wait for it longer.
const NUCLEUS_LIMIT: Duration = Duration::from_secs(10);

/// Resolves for ever.
pub(super) struct Resolver {
    pub(super) connected: Connected,
    /// The Region as the nucleus tells it to components.
    pub(super) region: Option<String>,
    /// What answers of others are watched for.
    pub(super) watched: watch::Sender<WatchedNames>,
    /// Which of the nucleus' connections are the control channel's.
    pub(super) ports: watch::Sender<Option<ControlPorts>>,
    /// What is seen of the nucleus.
    pub(super) signs: watch::Receiver<NucleusSigns>,
    /// Told when the control channel was looked up for the first time, and where the nucleus is connected to it.
    pub(super) looked_up: watch::Sender<bool>,
    pub(super) host: HostReader,
    /// Whom the host is configured to talk to, as it said last.
    pub(super) configured: HostSettings,
}

impl Resolver {
    pub(super) async fn run(mut self) {
        let mut lookups = Lookups::default();
        let mut names = Names::default();
        let mut states = self.connected.context.enforcer.state();
        let mut channel = self.connected.context.channel.watch();
        let mut config = self.connected.context.config.clone();
        let (mut signs, mut unseen) = (self.signs.clone(), None);
        let mut asked = EndpointsQuestion::default();
        let mut looked = None;
        loop {
            let urgent = states.borrow_and_update().may_cut() && !channel.borrow_and_update().works;
            let now = clock::now().uptime;
            asked.ask_when_due(&self.connected.nucleus, now);
            if wait(looked, asked.pause(urgent), now).is_zero() {
                let config = config.borrow_and_update().clone();
                self.look_around(&config, &asked.endpoints, &mut lookups).await;
                self.tell(&lookups, &asked.endpoints);
                looked = Some(now);
            }
            lookups
                .start(urgent, now)
                .into_iter()
                .for_each(|host| names.look_up(host));
            if asked.answered && lookups.control_was_tried() && self.signs.borrow().looked {
                self.looked_up
                    .send_if_modified(|done| !std::mem::replace(done, true));
            }
            let look = wait(looked, asked.pause(urgent), now);
            let sleep = lookups.wait(urgent, now).min(look);
            tokio::select! {
                Some(Ok(outcome)) = asked.running.join_next() => if asked.take(outcome) {
                    looked = None;
                },
                Some((host, outcome)) = names.next() => {
                    let found = lookups.done(&host, outcome, clock::now().uptime);
                    if !found.is_empty() {
                        self.connected.context.enforcer.send(EnforcerCommand::Addresses(found)).await;
                    }
                    self.tell(&lookups, &asked.endpoints);
                }
                changed = config.changed() => match changed {
                    Ok(()) => looked = None,
                    // The agent is stopping.
                    Err(_) => return,
                },
                Ok(()) = channel.changed() => {}
                Ok(()) = signs.changed() => {
                    if signs.borrow_and_update().unseen != unseen {
                        unseen.clone_from(&signs.borrow().unseen);
                        self.tell(&lookups, &asked.endpoints);
                    }
                }
                Ok(()) = states.changed() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Reads what may have changed around us: which names to look up, and on which ports the nucleus is connected.
    async fn look_around(
        &mut self,
        config: &Config,
        endpoints: &nucleus::NucleusEndpoints,
        lookups: &mut Lookups,
    ) {
        self.configured = self.host.read_files().await;
        let around = self.surroundings(config, endpoints);
        let lifelines = &config.isolation.settings.lifelines;
        let targets = targets(lifelines, &around);
        let nameservers = self.configured.nameservers();
        self.watched
            .send_replace(WatchedNames::new(&targets, nameservers));
        lookups.set(targets);
        let ports = ControlPorts {
            all: control_ports(&around),
            mqtt: around.mqtt_port,
            proxy: around.proxy.is_some(),
            lifeline: lifelines.data_endpoint,
        };
        self.ports
            .send_if_modified(|known| known.replace(ports.clone()).as_ref() != Some(&ports));
    }

    fn surroundings(&self, config: &Config, endpoints: &nucleus::NucleusEndpoints) -> Surroundings {
        let mut time_servers = self.configured.time_servers();
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
            resolvers: self.configured.resolvers(),
            time_servers,
        }
    }

    fn tell(&self, lookups: &Lookups, endpoints: &nucleus::NucleusEndpoints) {
        let mut unresolved = lookups.unresolved();
        unresolved.extend(self.configured.problems());
        let isolation = &self.connected.context.config.borrow().isolation;
        if isolation.settings.lifelines.data_endpoint {
            unresolved.extend(self.signs.borrow().unseen.clone());
        }
        let known = endpoints.data.is_some() || isolation.data_endpoint.is_some();
        if isolation.settings.lifelines.data_endpoint && !known {
            unresolved
                .push("the nucleus tells no iotDataEndpoint and isolation.dataEndpoint is empty".into());
        }
        self.connected.context.board.update(|status| {
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
}

/// What the nucleus told last. It is asked beside everything else: a nucleus that is not there holds up nothing.
#[derive(Default)]
struct EndpointsQuestion {
    endpoints: nucleus::NucleusEndpoints,
    /// Whether a first question has ended.
    answered: bool,
    when: Option<Duration>,
    running: JoinSet<Option<nucleus::NucleusEndpoints>>,
}

impl EndpointsQuestion {
    fn ask_when_due(&mut self, nucleus: &Nucleus, now: Duration) {
        if !self.running.is_empty() || !wait(self.when, self.pause(false), now).is_zero() {
            return;
        }
        self.when = Some(now);
        let nucleus = nucleus.clone();
        self.running.spawn(async move {
            let answer = tokio::time::timeout(NUCLEUS_LIMIT, nucleus.endpoints()).await;
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
    fn take(&mut self, outcome: Option<nucleus::NucleusEndpoints>) -> bool {
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
