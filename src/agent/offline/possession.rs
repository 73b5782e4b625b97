//! The state directory for a command of the operator, if need be against an agent that gives no sign of life.
//!
//! In: the places. Out: the lock and what was found in the agent's place, or the socket of an agent that is well.
//! Invariants: only an agent is signalled (`holder`, or who listens where one was asked and runs our program), through its pidfd
//! and start time, and only after it gave no sign of life for [`PULSE_LIMIT`](crate::control::client::PULSE_LIMIT), or broke off;
//! all of it together, with what the command asked before, takes less than two seconds where an agent is dead, stopped or hangs. It is killed and not told to end: an orderly end would say to nucleus and guard that nobody has to
//! follow.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{DISK_LIMIT, Places, Refusal, Silent};
use crate::agent::holder::{self, Attempt, Holder, Note};
use crate::control::ask_error::AskError;
use crate::control::client::feel_pulse;
use crate::host::files::FileLock;
use crate::host::processes::doing::is_stopped;
use crate::host::processes::process_table;
use crate::host::processes::signals::{self, SignalError};
use crate::host::worker::Worker;
use crate::process::ProcessId;

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a killed process may take to be gone; longer is one that hangs in the kernel, where it can do nothing any more.
const KILL_LIMIT: Duration = Duration::from_millis(300);
/// How long somebody who is no agent may hold the lock: another command of ours is done by then.
const OTHERS_LIMIT: Duration = Duration::from_secs(5);
/// One that is younger may not listen yet: it carries out the journal first.
pub(super) const YOUNG: Duration = Duration::from_secs(90);
/// How long such a one may go on without listening while somebody waits: it reads configuration and journal first, for which a
/// disk has 72 seconds. One whose deciding thread hangs is ended by its own watchdog before that.
const START_LIMIT: Duration = Duration::from_secs(75);
/// The same for one that is older: a socket whose file somebody removed is made anew in half of that.
const UNHEARD_LIMIT: Duration = Duration::from_secs(5);

/// What an agent did not do that was asked and is there.
const NO_SIGN: &str = "gave no sign of life";

/// What came of it.
pub(super) enum Possession {
    /// The directory is ours as far as it can be.
    Ours {
        lock: Option<FileLock>,
        /// What was found in the agent's place, for people.
        found: String,
        /// Why somebody may undo what is done: the lock could not be had.
        rival: Option<String>,
    },
    /// An agent is well, and listens there.
    Alive(PathBuf),
}

/// Who was killed.
struct Killed {
    process: ProcessId,
    /// What it did not do.
    how: String,
    at: Instant,
}

/// Has the directory, in any case.
pub(super) async fn possess(places: &Places) -> Possession {
    let disk = Worker::new("state-directory", DISK_LIMIT);
    let begun = Instant::now();
    let mut killed: Option<Killed> = None;
    loop {
        let state = places.state.clone();
        let tried = disk.run(move || attempt(&state)).await;
        let holder = match tried {
            Ok(Seen::Ours(lock)) => {
                places.end_beside(&mut killed).await;
                return ours(Some(lock), killed.as_ref(), places.refuser());
            }
            Ok(Seen::Held(holder)) => holder,
            // Nobody holds what cannot be locked.
            Ok(Seen::Nobody(why)) => {
                places.end_beside(&mut killed).await;
                return ours(None, killed.as_ref(), places.refuser()).because(&why);
            }
            Err(error) => {
                let state = places.state.display();
                let why = format!(
                    "whether an agent has {state} is not known ({})",
                    crate::error_text(&error)
                );
                places.end_beside(&mut killed).await;
                return ours(None, killed.as_ref(), Some(why));
            }
        };
        match holder {
            Holder::Agent(note) => {
                let is_killed = killed.as_ref().filter(|gone| gone.process == note.process);
                match is_killed {
                    // Without the lock, and with nobody who can do anything.
                    Some(gone) if gone.at.elapsed() >= KILL_LIMIT => {
                        return ours(None, killed.as_ref(), None);
                    }
                    Some(_) => {}
                    None => match sign_of_life(&note, begun, places.silent.as_ref()) {
                        Sign::Alive => match places.refusal.as_ref().filter(|refusal| refusal.is_agents) {
                            None => return Possession::Alive(note.control_socket),
                            Some(Refusal { why, .. }) => {
                                let pid = note.process.pid;
                                let why = format!(
                                    "the agent, process {pid}, is there and was not ended, and does not do it ({why})"
                                );
                                return ours(None, killed.as_ref(), Some(why));
                            }
                        },
                        Sign::Starting => {}
                        Sign::None(how) => killed = Some(kill(note.process, how)),
                    },
                }
            }
            Holder::Other(who) if begun.elapsed() >= OTHERS_LIMIT => {
                let why = format!("{who} has the state directory and was not ended");
                return ours(None, killed.as_ref(), Some(why));
            }
            Holder::Other(_) => {}
        }
        sleep(PAUSE).await;
    }
}

