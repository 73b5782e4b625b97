//! The agent's interval and this view of it are the same thing.

use std::sync::Arc;

use super::*;
use crate::agent::observer::{ObserveSettings, Observer};
use crate::host::clock;

/// What the agent answers is what is read here: a field renamed in the one would fail the other.
#[test]
fn an_interval_of_the_agent_can_be_read() {
    let now = clock::now().wall;
    let settings = ObserveSettings {
        // No interface: this test wants no packets.
        wanted: Arc::new(|_| false),
        ..ObserveSettings::all_interfaces(now)
    };
    let answer = serde_json::to_value(Observer::start(settings).peek(now)).unwrap();
    let interval: Interval = serde_json::from_value(answer).unwrap();
    assert_eq!(interval.started, now);
}

#[test]
fn names_of_reasons_are_those_of_the_agent() {
    use crate::observe::interval::UnattributedReason;
    for reason in [
        UnattributedReason::NotIp,
        UnattributedReason::Unparsed,
        UnattributedReason::NoPorts,
        UnattributedReason::NoSocket,
        UnattributedReason::NotAccepted,
        UnattributedReason::NoProcess,
        UnattributedReason::LookupFailed,
        UnattributedReason::Foreign,
    ] {
        let name = serde_json::to_value(reason).unwrap();
        assert_ne!(meaning(name.as_str().unwrap()), "", "{name}");
    }
}
