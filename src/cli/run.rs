//! `edgewarden run`: the agent.

#![expect(clippy::disallowed_methods, reason = "the environment is read here, once")]

use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::agent::{self, Start};
use crate::config::document::Development;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where the journal and the last good configuration are kept.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
}

pub(super) fn run(arguments: Arguments, control_socket: PathBuf) -> Result<(), Failure> {
    let lookup = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let filter = EnvFilter::try_new(lookup("EDGEWARDEN_LOG").as_deref().unwrap_or("info"));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    // The nucleus keeps standard output as the component's log; colours would be noise there.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_target(false)
        .init();
    let development = match lookup("EDGEWARDEN_DEVELOPMENT").as_deref() {
        Some("1") => Development::Allowed,
        _ => Development::Refused,
    };
    let start = Start {
        state_directory: arguments.state_dir,
        control_socket,
        development,
        thing: lookup("AWS_IOT_THING_NAME"),
    };
    // One thread is enough and keeps the agent small; capture has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(&error))?;
    runtime
        .block_on(agent::run(start, lookup))
        .map_err(|error| Failure::new(&error))
}
