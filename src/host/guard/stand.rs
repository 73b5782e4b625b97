//! The guard's own life: wait for the lock, wait a little more, start an agent, wait for its end.
//!
//! In: the places. Out: agents, one at a time. Everything blocks, on one thread that has nothing else to do.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: the guard starts this very program again"
)]

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::post::Post;
use super::{GuardError, GuardPlaces, OWN_PROGRAM, Will};
use crate::host::clock;
use crate::host::files::{self, FileError};

/// How long nobody may hold the lock before the guard steps in: both nuclei start a component that died within a second or
/// two.
const GRACE: Duration = Duration::from_secs(3);
/// The same where nobody has left a will: the machine was started, and the nucleus with it.
const BOOT_GRACE: Duration = Duration::from_secs(60);
/// The grace doubles up to this while the agents of the guard end by a fault, or cannot be started.
const LONGEST_GRACE: Duration = Duration::from_secs(60);
/// An agent that ran for this long had no fault that comes back at once.
const STEADY: Duration = Duration::from_secs(300);
/// How long a guard stays that has found another one at the post.
const TAKEN: Duration = Duration::from_secs(30);
/// How long a guard stays that is not needed: a component that is only started anew has left its will by then.
const REST: Duration = Duration::from_secs(2);

/// Stands guard until nobody is wanted, the state directory is gone, or another guard is there. An agent that cannot be
/// started is told, and tried again.
///
/// # Errors
/// [`GuardError`], when the post cannot be had at all.
pub(crate) fn stand(places: &GuardPlaces, tell: impl Fn(&GuardError)) -> Result<(), GuardError> {
    let Some(_post) = Post::take(places)? else {
        // Whoever starts us again does not do so for ever at once.
        clock::pause(TAKEN);
        return Ok(());
    };
    let mut grace = GRACE;
    loop {
        if !is_left_alone(places) {
            return Ok(());
        }
        let since = clock::now().wall;
        let will = Will::read(places);
        if will.as_ref().is_some_and(|will| !will.is_wanted()) {
            clock::pause(REST);
            // Whoever is started next leaves another will, and starts another guard where there is none.
            if Will::read(places) == will {
                return Ok(());
            }
            continue;
        }
        clock::pause(if will.is_some() {
            grace
        } else {
            BOOT_GRACE.max(grace)
        });
        // Whoever has come meanwhile has left another will, or holds the lock.
        if Will::read(places) != will || !is_free(places) {
            grace = GRACE;
            continue;
        }
        let begun = clock::instant();
        let will = will.unwrap_or_else(Will::unknown);
        let is_well = match agent(places, &will, &since.to_string()) {
            Ok(status) => status.success() || begun.elapsed() >= STEADY,
            // A machine without a free process, or without memory: that passes, and nobody else is left.
            Err(error) => {
                tell(&error);
                false
            }
        };
        grace = if is_well {
            GRACE
        } else {
            (grace * 2).min(LONGEST_GRACE)
        };
    }
}

/// Waits until nobody holds the lock; `false`: there is no directory any more.
fn is_left_alone(places: &GuardPlaces) -> bool {
    match files::wait_for_lock(&places.lock()) {
        Ok(()) => true,
        // What hangs or refuses for a while is no reason to go; what was removed is.
        Err(_) => {
            let is_gone = matches!(places.post().try_exists(), Ok(false));
            if !is_gone {
                clock::pause(GRACE);
            }
            !is_gone
        }
    }
}

fn is_free(places: &GuardPlaces) -> bool {
    let tried: Result<_, FileError> = files::lock(&places.lock());
    matches!(tried, Ok(Some(_)))
}

/// Runs an agent to its end: of the copy, or where that does not start of what we run ourselves.
fn agent(places: &GuardPlaces, will: &Will, since: &str) -> Result<ExitStatus, GuardError> {
    let own = Path::new(OWN_PROGRAM);
    let copy = places.copy().map(|copy| run(&copy, places, will, since).status());
    let started = match copy {
        Some(Ok(status)) => Ok(status),
        Some(Err(_)) | None => run(own, places, will, since).status(),
    };
    started.map_err(|source| GuardError::Start {
        what: "an agent",
        source,
    })
}

/// The command line of an agent that stands in.
fn run(program: &Path, places: &GuardPlaces, will: &Will, since: &str) -> Command {
    let mut command = Command::new(program);
    command
        .arg0("edgewarden")
        .args(["run", "--guarded-since", since, "--state-dir"])
        .arg(&places.state)
        .arg("--control-socket")
        .arg(&places.control_socket)
        .env_clear()
        .envs(&will.environment)
        .stdin(Stdio::null());
    // The folder goes with the component.
    let directory = will.directory.as_deref().filter(|directory| directory.is_dir());
    command.current_dir(directory.unwrap_or_else(|| Path::new("/")));
    command
}

/// Starts a guard that is nobody's child and of no terminal, for whoever would take it along when it ends.
///
/// # Errors
/// [`GuardError::Start`].
pub(crate) fn detach(places: &GuardPlaces) -> Result<(), GuardError> {
    // Refused for one that leads a group already, which is as well.
    let _led_already = rustix::process::setsid();
    let started = command(places).spawn();
    started.map(drop).map_err(|source| GuardError::Start {
        what: "the guard",
        source,
    })
}

/// The guard's own command line; nothing of our environment but where programs are.
pub(super) fn command(places: &GuardPlaces) -> Command {
    let mut command = Command::new(places.program());
    command
        .arg0("edgewarden")
        .args(["guard", "--state-dir"])
        .arg(&places.state)
        .arg("--control-socket")
        .arg(&places.control_socket)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
