//! Runs the component as its recipe says, and rations its restarts as both nuclei do.
//!
//! In: the run script and what is wished of the component. Out: a process, `started`, `exited`, `killed` and `broken` events.
//! How often it may fail is [`Ration`]'s; the install step came before (`rollout`, `installer`).
//! Deliberately absent: the component's own user (`RequiresPrivilege` makes no difference here), cgroups, systemd.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ancestry;
use super::component::Wish;
use super::events::emit;
use super::ration::Ration;
use super::recipe::{Recipe, Script};
use super::state::Nucleus;
use super::variables::Variables;

/// From one look to the next whether a process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long what a step has written may take to the log once it has ended.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

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
    let mut ration = Ration::new(nucleus.personality.errors_chain());
    let mut last_wish = Wish::Rest;
    loop {
        let wish = *wishes.borrow_and_update();
        if wish != last_wish {
            // Asked for, so it does not count as a failure.
            ration.clear();
            last_wish = wish;
        }
        let end = match wish {
            Wish::End => return Ok(()),
            Wish::Rest => End::Finished,
            Wish::Run(_) if may_start(&nucleus, &mut ration) => {
                run_once(&nucleus, &launch, &script, &mut wishes).await?
            }
            Wish::Run(_) => End::Finished,
        };
        let otherwise = wishes.changed();
        match end {
            End::Interrupted => {}
            End::Failed => {
                ration.failed(Instant::now());
                drop(tokio::time::timeout(nucleus.personality.restart_pause(), otherwise).await);
            }
            End::Finished => drop(otherwise.await),
        }
    }
}

/// Counts a start, or says that there were too many.
fn may_start(nucleus: &Nucleus, ration: &mut Ration) -> bool {
    let started = ration.start(Instant::now());
    nucleus.component_process.set_broken(started.is_err());
    if let Err(starts) = started {
        emit(&json!({ "event": "component", "state": "broken", "starts": starts }));
    }
    started.is_ok()
}

async fn run_once(
    nucleus: &Nucleus,
    launch: &Launch,
    script: &Script,
    wishes: &mut watch::Receiver<Wish>,
) -> std::io::Result<End> {
    let (mut child, output) = step(nucleus, launch, script)?;
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
    output.drain().await;
    let (code, signal) = (status.code(), status.signal());
    emit(&json!({ "event": "component", "state": "exited", "pid": pid, "code": code, "signal": signal }));
    Ok(match by_itself {
        None => End::Interrupted,
        Some(status) if status.success() => End::Finished,
        Some(_) => End::Failed,
    })
}

/// Starts a step; what it writes goes to the component's log by the way this nucleus has for it.
pub(super) fn step(
    nucleus: &Nucleus,
    launch: &Launch,
    script: &Script,
) -> std::io::Result<(Child, StepOutput)> {
    let log = open_log(nucleus)?;
    let mut shell = shell(nucleus, launch, script)?;
    let by_pipe = nucleus.personality.reads_output();
    if by_pipe {
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
    } else {
        shell.stdout(log.try_clone()?).stderr(log.try_clone()?);
    }
    let mut child = shell.spawn()?;
    let mut output = StepOutput(JoinSet::new());
    if let Some(said) = child.stdout.take() {
        output.0.spawn(copy(said, log.try_clone()?));
    }
    if let Some(said) = child.stderr.take() {
        output.0.spawn(copy(said, log));
    }
    Ok((child, output))
}

/// What reads a step's output, where the nucleus does.
pub(super) struct StepOutput(JoinSet<()>);

impl StepOutput {
    /// Waits until all of it is in the log. What the step left running may hold its pipes for ever.
    pub(super) async fn drain(mut self) {
        let all = async { while self.0.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN_LIMIT, all).await;
        self.0.detach_all();
    }
}

async fn copy(mut said: impl AsyncRead + Unpin, mut log: std::fs::File) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = said.read(&mut buffer).await {
        if log.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn open_log(nucleus: &Nucleus) -> std::io::Result<std::fs::File> {
    let logs = nucleus.root.join("logs");
    std::fs::create_dir_all(&logs)?;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(logs.join(format!("{}.log", nucleus.component)))
}

/// The shell that runs a step, as leader of a process group, in the component's work folder.
fn shell(nucleus: &Nucleus, launch: &Launch, script: &Script) -> std::io::Result<Command> {
    let mut variables = launch.variables.clone();
    variables.configuration = nucleus.configurations().own.clone();
    std::fs::create_dir_all(&variables.work)?;
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
        .process_group(0)
        .kill_on_drop(true);
    Ok(shell)
}

/// The process group that a step leads.
pub(super) fn group(child: &Child) -> Option<Pid> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    pid.map(Pid::from_raw)
}

/// Asks the component's processes to end and then makes them, as this nucleus does. What had to be killed is told.
pub(super) async fn end(
    nucleus: &Nucleus,
    mut child: Child,
    group: Option<Pid>,
) -> std::io::Result<ExitStatus> {
    if nucleus.personality.stops_one_by_one()
        && let Some(own) = group
    {
        for pid in ancestry::descendants(own.as_raw()) {
            end_one(nucleus, pid).await;
        }
        end_one(nucleus, own.as_raw()).await;
        return child.wait().await;
    }
    let tell = |signal| group.map(|group| killpg(group, signal));
    tell(Signal::SIGTERM);
    // A paused one has to go on to hear it; systemd sees to that.
    tell(Signal::SIGCONT);
    let ended = tokio::time::timeout(nucleus.personality.stop_limit(), child.wait()).await;
    tell(Signal::SIGKILL);
    match ended {
        Ok(status) => status,
        Err(_) => {
            emit(&json!({ "event": "component", "state": "killed", "pid": child.id() }));
            child.wait().await
        }
    }
}

/// Asks one process to end, and kills it when it does not in time.
async fn end_one(nucleus: &Nucleus, pid: i32) {
    let limit = nucleus.personality.stop_limit();
    let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
    let ended = async {
        while ancestry::lives(pid) {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(limit, ended).await.is_err() {
        let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        emit(&json!({ "event": "component", "state": "killed", "pid": pid }));
    }
}
