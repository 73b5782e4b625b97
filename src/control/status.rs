//! The answer to `status`: what every part of the agent last said about itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::document::Fault;
use crate::quarantine::proof::state::State;

/// The configuration's state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigurationStatus {
    /// `defaults`, `disk` (the last good one) or `nucleus`.
    pub source: String,
    /// Faults of the newest document; the one before stays in force.
    pub faults: Vec<Fault>,
    /// Why the nucleus' document could not be had.
    pub problem: Option<String>,
}

/// The control channel's state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudStatus {
    /// `connected`, or why not.
    pub ipc: String,
    /// Whether the last shadow request was answered.
    pub channel_works: bool,
    /// When it last was.
    pub last_round_trip: Option<Timestamp>,
    /// What last went wrong.
    pub last_error: Option<String>,
    /// Version of the shadow.
    pub shadow_version: Option<u64>,
}

/// Device Defender reports.
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
    /// Id of the newest.
    pub last_report_id: Option<u64>,
    /// When it was sent.
    pub last_sent: Option<Timestamp>,
    /// Why the newest lacks something, one sentence each.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// What last went wrong.
    pub last_error: Option<String>,
}

/// Capture.
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

/// The local detector.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectorStatus {
    /// Behaviours that are in alarm.
    pub alarms: Vec<String>,
}

/// Lifelines.
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

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Thing name.
    pub thing: Option<String>,
    /// When the agent was started.
    pub started: Option<Timestamp>,
    /// `enforce` or `observe`.
    pub mode: String,
    /// Flow 2.
    pub enforcement: State,
    /// Configuration.
    pub configuration: ConfigurationStatus,
    /// Control channel.
    pub cloud: CloudStatus,
    /// Lifelines.
    pub lifelines: LifelineStatus,
    /// Reports.
    pub reports: ReportStatus,
    /// Capture.
    pub capture: CaptureStatus,
    /// Detector.
    pub detector: DetectorStatus,
    /// What the agent consists of while it runs.
    #[serde(default)]
    pub tasks: Vec<TaskStatus>,
}
