//! Rules Detect: judges metric values against the behaviours of a security profile.
//!
//! In: a thing's metric values and the time. Out: [`Violation`]s when an alarm begins or ends.
//! A behaviour states what is **normal**; a value that does not match it violates it. Every report is one
//! data point, so `durationSeconds` is carried in the messages but no window is summed. A value of another
//! type than its behaviour judges is no data point.
//! Deliberately absent: ML Detect, statistical thresholds, `alarm-invalidated`, SNS.

mod criterion;
mod profile;
#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::metric::{Metric, MetricValue};
pub use criterion::{Criterion, Members, Operator, UnknownOperator};
pub use profile::{Behavior, MAX_BEHAVIORS, ProfileError, SecurityProfile};

/// Alarm states kept at once (things times behaviours). Bounds memory against invented thing names.
pub const MAX_STATES: usize = 10_000;

/// Most data points an alarm may wait for (service quota).
pub const MAX_CONSECUTIVE_DATAPOINTS: u32 = 10;

/// Outgoing bytes of one report that the lab's profile calls normal: fewer than this.
pub const DEFAULT_ALL_BYTES_OUT: u64 = 35_000;

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
#[derive(Debug, Clone, PartialEq)]
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
    pub value: MetricValue,
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
            "metricValue": self.value.document(),
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
    pub fn evaluate(
        &mut self,
        thing: &str,
        values: &BTreeMap<Metric, MetricValue>,
        now_ms: u64,
    ) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (index, behavior) in self.profile.behaviors.iter().enumerate() {
            let Some((value, normal)) = values
                .get(&behavior.metric)
                .and_then(|value| Some((value, behavior.criterion.judge(value)?)))
            else {
                continue;
            };
            let key = (thing.to_owned(), index);
            if self.states.len() >= MAX_STATES && !self.states.contains_key(&key) {
                continue;
            }
            let state = self.states.entry(key).or_default();
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
                    value: value.clone(),
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
