//! Local detection: what AWS IoT Device Defender Detect would say about our own reports.
//!
//! In: the values of one report. Out: alarms that begin or end. Pure; acting on an alarm is quarantine's.

pub mod behavior;
pub mod detector;

pub use behavior::{Behavior, Metric};
pub use detector::{Alarm, AlarmKind, Detector, ReportMetrics};
