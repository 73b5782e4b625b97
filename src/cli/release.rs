//! `edgewarden release`: the operator ends the quarantine, with an agent or without one.

use std::path::Path;

use super::without_agent::{Outcome, WithoutAgent, check_release};
use super::{Failure, done, environment, out, place, safe, text};
use crate::control::ask_error::AskError;
use crate::control::client::ask;
use crate::control::question::{GetStatus, ReleaseOrders};
use crate::control::status::Status;
use crate::host::clock;
use crate::host::log::LogStream;
use crate::quarantine::orders::order::{Authority, Order};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Break glass: end every order, also the cloud's; each stays ended until its authority wants something else.
    #[arg(long = "override", requires = "reason")]
    everything: bool,
    /// Why; it is kept in the history. With --override it is shown and reported to the cloud, too.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    state: place::StateDirectory,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let question = ReleaseOrders {
        everything: arguments.everything,
        reason: arguments.reason.clone(),
    };
    check_release(question.everything, question.reason.as_deref())?;
    match asked(socket, &question) {
        Ok(answered) => answered,
        Err(error) => by_itself(arguments, socket, error, &question)?,
    }
}

/// The agent is asked; an error is one of asking.
fn asked(socket: &Path, question: &ReleaseOrders) -> Result<Result<(), Failure>, AskError> {
    let is_operators = |order: &Order| order.authority == Authority::Operator;
    // What the operator holds is asked for only where it counts: each question is one more that may have no answer.
    let ends_one = question.everything
        || ask(socket, GetStatus {})?
            .enforcement
            .orders
            .iter()
            .any(is_operators);
    let Status { enforcement, .. } = ask(socket, question.clone())?;
    let told = done::release(&enforcement, ends_one);
    Ok(out(&text::after(&enforcement, clock::now().wall)).and(told.map_err(Failure::from)))
}

fn by_itself(
    arguments: &Arguments,
    socket: &Path,
    error: AskError,
    question: &ReleaseOrders,
) -> Result<Result<(), Failure>, Failure> {
    let _log = environment::log("off", LogStream::Error);
    let without = WithoutAgent::after_release(error, &arguments.state, socket)?;
    let release = |without: &WithoutAgent| without.release(question.everything, question.reason.as_deref());
    let mut outcome = release(&without)?;
    if let Outcome::Alive(there) = &outcome {
        match asked(there, question) {
            Ok(answered) => return Ok(answered),
            Err(error) => outcome = release(&without.after_all(&error))?,
        }
    }
    Ok(match outcome {
        Outcome::Alive(there) => Err(format!("the agent at {} has to be asked", there.display()).into()),
        Outcome::Nothing(orders) => Err(done::nothing_of_yours(&orders).into()),
        Outcome::CarriedOut {
            state,
            found,
            rival,
            unknown_rules,
            left,
        } => {
            let told = done::release_alone(&state, rival.as_deref()).and_then(|()| match left {
                _ if unknown_rules => Err(elsewhere(&arguments.state.path)),
                Some(left) => Err(done::others_live(&left)),
                None => Ok(()),
            });
            let mut page = format!("{}\n", safe::safe(&found));
            if state.orders.is_empty() {
                page.push_str(&text::after(&state, clock::now().wall));
            } else {
                page.push_str("your order has ended; the kernel stays as it is until an agent is back, because others live:\n");
                for order in &state.orders {
                    page.push_str(&format!("  {}\n", safe::safe(&text::order_line(order))));
                }
            }
            out(&page).and(told.map_err(Failure::from))
        }
    })
}

fn elsewhere(state: &Path) -> String {
    format!(
        "the rules are lifted, and whether they stay away is not known: the journal in {} knew nothing of them, and an agent \
         that keeps its state elsewhere puts them back; name that place with --state-dir",
        state.display()
    )
}
