//! What must survive a restart, on disk before the kernel is touched.
//!
//! In: the parts' states, lent. Out: the journal's file, written when something changed, and what stands in the way.

use std::borrow::Cow;
use std::sync::Arc;

use crate::quarantine::orders::order::Order;
use crate::quarantine::orders::trusted_time::{KeptTime, TimeBeside};
use crate::quarantine::plan::processes::StoppedProcess;
use crate::quarantine::ports::{JournalStore, WriteOutcome};
use crate::quarantine::proof::journal::{Journal, Understood};
use crate::quarantine::proof::obstacle::Obstacle;

/// The journal and what of it is on disk.
pub(super) struct JournalKeeper<S: JournalStore> {
    store: S,
    /// As it is on disk, as far as that is known.
    saved: Option<Arc<Journal<'static>>>,
    /// As it will be on disk when the disk answers.
    late: Option<Arc<Journal<'static>>>,
    /// What is to follow a write that is late.
    next: Option<Arc<Journal<'static>>>,
    /// The newest time that is kept, in the journal or beside it.
    time: Option<KeptTime>,
}

/// What was found at the start.
pub(super) enum JournalFound {
    /// It was read; one that is missing is the empty one.
    Whole(Box<Journal<'static>>),
    /// It is there and cannot be read.
    Damaged {
        /// What is wrong.
        what: String,
        /// Where it is kept, or why it is not.
        aside: String,
        /// Whether an order may have been live.
        says_live: bool,
        /// The stopped processes that can still be read in it.
        stopped: Vec<StoppedProcess>,
    },
}

impl<S: JournalStore> JournalKeeper<S> {
    fn new(store: S, saved: Option<Journal<'static>>) -> Self {
        Self {
            store,
            time: saved.as_ref().and_then(|saved| saved.clock.clone()),
            saved: saved.map(Arc::new),
            late: None,
            next: None,
        }
    }

    /// Reads the journal. One that cannot be read is set aside.
    pub(super) async fn open(mut store: S) -> (Self, JournalFound) {
        let (what, says_live, stopped) = match store.read().await {
            Ok(None) => {
                let saved = Some(Journal::default());
                return (Self::new(store, saved), JournalFound::Whole(Box::default()));
            }
            Ok(Some(Understood::Whole(mut found))) => {
                let beside = store.read_time().await;
                let is_on_disk = store.is_on_disk();
                let mut keeper = Self::new(store, Some((*found).clone()));
                if !is_on_disk {
                    // A restart of the machine would forget it: the first pass writes it, or says so.
                    keeper.saved = None;
                }
                if let Some(kept) = beside.and_then(|beside| beside.newer_than(found.clock.as_ref())) {
                    found.clock = Some(kept);
                    keeper.time.clone_from(&found.clock);
                }
                return (keeper, JournalFound::Whole(found));
            }
            Ok(Some(Understood::Damaged { damage, stopped })) => {
                (damage.to_string(), damage.says_live, stopped)
            }
            // It is there and cannot be read: it may say anything.
            Err(why) => (why, true, Vec::new()),
        };
        let aside = match store.set_aside().await {
            Ok(path) => path.display().to_string(),
            Err(why) => why,
        };
        let found = JournalFound::Damaged {
            what,
            aside,
            says_live,
            stopped,
        };
        (Self::new(store, None), found)
    }

    /// Writes the journal if it changed. That time goes by is kept beside it, and only while something ends by time. While a
    /// write is late nothing else is written: what changed meanwhile is, once the disk has answered.
    ///
    /// # Errors
    /// [`Obstacle::JournalNotWritten`]: what is enforced then does not survive a restart.
    pub(super) async fn save(&mut self, journal: Journal<'_>) -> Result<(), Obstacle> {
        let failed = |why| Err(Obstacle::JournalNotWritten { why });
        if let Some(late) = self.late.take() {
            match self.store.late_outcome() {
                WriteOutcome::Done => self.saved = Some(late),
                WriteOutcome::Failed(_) => self.saved = None,
                WriteOutcome::Late(why) => {
                    if differs(self.next.as_ref().unwrap_or(&late), &journal) {
                        self.next = Some(remembered(journal));
                    }
                    self.late = Some(late);
                    return failed(why);
                }
            }
        }
        let is_news = |saved: &Arc<Journal<'_>>| differs(saved, &journal) || went_back(saved, &journal);
        if !self.saved.as_ref().is_none_or(is_news) {
            self.next = None;
            self.keep_time(&journal);
            return Ok(());
        }
        self.time.clone_from(&journal.clock);
        let written = remembered(journal);
        (self.saved, self.next) = (None, None);
        match self.store.replace(Arc::clone(&written)).await {
            WriteOutcome::Done => {
                self.saved = Some(written);
                Ok(())
            }
            WriteOutcome::Late(why) => {
                self.late = Some(written);
                failed(why)
            }
            // What is on disk is not known.
            WriteOutcome::Failed(why) => failed(why),
        }
    }

    /// Time alone is not worth the whole journal, and nothing while nothing ends by it.
    fn keep_time(&mut self, journal: &Journal<'_>) {
        let Some(time) = &journal.clock else { return };
        let is_later = self.time.as_ref().is_none_or(|kept| time.is_news(kept));
        if is_later && ends_by_time(journal) {
            self.store.keep_time(TimeBeside {
                kept: time.clone(),
                journal: self.saved.as_ref().and_then(|saved| saved.clock.clone()),
            });
            self.time = Some(time.clone());
        }
    }
}

impl<S: JournalStore> Drop for JournalKeeper<S> {
    /// The agent stops, or failed: what was late must not be the last word, if there was a later one.
    fn drop(&mut self) {
        if let Some(next) = self.next.take() {
            self.store.leave(next);
        }
    }
}

/// What of it is written.
fn remembered(journal: Journal<'_>) -> Arc<Journal<'static>> {
    let mut written = journal.into_owned();
    written.standing = Cow::Owned(written.standing.remembered());
    Arc::new(written)
}

/// Whether the trusted time was set back while nothing ends by it: then it is kept nowhere else.
fn went_back(saved: &Journal<'_>, journal: &Journal<'_>) -> bool {
    let (Some(old), Some(new)) = (&saved.clock, &journal.clock) else {
        return false;
    };
    new.time < old.time && !ends_by_time(journal)
}

/// Whether an order, or a part of one, ends or begins anew at a time.
fn ends_by_time(journal: &Journal<'_>) -> bool {
    let orders = journal.book.orders();
    orders.iter().any(Order::depends_on_time)
}

/// Whether `journal` says something else than the disk, the trusted time left aside.
fn differs(saved: &Journal<'_>, journal: &Journal<'_>) -> bool {
    saved.book != journal.book
        || *saved.standing != journal.standing.remembered()
        || saved.held != journal.held
        || saved.overridden != journal.overridden
        || saved.quotas != journal.quotas
        || saved.stopped != journal.stopped
        || saved.nucleus_traces != journal.nucleus_traces
        || saved.addresses != journal.addresses
        || saved.shadow != journal.shadow
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
