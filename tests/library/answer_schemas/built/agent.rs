//! What the agent says of itself, and of reports.

use edgewarden::control::report::{CustomMetricNames, ReportPreview};
use edgewarden::control::status::{
    CaptureStatus, CloudStatus, ConfigurationStatus, DetectorStatus, LifelineStatus, ReportStatus, Status,
    TaskStatus,
};
use edgewarden::quarantine::proof::state::Phase;
use edgewarden::report::last::{LastReport, ReportOutcome};
use serde_json::json;

use super::enforcement::{fault, state};
use super::{sentence, time};

pub(super) fn status(phase: Phase) -> Status {
    Status {
        version: "0.1.0".to_owned(),
        thing: Some("gw-1".to_owned()),
        started: Some(time()),
        predecessor: Some("the agent before, process 7, gave no answer; it was killed".to_owned()),
        volatile: Some(
            "/run/edgewarden lies on tmpfs: a restart of the machine forgets what is ordered".to_owned(),
        ),
        guarded: Some(time()),
        releases_at: Some(time()),
        mode: "observe".to_owned(),
        enforcement: state(phase),
        configuration: ConfigurationStatus {
            source: "disk".to_owned(),
            faults: vec![fault()],
            in_force: vec!["300".to_owned()],
            problem: Some("the nucleus does not answer".to_owned()),
        },
        cloud: CloudStatus {
            ipc: "connected".to_owned(),
            channel_works: true,
            last_round_trip: Some(time()),
            last_error: Some("timeout".to_owned()),
            shadow_version: Some(7),
            orphan: Some("process 7 of the nucleus that started us has ended".to_owned()),
        },
        lifelines: LifelineStatus {
            addresses: 4,
            unresolved: sentence(),
        },
        reports: ReportStatus {
            sent: 1,
            accepted: 1,
            rejected: 0,
            unanswered: 0,
            last_report_id: Some(1_790_000_000),
            last_sent: Some(time()),
            left_out: sentence(),
            last_error: Some("timeout".to_owned()),
        },
        capture: CaptureStatus {
            receiver: Some("ring".to_owned()),
            interfaces: vec!["wan0".to_owned()],
            lost_frames: Some(0),
            faults: sentence(),
        },
        detector: DetectorStatus {
            alarms: vec!["bytes-out".to_owned()],
        },
        tasks: vec![TaskStatus {
            name: "shadow".to_owned(),
            restarts: 1,
            ended: Some(time()),
            why: Some("it panicked".to_owned()),
        }],
    }
}

/// As little as there is once the agent runs.
pub(super) fn bare_status() -> Status {
    Status {
        mode: "enforce".to_owned(),
        configuration: ConfigurationStatus {
            source: "defaults".to_owned(),
            ..Default::default()
        },
        ..Default::default()
    }
}

pub(super) fn report(outcome: ReportOutcome) -> LastReport {
    LastReport {
        report_id: 1_790_000_000,
        sent: time(),
        topic: "$aws/things/gw-1/defender/metrics/json".to_owned(),
        bytes: 900,
        outcome,
        answered: Some(time()),
        error: Some("Throttled".to_owned()),
    }
}

pub(super) fn preview() -> ReportPreview {
    ReportPreview {
        topic: "$aws/things/gw-1/defender/metrics/cbor".to_owned(),
        format: "cbor".to_owned(),
        bytes: 900,
        limit: 128_000,
        next: time(),
        enabled: true,
        left_out: sentence(),
        document: json!({"header": {"report_id": 1}}),
    }
}

pub(super) fn metrics() -> CustomMetricNames {
    let types = ["number", "number-list", "string-list", "ip-address-list"];
    CustomMetricNames {
        metrics: types
            .map(|of_type| ("name".to_owned(), of_type.to_owned()))
            .into(),
        faults: sentence(),
    }
}
