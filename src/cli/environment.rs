//! The environment of the commands that enforce: `run` and `restore` read it alike.

#![expect(clippy::disallowed_methods, reason = "the environment is read here, once")]

use std::path::PathBuf;

use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::Failure;
use crate::config::document::Development;
use crate::host::log::{LogGuard, LogStream, LogWriter};

/// A variable that is set to something.
pub(super) fn lookup(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What carries out a command that waits for more than one thing.
///
/// # Errors
/// The kernel gives no descriptors for it.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(&error))
}

/// Whether development keys of the configuration are taken.
pub(super) fn development() -> Development {
    match lookup("EDGEWARDEN_DEVELOPMENT").as_deref() {
        Some("1") => Development::Allowed,
        _ => Development::Refused,
    }
}

/// Logs what `EDGEWARDEN_LOG` asks for, or else from `level` on; a panic too. The log ends with what is given.
#[must_use]
pub(super) fn log(level: &str, stream: LogStream) -> LogGuard {
    // Targets and levels: patterns over spans and fields would bring an engine for regular expressions, and nothing of ours
    // has spans.
    let asked = lookup("EDGEWARDEN_LOG").and_then(|asked| asked.parse::<Targets>().ok());
    let filter = asked.or_else(|| level.parse().ok()).unwrap_or_default();
    let (writer, guard) = LogWriter::start(stream);
    // It ends up in a log; colours would be noise there.
    let lines = layer().with_ansi(false).with_target(false).with_writer(writer);
    tracing_subscriber::registry().with(lines).with(filter).init();
    // The standard library's own words go to standard error at once, and wait there for as long as that is full.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    guard
}

/// Whether a guard is to stand by: for whoever a nucleus started, but where `EDGEWARDEN_GUARD=off` says that something else
/// starts an agent again.
pub(super) fn has_guard() -> bool {
    lookup("SVCUID").is_some() && lookup("EDGEWARDEN_GUARD").as_deref() != Some("off")
}

/// Where every long turn of the thread that decides is to be told, if anywhere: a switch for tests and measurements.
pub(super) fn turns_file() -> Option<PathBuf> {
    lookup("EDGEWARDEN_TURNS").map(PathBuf::from)
}
