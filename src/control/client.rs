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
    /// Nobody listens.
    #[error("the agent is not running (nobody answers at {socket})")]
    NotRunning {
        /// Where.
        socket: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Only root may ask.
    #[error("{socket} may be used by root only")]
    NotPermitted {
        /// Where.
        socket: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the agent did not answer")]
    NoAnswer(#[source] io::Error),
    /// The answer is no answer.
    #[error("the agent's answer cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// The agent refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks the agent.
///
/// # Errors
/// [`AskError`].
pub fn ask(socket: &Path, request: &Request) -> Result<Value, AskError> {
    let connected = UnixStream::connect(socket);
    let mut stream = connected.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => AskError::NotPermitted {
            socket: socket.to_owned(),
            source,
        },
        _ => AskError::NotRunning {
            socket: socket.to_owned(),
            source,
        },
    })?;
    let answer = talk(&mut stream, request).map_err(AskError::NoAnswer)?;
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
