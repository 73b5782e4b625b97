//! The stand-in account: shadow, intake, Detect and Lambda wired together, still pure.
//!
//! In: topic and payload of one message, and the time. Out: [`Effects`]: what to publish and what to tell
//! the person watching. An alarm goes all the way: intake, Detect, SNS envelope, Lambda, shadow update.
//! Deliberately absent: MQTT, a clock, output, the registry of thing groups (actions are only told).

#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::alarm_lambda::{self, Action, Decision, Flavour};
use super::detect::{Detect, SecurityProfile, Violation};
use super::ingest::{self, Format, Ingest, MAX_REPORT_BYTES, Verdict};
use super::metric::{Metric, MetricValue};
use super::shadow::{Answer, MAX_THING_CHARS, ShadowId, ShadowOperation, ShadowTopic, Shadows, is_name};

/// How the account behaves.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// Shortest time between two accepted reports of one thing, in seconds.
    pub min_interval_seconds: u64,
    /// Which Lambda is subscribed to the alerts; `None`: nobody.
    pub lambda: Option<Flavour>,
    /// Refuse every report, however well-formed.
    pub reject_reports: bool,
    /// What is normal.
    pub profile: SecurityProfile,
}

/// What follows from one message.
#[derive(Debug, Default)]
pub struct Effects {
    /// Messages to publish, in order.
    pub answers: Vec<Answer>,
    /// One JSON object per thing that happened, in order.
    pub events: Vec<Value>,
}

/// All state of the stand-in.
#[derive(Debug)]
pub struct Account {
    shadows: Shadows,
    ingest: Ingest,
    detect: Detect,
    lambda: Option<Flavour>,
    reject_reports: bool,
    alerts_sent: u64,
}

impl Account {
    /// An account without any thing.
    pub fn new(settings: AccountSettings) -> Self {
        Self {
            shadows: Shadows::default(),
            ingest: Ingest::new(settings.min_interval_seconds),
            detect: Detect::new(settings.profile),
            lambda: settings.lambda,
            reject_reports: settings.reject_reports,
            alerts_sent: 0,
        }
    }

    /// Handles one message; `now_ms` is epoch milliseconds. Topics of neither service have no effect.
    pub fn handle(&mut self, topic: &str, payload: &[u8], now_ms: u64) -> Effects {
        let mut effects = Effects::default();
        if let Some((thing, format)) = report_topic(topic) {
            let document = (payload.len() <= MAX_REPORT_BYTES)
                .then(|| format.decode(payload).ok())
                .flatten();
            let verdict = self.report(thing, format, payload, document.as_ref(), now_ms);
            effects.answers.push(Answer {
                topic: format!("{topic}/{}", verdict.topic_suffix()),
                payload: format.encode(&verdict.answer(thing, now_ms)),
            });
            let mut event = report_event(thing, &verdict, document);
            event["format"] = format.name().into();
            event["bytes"] = payload.len().into();
            effects.events.push(event);
            self.evaluate(thing, verdict, now_ms, &mut effects);
        } else {
            self.shadow(topic, payload, now_ms, &mut effects);
        }
        effects
    }

    fn shadow(&mut self, topic: &str, payload: &[u8], now_ms: u64, effects: &mut Effects) {
        let answers = self.shadows.handle(topic, payload, now_ms / 1_000);
        if let Some(request) = ShadowTopic::parse(topic) {
            let accepted = answers
                .iter()
                .any(|answer| answer.topic == request.answer("accepted"));
            match request.operation {
                ShadowOperation::Update if accepted => effects.events.extend(self.shadow_event(&request.id)),
                ShadowOperation::Delete if accepted => effects.events.push(json!({
                    "event": "shadow-deleted", "thing": request.id.thing, "shadow": request.id.name,
                })),
                _ if accepted => {}
                operation => effects.events.push(json!({
                    "event": "shadow-rejected",
                    "thing": request.id.thing,
                    "shadow": request.id.name,
                    "operation": operation.segment(),
                    "answer": answers.first().and_then(|answer| serde_json::from_slice::<Value>(&answer.payload).ok()),
                })),
            }
        }
        effects.answers.extend(answers);
    }

    fn shadow_event(&self, id: &ShadowId) -> Option<Value> {
        let view = self.shadows.view(id)?;
        Some(json!({
            "event": "shadow",
            "thing": id.thing,
            "shadow": id.name,
            "version": view.version,
            "desired": view.desired,
            "reported": view.reported,
        }))
    }

