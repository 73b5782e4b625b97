//! Whether what the operator ordered is done: an instruction that was taken is not yet one that holds.
//!
//! In: the state after it. Out: nothing, or a sentence that says what is not as ordered and what helps. Pure.

use super::plan_page::allowance_line;
use crate::quarantine::orders::order::{Authority, Order, Posture};
use crate::quarantine::plan::overruled::{Overruled, overruled};
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::state::{Phase, State};

/// What the operator did.
#[derive(Clone, Copy)]
enum Deed {
    Order,
    Release,
}

/// After a release; `ended_one`: an order was there to be ended.
///
/// # Errors
/// What is not released, and what helps.
pub(super) fn release(state: &State, ended_one: bool) -> Result<(), String> {
    // First: what else is amiss is the others' orders'.
    if !ended_one && !state.orders.is_empty() {
        return Err(format!(
            "you hold no order, so nothing was released: still {}; to end it: `edgewarden release --override --reason TEXT`",
            held_by(state)
        ));
    }
    carried_out(state, Deed::Release)?;
    kept(state, Deed::Release)
}

/// After a release that the command line carried out itself; `rival`: why somebody may undo it.
///
/// # Errors
/// What is not released, does not last, or is not recorded, and what helps.
pub(super) fn release_alone(state: &State, rival: Option<&str>) -> Result<(), String> {
    carried_out(state, Deed::Release)?;
    kept(state, Deed::Release)?;
    lasts(rival)?;
    // An agent would record it later.
    state.history_fault.as_ref().map_or(Ok(()), |fault| {
        Err(format!("released, and the history says nothing of it: {fault}"))
    })
}

/// After a release before everything is removed: with the journal goes what it says. `rival` as above.
///
/// # Errors
/// What is not released, or does not last, and what helps.
pub(super) fn release_before_removal(state: &State, rival: Option<&str>) -> Result<(), String> {
    carried_out(state, Deed::Release)?;
    lasts(rival)
}

fn lasts(rival: Option<&str>) -> Result<(), String> {
    rival.map_or(Ok(()), |why| {
        Err(format!("released for the moment, but {why}: it may be undone"))
    })
}

/// A release that the command line carried out itself where other orders live; `left`: how the kernel is not as they want it.
pub(super) fn others_live(left: &str) -> String {
    format!(
        "your order has ended, and the kernel holds what it wanted until an agent is back ({left}); to open the device: \
         `edgewarden release --override --reason TEXT`"
    )
}

/// A release where the operator holds no order.
pub(super) fn nothing_of_yours(orders: &[Order]) -> String {
    let names: Vec<String> = orders.iter().map(name).collect();
    let held = if names.is_empty() {
        "the journal knows no order".to_owned()
    } else {
        format!("orders live of {}", names.join(", "))
    };
    format!(
        "you hold no order, so nothing was released ({held}); to open the device all the same: `edgewarden release --override \
         --reason TEXT`"
    )
}

/// After an order of the operator.
///
/// # Errors
/// What of it does not hold, and what helps.
pub(super) fn order(state: &State) -> Result<(), String> {
    carried_out(state, Deed::Order)?;
    let own = state
        .orders
        .iter()
        .find(|order| order.authority == Authority::Operator);
    let Some(own) = own else {
        return Err("the order is not live any more: it has ended, or was taken back meanwhile".to_owned());
    };
    match state.phase {
        Phase::Observed => {
            return Err("mode observe: what the order would cut is counted, and nothing is cut".to_owned());
        }
        Phase::RolledBack => {
            let why = state.rolled_back.as_ref().map(|release| release.why.as_str());
            return Err(format!("the order was given up: {}", why.unwrap_or("?")));
        }
        Phase::Starting | Phase::Released | Phase::Provisional | Phase::Enforced | Phase::Failed => {}
    }
    if !state.left_running.is_empty() {
        return Err(format!(
            "processes go on running: {}",
            state.left_running.join("; ")
        ));
    }
    kept(state, Deed::Order)?;
    let overruled = overruled(own, &state.orders);
    if overruled.is_empty() {
        return Ok(());
    }
    let overruled: Vec<String> = overruled.iter().map(because).collect();
    Err(format!(
        "the order holds, but not all that it allows: {}",
        overruled.join("; ")
    ))
}

/// Whether the kernel and the processes are as all orders together want it.
fn carried_out(state: &State, deed: Deed) -> Result<(), String> {
    let amiss: Vec<String> = state
        .obstacles
        .iter()
        .filter(|obstacle| state.phase == Phase::Failed || obstacle.is_of_processes())
        .map(with_next_step)
        .collect();
    if state.phase != Phase::Failed && amiss.is_empty() {
        return Ok(());
    }
    let what = match deed {
        Deed::Order => "the order",
        Deed::Release => "the release",
    };
    Err(format!(
        "{what} was taken and is NOT carried out: {}",
        amiss.join("; ")
    ))
}

/// Whether it is on disk: what a restart forgets is not done.
fn kept(state: &State, deed: Deed) -> Result<(), String> {
    let not_kept = |obstacle: &&Obstacle| matches!(obstacle, Obstacle::JournalNotWritten { .. });
    let Some(obstacle) = state.obstacles.iter().find(not_kept) else {
        return Ok(());
    };
    let what = match deed {
        Deed::Order => "the order holds for the moment",
        Deed::Release => "released for the moment",
    };
    Err(format!("{what}, but {}", with_next_step(obstacle)))
}

fn with_next_step(obstacle: &Obstacle) -> String {
    format!("{obstacle}; {}", obstacle.next_step())
}

fn because(overruled: &Overruled<'_>) -> String {
    let Overruled {
        allowance,
        by,
        order,
        blocks,
    } = overruled;
    let how = if *blocks { "blocks it" } else { "does not allow it" };
    format!(
        "{} has no effect: {by} ({order}) {how}",
        allowance_line(allowance)
    )
}

/// What holds, and by whom.
fn held_by(state: &State) -> String {
    let names: Vec<String> = state.orders.iter().map(name).collect();
    let what = match state.posture.unwrap_or(state.wanted) {
        Posture::Normal => "ordered",
        Posture::Restrict => "RESTRICTED",
        Posture::Isolate => "ISOLATED",
    };
    format!("{what} by {}", names.join(", "))
}

fn name(order: &Order) -> String {
    format!("{} ({})", order.authority, order.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn a_release_of_nothing_says_so_before_what_others_orders_have_not_done() {
        let what = "process 7 (rogue) was killed and has not ended".to_owned();
        let of_the_cloud = |obstacles| State {
            phase: Phase::Enforced,
            posture: Some(Posture::Isolate),
            orders: vec![Order::isolate(
                Authority::Shadow,
                "inc-1",
                None,
                Timestamp::UNIX_EPOCH,
            )],
            obstacles,
            ..State::default()
        };
        let state = of_the_cloud(vec![Obstacle::ProcessRuns { what }]);
        for ended_one in [false, true] {
            let told = release(&state, ended_one).unwrap_err();
            let is_nothing = told.starts_with("you hold no order, so nothing was released: still ISOLATED");
            assert_eq!(is_nothing, !ended_one, "{told}");
        }
        assert_eq!(release(&of_the_cloud(Vec::new()), true), Ok(()), "control");
    }
}
