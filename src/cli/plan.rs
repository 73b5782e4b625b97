//! `edgewarden plan`: what is done now, or would be with an order.

use std::path::{Path, PathBuf};

use super::{Failure, order_file, out, out_json, plan_page};
use crate::control::client::{ask, ask_json};
use crate::control::question::PreviewPlan;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Add this order of the operator, from a file or, as -, from standard input; it stands for the one that holds.
    #[arg(long, value_name = "FILE")]
    order: Option<PathBuf>,
    /// Print the exact transaction for the packet filter, as `nft -f` reads it.
    #[arg(long, conflicts_with = "json")]
    nft: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let order = arguments.order.as_deref().map(order_file::read).transpose()?;
    let question = PreviewPlan { order };
    if arguments.json {
        return out_json(&ask_json(socket, question)?);
    }
    let preview = ask(socket, question)?;
    if arguments.nft {
        // Its words are ours: names of devices and of cgroups are checked before they get into it.
        return out(&preview.text);
    }
    out(&plan_page::page(&preview.plan))
}
