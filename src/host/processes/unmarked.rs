//! Whom we stopped and could not mark: noted before he is touched, where the next agent finds it.
//!
//! In: a [`ProcessId`]. Out: whether it is noted, by us or by the agent before. A file beside the control socket, on a file
//! system that no disk holds up and that is empty after a boot, as these processes are gone then; one line each. Without a
//! place for it they are noted in memory alone. Bounded: in processes and in lines; those that have ended make room. What
//! cannot be written is told once, and is carried out all the same: the journal follows.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::process_table::has_ended;
use crate::Gather;
use crate::error_text;
use crate::host::files::{self, FileError, append_file};
use crate::lock;
use crate::process::ProcessId;

/// Name of the file.
pub(crate) const NAME: &str = "stopped.unmarked";
/// Processes noted: more than a chase stops, and are frozen beside it.
const MAX_NOTED: usize = 8_192;
/// Lines of the file: more than that are written anew, without those that have ended.
const MAX_LINES: usize = 2 * MAX_NOTED;

/// The noted. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Unmarked {
    path: Option<PathBuf>,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Debug, Default)]
struct Noted {
    all: BTreeSet<ProcessId>,
    /// Where the next line goes.
    file: Option<File>,
    lines: usize,
    said: bool,
}

impl Unmarked {
    /// As the agent before has left them.
    pub(super) fn found(path: Option<PathBuf>) -> Self {
        let text = path.as_deref().map(files::read);
        let text = match text.transpose() {
            Ok(text) => text.flatten().unwrap_or_default(),
            Err(error) => {
                tracing::warn!("{}", error_text(&error));
                Vec::new()
            }
        };
        let text = String::from_utf8_lossy(&text);
        let all: BTreeSet<ProcessId> = text.lines().take(MAX_LINES).filter_map(parse).in_set();
        let noted = Noted {
            all: all.into_iter().filter(|id| !has_ended(*id)).in_set(),
            lines: text.lines().count(),
            ..Noted::default()
        };
        Self {
            path,
            noted: Arc::new(Mutex::new(noted)),
        }
    }

    /// Notes one; gives whether it is news.
    pub(super) fn note(&self, id: ProcessId) -> bool {
        let mut noted = lock(&self.noted);
        if noted.all.len() >= MAX_NOTED || noted.lines >= MAX_LINES {
            noted.all.retain(|id| !has_ended(*id));
            noted.begin_anew(self.path.as_deref());
        }
        let is_news = noted.all.len() < MAX_NOTED && noted.all.insert(id);
        if is_news {
            noted.add(self.path.as_deref(), id);
        }
        is_news
    }

    /// It is nobody's any more.
    pub(super) fn forget(&self, id: ProcessId) {
        let mut noted = lock(&self.noted);
        if noted.all.remove(&id) && noted.all.is_empty() {
            noted.begin_anew(self.path.as_deref());
        }
    }

    pub(super) fn all(&self) -> BTreeSet<ProcessId> {
        lock(&self.noted).all.clone()
    }

    pub(super) fn has(&self, id: ProcessId) -> bool {
        lock(&self.noted).all.contains(&id)
    }
}

impl Noted {
    fn add(&mut self, path: Option<&Path>, id: ProcessId) {
        let Some(path) = path else { return };
        let file = match self.file.take() {
            Some(file) => Ok(file),
            None => append_file::open_note(path),
        };
        let written = file.and_then(|mut file| {
            let written = file.write_all(line(id).as_bytes());
            let failed = |source| FileError::Write {
                path: path.to_owned(),
                source,
            };
            written.map(|()| file).map_err(failed)
        });
        match written {
            Ok(file) => {
                self.file = Some(file);
                self.lines += 1;
            }
            Err(error) => self.say(&error),
        }
    }

    /// Without those that are not noted any more.
    fn begin_anew(&mut self, path: Option<&Path>) {
        let Some(path) = path else { return };
        (self.file, self.lines) = (None, self.all.len());
        let text: String = self.all.iter().map(|id| line(*id)).collect();
        let written = if text.is_empty() {
            files::remove(path)
        } else {
            files::replace_in_memory(path, text.as_bytes())
        };
        if let Err(error) = written {
            self.say(&error);
        }
    }

    fn say(&mut self, error: &FileError) {
        if !std::mem::replace(&mut self.said, true) {
            let why = error_text(error);
            tracing::warn!(
                "{why}: only the journal knows of processes that were frozen and cannot be marked"
            );
        }
    }
}

/// Removes what an agent kept beside that control socket.
///
/// # Errors
/// [`FileError`].
pub(crate) fn clear(control_socket: &Path) -> Result<(), FileError> {
    files::remove(&control_socket.with_file_name(NAME))
}

fn line(id: ProcessId) -> String {
    format!("{} {}\n", id.pid, id.start_ticks)
}

fn parse(line: &str) -> Option<ProcessId> {
    let (pid, start_ticks) = line.split_once(' ')?;
    Some(ProcessId {
        pid: pid.parse().ok()?,
        start_ticks: start_ticks.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "starts a program of its own")]

    use super::*;
    use std::process::Command;

    use crate::host::processes::process_table;

    #[test]
    fn whom_the_agent_before_noted_is_found_until_he_is_let_go_or_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let own = process_table::read(std::process::id()).unwrap().identity;
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mortal = process_table::read(child.id()).unwrap().identity;
        let next = || Unmarked::found(Some(path.clone()));
        let first = next();
        assert!(first.note(own) && first.note(mortal));
        assert!(!first.note(own), "it is noted");
        assert_eq!(next().all(), BTreeSet::from([own, mortal]));
        child.kill().unwrap();
        child.wait().unwrap();
        let second = next();
        assert_eq!(second.all(), BTreeSet::from([own]), "one has ended");
        let another = ProcessId {
            start_ticks: own.start_ticks + 1,
            ..own
        };
        assert!(!second.has(another), "a number alone says nothing");
        assert!(second.note(another));
        second.forget(another);
        second.forget(own);
        assert!(!path.exists() && next().all().is_empty());
        // What stands in the way is none of ours, and nothing hangs on it.
        std::fs::create_dir(&path).unwrap();
        let third = next();
        assert!(third.note(own) && third.has(own));
    }

    #[test]
    fn the_file_is_written_anew_before_it_is_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let own = process_table::read(std::process::id()).unwrap().identity;
        let noted = Unmarked::found(Some(path.clone()));
        noted.note(own);
        for pid in 0..3 * u32::try_from(MAX_NOTED).unwrap() {
            // Nobody has started so late.
            let start_ticks = u64::MAX;
            assert!(noted.note(ProcessId { pid, start_ticks }));
        }
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{lines}");
        assert_eq!(
            Unmarked::found(Some(path)).all(),
            BTreeSet::from([own]),
            "who lives stays noted"
        );
    }
}
