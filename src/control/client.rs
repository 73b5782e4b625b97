//! The control socket's command-line side. In: a question. Out: its answer, or why there is none. Blocking, and never longer
//! than a question may take: a command line has nothing else to do. No thread is made for it, because a machine that is under
//! attack may have none to give.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::protocol::{AnswerFault, Ask, MAX_ANSWER, read_answer, request_line};
use super::question::{GetPulse, Pulse, Request};

/// How long the agent may take; an instruction waits for the kernel.
const LIMIT: Duration = Duration::from_secs(35);
/// How long it may take to say that it is there at all: its thread that decides is never held up for a tenth of that, and who
/// asks nothing does not keep it from anybody else.
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
    /// Somebody holds the socket, takes the question and ends the conversation.
    #[error("whoever listens at {socket} hangs up when asked whether an agent is there")]
    HungUp {
        /// Where he listens.
        socket: PathBuf,
        /// His process, where the kernel names it.
        pid: Option<u32>,
        /// How the conversation ended.
        #[source]
        source: io::Error,
    },
    /// Somebody holds the socket and says what no agent of any version says.
    #[error("whoever listens at {socket} is no agent: what it says cannot be read")]
    Stranger {
        /// Where he listens.
        socket: PathBuf,
        /// His process, where the kernel names it.
        pid: Option<u32>,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
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
            Self::NoSocket { .. }
                | Self::NotRunning { .. }
                | Self::Silent { .. }
                | Self::HungUp { .. }
                | Self::Stranger { .. }
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

/// Whether somebody at the socket says that he is there. One who does not know the question, or has no answer to it, says so
/// and is there.
///
/// # Errors
/// [`AskError`] of one who does not: [`AskError::Silent`] where somebody is there and says nothing, [`AskError::HungUp`] where
/// he ends the conversation, [`AskError::Stranger`] where he says what no agent says, [`AskError::OtherProtocol`] where he is an
/// agent that this program does not understand.
pub fn feel_pulse(socket: &Path) -> Result<(), AskError> {
    let mut pid = None;
    let felt = exchange::<Pulse>(socket, GetPulse {}, PULSE_LIMIT, |stream| {
        pid = listening(stream);
        Ok(())
    });
    let socket = socket.to_owned();
    match felt {
        Ok(Pulse {}) | Err(AskError::Refused(_)) => Ok(()),
        Err(AskError::NoAnswer { source, .. }) if source.kind() == io::ErrorKind::TimedOut => {
            Err(AskError::Silent { socket, pid, source })
        }
        Err(AskError::NoAnswer { source, .. }) => Err(AskError::HungUp { socket, pid, source }),
        Err(AskError::Unreadable(source)) => Err(AskError::Stranger { socket, pid, source }),
        Err(error) => Err(error),
    }
}

/// The process that listens at the other end, where the kernel names it in this pid namespace.
fn listening(stream: &UnixStream) -> Option<u32> {
    let credentials = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    u32::try_from(credentials.pid()).ok().filter(|pid| *pid > 0)
}

/// The same, of an agent that may be anything but well: `limit` is what all of it may take, and `meet` sees who is connected
/// before anything is asked.
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
    let end = End::after(limit);
    let no_answer = |source| AskError::NoAnswer {
        socket: socket.to_owned(),
        source,
    };
    let stream = connected(socket, end).map_err(|source| {
        let socket = socket.to_owned();
        match source.kind() {
            // Its queue is full, and it takes nobody out of it.
            io::ErrorKind::TimedOut => no_answer(source),
            io::ErrorKind::PermissionDenied => AskError::NotPermitted { socket, source },
            io::ErrorKind::NotFound => AskError::NoSocket { socket, source },
            _ => AskError::NotRunning { socket, source },
        }
    })?;
    let answer = meet(&stream).and_then(|()| talk(&stream, &question.into(), end));
    let answer = answer.map_err(no_answer)?;
    read_answer(&answer).map_err(|fault| match fault {
        AnswerFault::Refused(problem) => AskError::Refused(problem),
        AnswerFault::Unreadable(source) => AskError::Unreadable(source),
        fault @ AnswerFault::OtherProtocol { .. } => AskError::OtherProtocol {
            socket: socket.to_owned(),
            source: fault,
        },
    })
}

/// A stream to whoever listens there. The kernel lets a full queue be waited for as long as a write may take.
fn connected(path: &Path, end: End) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let family = AddressFamily::Unix;
    let stream = UnixStream::from(socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?);
    loop {
        stream.set_write_timeout(Some(end.left()?))?;
        match connect(stream.as_raw_fd(), &address) {
            Ok(()) => return Ok(stream),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(end.in_words(error.into())),
        }
    }
}

