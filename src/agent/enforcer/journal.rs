//! What must survive a restart, on disk before the kernel is touched.
//!
//! In: the parts' states, lent. Out: the journal's file, written when something changed, and what stands in the way.

use std::borrow::Cow;

use crate::process::ProcessId;
use crate::quarantine::ports::{JournalStore, WriteOutcome};
use crate::quarantine::proof::journal::{self, Journal};
use crate::quarantine::proof::obstacle::Obstacle;

/// The journal and what of it is on disk.
pub(super) struct JournalKeeper<S> {
    store: S,
    /// As it is on disk, as far as that is known.
    saved: Option<Journal<'static>>,
    /// As it will be on disk when the disk answers.
    late: Option<Journal<'static>>,
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
        stopped: Vec<ProcessId>,
    },
}

impl<S: JournalStore> JournalKeeper<S> {
    const fn new(store: S, saved: Option<Journal<'static>>) -> Self {
        Self {
            store,
            saved,
            late: None,
        }
    }

    /// Reads the journal. One that cannot be read is set aside.
    pub(super) async fn open(mut store: S) -> (Self, JournalFound) {
        let (what, says_live, stopped) = match store.read().await {
            Ok(None) => {
                let saved = Some(Journal::default());
                return (Self::new(store, saved), JournalFound::Whole(Box::default()));
            }
            Ok(Some(bytes)) => match journal::decode(&bytes) {
                Ok(found) => {
                    let saved = Some(found.clone());
                    return (Self::new(store, saved), JournalFound::Whole(Box::new(found)));
                }
                Err(damage) => {
                    let stopped = journal::stopped_in(&bytes)
                        .into_iter()
                        .map(|known| known.identity);
                    (damage.to_string(), damage.says_live, stopped.collect())
                }
            },
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

    /// Writes the journal if it changed. While nothing is ordered, time alone is not worth a write. While a write is late
    /// nothing else is written: what changed meanwhile is, once the disk has answered.
    ///
    /// # Errors
    /// [`Obstacle::JournalNotWritten`]: what is enforced then does not survive a restart.
    pub(super) async fn save(&mut self, mut journal: Journal<'_>) -> Result<(), Obstacle> {
        let failed = |why| Err(Obstacle::JournalNotWritten { why });
        if let Some(late) = self.late.take() {
            match self.store.late_outcome() {
                WriteOutcome::Done => self.saved = Some(late),
                WriteOutcome::Failed(_) => self.saved = None,
                WriteOutcome::Late(why) => {
                    self.late = Some(late);
                    return failed(why);
                }
            }
        }
        let saved_time = self.saved.as_ref().and_then(|saved| saved.clock.as_ref());
        let is_later = match (&journal.clock, saved_time) {
            (Some(kept), Some(old)) => kept.is_news(old),
            (kept, _) => kept.is_some(),
        };
        let changed = self.saved.as_ref().is_none_or(|saved| differs(saved, &journal));
        let time_is_worth_it = is_later && !journal.book.orders().is_empty();
        if !changed && !time_is_worth_it {
            return Ok(());
        }
        if !is_later {
            journal.clock = saved_time.cloned();
        }
        let outcome = self.store.replace(journal::encode(&journal)).await;
        let mut written = journal.into_owned();
        written.standing = Cow::Owned(written.standing.remembered());
        self.saved = None;
        match outcome {
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
}

/// Whether `journal` says something else than the disk, the trusted time left aside.
fn differs(saved: &Journal<'_>, journal: &Journal<'_>) -> bool {
    saved.book != journal.book
        || *saved.standing != journal.standing.remembered()
        || saved.overridden != journal.overridden
        || saved.quotas != journal.quotas
        || saved.stopped != journal.stopped
        || saved.addresses != journal.addresses
}
