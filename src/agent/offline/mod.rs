//! What the command line does itself where no agent answers: the way out, and what can be said from journal, kernel and lock.
//!
//! In: where the agent keeps its state. Out: the operator's release, carried out, in the journal and in the history
//! ([`release`]); who is in the agent's place, what the kernel holds and what the journal wants ([`look`]).
//! Invariants: the same enforcer as the agent's does it, so nothing is decided here; only a process that holds the state
//! directory's lock, signed it as an agent and gave no sign of life is ended, and only for a release; whoever only looks
//! changes nothing. Absent: the cloud, which the next agent tells what the journal says.

mod look;
mod machine;
mod possession;
mod release;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::configuration::{self, LastGood};
use super::control::operator;
use super::enforcer::{Enforcer, EnforcerSettings, mailbox};
use super::holder::{self, Holder, Network, Note};
use crate::config::document::Development;
use crate::control::ask_error::AskError;
use crate::control::client::{PULSE_LIMIT, feel_pulse};
use crate::host::files;
use crate::host::files::journal_file::NAME as JOURNAL;
use crate::host::processes::process_table;
use crate::host::worker::Worker;
use crate::process::ProcessId;
use crate::quarantine::history::Event;
use crate::quarantine::ports::Machine;

pub(crate) use look::{look, plan, see};
pub(crate) use release::{Outcome, release};

/// How long the disk may take for what can be done without.
const DISK_LIMIT: Duration = Duration::from_secs(2);

/// How the names of our programs begin, whatever processor they are for.
const PROGRAM: &str = "edgewarden";

/// An agent that is younger may not be the one that was asked and gave no sign of life just now.
const ASKED: Duration = PULSE_LIMIT.saturating_add(Duration::from_millis(500));

/// Where an agent keeps its state, and listens.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) state: PathBuf,
    pub(crate) control_socket: PathBuf,
    /// Whether development keys of the configuration are taken.
    pub(crate) development: Development,
    /// Who was asked just now, and gave no sign of life.
    pub(crate) silent: Option<Silent>,
    /// What was said instead of doing it.
    pub(crate) refusal: Option<Refusal>,
}

/// The agent's packet filter is that of another network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// Where this process is: nothing can be seen or done from here.
    Is(u32),
    /// Where it was. Perhaps that one is gone, with all its rules.
    Was,
}

impl std::fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Is(pid) => write!(
                f,
                "the agent, process {pid}, is in another network namespace than this command: run it with \
                 `nsenter --net=/proc/{pid}/ns/net`"
            ),
            Self::Was => write!(
                f,
                "the agent ran in another network namespace than this command, and where that is still there its rules stay"
            ),
        }
    }
}

/// Somebody was asked, is there, and does not do it.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// For people.
    pub(crate) why: String,
    /// The agent that has the state directory was asked too: it is neither asked again nor ended.
    pub(crate) is_agents: bool,
}

/// Somebody at a socket who gave no sign of life.
#[derive(Debug, Clone)]
pub(crate) struct Silent {
    /// Where he was asked.
    pub(crate) socket: PathBuf,
    /// His process, where the kernel named it.
    pub(crate) pid: Option<u32>,
}

impl Silent {
    /// Whether that was the agent of this note. Where the kernel did not name him, one who came while he was asked is not.
    fn is(&self, note: &Note) -> bool {
        match self.pid {
            Some(pid) => pid == note.process.pid,
            None => {
                self.socket == note.control_socket
                    && process_table::age(note.process).is_some_and(|age| age > ASKED)
            }
        }
    }
}

impl Silent {
    /// The agent that he is, as far as it is still there: it listens, and runs our program.
    fn agent(&self) -> Option<ProcessId> {
        let process = process_table::read(self.pid?)?;
        let program = process.exe.as_deref().map(Path::new).and_then(Path::file_name)?;
        let is_ours = program.to_string_lossy().starts_with(PROGRAM);
        (is_ours && !process_table::has_ended(process.identity)).then_some(process.identity)
    }
}

