//! `edgewarden run`: the agent.

use std::path::PathBuf;

use jiff::Timestamp;

use super::{Failure, environment, place};
use crate::agent::{self, Start};
use crate::host::end;
use crate::host::log::LogStream;
use crate::host::priority::Priority;
use crate::host::turns::{self, timed};
use crate::host::watchdog;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    state: place::StateDirectory,
    /// The guard starts us, because the component has not run since then: make room for whoever a nucleus starts.
    #[arg(long, value_name = "TIME", hide = true)]
    guarded_since: Option<Timestamp>,
}

pub(super) fn run(arguments: Arguments, control_socket: PathBuf) -> Result<(), Failure> {
    let told_to_end = end::told().map_err(|error| Failure::new(&error))?;
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
        guarded: arguments.guarded_since,
        directory: std::env::current_dir().ok(),
        has_guard: environment::has_guard(),
    };
    // One thread is enough and keeps the agent small; capture has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(&error))?;
    let agent = agent::run(start, environment::lookup, told_to_end);
    runtime.block_on(timed("start", Box::pin(agent)));
    Ok(())
}
