//! The conversation: one JSON object a line, one answer a request.
//!
//! In: questions ([`super::question`]) and their answers. Out: lines, and lines read back; both sides use this, so that
//! neither can mean something else than the other. A line says [`PROTOCOL`]. A request without it is of a program from
//! before protocols had numbers: it is answered in that form, because copies of such programs exist.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::question::Request;
use crate::document::fault::quote;
use crate::document::read_json;

/// Number of this conversation. It rises when a question or an answer comes to mean something else: a member that goes or
/// changes its type, a new word where a program matches on words. More commands, and more members of answers that have a
/// default where they are read, need no new number.
pub const PROTOCOL: u32 = 1;
/// Where the agent listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/edgewarden/control.sock";
/// Longest request in bytes; the longest honest one carries a reason or a filter of 256 characters.
pub const MAX_REQUEST: u64 = 4096;
/// Longest request that carries an order, in bytes: 100,000 blocked remotes are about 4 MB.
pub const MAX_ORDER_REQUEST: u64 = 8 * 1024 * 1024;
/// Longest answer in bytes: `top` with thousands of remotes.
pub const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// Longest reason in characters; it goes into the shadow.
pub const MAX_REASON: usize = 256;
/// Longest name to look for in characters: paths that people type are shorter, and it fits into a request.
pub const MAX_FILTER: usize = 256;

/// Member of a line that holds its [`PROTOCOL`].
const NUMBER: &str = "protocol";

/// A question or an instruction as a type of its own: what it becomes on the line, and the type of what comes back.
pub trait Ask: Into<Request> {
    /// What the agent answers; `--json` prints it as it is, and `schemas/` describes it.
    type Answer: Serialize + DeserializeOwned;
}

/// The form that the asking side knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineForm {
    /// From before protocols had numbers.
    Unnumbered,
    /// With a number, which need not be ours.
    Numbered,
}

/// A request as the agent read it from its line, and the form in which to answer.
#[derive(Debug, PartialEq, Eq)]
pub struct IncomingRequest {
    /// Known even when the request is refused, for the refusal.
    pub form: LineForm,
    /// What is asked, or a sentence that says why it is refused.
    pub request: Result<Request, String>,
}

/// Why a line is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerFault {
    /// The agent speaks another protocol, which is known even if nothing else is.
    #[error("it speaks {theirs}, this program speaks protocol {PROTOCOL}")]
    OtherProtocol {
        /// In words: early agents say no number.
        theirs: String,
    },
    /// The agent says why not.
    #[error("{0}")]
    Refused(String),
    /// Not what the question's answer looks like.
    #[error(transparent)]
    Unreadable(#[from] serde_json::Error),
}

/// The line of a request.
///
/// # Errors
/// Those of serde.
pub fn request_line(request: &Request) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Line<'a> {
        protocol: u32,
        #[serde(flatten)]
        request: &'a Request,
    }
    line(&Line {
        protocol: PROTOCOL,
        request,
    })
}

/// Reads the line of a request; `limit` is what was read of it at most.
#[must_use]
pub fn read_request(line: &str, limit: u64) -> IncomingRequest {
    let unreadable = |error| format!("the request cannot be read: {error}");
    let too_long = |limit| Err(format!("the request is longer than {limit} bytes"));
    let unnumbered = |request| IncomingRequest {
        form: LineForm::Unnumbered,
        request,
    };
    let length = line.len() as u64;
    if length >= limit && !line.ends_with('\n') {
        return unnumbered(too_long(limit));
    }
    let mut members = match read_json(line.as_bytes()) {
        Ok(Value::Object(members)) => members,
        Ok(other) => {
            let other = format!("it is {}, expected a JSON object", quote(&other));
            return unnumbered(Err(format!("the request cannot be read: {other}")));
        }
        Err(error) => return unnumbered(Err(unreadable(error))),
    };
    let number = members.remove(NUMBER);
    let form = number
        .as_ref()
        .map_or(LineForm::Unnumbered, |_| LineForm::Numbered);
    // Before anything else is read: another protocol may know other commands.
    let request = match number.filter(|number| *number != PROTOCOL) {
        Some(other) => Err(format!(
            "this agent speaks protocol {PROTOCOL}, the request protocol {}: ask with the program of the agent's version",
            quote(&other)
        )),
        None => match serde_json::from_value::<Request>(Value::Object(members)) {
            Ok(request) if length > MAX_REQUEST && !request.carries_order() => too_long(MAX_REQUEST),
            Ok(request) => Ok(request),
            Err(error) => Err(unreadable(error)),
        },
    };
    IncomingRequest { form, request }
}

/// The line of an answer, or of a sentence that says why there is none. One that is longer than anybody reads says so instead.
///
/// # Errors
/// Those of serde.
pub fn answer_line<T: Serialize>(form: LineForm, answer: &Result<T, String>) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        #[serde(skip_serializing_if = "Option::is_none")]
        protocol: Option<u32>,
        #[serde(flatten)]
        outcome: OkOrError<'a, T>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    enum OkOrError<'a, T> {
        Ok(&'a T),
        Error(&'a str),
    }
    let said = |outcome: OkOrError<'_, T>| {
        let protocol = (form == LineForm::Numbered).then_some(PROTOCOL);
        line(&Line { protocol, outcome })
    };
    let text = said(match answer {
        Ok(answer) => OkOrError::Ok(answer),
        Err(problem) => OkOrError::Error(problem),
    })?;
    if text.len() as u64 > MAX_ANSWER {
        return said(OkOrError::Error(&format!(
            "the answer is longer than {MAX_ANSWER} bytes"
        )));
    }
    Ok(text)
}

/// Reads the line of an answer.
///
/// # Errors
/// [`AnswerFault`].
pub fn read_answer<T: DeserializeOwned>(line: &str) -> Result<T, AnswerFault> {
    #[derive(Deserialize)]
    struct Content<T> {
        ok: T,
    }
    open_envelope(line)?;
    Ok(serde_json::from_str::<Content<T>>(line)?.ok)
}

/// Looks at what there is of an answer besides its content: that is read only when it is known to be of our protocol.
fn open_envelope(line: &str) -> Result<(), AnswerFault> {
    #[derive(Deserialize)]
    struct Envelope {
        protocol: Option<u32>,
        error: Option<String>,
    }
    let envelope: Envelope = serde_json::from_str(line)?;
    if envelope.protocol != Some(PROTOCOL) {
        let early = || "an early protocol without a number".to_owned();
        let theirs = envelope
            .protocol
            .map_or_else(early, |number| format!("protocol {number}"));
        return Err(AnswerFault::OtherProtocol { theirs });
    }
    if let Some(problem) = envelope.error {
        return Err(AnswerFault::Refused(problem));
    }
    Ok(())
}

fn line(value: &impl Serialize) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
