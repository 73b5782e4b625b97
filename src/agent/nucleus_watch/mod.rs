//! Watches the nucleus from outside: its connection to the cloud, and its processes. What it does not say itself, because
//! subscriptions die without a word, is seen there.
//!
//! In: the control channel's ports, the nucleus' process; its sockets, its processes' ends, its own word where it gives one.
//! Out: [`NucleusSigns`] for whoever must ask again, addresses for the enforcer, what people are told of the connection, and
//! its end for [`super::publishing`]; and for the enforcer that the cloud's end goes on to acknowledge what the nucleus sends,
//! while questions are not answered. Decisions are [`outlook`]'s and [`processes`]'. Absent: anything that the enforcer would
//! take for the death of the channel.

mod outlook;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::context::Connected;
use super::enforcer::EnforcerCommand;
use super::host_reader::HostReader;
use crate::cloud::connection_status::ConnectionStatus;
use crate::host::clock;
use crate::host::net::uplinks::{self, FoundUplinks, SeenSockets, Uplink, UplinkState};
use crate::host::processes::pace::{Pace, thread_time};
use crate::process::ProcessId;
use crate::quarantine::lifelines::lifeline::{Endpoint, Purpose};
use crate::quarantine::lifelines::nucleus_users::NucleusUsers;
use crate::quarantine::lifelines::origin::{Origin, Sighting};
use crate::quarantine::orders::order::Protocol;
use outlook::{News, Outlook};
use processes::NucleusProcesses;

/// From one question to the next how the known connections are.
const ASK: Duration = Duration::from_secs(1);
/// The nucleus' descriptors are looked at for one part in so many of a core's time, while its connection is looked for.
const SEARCH_SHARE: u32 = 500;
/// And not less often than this, whatever it costs: an order is obeyed ten seconds after the nucleus is back.
const SEARCH_WITHIN: Duration = Duration::from_secs(4);
/// From one walk to the next while the control channel is broken behind our rules: the nucleus may be connected somewhere new.
const URGENT: Duration = Duration::from_secs(10);

/// Which of the nucleus' connections are the control channel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ControlPorts {
    /// Every port that it may go to.
    pub(super) all: Vec<u16>,
    /// The port of MQTT, where the nucleus has another than the usual one.
    pub(super) mqtt: Option<u16>,
    /// Whether it goes through a proxy, with everything else.
    pub(super) proxy: bool,
    /// Whether its remotes are lifelines.
    pub(super) lifeline: bool,
}

/// What is seen of the nucleus; whoever waits for a sign compares the count with the one that it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NucleusSigns {
    /// How often it came to be connected to the cloud anew, or its connection lived again.
    pub(super) connected: u64,
    /// How often a process of it was started in place of another, or beside others.
    pub(super) restarted: u64,
    /// Its connections to the cloud, as they were seen last.
    pub(super) connections: Vec<Uplink>,
    /// Where it was connected to last for its control channel.
    pub(super) remote: Option<SocketAddr>,
    /// Whether its connections were looked at, with whatever result.
    pub(super) looked: bool,
    /// Why its connections cannot be seen.
    pub(super) unseen: Option<String>,
    /// Which of its connections somebody's rules lead elsewhere, each a sentence.
    pub(super) detours: Vec<String>,
}

/// Waits for the nucleus to be connected to the cloud anew.
pub(super) struct Reconnects {
    signs: watch::Receiver<NucleusSigns>,
    /// Those that were told.
    known: u64,
}

impl Reconnects {
    /// Those that are still to come.
    pub(super) fn after(signs: &watch::Receiver<NucleusSigns>) -> Self {
        let signs = signs.clone();
        let known = signs.borrow().connected;
        Self { signs, known }
    }

    /// The next one; cancel-safe. Several that nobody waited for are one.
    pub(super) async fn next(&mut self) {
        let known = self.known;
        let next = self.signs.wait_for(|signs| signs.connected != known).await;
        let next = next.map(|signs| signs.connected);
        match next {
            Ok(connected) => self.known = connected,
            // The agent is stopping.
            Err(_) => std::future::pending().await,
        }
    }
}

/// What it is made from.
#[derive(Clone)]
pub(super) struct NucleusWatch {
    pub(super) connected: Connected,
    /// None until the nucleus' endpoints were asked for.
    pub(super) ports: watch::Receiver<Option<ControlPorts>>,
    pub(super) signs: Arc<watch::Sender<NucleusSigns>>,
    pub(super) host: HostReader,
}

/// What it knows while it runs.
struct Watched {
    outlook: Outlook,
    processes: NucleusProcesses,
    seen: SeenSockets,
    pace: Pace,
    /// What the enforcer was told that the cloud does not allow.
    denied: Option<String>,
    /// What was acknowledged of each connection, as it was counted last.
    acknowledged: BTreeMap<u32, u64>,
    /// As whom the enforcer was told that the nucleus talks to its cloud.
    users: Option<NucleusUsers>,
}

