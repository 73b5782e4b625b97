//! `edgewarden uninstall`: leave nothing behind. The recipe's uninstall step runs it.

use std::path::{Path, PathBuf};

use super::{Failure, safe, screen};
use crate::host::{append_file, files, nft, process_table};
use crate::quarantine::history;
use crate::quarantine::journal;
use crate::quarantine::lifeline::Lifelines;
use crate::quarantine::order::ProcessAction;
use crate::quarantine::plan::{IsolationSettings, Scope, fold};
use crate::quarantine::ruleset::render;

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
    let settings = IsolationSettings {
        lifelines: Lifelines::default(),
        ..IsolationSettings::default()
    };
    let nothing = render(&fold(&[], &settings, Vec::new(), Scope::Pinned));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(nft::load(&nothing.text))) {
        Ok(Ok(())) => say("removed the table inet edgewarden, if it was there"),
        Ok(Err(error)) => failures.push(crate::error_text(&error)),
        Err(error) => failures.push(error.to_string()),
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
