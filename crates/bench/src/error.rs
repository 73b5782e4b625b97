//! Why a bench could not measure.
//!
//! Steps that every command of the project has (programs, files, contents) fail with xtask's [`Failure`]; here is what
//! only benches have.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use edgewarden_lab::site::SiteError;
use xtask::failure::Failure;

/// Why a bench stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// A step of the preparation failed, or what was measured cannot be right.
    #[error(transparent)]
    Step(#[from] Failure),
    /// A measured program, or a socket that it needs, is not there.
    #[error("could not start {subject}")]
    Start {
        subject: String,
        #[source]
        source: io::Error,
    },
    /// A process cannot be measured.
    #[error("could not read the usage of process {pid}")]
    Usage {
        pid: u32,
        #[source]
        source: io::Error,
    },
    /// A measured program did not say what it should in time.
    #[error("{program} did not say `{event}` within {} s; it said: {said}; its errors are in {}", limit.as_secs_f64(), log.display())]
    Silent {
        program: String,
        event: &'static str,
        limit: Duration,
        /// Its last line, or that there was none.
        said: String,
        /// Where its standard error is.
        log: PathBuf,
    },
    /// A measured program could not be talked to.
    #[error("could not tell {program} to go on")]
    Talk {
        program: String,
        #[source]
        source: io::Error,
    },
    /// The lab's part of the bench.
    #[error("the lab failed")]
    Lab {
        #[source]
        source: Box<SiteError>,
    },
}

impl From<SiteError> for BenchError {
    fn from(source: SiteError) -> Self {
        Self::Lab {
            source: Box::new(source),
        }
    }
}

/// What was measured cannot be right: whose numbers, and what was expected of them.
pub(crate) fn content(subject: impl Into<String>, fault: impl Into<String>) -> BenchError {
    BenchError::Step(Failure::Content {
        subject: subject.into(),
        fault: fault.into(),
    })
}

/// For `map_err`: what could not be started.
pub(crate) fn start(subject: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
    let subject = subject.into();
    |source| BenchError::Start { subject, source }
}
