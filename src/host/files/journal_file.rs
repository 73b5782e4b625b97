//! Where the journal is kept: [`JournalStore`], one file in the state directory, written on a thread of its own.
//!
//! A disk that does not answer in time holds no order up: what was late is written all the same, in the order in which it
//! was given, and whoever asked is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{FileError, read, replace, set_aside};
use crate::error_text;
use crate::host::worker::{NoAnswer, Worker};
use crate::quarantine::ports::JournalStore;

/// Name of the file in the state directory.
const NAME: &str = "journal";
/// A flash card that tidies up answers within a second or two. What is ordered does not wait longer for it.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// At boot the disk may have to be checked first; a journal that is not read in that time isolates the device.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// The journal of one state directory.
pub struct JournalFile {
    path: PathBuf,
    disk: Worker<()>,
}

impl JournalFile {
    /// Nothing is touched before the first question.
    pub fn new(state_directory: &Path) -> Self {
        Self {
            path: state_directory.join(NAME),
            disk: Worker::new("journal"),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&Path) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, String> {
        let path = self.path.clone();
        match self.disk.ask(limit, move |()| work(&path)).await {
            Ok(done) => done.map_err(|error| error_text(&error)),
            Err(none @ (NoAnswer::Late(_) | NoAnswer::Busy | NoAnswer::Ended)) => {
                Err(format!("the disk of {}: {none}", self.path.display()))
            }
        }
    }
}

impl JournalStore for JournalFile {
    async fn read(&mut self) -> Result<Option<Vec<u8>>, String> {
        self.ask(READ_LIMIT, read).await
    }

    async fn replace(&mut self, bytes: Vec<u8>) -> Result<(), String> {
        self.ask(WRITE_LIMIT, move |path| replace(path, &bytes)).await
    }

    async fn set_aside(&mut self) -> Result<PathBuf, String> {
        self.ask(WRITE_LIMIT, set_aside).await
    }
}
