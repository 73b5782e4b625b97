//! The answer to `status`: what every part of the agent last said about itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::Fault;
use crate::quarantine::orders::order::{Order, Posture};
use crate::quarantine::plan::processes::StoppedProcess;
use crate::quarantine::proof::journal::OperatorOverride;
use crate::quarantine::proof::standing::RolledBack;
use crate::quarantine::proof::state::{Rejection, State};

/// Which configuration is in force, and what is wrong with a newer one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationStatus {
    /// `defaults`, `disk` (the last good one) or `nucleus`.
    pub source: String,
    /// Faults of the newest document; the one before stays in force.
    pub faults: Vec<Fault>,
    /// For each fault the value that stays in force there, as JSON; empty where no key has that path.
    #[serde(default)]
    pub in_force: Vec<String>,
    /// Why the nucleus' document could not be had.
    pub problem: Option<String>,
}

/// Whether the cloud can tell this device anything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudStatus {
    /// `connected`, or why not.
    pub ipc: String,
    /// Why the nucleus that started this agent will never speak with it again: its process has ended. Whoever is started
    /// by another one takes over at once. Absent while that is not known.
    #[serde(default)]
    pub orphan: Option<String>,
    /// Whether the shadow service has answered since anything was subscribed or connected anew, and the nucleus is not known
    /// to be without the cloud.
    pub channel_works: bool,
    /// When it last was.
    pub last_round_trip: Option<Timestamp>,
    /// What last went wrong.
    pub last_error: Option<String>,
    /// Version of the shadow.
    pub shadow_version: Option<u64>,
}

/// What became of Device Defender reports since the agent started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportStatus {
    /// Handed to the nucleus.
    pub sent: u64,
    /// Accepted by the service.
    pub accepted: u64,
    /// Refused by the service.
    pub rejected: u64,
    /// Handed over and not answered in time.
    pub unanswered: u64,
    /// Number of the newest report.
    pub last_report_id: Option<u64>,
    /// When it was sent.
    pub last_sent: Option<Timestamp>,
    /// Why the newest lacks something, one sentence each.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// What last went wrong.
    pub last_error: Option<String>,
}

/// Who reads frames, where, and what hinders it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaptureStatus {
    /// Who reads the frames, `ring` or `pnet`; absent before the first interface was seen.
    pub receiver: Option<String>,
    /// Interfaces whose frames are read.
    pub interfaces: Vec<String>,
    /// Frames the kernel dropped since capture began because they were not read in time; absent where the receiver does
    /// not tell.
    pub lost_frames: Option<u64>,
    /// What hinders capture, one sentence each.
    pub faults: Vec<String>,
}

/// What the local detector found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectorStatus {
    /// Behaviours that are in alarm.
    pub alarms: Vec<String>,
}

/// What isolation would let through, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LifelineStatus {
    /// Addresses that would be (or are) let through.
    pub addresses: usize,
    /// Names that did not resolve.
    pub unresolved: Vec<String>,
}

/// One task of the agent; each is started again when it ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// What it does.
    pub name: String,
    /// How often it was started again.
    pub restarts: u64,
    /// When it last ended; none has to.
    pub ended: Option<Timestamp>,
    /// Why it last ended.
    pub why: Option<String>,
}

/// The answer to [`super::question::GetStatus`] and to every instruction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Name of this device in AWS IoT; absent until it is known.
    pub thing: Option<String>,
    /// When the agent was started.
    pub started: Option<Timestamp>,
    /// What became of an agent that was deaf and held the state directory; absent where there was none.
    #[serde(default)]
    pub predecessor: Option<String>,
    /// On what the state directory lies, where a restart of the machine forgets what is ordered; absent where it lasts.
    #[serde(default)]
    pub volatile: Option<String>,
    /// Since when the component does not run, and the guard's agent answers in its place; absent where a nucleus started it.
    #[serde(default)]
    pub guarded: Option<Timestamp>,
    /// When the orders of shadow and deployment end by themselves, if no nucleus takes the agent before; absent where they do
    /// not.
    #[serde(default)]
    pub releases_at: Option<Timestamp>,
    /// `enforce` or `observe`.
    pub mode: String,
    /// Orders and what the kernel was proven to do about them.
    pub enforcement: State,
    /// Which configuration the agent runs on.
    pub configuration: ConfigurationStatus,
    /// The control channel, through which orders come.
    pub cloud: CloudStatus,
    /// Addresses that isolation never cuts.
    pub lifelines: LifelineStatus,
    /// Counted since the agent started.
    pub reports: ReportStatus,
    /// Where the traffic figures come from.
    pub capture: CaptureStatus,
    /// Alarms that hold at this moment.
    pub detector: DetectorStatus,
    /// What the agent consists of while it runs.
    #[serde(default)]
    pub tasks: Vec<TaskStatus>,
}

/// The part of a [`Status`] that `edgewarden orders` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderList {
    /// The live orders.
    pub orders: Vec<Order>,
    /// Wishes that were refused and not replaced since; absent where no agent answers, because the journal has none of them.
    pub rejected: Option<Vec<Rejection>>,
    /// The operator's override, while it holds.
    pub overridden: Option<OperatorOverride>,
}

impl From<State> for OrderList {
    fn from(state: State) -> Self {
        Self {
            orders: state.orders,
            rejected: Some(state.rejected),
            overridden: state.overridden,
        }
    }
}

impl From<AbsentAgent> for OrderList {
    fn from(absent: AbsentAgent) -> Self {
        Self {
            orders: absent.orders,
            rejected: None,
            overridden: absent.overridden,
        }
    }
}

/// What `edgewarden status` says where no agent answers: the kernel keeps the rules of one that is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AbsentAgent {
    /// `not running`, `stopped` or `not answering`; a sentence where none of them is known to be so.
    pub agent: String,
    /// The process that should answer; absent where none runs.
    pub pid: Option<u32>,
    /// Since when that process runs; where none does, when the last one wrote its newest record.
    pub since: Option<Timestamp>,
    /// The guard's process, which starts an agent in place of the component's; absent where none stands by.
    pub guard: Option<u32>,
    /// What the kernel holds of ours, in a sentence.
    pub kernel: String,
    /// `enforce` or `observe`.
    pub mode: String,
    /// What the journal's orders want.
    pub wanted: Posture,
    /// The journal's live orders.
    pub orders: Vec<Order>,
    /// The operator's override, while it holds.
    pub overridden: Option<OperatorOverride>,
    /// A plan that was given up, and is not carried out although it is ordered.
    pub rolled_back: Option<RolledBack>,
    /// Processes that were stopped and not let go.
    pub stopped: Vec<StoppedProcess>,
}
