//! What can go wrong in a verb.
//!
//! The variant says the action, fields carry the subject, the cause is only in the source.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why a verb stopped.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A program could not be started at all.
    #[error("could not start `{command}`")]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program ran and said no.
    #[error("`{command}` ended with {status}")]
    Exit {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A file or folder could not be used.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Text is not in the format it should have.
    #[error("{subject} is not valid {format}")]
    Parse {
        /// Which text, by file or command.
        subject: String,
        /// The expected format.
        format: &'static str,
        /// What the parser said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Text is well-formed but does not say what it should.
    #[error("{subject}: {fault}")]
    Content {
        /// Which text, by file or command.
        subject: String,
        /// What is wrong and what was expected.
        fault: String,
    },
    /// A check found faults; they are all listed.
    #[error("{count} fault(s) in the {check} check:\n  {}", faults.join("\n  "), count = faults.len())]
    Faults {
        /// Which check.
        check: &'static str,
        /// One line each.
        faults: Vec<String>,
    },
    /// The demo stopped.
    #[error("the demo did not hold")]
    Demo {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A step of `cargo xtask test` failed.
    #[error("step {number} of {total}, {name}, failed")]
    Step {
        /// Counted from 1.
        number: usize,
        /// How many steps there are.
        total: usize,
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: Box<Failure>,
    },
    /// Packages are missing and may not be installed by this user.
    #[error(
        "these programs are missing: {missing}; installing them needs root, so run this and try again:\n  {command}"
    )]
    NeedsRoot {
        /// The programs.
        missing: String,
        /// The command to type.
        command: String,
    },
    /// A program is missing even though its package was installed, or cannot be installed by us.
    #[error("missing: {missing}; {advice}")]
    Missing {
        /// The programs.
        missing: String,
        /// What the reader can do.
        advice: &'static str,
    },
    /// What links for other processors cannot be had.
    #[error("could not get the linker for packages from PyPI")]
    Linker {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
