//! What may be said about enforcement, to the cloud and to people.
//!
//! Out: [`State`], built by `agent::enforcer` from verified outcomes only.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal::{OperatorOverride, ReleaseWithoutNucleus};
use super::obstacle::Obstacle;
use super::standing::{Coming, RolledBack};
use crate::document::fault::Fault;
use crate::quarantine::history::ChainHead;
use crate::quarantine::lifelines::origin::LifelineAddress;
use crate::quarantine::orders::order::{Authority, Order, Posture};
use crate::quarantine::plan::processes::StoppedProcess;
use crate::quarantine::plan::{PlanId, Scope};

/// Faults and refused orders kept for display.
pub const MAX_SHOWN: usize = 8;

/// Where enforcement stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The agent has not looked yet.
    #[default]
    Starting,
    /// Nothing is ordered and nothing of ours is in the kernel: read back.
    Released,
    /// The rules are in the kernel, read back and proven with a refused canary; the control channel is not confirmed.
    Provisional,
    /// As provisional, and a shadow round trip has gone through the closed firewall.
    Enforced,
    /// What is ordered could not be carried out or proven; `faults` say why.
    Failed,
    /// The plan was given up because it cut the control channel.
    RolledBack,
    /// Mode `observe`: the rules are loaded with counters in place of drops, nothing is cut.
    Observed,
}

/// Packets and bytes that were cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutTraffic {
    /// Packets.
    pub packets: u64,
    /// Bytes at the IP layer.
    pub bytes: u64,
}

/// What was cut for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutBecause {
    /// `out`, `in`, `forward`, `bridged` or `raw`.
    pub way: String,
    /// `isolated`, `remote`, `port`, `rate` or `quota`.
    pub reason: String,
    /// How much.
    #[serde(flatten)]
    pub cut: CutTraffic,
}

/// What was cut since the device was last free, or what would have been.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutTotals {
    /// Leaving this device.
    pub out: CutTraffic,
    /// Arriving at this device.
    #[serde(rename = "in")]
    pub inbound: CutTraffic,
    /// Forwarded for others.
    pub forward: CutTraffic,
    /// Passed on by a bridge.
    #[serde(default)]
    pub bridged: CutTraffic,
    /// Sent past the IP stack.
    #[serde(default)]
    pub raw: CutTraffic,
    /// The same by reason; those that happened.
    #[serde(default)]
    pub reasons: Vec<CutBecause>,
}

impl CutTotals {
    /// Sums counters named `<way>_<reason>`.
    pub fn from_counters<'a>(counters: impl Iterator<Item = (&'a str, CutTraffic)>) -> Self {
        let mut blocked = Self::default();
        for (name, cut) in counters {
            let Some((way, reason)) = name.split_once('_') else {
                continue;
            };
            let sum = match way {
                "out" => &mut blocked.out,
                "in" => &mut blocked.inbound,
                "forward" => &mut blocked.forward,
                "bridged" => &mut blocked.bridged,
                "raw" => &mut blocked.raw,
                _ => continue,
            };
            sum.packets = sum.packets.saturating_add(cut.packets);
            sum.bytes = sum.bytes.saturating_add(cut.bytes);
            if cut != CutTraffic::default() {
                blocked.reasons.push(CutBecause {
                    way: way.into(),
                    reason: reason.into(),
                    cut,
                });
            }
        }
        blocked
    }
}

/// How much of a quota is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaUse {
    /// The order: `authority:id`.
    pub order: String,
    /// Bytes used in the running period.
    pub used: u64,
    /// Bytes of a period.
    pub bytes: u64,
    /// When the period began.
    pub since: Timestamp,
    /// When it ends.
    pub until: Timestamp,
}

/// Sockets that were closed because an order cuts their connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeveredByOrder {
    /// The order: `authority:id`.
    pub order: String,
    /// Sockets closed since the order was given, or the agent started.
    pub sockets: u64,
}

/// Processes that an order names and that go on because they must not be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SparedInShort {
    /// How many.
    pub count: usize,
    /// The first of their names by the alphabet.
    pub first: String,
}

/// A wish that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Whose.
    pub authority: Authority,
    /// When.
    pub at: Timestamp,
    /// Every fault.
    pub faults: Vec<Fault>,
}

