//! `edgewarden orders`: who wants what.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::{Failure, out, safe, text};
use crate::control::client::ask;
use crate::control::protocol::Request;
use crate::control::status::Status;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let value = ask(socket, &Request::Status)?;
    let status: Status = serde_json::from_value(value).map_err(|error| Failure::unreadable(&error))?;
    let state = &status.enforcement;
    if arguments.json {
        let value =
            json!({ "orders": state.orders, "rejected": state.rejected, "overridden": state.overridden });
        return out(&safe::json(&value).map_err(|error| Failure::new(&error))?);
    }
    let mut page = String::new();
    if state.orders.is_empty() {
        page.push_str("no live order\n");
    }
    for order in &state.orders {
        let _ = writeln!(page, "{}", safe::safe(&text::order_line(order)));
    }
    text::rejections(state, &mut |label, value| {
        let _ = writeln!(page, "{label:<14}{}", safe::safe(&value));
    });
    out(&page)
}
