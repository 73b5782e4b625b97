//! The bench's lab: the stage with the release binaries, the kernel's notifications, the three orders.
//!
//! In: programs. Out: orders given and the times of what follows: the nucleus' events and the kernel's notifications have
//! the same clock.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use edgewarden_lab::site::Ns;
use edgewarden_lab::stage::{Stage, StageOptions};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};

use super::delays::now;
use super::watch::Watch;
use crate::error::{self, BenchError, content};
use crate::machine;
use xtask::workspace;

/// For what takes as long as it takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The packet filter's program, as the lab has it.
pub(crate) const NFT: &str = "/usr/sbin/nft";

/// Characters of what nft complains about; the rest is the text it was given.
const COMPLAINT: usize = 400;

/// Stage and watch.
pub(crate) struct Lab {
    pub(crate) stage: Stage,
    pub(crate) watch: Watch,
}

impl Lab {
    /// Everything but the agent, which has its configuration as shipped.
    pub(crate) fn start() -> Result<Self, BenchError> {
        let stage = Stage::start(StageOptions {
            configuration: json!({}),
            nucleus: vec!["--tell-messages".into()],
            lab: Some(machine::release("edgewarden-lab")),
            ..StageOptions::new(
                machine::release("edgewarden"),
                workspace::root().join("recipe.yaml"),
            )
        })?;
        let watch = Watch::open(&stage.site)?;
        Ok(Self { stage, watch })
    }

    /// Starts the agent and waits until it is connected and free.
    pub(crate) fn start_agent(&mut self) -> Result<(), BenchError> {
        self.stage.start_agent()?;
        self.wait_free()
    }

    /// Waits until the agent is connected and free.
    pub(crate) fn wait_free(&self) -> Result<(), BenchError> {
        self.stage
            .wait_status(PATIENCE, "connected and released", |status| {
                status["enforcement"]["phase"] == "released" && status["cloud"]["channelWorks"] == true
            })?;
        Ok(())
    }

    /// The agent's process.
    pub(crate) fn agent(&self) -> Result<u32, BenchError> {
        let agent = self.stage.agent.as_ref();
        agent
            .map(edgewarden_lab::site::Running::pid)
            .ok_or_else(|| content("the agent", "expected it to run"))
    }

    /// Kills the agent with SIGKILL.
    pub(crate) fn kill_agent(&mut self) -> Result<(), BenchError> {
        if let Some(agent) = &mut self.stage.agent {
            agent.kill9()?;
        }
        self.stage.agent = None;
        Ok(())
    }

    /// Removes every table of ours from the gateway.
    pub(crate) fn clean(&self) -> Result<(), BenchError> {
        for family in ["inet", "bridge", "netdev"] {
            // It need not be there.
            self.stage.nft(&["delete", "table", family, "edgewarden"])?;
        }
        Ok(())
    }

    /// Runs `nft -f FILE` in the gateway; the time of its start.
    pub(crate) fn load(&self, file: &Path) -> Result<Duration, BenchError> {
        let run = || {
            let start = now();
            Command::new(NFT)
                .arg("-f")
                .arg(file)
                .output()
                .map(|output| (start, output))
        };
        let ran = self.stage.site.run_in(Ns::Gateway, run)?;
        let (start, output) = ran.map_err(error::start(NFT))?;
        if output.status.success() {
            return Ok(start);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(content(
            format!("nft -f {}", file.display()),
            complaint.chars().take(COMPLAINT).collect::<String>(),
        ))
    }

    /// Hands the kernel a recorded transaction, byte for byte; the time before.
    pub(crate) fn replay(&self, file: &Path) -> Result<Duration, BenchError> {
        let bytes = std::fs::read(file).map_err(workspace::file("read", file))?;
        let send = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            setsockopt(&socket, sockopt::SndBufForce, &bytes.len())?;
            socket.connect(&SocketAddr::new(0, 0))?;
            let start = now();
            socket.send(&bytes, 0).map(|_| start)
        };
        let sent = self.stage.site.run_in(Ns::Gateway, send)?;
        sent.map_err(error::start("replaying a transaction"))
    }

    /// Writes the shadow's wish; the time at which the nucleus handed it to the agent.
    pub(crate) fn desire(&mut self, quarantine: &Value) -> Result<Duration, BenchError> {
        let since = now();
        self.stage.desire(&json!({ "quarantine": quarantine }))?;
        let event = self.stage.nucleus.wait_event(PATIENCE, |event| {
            at(event).is_some_and(|at| at >= since) && brings_wish(event)
        })?;
        at(&event).ok_or_else(|| content("the nucleus", "expected a time in its event"))
    }

    /// Waits until the agent has reported the wish as carried out; the time at which the nucleus took the report.
    pub(crate) fn reported(&mut self, quarantine: &Value, since: Duration) -> Result<Duration, BenchError> {
        let event = self.stage.nucleus.wait_event(PATIENCE, |event| {
            at(event).is_some_and(|at| at >= since) && reports(event, quarantine)
        })?;
        at(&event).ok_or_else(|| content("the nucleus", "expected a time in its event"))
    }
}

/// When a message was handed on.
fn at(event: &Value) -> Option<Duration> {
    event["monotonicNanoseconds"].as_u64().map(Duration::from_nanos)
}

/// Whether this is the first word of a new wish that the agent may act on: the delta, or the acceptance of the update
/// that made it, whichever comes first.
fn brings_wish(event: &Value) -> bool {
    let topic = event["topic"].as_str().unwrap_or_default();
    let state = &event["payload"]["state"];
    let delta = topic.ends_with("/shadow/update/delta") && !state["quarantine"].is_null();
    let accepted = topic.ends_with("/shadow/update/accepted") && !state["desired"]["quarantine"].is_null();
    event["to"] == "component" && (delta || accepted)
}

/// Whether this is the agent's report that the wish is carried out.
fn reports(event: &Value, quarantine: &Value) -> bool {
    let topic = event["topic"].as_str().unwrap_or_default();
    let reported = &event["payload"]["state"]["reported"]["quarantine"];
    event["to"] == "cloud" && topic.ends_with("/shadow/update") && reported == quarantine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_arrives_by_delta_or_acceptance() {
        let event = |to: &str, topic: &str, state: Value| {
            json!({"to": to, "topic": format!("$aws/things/x/shadow/{topic}"), "payload": {"state": state},
                "monotonicNanoseconds": 5})
        };
        let delta = event("component", "update/delta", json!({"quarantine": false}));
        assert!(brings_wish(&delta));
        assert_eq!(at(&delta), Some(Duration::from_nanos(5)));
        assert!(brings_wish(&event(
            "component",
            "update/accepted",
            json!({"desired": {"quarantine": true}})
        )));
        assert!(!brings_wish(&event(
            "component",
            "update/accepted",
            json!({"reported": {"quarantine": true}})
        )));
        assert!(!brings_wish(&event(
            "cloud",
            "update/delta",
            json!({"quarantine": true})
        )));
    }

    #[test]
    fn only_the_same_value_reports_a_wish() {
        let event = json!({"to": "cloud", "topic": "$aws/things/x/shadow/update",
            "payload": {"state": {"reported": {"quarantine": {"id": "a"}}}}});
        assert!(reports(&event, &json!({"id": "a"})));
        assert!(!reports(&event, &json!(true)));
    }
}
