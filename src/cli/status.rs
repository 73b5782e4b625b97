//! `edgewarden status`: what is going on.

use std::path::Path;

use serde_json::json;

use super::{Failure, out, safe, text};
use crate::control::client::ask;
use crate::control::protocol::Request;
use crate::control::status::Status;
use crate::host::netfilter::kernel::NftKernel;
use crate::quarantine::ruleset::TABLE;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    match ask(socket, &Request::Status) {
        Ok(value) if arguments.json => out(&safe::json(&value).map_err(|error| Failure::new(&error))?),
        Ok(value) => {
            let status: Status =
                serde_json::from_value(value).map_err(|error| Failure::unreadable(&error))?;
            out(&text::status(&status))
        }
        Err(error) if error.is_nobody() => {
            without_agent(arguments)?;
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
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
        let value = json!({ "agent": "not running", "kernel": kernel });
        out(&safe::json(&value).map_err(|error| Failure::new(&error))?)
    } else {
        out(&format!(
            "Agent         not running\nKernel        {}\n",
            safe::safe(&kernel)
        ))
    }
}
