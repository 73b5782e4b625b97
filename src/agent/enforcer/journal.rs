//! What must survive a restart, on disk before the kernel is touched.
//!
//! In: the parts' states, lent. Out: the journal's file, written when something changed, and what stands in the way.

use std::borrow::Cow;
use std::sync::Arc;

use crate::process::ProcessId;
use crate::quarantine::orders::order::Order;
use crate::quarantine::orders::trusted_time::{KeptTime, TimeBeside};
use crate::quarantine::ports::{JournalStore, WriteOutcome};
use crate::quarantine::proof::journal::{self, Journal};
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
        stopped: Vec<ProcessId>,
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
            Ok(Some(bytes)) => match journal::decode(&bytes) {
                Ok(mut found) => {
                    let beside = store.read_time().await;
                    let mut keeper = Self::new(store, Some(found.clone()));
                    if let Some(kept) = beside.and_then(|beside| beside.newer_than(found.clock.as_ref())) {
                        found.clock = Some(kept);
                        keeper.time.clone_from(&found.clock);
                    }
                    return (keeper, JournalFound::Whole(Box::new(found)));
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
        if !self.saved.as_ref().is_none_or(|saved| differs(saved, &journal)) {
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

/// Whether an order, or a part of one, ends or begins anew at a time.
fn ends_by_time(journal: &Journal<'_>) -> bool {
    let orders = journal.book.orders();
    orders.iter().any(Order::depends_on_time)
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::host::files::journal_file::JournalFile;
    use crate::quarantine::orders::document::Wish;
    use crate::quarantine::orders::order::Authority;

    fn kept(time: &str, uptime: u64) -> KeptTime {
        KeptTime {
            time: time.parse().unwrap(),
            uptime,
            boot: "boot".into(),
        }
    }

    /// With an order that ends, of this name.
    fn journal(id: &str, clock: KeptTime) -> Journal<'static> {
        let mut order = Order::isolate(Authority::Shadow, id, None, Timestamp::UNIX_EPOCH);
        order.expires = Some(Timestamp::UNIX_EPOCH + Duration::from_secs(3600));
        let mut journal = Journal::default();
        journal
            .book
            .to_mut()
            .set(Authority::Shadow, Wish::Order(Box::new(order)));
        journal.clock = Some(clock);
        journal
    }

    /// What a restart finds.
    async fn found(directory: &Path) -> (JournalKeeper<JournalFile>, Option<KeptTime>) {
        let disk = JournalFile::disk();
        let (keeper, found) = JournalKeeper::open(JournalFile::new(directory, disk)).await;
        let JournalFound::Whole(found) = found else {
            panic!("it was written whole");
        };
        (keeper, found.clock)
    }

    #[tokio::test]
    async fn the_time_that_was_kept_last_counts_whatever_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let (forged, later) = (kept("2030-01-01T00:00:00Z", 1), kept("2030-01-01T00:01:00Z", 2));
        let (honest, minute) = (kept("2026-01-01T00:00:00Z", 3), kept("2026-01-01T00:01:00Z", 4));
        // Beside the journal, then in it, then beside it again.
        let kept = [("a", &forged), ("a", &later), ("b", &honest), ("b", &minute)];
        let (mut keeper, none) = found(directory.path()).await;
        assert_eq!(none, None);
        for (id, clock) in kept {
            keeper.save(journal(id, clock.clone())).await.unwrap();
            // Whatever was begun is on disk when the next thing is.
            keeper.store.read_time().await;
            let (restarted, clock_found) = found(directory.path()).await;
            assert_eq!(clock_found.as_ref(), Some(clock), "{id}");
            drop(restarted);
        }
        // The service moves time back, and nothing else changes.
        keeper.save(journal("b", honest.clone())).await.unwrap();
        keeper.store.read_time().await;
        let (mut restarted, clock_found) = found(directory.path()).await;
        assert_eq!(clock_found, Some(honest));
        restarted.save(journal("b", minute.clone())).await.unwrap();
        restarted.store.read_time().await;
        assert_eq!(found(directory.path()).await.1, Some(minute));
    }
}
