//! `edgewarden orders`: who wants what, and what each order lets through.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::without_agent::WithoutAgent;
use super::{Failure, out, out_json, place, plan_page, safe, text};
use crate::control::client::ask;
use crate::control::question::GetStatus;
use crate::control::status::OrderList;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: place::StateDirectory,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    match ask(socket, GetStatus {}) {
        Ok(status) => show(arguments, &OrderList::from(status.enforcement)),
        Err(error) => {
            let without = WithoutAgent::after(error, &arguments.state, socket)?;
            show(arguments, &OrderList::from(without.look()?)).and(Err(without.failure))
        }
    }
}

fn show(arguments: &Arguments, list: &OrderList) -> Result<(), Failure> {
    if arguments.json {
        // Members in the order of the alphabet, as those of every answer.
        return out_json(&json!(list));
    }
    let mut page = String::new();
    if list.orders.is_empty() {
        page.push_str("no live order\n");
    }
    for order in &list.orders {
        let _ = writeln!(page, "{}", safe::safe(&text::order_line(order)));
        let mut part = |label: &str, value: String| {
            let _ = writeln!(page, "{label:<14}{}", safe::safe(&value));
        };
        let carries = order.carries();
        if !carries.is_empty() {
            part("  carries", carries);
        }
        order
            .allow
            .iter()
            .for_each(|allowance| part("  allowed", plan_page::allowance_line(allowance)));
    }
    text::rejections(
        list.rejected.as_deref().unwrap_or_default(),
        &mut |label, value| {
            let _ = writeln!(page, "{label:<14}{}", safe::safe(&value));
        },
    );
    out(&page)
}
