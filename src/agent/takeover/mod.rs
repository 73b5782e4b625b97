//! Makes the state directory ours alone, if need be against a predecessor that is deaf.
//!
//! In: the state directory, our environment. Out: the lock, or none where it cannot be had in time; what became of a
//! predecessor. Two agents would fight over the same rules, so a second one waits for as long as the first one hears. One
//! that is stopped, hangs, or was left behind by a nucleus that died holds the lock for ever and obeys nobody: it is told to
//! end, and then made to. The journal says what goes on, as after any end.
//! Invariants: nothing here blocks the thread; only an agent is signalled, through its pidfd and start time (`holder`); it
//! was found deaf by every look for a stated time (`suspicion`), or says itself that its nucleus has ended; whoever takes
//! over for want of a nucleus has one, so two agents do not end each other in turn. One that the guard started
//! (`host::guard`) makes room for whoever a nucleus starts, at once, and takes over from nobody else. Absent: a cure for an enforcer that fails in each of them alike.

mod predecessor;
mod suspicion;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::Start;
use super::holder::{self, Attempt, Holder};
use crate::host::files::FileLock;
use crate::host::worker::{Worker, WorkerError};
use predecessor::{Answer, Predecessor, Verdict};

/// How long the disk of the state directory may take before the agent goes on without what is on it.
pub(super) const DISK_LIMIT: Duration = Duration::from_secs(10);
/// From one attempt to lock to the next.
const PAUSE: Duration = Duration::from_millis(200);
/// The same while the disk does not answer.
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// The variables by which a nucleus tells a component whose it is.
pub(super) const NUCLEUS_SOCKET: &str = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT";

/// What was had of the state directory.
pub(super) struct Owned {
    /// None where it could not be had; that was told.
    pub(super) lock: Option<FileLock>,
    /// What became of a predecessor that was deaf, for people.
    pub(super) predecessor: Option<String>,
}

/// Waits until the directory is ours, or cannot be; none when we are the guard's, and another agent is there. `disk` is where
/// whatever blocks is done.
pub(super) async fn own(
    start: &Start,
    lookup: impl Fn(&str) -> Option<String>,
    disk: &Worker,
) -> Option<Owned> {
    let nucleus = lookup(NUCLEUS_SOCKET).map(PathBuf::from);
    let mut successor = Successor {
        directory: &start.state_directory,
        control_socket: &start.control_socket,
        guarded: start.guarded.is_some(),
        disk,
        predecessor: Predecessor::new(lookup),
        silent: None,
        said: None,
    };
    let lock = match successor.wait().await {
        Outcome::Ours(lock) => Some(lock),
        Outcome::WithoutLock => None,
        Outcome::NotNeeded => return None,
    };
    if lock.is_some() {
        successor.sign(nucleus).await;
    }
    Some(Owned {
        lock,
        predecessor: successor.predecessor.epitaph(),
    })
}

/// What the wait came to.
enum Outcome {
    Ours(FileLock),
    /// It cannot be had, and nobody is known to have it.
    WithoutLock,
    /// We stand in for an agent, and one is there.
    NotNeeded,
}

struct Successor<'a, L> {
    directory: &'a Path,
    control_socket: &'a Path,
    /// Whether we only stand in for an agent that a nucleus starts.
    guarded: bool,
    disk: &'a Worker,
    predecessor: Predecessor<L>,
    /// Since when the disk has not answered.
    silent: Option<Instant>,
    /// What was told last: a wait is told once.
    said: Option<String>,
}

