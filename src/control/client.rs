//! The control socket's command-line side. In: a question. Out: its answer, or why there is none. Blocking: a command line
//! has nothing else to do.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::protocol::{AnswerFault, Ask, MAX_ANSWER, read_answer, request_line};
use super::question::{GetPulse, Pulse, Request};

/// How long the agent may take; an instruction waits for the kernel.
const LIMIT: Duration = Duration::from_secs(35);
/// How long it may take to say that it is there at all: its thread that decides is never held up for a tenth of that, and who
/// asks nothing is sent away after a second.
pub const PULSE_LIMIT: Duration = Duration::from_millis(1_500);

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no socket.
    #[error(
        "the agent is not running: there is no socket {socket}; start the component io.edgewarden.Agent, or name the \
         socket of its agent with --control-socket"
    )]
    NoSocket {
        /// Where it should be.
        socket: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket is there and nobody listens.
    #[error(
        "the agent is not running: nobody answers at {socket}; start the component io.edgewarden.Agent and look into \
         its log"
    )]
    NotRunning {
        /// Where it should be.
        socket: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody holds the socket and does not say a word.
    #[error("the agent at {socket} does not answer: it is stopped, or it hangs")]
    Silent {
        /// Where it listens.
        socket: PathBuf,
        /// Its process, where the kernel names it.
        pid: Option<u32>,
        /// How its silence showed.
        #[source]
        source: io::Error,
    },
    /// Only root may ask.
    #[error("only root may ask the agent at {socket}: run this with sudo")]
    NotPermitted {
        /// Where it should be.
        socket: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the agent at {socket} gave no answer: look into its log")]
    NoAnswer {
        /// Where it should be.
        socket: PathBuf,
        /// How it ended instead.
        #[source]
        source: io::Error,
    },
    /// The agent is of a version that speaks otherwise.
    #[error("the agent at {socket} is of another version: use the edgewarden that was installed with it")]
    OtherProtocol {
        /// Where it listens.
        socket: PathBuf,
        /// Names both protocols.
        #[source]
        source: AnswerFault,
    },
    /// Of our protocol, and yet of another form.
    #[error("the agent's answer cannot be read; is it of another version than this program?")]
    Unreadable(#[source] serde_json::Error),
    /// The agent says why not.
    #[error("{0}")]
    Refused(String),
}

impl AskError {
    /// Whether there is nobody who answers.
    #[must_use]
    pub const fn is_nobody(&self) -> bool {
        matches!(
            self,
            Self::NoSocket { .. } | Self::NotRunning { .. } | Self::Silent { .. }
        )
    }
}

/// Asks the agent; gives its answer. One that does not say within [`PULSE_LIMIT`] that it is there is not waited for.
///
/// # Errors
/// [`AskError`].
pub fn ask<Q: Ask>(socket: &Path, question: Q) -> Result<Q::Answer, AskError> {
    feel_pulse(socket)?;
    exchange(socket, question, LIMIT, |_| Ok(()))
}

/// Asks the agent; gives its answer as it came, with members that this program may not know.
///
/// # Errors
/// [`AskError`].
pub fn ask_json<Q: Ask>(socket: &Path, question: Q) -> Result<Value, AskError> {
    feel_pulse(socket)?;
    exchange(socket, question, LIMIT, |_| Ok(()))
}

/// Whether somebody at the socket says that he is there. One who does not know the question says so.
///
/// # Errors
/// [`AskError`] of one who does not, [`AskError::Silent`] where somebody is there and hangs.
pub fn feel_pulse(socket: &Path) -> Result<(), AskError> {
    let (tell, told) = mpsc::channel();
    let (place, listener) = (socket.to_owned(), Arc::new(AtomicU32::new(0)));
    let met = Arc::clone(&listener);
    // Connecting to one that takes nobody out of its full queue has no end; this thread has one with its program.
    thread::spawn(move || {
        let meet = |stream: &UnixStream| {
            met.store(listening(stream).unwrap_or_default(), Ordering::Relaxed);
            Ok(())
        };
        let felt = exchange::<Pulse>(&place, GetPulse {}, PULSE_LIMIT, meet);
        // Whoever asked may have waited long enough.
        let _ = tell.send(felt);
    });
    let felt = told.recv_timeout(PULSE_LIMIT);
    let silent = |source| AskError::Silent {
        socket: socket.to_owned(),
        pid: Some(listener.load(Ordering::Relaxed)).filter(|pid| *pid > 0),
        source,
    };
    match felt {
        Err(_) => Err(silent(silence(io::ErrorKind::WouldBlock.into(), PULSE_LIMIT))),
        Ok(Err(AskError::NoAnswer { source, .. })) => Err(silent(source)),
        Ok(Err(error)) if error.is_nobody() || matches!(error, AskError::NotPermitted { .. }) => Err(error),
        Ok(Ok(Pulse {}) | Err(_)) => Ok(()),
    }
}

/// The process that listens at the other end, where the kernel names it in this pid namespace.
fn listening(stream: &UnixStream) -> Option<u32> {
    let credentials = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    u32::try_from(credentials.pid()).ok()
}

/// The same, of an agent that may be anything but well: `limit` is what each read or write may take (connecting to one
/// that takes no connections any more has no limit), and `meet` sees who is connected before anything is asked.
///
/// # Errors
/// [`AskError`]; what `meet` says is the source of a [`AskError::NoAnswer`].
pub fn ask_json_within<Q: Ask>(
    socket: &Path,
    question: Q,
    limit: Duration,
    meet: impl FnOnce(&UnixStream) -> io::Result<()>,
) -> Result<Value, AskError> {
    exchange(socket, question, limit, meet)
}

fn exchange<T: DeserializeOwned>(
    socket: &Path,
    question: impl Ask,
    limit: Duration,
    meet: impl FnOnce(&UnixStream) -> io::Result<()>,
) -> Result<T, AskError> {
    let mut stream = UnixStream::connect(socket).map_err(|source| {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => AskError::NotPermitted { socket, source },
            io::ErrorKind::NotFound => AskError::NoSocket { socket, source },
            _ => AskError::NotRunning { socket, source },
        }
    })?;
    let answer = meet(&stream).and_then(|()| talk(&mut stream, &question.into(), limit));
    let answer = answer.map_err(|source| AskError::NoAnswer {
        socket: socket.to_owned(),
        source,
    })?;
    read_answer(&answer).map_err(|fault| match fault {
        AnswerFault::Refused(problem) => AskError::Refused(problem),
        AnswerFault::Unreadable(source) => AskError::Unreadable(source),
        fault @ AnswerFault::OtherProtocol { .. } => AskError::OtherProtocol {
            socket: socket.to_owned(),
            source: fault,
        },
    })
}

fn talk(stream: &mut UnixStream, request: &Request, limit: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let request = request_line(request)?;
    let written = stream.write_all(request.as_bytes());
    written.map_err(|error| silence(error, limit))?;
    let mut answer = String::new();
    let read = BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer);
    read.map_err(|error| silence(error, limit))?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// A limit that has passed, in words: the kernel's own are "Resource temporarily unavailable".
fn silence(error: io::Error, limit: Duration) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        let text = format!("it said nothing within {} s", limit.as_secs_f64());
        return io::Error::new(io::ErrorKind::TimedOut, text);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::question::GetStatus;
    use std::os::unix::net::UnixListener;

    #[test]
    fn each_way_of_not_being_answered_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let missing = ask(&socket, GetStatus {}).unwrap_err();
        assert!(missing.is_nobody());
        let text = missing.to_string();
        assert!(
            text.contains("there is no socket") && text.contains("--control-socket"),
            "{text}"
        );

        drop(UnixListener::bind(&socket).unwrap());
        let dead = ask(&socket, GetStatus {}).unwrap_err();
        assert!(dead.is_nobody());
        let text = dead.to_string();
        assert!(
            text.contains("nobody answers at") && text.contains("control.sock"),
            "{text}"
        );
    }

    /// An agent that says one thing to whoever asks.
    fn asked_of_an_agent_that_says(line: &'static str) -> AskError {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let agent = thread::spawn(move || {
            [(); 2].map(|()| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                BufReader::new(stream.try_clone().unwrap())
                    .read_line(&mut request)
                    .unwrap();
                stream.write_all(line.as_bytes()).unwrap();
                request
            })
        });
        let error = ask(&socket, GetStatus {}).unwrap_err();
        let asked =
            ["pulse", "status"].map(|command| format!("{{\"protocol\":1,\"command\":\"{command}\"}}\n"));
        assert_eq!(agent.join().unwrap(), asked);
        error
    }

    #[test]
    fn silence_is_told_in_words() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let _nobody_reads = UnixListener::bind(&socket).unwrap();
        let asked = ask_json_within(&socket, GetStatus {}, Duration::from_secs(1), |_| Ok(()));
        let text = crate::error_text(&asked.unwrap_err());
        assert!(text.ends_with("it said nothing within 1 s"), "{text}");
        let silent = ask(&socket, GetStatus {}).unwrap_err();
        assert!(silent.is_nobody(), "{silent}");
        let text = crate::error_text(&silent);
        assert!(text.contains("stopped, or it hangs"), "{text}");
    }

    #[test]
    fn an_agent_of_another_version_is_named_with_both_protocols() {
        let early = "{\"error\":\"the request cannot be read: unknown field `protocol`\"}\n";
        for (line, theirs) in [
            (early, "an early protocol without a number"),
            ("{\"protocol\":7,\"ok\":{}}\n", "protocol 7"),
        ] {
            let error = asked_of_an_agent_that_says(line);
            assert!(!error.is_nobody());
            let text = crate::error_text(&error);
            for part in [
                "another version",
                "control.sock",
                theirs,
                "this program speaks protocol 1",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        let refused = asked_of_an_agent_that_says("{\"protocol\":1,\"error\":\"no\"}\n");
        assert_eq!(refused.to_string(), "no");
    }
}
