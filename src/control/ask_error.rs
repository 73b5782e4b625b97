//! Why a question to the agent got no answer, each with what helps. Which of them means that nobody is there is said here, too:
//! whoever asks then does what cannot wait without an agent.

use std::io;
use std::path::PathBuf;

use super::protocol::AnswerFault;

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
