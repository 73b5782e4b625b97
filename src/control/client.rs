//! The control socket's command-line side. Blocking: a command line has nothing else to do.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::protocol::{Answer, MAX_ANSWER, Request};

/// How long the agent may take; an instruction waits for the kernel.
const LIMIT: Duration = Duration::from_secs(35);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no socket.
    #[error(
        "the agent is not running: there is no socket {socket}; start the component io.edgewarden.Agent, or name the \
         socket of its agent with --control-socket"
    )]
    NoSocket {
        /// Where.
        socket: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Nobody listens.
    #[error(
        "the agent is not running: nobody answers at {socket}; start the component io.edgewarden.Agent and look into \
         its log"
    )]
    NotRunning {
        /// Where.
        socket: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Only root may ask.
    #[error("only root may ask the agent at {socket}: run this with sudo")]
    NotPermitted {
        /// Where.
        socket: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the agent at {socket} gave no answer: look into its log")]
    NoAnswer {
        /// Where.
        socket: PathBuf,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The answer is no answer.
    #[error("the agent's answer cannot be read; is it of another version than this program?")]
    Unreadable(#[source] serde_json::Error),
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
}

impl AskError {
    /// Whether there is nobody to ask.
    #[must_use]
    pub const fn is_nobody(&self) -> bool {
        matches!(self, Self::NoSocket { .. } | Self::NotRunning { .. })
    }
}

/// Asks the agent.
///
/// # Errors
/// [`AskError`].
pub fn ask(socket: &Path, request: &Request) -> Result<Value, AskError> {
    let mut stream = UnixStream::connect(socket).map_err(|source| {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => AskError::NotPermitted { socket, source },
            io::ErrorKind::NotFound => AskError::NoSocket { socket, source },
            _ => AskError::NotRunning { socket, source },
        }
    })?;
    let answer = talk(&mut stream, request).map_err(|source| AskError::NoAnswer {
        socket: socket.to_owned(),
        source,
    })?;
    match serde_json::from_str::<Answer>(&answer).map_err(AskError::Unreadable)? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(problem) => Err(AskError::Refused(problem)),
    }
}

fn talk(stream: &mut UnixStream, request: &Request) -> io::Result<String> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn each_way_of_not_being_answered_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let missing = ask(&socket, &Request::Status).unwrap_err();
        assert!(missing.is_nobody());
        let text = missing.to_string();
        assert!(
            text.contains("there is no socket") && text.contains("--control-socket"),
            "{text}"
        );

        drop(UnixListener::bind(&socket).unwrap());
        let dead = ask(&socket, &Request::Status).unwrap_err();
        assert!(dead.is_nobody());
        let text = dead.to_string();
        assert!(
            text.contains("nobody answers at") && text.contains("control.sock"),
            "{text}"
        );
    }
}