    fn report(
        &mut self,
        thing: &str,
        format: Format,
        payload: &[u8],
        document: Option<&Value>,
        now_ms: u64,
    ) -> Verdict {
        if self.reject_reports {
            return ingest::invalid(
                document.and_then(ingest::readable_report_id),
                "this stand-in was told to refuse every report",
            );
        }
        self.ingest.handle(thing, format, payload, now_ms)
    }

    fn evaluate(&mut self, thing: &str, verdict: Verdict, now_ms: u64, effects: &mut Effects) {
        if let Verdict::Accepted { values, .. } = verdict {
            for violation in self.detect.evaluate(thing, &values, now_ms) {
                self.alert(&violation, now_ms, effects);
            }
        }
    }

    /// Alert topic to Lambda.
    fn alert(&mut self, violation: &Violation, now_ms: u64, effects: &mut Effects) {
        let message = violation.message();
        effects.events.push(json!({
            "event": "alarm",
            "type": violation.kind.name(),
            "thing": violation.thing,
            "profile": violation.profile,
            "behavior": violation.behavior.name,
            "metric": violation.behavior.metric.name(),
            "value": violation.value.plain(),
            "message": message,
        }));
        let Some(flavour) = self.lambda else { return };
        if violation.behavior.suppress_alerts {
            return;
        }
        self.alerts_sent = self.alerts_sent.saturating_add(1);
        match alarm_lambda::decide(&alarm_lambda::sns_event(&message, self.alerts_sent), flavour) {
            Ok(decisions) => {
                for decision in decisions {
                    self.carry_out(decision, now_ms, effects);
                }
            }
            Err(error) => effects.events.push(json!({
                "event": "lambda", "thing": violation.thing, "action": "failed", "error": error.to_string(),
            })),
        }
    }

    fn carry_out(&mut self, decision: Decision, now_ms: u64, effects: &mut Effects) {
        match decision {
            Decision::Ignore { thing, why } => {
                effects
                    .events
                    .push(json!({"event": "lambda", "thing": thing, "action": "none", "why": why}));
            }
            Decision::Act { thing, actions } => {
                for action in actions {
                    effects.events.push(action_event(&thing, &action));
                    if let Action::UpdateDesired(desired) = action {
                        let topic = format!("{}/update", ShadowId::classic(&thing).prefix());
                        let request = json!({"state": {"desired": desired}}).to_string();
                        self.shadow(&topic, request.as_bytes(), now_ms, effects);
                    }
                }
            }
        }
    }
}

/// The thing and the format of a report topic.
fn report_topic(topic: &str) -> Option<(&str, Format)> {
    let (thing, format) = topic
        .strip_prefix("$aws/things/")?
        .split_once("/defender/metrics/")?;
    let format = Format::ALL.into_iter().find(|known| known.name() == format)?;
    is_name(thing, MAX_THING_CHARS).then_some((thing, format))
}

fn report_event(thing: &str, verdict: &Verdict, document: Option<Value>) -> Value {
    let mut event =
        json!({"event": "report", "thing": thing, "outcome": verdict.topic_suffix(), "report": document});
    match verdict {
        Verdict::Accepted { report_id, values } => {
            event["reportId"] = json!(report_id);
            let plain = |metric| values.get(&metric).map(MetricValue::plain);
            event["bytesOut"] = json!(plain(Metric::AllBytesOut));
            event["bytesIn"] = json!(plain(Metric::AllBytesIn));
        }
        Verdict::Rejected {
            report_id,
            code,
            message,
            detail,
        } => {
            event["reportId"] = json!(report_id);
            event["error"] = json!({"code": code, "message": message, "detail": detail});
        }
    }
    event
}

fn action_event(thing: &str, action: &Action) -> Value {
    match action {
        Action::AddToGroup(group) => {
            json!({"event": "lambda", "thing": thing, "action": "add-to-group", "group": group})
        }
        Action::RemoveFromGroup(group) => {
            json!({"event": "lambda", "thing": thing, "action": "remove-from-group", "group": group})
        }
        Action::UpdateDesired(desired) => {
            json!({"event": "lambda", "thing": thing, "action": "update-shadow", "desired": desired})
        }
    }
}
