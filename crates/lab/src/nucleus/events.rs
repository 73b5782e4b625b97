//! What happened, one JSON object a line on standard output: the tests' and the demo's window into the nucleus.

use std::io::Write;

use serde_json::Value;

/// Prints `event`. A reader that went away is no reason to stop.
pub(super) fn emit(event: &Value) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{event}");
    let _ = output.flush();
}
