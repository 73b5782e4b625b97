//! What is worth a record. In: nothing. Out: [`Event`], as JSON with its `kind`, and as a sentence for people.
//!
//! Texts of others (reasons, ids, names) stand here as they came; [`super::record`] bounds them, `cli::safe` makes them
//! fit for a terminal.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::quarantine::orders::order::{Authority, Order, Posture, ProcessAction};
use crate::quarantine::plan::{Plan, PlanId, Scope};

/// Who did something, as far as the kernel told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub pid: u32,
    /// `comm`: at most 15 bytes, chosen by the process itself.
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    Started {
        version: String,
    },
    /// The agent was told to stop; the kernel keeps what it has.
    Stopped,
    /// A command of the operator was carried out by itself, because no agent answered.
    WithoutAgent {
        /// What was found in the agent's place, and what became of it.
        why: String,
    },
    /// The journal could not be read.
    JournalDamaged {
        /// What is wrong with it, and where it is kept.
        what: String,
    },
    /// An authority gave an order, or changed its own.
    Ordered {
        authority: Authority,
        /// The authority's name for the order.
        order: String,
        posture: Posture,
        reason: Option<String>,
        /// When it ends by itself.
        expires: Option<Timestamp>,
    },
    /// A wish could not be read and changed nothing.
    Refused {
        authority: Authority,
        faults: Vec<String>,
    },
    /// An order was taken back.
    Released {
        authority: Authority,
        order: String,
        /// Who took it back.
        by: Authority,
        /// Why, where a person said so.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// An order ended by itself.
    Expired {
        authority: Authority,
        order: String,
    },
    /// The operator ended every order.
    Overridden {
        reason: String,
        /// Which, each with its authority.
        orders: Vec<String>,
    },
    /// Orders ended because no nucleus was there through which they could have been taken back.
    ReleasedWithoutNucleus {
        /// How long nobody was there, and who wanted it so.
        why: String,
        /// Which, each with its authority.
        orders: Vec<String>,
    },
    /// Another plan follows from the orders.
    Planned {
        plan: PlanId,
        posture: Posture,
        /// How exactly the control channel's lifeline is drawn.
        scope: Scope,
        /// The orders it follows from, each with its authority.
        orders: Vec<String>,
        /// Why it is not carried out.
        held_back: Option<String>,
    },
    /// A plan was loaded into the kernel.
    Applied {
        plan: PlanId,
        /// What was loaded: layers, counts.
        what: String,
    },
    /// The kernel was read back and holds the plan; nothing left that should not.
    Verified {
        plan: PlanId,
        posture: Posture,
    },
    /// Other addresses of lifelines pass than before.
    Lifelines {
        /// Those that came, each with who says so.
        opened: Vec<String>,
        /// Those that went.
        closed: Vec<String>,
    },
    /// The control channel works behind the rules.
    Confirmed {
        plan: PlanId,
    },
    /// The control channel was silent: its lifelines were widened.
    Widened {
        plan: PlanId,
    },
    /// The control channel stayed silent: the plan was given up.
    RolledBack {
        plan: PlanId,
        why: String,
    },
    /// Somebody changed the rules; they were put back.
    Reasserted {
        /// Who, when the kernel told.
        by: Option<Actor>,
        what: String,
    },
    /// Something stands in the way of what is ordered.
    Failed {
        /// Each new fault.
        faults: Vec<String>,
    },
    ProcessStopped {
        pid: u32,
        /// `comm`: at most 15 bytes, chosen by the process itself.
        name: String,
        /// Path of the program; `None` where it cannot be read.
        exe: Option<String>,
        action: ProcessAction,
    },
    /// A frozen process runs again.
    ProcessFreed {
        pid: u32,
        /// `comm`: at most 15 bytes, chosen by the process itself.
        name: String,
    },
    /// A frozen process was found to have run: others let it go on. Recorded at each doubling of `times`.
    ProcessContested {
        pid: u32,
        /// `comm`: at most 15 bytes, chosen by the process itself.
        name: String,
        /// How often, since the agent started.
        times: u32,
    },
    /// A frozen process is let go, and stays stopped: its owner had stopped it before.
    ProcessLeftStopped {
        pid: u32,
        /// `comm`: at most 15 bytes, chosen by the process itself.
        name: String,
    },
    /// A frozen process has ended without having run again.
    ProcessEnded {
        pid: u32,
        /// `comm`: at most 15 bytes, chosen by the process itself.
        name: String,
    },
    /// The end of the file was torn: power was lost while a record was written. It was cut off.
    Torn {
        bytes: u64,
        /// How they began.
        begin: String,
    },
    /// The history is not as the agent left it.
    Damaged {
        what: String,
    },
    /// Events without a record.
    Missed {
        count: u64,
        why: String,
    },
}

impl Event {
    /// An order that was taken.
    pub fn ordered(order: &Order) -> Self {
        Self::Ordered {
            authority: order.authority,
            order: order.id.clone(),
            posture: order.posture,
            reason: order.reason.clone(),
            expires: order.expires,
        }
    }

    /// A plan, the orders it follows from, and why it is not carried out if it is not.
    pub fn planned(plan: &Plan, orders: &[Order], held_back: Option<String>) -> Self {
        Self::Planned {
            plan: plan.id(),
            posture: plan.posture,
            scope: plan.drawn(),
            orders: names(orders),
            held_back,
        }
    }