/// The whole truth about enforcement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// What the orders want.
    pub wanted: Posture,
    /// What the kernel was proven to enforce; `None` while that is not known, because it cannot be read back.
    pub posture: Option<Posture>,
    /// Since when the kernel holds that posture, over restarts of the agent too; while it is not known, since when that is so.
    pub since: Option<Timestamp>,
    /// When the kernel's listing was last compared.
    pub verified_at: Option<Timestamp>,
    /// The plan's id; none for normal.
    pub plan: Option<PlanId>,
    /// How exactly the control channel's lifeline is drawn.
    pub scope: Scope,
    /// The live orders.
    pub orders: Vec<Order>,
    /// What stands in the way, each a sentence.
    pub faults: Vec<String>,
    /// The same as `faults`, one for one, by kind.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
    /// Wishes that were refused and not replaced since.
    pub rejected: Vec<Rejection>,
    /// A plan that was given up.
    pub rolled_back: Option<RolledBack>,
    /// What comes by itself unless the control channel answers before.
    #[serde(default)]
    pub coming: Option<Coming>,
    /// The operator's override, while it holds.
    pub overridden: Option<OperatorOverride>,
    /// Orders that ended for want of a nucleus, until shadow or deployment takes an order back, or the operator ends all.
    #[serde(default)]
    pub released_without_nucleus: Option<ReleaseWithoutNucleus>,
    /// Stopped processes.
    pub stopped: Vec<StoppedProcess>,
    /// Processes an order named that could not be stopped, with the reason.
    pub left_running: Vec<String>,
    /// Processes an order named that must not be stopped.
    pub spared: Vec<String>,
    /// The same in short, for the cloud.
    #[serde(skip)]
    pub spared_in_short: Option<SparedInShort>,
    /// Rules of processes that have matched none since they hold, each a sentence.
    #[serde(default)]
    pub idle_rules: Vec<String>,
    /// What was cut.
    pub blocked: CutTotals,
    /// What would have been cut while mode `observe` held; none of it is in `blocked`.
    #[serde(default)]
    pub would_block: CutTotals,
    /// How far quotas are used.
    #[serde(default)]
    pub quotas: Vec<QuotaUse>,
    /// What this kernel does not let us cut, each a sentence.
    #[serde(default)]
    pub uncovered: Vec<String>,
    /// How many times the rules had to be put back because somebody changed them.
    pub reasserted: u64,
    /// Sockets of cut connections that were closed since the agent started.
    #[serde(default)]
    pub severed: u64,
    /// How many of them each live order cuts. One that several orders cut counts for each, so the sum may be larger.
    #[serde(default)]
    pub severed_by_order: Vec<SeveredByOrder>,
    /// Why sockets of cut connections stay open; the rules cut them all the same.
    #[serde(default)]
    pub severing: Option<String>,
    /// Who changed our rules last, as far as the kernel told: name and pid.
    #[serde(default)]
    pub changed_by: Option<String>,
    /// Where the audit history ends; none before its first record.
    pub history: Option<HistoryEnd>,
    /// What stands in the way of writing the history. It stops nothing.
    pub history_fault: Option<String>,
    /// Addresses that isolation lets through, or would, each with who says so.
    #[serde(default)]
    pub lifelines: Vec<LifelineAddress>,
    /// Lifelines that are on and have no address, each a sentence.
    #[serde(default)]
    pub missing_lifelines: Vec<String>,
}

/// The end of the audit history as the agent wrote it: what a reader of the file must find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEnd {
    /// The file.
    pub file: PathBuf,
    /// Its newest record.
    #[serde(flatten)]
    pub head: ChainHead,
}

impl State {
    /// Takes back what was proven: nobody knows whether it still is.
    pub fn claim_nothing(&mut self, because: Obstacle) {
        self.phase = Phase::Failed;
        self.posture = None;
        self.faults = vec![because.to_string()];
        self.obstacles = vec![because];
    }

    /// Whether something is, or may be, cut.
    pub fn may_cut(&self) -> bool {
        self.posture != Some(Posture::Normal)
    }

    /// Whether the kernel was proven to obey all live orders and the control channel is confirmed.
    pub fn obeys(&self) -> bool {
        // Whom an agent cannot see from where it is was most likely in a container that is gone: that is told, and holds nothing up.
        let stays_frozen = |obstacle: &Obstacle| matches!(obstacle, Obstacle::ProcessStaysFrozen { .. });
        self.left_running.is_empty()
            && !self.obstacles.iter().any(stays_frozen)
            && match self.phase {
                Phase::Released => self.wanted == Posture::Normal,
                Phase::Enforced => Some(self.wanted) == self.posture,
                _ => false,
            }
    }
}
