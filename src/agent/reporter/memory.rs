//! What is remembered from report to report, and over a restart.
//!
//! In: the state directory at the start. Out: [`Memory`]. The newest report is on disk before it is sent.

use std::time::{Duration, Instant};

use super::Reporter;
use crate::config::Config;
use crate::detect::Detector;
use crate::host::{clock, files};
use crate::report::baseline::Baseline;
use crate::report::caution::CustomMetricPause;
use crate::report::last::LastReport;
use crate::report::pending::PendingIntervals;
use crate::report::schedule::Schedule;

/// The newest report, in the state directory.
pub(super) const LAST: &str = "last-report.json";

/// Everything.
pub(super) struct Memory {
    pub(super) ledgers: Ledgers,
    pub(super) schedule: Schedule,
    pub(super) detector: Detector,
    pub(super) caution: CustomMetricPause,
    pub(super) last: Option<LastReport>,
    pub(super) waiting: Option<Waiting>,
}

/// What was told and what was accepted; a copy is enough to see what would be sent.
#[derive(Clone, Default)]
pub(super) struct Ledgers {
    pub(super) baseline: Baseline,
    pub(super) pending: PendingIntervals,
}

/// A report that is under way.
pub(super) struct Waiting {
    pub(super) report_id: u64,
    /// Silence from then on is an answer too.
    pub(super) answer_by: Instant,
    /// Whether it carried custom metrics.
    pub(super) custom: bool,
}

impl Reporter {
    pub(super) fn remember(&self, config: &Config) -> Memory {
        let stored = files::read(&self.state_directory.join(LAST)).ok().flatten();
        let last: Option<LastReport> = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let since = last.as_ref().map(|last| {
            let since = clock::now().wall.duration_since(last.sent);
            // A clock that stepped back tells nothing about when that was: as if it were just now.
            Duration::try_from(since).unwrap_or_default()
        });
        let interval = config.reporting.interval;
        Memory {
            ledgers: self.ledgers(),
            schedule: Schedule::new(interval, fastrand::u64(..), clock::instant(), since),
            detector: Detector::new(config.detect.behaviors.clone()),
            caution: CustomMetricPause::default(),
            last,
            waiting: None,
        }
    }

    /// Ledgers that begin now.
    pub(super) fn ledgers(&self) -> Ledgers {
        let mut ledgers = Ledgers::default();
        if let Ok(links) = self.observer.link_counters() {
            ledgers.baseline.observe(&links);
        }
        ledgers
    }

    /// Keeps what became of the newest report.
    pub(super) fn store(&self, last: &LastReport) {
        let bytes = serde_json::to_vec(last).unwrap_or_default();
        if let Err(error) = files::replace(&self.state_directory.join(LAST), &bytes) {
            tracing::warn!(
                "{}: a report id may repeat after a restart",
                crate::error_text(&error)
            );
        }
    }
}
