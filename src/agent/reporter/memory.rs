//! What is remembered from report to report, and over a restart.
//!
//! In: the state directory at the start. Out: [`ReporterMemory`]. The newest report is on disk before it is sent.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Reporter;
use crate::host::{clock, files};
use crate::report::baseline::Baseline;
use crate::report::caution::CustomMetricPause;
use crate::report::custom::traffic::TrafficTotals;
use crate::report::last::LastReport;
use crate::report::pending::PendingIntervals;

/// The newest report, in the state directory.
const LAST: &str = "last-report.json";

/// What the reporter knows. Lost with its task: the next one begins as after a restart of the agent.
pub(super) struct ReporterMemory {
    pub(super) ledgers: Ledgers,
    pub(super) caution: CustomMetricPause,
    pub(super) last: Option<LastReport>,
    pub(super) waiting: Option<ReportUnderWay>,
    /// Traffic of intervals that were closed before the reporter could look at them; the next report tells it too.
    pub(super) untold: Option<TrafficTotals>,
}

/// What was told and what was accepted; a copy is enough to see what would be sent.
#[derive(Clone, Default)]
pub(super) struct Ledgers {
    pub(super) baseline: Baseline,
    pub(super) pending: PendingIntervals,
}

/// A report that is under way.
pub(super) struct ReportUnderWay {
    pub(super) report_id: u64,
    /// Silence from then on is an answer too.
    pub(super) answer_by: Instant,
    /// Whether it carried custom metrics.
    pub(super) custom: bool,
}

/// The newest report that was sent before this start.
pub(crate) fn last_report(state_directory: &Path) -> Option<LastReport> {
    let stored = files::read(&state_directory.join(LAST)).ok().flatten()?;
    serde_json::from_slice(&stored).ok()
}

/// How long ago it was sent. A clock that stepped back tells nothing about when that was: as if it were just now.
pub(crate) fn since(last: &LastReport) -> Duration {
    let since = clock::now().wall.duration_since(last.sent);
    Duration::try_from(since).unwrap_or_default()
}

impl ReporterMemory {
    /// Traffic of an interval that no report of its own will tell.
    pub(super) fn fold(&mut self, traffic: TrafficTotals) {
        match &mut self.untold {
            Some(untold) => untold.add(&traffic),
            none => *none = Some(traffic),
        }
    }
}

impl Reporter {
    pub(super) async fn remember(&self) -> ReporterMemory {
        let directory = self.connected.context.state_directory.clone();
        let last = self.disk.run(move || last_report(&directory)).await;
        ReporterMemory {
            ledgers: self.ledgers().await,
            caution: CustomMetricPause::default(),
            last: last.ok().flatten(),
            waiting: None,
            untold: None,
        }
    }

    /// Ledgers that begin at this moment.
    pub(super) async fn ledgers(&self) -> Ledgers {
        let mut ledgers = Ledgers::default();
        if let Some(links) = self.intervals.links().await {
            ledgers.baseline.observe(&links);
        }
        ledgers
    }

    /// Keeps what became of the newest report.
    pub(super) async fn store(&self, last: &LastReport) {
        let bytes = serde_json::to_vec(last).unwrap_or_default();
        let path = self.connected.context.state_directory.join(LAST);
        let kept = self.disk.run(move || files::replace(&path, &bytes)).await;
        let why = match kept {
            Ok(Ok(())) => return,
            Ok(Err(error)) => crate::error_text(&error),
            Err(error) => crate::error_text(&error),
        };
        tracing::warn!("{why}: a report id may repeat after a restart");
    }
}
