//! Security profiles: named sets of behaviours, as CreateSecurityProfile takes them.
//!
//! In: a profile's document. Out: [`SecurityProfile`], or what is wrong with the document. Deliberately absent: alert
//! targets (there is one Lambda), dimensions, statistical thresholds, machine learning; a document with them is
//! refused, since judging it by half would be wrong.

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::metric::{Metric, UnknownMetric};
use super::MAX_CONSECUTIVE_DATAPOINTS;
use super::criterion::{Criterion, Members, Operator};

/// Most behaviours in a profile (service quota).
pub const MAX_BEHAVIORS: usize = 100;

/// Windows a behaviour may have, in seconds.
const DURATIONS: [u32; 5] = [300, 600, 900, 1_800, 3_600];

/// What is normal for one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Behavior {
    /// Name of the behaviour.
    pub name: String,
    /// Metric it judges.
    pub metric: Metric,
    /// What a normal value satisfies.
    pub criterion: Criterion,
    /// Window in seconds, shown in messages; set metrics have none.
    pub duration_seconds: Option<u32>,
    /// Violating data points in a row that raise the alarm.
    pub consecutive_to_alarm: u32,
    /// Normal data points in a row that clear it.
    pub consecutive_to_clear: u32,
    /// Judged and told, but nobody is alerted.
    pub suppress_alerts: bool,
}

impl Behavior {
    pub(super) fn document(&self) -> Value {
        let mut criteria = json!({
            "comparisonOperator": self.criterion.operator(),
            "value": self.criterion.value(),
            "consecutiveDatapointsToAlarm": self.consecutive_to_alarm,
            "consecutiveDatapointsToClear": self.consecutive_to_clear,
        });
        if let Some(seconds) = self.duration_seconds {
            criteria["durationSeconds"] = seconds.into();
        }
        json!({"name": self.name, "metric": self.metric.name(), "criteria": criteria})
    }
}

/// A named set of behaviours.
#[derive(Debug, Clone, PartialEq)]
pub struct SecurityProfile {
    /// Name of the profile.
    pub name: String,
    /// Its behaviours.
    pub behaviors: Vec<Behavior>,
}

impl SecurityProfile {
    /// The lab's profile: outgoing bytes of a report compare as `operator` says with `count`.
    pub fn outbound_bytes(operator: Operator, count: u64) -> Self {
        Self {
            name: "OutboundBytesSecProfile".to_owned(),
            behaviors: vec![Behavior {
                name: "OutboundBytesBehavior".to_owned(),
                metric: Metric::AllBytesOut,
                criterion: Criterion::Count(operator, count),
                duration_seconds: Some(300),
                consecutive_to_alarm: 1,
                consecutive_to_clear: 1,
                suppress_alerts: false,
            }],
        }
    }

    /// Reads a profile as CreateSecurityProfile takes it.
    ///
    /// # Errors
    /// [`ProfileError`] for the first fault.
    pub fn read(document: &[u8]) -> Result<Self, ProfileError> {
        let profile: ProfileDocument = serde_json::from_slice(document).map_err(ProfileError::Document)?;
        if profile.behaviors.len() > MAX_BEHAVIORS {
            return Err(ProfileError::Behaviors);
        }
        let behaviors = profile.behaviors.into_iter().map(BehaviorDocument::read);
        Ok(Self {
            name: profile.security_profile_name,
            behaviors: behaviors.collect::<Result<_, _>>()?,
        })
    }
}

