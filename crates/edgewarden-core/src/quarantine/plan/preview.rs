//! What is done, or would be: a plan with all that follows from it, for a person who decides.
//!
//! In: the plan, the orders it follows from, the processes it names. Out: [`PlanEffects`], and [`PlanPreview`] with the
//! exact text for the packet filter. Deliberately absent: any effect; whoever asks changes nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::processes::ProcessSelection;
use super::{Plan, PlanId, PlannedLimit, Scope};
use crate::process::Process;
use crate::quarantine::lifelines::lifeline::{Endpoint, Lifelines};
use crate::quarantine::lifelines::origin::{LifelineAddress, Origin};
use crate::quarantine::lifelines::ways::Way;
use crate::quarantine::orders::order::{Allowance, Authority, Block, Order, Posture, ProcessAction};
use crate::quarantine::ruleset::Layer;

/// An order without its lists, which are in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// As its authority named it.
    pub id: String,
    /// Who gave it, and who alone can take it back.
    pub authority: Authority,
    /// What this order asks for; the strictest of all orders holds.
    pub posture: Posture,
    /// As its author wrote it, for people.
    pub reason: Option<String>,
    /// When the agent took it.
    pub issued: Timestamp,
    /// When it ends by itself; absent when it does not.
    pub expires: Option<Timestamp>,
}

/// How much an order lets out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitLine {
    /// The order it is of: `authority:id`.
    pub order: String,
    /// Steady rate; absent when the order sets none.
    pub bytes_per_second: Option<u64>,
    /// Bytes that the running period lets out.
    pub quota_bytes: Option<u64>,
    /// When that period ends and the next begins.
    pub quota_until: Option<Timestamp>,
}

/// A process that a plan names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLine {
    /// Of a process that ran when the preview was made.
    pub pid: u32,
    /// The kernel's command name; the process can change it.
    pub name: String,
    /// Path of the program; absent where it cannot be read.
    pub exe: Option<String>,
    /// What is done to it; nothing when it is spared.
    pub action: Option<ProcessAction>,
    /// Why it is spared.
    pub spared: Option<String>,
}

/// Processes shown: others may run as many as they like, and an answer has a size.
const MAX_PROCESSES: usize = 1_000;

/// All that follows from a plan, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanEffects {
    /// The plan's id; none for normal.
    pub plan: Option<PlanId>,
    /// The strictest that any order asks for.
    pub posture: Posture,
    /// The orders it follows from.
    pub orders: Vec<OrderLine>,
    /// Why nothing of it is carried out.
    pub not_done: Option<String>,
    /// Lifelines that are on.
    pub lifelines: Lifelines,
    /// How exactly the control channel is drawn.
    pub scope: Scope,
    /// Addresses of the lifelines, each with who says so.
    pub endpoints: Vec<LifelineAddress>,
    /// Lifelines that are on and have no address, each a sentence.
    #[serde(default)]
    pub missing: Vec<String>,
    /// By which interfaces and next hops alone these are reached; empty while they may be by any.
    #[serde(default)]
    pub ways: Vec<Way>,
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
    pub processes: Vec<ProcessLine>,
    /// How many more are named.
    #[serde(default)]
    pub more_processes: usize,
    /// Rules of processes that match none that runs now.
    #[serde(default)]
    pub idle_rules: Vec<String>,
    /// What whoever looked could not know and an agent knows; absent where nothing is.
    #[serde(default)]
    pub not_known: Option<String>,
}

/// What is done, or would be, in words and as the packet filter reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanPreview {
    /// For people and for programs that decide.
    pub plan: PlanEffects,
    /// The transaction for `nft -f`.
    pub text: String,
}

/// An address of which the plan does not know who says so.
fn of_nobody(endpoint: &Endpoint) -> LifelineAddress {
    LifelineAddress {
        endpoint: *endpoint,
        origin: Origin::default(),
        used: false,
    }
}

/// Says what follows from `plan`; `layers` and `gaps` are left to who knows the kernel, who says so and what is missing of the
/// lifelines to who knows their addresses, and the processes to who has listed them ([`PlanEffects::note_processes`]).
pub fn effects(plan: &Plan, orders: &[Order], not_done: Option<String>) -> PlanEffects {
    PlanEffects {
        plan: (!plan.is_normal()).then(|| plan.id()),
        posture: plan.posture,
        orders: orders.iter().map(order_line).collect(),
        not_done,
        lifelines: plan.lifelines.clone(),
        scope: plan.drawn(),
        endpoints: plan.endpoints.iter().map(of_nobody).collect(),
        missing: Vec::new(),
        ways: plan.ties().unwrap_or_default().to_vec(),
        allow: plan.allow.clone(),
        block: plan.block.clone(),
        limits: plan.limits.iter().map(limit_line).collect(),
        layers: Vec::new(),
        gaps: Vec::new(),
        processes: Vec::new(),
        more_processes: 0,
        idle_rules: Vec::new(),
        not_known: None,
    }
}

impl PlanEffects {
    /// Notes whom it means of those who run.
    pub fn note_processes(&mut self, selection: &ProcessSelection) {
        let stopped = selection.act.iter();
        let stopped = stopped.map(|(process, action)| process_line(process, Some(*action), None));
        let spared = selection.spared.iter();
        let spared = spared.map(|(process, why)| process_line(process, None, Some((*why).to_owned())));
        let mut all = stopped.chain(spared);
        self.processes = all.by_ref().take(MAX_PROCESSES).collect();
        self.more_processes = all.count();
        self.idle_rules = selection.idle.iter().map(ToString::to_string).collect();
    }
}

fn order_line(order: &Order) -> OrderLine {
    OrderLine {
        id: order.id.clone(),
        authority: order.authority,
        posture: order.posture,
        reason: order.reason.clone(),
        issued: order.issued,
        expires: order.expires,
    }
}

fn limit_line(limit: &PlannedLimit) -> LimitLine {
    LimitLine {
        order: limit.order.clone(),
        bytes_per_second: limit.bytes_per_second,
        quota_bytes: limit.quota.map(|quota| quota.bytes),
        quota_until: limit.quota.map(|quota| quota.until),
    }
}

fn process_line(process: &Process, action: Option<ProcessAction>, spared: Option<String>) -> ProcessLine {
    ProcessLine {
        pid: process.identity.pid,
        name: process.name.clone(),
        exe: process.shown_exe(),
        action,
        spared,
    }
}
