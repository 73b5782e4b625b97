//! The control socket's command-line side. In: a question. Out: its answer, or why there is none. Blocking, and never longer
//! than a question may take: a command line has nothing else to do. No thread is made for it, because a machine that is under
//! attack may have none to give.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
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

/// Asks the agent; gives its answer. One that does not say within [`PULSE_LIMIT`] that it is there is not
/// waited for, nor one that stops saying so while it is asked.
///
/// # Errors
/// [`AskError`].
pub fn ask<Q: Ask>(socket: &Path, question: Q) -> Result<Q::Answer, AskError> {
    ask_pulsing(socket, question)
}

/// Asks the agent; gives its answer as it came, with members that this program may not know.
///
/// # Errors
/// [`AskError`].
pub fn ask_json<Q: Ask>(socket: &Path, question: Q) -> Result<Value, AskError> {
    ask_pulsing(socket, question)
}

fn ask_pulsing<T: DeserializeOwned>(socket: &Path, question: impl Ask) -> Result<T, AskError> {
    feel_pulse(socket)?;
    let wait = |stream: &UnixStream, end| until_it_answers(socket, stream, end);
    exchange(socket, question, LIMIT, |_| Ok(()), &wait)
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
    let meet = |stream: &UnixStream| {
        pid = listening(stream);
        Ok(())
    };
    let felt = exchange::<Pulse>(socket, GetPulse {}, PULSE_LIMIT, meet, &|_, _| Ok(()));
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
    exchange(socket, question, limit, meet, &|_, _| Ok(()))
}

/// Waits until something comes of an agent that was asked. One that began to hang with the question in its hands is found by
/// its pulse: [`LIMIT`] is for one that works.
fn until_it_answers(socket: &Path, stream: &UnixStream, end: End) -> Result<(), AskError> {
    let limit = PollTimeout::try_from(PULSE_LIMIT).unwrap_or(PollTimeout::ZERO);
    while end.left().is_ok() {
        match poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], limit) {
            Ok(0) => feel_pulse(socket)?,
            Err(Errno::EINTR) => {}
            // What came of it is told by whoever reads.
            Ok(_) | Err(_) => break,
        }
    }
    Ok(())
}

fn exchange<T: DeserializeOwned>(
    socket: &Path,
    question: impl Ask,
    limit: Duration,
    meet: impl FnOnce(&UnixStream) -> io::Result<()>,
    wait: &dyn Fn(&UnixStream, End) -> Result<(), AskError>,
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
    meet(&stream).map_err(no_answer)?;
    let asked = say(&stream, &question.into(), end);
    wait(&stream, end)?;
    let answer = hear(&stream, asked, end).map_err(no_answer)?;
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

fn say(stream: &UnixStream, request: &Request, end: End) -> io::Result<()> {
    Until { stream, end }.write_all(request_line(request)?.as_bytes())
}

/// The answer to what was `asked`, or could not be: whoever refuses to listen may have said so before he was asked.
fn hear(stream: &UnixStream, asked: io::Result<()>, end: End) -> io::Result<String> {
    let stream = Until { stream, end };
    let mut answer = Vec::new();
    let read = BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut answer);
    if read.is_err() || answer.is_empty() {
        asked?;
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
#[path = "client_tests.rs"]
mod tests;