impl<L: Fn(&str) -> Option<String>> Successor<'_, L> {
    async fn wait(&mut self) -> Outcome {
        loop {
            let pause = match self.attempt().await {
                // One that could not have the lock, because its disk hung, is there all the same.
                Ok(Attempt::Ours(_)) if self.guarded && self.is_answered().await => {
                    tracing::info!("an agent answers: no other one is needed");
                    return Outcome::NotNeeded;
                }
                Ok(Attempt::Ours(lock)) => return Outcome::Ours(lock),
                // Our guard tries again once nobody does.
                Ok(Attempt::Held(holder)) if self.guarded && holder.goes_before_stand_ins() => {
                    tracing::info!("{}: no other one is needed", holder.words());
                    return Outcome::NotNeeded;
                }
                Ok(Attempt::Held(Holder::Agent(note))) => {
                    if note.guarded && !self.guarded {
                        self.predecessor.relieve(&note).await;
                    }
                    if !self.predecessor.is_told_to_end() {
                        let (path, pid) = (self.path(), note.process.pid);
                        self.say(format!(
                            "another agent holds {}, process {pid}: waiting until it ends, or is found deaf",
                            path.display()
                        ));
                    }
                    if let Verdict::Dead = self.predecessor.face(&note).await {
                        tracing::error!(
                            "process {} was killed and still holds the state directory: it hangs in the kernel, where it can \
                             do nothing any more; going on without the lock",
                            note.process.pid
                        );
                        return Outcome::WithoutLock;
                    }
                    PAUSE
                }
                Ok(Attempt::Held(Holder::Other(who))) => {
                    let path = self.path();
                    self.say(format!(
                        "{who} holds {} and is no agent that we know: waiting until it ends",
                        path.display()
                    ));
                    PAUSE
                }
                Ok(Attempt::NoPlace(error)) => {
                    tracing::error!("{}: orders will not survive a restart", crate::error_text(&error));
                    return Outcome::WithoutLock;
                }
                Ok(Attempt::NoLock(error)) => {
                    tracing::error!("{}", crate::error_text(&error));
                    return Outcome::WithoutLock;
                }
                Err(why) => {
                    if self.is_given_up() && self.is_alone(&why).await {
                        return Outcome::WithoutLock;
                    }
                    LONG_PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether an agent answers where we would.
    async fn is_answered(&self) -> bool {
        !matches!(
            self.predecessor.ask(self.control_socket, None).await,
            Answer::None { .. }
        )
    }

    async fn attempt(&mut self) -> Result<Attempt, String> {
        self.silent.get_or_insert_with(Instant::now);
        if !self.disk.is_idle() {
            return Err("the disk still has no answer".to_owned());
        }
        let directory = self.directory.to_owned();
        let tried = self.disk.run(move || holder::attempt(&directory)).await;
        let (attempt, closed) = tried.map_err(|error: WorkerError| crate::error_text(&error))?;
        self.silent = None;
        if let Some(mode) = closed {
            let path = self.directory.display();
            tracing::warn!("{path} could be looked into by others (mode {mode:04o}): closed to them");
        }
        Ok(attempt)
    }

    /// Whether the disk had its time: a machine that is out of threads for a moment has not.
    fn is_given_up(&self) -> bool {
        self.silent.is_some_and(|since| since.elapsed() >= DISK_LIMIT)
    }

    /// Whether no agent is known while the disk does not answer: one that answers where we would listen may hold the lock
    /// that cannot be looked at.
    async fn is_alone(&mut self, why: &str) -> bool {
        let directory = self.directory.display().to_string();
        match self.predecessor.ask(self.control_socket, None).await {
            Answer::Status(_) | Answer::Refusal => {
                let socket = self.control_socket.display().to_string();
                self.say(format!(
                    "{directory} cannot be read ({why}), and an agent answers at {socket}: waiting until it ends"
                ));
                false
            }
            Answer::None { .. } => {
                tracing::error!(
                    "{directory} cannot be read ({why}): going on without its lock; orders will not survive a restart"
                );
                true
            }
        }
    }

    async fn sign(&self, nucleus: Option<PathBuf>) {
        let (directory, socket) = (self.directory.to_owned(), self.control_socket.to_owned());
        let guarded = self.guarded;
        let signed = self
            .disk
            .run(move || holder::sign(&directory, socket, nucleus, guarded))
            .await;
        let signed = signed.unwrap_or_else(|error| Err(crate::error_text(&error)));
        if let Err(why) = signed {
            tracing::warn!("{why}: a successor could not tell that we hold the state directory");
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.join(crate::host::files::state_directory::LOCK)
    }

    fn say(&mut self, what: String) {
        if self.said.as_ref() != Some(&what) {
            tracing::warn!("{what}");
            self.said = Some(what);
        }
    }
}
