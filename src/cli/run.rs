//! `edgewarden run`: the agent.

use std::path::PathBuf;

use super::{Failure, environment, place};
use crate::agent::{self, Start};
use crate::host::log::LogStream;
use crate::host::priority::Priority;
use crate::host::turns::{self, timed};
use crate::host::watchdog;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    state: place::StateDirectory,
}

pub(super) fn run(arguments: Arguments, control_socket: PathBuf) -> Result<(), Failure> {
    // The nucleus keeps standard output as the component's log.
    let _log = environment::log("info", LogStream::Output);
    if let Some(file) = environment::turns_file() {
        turns::measure(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Priority::Deciding.take();
    watchdog::start();
    let start = Start {
        state_directory: arguments.state.path,
        control_socket,
        development: environment::development(),
        thing: environment::lookup("AWS_IOT_THING_NAME"),
    };
    // One thread is enough and keeps the agent small; capture has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(&error))?;
    runtime
        .block_on(timed("start", Box::pin(agent::run(start, environment::lookup))))
        .map_err(|error| Failure::new(&error))
}
