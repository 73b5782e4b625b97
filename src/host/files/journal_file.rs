//! Where the journal is kept: [`JournalStore`], one file in the state directory, written on a thread of its own, with a file for each
//! long list of blocked remotes beside it ([`journal_lists`](super::journal_lists)).
//!
//! A disk that does not answer in time holds no order up: what was late is written all the same, and whoever asked is told
//! now, and later what became of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::journal_lists::{self, KeptLists};
use super::shelter::Shelter;
use super::{FileError, MAX_FILE, read, replace};
use crate::error_text;
use crate::host::worker::{Worker, WorkerError};
use crate::quarantine::orders::trusted_time::TimeBeside;
use crate::quarantine::ports::{JournalStore, WriteOutcome};
use crate::quarantine::proof::journal::{Journal, Understood, Written, understand};

/// Name of the file in the state directory.
pub(crate) const NAME: &str = "journal";
/// Name of the file beside it with the newest trusted time, some hundred bytes.
pub(crate) const TIME_NAME: &str = "time";
/// A flash card that tidies up answers within a second or two. What is ordered does not wait longer for it.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// At boot the disk may have to be checked first; a journal that is not read in that time isolates the device.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The journal of one state directory.
pub struct JournalFile {
    path: PathBuf,
    disk: Worker,
    /// Where the newest is kept when it is late at the end.
    shelter: Shelter,
    /// Whether what was read is there only.
    is_sheltered: bool,
    /// The long lists that we wrote.
    lists: KeptLists,
    read_limit: Duration,
    /// The answer of the write that was late.
    late: Option<oneshot::Receiver<Result<(), FileError>>>,
}

impl JournalFile {
    /// Nothing is touched before the first question. Whoever has the same `disk` writes after what was written before.
    pub(crate) fn new(state_directory: &Path, disk: Worker, shelter: Shelter) -> Self {
        Self {
            path: state_directory.join(NAME),
            disk,
            shelter,
            is_sheltered: false,
            lists: KeptLists::default(),
            read_limit: READ_LIMIT,
            late: None,
        }
    }

    /// The same for somebody who waits for it: a disk that does not read within `limit` is one that cannot.
    #[must_use]
    pub(crate) fn read_within(self, limit: Duration) -> Self {
        Self {
            read_limit: limit,
            ..self
        }
    }

    /// The thread that writes.
    pub(crate) fn disk() -> Worker {
        Worker::urgent("journal", WRITE_LIMIT)
    }

    async fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&Path) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, String> {
        let path = self.path.clone();
        match self.disk.ask_within(limit, move |()| work(&path)).await {
            Ok(done) => done.map_err(|error| error_text(&error)),
            Err(error) => Err(self.about(&error)),
        }
    }

    fn about(&self, error: &WorkerError) -> String {
        format!("{}: {}", self.path.display(), error_text(error))
    }

    /// Writes, and tells the shelter when that is done.
    fn writing(
        &self,
        journal: Arc<Journal<'static>>,
    ) -> impl FnOnce(&mut ()) -> Result<(), FileError> + Send + use<> {
        let (path, shelter, lists) = (self.path.clone(), self.shelter.clone(), self.lists.clone());
        let number = shelter.begin(&journal);
        move |()| {
            let Written { file, lists: named } = Written::of(&journal);
            if file.len() as u64 > MAX_FILE {
                // What was written before can be read.
                return Err(FileError::TooLarge { path });
            }
            lists.keep(&path, &named)?;
            replace(&path, &file)?;
            shelter.done(number);
            lists.sweep(&path, &named);
            Ok(())
        }
    }

    fn late(&self) -> WriteOutcome {
        WriteOutcome::Late(format!(
            "{}: the disk has not answered within {} s",
            self.path.display(),
            WRITE_LIMIT.as_secs()
        ))
    }
}

impl JournalStore for JournalFile {
    async fn read(&mut self) -> Result<Option<Understood>, String> {
        let shelter = self.shelter.clone();
        let Some(kept) = self
            .ask(WRITE_LIMIT, move |_| {
                Ok(shelter.found().as_deref().map(understand))
            })
            .await
            .ok()
            .flatten()
        else {
            return self
                .ask(self.read_limit, |path| {
                    Ok(journal_lists::read_whole(path)?.as_deref().map(understand))
                })
                .await;
        };
        self.is_sheltered = true;
        Ok(Some(kept))
    }

    fn is_on_disk(&self) -> bool {
        !self.is_sheltered
    }

    async fn replace(&mut self, journal: Arc<Journal<'static>>) -> WriteOutcome {
        let mut answer = match self.disk.begin(self.writing(journal)) {
            Ok(answer) => answer,
            Err(error) => return WriteOutcome::Failed(self.about(&error)),
        };
        match tokio::time::timeout(WRITE_LIMIT, &mut answer).await {
            Ok(answer) => outcome(answer),
            Err(_) => {
                self.late = Some(answer);
                self.late()
            }
        }
    }

    fn late_outcome(&mut self) -> WriteOutcome {
        let Some(mut answer) = self.late.take() else {
            return WriteOutcome::Failed("no write is under way".to_owned());
        };
        match answer.try_recv() {
            Err(TryRecvError::Empty) => {
                self.late = Some(answer);
                self.late()
            }
            Ok(done) => outcome(Ok::<_, TryRecvError>(done)),
            Err(closed @ TryRecvError::Closed) => outcome(Err(closed)),
        }
    }

    fn leave(&mut self, journal: Arc<Journal<'static>>) {
        let write = self.writing(journal);
        // A disk that is that far behind has no place for it either.
        let _unwritten = self.disk.begin(move |()| {
            if let Err(error) = write(&mut ()) {
                tracing::error!("{}", error_text(&error));
            }
        });
    }

    async fn set_aside(&mut self) -> Result<PathBuf, String> {
        self.ask(WRITE_LIMIT, journal_lists::set_aside_whole).await
    }

    async fn read_time(&mut self) -> Option<TimeBeside> {
        // The journal was read a moment ago; without this an order ends late at worst.
        let found = self.ask(WRITE_LIMIT, |path| read(&beside(path))).await;
        // What cannot be read is no newer time.
        serde_json::from_slice(&found.ok()??).ok()
    }

    fn keep_time(&mut self, time: TimeBeside) {
        let path = beside(&self.path);
        // A minute later there is another one.
        let _unknown = self.disk.begin(move |()| {
            let text = serde_json::to_vec(&time).unwrap_or_default();
            if let Err(error) = replace(&path, &text) {
                tracing::debug!("{}", error_text(&error));
            }
        });
    }
}

/// Where the newest time is kept.
fn beside(journal: &Path) -> PathBuf {
    journal.with_file_name(TIME_NAME)
}

fn outcome<E>(answer: Result<Result<(), FileError>, E>) -> WriteOutcome {
    match answer {
        Ok(Ok(())) => WriteOutcome::Done,
        Ok(Err(error)) => WriteOutcome::Failed(error_text(&error)),
        Err(_) => WriteOutcome::Failed("the thread that writes the journal failed".to_owned()),
    }
}
