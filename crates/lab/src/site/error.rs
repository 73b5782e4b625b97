//! What can go wrong with the lab itself, as opposed to what a probe finds out.

use std::path::PathBuf;

/// The lab could not do what a test asked of it.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// [`super::Site::new`] was called without [`super::in_lab`] or [`super::enter_or_reexec`].
    #[error("refused to build a site outside a lab: call site::in_lab or site::enter_or_reexec first")]
    OutsideLab,
    /// The lab ran, but not as wanted.
    #[error("not in time: {what}\n{detail}")]
    Stage {
        /// What was waited for.
        what: String,
        /// What was seen instead.
        detail: String,
    },
    /// Neither root nor unprivileged user namespaces.
    #[error("no private network namespace to be had: {reason}")]
    NoPrivilege {
        /// What `unshare` said.
        reason: String,
    },
    /// A program of the distribution is not installed.
    #[error("program {program} not found: install the Debian package {package}")]
    MissingProgram {
        /// Name of the program.
        program: &'static str,
        /// Debian package it comes in.
        package: &'static str,
    },
    /// A tool of the distribution ended with an error.
    #[error("{command} failed: {output}")]
    Tool {
        /// The command line.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A program could not be started.
    #[error("could not start {program}")]
    Start {
        /// The program.
        program: PathBuf,
        #[source]
        /// Why.
        source: std::io::Error,
    },
    /// The temporary directory of the site.
    #[error("could not create the site's directory")]
    Directory {
        #[source]
        /// Why.
        source: std::io::Error,
    },
    /// A file of the lab.
    #[error("could not open or write {path}")]
    File {
        /// The file.
        path: PathBuf,
        #[source]
        /// Why.
        source: std::io::Error,
    },
    /// A thread could not enter a namespace.
    #[error("could not enter namespace {name}")]
    Enter {
        /// Name of the namespace.
        name: String,
        #[source]
        /// Why.
        source: std::io::Error,
    },
    /// The thread that lives in a namespace is gone.
    #[error("the thread of namespace {name} ended early")]
    WorkerGone {
        /// Name of the namespace.
        name: String,
    },
    /// A socket of a probe or an echo server, for a reason that is not the network's answer.
    #[error("could not {action}")]
    Socket {
        /// What was tried, with addresses.
        action: String,
        #[source]
        /// Why.
        source: std::io::Error,
    },
    /// A program did not end, or did not say what was waited for.
    #[error("{program}: waited {seconds} s for {what}; {seen}")]
    Timeout {
        /// The program.
        program: String,
        /// Seconds waited.
        seconds: f64,
        /// What for.
        what: String,
        /// The last lines of its output.
        seen: String,
    },
    /// A program ended while something was expected of it.
    #[error("{program} ended ({status}) before {what}; {seen}")]
    Ended {
        /// The program.
        program: String,
        /// Exit status.
        status: String,
        /// What was waited for.
        what: String,
        /// The last lines of its output.
        seen: String,
    },
    /// A signal could not be sent.
    #[error("could not signal {program}")]
    Signal {
        /// The program.
        program: String,
        #[source]
        /// Why.
        source: std::io::Error,
    },
}
