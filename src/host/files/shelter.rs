//! A journal that was late on disk when its agent had to end: kept in memory until the next agent, which writes it down.
//!
//! In: the newest journal that is not known to be on disk. Out: a file beside the control socket, on a file system that no
//! disk holds up and that is empty after a boot; what a journal on disk says is older while it is there. Bounded: one file.
//! Absent: whoever ends between two orders with a disk that is well, who has nothing to shelter.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{FileError, read, remove, replace_in_memory};
use crate::lock;
use crate::quarantine::proof::journal::{self, Journal};

/// Name of the file.
const NAME: &str = "journal.late";

/// Where a late journal is kept. Clones share what is late.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelter {
    path: Option<PathBuf>,
    late: Arc<Mutex<Late>>,
}

#[derive(Debug, Default)]
struct Late {
    /// Which write it was, counted from the start.
    number: u64,
    journal: Option<Arc<Journal<'static>>>,
    /// Whether the file is there, of us or of the agent before.
    is_kept: bool,
}

impl Shelter {
    /// Beside the control socket.
    pub(crate) fn beside(control_socket: &Path) -> Self {
        Self {
            path: Some(control_socket.with_file_name(NAME)),
            late: Arc::default(),
        }
    }

    /// A place for another note beside it.
    pub(crate) fn place_of(&self, name: &str) -> Option<PathBuf> {
        Some(self.path.as_ref()?.with_file_name(name))
    }

    /// What the agent before could not write in time.
    pub(super) fn found(&self) -> Option<Vec<u8>> {
        let found = read(self.path.as_ref()?).ok().flatten()?;
        lock(&self.late).is_kept = true;
        Some(found)
    }

    /// A write begins; gives its number.
    pub(super) fn begin(&self, journal: &Arc<Journal<'static>>) -> u64 {
        let mut late = lock(&self.late);
        late.number += 1;
        late.journal = Some(Arc::clone(journal));
        late.number
    }

    /// That write is on disk: what is kept is older, or the same.
    pub(super) fn done(&self, number: u64) {
        let is_kept = {
            let mut late = lock(&self.late);
            if late.number == number {
                late.journal = None;
            }
            std::mem::take(&mut late.is_kept)
        };
        if is_kept {
            self.forget();
        }
    }

    /// What is kept is on disk.
    fn forget(&self) {
        if let Some(Err(error)) = self.path.as_ref().map(|path| remove(path)) {
            tracing::warn!("{}", crate::error_text(&error));
        }
    }

    /// Keeps what is late, if anything is; gives whether it did. The file system is in memory: this does not wait.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn keep(&self) -> Result<bool, FileError> {
        let journal = lock(&self.late).journal.take();
        let (Some(journal), Some(path)) = (journal, &self.path) else {
            return Ok(false);
        };
        replace_in_memory(path, &journal::encode(&journal))?;
        Ok(true)
    }
}

/// Removes what an agent kept beside that control socket.
///
/// # Errors
/// [`FileError`].
pub(crate) fn clear(control_socket: &Path) -> Result<(), FileError> {
    remove(&control_socket.with_file_name(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_on_disk_is_kept_and_until_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let journal = Arc::new(Journal::default());
        let shelter = Shelter::beside(&socket);
        assert!(!shelter.keep().unwrap(), "nothing was written");
        let first = shelter.begin(&journal);
        let second = shelter.begin(&journal);
        shelter.done(second);
        shelter.done(first);
        assert!(!shelter.keep().unwrap(), "all is on disk");
        let first = shelter.begin(&journal);
        let _second = shelter.begin(&journal);
        shelter.done(first);
        assert!(shelter.keep().unwrap(), "the newest is not");

        let next = Shelter::beside(&socket);
        assert_eq!(next.found(), Some(journal::encode(&journal)));
        let number = next.begin(&journal);
        next.done(number);
        assert_eq!(next.found(), None, "it is on disk");
        shelter.begin(&journal);
        assert!(shelter.keep().unwrap());
        clear(&socket).unwrap();
        assert_eq!(next.found(), None);
        assert_eq!(Shelter::default().found(), None, "nowhere to keep it");
    }
}
