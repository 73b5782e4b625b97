//! The enforcer's first act: what the journal says is enforced before anything else is started.

use std::collections::VecDeque;
use std::path::Path;

use tokio::sync::{mpsc, watch};

use super::history::HistoryLog;
use super::layers::Layers;
use super::severing::Severing;
use super::{Enforcer, Handle, QUEUE, Settings};
use crate::host::netfilter::kernel::NftKernel;
use crate::host::{clock, files};
use crate::quarantine::history::Event;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Order};
use crate::quarantine::orders::trusted_time::TrustedClock;
use crate::quarantine::proof::journal::{self, Journal};
use crate::quarantine::proof::state::State;

/// Name of the journal in the state directory.
const JOURNAL: &str = "journal";

impl Enforcer {
    /// Reads the journal and enforces it; gives the enforcer, ready to [`Enforcer::run`], and its handle.
    ///
    /// A missing journal means: never quarantined. A damaged one is set aside; the device then isolates itself until the
    /// shadow or an operator speaks, unless the damaged text says that there was no order and the kernel holds none.
    pub async fn restore(state_directory: &Path, settings: Settings) -> (Self, Handle) {
        let (publish, state) = watch::channel(State::default());
        let (sender, commands) = mpsc::channel(QUEUE);
        let path = state_directory.join(JOURNAL);
        let mut history = HistoryLog::new(state_directory);
        history.note(Event::Started {
            version: env!("CARGO_PKG_VERSION").into(),
        });
        let (journal, saved) = read_journal(&path, &mut history);
        let clock = TrustedClock::start(clock::now(), &clock::boot(), journal.clock.as_ref());
        let journal_gave_up = journal.rolled_back.as_ref().is_some_and(|rolled| !rolled.proven);
        let mut enforcer = Self {
            path,
            journal,
            saved,
            clock,
            settings,
            rejected: Vec::new(),
            loaded: None,
            posture: None,
            attempt: None,
            channel_works: false,
            round_trip: None,
            // A restart does not know when the release was: the wait begins anew.
            loaded_at: std::time::Duration::ZERO,
            given_up: journal_gave_up.then(|| clock::now().uptime),
            reasserted: 0,
            changed_by: None,
            changes: VecDeque::new(),
            layers: Layers::default(),
            names_processes: false,
            last_canary: None,
            history,
            severing: Severing::default(),
            state: State::default(),
            publish,
            commands,
        };
        enforcer.reconcile().await;
        enforcer.record().await;
        (
            enforcer,
            Handle {
                commands: sender,
                state,
            },
        )
    }

    /// Writes the journal if it changed.
    ///
    /// # Errors
    /// A sentence for the operator; what is enforced then does not survive a restart.
    pub(super) fn save(&mut self) -> Result<(), String> {
        let kept = self.clock.keep(clock::now());
        let news = self.journal.clock.as_ref().is_none_or(|old| kept.is_news(old));
        let changed = self.saved.as_ref() != Some(&self.journal);
        // While nothing is ordered, time alone is not worth a write.
        if news && (changed || !self.journal.book.orders().is_empty()) {
            self.journal.clock = Some(kept);
        } else if !changed {
            return Ok(());
        }
        let bytes = journal::encode(&self.journal);
        files::replace(&self.path, &bytes).map_err(|error| {
            format!(
                "{}: what is ordered would not survive a restart",
                crate::error_text(&error)
            )
        })?;
        self.saved = Some(self.journal.clone());
        Ok(())
    }
}

/// The journal, and what is on disk of it.
fn read_journal(path: &Path, history: &mut HistoryLog) -> (Journal, Option<Journal>) {
    let (what, says_live) = match files::read(path) {
        Ok(None) => return (Journal::default(), Some(Journal::default())),
        Ok(Some(bytes)) => match journal::decode(&bytes) {
            Ok(journal) => return (journal.clone(), Some(journal)),
            Err(damage) => (damage.to_string(), damage.says_live),
        },
        // It is there and cannot be read: it may say anything.
        Err(error) => (crate::error_text(&error), true),
    };
    let aside =
        files::set_aside(path).map_or_else(|error| error.to_string(), |aside| aside.display().to_string());
    let in_kernel = NftKernel::open()
        .and_then(|mut kernel| kernel.tables())
        .is_ok_and(|tables| !tables.is_empty());
    let mut journal = Journal::default();
    history.note(Event::JournalDamaged {
        what: format!("{what} (kept as {aside})"),
    });
    if says_live || in_kernel {
        tracing::error!(
            "{what} (kept as {aside}): an order may have been live, so the device isolates itself"
        );
        let now = clock::now().wall;
        let order = Order::isolate(Authority::Recovery, "journal-damaged", Some(what), now);
        history.note(Event::ordered(&order));
        journal
            .book
            .set(Authority::Recovery, Wish::Order(Box::new(order)));
    } else {
        tracing::error!("{what} (kept as {aside}): nothing in it or in the kernel speaks of an order");
    }
    (journal, None)
}
