//! The recipe's install step, before the component runs; when that is, `rollout` knows.
//!
//! In: the step and what is wished of the component. Out: whether the component may run; `installed`, `installFailed`
//! and `broken` events. Lite tries three times; the classic nucleus declares BROKEN at the third error.
//! Deliberately absent: the step's own `Timeout`, `Skipif`, bootstrap steps.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::component::Wish;
use super::events::emit;
use super::launcher::{self, Launch};
use super::state::Nucleus;

/// Attempts before the component is broken.
const ATTEMPTS: usize = 3;
/// Both nuclei's default for the step.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the step until it succeeds; true when the component may run.
///
/// # Errors
/// When folders or the log cannot be made, or the shell cannot be started.
pub(super) async fn install(
    nucleus: &Arc<Nucleus>,
    launch: &Launch,
    wishes: &mut watch::Receiver<Wish>,
) -> std::io::Result<bool> {
    let Some(script) = &launch.recipe.install else {
        return Ok(true);
    };
    for attempt in 1..=ATTEMPTS {
        let (mut child, output) = launcher::step(nucleus, launch, script)?;
        let group = launcher::group(&child);
        let by_itself = tokio::select! {
            status = child.wait() => Some(status?),
            () = tokio::time::sleep(LIMIT) => None,
            _ = wishes.wait_for(|wish| *wish == Wish::End) => None,
        };
        let status = match by_itself {
            Some(status) => status,
            None => launcher::end(nucleus, child, group).await?,
        };
        output.drain().await;
        if by_itself.is_some_and(|status| status.success()) {
            emit(&json!({ "event": "component", "state": "installed", "attempt": attempt }));
            return Ok(true);
        }
        let (code, signal) = (status.code(), status.signal());
        emit(
            &json!({ "event": "component", "state": "installFailed", "attempt": attempt, "code": code, "signal": signal }),
        );
        if *wishes.borrow() == Wish::End {
            return Ok(false);
        }
    }
    emit(&json!({ "event": "component", "state": "broken", "step": "install", "starts": 0 }));
    Ok(false)
}
