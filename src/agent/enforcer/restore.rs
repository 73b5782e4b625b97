//! The enforcer's first act: what the journal says is enforced before anything else is started.

use std::path::Path;

use super::channel::ControlChannel;
use super::filter::FilterKeeper;
use super::journal::{JournalFound, JournalKeeper};
use super::orders::OrderDesk;
use super::rounds::Rounds;
use super::severing::Severing;
use super::ways::WayKeeper;
use super::{Enforcer, EnforcerSettings, Handle, HostMachine, Mailbox, mailbox};
use crate::moment::Now;
use crate::quarantine::history::Event;
use crate::quarantine::lifelines::told::ToldLifelines;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Order};
use crate::quarantine::orders::trusted_time::TrustedClock;
use crate::quarantine::plan::FoldedRemotes;
use crate::quarantine::ports::{Clock, HistoryStore, Machine, Parts};
use crate::quarantine::proof::journal::Journal;
use crate::quarantine::proof::state::State;

impl Enforcer {
    /// Reads the journal of a state directory and enforces it on this machine; gives the enforcer, ready to
    /// [`Enforcer::run`], and its handle.
    pub async fn restore(state_directory: &Path, settings: EnforcerSettings) -> (Self, Handle) {
        let (handle, mailbox) = mailbox();
        let machine = HostMachine::new(state_directory);
        (Self::restore_on(machine, settings, mailbox).await, handle)
    }
}

impl<M: Machine> Enforcer<M> {
    /// Reads the machine's journal and enforces it; the enforcer then serves the mailbox's handles.
    ///
    /// A missing journal means: never quarantined. A damaged one is set aside; the device then isolates itself until the
    /// shadow or an operator speaks, unless the damaged text says that there was no order and the kernel holds none.
    pub async fn restore_on(machine: M, settings: EnforcerSettings, mailbox: Mailbox) -> Self {
        let begin = Event::Started {
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let mut enforcer = Self::assemble(machine, settings, mailbox, begin).await;
        enforcer.pass().await;
        enforcer.history.record(enforcer.clock.now());
        enforcer
    }

    /// As [`Enforcer::restore_on`], and nothing is enforced yet. The history begins with `begin`.
    pub(crate) async fn assemble(
        machine: M,
        settings: EnforcerSettings,
        mailbox: Mailbox,
        begin: Event,
    ) -> Self {
        let Parts {
            filter,
            processes,
            sockets,
            bypasses,
            journal,
            mut history,
            clock,
        } = machine.parts();
        let now = clock.now();
        history.note(now, begin);
        let (journal, found) = JournalKeeper::open(journal).await;
        let suspected = match &found {
            JournalFound::Damaged { stopped, .. } => stopped.clone(),
            JournalFound::Whole(_) => Vec::new(),
        };
        let (mut remembered, damage) = match found {
            JournalFound::Whole(remembered) => (remembered, None),
            damaged @ JournalFound::Damaged { .. } => (Box::<Journal>::default(), Some(damaged)),
        };
        let mut enforcer = Self {
            settings,
            orders: OrderDesk::restore(&remembered),
            folded: FoldedRemotes::default(),
            addresses: remembered.addresses.clone().into_owned(),
            nucleus_users: remembered.nucleus_users.clone().into_owned(),
            ways: WayKeeper::default(),
            told_lifelines: ToldLifelines::default(),
            channel: ControlChannel::default(),
            denied: None,
            standing: remembered.standing.clone().into_owned(),
            held: remembered.held,
            is_same_boot: remembered
                .clock
                .as_ref()
                .is_some_and(|kept| kept.boot == clock.boot()),
            trusted_clock: TrustedClock::start(now, &clock.boot(), remembered.clock.as_ref()),
            filter: FilterKeeper::restore(filter, &remembered),
            rounds: Rounds::restore(processes, &mut remembered, suspected),
            severing: Severing::new(sockets),
            bypasses,
            journal,
            history,
            clock,
            state: State::default(),
            mailbox,
            planned: None,
        };
        if let Some(JournalFound::Damaged {
            what,
            aside,
            says_live,
            ..
        }) = damage
        {
            enforcer.assume(what, &aside, says_live, now).await;
        }
        enforcer
    }

    /// What follows from a journal that cannot be read.
    async fn assume(&mut self, what: String, aside: &str, says_live: bool, now: Now) {
        let damaged = Event::JournalDamaged {
            what: format!("{what} (kept as {aside})"),
        };
        self.history.note(now, damaged);
        if says_live || !self.filter.tables().await.is_empty() {
            tracing::error!(
                "{what} (kept as {aside}): an order may have been live, so the device isolates itself"
            );
            let order = Order::isolate(Authority::Recovery, "journal-damaged", Some(what), now.wall);
            let wish = Wish::Order(Box::new(order));
            self.orders.set(Authority::Recovery, wish, Authority::Recovery);
        } else {
            tracing::error!("{what} (kept as {aside}): nothing in it or in the kernel speaks of an order");
        }
    }
}