    /// Whether others can make this happen as often as they like; such events have a [`super::EventBudget`].
    pub fn is_provoked(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. }
                | Self::Reasserted { .. }
                | Self::Failed { .. }
                | Self::ProcessStopped { .. }
                | Self::ProcessFreed { .. }
                | Self::ProcessContested { .. }
                | Self::ProcessLeftStopped { .. }
                | Self::ProcessEnded { .. }
        )
    }
}

/// Orders as `authority id`.
pub fn names(orders: &[Order]) -> Vec<String> {
    let name = |order: &Order| format!("{} {}", order.authority, order.id);
    orders.iter().map(name).collect()
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { version } => write!(f, "agent {version} started"),
            Self::WithoutAgent { why } => {
                write!(
                    f,
                    "the command line carried out the operator's will without an agent: {why}"
                )
            }
            Self::Stopped => f.write_str("agent stopped; the kernel keeps what it holds"),
            Self::JournalDamaged { what } => write!(f, "journal damaged: {what}"),
            Self::Torn { bytes, begin } => write!(
                f,
                "a torn record of {bytes} bytes was cut off the history: {begin}"
            ),
            Self::Damaged { what } => write!(f, "HISTORY CHANGED BY SOMEBODY: {what}"),
            Self::Missed { count, why } => write!(f, "{count} events have no record: {why}"),
            Self::ProcessStopped { .. }
            | Self::ProcessFreed { .. }
            | Self::ProcessContested { .. }
            | Self::ProcessLeftStopped { .. }
            | Self::ProcessEnded { .. } => self.of_processes(f),
            Self::Failed { faults } => write!(f, "not as it should be: {}", faults.join("; ")),
            Self::Ordered { .. }
            | Self::Refused { .. }
            | Self::Released { .. }
            | Self::Expired { .. }
            | Self::Overridden { .. }
            | Self::ReleasedWithoutNucleus { .. } => self.of_orders(f),
            _ => self.of_plans(f),
        }
    }
}

impl Event {
    fn of_orders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordered {
                authority,
                order,
                posture,
                reason,
                expires,
            } => {
                write!(f, "{posture} ordered by {authority} ({order})")?;
                if let Some(end) = expires {
                    write!(f, " until {end}")?;
                }
                reason.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Self::Refused { authority, faults } => {
                write!(f, "refused what {authority} wrote: {}", faults.join("; "))
            }
            Self::Released {
                authority,
                order,
                by,
                reason,
            } => {
                if by == authority {
                    write!(f, "order {order} taken back by {authority}")?;
                } else {
                    write!(f, "order {order} of {authority} ended by {by}")?;
                }
                reason.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Self::Expired { authority, order } => write!(f, "order {order} of {authority} expired"),
            Self::Overridden { reason, orders } => {
                write!(f, "operator ended every order ({}): {reason}", orders.join(", "))
            }
            Self::ReleasedWithoutNucleus { why, orders } => {
                write!(f, "ORDERS ENDED BY THEMSELVES ({}): {why}", orders.join(", "))
            }
            _ => Ok(()),
        }
    }

    fn of_processes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProcessStopped {
                pid,
                name,
                exe,
                action,
            } => {
                let action = match action {
                    ProcessAction::Freeze => "frozen",
                    ProcessAction::Kill => "killed",
                };
                write!(f, "process {name} ({pid}) {action}")?;
                exe.as_ref().map_or(Ok(()), |exe| write!(f, ": {exe}"))
            }
            Self::ProcessFreed { pid, name } => write!(f, "process {name} ({pid}) runs again"),
            Self::ProcessEnded { pid, name } => write!(f, "process {name} ({pid}) ended while frozen"),
            Self::ProcessContested { pid, name, times } => write!(
                f,
                "process {name} ({pid}) CONTESTED: found to have run {times} times since it was frozen"
            ),
            Self::ProcessLeftStopped { pid, name } => write!(
                f,
                "process {name} ({pid}) is let go and stays stopped, as it was found"
            ),
            _ => Ok(()),
        }
    }

    fn of_plans(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Planned {
                plan,
                posture,
                scope,
                orders,
                held_back,
            } => {
                write!(f, "plan {plan}: {posture}")?;
                if *scope == Scope::Wide {
                    f.write_str(" with wide lifelines")?;
                }
                if !orders.is_empty() {
                    write!(f, " for {}", orders.join(", "))?;
                }
                held_back
                    .as_ref()
                    .map_or(Ok(()), |why| write!(f, "; not carried out: {why}"))
            }
            Self::Applied { plan, what } => write!(f, "plan {plan} loaded: {what}"),
            Self::Verified { plan, posture } => {
                write!(f, "plan {plan} read back and proven: {posture}")
            }
            Self::Lifelines { opened, closed } => {
                if !opened.is_empty() {
                    write!(f, "lifelines pass: {}", opened.join("; "))?;
                }
                if !closed.is_empty() {
                    write!(f, "lifelines do not pass any more: {}", closed.join("; "))?;
                }
                Ok(())
            }
            Self::Confirmed { plan } => {
                write!(f, "plan {plan} confirmed: the control channel works behind it")
            }
            Self::Widened { plan } => write!(f, "plan {plan}: control channel silent, lifelines widened"),
            Self::RolledBack { plan, why } => write!(f, "plan {plan} GIVEN UP: {why}"),
            Self::Reasserted { by, what } => {
                write!(f, "rules put back: {what}")?;
                by.as_ref()
                    .map_or(Ok(()), |by| write!(f, " by {} ({})", by.name, by.pid))
            }
            _ => Ok(()),
        }
    }
}
