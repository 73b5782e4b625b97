//! `edgewarden release`: the operator ends the quarantine.

use std::path::Path;

use super::{Failure, out, text};
use crate::control::client::ask;
use crate::control::question::ReleaseOrders;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Break glass: end every order, also the cloud's; each stays ended until its authority wants something else.
    #[arg(long = "override", requires = "reason")]
    everything: bool,
    /// Why; it is kept, shown and reported to the cloud.
    #[arg(long)]
    reason: Option<String>,
}

pub(super) fn run(arguments: Arguments, socket: &Path) -> Result<(), Failure> {
    let question = ReleaseOrders {
        everything: arguments.everything,
        reason: arguments.reason,
    };
    out(&text::status(&ask(socket, question)?))
}
