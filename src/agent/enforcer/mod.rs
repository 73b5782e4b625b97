//! Carries out flow 2: one task that owns the journal, the kernel's table and the stopped processes.
//!
//! In: [`Command`]s from the shadow session, the configuration, the detector and the control socket.
//! Out: [`State`] on a watch channel, built from verified outcomes only.
//! Invariants: the journal is on disk before the kernel is touched; the kernel is brought to the plan on every command
//! and on a timer (level-triggered, idempotent); nothing else loads rules or signals processes.

mod desk;
mod history;
mod kernel;
mod layers;
mod preview;
mod proof;
mod restore;
mod severing;
mod stopper;
mod trial;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{IsolationConfig, Mode};
use crate::document::fault::Fault;
use crate::host::clock;
use crate::host::netfilter::kernel::FilterChange;
use crate::moment::Now;
use crate::quarantine::history::Event;
use crate::quarantine::lifelines::lifeline::Endpoint;
use crate::quarantine::orders::book::OrderBook;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Order, Posture};
use crate::quarantine::orders::trusted_time::TrustedClock;
use crate::quarantine::plan::preview::Shown;
use crate::quarantine::plan::{Plan, PlanId, Scope, fold};
use crate::quarantine::proof::confirm::Attempt;
use crate::quarantine::proof::journal::Journal;
use crate::quarantine::proof::state::{Phase, Rejection, State};
use crate::quarantine::ruleset::CutAction;
use history::HistoryLog;
use kernel::{Loaded, Target};
use layers::Layers;
use severing::Severing;

/// Commands waiting; senders wait when it is full, so nothing is lost.
const QUEUE: usize = 64;
/// How often a device that is cut off is checked besides every change event: for changes whose event was lost.
const CHECK_CUT: Duration = Duration::from_secs(5);
/// The same while a plan waits for its confirmation or names processes, which may start at any time.
const CHECK_CLOSELY: Duration = Duration::from_secs(1);
/// How often a free device is checked for a table that should not be there.
const CHECK_FREE: Duration = Duration::from_secs(60);
/// How long ago the control channel may have been seen to work for new rules to be blamed for its silence.
const LATELY: Duration = Duration::from_secs(120);
/// How often what failed is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Changes of the packet filter whose makers are remembered.
const REMEMBERED: usize = 16;

/// What the configuration says to enforcement.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Enforce or observe.
    pub mode: Mode,
    /// Lifelines, windows, process rules.
    pub isolation: IsolationConfig,
    /// The nucleus' process, which is never stopped.
    pub nucleus_pid: Option<u32>,
}

/// What can be asked of enforcement.
#[derive(Debug)]
pub enum Command {
    /// An authority wants something, or wrote something that cannot be read.
    Wish {
        /// Who.
        authority: Authority,
        /// What.
        wish: Result<Wish, Vec<Fault>>,
    },
    /// The operator ends every order.
    Override {
        /// Why.
        reason: String,
    },
    /// What is done, or would be with this order of the operator; changes nothing.
    Plan {
        /// The order, if there is one.
        order: Option<Box<Order>>,
        /// Who asks.
        reply: oneshot::Sender<Box<Shown>>,
    },
    /// The configuration changed.
    Settings(Box<Settings>),
    /// Lifeline addresses were seen.
    Addresses(Vec<Endpoint>),
    /// Whether the control channel works.
    Channel {
        /// It does.
        works: bool,
    },
    /// Somebody changed the packet filter, perhaps us; who, if the kernel told.
    KernelChanged(Option<FilterChange>),
    /// An interface came, went or changed.
    LinksChanged,
    /// Somebody wants to know how things stand right now.
    Look,
    /// The shadow service said just now what time it is.
    ServiceTime(Timestamp),
    /// A shadow request was answered.
    RoundTrip {
        /// Uptime at which it was sent.
        sent: Duration,
    },
}

type Envelope = (Command, Option<oneshot::Sender<State>>);

/// Talks to the enforcer's task.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Envelope>,
    state: watch::Receiver<State>,
}

impl Handle {
    /// Sends a command; its effect shows in [`Handle::state`].
    pub async fn send(&self, command: Command) {
        // A closed queue means the agent is stopping; the kernel keeps what it has.
        let _ = self.commands.send((command, None)).await;
    }

    /// Sends a command and waits for the state after it was carried out; `None` when the agent is stopping.
    pub async fn ask(&self, command: Command) -> Option<State> {
        let (reply, answer) = oneshot::channel();
        self.commands.send((command, Some(reply))).await.ok()?;
        answer.await.ok()
    }

    /// What is done now, or would be if the operator gave `order`; `None` when the agent is stopping.
    pub async fn plan(&self, order: Option<Box<Order>>) -> Option<Box<Shown>> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Plan { order, reply }).await;
        answer.await.ok()
    }

    /// The newest state, and its changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