/// What one visit to the host gives.
struct NucleusView {
    states: Option<Vec<UplinkState>>,
    holders: BTreeSet<ProcessId>,
    found: Option<FoundUplinks>,
    seen: SeenSockets,
    took: Duration,
    acknowledged: BTreeMap<u32, u64>,
}

impl NucleusWatch {
    /// Watches for ever.
    pub(super) async fn run(self) {
        let mut watched = Watched {
            outlook: Outlook::default(),
            processes: NucleusProcesses::default(),
            seen: SeenSockets::default(),
            pace: Pace::new(ASK, SEARCH_SHARE).within(SEARCH_WITHIN),
            denied: None,
            acknowledged: BTreeMap::new(),
            users: None,
        };
        let mut ports = self.ports.clone();
        let mut link = self.connected.nucleus.link();
        let mut status = Box::pin(ConnectionStatus::of(&self.connected.nucleus).next());
        loop {
            let known = ports.borrow_and_update().clone();
            if let Some(ports) = known {
                self.look(&mut watched, &ports).await;
            }
            tokio::select! {
                () = tokio::time::sleep(ASK) => {}
                id = watched.processes.ended() => watched.processes.forget(id, clock::now().uptime),
                Ok(()) = ports.changed() => {
                    watched.seen = SeenSockets::default();
                    watched.processes.hasten(Duration::ZERO);
                }
                (teller, told) = &mut status => {
                    status = Box::pin(teller.next());
                    let now = clock::now().wall;
                    let news = told.map(|connected| watched.outlook.told(connected, now));
                    if news.is_none() {
                        watched.outlook.untold();
                    }
                    self.tell(news.unwrap_or_default(), &watched.outlook);
                }
                there = link.changed() => if !there {
                    return;
                },
            }
        }
    }

    /// Asks what is due, cheap questions first.
    async fn look(&self, watched: &mut Watched, ports: &ControlPorts) {
        let now = clock::now();
        let nucleus = self.connected.nucleus_process();
        if nucleus.is_some_and(|nucleus| !watched.processes.known().contains(&nucleus)) {
            // Another process serves the IPC.
            watched.processes.hasten(Duration::ZERO);
        }
        let due = watched.processes.is_walk_due(now.uptime);
        let search = due || (watched.outlook.known().is_empty() && watched.pace.is_due(clock::instant()));
        let (known, holders) = (
            watched.outlook.known().to_vec(),
            watched.processes.known().clone(),
        );
        if known.is_empty() && !search {
            return;
        }
        let (wanted, mut seen) = (ports.all.clone(), watched.seen.clone());
        // What acknowledges something else than MQTT says nothing of the control channel.
        let carriers = if self.is_urgent() {
            watched.outlook.carriers(ports)
        } else {
            Vec::new()
        };
        let look = move || {
            let states = (!known.is_empty())
                .then(|| uplinks::states_of(&known).ok())
                .flatten();
            let holders = if due {
                uplinks::holders(nucleus).unwrap_or(holders)
            } else {
                holders
            };
            let acknowledged = if carriers.is_empty() {
                BTreeMap::new()
            } else {
                uplinks::acknowledged(&carriers)
            };
            let lost = states.iter().flatten().any(|state| *state == UplinkState::Ended);
            // Walks have their own times.
            let begun = thread_time();
            if due {
                // Also what was seen before is told again, so that its addresses stay.
                seen = SeenSockets::default();
            }
            let found = (search || lost)
                .then(|| uplinks::of(&holders, &wanted, &mut seen))
                .flatten();
            NucleusView {
                states,
                holders,
                found,
                seen,
                acknowledged,
                took: thread_time().saturating_sub(begun),
            }
        };
        match self.host.look(look).await {
            Ok(sighting) => self.take(sighting, watched, ports, due).await,
            // What was known stays; nobody is told of a change that was not seen.
            Err(why) => self.unseen(Some(why)),
        }
    }

