//! Keeps the addresses of the lifelines fresh.
//!
//! In: the configuration, the nucleus' endpoints, the host's resolvers and time servers, whether the
//! control channel works, which names programs ask for ([`super::dns_feed`]). Out: addresses for the enforcer with who says
//! so, what to watch for in DNS questions, and what did not resolve for the board. When what is looked up is
//! `quarantine::lifelines::lookups`'.

use std::sync::Arc;

use tokio::sync::watch;

use super::context::Connected;
use super::dns_feed::AskedNames;
use super::endpoints_memory::EndpointsMemory;
use super::endpoints_question::{EndpointsQuestion, wait};
use super::enforcer::EnforcerCommand;
use super::host_reader::HostReader;
use super::names::Names;
use super::nucleus_watch::{ControlPorts, NucleusSigns, lifelines_of};
use crate::cloud::nucleus;
use crate::config::Config;
use crate::control::status::LifelineStatus;
use crate::host::clock;
use crate::host::net::uplinks::Uplink;
use crate::quarantine::lifelines::dns_questions::WatchedNames;
use crate::quarantine::lifelines::host_settings::HostSettings;
use crate::quarantine::lifelines::lifeline::{Purpose, Setting, Surroundings, control_ports, targets};
use crate::quarantine::lifelines::lookups::Lookups;
use crate::quarantine::lifelines::origin::Sighting;
use crate::quarantine::lifelines::proxy::ProxyUse;

/// Resolves for ever.
pub(super) struct Resolver {
    pub(super) connected: Connected,
    /// The Region as the nucleus tells it to components.
    pub(super) region: Option<String>,
    /// Which questions of others are watched for.
    pub(super) watched: watch::Sender<WatchedNames>,
    /// Names that were asked for.
    pub(super) asked: Arc<AskedNames>,
    /// Which of the nucleus' connections are the control channel's.
    pub(super) ports: watch::Sender<Option<ControlPorts>>,
    /// What is seen of the nucleus.
    pub(super) signs: watch::Receiver<NucleusSigns>,
    /// Told when the control channel was looked up for the first time, and where the nucleus is connected to it.
    pub(super) looked_up: watch::Sender<bool>,
    pub(super) host: HostReader,
    /// Whom the host is configured to talk to, as it said last.
    pub(super) configured: HostSettings,
    /// Where the nucleus is connected, as was seen last.
    pub(super) connections: Vec<Uplink>,
    /// Why that cannot be seen.
    pub(super) unseen: Option<String>,
    /// Which of these somebody's rules lead elsewhere.
    pub(super) detours: Vec<String>,
    /// Whether the nucleus was seen to go through its proxy.
    pub(super) proxy: ProxyUse,
    /// It was seen on another way than before, whose addresses are still kept.
    pub(super) other_way: bool,
}

