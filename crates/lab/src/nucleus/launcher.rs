//! Runs the component as its recipe says, and rations its restarts as both nuclei do.
//!
//! In: the run script. Out: a process, `started`, `exited` and `broken` events. Lite's unit has StartLimitBurst=3 in
//! 3600 s, the classic nucleus declares BROKEN at the third error within an hour: three starts, either way.
//! Deliberately absent: the component's own user (`RequiresPrivilege` makes no difference here), cgroups, systemd.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::events::emit;
use super::recipe::Recipe;
use super::state::Nucleus;
use super::variables::Variables;

/// Starts allowed within [`START_PERIOD`].
const START_LIMIT: usize = 3;
/// Lite's StartLimitIntervalSec and the classic nucleus' error reset time.
const START_PERIOD: Duration = Duration::from_secs(3600);
/// Lite's RestartSec.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A component to run.
pub(super) struct Launch {
    pub(super) recipe: Recipe,
    pub(super) variables: Variables,
}

/// Runs the component until it finishes, is broken, or `stop` says so.
///
/// # Errors
/// When folders or the log cannot be made, or the shell cannot be started.
pub(super) async fn run(
    nucleus: Arc<Nucleus>,
    launch: Launch,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let Some(script) = launch.recipe.run_script.clone() else {
        emit(&json!({ "event": "component", "state": "absent", "reason": "the recipe has no run step" }));
        return Ok(());
    };
    let mut starts: Vec<Instant> = Vec::new();
    while !*stop.borrow() {
        let now = Instant::now();
        starts.retain(|start| now.duration_since(*start) < START_PERIOD);
        if starts.len() >= START_LIMIT {
            emit(&json!({ "event": "component", "state": "broken", "starts": starts.len() }));
            return Ok(());
        }
        starts.push(now);
        let child = start(&nucleus, &launch, &script)?;
        let pid = child.id();
        emit(&json!({ "event": "component", "state": "started", "pid": pid }));
        let status = watch_over(&nucleus, child, &mut stop).await?;
        let (code, signal) = (status.code(), status.signal());
        emit(&json!({ "event": "component", "state": "exited", "pid": pid, "code": code, "signal": signal }));
        if status.success() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(RESTART_PAUSE) => {}
            _ = stop.changed() => {}
        }
    }
    Ok(())
}

fn start(nucleus: &Nucleus, launch: &Launch, script: &str) -> std::io::Result<Child> {
    let mut variables = launch.variables.clone();
    variables.configuration = nucleus.configurations().own.clone();
    std::fs::create_dir_all(&variables.work)?;
    let logs = nucleus.root.join("logs");
    std::fs::create_dir_all(&logs)?;
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(logs.join(format!("{}.log", nucleus.component)))?;
    let own = launch
        .recipe
        .environment
        .iter()
        .map(|(name, value)| (name, variables.replace_in(value)));
    Command::new("sh")
        .arg("-c")
        .arg(variables.replace_in(script))
        .current_dir(&variables.work)
        .envs(nucleus.component_environment())
        .envs(own)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Waits for the end of the component; at `stop`, asks its process group to end and then makes it.
async fn watch_over(
    nucleus: &Nucleus,
    mut child: Child,
    stop: &mut watch::Receiver<bool>,
) -> std::io::Result<ExitStatus> {
    tokio::select! {
        status = child.wait() => return status,
        _ = stop.changed() => {}
    }
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .map(Pid::from_raw);
    if let Some(group) = group {
        let _ = killpg(group, Signal::SIGTERM);
    }
    let ended = tokio::time::timeout(nucleus.personality.stop_limit(), child.wait()).await;
    if let Some(group) = group {
        let _ = killpg(group, Signal::SIGKILL);
    }
    match ended {
        Ok(status) => status,
        Err(_) => child.wait().await,
    }
}
