//! Runs the component as its recipe says, and rations its restarts as both nuclei do.
//!
//! In: the run script and what is wished of the component. Out: a process, `started`, `exited` and `broken` events. Lite's
//! unit has StartLimitBurst=3 in 3600 s, the classic nucleus declares BROKEN at the third error within an hour: three
//! starts, either way. The install step comes first (`installer`).
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

use super::component::Wish;
use super::events::emit;
use super::installer;
use super::recipe::{Recipe, Script};
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

/// How a run ended.
enum End {
    /// Somebody wishes otherwise.
    Interrupted,
    /// With an error; it is to be started again.
    Failed,
    /// Without one.
    Finished,
}

/// Runs the component as it is wished, until the nucleus ends.
///
/// # Errors
/// When folders or the log cannot be made, or the shell cannot be started.
pub(super) async fn run(nucleus: Arc<Nucleus>, launch: Launch) -> std::io::Result<()> {
    let Some(script) = launch.recipe.run.clone() else {
        emit(&json!({ "event": "component", "state": "absent", "reason": "the recipe has no run step" }));
        return Ok(());
    };
    let mut wishes = nucleus.component_process.wishes();
    if !installer::install(&nucleus, &launch, &mut wishes).await? {
        return Ok(());
    }
    let mut starts: Vec<Instant> = Vec::new();
    let mut last_wish = Wish::Rest;
    loop {
        let wish = *wishes.borrow_and_update();
        if wish != last_wish {
            // Asked for, so it does not count as a failure.
            starts.clear();
            last_wish = wish;
        }
        let end = match wish {
            Wish::End => return Ok(()),
            Wish::Rest => End::Finished,
            Wish::Run(_) if may_start(&mut starts) => {
                run_once(&nucleus, &launch, &script, &mut wishes).await?
            }
            Wish::Run(_) => End::Finished,
        };
        let otherwise = wishes.changed();
        match end {
            End::Interrupted => {}
            End::Failed => drop(tokio::time::timeout(RESTART_PAUSE, otherwise).await),
            End::Finished => drop(otherwise.await),
        }
    }
}

/// Counts a start, or says that there were too many.
fn may_start(starts: &mut Vec<Instant>) -> bool {
    let now = Instant::now();
    starts.retain(|start| now.duration_since(*start) < START_PERIOD);
    if starts.len() >= START_LIMIT {
        emit(&json!({ "event": "component", "state": "broken", "starts": starts.len() }));
        return false;
    }
    starts.push(now);
    true
}

async fn run_once(
    nucleus: &Nucleus,
    launch: &Launch,
    script: &Script,
    wishes: &mut watch::Receiver<Wish>,
) -> std::io::Result<End> {
    let mut child = shell(nucleus, launch, script)?.spawn()?;
    let (pid, group) = (child.id(), group(&child));
    if let Some(group) = group {
        nucleus.component_process.started(group);
    }
    emit(&json!({ "event": "component", "state": "started", "pid": pid }));
    let by_itself = tokio::select! {
        status = child.wait() => Some(status?),
        _ = wishes.changed() => None,
    };
    let status = match by_itself {
        Some(status) => status,
        None => end(nucleus, child, group).await?,
    };
    nucleus.component_process.ended();
    let (code, signal) = (status.code(), status.signal());
    emit(&json!({ "event": "component", "state": "exited", "pid": pid, "code": code, "signal": signal }));
    Ok(match by_itself {
        None => End::Interrupted,
        Some(status) if status.success() => End::Finished,
        Some(_) => End::Failed,
    })
}

/// The shell that runs a step, as leader of a process group, in the component's work folder.
pub(super) fn shell(nucleus: &Nucleus, launch: &Launch, script: &Script) -> std::io::Result<Command> {
    let mut variables = launch.variables.clone();
    variables.configuration = nucleus.configurations().own.clone();
    std::fs::create_dir_all(&variables.work)?;
    let logs = nucleus.root.join("logs");
    std::fs::create_dir_all(&logs)?;
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(logs.join(format!("{}.log", nucleus.component)))?;
    let own = script
        .environment
        .iter()
        .map(|(name, value)| (name, variables.replace_in(value)));
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(variables.replace_in(&script.text))
        .current_dir(&variables.work)
        .envs(nucleus.component_environment())
        .envs(own)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true);
    Ok(shell)
}

/// The process group that a step leads.
pub(super) fn group(child: &Child) -> Option<Pid> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    pid.map(Pid::from_raw)
}

/// Asks the component's process group to end and then makes it. A paused one has to go on to hear it.
pub(super) async fn end(
    nucleus: &Nucleus,
    mut child: Child,
    group: Option<Pid>,
) -> std::io::Result<ExitStatus> {
    let tell = |signal| group.map(|group| killpg(group, signal));
    tell(Signal::SIGTERM);
    tell(Signal::SIGCONT);
    let ended = tokio::time::timeout(nucleus.personality.stop_limit(), child.wait()).await;
    tell(Signal::SIGKILL);
    match ended {
        Ok(status) => status,
        Err(_) => child.wait().await,
    }
}