/// Why nothing is to be removed: an agent is there that does not have this state directory. A sentence without its end.
pub(crate) fn agent_beside(state: &Path, socket: &Path) -> Option<String> {
    if holder::find(state).is_some() {
        return None;
    }
    let (place, state) = (socket.display(), state.display());
    match feel_pulse(socket) {
        Ok(()) | Err(AskError::OtherProtocol { .. }) => {
            Some(format!("an agent listens at {place} and does not have {state}"))
        }
        Err(AskError::Silent { pid, .. }) => {
            let silent = Silent {
                socket: socket.to_owned(),
                pid,
            };
            let pid = silent.agent()?.pid;
            Some(format!(
                "an agent, process {pid}, is there at {place}, gives no sign of life and does not have {state}"
            ))
        }
        Err(_) => None,
    }
}

impl Places {
    /// Whether the agent's packet filter is that of another network namespace.
    pub(crate) async fn elsewhere(&self) -> Option<Elsewhere> {
        let (directory, silent) = (self.state.clone(), self.silent.clone());
        let disk = Worker::new("state-directory", DISK_LIMIT);
        let looked = disk.run(move || {
            let alive = match holder::find(&directory) {
                Some(Holder::Agent(note)) => Some(note.process.pid),
                _ => silent.and_then(|silent| Some(silent.agent()?.pid)),
            };
            (alive, holder::last_note(&directory))
        });
        let (alive, note) = looked.await.ok()?;
        let own = Network::own()?;
        let Some(pid) = alive else {
            let theirs = note?.network?;
            let is_other = theirs.boot == own.boot && theirs.namespace != own.namespace;
            return is_other.then_some(Elsewhere::Was);
        };
        let theirs = process_table::network_namespace(pid)?;
        (theirs != own.namespace).then_some(Elsewhere::Is(pid))
    }

    /// Why what the cloud ordered is not known: the disk does not read the journal while somebody waits.
    async fn unread_journal(&self) -> Option<String> {
        let journal = self.state.join(JOURNAL);
        let disk = Worker::new("journal", DISK_LIMIT);
        let read = disk.run({
            let journal = journal.clone();
            move || files::read(&journal).map(drop)
        });
        let late = read.await.err()?;
        Some(format!(
            "{} was not read in time ({}), so what the cloud ordered may come again",
            journal.display(),
            crate::error_text(&late)
        ))
    }

    /// Where the agent listens or listened, and the settings of the last good configuration; the defaults while the disk does
    /// not answer.
    async fn begin(&self) -> (PathBuf, EnforcerSettings) {
        let (directory, development) = (self.state.clone(), self.development);
        let disk = Worker::new("configuration", DISK_LIMIT);
        let read = disk.run(move || {
            let note = holder::last_note(&directory);
            (configuration::last_good(&directory, development), note)
        });
        let (last_good, note) = read.await.unwrap_or_else(|_| (LastGood::defaults(), None));
        // Whoever of them is left is spared with those above him.
        let mut ancestors = note.iter().flat_map(|note| &note.ancestors).copied();
        let nucleus = ancestors.find(|ancestor| !process_table::has_ended(*ancestor));
        drop(ancestors);
        // A journal that was late when an agent ended lies beside its socket, whatever socket was asked here.
        let socket = note.map_or_else(|| self.control_socket.clone(), |note| note.control_socket);
        (socket, configuration::settings(&last_good.config, nucleus))
    }

    /// Whether the nucleus that started an agent last still runs: one that was started since is none of the agent's ancestors.
    async fn knows_nucleus(&self) -> bool {
        let directory = self.state.clone();
        let disk = Worker::new("configuration", DISK_LIMIT);
        let read = disk.run(move || holder::last_note(&directory));
        let note = read.await.ok().flatten();
        let nearest = note.and_then(|note| note.ancestors.first().copied());
        nearest.is_some_and(|parent| !process_table::has_ended(parent))
    }
}

/// Whether a release can be asked for with that reason.
///
/// # Errors
/// What is wrong with the reason, in a sentence for the operator.
pub(crate) fn check_release(everything: bool, reason: Option<&str>) -> Result<(), String> {
    operator::release(everything, reason).map(drop)
}

/// An enforcer that nobody talks to.
async fn enforcer<M: Machine>(machine: M, settings: EnforcerSettings, begin: Event) -> Enforcer<M> {
    let (_handle, mailbox) = mailbox();
    Enforcer::assemble(machine, settings, mailbox, begin).await
}
