//! The operator's release without an agent.
//!
//! A plain release touches nothing but what the journal knows as the operator's: where other orders live the kernel is left as
//! it is, because only an agent knows the nucleus, which must not be stopped or cut, and hears whether the cloud still comes
//! through. Where the journal knows nothing of the operator's, or cannot be read, nothing is done at all: the rules in the
//! kernel may be somebody's whose state is elsewhere. That he holds none is said only where nobody else may know of one: not
//! beside an agent that is there and could not be understood, nor behind a journal that was damaged.

use std::path::PathBuf;

use super::possession::{Possession, possess};
use super::{DISK_LIMIT, Elsewhere, Places, look};
use crate::agent::control::operator;
use crate::agent::enforcer::HostMachine;
use crate::control::status::AbsentAgent;
use crate::quarantine::history::Event;
use crate::quarantine::orders::order::{Authority, Order};
use crate::quarantine::proof::state::State;

/// What came of it.
pub(crate) enum Outcome {
    /// It was carried out as far as it could be.
    CarriedOut {
        /// How things stand now.
        state: Box<State>,
        /// What was found in the agent's place, for people.
        found: String,
        /// Why it may be undone: the lock could not be had, the agent's rules may be elsewhere, the journal could not be read.
        rival: Option<String>,
        /// The kernel held rules of ours of which the journal knew nothing: their agent's state may be elsewhere.
        unknown_rules: bool,
        /// Where other orders live: how the kernel is not as they want it, until an agent is back.
        left: Option<String>,
    },
    /// Nothing was done: the journal knows no order of the operator's. What it does know.
    Nothing(Vec<Order>),
    /// An agent is well, and is to be asked there.
    Alive(PathBuf),
}

/// Ends the operator's order, or `everything`, which the next agent tells the cloud.
///
/// # Errors
/// What is wrong with the reason, or with where the command is, in a sentence for the operator.
pub(crate) async fn release(
    places: &Places,
    everything: bool,
    reason: Option<&str>,
) -> Result<Outcome, String> {
    let command = operator::release(everything, reason)?;
    let elsewhere = match places.elsewhere().await {
        Some(elsewhere @ Elsewhere::Is(_)) => return Err(elsewhere.to_string()),
        elsewhere => elsewhere,
    };
    let unread = places.unread_journal().await;
    let (AbsentAgent { orders, .. }, tables, remembered) = look::see(places).await;
    if !everything && !remembered.operators {
        let refusal = places.refusal.as_ref().map(|refusal| refusal.why.clone());
        let unknown = unread.or(refusal).or_else(|| damage(&orders));
        return unknown.map_or(Ok(Outcome::Nothing(orders)), |why| {
            Err(format!(
                "{why}: whether you hold an order is not known, and nothing was done; to open the device all the same: \
                 `edgewarden release --override --reason TEXT`"
            ))
        });
    }
    let (lock, found, rival) = match possess(places).await {
        Possession::Alive(socket) => return Ok(Outcome::Alive(socket)),
        Possession::Ours { lock, found, rival } => (lock, found, rival),
    };
    let (socket, settings) = places.begin().await;
    let machine = HostMachine::new(&places.state)
        .sheltered(&socket)
        .read_within(DISK_LIMIT);
    let begin = Event::WithoutAgent { why: found.clone() };
    let mut enforcer = super::enforcer(machine.clone(), settings, begin).await;
    enforcer.release_alone(command).await;
    let state = Box::new(enforcer.state().clone());
    let left = if state.orders.is_empty() || enforcer.observes() {
        None
    } else {
        enforcer
            .look()
            .await
            .1
            .map_or_else(Some, |seen| seen.differences.into_iter().next())
    };
    drop(enforcer);
    machine.last_words().await;
    // Held to the end: an agent that starts meanwhile waits for it.
    drop(lock);
    Ok(Outcome::CarriedOut {
        state,
        found,
        rival: rival
            .or(elsewhere.map(|elsewhere| elsewhere.to_string()))
            .or(unread),
        unknown_rules: tables > 0 && !remembered.rules,
        left,
    })
}

/// What was wrong with the journal, where something was: the orders that it held are not known.
fn damage(orders: &[Order]) -> Option<String> {
    let recovery = orders
        .iter()
        .find(|order| order.authority == Authority::Recovery)?;
    Some(recovery.reason.clone().unwrap_or_else(|| recovery.id.clone()))
}
