//! What becomes of the agent before the operator comes.

use edgewarden_lab::stage::preload::Hang;
use edgewarden_lab::stage::{PATIENCE, Stage};
use nix::sys::signal::Signal;

use crate::error::BenchError;

/// Exit code of a command that only shows something, where no agent answers.
const NO_AGENT: i32 = 3;

pub(super) struct State {
    pub(super) name: &'static str,
    /// Exit code of `status` in it.
    pub(super) status: i32,
    /// Has an agent that is well come into it.
    pub(super) begin: fn(&mut Stage, &Hang) -> Result<(), BenchError>,
    /// Whether it hangs, so that the switch has to be turned back.
    hangs: bool,
}

/// All of them, the control first.
pub(super) const ALL: &[State] = &[
    State {
        name: "well",
        status: 0,
        begin: |_, _| Ok(()),
        hangs: false,
    },
    State {
        name: "dead",
        status: NO_AGENT,
        begin: |stage, _| {
            if let Some(agent) = &mut stage.agent {
                agent.kill9()?;
            }
            Ok(())
        },
        hangs: false,
    },
    State {
        name: "stopped",
        status: NO_AGENT,
        begin: |stage, _| {
            if let Some(agent) = &mut stage.agent {
                agent.signal(Signal::SIGSTOP)?;
            }
            Ok(())
        },
        hangs: false,
    },
    State {
        name: "hanging",
        status: NO_AGENT,
        begin: |stage, hang| {
            hang.begin()?;
            stage.wait_status(PATIENCE, "it hangs", |status| status["agent"] == "not answering")?;
            Ok(())
        },
        hangs: true,
    },
];

impl State {
    /// Lets the next agent go on.
    pub(super) fn end(&self, hang: &Hang) -> Result<(), BenchError> {
        if self.hangs {
            hang.end()?;
        }
        Ok(())
    }
}