    async fn take(&self, sighting: NucleusView, watched: &mut Watched, ports: &ControlPorts, walked: bool) {
        let now = clock::now();
        watched.seen = sighting.seen;
        watched.pace.done(clock::instant(), sighting.took);
        if walked {
            if watched.processes.found(sighting.holders, now.uptime) {
                self.signs.send_modify(|signs| signs.restarted += 1);
            }
            if self.is_urgent() {
                watched.processes.hasten(now.uptime + URGENT);
            }
        }
        if watched.processes.known().is_empty() {
            watched.outlook.blind();
        }
        let outlook = &mut watched.outlook;
        let mut news = News::default();
        if let Some(states) = sighting.states {
            news = outlook.asked(&states, ports, now.wall);
        }
        if let Some(found) = sighting.found {
            self.tell_users(&found.users, &mut watched.users).await;
            if ports.lifeline {
                self.tell_addresses(&found).await;
            }
            self.tell_detours(&found);
            let found = outlook.found(found.uplinks, ports, now.wall);
            news = News {
                ended: news.ended || found.ended,
                back: news.back || found.back,
            };
        }
        self.tell(news, outlook);
        self.unseen(None);
        let before = std::mem::replace(&mut watched.acknowledged, sighting.acknowledged);
        let more = |(inode, bytes): (&u32, &u64)| before.get(inode).is_some_and(|before| bytes > before);
        if watched.acknowledged.iter().any(more) {
            let at = now.uptime;
            self.connected
                .context
                .enforcer
                .send(EnforcerCommand::Acknowledged { at })
                .await;
        }
        self.tell_denied(watched).await;
    }

    fn tell(&self, news: News, outlook: &Outlook) {
        let Connected {
            context, publishing, ..
        } = &self.connected;
        if news.ended {
            publishing.connection_ended();
        } else if outlook.is_dead() {
            publishing.connection_is_dead();
        } else if outlook.away().is_none() {
            publishing.connection_stands();
        }
        context.channel.nucleus_away(outlook.away());
        self.signs.send_if_modified(|signs| {
            let news = signs.connections != outlook.known() || signs.remote != outlook.remote();
            if news {
                signs.connections = outlook.known().to_vec();
                signs.remote = outlook.remote();
            }
            news
        });
        if news.back {
            tracing::debug!("the nucleus is connected to the cloud anew");
            self.signs.send_modify(|signs| signs.connected += 1);
        }
    }

    /// A missing right is recorded and reported like everything that stands in the way.
    async fn tell_denied(&self, watched: &mut Watched) {
        let denied = self.connected.context.channel.watch().borrow().denied.clone();
        if watched.denied != denied {
            watched.denied.clone_from(&denied);
            let command = EnforcerCommand::Denied(denied);
            self.connected.context.enforcer.send(command).await;
        }
    }

    fn unseen(&self, why: Option<String>) {
        self.signs.send_if_modified(|signs| {
            let news = signs.unseen != why || !signs.looked;
            (signs.looked, signs.unseen) = (true, why);
            news
        });
    }

    fn is_urgent(&self) -> bool {
        let context = &self.connected.context;
        context.enforcer.state().borrow().may_cut() && !context.channel.watch().borrow().works
    }

    /// As whom it talks to its cloud, once a socket says so.
    async fn tell_users(&self, seen: &BTreeSet<u32>, told: &mut Option<NucleusUsers>) {
        let users = NucleusUsers::of(seen.iter().copied());
        if seen.is_empty() || told.as_ref() == Some(&users) {
            return;
        }
        *told = Some(users.clone());
        let command = EnforcerCommand::NucleusUsers(users);
        self.connected.context.enforcer.send(command).await;
    }

    fn tell_detours(&self, found: &FoundUplinks) {
        let led = found.detours.iter();
        let detours: Vec<String> = led
            .map(|(said, answering)| {
                format!("somebody's rules lead the nucleus' connection to {said} on to {answering}")
            })
            .collect();
        self.signs.send_if_modified(|signs| {
            let news = signs.detours != detours;
            signs.detours = detours;
            news
        });
    }

    /// Where the nucleus is connected is a lifeline, and where it tries to be: DNS may name other addresses to us.
    async fn tell_addresses(&self, found: &FoundUplinks) {
        let enforcer = &self.connected.context.enforcer;
        let mut connected = lifelines_of(&found.uplinks);
        connected.extend(lifelines_at(found.detours.values().copied()));
        enforcer.send(EnforcerCommand::Connected(connected)).await;
        if found.attempts.is_empty() {
            return;
        }
        let sighting = |endpoint| Sighting {
            endpoint,
            origin: Origin::nucleus(),
        };
        let tried = lifelines_at(found.attempts.iter().copied())
            .into_iter()
            .map(sighting);
        enforcer.send(EnforcerCommand::Addresses(tried.collect())).await;
    }
}

/// The lifelines that connections of the nucleus are.
pub(super) fn lifelines_of(connections: &[Uplink]) -> Vec<Endpoint> {
    lifelines_at(connections.iter().map(|uplink| uplink.remote))
}

fn lifelines_at(remotes: impl Iterator<Item = SocketAddr>) -> Vec<Endpoint> {
    let endpoint = |remote: SocketAddr| Endpoint {
        purpose: Purpose::DataEndpoint,
        address: remote.ip().to_canonical(),
        protocol: Protocol::Tcp,
        port: remote.port(),
    };
    let away = remotes.filter(|remote| !remote.ip().to_canonical().is_loopback());
    away.map(endpoint).collect()
}
