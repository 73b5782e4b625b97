//! Carries out flow 2: one task that owns orders, rules and stopped processes.
//!
//! ```text
//! commands ─► orders ─► plan ─► standing ─► journal ─► filter ─► severing ─► rounds ─► state
//!             (pure)    (pure)  (pure)      (disk)     (kernel)  (sockets)   (processes, └─► history
//!                                                                             beside it)
//! ```
//!
//! In: [`EnforcerCommand`]s from the shadow session, the configuration, the detector and the control socket.
//! Out: [`State`] on a watch channel, built from verified outcomes only.
//!
//! Each part owns its state and says what it wants remembered (`lend`), shown (`show`), recorded (`take_news`), and what
//! stands in its way ([`Obstacle`](crate::quarantine::proof::obstacle::Obstacle)). The machine is behind the traits of
//! `quarantine::ports`: nothing here blocks.
//!
//! Invariants: the journal is on disk before the kernel is touched, as far as the disk answers in time; the kernel is
//! brought to the plan on every command and when a part wants to be woken (level-triggered, idempotent); nothing else
//! loads rules or signals processes.

mod behind;
mod channel;
mod command;
mod filter;
mod history;
mod journal;
mod look;
mod machine;
mod orders;
mod pass;
mod preview;
mod restore;
mod roll;
mod rounds;
mod severing;
mod stopper;
mod ways;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::moment::Now;
use crate::quarantine::lifelines::address_book::AddressBook;
use crate::quarantine::lifelines::nucleus_users::NucleusUsers;
use crate::quarantine::lifelines::told::ToldLifelines;
use crate::quarantine::orders::order::Authority;
use crate::quarantine::orders::trusted_time::TrustedClock;
use crate::quarantine::plan::FoldedRemotes;
use crate::quarantine::plan::processes::ProtectedProcesses;
use crate::quarantine::ports::{Bypasses, Clock, HistoryStore, Machine};
use crate::quarantine::proof::journal::HeldPosture;
use crate::quarantine::proof::standing::Standing;
use crate::quarantine::proof::state::State;
use channel::ControlChannel;
use filter::FilterKeeper;
use journal::JournalKeeper;
use orders::OrderDesk;
use rounds::{ANSWER_LIMIT, Rounds};
use severing::Severing;
use ways::WayKeeper;

pub(crate) use look::{KernelLook, Remembered};

pub use command::{EnforcerCommand, EnforcerSettings, Handle, Mailbox, mailbox};
pub use machine::HostMachine;
pub use preview::UnwrittenPreview;

/// How long the record of a release may take where nobody else tells what became of it: a person waits, with the journal on
/// disk and the device open.
const RECORD_LIMIT: Duration = Duration::from_millis(500);

/// The task's own things.
pub struct Enforcer<M: Machine = HostMachine> {
    settings: EnforcerSettings,
    orders: OrderDesk,
    /// What they block, as it was folded last.
    folded: FoldedRemotes,
    addresses: AddressBook,
    nucleus_users: NucleusUsers,
    ways: WayKeeper,
    told_lifelines: ToldLifelines,
    channel: ControlChannel,
    denied: Option<String>,
    standing: Standing,
    trusted_clock: TrustedClock,
    /// Since when the kernel holds what it holds; absent while that cuts nothing, or before it is known.
    held: Option<HeldPosture>,
    /// The journal is of this very boot: rules that are missing were taken away, and not forgotten by a restart of the machine.
    is_same_boot: bool,
    filter: FilterKeeper<M::Filter>,
    rounds: Rounds<M::Processes>,
    severing: Severing<M::Sockets>,
    bypasses: M::Bypasses,
    journal: JournalKeeper<M::Journal>,
    history: M::History,
    clock: M::Clock,
    state: State,
    mailbox: Mailbox,
    /// Uptime at which the last pass ended, and after how long it wanted another one.
    planned: Option<(Duration, Duration)>,
}

