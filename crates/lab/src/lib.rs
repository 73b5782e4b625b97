//! Stand-ins for the demo and the tests.
//!
//! * [`nucleus`]: a Greengrass IPC server bridged to a real MQTT broker
//! * [`cloud`]: Device Shadow, Device Defender ingest, Detect and the alarm Lambda as MQTT client
//! * [`front`]: a relay before the broker: delay, black hole, cuts, denied topics
//! * [`names`]: a name server
//! * [`packet`]: IP packets made by hand
//! * [`python`]: Python environments with pinned packages, for judges of formats and for building
//! * [`site`]: network namespaces, processes in them, probes
//! * [`traffic`]: the well-behaved sensor and the rogue
//! * [`stage`]: all of it in one piece, with the agent

pub mod cloud;
pub mod front;
pub mod names;
pub mod nucleus;
pub mod packet;
pub mod proxy;
pub mod python;
pub mod site;
pub mod stage;
pub mod traffic;

/// An error with all its causes in one line, `what: why: why`.
pub fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
