//! The agent that holds the lock: is asked, and ended when it is deaf for good.
//!
//! In: who it is. Out: signals to it, and an [`Verdict`]. It is asked on a thread beside; its nucleus is asked whether it
//! takes us only while the predecessor says that it is not taken.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::suspicion::{Deafness, Look, Said, Suspicion, said};
use crate::agent::holder::Note;
use crate::cloud::link::{LinkState, Nucleus};
use crate::control::ask_error::AskError;
use crate::control::client::ask_json_within;
use crate::control::question::GetStatus;
use crate::host::clock;
use crate::host::processes::process_table;
use crate::host::processes::signals::{self, SignalError};
use crate::host::worker::Worker;
use crate::process::ProcessId;

/// From one look to the next.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How long it may take to give its status: two seconds of that it may itself wait for its enforcer.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// The same with connecting, which has no limit of its own.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// How long a nucleus that has just started us usually takes to accept us, with room for a busy one; later is seen at the
/// next look.
const ACCEPT_LIMIT: Duration = Duration::from_millis(500);
/// How long it may take to end orderly.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How long a killed process may take to be gone; longer is one that hangs in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What is to be done about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    /// It was killed, and its lock is not given back.
    Dead,
}

/// What came of asking an agent for its status.
#[derive(Debug)]
pub(super) enum Answer {
    Status(Value),
    /// It answers, and not this: it is of another version, or not of our user.
    Refusal,
    None {
        kind: Deafness,
        why: String,
    },
}

pub(super) struct Predecessor<L> {
    lookup: L,
    questions: Worker,
    suspicion: Suspicion,
    next_look: Option<Instant>,
    /// Our own way to the nucleus, while the predecessor has none.
    nucleus: Option<Nucleus>,
    ending: Option<Ending>,
    complaint: Option<String>,
}

/// One that was told to end.
struct Ending {
    process: ProcessId,
    why: String,
    /// When that is enough.
    until: Instant,
    killed: bool,
}

impl<L: Fn(&str) -> Option<String>> Predecessor<L> {
    pub(super) fn new(lookup: L) -> Self {
        Self {
            lookup,
            questions: Worker::new("predecessor", ASK_LIMIT),
            suspicion: Suspicion::default(),
            next_look: None,
            nucleus: None,
            ending: None,
            complaint: None,
        }
    }

    pub(super) fn is_told_to_end(&self) -> bool {
        self.ending.is_some()
    }

    /// What became of it, if it was told to end.
    pub(super) fn epitaph(self) -> Option<String> {
        let ending = self.ending?;
        let how = if ending.killed {
            "was killed"
        } else {
            "ended when it was told to"
        };
        let text = format!(
            "the agent before, process {}, {}; it {how}",
            ending.process.pid, ending.why
        );
        tracing::warn!("took over: {text}");
        Some(text)
    }

    /// Tells one that stands in for us to make room, unless that was done.
    pub(super) async fn relieve(&mut self, note: &Note) {
        let is_told = self
            .ending
            .as_ref()
            .is_some_and(|ending| ending.process == note.process);
        if !is_told {
            self.tell_to_end(note, "stood in for the component".to_owned())
                .await;
        }
    }

    /// Looks at it when that is due, and does what follows.
    pub(super) async fn face(&mut self, note: &Note) -> Verdict {
        if self
            .ending
            .as_ref()
            .is_some_and(|ending| ending.process == note.process)
        {
            return self.see_it_end().await;
        }
        self.ending = None;
        if self.next_look.is_some_and(|next| Instant::now() < next) {
            return Verdict::Wait;
        }
        let look = self.look(note).await;
        self.next_look = Some(Instant::now() + LOOK_PAUSE);
        let deaf = self.suspicion.note(note.process, &look, clock::now().uptime);
        if let (Some(deaf), Look::Deaf { why, .. }) = (deaf, look) {
            let why = format!("{why} (for {} s)", deaf.as_secs());
            self.tell_to_end(note, why).await;
        }
        Verdict::Wait
    }

    async fn look(&mut self, note: &Note) -> Look {
        let status = match self.ask(&note.control_socket, Some(note.process.pid)).await {
            Answer::Status(status) => status,
            Answer::Refusal => return Look::Hears,
            Answer::None { kind, why } => return Look::Deaf { kind, why },
        };
        match said(&status) {
            Said::Connected => {
                self.nucleus = None;
                Look::Hears
            }
            Said::EnforcerGone(why) => Look::Deaf {
                kind: Deafness::Enforcer,
                why,
            },
            Said::Away(_) | Said::Orphan(_) if !self.nucleus_takes_us().await => Look::Hears,
            Said::Orphan(why) => Look::Deaf {
                kind: Deafness::Abandoned,
                why: format!("hears nothing of the nucleus that takes us ({why})"),
            },
            Said::Away(ipc) => Look::Deaf {
                kind: Deafness::Orphan,
                why: format!("hears nothing of the nucleus that takes us ({ipc})"),
            },
        }
    }

    /// Asks an agent for its status. `pid`: only if it is that process.
    pub(super) async fn ask(&self, socket: &Path, pid: Option<u32>) -> Answer {
        if !self.questions.is_idle() {
            // Connecting waits for room in its queue.
            return Answer::None {
                kind: Deafness::Mute,
                why: "takes no connections".to_owned(),
            };
        }
        let socket = socket.to_owned();
        let asked = self.questions.run(move || ask(&socket, pid)).await;
        asked.unwrap_or_else(|error| Answer::None {
            kind: Deafness::Mute,
            why: format!("gave no answer: {}", crate::error_text(&error)),
        })
    }

