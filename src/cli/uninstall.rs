//! `edgewarden uninstall`: leave nothing behind. The recipe's uninstall step runs it.

use std::path::{Path, PathBuf};

use super::{Failure, safe, screen};
use crate::host::nft_kernel::NftKernel;
use crate::host::{append_file, files, nft, process_table};
use crate::quarantine::history;
use crate::quarantine::journal;
use crate::quarantine::order::ProcessAction;
use crate::quarantine::ruleset;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The state directory that `run` was given.
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let lock = files::lock(&arguments.state_dir.join("lock"));
    if matches!(lock, Ok(None)) {
        return Err(Failure {
            text: "the agent is running: stop it first, or it puts its rules back".into(),
            code: 1,
        });
    }
    let mut failures = Vec::new();
    thaw(&arguments.state_dir);
    match remove_rules() {
        Ok(()) => say("removed the tables edgewarden, if they were there"),
        Err(problem) => failures.push(problem),
    }
    if failures.is_empty() {
        let history = arguments.state_dir.join(history::FILE);
        let files = [
            "journal",
            "journal.damaged",
            "configuration.json",
            "last-report.json",
            "lock",
        ]
        .map(|name| arguments.state_dir.join(name));
        let kept = (0..=history::KEPT).map(|age| append_file::aged(&history, age));
        for path in files.into_iter().chain(kept) {
            let removed = [files::remove(&files::temporary(&path)), files::remove(&path)];
            failures.extend(
                removed
                    .into_iter()
                    .filter_map(|removed| Some(crate::error_text(&removed.err()?))),
            );
        }
        failures.extend(files::remove(socket).err().map(|error| crate::error_text(&error)));
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure {
            text: failures.join("; "),
            code: 1,
        })
    }
}

fn remove_rules() -> Result<(), String> {
    let tables = NftKernel::open().and_then(|mut kernel| kernel.tables());
    let tables = tables.map_err(|error| crate::error_text(&error))?;
    if tables.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime
        .block_on(nft::load(&ruleset::remove(&tables)))
        .map_err(|error| crate::error_text(&error))
}

fn thaw(state_directory: &Path) {
    let journal = files::read(&state_directory.join("journal")).ok().flatten();
    let Some(journal) = journal.and_then(|bytes| journal::decode(&bytes).ok()) else {
        return;
    };
    for stopped in journal
        .stopped
        .iter()
        .filter(|stopped| stopped.action == ProcessAction::Freeze)
    {
        if process_table::thaw(stopped.identity).is_ok() {
            say(&format!("{} ({}) runs again", stopped.name, stopped.identity.pid));
        }
    }
}

/// What is removed is removed, whether or not anybody can be told.
fn say(text: &str) {
    let _untold = screen::write(&format!("{}\n", safe::safe(text)));
}
