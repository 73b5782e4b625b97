//! `edgewarden quarantine`: the operator isolates the device, or gives another order.

use std::path::{Path, PathBuf};

use super::{Failure, order_file, out, text};
use crate::control::client::ask;
use crate::control::protocol::Request;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Why; it is kept, shown and reported to the cloud. With --order the file may say it.
    #[arg(long, required_unless_present = "order")]
    reason: Option<String>,
    /// End by itself after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    expires_seconds: Option<u64>,
    /// Give this order instead of plain isolation: restrict, allow, limit, stop processes. From a file or, as -, from
    /// standard input; `edgewarden schema order` describes it, `edgewarden plan --order` shows what it would do.
    #[arg(long, value_name = "FILE")]
    order: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments, socket: &Path) -> Result<(), Failure> {
    let Arguments {
        reason,
        expires_seconds,
        order,
    } = arguments;
    let request = match order {
        Some(file) => Request::Order {
            order: order_file::read(&file)?,
            reason,
            expires_seconds,
        },
        None => Request::Quarantine {
            // clap wants a reason where there is no order.
            reason: reason.unwrap_or_default(),
            expires_seconds,
        },
    };
    show(ask(socket, &request)?)
}

/// Shows the status after an instruction.
pub(super) fn show(value: serde_json::Value) -> Result<(), Failure> {
    let status = serde_json::from_value(value).map_err(|error| Failure::unreadable(&error))?;
    out(&text::status(&status))
}
