//! `edgewarden quarantine`: the operator isolates the device.

use std::path::Path;

use super::{Failure, out, text};
use crate::control::client::ask;
use crate::control::protocol::Request;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Why; it is kept, shown and reported to the cloud.
    #[arg(long)]
    reason: String,
    /// End by itself after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    expires_seconds: Option<u64>,
}

pub(super) fn run(arguments: Arguments, socket: &Path) -> Result<(), Failure> {
    let request = Request::Quarantine {
        reason: arguments.reason,
        expires_seconds: arguments.expires_seconds,
    };
    show(ask(socket, &request)?)
}

/// Shows the status after an instruction.
pub(super) fn show(value: serde_json::Value) -> Result<(), Failure> {
    let status = serde_json::from_value(value).map_err(|error| Failure::unreadable(&error))?;
    out(&text::status(&status))
}
