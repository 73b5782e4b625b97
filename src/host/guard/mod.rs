//! Somebody who obeys when no nucleus starts an agent any more: a second, tiny process that waits until nobody has held the
//! state directory's lock for some seconds, and then starts an agent in place of the component's.
//!
//! The third death of a component within an hour is its last (BROKEN, a failed unit); a first deployment that is rolled
//! back, a component dropped from a group or a removed root folder leave nothing that runs. Isolation stays in the kernel all
//! the same, and somebody must keep its lifelines fresh and let the device go. A thin parent of the agent could not: it is in
//! the component's process tree and cgroup, dies with them, is not there after a rollback or a removal, and costs the same.
//!
//! In: the places; what the last agent left behind ([`will`]). Out: an agent that runs while nobody else's does, with the
//! environment of the last one, whose token the classic nucleus takes for as long as it lives. Invariants: one guard for a
//! state directory (a lock of its own); each of the guard and its agent is followed by another when it is killed, and both end
//! when systemd's unit or `uninstall` ends them; an agent that a nucleus starts gets the directory from the guard's at once; an
//! agent that fails again and again, or cannot be started at all, is tried once a minute; no runtime, no timer but while nobody holds the lock; nothing is left
//! where the component was stopped in order and nothing was ordered.
//! Absent: whatever decides. Whether there is anything left to do the agent itself finds out, and says so in the will.

mod post;
mod stand;
mod will;

use std::path::{Path, PathBuf};

pub(crate) use post::{end, ensure, ensure_any, is_guarded, standing_pid};
pub(crate) use stand::{detach, stand};
pub(crate) use will::Will;

use super::files::{FileError, state_directory};

/// Name of the guard's own lock in the state directory.
const POST: &str = "guard";
/// Name of the will beside the control socket: on a file system in memory, because it holds the nucleus' token.
const WILL: &str = "guard.json";
/// The program's copy in the state directory, which outlives the component's artifacts.
const PROGRAM: &str = "edgewarden";
/// This program, also when its file is gone.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
    /// A program of ours.
    #[error("could not start {what}")]
    Start {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// Nobody has come to the post after a guard was started.
    #[error("no guard of {} has come to its post", state.display())]
    Absent { state: PathBuf },
    /// It holds its post, and is not to be seen or signalled.
    #[error("the guard of {} cannot be ended: {why}", state.display())]
    Stays { state: PathBuf, why: String },
}

/// Where everything is.
#[derive(Debug, Clone)]
pub(crate) struct GuardPlaces {
    state: PathBuf,
    control_socket: PathBuf,
}

impl GuardPlaces {
    /// As `run` is told them.
    pub(crate) fn new(state: &Path, control_socket: &Path) -> Self {
        Self {
            state: state.to_owned(),
            control_socket: control_socket.to_owned(),
        }
    }

    /// The lock of whoever enforces.
    fn lock(&self) -> PathBuf {
        self.state.join(state_directory::LOCK)
    }

    fn post(&self) -> PathBuf {
        self.state.join(POST)
    }

    fn will(&self) -> PathBuf {
        self.control_socket.with_file_name(WILL)
    }

    /// The program's copy, where it can be run; never a file that somebody else may have written.
    fn copy(&self) -> Option<PathBuf> {
        let copy = self.state.join(PROGRAM);
        let is_ours = matches!(super::files::open(&copy), Ok(Some(_)));
        // Also refused where the file system is mounted so that nothing on it is run.
        (is_ours && rustix::fs::access(&copy, rustix::fs::Access::EXEC_OK).is_ok()).then_some(copy)
    }

    /// What is to be started.
    fn program(&self) -> PathBuf {
        self.copy().unwrap_or_else(|| PathBuf::from(OWN_PROGRAM))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_copy_that_cannot_be_run_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let places = GuardPlaces::new(folder.path(), &folder.path().join("control.sock"));
        assert_eq!(places.program(), Path::new(OWN_PROGRAM), "none");
        let copy = folder.path().join(PROGRAM);
        crate::host::files::replace(&copy, b"#!/bin/sh\n").unwrap();
        fs::set_permissions(&copy, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(places.program(), copy);
        fs::set_permissions(&copy, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(places.program(), Path::new(OWN_PROGRAM), "not to be run");
    }
}
