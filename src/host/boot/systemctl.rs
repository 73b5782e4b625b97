//! systemd's own command: telling the running systemd that a unit came or went.
//!
//! In: which. Out: done, or why not. Absent on purpose: enabling and disabling, which are links that
//! [`boot_service`](super::boot_service) makes itself; whether systemd runs, which is known there too.

use std::io;
use std::time::Duration;

use crate::host::program;

/// A systemd that is busy booting may take a while; an install step has two minutes.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest piece of its complaint that is repeated, in characters.
const MAX_COMPLAINT: usize = 400;

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemctlError {
    /// It could not be started.
    #[error("could not run systemctl {action}")]
    Run {
        /// What was asked of it.
        action: String,
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("systemctl {action} did not end within {} seconds", LIMIT.as_secs())]
    Timeout {
        /// What was asked of it.
        action: String,
    },
    /// It said no.
    #[error("systemctl {action} failed: {complaint}")]
    Refused {
        /// What was asked of it.
        action: String,
        /// Its own words, shortened.
        complaint: String,
    },
}

/// Has systemd read its units again.
///
/// # Errors
/// [`SystemctlError`]; the next boot reads them anyway.
pub(crate) fn daemon_reload() -> Result<(), SystemctlError> {
    run(&["daemon-reload"])
}

/// Starts a unit without waiting until it runs.
///
/// # Errors
/// [`SystemctlError`], also when there is no such unit or it is masked.
pub(crate) fn start(unit: &str) -> Result<(), SystemctlError> {
    run(&["start", "--no-block", unit])
}

/// Ends a unit that is to be removed.
///
/// # Errors
/// [`SystemctlError`], also when there is no such unit.
pub(crate) fn stop(unit: &str) -> Result<(), SystemctlError> {
    run(&["stop", unit])
}

fn run(arguments: &[&str]) -> Result<(), SystemctlError> {
    let action = arguments.join(" ");
    let failed = |source| SystemctlError::Run {
        action: action.clone(),
        source,
    };
    let missing = || failed(io::ErrorKind::NotFound.into());
    let program = program::find("systemctl").ok_or_else(missing)?;
    match program::run(&program, arguments, LIMIT).map_err(failed)? {
        None => Err(SystemctlError::Timeout { action }),
        Some(ended) if ended.status.success() => Ok(()),
        Some(ended) => Err(SystemctlError::Refused {
            action,
            complaint: String::from_utf8_lossy(&ended.complaint)
                .trim()
                .chars()
                .take(MAX_COMPLAINT)
                .collect(),
        }),
    }
}
