//! `edgewarden orders`: who wants what.

use std::path::Path;

use serde_json::json;

use super::{Failure, text};
use crate::agent::board::Status;
use crate::control::client::ask;
use crate::control::protocol::Request;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let value = ask(socket, &Request::Status)?;
    let status: Status = serde_json::from_value(value).map_err(|error| Failure::new(&error))?;
    let state = &status.enforcement;
    if arguments.json {
        println!(
            "{}",
            json!({ "orders": state.orders, "rejected": state.rejected, "overridden": state.overridden })
        );
        return Ok(());
    }
    if state.orders.is_empty() {
        println!("no live order");
    }
    for order in &state.orders {
        println!("{}", text::order_line(order));
    }
    text::rejections(state, &mut |label, value| println!("{label:<13}{value}"));
    Ok(())
}