/// The task's own things.
pub struct Enforcer {
    path: PathBuf,
    journal: Journal,
    /// The journal as it is on disk, as far as that is known.
    saved: Option<Journal>,
    clock: TrustedClock,
    settings: Settings,
    rejected: Vec<Rejection>,
    loaded: Option<Loaded>,
    /// What the kernel was last proven to enforce; `None` when that is not known.
    posture: Option<Posture>,
    attempt: Option<(PlanId, Attempt)>,
    channel_works: bool,
    round_trip: Option<Duration>,
    /// Uptime at which the rules were last loaded whole.
    loaded_at: Duration,
    /// Uptime since which a plan that was given up is away, until it is known whether its rules had cut the channel.
    given_up: Option<Duration>,
    reasserted: u64,
    /// Who made our rules to be put back last.
    changed_by: Option<String>,
    /// The newest changes of the packet filter.
    changes: VecDeque<FilterChange>,
    layers: Layers,
    /// Whether the plan names processes, which may start at any time.
    names_processes: bool,
    last_canary: Option<Duration>,
    history: HistoryLog,
    severing: Severing,
    state: State,
    publish: watch::Sender<State>,
    commands: mpsc::Receiver<Envelope>,
}

impl Enforcer {
    /// Carries out commands until the queue closes. The kernel keeps what it has then.
    pub async fn run(mut self) {
        loop {
            let wake = self.next_wake(self.now());
            let mut answers = Vec::new();
            match tokio::time::timeout(wake, self.commands.recv()).await {
                Ok(None) => return,
                Ok(Some((command, reply))) => {
                    self.handle(command, self.now());
                    answers.extend(reply);
                }
                Err(_) => {}
            }
            // One reconciliation for everything that waits.
            while let Ok((command, reply)) = self.commands.try_recv() {
                self.handle(command, self.now());
                answers.extend(reply);
            }
            self.reconcile().await;
            for reply in answers {
                let _ = reply.send(self.state.clone());
            }
            self.record().await;
        }
    }

    /// Writes what happened into the history, after everybody who waits for it was told.
    async fn record(&mut self) {
        tokio::task::yield_now().await;
        self.history.flush(clock::now());
        let (end, fault) = (self.history.end(), self.history.fault());
        if self.state.history != end || self.state.history_fault != fault {
            self.state.history = end;
            self.state.history_fault = fault;
            self.publish.send_replace(self.state.clone());
        }
    }

    /// Both clocks, with the time that orders end by.
    fn now(&self) -> Now {
        self.clock.now(clock::now())
    }

    /// Told only when an order ends by it.
    fn doubted_clock(&self) -> Option<String> {
        let ends = self
            .journal
            .book
            .orders()
            .iter()
            .any(|order| order.expires.is_some());
        self.clock.doubt(clock::now()).filter(|_| ends)
    }

    fn next_wake(&self, now: Now) -> Duration {
        let check = match self.state.phase {
            Phase::Failed => RETRY,
            Phase::Observed | Phase::RolledBack => CHECK_CUT,
            _ if !self.state.may_cut() => CHECK_FREE,
            Phase::Provisional => CHECK_CLOSELY,
            _ if self.names_processes => CHECK_CLOSELY,
            _ => CHECK_CUT,
        };
        let ends = self
            .journal
            .book
            .orders()
            .iter()
            .filter_map(|order| order.expires);
        ends.map(|end| Duration::try_from(end.duration_since(now.wall)).unwrap_or_default())
            .fold(check, Duration::min)
    }

    /// Brings the kernel and the processes to what the orders want, and says how it went.
    async fn reconcile(&mut self) {
        let now = self.now();
        for ended in self.journal.book.expire(now.wall) {
            tracing::info!(order = %ended.id, authority = %ended.authority, "the order has expired");
            self.history.note(Event::Expired {
                authority: ended.authority,
                order: ended.id,
            });
        }
        let wanted = self.wanted_plan(now);
        self.judge_release(&wanted, now);
        let target = self.target(&wanted, now);
        self.names_processes = !target.plan.processes.is_empty();
        let held_back = (!target.cuts() && !wanted.is_normal()).then_some(match target.effect {
            CutAction::Count => "mode observe",
            CutAction::Cut => "it was given up",
        });
        self.history.plan(&wanted, self.journal.book.orders(), held_back);
        self.note_trial(&target);
        let mut faults: Vec<String> = self.save().err().into_iter().collect();
        faults.extend(self.doubted_clock());
        let outcome = self.bring_kernel(&target, now).await;
        let proven = outcome.is_ok();
        match outcome {
            Ok(()) => {
                self.history.proven(&target.plan);
                self.sever(&target);
            }
            Err(found) => {
                self.history.unproven();
                faults.extend(found);
            }
        }
        faults.extend(self.bring_processes(&target.plan, now));
        faults.extend(self.save().err());
        let mut named = BTreeSet::new();
        faults.retain(|fault| named.insert(fault.clone()));
        let phase = self.phase(&wanted, &target, proven);
        self.say(phase, &wanted, &target, faults, now);
        self.judge_attempt(&wanted, &target, now);
    }

