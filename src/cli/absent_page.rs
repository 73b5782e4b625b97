//! The status page where no agent answers. In: [`AbsentAgent`]. Out: lines, fit for a terminal. Pure.

use std::fmt::Write as _;

use super::safe::safe;
use super::text::{order_line, override_line, stopped_line, time};
use crate::control::status::AbsentAgent;

/// The status page where no agent answers.
pub(super) fn page(status: &AbsentAgent) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{label:<14}{}", safe(&value));
    };
    let is_well = status.agent.starts_with("well");
    line("Agent", absence(status, is_well));
    line("Kernel", status.kernel.clone());
    let wanted = if status.orders.is_empty() {
        "nothing is ordered".to_owned()
    } else if status.mode == "observe" {
        format!(
            "{} is ordered; in mode observe an agent only counts it",
            status.wanted
        )
    } else {
        format!("{} is ordered", status.wanted)
    };
    line("Journal", wanted);
    for order in &status.orders {
        line("  order", order_line(order));
    }
    if let Some(rolled_back) = &status.rolled_back {
        line(
            "  gave up",
            format!("{} at {}", rolled_back.why, time(Some(rolled_back.at))),
        );
    }
    if let Some(overridden) = &status.overridden {
        line("  override", override_line(overridden));
    }
    for stopped in &status.stopped {
        line("  stopped", stopped_line(stopped));
    }
    match status.guard {
        Some(pid) => line(
            "Guard",
            format!("process {pid} stands by; it starts an agent when nobody holds the state directory"),
        ),
        None => line("Guard", "nobody stands by".to_owned()),
    }
    let step = if is_well {
        "ask it there: --control-socket names the place"
    } else {
        "restart the component io.edgewarden.Agent and look into its log"
    };
    line("Next step", step.to_owned());
    if !status.orders.is_empty() && !is_well {
        line(
            "",
            "`edgewarden release --override --reason TEXT` opens the device without an agent".to_owned(),
        );
    }
    text
}

/// Who is not there, and since when.
fn absence(status: &AbsentAgent, is_well: bool) -> String {
    let agent = &status.agent;
    // Whoever is there and cannot be asked may hear the cloud all the same.
    let is_there = ["starting", "not listening"]
        .iter()
        .any(|word| agent.starts_with(word));
    let heard = match (is_well, is_there) {
        (true, _) => "",
        (_, true) => "; whether orders are heard is not known",
        _ => "; orders are NOT heard",
    };
    match (status.pid, status.since) {
        (Some(pid), since) => format!("{agent}: process {pid}, which runs since {}{heard}", time(since)),
        (None, Some(since)) => format!("{agent}, last record at {}{heard}", time(Some(since))),
        (None, None) => format!("{agent}{heard}"),
    }
}
