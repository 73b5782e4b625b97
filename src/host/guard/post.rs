//! The guard's post: a lock in the state directory that says who stands there.
//!
//! In: the places. Out: the post for ourselves; a guard where there is none; the end of the one that is there. Only a process
//! that the kernel names as the lock's holder, and that has written itself into the file, is ever signalled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::stand::command;
use super::{GuardError, GuardPlaces, POST};
use crate::host::boot::{systemctl, unit};
use crate::host::clock;
use crate::host::files::{self, FileLock, lock_holder, state_directory};
use crate::host::processes::doing::is_stopped;
use crate::host::processes::process_table;
use crate::host::processes::signals::{self, SignalError};
use crate::process::ProcessId;

/// From one look to the next while somebody is to end.
const PAUSE: Duration = Duration::from_millis(50);
/// A guard ends and comes at once; its agent takes a second to end.
const END_LOOKS: u32 = 60;
/// After so many looks it is killed.
const KILL_AFTER: u32 = 20;
/// Whoever ends the guard and its agent together, as systemd and a shutdown do, has ended both by then: an agent that was
/// told to end has 0.7 seconds.
const ENDED_TOGETHER: Duration = Duration::from_secs(2);

/// Who stands there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    #[serde(flatten)]
    process: ProcessId,
    version: String,
    control_socket: PathBuf,
}

