//! Who holds the state directory: the kernel names a process, the lock file says what kind of process that is.
//!
//! In: the lock file. Out: [`Holder`]; and our own [`Note`] in the file, for whoever finds it locked by us. Everything here
//! blocks. Invariant: only a process that the kernel names as the holder, and that has written itself into the file, since
//! nobody else can write there, is taken for an agent; whoever else holds it is none of ours to end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::clock;
use crate::host::files::{self, FileError, FileLock, lock_holder, state_directory};
use crate::host::processes::process_table;
use crate::process::ProcessId;

/// What an agent writes into the lock file. Members that a later version adds are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// Which process it is.
    #[serde(flatten)]
    pub(super) process: ProcessId,
    /// Where it can be asked.
    pub(super) control_socket: PathBuf,
    /// The socket of the nucleus that started it; absent when none did.
    pub(super) nucleus: Option<PathBuf>,
    /// Whether the guard started it, in place of one that no nucleus starts.
    #[serde(default)]
    pub(super) guarded: bool,
    /// Who started it, and who started them, nearest first: a classic nucleus is among them. None for one that the guard started.
    #[serde(default)]
    pub(super) ancestors: Vec<ProcessId>,
    /// Whose packet filter it uses; absent in notes of earlier versions.
    #[serde(default)]
    pub(super) network: Option<Network>,
    /// Milliseconds of uptime at which it had the directory; absent in notes of earlier versions.
    #[serde(default)]
    pub(super) since: Option<u64>,
}

impl Note {
    /// How long the agent has been there with the directory; none when it has ended.
    pub(super) fn age(&self) -> Option<Duration> {
        let age = process_table::age(self.process)?;
        let held = self
            .since
            .map(|since| clock::now().uptime.saturating_sub(Duration::from_millis(since)));
        Some(held.map_or(age, |held| held.min(age)))
    }
}

/// A network namespace; its number means nothing after the boot in which it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Network {
    pub(super) namespace: u64,
    pub(super) boot: String,
}

impl Network {
    /// Of this process.
    pub(super) fn own() -> Option<Self> {
        Some(Self {
            namespace: process_table::network_namespace(std::process::id())?,
            boot: clock::boot(),
        })
    }
}

/// Who holds the lock.
#[derive(Debug)]
pub(super) enum Holder {
    Agent(Note),
    /// Somebody else, in words for people: another command of ours, or a stranger.
    Other(String),
}

impl Holder {
    /// Whether an agent that the guard started does not wait for its end: an agent of the component, or a command of ours,
    /// which may be the one that removes everything.
    pub(super) const fn goes_before_stand_ins(&self) -> bool {
        match self {
            Self::Agent(note) => !note.guarded,
            Self::Other(_) => true,
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Agent(note) => format!("process {} is an agent", note.process.pid),
            Self::Other(who) => format!("{who} holds the state directory"),
        }
    }
}

/// What came of trying to have the directory for ourselves.
#[derive(Debug)]
pub(super) enum Attempt {
    Ours(FileLock),
    Held(Holder),
    /// The directory is no place for us: nothing in it is to be believed.
    NoPlace(FileError),
    NoLock(FileError),
}

/// Makes the directory if need be, and tries to lock it; gives also which permissions it had, if others could look into it.
pub(super) fn attempt(directory: &Path) -> (Attempt, Option<u32>) {
    let closed = match state_directory::prepare(directory) {
        Ok(closed) => closed,
        Err(error) => return (Attempt::NoPlace(error), None),
    };
    let path = directory.join(state_directory::LOCK);
    let attempt = match files::lock(&path) {
        Ok(Some(lock)) => Attempt::Ours(lock),
        Ok(None) => Attempt::Held(holder(&path)),
        Err(error) => Attempt::NoLock(error),
    };
    (attempt, closed)
}

