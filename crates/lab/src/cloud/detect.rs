//! Rules Detect: judges metric values against the behaviours of a security profile.
//!
//! In: a thing's metric values and the time. Out: [`Violation`]s when an alarm begins or ends.
//! A behaviour states what is **normal**; a value that does not match it violates it. Every report is one
//! data point, so `durationSeconds` is carried in the messages but no window is summed.
//! Deliberately absent: ML Detect, statistical thresholds, set metrics, `alarm-invalidated`, SNS.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::metric::Metric;

/// Alarm states kept at once (things times behaviours). Bounds memory against invented thing names.
pub const MAX_STATES: usize = 10_000;

/// Most data points an alarm may wait for (service quota).
pub const MAX_CONSECUTIVE_DATAPOINTS: u32 = 10;

/// Outgoing bytes of one report that the lab's profile calls normal: fewer than this.
pub const DEFAULT_ALL_BYTES_OUT: u64 = 35_000;

/// How a value is compared with the threshold to be normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Below the threshold.
    LessThan,
    /// At most the threshold.
    LessThanEquals,
    /// Above the threshold.
    GreaterThan,
    /// At least the threshold.
    GreaterThanEquals,
}

impl Operator {
    const ALL: [Self; 4] = [
        Self::LessThan,
        Self::LessThanEquals,
        Self::GreaterThan,
        Self::GreaterThanEquals,
    ];

    /// Name in security profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::LessThan => "less-than",
            Self::LessThanEquals => "less-than-equals",
            Self::GreaterThan => "greater-than",
            Self::GreaterThanEquals => "greater-than-equals",
        }
    }

    fn matches(self, value: u64, threshold: u64) -> bool {
        match self {
            Self::LessThan => value < threshold,
            Self::LessThanEquals => value <= threshold,
            Self::GreaterThan => value > threshold,
            Self::GreaterThanEquals => value >= threshold,
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that is not a comparison of counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not one of less-than, less-than-equals, greater-than, greater-than-equals")]
pub struct UnknownOperator {
    /// What was given.
    pub name: String,
}

impl FromStr for Operator {
    type Err = UnknownOperator;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|operator| operator.name() == name)
            .ok_or_else(|| UnknownOperator {
                name: name.to_owned(),
            })
    }
}

/// What is normal for one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behavior {
    /// Name of the behaviour.
    pub name: String,
    /// Metric it judges.
    pub metric: Metric,
    /// Comparison a normal value satisfies.
    pub operator: Operator,
    /// Threshold of the comparison.
    pub count: u64,
    /// Window in seconds, shown in messages.
    pub duration_seconds: u32,
    /// Violating data points in a row that raise the alarm.
    pub consecutive_to_alarm: u32,
    /// Normal data points in a row that clear it.
    pub consecutive_to_clear: u32,
}

impl Behavior {
    fn document(&self) -> Value {
        json!({
            "name": self.name,
            "metric": self.metric.name(),
            "criteria": {
                "comparisonOperator": self.operator.name(),
                "value": {"count": self.count},
                "durationSeconds": self.duration_seconds,
                "consecutiveDatapointsToAlarm": self.consecutive_to_alarm,
                "consecutiveDatapointsToClear": self.consecutive_to_clear,
            },
        })
    }
}

/// A named set of behaviours.
#[derive(Debug, Clone, PartialEq, Eq)]
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
                operator,
                count,
                duration_seconds: 300,
                consecutive_to_alarm: 1,
                consecutive_to_clear: 1,
            }],
        }
    }
}

impl Default for SecurityProfile {
    fn default() -> Self {
        Self::outbound_bytes(Operator::LessThan, DEFAULT_ALL_BYTES_OUT)
    }
}

/// Whether an alarm begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViolationType {
    /// Enough violating data points in a row.
    InAlarm,
    /// Enough normal data points in a row after an alarm.
    AlarmCleared,
}

impl ViolationType {
    /// Name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::InAlarm => "in-alarm",
            Self::AlarmCleared => "alarm-cleared",
        }
    }
}

/// The begin or the end of an alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Begin or end.
    pub kind: ViolationType,
    /// Thing that reported the value.
    pub thing: String,
    /// Profile of the behaviour.
    pub profile: String,
    /// Behaviour that was violated.
    pub behavior: Behavior,
    /// The value that decided.
    pub value: u64,
    /// 32 hexadecimal digits; the same at begin and end of one alarm.
    pub id: String,
    /// Epoch milliseconds.
    pub at_ms: u64,
}

impl Violation {
    /// The message AWS IoT puts on the alert topic.
    pub fn message(&self) -> Value {
        json!({
            "violationEventTime": self.at_ms,
            "thingName": self.thing,
            "behavior": self.behavior.document(),
            "violationEventType": self.kind.name(),
            "metricValue": {"count": self.value},
            "violationId": self.id,
            "securityProfileName": self.profile,
        })
    }
}

/// Where one behaviour of one thing stands.
#[derive(Debug, Default)]
struct AlarmState {
    /// Id of the running alarm.
    alarm: Option<String>,
    /// Data points in a row that speak against the present state.
    against: u32,
}

/// The evaluation with its memory of every running alarm.
#[derive(Debug)]
pub struct Detect {
    profile: SecurityProfile,
    states: BTreeMap<(String, usize), AlarmState>,
    alarms_raised: u64,
}

impl Detect {
    /// Judges all things by one profile.
    pub fn new(profile: SecurityProfile) -> Self {
        Self {
            profile,
            states: BTreeMap::new(),
            alarms_raised: 0,
        }
    }

    /// Judges the values of one accepted report. A metric that is absent is no data point. `now_ms` is
    /// epoch milliseconds.
    pub fn evaluate(&mut self, thing: &str, values: &BTreeMap<Metric, u64>, now_ms: u64) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (index, behavior) in self.profile.behaviors.iter().enumerate() {
            let Some(&value) = values.get(&behavior.metric) else {
                continue;
            };
            let key = (thing.to_owned(), index);
            if self.states.len() >= MAX_STATES && !self.states.contains_key(&key) {
                continue;
            }
            let state = self.states.entry(key).or_default();
            let normal = behavior.operator.matches(value, behavior.count);
            let change = state.step(behavior, normal, || {
                self.alarms_raised += 1;
                format!("{now_ms:016x}{:016x}", self.alarms_raised)
            });
            if let Some((kind, id)) = change {
                violations.push(Violation {
                    kind,
                    thing: thing.to_owned(),
                    profile: self.profile.name.clone(),
                    behavior: behavior.clone(),
                    value,
                    id,
                    at_ms: now_ms,
                });
            }
        }
        violations
    }
}

impl AlarmState {
    fn step(
        &mut self,
        behavior: &Behavior,
        normal: bool,
        new_id: impl FnOnce() -> String,
    ) -> Option<(ViolationType, String)> {
        let in_alarm = self.alarm.is_some();
        if normal != in_alarm {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if in_alarm {
            behavior.consecutive_to_clear
        } else {
            behavior.consecutive_to_alarm
        };
        if self.against < needed.clamp(1, MAX_CONSECUTIVE_DATAPOINTS) {
            return None;
        }
        self.against = 0;
        match self.alarm.take() {
            Some(id) => Some((ViolationType::AlarmCleared, id)),
            None => {
                let id = new_id();
                self.alarm = Some(id.clone());
                Some((ViolationType::InAlarm, id))
            }
        }
    }
}