    /// Whether a nucleus started us, and has accepted us on a connection of our own, which is begun by the first question
    /// and waited for a little.
    async fn nucleus_takes_us(&mut self) -> bool {
        if self.nucleus.is_none() {
            self.nucleus = Nucleus::connect(&self.lookup).ok();
        }
        let Some(nucleus) = &self.nucleus else {
            return false;
        };
        let mut link = nucleus.link();
        let accepted = async {
            while link.state() != LinkState::Connected && link.changed().await {}
            link.state() == LinkState::Connected
        };
        tokio::time::timeout(ACCEPT_LIMIT, accepted)
            .await
            .unwrap_or(false)
    }

    async fn tell_to_end(&mut self, note: &Note, why: String) {
        let process = note.process;
        let started_by = note.nucleus.as_ref().map_or_else(String::new, |socket| {
            format!(", started by the nucleus at {}", socket.display())
        });
        tracing::warn!(
            "the agent before, process {}{started_by}, {why}: it is told to end",
            process.pid
        );
        if self.signal(process, signals::terminate).await {
            self.ending = Some(Ending {
                process,
                why,
                until: Instant::now() + END_LIMIT,
                killed: false,
            });
        } else {
            self.suspicion.forget();
        }
    }

    async fn see_it_end(&mut self) -> Verdict {
        let Some(ending) = &self.ending else {
            return Verdict::Wait;
        };
        let process = ending.process;
        if Instant::now() < ending.until {
            return Verdict::Wait;
        }
        if ending.killed {
            return Verdict::Dead;
        }
        tracing::warn!(
            "the agent before, process {}, does not end: it is killed",
            process.pid
        );
        let killed = self.signal(process, signals::kill).await;
        if let Some(ending) = &mut self.ending {
            ending.killed = killed;
            ending.until = Instant::now() + KILL_LIMIT;
        }
        Verdict::Wait
    }

    /// Whether the signal was sent; why it was not is told once.
    async fn signal(&mut self, to: ProcessId, send: fn(ProcessId) -> Result<(), SignalError>) -> bool {
        // Not where it is asked: that thread may hang in a question.
        let signals = Worker::new("signals", ASK_LIMIT);
        let complaint = match signals.run(move || send(to)).await {
            Ok(Ok(())) => return true,
            // Its lock is free, then.
            Ok(Err(SignalError::Gone(_))) => return false,
            Ok(Err(error)) => crate::error_text(&error),
            Err(error) => crate::error_text(&error),
        };
        if self.complaint.as_ref() != Some(&complaint) {
            tracing::error!("{complaint}: the agent before stays, and we wait until it ends");
            self.complaint = Some(complaint);
        }
        false
    }
}

fn ask(socket: &Path, pid: Option<u32>) -> Answer {
    let mut stranger = None;
    let asked = ask_json_within(socket, GetStatus {}, ANSWER_LIMIT, |stream| {
        let peer = process_table::peer(stream);
        match (pid, peer) {
            (Some(pid), Some(peer)) if pid != peer => {
                stranger = Some(peer);
                Err(std::io::ErrorKind::AddrInUse.into())
            }
            _ => Ok(()),
        }
    });
    match asked {
        Ok(status) => Answer::Status(status),
        Err(AskError::NoAnswer { .. }) if let Some(stranger) = stranger => Answer::None {
            kind: Deafness::Unreachable,
            why: format!("cannot be asked: process {stranger} answers at its control socket"),
        },
        Err(error) if error.is_nobody() => Answer::None {
            kind: Deafness::Unreachable,
            why: format!("cannot be asked: {}", cause(&error)),
        },
        Err(error @ AskError::NoAnswer { .. }) => Answer::None {
            kind: Deafness::Mute,
            why: format!("gave no answer: {}", cause(&error)),
        },
        Err(_) => Answer::Refusal,
    }
}

/// What is behind an error whose own text speaks to people at a command line.
fn cause(error: &AskError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn kind(answer: &Answer) -> Option<Deafness> {
        match answer {
            Answer::None { kind, .. } => Some(*kind),
            Answer::Status(_) | Answer::Refusal => None,
        }
    }

    #[test]
    fn silence_is_told_from_absence_and_from_an_answer() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let own = Some(std::process::id());
        assert_eq!(kind(&ask(&socket, own)), Some(Deafness::Unreachable));
        let listener = UnixListener::bind(&socket).unwrap();
        // The kernel takes the connection, and nobody reads it.
        assert_eq!(kind(&ask(&socket, own)), Some(Deafness::Mute));
        let another = ask(&socket, Some(1));
        assert_eq!(kind(&another), Some(Deafness::Unreachable));
        assert!(
            format!("{another:?}").contains(&std::process::id().to_string()),
            "{another:?}"
        );
        drop(listener);
        assert_eq!(
            kind(&ask(&socket, own)),
            Some(Deafness::Unreachable),
            "nobody listens"
        );
    }

    #[test]
    fn an_agent_of_another_version_or_user_answers() {
        for (line, is_status) in [
            ("{\"protocol\":7,\"ok\":{}}\n", false),
            (
                "{\"protocol\":1,\"error\":\"only root may ask the agent\"}\n",
                false,
            ),
            ("{\"protocol\":1,\"ok\":{\"version\":\"9\"}}\n", true),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("control.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let agent = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let _ = std::io::Read::read(&mut stream, &mut request).unwrap();
                stream.write_all(line.as_bytes()).unwrap();
            });
            let answer = ask(&socket, Some(std::process::id()));
            agent.join().unwrap();
            assert_eq!(kind(&answer), None, "{answer:?}");
            assert_eq!(matches!(answer, Answer::Status(_)), is_status, "{line}");
        }
    }
}
