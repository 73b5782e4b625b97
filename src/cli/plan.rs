//! `edgewarden plan`: what is done now, or would be with an order.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::without_agent::WithoutAgent;
use super::{Failure, order_file, out, out_json, place, plan_page};
use crate::control::client::{ask, ask_json};
use crate::control::question::PreviewPlan;
use crate::quarantine::plan::preview::PlanPreview;

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
    #[command(flatten)]
    state: place::StateDirectory,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let order = arguments.order.as_deref().map(order_file::read).transpose()?;
    let question = PreviewPlan { order: order.clone() };
    let answer = if arguments.json {
        ask_json(socket, question).map(|preview| out_json(&preview))
    } else {
        ask(socket, question).map(|preview| show(arguments, &preview))
    };
    answer.or_else(|error| {
        let without = WithoutAgent::after(error, &arguments.state, socket)?;
        let preview = without.plan(order.as_ref())?;
        let shown = if arguments.json {
            // Members in the order of the alphabet, as those of every answer.
            out_json(&json!(preview))
        } else {
            show(arguments, &preview)
        };
        shown.and(Err(without.failure))
    })?
}

fn show(arguments: &Arguments, preview: &PlanPreview) -> Result<(), Failure> {
    if arguments.nft {
        // Its words are ours: names of devices and of cgroups are checked before they get into it.
        return out(&preview.text);
    }
    out(&plan_page::page(&preview.plan))
}