    fn wanted_plan(&self, now: Now) -> Plan {
        self.plan_of(&self.journal.book, now)
    }

    /// What these orders want.
    fn plan_of(&self, book: &OrderBook, now: Now) -> Plan {
        let settings = &self.settings.isolation.settings;
        let endpoints = self.journal.addresses.endpoints();
        let mut plan = fold(book.orders(), settings, endpoints, Scope::Pinned, now.wall);
        let id = plan.id();
        // Without any known address a pinned lifeline would be none at all. What was decided for want of one does not
        // outlive it: once an address is known the plan is pinned, and confirmed anew.
        let unresolved = self.unresolved();
        plan.scope = match (&self.journal.confirmed, &self.attempt) {
            _ if unresolved => Scope::Wide,
            (Some(confirmed), _) if confirmed.plan == id && !confirmed.unresolved => confirmed.scope,
            (_, Some((tried, attempt))) if *tried == id && !attempt.unresolved => attempt.scope,
            _ => Scope::Pinned,
        };
        plan
    }

    /// Whether the control channel's lifeline has no address to be pinned to.
    fn unresolved(&self) -> bool {
        let wanted = self.settings.isolation.settings.lifelines.data_endpoint;
        wanted && !self.journal.addresses.knows_data_endpoint()
    }

    /// What is really carried out: a plan that was given up is not, in mode observe it only counts.
    fn target(&self, wanted: &Plan, now: Now) -> Target {
        let given_up = self
            .journal
            .rolled_back
            .as_ref()
            .is_some_and(|rolled| rolled.plan == wanted.id());
        let observe = self.settings.mode == Mode::Observe;
        let plan = if observe {
            let mut plan = wanted.clone();
            plan.processes.clear();
            plan
        } else if given_up {
            let settings = &self.settings.isolation.settings;
            fold(&[], settings, Vec::new(), Scope::Pinned, now.wall)
        } else {
            wanted.clone()
        };
        let effect = if observe { CutAction::Count } else { CutAction::Cut };
        Target { plan, effect }
    }

    fn phase(&self, wanted: &Plan, target: &Target, proven: bool) -> Phase {
        let confirmed = self.is_confirmed(&target.plan);
        match (wanted.is_normal(), target.cuts(), proven) {
            (_, _, false) => Phase::Failed,
            (true, _, true) => Phase::Released,
            (false, false, true) if target.effect == CutAction::Count => Phase::Observed,
            (false, false, true) => Phase::RolledBack,
            (false, true, true) if confirmed => Phase::Enforced,
            (false, true, true) => Phase::Provisional,
        }
    }

    fn say(&mut self, phase: Phase, wanted: &Plan, target: &Target, faults: Vec<String>, now: Now) {
        let plan = &target.plan;
        let posture = self.posture;
        let mut state = State {
            phase,
            wanted: wanted.posture,
            posture,
            since: self.state.since,
            verified_at: self.state.verified_at,
            plan: (!plan.is_normal()).then(|| plan.id()),
            scope: plan.scope,
            orders: self.journal.book.orders().iter().map(Order::for_show).collect(),
            faults,
            rejected: self.rejected.clone(),
            rolled_back: self.journal.rolled_back.clone(),
            overridden: self.journal.overridden.clone(),
            stopped: self.journal.stopped.clone(),
            left_running: self.state.left_running.clone(),
            spared: self.state.spared.clone(),
            blocked: self.state.blocked.clone(),
            quotas: self.state.quotas.clone(),
            uncovered: if plan.is_normal() {
                Vec::new()
            } else {
                self.layers.uncovered()
            },
            reasserted: self.reasserted,
            severed: self.severing.count,
            severing: self.severing.fault.clone(),
            changed_by: self.changed_by.clone(),
            history: self.state.history.clone(),
            history_fault: self.state.history_fault.clone(),
        };
        if phase != Phase::Failed {
            state.verified_at = Some(now.wall);
        }
        if phase != self.state.phase || posture != self.state.posture || state.plan != self.state.plan {
            state.since = Some(now.wall);
            tracing::info!(?phase, ?posture, wanted = %wanted.posture, "enforcement changed");
        }
        let is_new = |fault: &&String| !self.state.faults.contains(fault);
        let news: Vec<String> = state.faults.iter().filter(is_new).cloned().collect();
        for fault in &news {
            tracing::error!("enforcement: {fault}");
        }
        if !news.is_empty() {
            self.history.note(Event::Failed { faults: news });
        }
        self.state = state;
        self.publish.send_replace(self.state.clone());
    }
}
