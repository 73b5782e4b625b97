//! `edgewarden restore`: the kernel holds what the journal says, before anything else runs.
//!
//! The unit that `edgewarden install` writes runs it before the network is there. It is the agent's own first act, and
//! nothing more: no cloud, no names, no capture, no socket.

use std::path::Path;
use std::time::Duration;

use super::{Failure, environment, out, place, safe};
use crate::agent::configuration;
use crate::agent::enforcer::{Enforcer, HostMachine, mailbox};
use crate::config::document::Development;
use crate::host::files;
use crate::host::files::state_directory::LOCK;
use crate::host::log::LogStream;
use crate::quarantine::proof::state::{Phase, State};

/// A second is enough for a killed process to be gone, and little at boot.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    state: place::StateDirectory,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let _log = environment::log("warn", LogStream::Error);
    let line = environment::runtime()?.block_on(restore(
        &arguments.state.path,
        socket,
        environment::development(),
    ))?;
    out(&format!("{}\n", safe::safe(&line)))
}

async fn restore(directory: &Path, socket: &Path, development: Development) -> Result<String, Failure> {
    // Held to the end: an agent that starts meanwhile waits for it.
    let _lock = match lock(directory).await {
        Ok(Some(lock)) => Some(lock),
        Ok(None) => return Ok("nothing to do: an agent runs, and enforces the journal itself".into()),
        // The rules matter more than the lock. Without a directory there was never an order.
        Err(error) => {
            if directory.symlink_metadata().is_ok() {
                tracing::warn!("{}", crate::error_text(&error));
            }
            None
        }
    };
    let last_good = configuration::last_good(directory, development);
    let settings = configuration::settings(&last_good.config, None);
    let (machine, (_handle, mailbox)) = (HostMachine::new(directory).sheltered(socket), mailbox());
    let mut enforcer = Enforcer::restore_on(machine.clone(), settings, mailbox).await;
    enforcer.settle_processes().await;
    let told = outcome(enforcer.state(), enforcer.freed());
    drop(enforcer);
    machine.last_words().await;
    told.map_err(|text| Failure { text, code: 1 })
}

/// The lock; `None` when an agent holds it and does not let go. One that was killed holds it until its last thread is gone.
async fn lock(directory: &Path) -> Result<Option<files::FileLock>, files::FileError> {
    let mut tries = 1;
    loop {
        let lock = files::lock(&directory.join(LOCK))?;
        if lock.is_some() || tries == LOCK_TRIES {
            return Ok(lock);
        }
        tries += 1;
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// How it went, for the boot's log.
///
/// # Errors
/// The same for rules or processes that are not as ordered.
fn outcome(state: &State, freed: usize) -> Result<String, String> {
    let mut text = sentence(state)?;
    if freed > 0 {
        text.push_str(&format!("; frozen processes that run again: {freed}"));
    }
    let amiss = state
        .obstacles
        .iter()
        .filter(|obstacle| obstacle.is_of_processes());
    let amiss: Vec<String> = amiss
        .map(|obstacle| format!("{obstacle}; {}", obstacle.next_step()))
        .collect();
    if amiss.is_empty() {
        return Ok(text);
    }
    Err(format!("{text}; but {}", amiss.join("; ")))
}

/// How it went with the rules.
///
/// # Errors
/// The sentence for a kernel that was not proven to hold what is ordered.
fn sentence(state: &State) -> Result<String, String> {
    let orders: Vec<String> = state
        .orders
        .iter()
        .map(|order| format!("{} by {}", order.id, order.authority))
        .collect();
    let orders = orders.join(", ");
    let wanted = state.wanted;
    match state.phase {
        Phase::Released => Ok("nothing is ordered: the kernel holds no rule of ours".into()),
        Phase::Provisional | Phase::Enforced => {
            Ok(format!("restored and proven in the kernel: {wanted} ({orders})"))
        }
        Phase::Observed => Ok(format!(
            "mode observe: {wanted} is ordered ({orders}) and not enforced"
        )),
        Phase::RolledBack => Ok(format!(
            "{wanted} is ordered ({orders}) and was given up, because it cut the control channel: no rule of ours"
        )),
        Phase::Starting | Phase::Failed => Err(format!(
            "could not restore {wanted} ({orders}): {}",
            state.faults.join("; ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::orders::order::Posture;
    use crate::quarantine::proof::obstacle::Obstacle;

    #[test]
    fn a_process_that_stays_frozen_is_a_failure_with_its_next_step() {
        let mut state = State {
            phase: Phase::Released,
            ..State::default()
        };
        let text = outcome(&state, 2).unwrap();
        assert!(text.ends_with("; frozen processes that run again: 2"), "{text}");
        state.obstacles.push(Obstacle::ProcessStaysFrozen {
            pid: 7,
            name: "rogue".into(),
            why: "refused".into(),
        });
        let text = outcome(&state, 0).unwrap_err();
        assert!(
            text.contains("7 (rogue) stays frozen") && text.contains("kill -CONT"),
            "{text}"
        );
    }

    #[test]
    fn only_a_kernel_that_is_not_proven_is_a_failure() {
        let of = |phase, wanted| {
            sentence(&State {
                phase,
                wanted,
                faults: vec!["the packet filter cannot be asked".into()],
                ..State::default()
            })
        };
        for phase in [Phase::Provisional, Phase::Enforced] {
            let text = of(phase, Posture::Isolate).unwrap();
            assert!(
                text.starts_with("restored and proven in the kernel: isolate"),
                "{text}"
            );
        }
        for (phase, posture) in [
            (Phase::Released, Posture::Normal),
            (Phase::Observed, Posture::Isolate),
            (Phase::RolledBack, Posture::Isolate),
        ] {
            let text = of(phase, posture).unwrap();
            assert!(!text.contains("restored"), "{text}");
        }
        let text = of(Phase::Failed, Posture::Isolate).unwrap_err();
        assert!(
            text.contains("could not restore isolate") && text.contains("the packet filter cannot be asked"),
            "{text}"
        );
    }
}
