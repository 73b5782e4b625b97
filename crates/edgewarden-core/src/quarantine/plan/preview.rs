//! What is done, or would be: a plan with all that follows from it, for a person who decides.
//!
//! In: the plan, the orders it follows from, the processes it names. Out: [`Outlook`], and [`Shown`] with the exact text
//! for the packet filter. Deliberately absent: any effect; whoever asks changes nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::processes::ProcessSelection;
use super::{Plan, PlanId, PlannedLimit, Scope};
use crate::process::Process;
use crate::quarantine::lifelines::lifeline::{Endpoint, Lifelines};
use crate::quarantine::orders::order::{Allowance, Authority, Block, Order, Posture, ProcessAction};
use crate::quarantine::ruleset::Layer;

/// An order without its lists, which are in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// Its name.
    pub id: String,
    /// Who wants it.
    pub authority: Authority,
    /// How strictly.
    pub posture: Posture,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub issued: Timestamp,
    /// Until when.
    pub expires: Option<Timestamp>,
}

/// How much an order lets out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitLine {
    /// Whose: `authority:id`.
    pub order: String,
    /// Bytes a second.
    pub bytes_per_second: Option<u64>,
    /// Bytes of the running period.
    pub quota_bytes: Option<u64>,
    /// When that ends.
    pub quota_until: Option<Timestamp>,
}

/// A process that a plan names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its number.
    pub pid: u32,
    /// Short name.
    pub name: String,
    /// Executable.
    pub exe: Option<String>,
    /// What is done to it; nothing when it is spared.
    pub action: Option<ProcessAction>,
    /// Why it is spared.
    pub spared: Option<String>,
}

/// What is done, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// The plan's id; none for normal.
    pub plan: Option<PlanId>,
    /// How strictly.
    pub posture: Posture,
    /// The orders it follows from.
    pub orders: Vec<OrderLine>,
    /// Why nothing of it is carried out.
    pub not_done: Option<String>,
    /// Lifelines that are on.
    pub lifelines: Lifelines,
    /// How exactly the control channel is drawn.
    pub scope: Scope,
    /// Addresses of the lifelines.
    pub endpoints: Vec<Endpoint>,
    /// Allowances that count.
    pub allow: Vec<Allowance>,
    /// What is cut besides the posture.
    pub block: Block,
    /// How much may leave; all of them hold.
    pub limits: Vec<LimitLine>,
    /// Where it is cut.
    pub layers: Vec<Layer>,
    /// What this kernel cannot cut, each a sentence.
    pub gaps: Vec<String>,
    /// Processes named that run now: stopped first, then spared.
    pub processes: Vec<Named>,
}

/// An outlook and its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// What is done.
    pub plan: Outlook,
    /// The transaction for `nft -f`.
    pub text: String,
}

/// Puts it together; what the kernel can and cannot do is left to who knows it.
pub fn outlook(
    plan: &Plan,
    orders: &[Order],
    not_done: Option<String>,
    selection: &ProcessSelection,
) -> Outlook {
    let stopped = selection
        .act
        .iter()
        .map(|(process, action)| named(process, Some(*action), None));
    let spared = selection
        .spared
        .iter()
        .map(|(process, why)| named(process, None, Some((*why).to_owned())));
    Outlook {
        plan: (!plan.is_normal()).then(|| plan.id()),
        posture: plan.posture,
        orders: orders.iter().map(line).collect(),
        not_done,
        lifelines: plan.lifelines.clone(),
        scope: plan.scope,
        endpoints: plan.endpoints.clone(),
        allow: plan.allow.clone(),
        block: plan.block.clone(),
        limits: plan.limits.iter().map(limit).collect(),
        layers: Vec::new(),
        gaps: Vec::new(),
        processes: stopped.chain(spared).collect(),
    }
}

fn line(order: &Order) -> OrderLine {
    OrderLine {
        id: order.id.clone(),
        authority: order.authority,
        posture: order.posture,
        reason: order.reason.clone(),
        issued: order.issued,
        expires: order.expires,
    }
}

fn limit(limit: &PlannedLimit) -> LimitLine {
    LimitLine {
        order: limit.order.clone(),
        bytes_per_second: limit.bytes_per_second,
        quota_bytes: limit.quota.map(|quota| quota.bytes),
        quota_until: limit.quota.map(|quota| quota.until),
    }
}

fn named(process: &Process, action: Option<ProcessAction>, spared: Option<String>) -> Named {
    Named {
        pid: process.identity.pid,
        name: process.name.clone(),
        exe: process.exe.clone(),
        action,
        spared,
    }
}
