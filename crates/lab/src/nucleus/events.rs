//! What happened, one JSON object a line on standard output: the tests' and the demo's window into the nucleus.

use std::io::Write;

use nix::time::ClockId;
use serde_json::{Value, json};

/// Prints `event`. A reader that went away is no reason to stop.
pub(super) fn emit(event: &Value) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{event}");
    let _ = output.flush();
}

/// Time of the kernel's monotonic clock, which every program of the machine reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nanoseconds(pub(super) u64);

impl Nanoseconds {
    /// None on a system without that clock.
    pub(super) fn now() -> Option<Self> {
        let time = std::time::Duration::from(ClockId::CLOCK_MONOTONIC.now().ok()?);
        u64::try_from(time.as_nanos()).ok().map(Self)
    }
}

/// Who gets a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    Component,
    Cloud,
}

/// Prints a message between component and cloud. A payload that is no JSON is left out.
pub(super) fn emit_message(to: To, at: Option<Nanoseconds>, topic: &str, payload: &[u8]) {
    let to = match to {
        To::Component => "component",
        To::Cloud => "cloud",
    };
    let payload: Value = serde_json::from_slice(payload).unwrap_or_default();
    emit(&json!({
        "event": "message", "to": to, "topic": topic, "payload": payload,
        "monotonicNanoseconds": at.map(|at| at.0),
    }));
}
