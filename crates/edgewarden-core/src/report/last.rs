//! What became of the newest report; on disk, so that it outlives the agent.
//!
//! In: sending and answers. Out: [`LastReport`], for `edgewarden report last` and for the next start: its number keeps
//! the next one rising, its time keeps the next one from coming too early.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The newest report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastReport {
    pub report_id: u64,
    /// When it was handed over.
    pub sent: Timestamp,
    pub topic: String,
    pub bytes: usize,
    pub outcome: ReportOutcome,
    /// When that was known.
    pub answered: Option<Timestamp>,
    pub error: Option<String>,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportOutcome {
    /// On its way.
    Waiting,
    /// Taken by the service.
    Accepted,
    /// Refused by the service.
    Rejected,
    /// No answer in time.
    Unanswered,
    /// Never left: the nucleus refused it.
    NotSent,
    /// Handed over on a topic where nobody answers.
    HandedOver,
}
