//! `edgewarden status`: what is going on.

use std::path::Path;

use super::{Failure, out, out_json, safe, text};
use crate::control::client::{AskError, ask, ask_json};
use crate::control::question::GetStatus;
use crate::control::status::AbsentAgent;
use crate::host::netfilter::kernel::NftKernel;
use crate::quarantine::ruleset::TABLE;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let shown = if arguments.json {
        ask_json(socket, GetStatus {}).map(|status| out_json(&status))
    } else {
        ask(socket, GetStatus {}).map(|status| out(&text::status(&status)))
    };
    shown.or_else(|error: AskError| {
        if error.is_nobody() {
            without_agent(arguments)?;
        }
        Err(Failure::from(error))
    })?
}

/// The kernel keeps the rules of an agent that is gone; say so.
fn without_agent(arguments: &Arguments) -> Result<(), Failure> {
    let kernel = match NftKernel::open().and_then(|mut kernel| kernel.tables()) {
        Ok(tables) if tables.is_empty() => "the kernel holds no rules of Edgewarden".to_owned(),
        Ok(tables) => {
            let tables: Vec<String> = tables.iter().map(|layer| format!("{layer} {TABLE}")).collect();
            format!(
                "the kernel holds Edgewarden's rules (table {})",
                tables.join(", ")
            )
        }
        Err(error) => format!("the kernel's rules cannot be read: {}", crate::error_text(&error)),
    };
    if arguments.json {
        out_json(&AbsentAgent {
            agent: "not running".to_owned(),
            kernel,
        })
    } else {
        out(&format!(
            "Agent         not running\nKernel        {}\n",
            safe::safe(&kernel)
        ))
    }
}