/// Says in the file that we hold it.
///
/// # Errors
/// Why it could not.
pub(super) fn sign(
    directory: &Path,
    control_socket: PathBuf,
    nucleus: Option<PathBuf>,
    guarded: bool,
) -> Result<(), String> {
    let pid = std::process::id();
    let start_ticks = process_table::start_ticks(pid).ok_or("our own process cannot be seen in /proc")?;
    let note = Note {
        process: ProcessId { pid, start_ticks },
        control_socket,
        nucleus,
        guarded,
        ancestors: if guarded {
            Vec::new()
        } else {
            process_table::ancestors(pid)
        },
        network: Network::own(),
        since: u64::try_from(clock::now().uptime.as_millis()).ok(),
    };
    let bytes = serde_json::to_vec(&note).map_err(|error| crate::error_text(&error))?;
    files::overwrite(&directory.join(state_directory::LOCK), &bytes)
        .map_err(|error| crate::error_text(&error))
}

/// Who holds the directory's lock, without trying to have it; none where nobody does.
pub(super) fn find(directory: &Path) -> Option<Holder> {
    let path = directory.join(state_directory::LOCK);
    let claimed = note(&path).map(|note| note.process.pid);
    lock_holder::find(&path, claimed).map(|_| holder(&path))
}

/// What whoever signed the lock last has written, whether or not it runs.
pub(super) fn last_note(directory: &Path) -> Option<Note> {
    note(&directory.join(state_directory::LOCK))
}

fn note(path: &Path) -> Option<Note> {
    serde_json::from_slice(&files::read(path).ok()??).ok()
}

fn holder(path: &Path) -> Holder {
    let note = note(path);
    let claimed = note.as_ref().map(|note| note.process.pid);
    let Some(pid) = lock_holder::find(path, claimed) else {
        return Holder::Other("a process that cannot be seen from here".to_owned());
    };
    match note {
        // A number that was given to another process since does not make that one an agent. One in a container has written the
        // number that it has there.
        Some(mut note)
            if [Some(pid), process_table::inner_pid(pid)].contains(&Some(note.process.pid))
                && process_table::start_ticks(pid) == Some(note.process.start_ticks) =>
        {
            note.process.pid = pid;
            note.control_socket = process_table::path_of(pid, &note.control_socket);
            Holder::Agent(note)
        }
        _ => {
            let name = process_table::read(pid).map(|process| process.name);
            let name = name.as_deref().unwrap_or("?");
            Holder::Other(format!("process {pid} ({name})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_signed_and_holds_is_an_agent_and_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(state_directory::LOCK);
        let (Attempt::Ours(_lock), _) = attempt(directory.path()) else {
            panic!("nobody holds it");
        };
        let held = || {
            let (Attempt::Held(holder), _) = attempt(directory.path()) else {
                panic!("we hold it");
            };
            holder
        };
        let own = std::process::id().to_string();
        assert!(
            matches!(held(), Holder::Other(who) if who.contains(&own)),
            "not signed"
        );
        let socket = PathBuf::from("/run/control.sock");
        sign(directory.path(), socket.clone(), None, false).unwrap();
        let Holder::Agent(note) = held() else {
            panic!("signed");
        };
        assert_eq!(
            (note.control_socket.as_path(), note.nucleus.as_ref()),
            (socket.as_path(), None)
        );
        let parent = note.ancestors.first().map(|parent| parent.pid);
        let started_by = Some(std::os::unix::process::parent_id()).filter(|pid| *pid > 1);
        assert_eq!(parent, started_by);

        let other = |process: ProcessId| {
            let note = Note {
                process,
                ..note.clone()
            };
            files::overwrite(&path, &serde_json::to_vec(&note).unwrap()).unwrap();
            matches!(held(), Holder::Other(_))
        };
        let (pid, start_ticks) = (note.process.pid, note.process.start_ticks);
        assert!(
            other(ProcessId {
                pid,
                start_ticks: start_ticks + 1
            }),
            "its number is another's"
        );
        assert!(
            other(ProcessId { pid: 1, start_ticks }),
            "the note of one that is gone"
        );
        files::overwrite(&path, b"{\"pid\":").unwrap();
        assert!(matches!(held(), Holder::Other(_)), "half a note");
    }
}
