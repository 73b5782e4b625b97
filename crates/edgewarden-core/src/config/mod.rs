//! The configuration: what the deployment wrote, then what it means.
//!
//! In: the component configuration as the nucleus gives it (JSON; on nucleus lite scalars are strings).
//! Out: a validated [`Config`], or every fault with its path. Nothing is half applied: one fault keeps the old one.

pub mod document;
pub mod keys;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::detect::Behavior;
use crate::quarantine::plan::IsolationSettings;
use crate::report::custom::settings::MetricSetting;
use crate::report::{Encoding, OfflinePolicy};

/// Whether orders are carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Orders are carried out.
    #[default]
    Enforce,
    /// The plan is computed and reported, nothing is cut.
    Observe,
}

/// Device Defender reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportingConfig {
    pub enabled: bool,
    /// From one report to the next.
    pub interval: Duration,
    /// Largest report in bytes.
    pub max_bytes: usize,
    /// Topic instead of the reserved one, for accounts without Detect.
    pub topic: Option<String>,
    pub encoding: Encoding,
    /// What becomes of intervals whose report was not accepted.
    pub offline: OfflinePolicy,
    /// Custom metrics of our own.
    pub custom: Vec<MetricSetting>,
    /// Where other programs drop theirs.
    pub metrics_directory: Option<PathBuf>,
}

/// Which interfaces are captured (as patterns with `*`), and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureConfig {
    /// By pnet's receiver instead of a ring.
    pub by_pnet: bool,
    /// Frames for other hardware too.
    pub promiscuous: bool,
    /// At least one must match.
    pub include: Vec<String>,
    /// None may match.
    pub exclude: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct DetectConfig {
    /// What is normal.
    pub behaviors: Vec<Behavior>,
    /// Whether an alarm isolates the device.
    pub quarantine: bool,
}

/// The device shadow that carries orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowConfig {
    /// A named shadow; none is the classic one.
    pub name: Option<String>,
    /// From one `get` to the next, besides those on reconnect.
    pub refresh: Duration,
}

/// Isolation, besides what goes into the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsolationConfig {
    /// Lifelines, standing allowances and process rules.
    pub settings: IsolationSettings,
    /// How long the control channel may stay silent behind new rules.
    pub confirm: Duration,
    /// Silence of the control channel opens nothing.
    pub hold_in_silence: bool,
    /// After how long without any nucleus the orders end that come through one; none: never.
    pub release_without_nucleus: Option<Duration>,
    /// The data endpoint, when the nucleus does not tell it or tells a wrong one.
    pub data_endpoint: Option<String>,
    /// Time servers besides those of the host.
    pub time_servers: Vec<String>,
    /// Executables that are never stopped.
    pub protected: Vec<String>,
    /// Whether frames that a bridge passes on are cut.
    pub bridged: bool,
    /// Whether frames that are sent past the IP stack are cut.
    pub raw_frames: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Thing name, when it is not the nucleus' own.
    pub thing_name: Option<String>,
    pub mode: Mode,
    pub reporting: ReportingConfig,
    pub capture: CaptureConfig,
    pub detect: DetectConfig,
    pub shadow: ShadowConfig,
    pub isolation: IsolationConfig,
    /// The deployment's own order, read by [`crate::quarantine::orders::document`].
    pub quarantine: Option<Value>,
}

impl Config {
    /// What holds when nothing is configured.
    ///
    /// The defaults of [`keys::KEYS`] are valid; a test proves it.
    pub fn defaults() -> Self {
        document::defaults()
    }
}
