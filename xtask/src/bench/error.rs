//! Why a bench could not measure.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use edgewarden_lab::site::SiteError;

/// Why a bench stopped.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A program could not be started.
    #[error("could not start {}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A step of the preparation said no.
    #[error("`{command}` ended with {status}")]
    Prepare {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A process cannot be measured.
    #[error("could not read the usage of process {pid}")]
    Usage {
        /// Which.
        pid: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A measured program did not say what it should in time.
    #[error("{program} did not say `{event}` within {} s; it said: {said}; its errors are in {}", limit.as_secs_f64(), log.display())]
    Silent {
        /// Which.
        program: String,
        /// The event waited for.
        event: &'static str,
        /// How long.
        limit: Duration,
        /// Its last line, or that there was none.
        said: String,
        /// Its standard error.
        log: PathBuf,
    },
    /// A measured program could not be talked to.
    #[error("could not tell {program} to go on")]
    Talk {
        /// Which.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What was measured cannot be right.
    #[error("{subject}: {fault}")]
    Content {
        /// Whose numbers.
        subject: String,
        /// What is wrong and what was expected.
        fault: String,
    },
    /// A file.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The lab's part of the bench.
    #[error("the lab failed")]
    Lab {
        /// Why.
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
