//! The alarm Lambda: what the cloud does about a violation.
//!
//! In: an SNS event as Lambda gets it. Out: one [`Decision`] per record.
//! [`Flavour::Correct`] acts on `in-alarm` only. [`Flavour::Workshop`] does what the AWS workshop's handler
//! does: it looks at the first record only, never at the event type, and so quarantines again when an
//! alarm is *cleared*.
//! Deliberately absent: AWS calls; actions are data. The release is a person's decision, never ours.
//! The SNS envelope has no `Timestamp`: nothing reads it, and it would need a calendar.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::shadow::{MAX_THING_CHARS, is_name};

/// Records looked at in one event. SNS delivers one; the bound keeps a forged event cheap.
const MAX_RECORDS: usize = 10;

/// Thing group of quarantined things.
pub const QUARANTINE_GROUP: &str = "Quarantine";

/// Thing group of things in good standing.
pub const DEFAULT_GROUP: &str = "DEFAULT";

/// Which handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Acts on `in-alarm` only.
    Correct,
    /// As committed in the workshop, with its missing checks.
    Workshop,
}

/// A name that is no flavour.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not one of correct, workshop")]
pub struct UnknownFlavour {
    /// What was given.
    pub name: String,
}

impl FromStr for Flavour {
    type Err = UnknownFlavour;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "correct" => Ok(Self::Correct),
            "workshop" => Ok(Self::Workshop),
            _ => Err(UnknownFlavour {
                name: name.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Correct => "correct",
            Self::Workshop => "workshop",
        })
    }
}

/// One thing the Lambda does in the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Adds the thing to a group.
    AddToGroup(&'static str),
    /// Removes the thing from a group.
    RemoveFromGroup(&'static str),
    /// Merges into the desired section of the classic shadow.
    UpdateDesired(Value),
}

/// What follows from one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The thing is quarantined.
    Act {
        /// Thing to quarantine.
        thing: String,
        /// Actions in order.
        actions: Vec<Action>,
    },
    /// Nothing is done.
    Ignore {
        /// Thing the record names.
        thing: String,
        /// Why nothing is done.
        why: String,
    },
}

/// An event the Lambda cannot read.
#[derive(Debug, thiserror::Error)]
pub enum LambdaError {
    /// The envelope has no records.
    #[error("could not read the SNS event: Records must be a list of 1 to {MAX_RECORDS}")]
    Records,
    /// A record has no message.
    #[error("could not read record {index} of the SNS event: Sns.Message must be a string")]
    Message {
        /// Position of the record.
        index: usize,
    },
    /// The message is not JSON.
    #[error("could not read the message of record {index} as JSON")]
    Json {
        /// Position of the record.
        index: usize,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The message names no thing.
    #[error("record {index} has no valid thingName")]
    ThingName {
        /// Position of the record.
        index: usize,
    },
}

/// Wraps a message as SNS hands it to Lambda. `number` makes the message id unique.
pub fn sns_event(message: &Value, number: u64) -> Value {
    let topic = "arn:aws:sns:local:000000000000:DDD_Alerts";
    json!({"Records": [{
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": format!("{topic}:lab"),
        "Sns": {
            "Type": "Notification",
            "MessageId": format!("00000000-0000-0000-0000-{number:012x}"),
            "TopicArn": topic,
            "Subject": Value::Null,
            "Message": message.to_string(),
            "SignatureVersion": "1",
            "Signature": "",
            "SigningCertUrl": "",
            "UnsubscribeUrl": "",
            "MessageAttributes": {},
        },
    }]})
}

/// Decides about every record of an event.
pub fn decide(event: &Value, flavour: Flavour) -> Result<Vec<Decision>, LambdaError> {
    let records = match event.get("Records").and_then(Value::as_array) {
        Some(records) if (1..=MAX_RECORDS).contains(&records.len()) => records,
        _ => return Err(LambdaError::Records),
    };
    let looked_at = match flavour {
        Flavour::Correct => records.as_slice(),
        Flavour::Workshop => &records[..1],
    };
    looked_at
        .iter()
        .enumerate()
        .map(|(index, record)| decide_record(index, record, flavour))
        .collect()
}

fn decide_record(index: usize, record: &Value, flavour: Flavour) -> Result<Decision, LambdaError> {
    let text = record
        .pointer("/Sns/Message")
        .and_then(Value::as_str)
        .ok_or(LambdaError::Message { index })?;
    let message: Value = serde_json::from_str(text).map_err(|source| LambdaError::Json { index, source })?;
    let thing = message
        .get("thingName")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if !is_name(&thing, MAX_THING_CHARS) {
        return Err(LambdaError::ThingName { index });
    }
    let kind = message.get("violationEventType").and_then(Value::as_str);
    Ok(match (flavour, kind) {
        (Flavour::Workshop, _) | (Flavour::Correct, Some("in-alarm")) => quarantine(thing),
        (Flavour::Correct, kind) => {
            let kind = kind.unwrap_or("a message without violationEventType");
            let why = format!("{kind} is no new alarm; the workshop's Lambda would quarantine again");
            Decision::Ignore { thing, why }
        }
    })
}

fn quarantine(thing: String) -> Decision {
    let actions = vec![
        Action::AddToGroup(QUARANTINE_GROUP),
        Action::RemoveFromGroup(DEFAULT_GROUP),
        Action::UpdateDesired(json!({"quarantine": true})),
    ];
    Decision::Act { thing, actions }
}