fn talk(stream: &UnixStream, request: &Request, end: End) -> io::Result<String> {
    let mut stream = Until { stream, end };
    let written = stream.write_all(request_line(request)?.as_bytes());
    let mut answer = Vec::new();
    // Whoever refuses to listen may have said so before he was asked.
    let read = BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut answer);
    if read.is_err() || answer.is_empty() {
        written?;
        read?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // What is no text is no answer either, and is told apart where answers are read.
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// When a conversation is over, however little of it there was.
#[derive(Clone, Copy)]
struct End {
    limit: Duration,
    at: Instant,
}

#[expect(
    clippy::disallowed_methods,
    reason = "bounds its own waits, and decides nothing by time"
)]
impl End {
    fn after(limit: Duration) -> Self {
        Self {
            limit,
            at: Instant::now() + limit,
        }
    }

    /// What is left until then.
    fn left(self) -> io::Result<Duration> {
        let left = self.at.saturating_duration_since(Instant::now());
        // The kernel counts microseconds, and takes none for no limit at all.
        if left.as_micros() == 0 {
            return Err(self.in_words(io::ErrorKind::WouldBlock.into()));
        }
        Ok(left)
    }

    /// A limit that has passed, in words: the kernel's own are "Resource temporarily unavailable".
    fn in_words(self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::WouldBlock {
            let text = format!("it said nothing within {} s", self.limit.as_secs_f64());
            return io::Error::new(io::ErrorKind::TimedOut, text);
        }
        error
    }
}

/// A stream that is read and written until then.
struct Until<'a> {
    stream: &'a UnixStream,
    end: End,
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.end.left()?))?;
        let read = self.stream.read(buffer);
        read.map_err(|error| self.end.in_words(error))
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.end.left()?))?;
        let written = self.stream.write(bytes);
        written.map_err(|error| self.end.in_words(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::disallowed_methods,
        reason = "is what it talks to, in files of its own"
    )]

    use super::*;
    use crate::control::question::GetStatus;
    use std::os::unix::net::UnixListener;
    use std::thread;

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

    /// What is said to whoever asks somebody who answers so often, each time with one line.
    fn asked_of_one_who_says(line: &'static [u8], answers: usize) -> AskError {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let agent = thread::spawn(move || {
            let answer = |_| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                BufReader::new(stream.try_clone().unwrap())
                    .read_line(&mut request)
                    .unwrap();
                stream.write_all(line).unwrap();
                request
            };
            (0..answers).map(answer).collect::<Vec<String>>()
        });
        let error = ask(&socket, GetStatus {}).unwrap_err();
        let asked = ["pulse", "status"].iter().take(answers);
        let asked = asked.map(|command| format!("{{\"protocol\":1,\"command\":\"{command}\"}}\n"));
        assert_eq!(agent.join().unwrap(), asked.collect::<Vec<String>>());
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
        let AskError::Silent { pid, .. } = silent else {
            panic!("{silent:?}")
        };
        assert_eq!(pid, Some(std::process::id()), "the kernel names who listens");
    }

    #[test]
    fn a_full_queue_and_a_trickle_end_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let _only_one = UnixStream::connect(&socket).unwrap();
        let limit = Duration::from_millis(300);
        let full = connected(&socket, End::after(limit)).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::TimedOut, "{full}");
        assert!(matches!(feel_pulse(&socket), Err(AskError::Silent { .. })));

        std::fs::remove_file(&socket).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let trickles = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b" ").is_ok() {
                thread::sleep(limit / 4);
            }
        });
        assert!(matches!(feel_pulse(&socket), Err(AskError::Silent { .. })));
        trickles.join().unwrap();
    }

    #[test]
    fn who_is_no_agent_is_nobody_and_each_is_named() {
        for said in [&b"hello\n"[..], b"\xff\xfe\n", b"{\"protocol\":1,\"ok\":7}\n"] {
            let error = asked_of_one_who_says(said, 1);
            assert!(error.is_nobody(), "{error:?}");
            assert!(error.to_string().contains("is no agent"), "{error}");
        }
        let error = asked_of_one_who_says(b"", 1);
        assert!(error.is_nobody(), "{error:?}");
        assert!(error.to_string().contains("hangs up"), "{error}");
    }

    #[test]
    fn an_agent_of_another_version_is_named_with_both_protocols() {
        let early = b"{\"error\":\"the request cannot be read: unknown field `protocol`\"}\n";
        for (line, theirs) in [
            (&early[..], "an early protocol without a number"),
            (b"{\"protocol\":7,\"ok\":{}}\n", "protocol 7"),
        ] {
            let error = asked_of_one_who_says(line, 1);
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
        let refused = asked_of_one_who_says(b"{\"protocol\":1,\"error\":\"no\"}\n", 2);
        assert_eq!(refused.to_string(), "no");
    }
}
