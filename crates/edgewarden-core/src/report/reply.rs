//! Answers of the service to reports.
//!
//! In: a topic and a body, both from outside. Out: a [`ReportReply`], or nothing if the topic is not an answer. The
//! topic's last part is the truth; the body is only asked for details, in JSON or CBOR, and may be anything.

use serde_json::Value;

/// Larger answers are not looked into; documented ones have 200 bytes.
const MAX_BODY: usize = 16_384;
/// Deeper answers in CBOR are not looked into; documented ones have two levels.
const MAX_DEPTH: usize = 16;
/// Error texts are kept up to this length, for status and log.
const MAX_TEXT: usize = 256;

/// What the service did with a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyOutcome {
    Accepted,
    Rejected,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportReply {
    /// From the topic.
    pub outcome: ReplyOutcome,
    /// Which report; absent when the service could not read its header, or the body does not say.
    pub report_id: Option<u64>,
    /// `InvalidPayload` is the only documented one; any other is possible.
    pub error_code: Option<String>,
    /// For a person.
    pub error_message: Option<String>,
}

/// Whose answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyMatch {
    /// It names our report.
    Ours,
    /// It names no report; with one report under way it can only be ours.
    Unnamed,
    /// It names another report.
    Another,
}

/// The outcome a topic tells, `None` if it is not an answer topic.
#[must_use]
pub fn outcome_of(topic: &str) -> Option<ReplyOutcome> {
    let (path, last) = topic.rsplit_once('/')?;
    let format = path
        .strip_prefix("$aws/things/")?
        .split_once("/defender/metrics/")?
        .1;
    if !matches!(format, "json" | "cbor") {
        return None;
    }
    match last {
        "accepted" => Some(ReplyOutcome::Accepted),
        "rejected" => Some(ReplyOutcome::Rejected),
        _ => None,
    }
}

/// Reads an answer; a body that makes no sense leaves the details empty.
#[must_use]
pub fn parse(outcome: ReplyOutcome, body: &[u8]) -> ReportReply {
    let body: Value = match body.len() {
        0..=MAX_BODY => serde_json::from_slice(body)
            .ok()
            .or_else(|| ciborium::de::from_reader_with_recursion_limit(body, MAX_DEPTH).ok())
            .unwrap_or_default(),
        _ => Value::Null,
    };
    let details = body.get("statusDetails");
    ReportReply {
        outcome,
        report_id: body.get("reportId").and_then(number),
        error_code: details.and_then(|details| text(details, ["ErrorCode", "errorCode"])),
        error_message: details.and_then(|details| text(details, ["ErrorMessage", "errorMessage"])),
    }
}

/// A positive integer, also one that went through a double or came as text.
fn number(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .or_else(|| format!("{:.0}", value.as_f64()?).parse().ok())
}

fn text(details: &Value, names: [&str; 2]) -> Option<String> {
    let text = names.iter().find_map(|name| details.get(name)?.as_str())?;
    Some(
        text.chars()
            .filter(|letter| !letter.is_control())
            .take(MAX_TEXT)
            .collect(),
    )
}

impl ReportReply {
    /// Whether it answers the report with this number.
    #[must_use]
    pub fn belongs_to(&self, report_id: u64) -> ReplyMatch {
        match self.report_id {
            None => ReplyMatch::Unnamed,
            Some(named) if named == report_id => ReplyMatch::Ours,
            Some(_) => ReplyMatch::Another,
        }
    }