/// The post, while it is ours.
pub(super) struct Post(#[expect(dead_code, reason = "held, not used")] FileLock);

impl Post {
    /// None when another guard has it.
    pub(super) fn take(places: &GuardPlaces) -> Result<Option<Self>, GuardError> {
        let mut lock = files::lock(&places.post())?;
        if lock.is_none() {
            // Whoever only looks has it for a moment.
            clock::pause(PAUSE);
            lock = files::lock(&places.post())?;
        }
        let Some(lock) = lock else {
            return Ok(None);
        };
        let pid = std::process::id();
        let note = Note {
            process: ProcessId {
                pid,
                start_ticks: process_table::start_ticks(pid).unwrap_or_default(),
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            control_socket: places.control_socket.clone(),
        };
        files::overwrite(&places.post(), &serde_json::to_vec(&note).unwrap_or_default())?;
        Ok(Some(Self(lock)))
    }
}

/// Sees to it that a guard of this very program stands there. Blocks.
///
/// # Errors
/// [`GuardError`].
pub(crate) fn ensure(places: &GuardPlaces) -> Result<(), GuardError> {
    if let Some(note) = standing(&places.state)? {
        let is_ours = note.version == env!("CARGO_PKG_VERSION") && runs_ours(&note, &places.program());
        if is_ours && !is_stopped(note.process) {
            return Ok(());
        }
        // A stopped one would do nothing when it is needed.
        end_process(&places.state, note.process)?;
    }
    start(places)
}

/// Sees to it that a guard of whatever program stands there: an agent that one started is no judge of its program. Blocks,
/// for a few seconds where none does.
///
/// # Errors
/// [`GuardError`].
pub(crate) fn ensure_any(places: &GuardPlaces) -> Result<(), GuardError> {
    if seems_to_stand(places) {
        return Ok(());
    }
    clock::pause(ENDED_TOGETHER);
    if seems_to_stand(places) {
        return Ok(());
    }
    if let Some(note) = standing(&places.state)? {
        end_process(&places.state, note.process)?;
    }
    start(places)
}

/// Starts a guard, and waits until it stands there.
fn start(places: &GuardPlaces) -> Result<(), GuardError> {
    // Where systemd has a unit for it the guard is no part of the component's own cgroup. Without a copy the unit's condition
    // fails, which systemctl does not tell.
    let has_unit = unit::guard_is_installed() && places.copy().is_some();
    if !(has_unit && systemctl::start(unit::GUARD_NAME).is_ok()) {
        let started = command(places).arg("--detach").status();
        let failed = |source| GuardError::Start {
            what: "the guard",
            source,
        };
        started.map_err(failed)?;
    }
    if looks(|| seems_to_stand(places)) {
        Ok(())
    } else {
        Err(GuardError::Absent {
            state: places.state.clone(),
        })
    }
}

/// Whether whoever signed the post last runs. Takes no lock: one that comes this very moment is not kept from its post.
fn seems_to_stand(places: &GuardPlaces) -> bool {
    let runs = |who| !process_table::has_ended(who) && !is_stopped(who);
    note(&places.post()).is_some_and(|note| runs(note.process))
}

/// The process that has the post, without trying to have it; none where nobody stands by, or only a stopped one.
pub(crate) fn standing_pid(state: &Path) -> Option<u32> {
    let post = state.join(POST);
    let process = note(&post)?.process;
    let holds = lock_holder::find(&post, Some(process.pid)) == Some(process.pid);
    (holds && !is_stopped(process)).then_some(process.pid)
}

/// The agent that a guard has started, if it holds that state directory.
fn stand_in(state: &Path) -> Option<ProcessId> {
    let lock = state.join(state_directory::LOCK);
    let agent: ProcessId = serde_json::from_slice(&files::read(&lock).ok()??).ok()?;
    let holds = lock_holder::find(&lock, Some(agent.pid)) == Some(agent.pid);
    (holds && is_guarded(state)).then_some(agent)
}

/// Ends the guard of that state directory with the agent that it may have started, and removes what it left; nothing where
/// there is none. For `uninstall`, before the lock of the state directory is looked at. Blocks, for three seconds at most for each of them.
///
/// # Errors
/// [`GuardError`].
pub(crate) fn end(state: &Path) -> Result<(), GuardError> {
    if unit::guard_is_installed() {
        // Otherwise systemd would start another one.
        let _not_started = systemctl::stop(unit::GUARD_NAME);
    }
    let post = state.join(POST);
    let known = note(&post);
    // First of all the agent, which would start another guard.
    if let Some(agent) = stand_in(state) {
        end_process(state, agent)?;
    }
    if let Some(note) = standing(state)? {
        end_process(state, note.process)?;
    }
    // It may have started another one in between.
    if let Some(agent) = stand_in(state) {
        end_process(state, agent)?;
    }
    if let Some(note) = known {
        files::remove(&GuardPlaces::new(state, &note.control_socket).will())?;
    }
    files::remove(&post)?;
    Ok(())
}

/// Whether the lock was signed by an agent that the guard started.
pub(crate) fn is_guarded(state: &Path) -> bool {
    let bytes = files::read(&state.join(state_directory::LOCK))
        .ok()
        .flatten()
        .unwrap_or_default();
    let note: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    note["guarded"] == true
}

fn note(post: &Path) -> Option<Note> {
    serde_json::from_slice(&files::read(post).ok().flatten()?).ok()
}

/// Who has the post; none where it is free, or there is no state directory.
fn standing(state: &Path) -> Result<Option<Note>, GuardError> {
    let post = state.join(POST);
    if !post.exists() || files::lock(&post)?.is_some() {
        return Ok(None);
    }
    let stays = |why: &str| GuardError::Stays {
        state: state.to_owned(),
        why: why.to_owned(),
    };
    let note = note(&post).ok_or_else(|| stays("it has not said who it is"))?;
    if lock_holder::find(&post, Some(note.process.pid)) != Some(note.process.pid) {
        return Err(stays("another process holds its lock"));
    }
    Ok(Some(note))
}

/// Whether that process runs the file that we would start.
fn runs_ours(note: &Note, program: &Path) -> bool {
    let theirs = PathBuf::from(format!("/proc/{}/exe", note.process.pid));
    files::is_same_file(&theirs, program)
}

fn end_process(state: &Path, process: ProcessId) -> Result<(), GuardError> {
    let stays = |error: SignalError| GuardError::Stays {
        state: state.to_owned(),
        why: crate::error_text(&error),
    };
    let signal = |send: fn(ProcessId) -> Result<(), SignalError>| match send(process) {
        Ok(()) | Err(SignalError::Gone(_)) => Ok(()),
        Err(error) => Err(stays(error)),
    };
    signal(signals::terminate)?;
    let mut looked = 0;
    let ended = looks(|| {
        looked += 1;
        if looked == KILL_AFTER {
            let _told_below = signal(signals::kill);
        }
        process_table::has_ended(process)
    });
    if ended {
        Ok(())
    } else {
        Err(GuardError::Stays {
            state: state.to_owned(),
            why: "it does not end".to_owned(),
        })
    }
}

/// Looks until it is so, but not for long.
fn looks(mut so: impl FnMut() -> bool) -> bool {
    (0..END_LOOKS).any(|_| {
        let done = so();
        if !done {
            clock::pause(PAUSE);
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_guard_has_the_post_and_is_named_while_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let places = GuardPlaces::new(folder.path(), &folder.path().join("control.sock"));
        assert!(standing(folder.path()).unwrap().is_none());
        end(folder.path()).unwrap();
        let post = Post::take(&places).unwrap().unwrap();
        assert!(Post::take(&places).unwrap().is_none(), "another one");
        let note = standing(folder.path()).unwrap().unwrap();
        assert_eq!(note.process.pid, std::process::id());
        assert!(runs_ours(&note, Path::new("/proc/self/exe")));
        assert!(!runs_ours(&note, Path::new("/bin/sh")), "another program");
        drop(post);
        assert!(standing(folder.path()).unwrap().is_none());
        end(folder.path()).unwrap();
        assert!(!places.post().exists());
    }

    #[test]
    fn a_stranger_at_the_post_is_never_ended() {
        let folder = tempfile::tempdir().unwrap();
        let places = GuardPlaces::new(folder.path(), &folder.path().join("control.sock"));
        let _lock = files::lock(&places.post()).unwrap().unwrap();
        let text = end(folder.path()).unwrap_err().to_string();
        assert!(text.contains("has not said who it is"), "{text}");
    }
}
