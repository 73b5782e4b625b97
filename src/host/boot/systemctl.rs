//! systemd's own command: telling the running systemd that a unit came or went.
//!
//! In: which. Out: done, or why not. Absent on purpose: enabling and disabling, which are links that
//! [`boot_service`](super::boot_service) makes itself; whether systemd runs, which is known there too.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: one of the two places that run a program"
)]

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

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
pub(crate) async fn daemon_reload() -> Result<(), SystemctlError> {
    run(&["daemon-reload"]).await
}

/// Ends a unit that is to be removed.
///
/// # Errors
/// [`SystemctlError`], also when there is no such unit.
pub(crate) async fn stop(unit: &str) -> Result<(), SystemctlError> {
    run(&["stop", unit]).await
}

async fn run(arguments: &[&str]) -> Result<(), SystemctlError> {
    let action = arguments.join(" ");
    let child = Command::new("systemctl")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(LIMIT, child).await {
        Err(_) => Err(SystemctlError::Timeout { action }),
        Ok(Err(source)) => Err(SystemctlError::Run { action, source }),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(SystemctlError::Refused {
            action,
            complaint: String::from_utf8_lossy(&output.stderr)
                .trim()
                .chars()
                .take(MAX_COMPLAINT)
                .collect(),
        }),
    }
}
