//! `edgewarden status`: what is going on, also where no agent answers.

use std::path::Path;

use serde_json::json;

use super::without_agent::WithoutAgent;
use super::{Failure, absent_page, out, out_json, place, text};
use crate::control::client::{ask, ask_json};
use crate::control::question::GetStatus;
use crate::host::clock;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: place::StateDirectory,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let shown = if arguments.json {
        ask_json(socket, GetStatus {}).map(|status| out_json(&status))
    } else {
        ask(socket, GetStatus {}).map(|status| out(&text::status(&status, clock::now().wall)))
    };
    shown.or_else(|error| {
        let without = WithoutAgent::after(error, &arguments.state, socket)?;
        let status = without.look()?;
        let shown = if arguments.json {
            // Members in the order of the alphabet, as those of every answer.
            out_json(&json!(status))
        } else {
            out(&absent_page::page(&status))
        };
        shown.and(Err(without.failure))
    })?
}
