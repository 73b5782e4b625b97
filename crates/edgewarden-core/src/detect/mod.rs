//! Local detection: what AWS IoT Device Defender Detect would say about what this device does. Knows nothing of
//! reports.
//!
//! In: one interval and the sockets at its end. Out: alarms that begin or end. Pure; acting on an alarm is
//! quarantine's.

mod behavior;
mod detector;

pub use behavior::Behavior;
pub use detector::{Alarm, AlarmKind, Detector, MetricValues};
