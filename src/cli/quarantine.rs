//! `edgewarden quarantine`: the operator isolates the device, or gives another order.

use std::path::{Path, PathBuf};

use super::{Failure, done, order_file, out, text};
use crate::control::client::ask;
use crate::control::question::{GiveOrder, Isolate};
use crate::host::clock;

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
    let status = match order {
        Some(file) => ask(
            socket,
            GiveOrder {
                order: order_file::read(&file)?,
                reason,
                expires_seconds,
            },
        ),
        None => ask(
            socket,
            Isolate {
                // clap wants a reason where there is no order.
                reason: reason.unwrap_or_default(),
                expires_seconds,
            },
        ),
    };
    let status = status?;
    let told = out(&text::after_order(&status, clock::now().wall));
    told.and(done::order(&status.enforcement).map_err(Failure::from))
}