    /// True if the same report would be refused again.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.error_code
            .as_ref()
            .is_some_and(|code| code.eq_ignore_ascii_case("InvalidPayload"))
    }

    /// True if the report came too soon after the last one. The code is undocumented, hence the wide match.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.error_code
            .as_ref()
            .is_some_and(|code| code.to_ascii_lowercase().contains("throttl"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answer_topics_have_an_outcome() {
        let cases = [
            (
                "$aws/things/gateway-01/defender/metrics/json/accepted",
                Some(ReplyOutcome::Accepted),
            ),
            (
                "$aws/things/gateway-01/defender/metrics/cbor/rejected",
                Some(ReplyOutcome::Rejected),
            ),
            ("$aws/things/gateway-01/defender/metrics/json", None),
            ("$aws/things/gateway-01/defender/metrics/xml/accepted", None),
            ("$aws/things/gateway-01/shadow/update/accepted", None),
            ("accepted", None),
        ];
        for (topic, expected) in cases {
            assert_eq!(outcome_of(topic), expected, "{topic}");
        }
    }

    #[test]
    fn documented_and_odd_bodies_are_read() {
        let accepted =
            br#"{"thingName":"t","reportId":1635800375,"status":"ACCEPTED","timestamp":1635801636023}"#;
        let reply = parse(ReplyOutcome::Accepted, accepted);
        assert_eq!(
            (reply.outcome, reply.report_id),
            (ReplyOutcome::Accepted, Some(1_635_800_375))
        );
        assert_eq!(reply.belongs_to(1_635_800_375), ReplyMatch::Ours);
        assert_eq!(reply.belongs_to(1), ReplyMatch::Another);

        let garbled = br#"{"thingName":"myThing","12334567":1635800375,"status":"ACCEPTED","timestamp":1}"#;
        assert_eq!(
            parse(ReplyOutcome::Accepted, garbled).belongs_to(1_635_800_375),
            ReplyMatch::Unnamed
        );

        let rejected =
            br#"{"thingName":"t","status":"REJECTED","statusDetails":{"ErrorCode":"InvalidPayload",
            "ErrorMessage":"Malformed metrics report"},"timestamp":1635802047699}"#;
        let reply = parse(ReplyOutcome::Rejected, rejected);
        assert_eq!(reply.error_code.as_deref(), Some("InvalidPayload"));
        assert_eq!(reply.error_message.as_deref(), Some("Malformed metrics report"));
        assert!(!reply.is_throttled() && reply.is_invalid());

        for body in [r#"{"reportId":1.6358e9}"#, r#"{"reportId":"1635800000"}"#] {
            assert_eq!(
                parse(ReplyOutcome::Accepted, body.as_bytes()).report_id,
                Some(1_635_800_000),
                "{body}"
            );
        }
        let mut cbor = Vec::new();
        let body = serde_json::json!({"reportId": 7, "statusDetails": {"ErrorCode": "InvalidPayload"}});
        ciborium::into_writer(&body, &mut cbor).unwrap();
        let reply = parse(ReplyOutcome::Rejected, &cbor);
        assert_eq!(reply.report_id, Some(7), "answers on the CBOR topic may be CBOR");
        assert_eq!(reply.error_code.as_deref(), Some("InvalidPayload"));
        let throttled = br#"{"statusDetails":{"ErrorCode":"ThrottlingException"}}"#;
        let reply = parse(ReplyOutcome::Rejected, throttled);
        assert!(reply.is_throttled() && !reply.is_invalid());
    }

    #[test]
    fn hostile_bodies_leave_the_topic_as_the_truth() {
        let lie = br#"{"status":"ACCEPTED"}"#;
        let large = format!(r#"{{"reportId":7,"x":"{}"}}"#, "x".repeat(MAX_BODY));
        let deep = "[".repeat(10_000);
        for body in [
            &lie[..],
            b"",
            b"not json",
            b"null",
            b"[1]",
            large.as_bytes(),
            deep.as_bytes(),
        ] {
            let reply = parse(ReplyOutcome::Rejected, body);
            assert_eq!((reply.outcome, reply.report_id), (ReplyOutcome::Rejected, None));
        }
        let long = format!(
            r#"{{"statusDetails":{{"ErrorMessage":"{}\n"}}}}"#,
            "y".repeat(5_000)
        );
        assert_eq!(
            parse(ReplyOutcome::Rejected, long.as_bytes())
                .error_message
                .unwrap()
                .len(),
            MAX_TEXT
        );
    }
}