impl Resolver {
    pub(super) async fn run(mut self) {
        let mut lookups = Lookups::default();
        let mut names = Names::default();
        let mut states = self.connected.context.enforcer.state();
        let mut channel = self.connected.context.channel.watch();
        let mut config = self.connected.context.config.clone();
        let mut signs = self.signs.clone();
        let memory = EndpointsMemory::new(&self.connected.context.state_directory);
        let mut asked = EndpointsQuestion::remembering(memory.recall().await);
        let mut looked = None;
        loop {
            let urgent = states.borrow_and_update().may_cut() && !channel.borrow_and_update().works;
            let now = clock::now().uptime;
            asked.ask_when_due(&self.connected.nucleus, urgent, now);
            if wait(looked, asked.pause(urgent), now).is_zero() {
                let config = config.borrow_and_update().clone();
                self.look_around(&config, &asked.endpoints, &mut lookups).await;
                self.tell(&lookups, &asked);
                looked = Some(now);
            }
            let resolvers = Arc::new(self.configured.asked());
            for host in lookups.start(urgent, now) {
                let is_hurried = lookups.is_hurried(&host);
                names.look_up(host, Arc::clone(&resolvers), is_hurried);
            }
            self.tell_the_first(&lookups, &asked);
            let look = wait(looked, asked.pause(urgent), now);
            let sleep = lookups.wait(urgent, now).min(look).min(asked.due(urgent, now));
            tokio::select! {
                Some(Ok(outcome)) = asked.running.join_next() => if asked.take(outcome) {
                    memory.keep(&asked.endpoints);
                    looked = None;
                },
                hurried = self.asked.take() => {
                    let now = clock::now().uptime;
                    hurried.iter().for_each(|name| lookups.hurry(name, now));
                }
                Some((host, outcome)) = names.next() => {
                    let found = lookups.done(&host, outcome, clock::now().uptime);
                    if self.take(found, &lookups, &asked).await {
                        looked = None;
                    }
                }
                changed = config.changed() => match changed {
                    Ok(()) => looked = None,
                    // The agent is stopping.
                    Err(_) => return,
                },
                Ok(()) = channel.changed() => {}
                Ok(()) = signs.changed() => {
                    let seen = signs.borrow_and_update().clone();
                    if self.see(seen, &lookups, &asked) {
                        looked = None;
                    }
                }
                Ok(()) = states.changed() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Tells once that the control channel was looked up and looked for. A nucleus that starts tells its endpoint a little later
    /// than the rest; without it lifelines would be wide for whoever orders at once.
    fn tell_the_first(&self, lookups: &Lookups, asked: &EndpointsQuestion) {
        let is_configured = self
            .connected
            .context
            .config
            .borrow()
            .isolation
            .data_endpoint
            .is_some();
        let named = is_configured || asked.is_settled(clock::now().uptime);
        if named && lookups.control_was_tried() && self.signs.borrow().looked {
            self.looked_up
                .send_if_modified(|done| !std::mem::replace(done, true));
        }
    }

    /// Takes the addresses of a name; whether what is around us must be looked at again.
    async fn take(&mut self, found: Vec<Sighting>, lookups: &Lookups, asked: &EndpointsQuestion) -> bool {
        if !found.is_empty() {
            let command = EnforcerCommand::Addresses(found);
            self.connected.context.enforcer.send(command).await;
        }
        let other_way = self.judge_way(lookups, false);
        self.tell(lookups, asked);
        other_way
    }

    /// Takes what is seen of the nucleus; whether what is around us must be looked at again.
    fn see(&mut self, seen: NucleusSigns, lookups: &Lookups, asked: &EndpointsQuestion) -> bool {
        let moved = self.connections != seen.connections;
        self.connections = seen.connections;
        if self.unseen != seen.unseen || self.detours != seen.detours {
            (self.unseen, self.detours) = (seen.unseen, seen.detours);
            self.tell(lookups, asked);
        }
        moved && self.judge_way(lookups, true)
    }

    /// Reads what may have changed around us: which names to look up, and on which ports the nucleus is connected.
    async fn look_around(
        &mut self,
        config: &Config,
        endpoints: &nucleus::NucleusEndpoints,
        lookups: &mut Lookups,
    ) {
        let known = self.configured.links();
        self.configured = self.host.read_files().await;
        let links = self.configured.links();
        // Again also where they are the same: an enforcer that began anew does not know them.
        if !(known.is_empty() && links.is_empty()) {
            let command = EnforcerCommand::LinksOf(links);
            self.connected.context.enforcer.send(command).await;
        }
        self.proxy.note_setting(endpoints.proxy.as_ref());
        self.want(config, endpoints, lookups);
        if config.isolation.settings.lifelines.data_endpoint {
            if self.judge_way(lookups, false) {
                self.want(config, endpoints, lookups);
            }
            if std::mem::take(&mut self.other_way) {
                self.confine(lookups).await;
            }
        }
    }

    /// Sets which names are wanted, and which of the nucleus' connections are the control channel's.
    fn want(&self, config: &Config, endpoints: &nucleus::NucleusEndpoints, lookups: &mut Lookups) {
        let around = self.surroundings(config, endpoints);
        let targets = targets(&config.isolation.settings.lifelines, &around);
        self.watched.send_replace(WatchedNames::new(&targets));
        lookups.set(targets);
        let ports = ControlPorts {
            all: control_ports(&around),
            mqtt: around.mqtt_port,
            proxy: around.proxy.is_some(),
            lifeline: config.isolation.settings.lifelines.data_endpoint,
        };
        self.ports
            .send_if_modified(|known| known.replace(ports.clone()).as_ref() != Some(&ports));
    }

    fn surroundings(&self, config: &Config, endpoints: &nucleus::NucleusEndpoints) -> Surroundings {
        let mut time_servers = self.configured.time_servers();
        time_servers.extend(config.isolation.time_servers.iter().map(|server| Setting {
            value: server.clone(),
            source: "isolation.timeServers".to_owned(),
        }));
        let configured = config.isolation.data_endpoint.clone();
        let endpoints = endpoints.clone();
        Surroundings {
            configured_endpoint: configured.is_some(),
            data_endpoint: configured.or(endpoints.data),
            mqtt_port: endpoints.mqtt_port,
            proxy: endpoints.proxy,
            proxy_exceptions: endpoints.proxy_exceptions,
            proxy_alone: self.proxy.is_alone(),
            region: endpoints.region.or_else(|| self.region.clone()),
            credentials: endpoints.credentials,
            data_plane_is_iotdata: endpoints.data_plane_is_iotdata,
            data_plane_port: endpoints.data_plane_port,
            resolvers: self.configured.resolvers(),
            dns_over_tls: self.configured.dns_over_tls(),
            time_servers,
        }
    }

    /// Follows the nucleus to its proxy, and away from it; whether that is news.
    fn judge_way(&mut self, lookups: &Lookups, changed: bool) -> bool {
        let connected: Vec<_> = self.connections.iter().map(|uplink| uplink.remote).collect();
        let alone = self.proxy.is_alone();
        let other_way = self.proxy.see(&connected, changed, &lookups.control());
        self.other_way |= other_way;
        other_way || alone != self.proxy.is_alone()
    }

    /// Has the addresses forgotten to which the nucleus does not go any more.
    async fn confine(&self, lookups: &Lookups) {
        tracing::debug!("the nucleus goes another way: addresses of the one before are forgotten");
        let mut control = lookups.confinement(Purpose::DataEndpoint);
        control.kept.extend(lifelines_of(&self.connections));
        let others = [Purpose::Deployments, Purpose::Storage].map(|purpose| lookups.confinement(purpose));
        let all = std::iter::once(control).chain(others).collect();
        let enforcer = &self.connected.context.enforcer;
        enforcer.send(EnforcerCommand::Confine(all)).await;
    }

    fn tell(&self, lookups: &Lookups, asked: &EndpointsQuestion) {
        let mut unresolved = lookups.unresolved();
        unresolved.extend(self.configured.problems());
        unresolved.extend(self.configured.unserved());
        let isolation = &self.connected.context.config.borrow().isolation;
        if isolation.settings.lifelines.data_endpoint {
            unresolved.extend(self.unseen.clone());
            unresolved.extend(self.detours.iter().cloned());
        }
        let missing = asked.misses_endpoint(clock::now().uptime) && isolation.data_endpoint.is_none();
        if isolation.settings.lifelines.data_endpoint && missing {
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
