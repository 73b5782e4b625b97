//! The environment of the commands that enforce: `run` and `restore` read it alike.

#![expect(clippy::disallowed_methods, reason = "the environment is read here, once")]

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::document::Development;

/// A variable that is set to something.
pub(super) fn lookup(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether development keys of the configuration are taken.
pub(super) fn development() -> Development {
    match lookup("EDGEWARDEN_DEVELOPMENT").as_deref() {
        Some("1") => Development::Allowed,
        _ => Development::Refused,
    }
}

/// Logs what `EDGEWARDEN_LOG` asks for, or else from `level` on.
pub(super) fn log(level: &str, writer: BoxMakeWriter) {
    let filter = EnvFilter::try_new(lookup("EDGEWARDEN_LOG").as_deref().unwrap_or(level));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(level));
    // It ends up in a log; colours would be noise there.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .with_writer(writer)
        // A log that cannot be written, because whoever read it is gone, would be told on standard error, which has often
        // gone with it: that panics in whatever task had something to say.
        .log_internal_errors(false)
        .init();
}