impl<M: Machine> Enforcer<M> {
    /// Carries out commands until the queue closes. The kernel keeps what it has then.
    pub async fn run(mut self) {
        let commands = Arc::clone(&self.mailbox.commands);
        let mut commands = commands.lock().await;
        let mut wake = Instant::now();
        // Who waits for what is done to processes, until then at most.
        let mut waiting: Vec<(Instant, oneshot::Sender<State>)> = Vec::new();
        loop {
            let wakes = waiting.iter().map(|(until, _)| *until).fold(wake, Instant::min);
            tokio::select! {
                // Orders first.
                biased;
                open = commands.arrive(wakes) => if !open {
                    return;
                },
                () = self.history.written() => {
                    self.tell_history();
                    // Only what came meanwhile: each write ends here, and what could not be written is the next pass's.
                    if self.history.has_unwritten() {
                        self.history.record(self.clock.now());
                    }
                    continue;
                }
                () = self.rounds.step() => {
                    self.go_on_with_processes().await;
                    if self.rounds.is_busy() {
                        continue;
                    }
                }
                // The pass below tells it.
                () = self.bypasses.changed() => {}
            }
            // One pass for everything that waits.
            let mut replies = Vec::new();
            while let Some((command, reply)) = commands.arrived.pop_front() {
                let waits = command.is_instruction();
                self.take(command).await;
                match reply {
                    Some(reply) if waits => {
                        self.rounds.ask();
                        waiting.push((Instant::now() + ANSWER_LIMIT, reply));
                    }
                    reply => replies.extend(reply),
                }
            }
            yield_now().await;
            wake = Instant::now() + self.pass().await;
            let (now, is_settled) = (Instant::now(), self.rounds.is_settled());
            let answered = waiting.extract_if(.., |(until, _)| is_settled || *until <= now);
            replies.extend(answered.map(|(_, reply)| reply));
            for reply in replies {
                // Whoever asked may have gone.
                let _ = reply.send(self.state.clone());
            }
            self.history.record(self.clock.now());
        }
    }

    /// Carries out commands as one batch, without a task; gives how long until the enforcer wants to look again.
    pub async fn obey(&mut self, commands: impl IntoIterator<Item = EnforcerCommand>) -> Duration {
        for command in commands {
            self.take(command).await;
        }
        let wake = self.pass().await;
        self.history.record(self.clock.now());
        wake
    }

    /// Carries out a release where no agent does. Where orders are left only the journal is written: what they want of the
    /// kernel, and who must not be stopped for it, is an agent's to know.
    pub(crate) async fn release_alone(&mut self, release: EnforcerCommand) {
        self.take(release).await;
        let now = self.now();
        self.orders.expire(now);
        if self.orders.orders().is_empty() {
            self.pass().await;
            self.settle_processes().await;
        } else {
            let kept = self.save().await;
            self.note_news(self.clock.now());
            self.orders.show(&mut self.state);
            self.state.obstacles.extend(kept.err());
        }
        self.history.record(self.clock.now());
        // Nobody tells it later.
        if self.history.fault().is_none() {
            let late = tokio::time::timeout(RECORD_LIMIT, self.history.written()).await;
            if late.is_err() {
                self.state.history_fault = Some("the disk has not answered yet".to_owned());
                return;
            }
        }
        self.tell_history();
    }

    /// What may be said of enforcement now.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Where confirm-or-roll-back stands.
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// How many processes were let go since the start.
    pub const fn freed(&self) -> usize {
        self.rounds.freed()
    }

