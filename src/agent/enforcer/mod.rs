//! Carries out flow 2: one task that owns orders, rules and stopped processes.
//!
//! ```text
//! commands ─► orders ─► plan ─► standing ─► journal ─► filter ─► severing, stopper ─► state
//!             (pure)    (pure)  (pure)      (disk)     (kernel)  (sockets, processes)   └─► history
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
mod severing;
mod stopper;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

use crate::moment::Now;
use crate::quarantine::lifelines::address_book::AddressBook;
use crate::quarantine::orders::trusted_time::TrustedClock;
use crate::quarantine::plan::FoldedRemotes;
use crate::quarantine::plan::processes::ProtectedProcesses;
use crate::quarantine::ports::{Clock, HistoryStore, Machine};
use crate::quarantine::proof::journal::HeldPosture;
use crate::quarantine::proof::standing::Standing;
use crate::quarantine::proof::state::State;
use channel::ControlChannel;
use filter::FilterKeeper;
use journal::JournalKeeper;
use orders::OrderDesk;
use severing::Severing;
use stopper::Stopper;

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
    channel: ControlChannel,
    denied: Option<String>,
    standing: Standing,
    trusted_clock: TrustedClock,
    /// Since when the kernel holds what it holds; absent while that cuts nothing, or before it is known.
    held: Option<HeldPosture>,
    /// The journal is of this very boot: rules that are missing were taken away, and not forgotten by a restart of the machine.
    is_same_boot: bool,
    filter: FilterKeeper<M::Filter>,
    stopper: Stopper<M::Processes>,
    severing: Severing<M::Sockets>,
    journal: JournalKeeper<M::Journal>,
    history: M::History,
    clock: M::Clock,
    state: State,
    mailbox: Mailbox,
}

impl<M: Machine> Enforcer<M> {
    /// Carries out commands until the queue closes. The kernel keeps what it has then.
    pub async fn run(mut self) {
        let commands = Arc::clone(&self.mailbox.commands);
        let mut commands = commands.lock().await;
        let mut wake = Instant::now();
        loop {
            tokio::select! {
                // Orders first.
                biased;
                open = commands.arrive(wake) => if !open {
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
            }
            // One pass for everything that waits.
            let mut replies = Vec::new();
            while let Some((command, reply)) = commands.arrived.pop_front() {
                self.take(command).await;
                replies.extend(reply);
            }
            yield_now().await;
            wake = Instant::now() + self.pass().await;
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
        self.stopper.freed()
    }

    /// What a command changes; its effect comes with the pass that follows.
    async fn take(&mut self, command: EnforcerCommand) {
        let now = self.now();
        match command {
            EnforcerCommand::Wish {
                authority,
                wish: Ok(wish),
            } => {
                if self.orders.take(authority, wish, now) {
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
            EnforcerCommand::Addresses(endpoints) => {
                if self.addresses.note(endpoints, now.wall) {
                    tracing::debug!("lifeline addresses changed");
                }
            }
            EnforcerCommand::Confine(to) => to.iter().for_each(|to| self.addresses.confine(to)),
            EnforcerCommand::KernelChanged(change) => self.filter.note_change(change),
            // Nothing to note: the pass that follows every command looks at everything.
            EnforcerCommand::LinksChanged | EnforcerCommand::Look => {}
            EnforcerCommand::Channel { works } => self.channel.note(works),
            EnforcerCommand::Denied(what) => self.denied = what,
            EnforcerCommand::ServiceTime(time) => self.trusted_clock.service(now, time),
            EnforcerCommand::RoundTrip { sent } => {
                self.channel.note_round_trip(sent);
                self.standing.on_round_trip(sent);
            }
        }
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
            own: self.stopper.own_pid(),
            nucleus: self.settings.nucleus,
            executables: self.settings.isolation.protected.clone(),
        }
    }
}