/// Why a document is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Not the shape.
    #[error("could not read the security profile")]
    Document(#[source] serde_json::Error),
    /// Too many.
    #[error("a security profile has at most {MAX_BEHAVIORS} behaviors")]
    Behaviors,
    /// No such metric.
    #[error("behavior {behavior:?} judges no metric")]
    Metric {
        /// Name of the behaviour.
        behavior: String,
        /// Which name it gives.
        #[source]
        source: UnknownMetric,
    },
    /// The criteria do not fit each other or the metric.
    #[error("behavior {behavior:?}: {operator:?} with such a value cannot judge {metric}")]
    Criteria {
        /// Name of the behaviour.
        behavior: String,
        /// Its comparison.
        operator: String,
        /// Its metric.
        metric: Metric,
    },
    /// Data points out of range, or a window that does not exist.
    #[error(
        "behavior {behavior:?}: data points are 1 to {MAX_CONSECUTIVE_DATAPOINTS}, durationSeconds one of {DURATIONS:?}"
    )]
    Range {
        /// Name of the behaviour.
        behavior: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProfileDocument {
    security_profile_name: String,
    behaviors: Vec<BehaviorDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BehaviorDocument {
    name: String,
    metric: String,
    criteria: CriteriaDocument,
    #[serde(default)]
    suppress_alerts: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CriteriaDocument {
    comparison_operator: String,
    value: ValueDocument,
    duration_seconds: Option<u32>,
    consecutive_datapoints_to_alarm: Option<u32>,
    consecutive_datapoints_to_clear: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum ValueDocument {
    Count(u64),
    Cidrs(Vec<IpNet>),
    Ports(Vec<u16>),
    Number(f64),
    Numbers(Vec<f64>),
    Strings(Vec<String>),
}

impl BehaviorDocument {
    fn read(self) -> Result<Behavior, ProfileError> {
        let metric: Metric = self.metric.parse().map_err(|source| ProfileError::Metric {
            behavior: self.name.clone(),
            source,
        })?;
        let criteria = self.criteria;
        let operator = criteria.comparison_operator;
        let Some(criterion) = criterion(&operator, criteria.value).filter(|found| fits(&metric, found))
        else {
            return Err(ProfileError::Criteria {
                behavior: self.name,
                operator,
                metric,
            });
        };
        let points = |given: Option<u32>| {
            Some(given.unwrap_or(1)).filter(|points| (1..=MAX_CONSECUTIVE_DATAPOINTS).contains(points))
        };
        let window = criteria.duration_seconds;
        let (Some(to_alarm), Some(to_clear), true) = (
            points(criteria.consecutive_datapoints_to_alarm),
            points(criteria.consecutive_datapoints_to_clear),
            window.is_none_or(|seconds| DURATIONS.contains(&seconds)),
        ) else {
            return Err(ProfileError::Range { behavior: self.name });
        };
        Ok(Behavior {
            name: self.name,
            metric,
            criterion,
            duration_seconds: window,
            consecutive_to_alarm: to_alarm,
            consecutive_to_clear: to_clear,
            suppress_alerts: self.suppress_alerts,
        })
    }
}

/// The criterion of an operator's name and a value, if the two go together.
fn criterion(operator: &str, value: ValueDocument) -> Option<Criterion> {
    let members = match value {
        ValueDocument::Count(count) => return Some(Criterion::Count(operator.parse().ok()?, count)),
        ValueDocument::Number(number) => return Some(Criterion::Number(operator.parse().ok()?, number)),
        ValueDocument::Cidrs(cidrs) => Members::Cidrs(cidrs),
        ValueDocument::Ports(ports) => Members::Ports(ports),
        ValueDocument::Numbers(numbers) => Members::Numbers(numbers),
        ValueDocument::Strings(strings) => Members::Strings(strings),
    };
    let all = Criterion::AllIn(members.clone());
    let none = Criterion::NoneIn(members);
    [all, none].into_iter().find(|found| found.operator() == operator)
}

/// Whether the metric can have values that the criterion judges.
fn fits(metric: &Metric, criterion: &Criterion) -> bool {
    match (metric, criterion) {
        (
            Metric::ListeningTcpPorts | Metric::ListeningUdpPorts,
            Criterion::AllIn(members) | Criterion::NoneIn(members),
        ) => {
            matches!(members, Members::Ports(_))
        }
        (Metric::DestinationIpAddresses, Criterion::AllIn(members) | Criterion::NoneIn(members)) => {
            matches!(members, Members::Cidrs(_))
        }
        (Metric::Custom(_), Criterion::AllIn(members) | Criterion::NoneIn(members)) => {
            !matches!(members, Members::Ports(_))
        }
        (Metric::Custom(_), other) => matches!(other, Criterion::Number(..)),
        (Metric::ListeningTcpPorts | Metric::ListeningUdpPorts | Metric::DestinationIpAddresses, _) => false,
        (_, other) => matches!(other, Criterion::Count(..)),
    }
}
