//! What a status says of processes and obstacles.

use serde_json::Value;

/// What it says of that process among those that an order stopped; null where it is none of them.
pub(crate) fn shown(status: &Value, pid: u32) -> Value {
    let stopped = status["enforcement"]["stopped"].as_array();
    let mut all = stopped.into_iter().flatten();
    all.find(|process| process["pid"] == pid)
        .cloned()
        .unwrap_or_default()
}

/// Whether it names an obstacle of that kind.
pub(crate) fn is_told(status: &Value, kind: &str) -> bool {
    let obstacles = status["enforcement"]["obstacles"].as_array();
    obstacles
        .into_iter()
        .flatten()
        .any(|obstacle| obstacle["kind"] == kind)
}