/// What is seen of the directory and its lock.
enum Seen {
    Ours(FileLock),
    Held(Holder),
    /// It cannot be locked, and nobody holds it; why.
    Nobody(String),
}

/// Tries to have the lock; who holds it is looked for also where it cannot be had at all.
fn attempt(state: &Path) -> Seen {
    match holder::attempt(state).0 {
        Attempt::Ours(lock) => Seen::Ours(lock),
        Attempt::Held(holder) => Seen::Held(holder),
        Attempt::NoPlace(error) | Attempt::NoLock(error) => {
            holder::find(state).map_or_else(|| Seen::Nobody(crate::error_text(&error)), Seen::Held)
        }
    }
}

/// What an agent that holds the lock gives.
enum Sign {
    Alive,
    /// None yet: it may just be starting, or has just ended.
    Starting,
    /// None, in words.
    None(String),
}

fn sign_of_life(note: &Note, since: Instant, silent: Option<&Silent>) -> Sign {
    let Some(age) = note.age() else {
        return Sign::Starting;
    };
    let is_young = age < YOUNG;
    // A second time would take the operator as long again.
    if silent.is_some_and(|silent| silent.is(note)) {
        return Sign::None(NO_SIGN.to_owned());
    }
    let limit = if is_young { START_LIMIT } else { UNHEARD_LIMIT };
    match feel_pulse(&note.control_socket) {
        // Of another version, it still says something.
        Ok(()) | Err(AskError::OtherProtocol { .. }) => Sign::Alive,
        Err(AskError::Silent { .. }) => Sign::None(NO_SIGN.to_owned()),
        // It listens a while after it has the lock.
        Err(_) if !is_stopped(note.process) && since.elapsed() < limit => Sign::Starting,
        Err(_) if is_stopped(note.process) => Sign::None(NO_SIGN.to_owned()),
        Err(_) => {
            let (socket, seconds) = (note.control_socket.display(), since.elapsed().as_secs());
            Sign::None(format!("did not listen at {socket} for {seconds} s"))
        }
    }
}

impl Places {
    /// Ends an agent that was asked and gave no sign of life, and does not have the directory: somebody removed its lock, or it
    /// could never have it.
    async fn end_beside(&self, killed: &mut Option<Killed>) {
        let Some(process) = self.silent.as_ref().and_then(Silent::agent) else {
            return;
        };
        if killed.as_ref().is_some_and(|gone| gone.process == process) {
            return;
        }
        let gone = kill(process, NO_SIGN.to_owned());
        while !process_table::has_ended(process) && gone.at.elapsed() < KILL_LIMIT {
            sleep(PAUSE).await;
        }
        *killed = Some(gone);
    }

    /// Who refused, where he is there still although nobody has the directory: an agent without it undoes what it did not do.
    fn refuser(&self) -> Option<String> {
        let Refusal { why, .. } = self.refusal.as_ref()?;
        let socket = &self.control_socket;
        let is_there = matches!(feel_pulse(socket), Ok(()) | Err(AskError::OtherProtocol { .. }));
        is_there.then(|| {
            let socket = socket.display();
            format!("whoever listens at {socket} is there and does not do it ({why})")
        })
    }
}

fn kill(process: ProcessId, how: String) -> Killed {
    match signals::kill(process) {
        Ok(()) | Err(SignalError::Gone(_)) => {}
        Err(error) => tracing::warn!("{}", crate::error_text(&error)),
    }
    Killed {
        process,
        how,
        at: Instant::now(),
    }
}

fn ours(lock: Option<FileLock>, killed: Option<&Killed>, rival: Option<String>) -> Possession {
    let found = match (killed, &rival) {
        (Some(gone), _) => {
            let (pid, what) = (gone.process.pid, &gone.how);
            let how = if process_table::has_ended(gone.process) || lock.is_some() {
                "was killed"
            } else {
                "was killed and hangs in the kernel, where it can do nothing any more"
            };
            format!("the agent, process {pid}, {what}; it {how}")
        }
        (None, Some(why)) => why.clone(),
        (None, None) => "no agent runs".to_owned(),
    };
    Possession::Ours { lock, found, rival }
}

impl Possession {
    /// The same, with why the directory could not be locked.
    fn because(self, why: &str) -> Self {
        match self {
            Self::Ours { lock, found, rival } => Self::Ours {
                lock,
                found: format!("{found}; {why}"),
                rival,
            },
            alive @ Self::Alive(_) => alive,
        }
    }
}
