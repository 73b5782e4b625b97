//! The control socket's command-line side. In: a question. Out: its answer, or why there is none. Blocking, and never longer
//! than a question may take: a command line has nothing else to do. No thread is made for it, because a machine that is under
//! attack may have none to give.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ask_error::AskError;
use super::protocol::{AnswerFault, Ask, MAX_ANSWER, read_answer, request_line};
use super::question::{GetPulse, Pulse, Request};

/// How long the agent may take; an instruction waits for the kernel.
const LIMIT: Duration = Duration::from_secs(35);
/// How long it may take to say that it is there at all: its thread that decides is never held up for a tenth of that, and who
/// asks nothing does not keep it from anybody else.
pub const PULSE_LIMIT: Duration = Duration::from_millis(1_500);

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
    exchange(socket, &question.into(), LIMIT, &mut |_| Ok(()), &wait).and_then(|answer| read(socket, &answer))
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
    let mut meet = |stream: &UnixStream| {
        pid = listening(stream);
        Ok(())
    };
    let felt = exchange(
        socket,
        &GetPulse {}.into(),
        PULSE_LIMIT,
        &mut meet,
        &|_, _| Ok(()),
    );
    let felt = felt.and_then(|answer| read::<Pulse>(socket, &answer));
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
    mut meet: impl FnMut(&UnixStream) -> io::Result<()>,
) -> Result<Value, AskError> {
    let answer = exchange(socket, &question.into(), limit, &mut meet, &|_, _| Ok(()))?;
    read(socket, &answer)
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

/// Whoever is connected, before anything is asked.
type Meet<'a> = dyn FnMut(&UnixStream) -> io::Result<()> + 'a;

/// Asks, and gives the line that comes back.
fn exchange(
    socket: &Path,
    request: &Request,
    limit: Duration,
    meet: &mut Meet<'_>,
    wait: &dyn Fn(&UnixStream, End) -> Result<(), AskError>,
) -> Result<String, AskError> {
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
    let asked = say(&stream, request, end);
    wait(&stream, end)?;
    hear(&stream, asked, end).map_err(no_answer)
}

fn read<T: DeserializeOwned>(socket: &Path, answer: &str) -> Result<T, AskError> {
    read_answer(answer).map_err(|fault| not_taken(socket, fault))
}

fn not_taken(socket: &Path, fault: AnswerFault) -> AskError {
    match fault {
        AnswerFault::Refused(problem) => AskError::Refused(problem),
        AnswerFault::Unreadable(source) => AskError::Unreadable(source),
        fault @ AnswerFault::OtherProtocol { .. } => AskError::OtherProtocol {
            socket: socket.to_owned(),
            source: fault,
        },
    }
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
mod tests {
    #![expect(
        clippy::disallowed_methods,
        reason = "is what it talks to, in files of its own"
    )]

    use super::*;
    use crate::control::question::GetStatus;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
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

    fn listens() -> (tempfile::TempDir, PathBuf, UnixListener) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        (directory, socket, listener)
    }

    /// What is said to whoever asks somebody who answers so often, each time with one line.
    fn asked_of_one_who_says(line: &'static [u8], answers: usize) -> AskError {
        let (_directory, socket, listener) = listens();
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
    fn one_that_hangs_after_it_was_asked_is_found() {
        let (_directory, socket, listener) = listens();
        let beats_once = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"{\"protocol\":1,\"ok\":{}}\n").unwrap();
            listener
        });
        let begun = Instant::now();
        let silent = ask(&socket, GetStatus {}).unwrap_err();
        assert!(matches!(silent, AskError::Silent { .. }), "{silent:?}");
        assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
        drop(beats_once.join().unwrap());
    }

    #[test]
    fn a_full_queue_and_a_trickle_end_in_time() {
        let (_directory, socket, listener) = listens();
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