    /// What a command changes; its effect comes with the pass that follows.
    async fn take(&mut self, command: EnforcerCommand) {
        let now = self.now();
        match command {
            EnforcerCommand::Wish {
                authority,
                wish: Ok(wish),
            } => {
                // Anybody can bring the detector to order something.
                if self.orders.take(authority, wish, now) && authority != Authority::Detector {
                    self.standing.on_another_chance();
                }
            }
            EnforcerCommand::Wish {
                authority,
                wish: Err(faults),
            } => self.orders.refuse(authority, faults, now),
            EnforcerCommand::ShadowWish { wish, heard, settled } => {
                if self.orders.take_shadow(wish, heard, settled, now) {
                    self.standing.on_another_chance();
                }
            }
            // Whoever asked may have gone, here and below.
            EnforcerCommand::ShadowHeard { reply } => drop(reply.send(self.orders.shadow_heard())),
            EnforcerCommand::Release { reason } => {
                if self.orders.take_back(reason.as_deref(), now) {
                    self.standing.on_another_chance();
                }
            }
            EnforcerCommand::Override { reason } => {
                self.orders.override_all(reason, now);
                self.standing.on_another_chance();
            }
            EnforcerCommand::ReleaseWithoutNucleus { why } => {
                if self.orders.release_without_nucleus(why, now) {
                    self.standing.on_another_chance();
                }
            }
            EnforcerCommand::Plan { order, reply } => {
                drop(reply.send(Box::new(self.preview(order).await)));
            }
            EnforcerCommand::Settings(settings) => self.take_settings(*settings),
            EnforcerCommand::Addresses(sightings) => tell_changed(self.addresses.note(sightings, now.wall)),
            EnforcerCommand::LinksOf(links) => self.ways.note_links(links),
            EnforcerCommand::Connected(endpoints) => {
                tell_changed(self.addresses.note_connected(&endpoints, now.wall));
            }
            EnforcerCommand::NucleusUsers(users) => self.nucleus_users = users,
            EnforcerCommand::Confine(to) => to.iter().for_each(|to| self.addresses.confine(to)),
            EnforcerCommand::KernelChanged(change) => self.filter.note_change(change),
            // Nothing to note: the pass that follows every command looks at everything.
            EnforcerCommand::Look => {}
            EnforcerCommand::LinksChanged => self.ways.look_again(),
            EnforcerCommand::Channel { works, nucleus } => self.note_channel(works, nucleus, now),
            EnforcerCommand::Acknowledged { at } => self.note_acknowledged(at),
            EnforcerCommand::Denied(what) => self.denied = what,
            EnforcerCommand::ServiceTime(time) => self.trusted_clock.service(now, time),
            EnforcerCommand::RoundTrip { sent } => {
                self.channel.note_round_trip(sent);
                self.standing.on_round_trip(sent);
            }
        }
    }

    fn note_channel(&mut self, works: bool, nucleus: bool, now: Now) {
        self.channel.note(works, nucleus, self.standing.was_confirmed());
        // A silence that is meant is nobody's fault.
        if !works && self.settings.isolation.settings.lifelines.data_endpoint {
            self.standing.on_silence(nucleus, now.uptime);
        }
        if !works && nucleus {
            self.ways.doubt_next_hops();
        }
    }

    fn note_acknowledged(&mut self, at: Duration) {
        self.standing.on_acknowledged(self.settings.isolation.confirm, at);
    }

    fn take_settings(&mut self, settings: EnforcerSettings) {
        let lifelines = &settings.isolation.settings.lifelines;
        self.addresses.keep_purposes(|purpose| lifelines.wants(purpose));
        if settings.isolation != self.settings.isolation {
            // Another endpoint or another lifeline may be what the plan that was given up needed.
            self.standing.on_another_chance();
        }
        self.settings = settings;
    }

    /// Tells where the history ends, and what stands in its way.
    fn tell_history(&mut self) {
        let (end, fault) = (self.history.end(), self.history.fault());
        if self.state.history != end || self.state.history_fault != fault {
            self.state.history = end;
            self.state.history_fault = fault;
            self.mailbox.publish(self.state.clone());
        }
    }

    /// Both clocks, with the time that orders end by.
    fn now(&self) -> Now {
        self.trusted_clock.now(self.clock.now())
    }

    /// Who must not be stopped.
    fn protected(&self) -> ProtectedProcesses {
        ProtectedProcesses {
            own: self.rounds.own_pid(),
            nucleus: self.settings.nucleus,
            // The stopper knows them.
            traces: Vec::new(),
            executables: self.settings.isolation.protected.clone(),
        }
    }
}

fn tell_changed(is_news: bool) {
    if is_news {
        tracing::debug!("lifeline addresses changed");
    }
}
