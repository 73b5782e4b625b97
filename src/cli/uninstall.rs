//! `edgewarden uninstall`: leave nothing behind. The recipe's uninstall step runs it.

use std::path::Path;

use super::{Failure, place, safe, screen, thaw};
use crate::host::boot::boot_service::BootServicePaths;
use crate::host::boot::systemctl;
use crate::host::boot::unit;
use crate::host::files;
use crate::host::files::append_file;
use crate::host::files::journal_file::TIME_NAME;
use crate::host::files::shelter;
use crate::host::files::state_directory::{self, LOCK};
use crate::host::guard;
use crate::host::netfilter::kernel::NftKernel;
use crate::host::netfilter::nft::Nft;
use crate::quarantine::history;
use crate::quarantine::ruleset;

/// What the agent keeps in the state directory; the lock last, because it is held.
const FILES: [&str; 7] = [
    "journal",
    TIME_NAME,
    "journal.damaged",
    "configuration.json",
    "last-report.json",
    "endpoints.json",
    LOCK,
];

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    installation: place::Installation,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let places = arguments.installation.places();
    let state = places.state();
    // Below another root there is another system, which does not run.
    let is_here = arguments.installation.root.is_none();
    let mut lock = files::lock(&state.join(LOCK));
    // One that a nucleus started keeps its guard.
    if is_here && (!matches!(lock, Ok(None)) || guard::is_guarded(&state)) {
        guard::end(&state).map_err(|error| Failure::new(&error))?;
        if matches!(lock, Ok(None)) {
            lock = files::lock(&state.join(LOCK));
        }
    }
    if matches!(lock, Ok(None)) {
        return Err(Failure {
            text: "the agent is running: stop it first, or it puts its rules back".into(),
            code: 1,
        });
    }
    let mut failures = Vec::new();
    if is_here {
        failures.extend(thaw::thaw(&state));
        match remove_rules() {
            Ok(()) => say("removed the tables edgewarden, if they were there"),
            Err(problem) => failures.push(problem),
        }
    }
    // Until then the program stays: with it goes the way to try again.
    if failures.is_empty() {
        failures.extend(forget_unit(&places));
    }
    if failures.is_empty() {
        failures.extend(remove_state(&state));
        if is_here {
            failures.extend(
                shelter::clear(socket)
                    .err()
                    .map(|error| crate::error_text(&error)),
            );
            failures.extend(files::remove(socket).err().map(|error| crate::error_text(&error)));
        }
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

/// Takes our tables out of the kernel.
///
/// # Errors
/// Why it could not, for people.
fn remove_rules() -> Result<(), String> {
    let tables = NftKernel::open().and_then(|mut kernel| kernel.tables());
    let tables = tables.map_err(|error| crate::error_text(&error))?;
    if tables.is_empty() {
        return Ok(());
    }
    let removed = Nft::default().load(&ruleset::remove(&tables));
    removed.map_err(|error| crate::error_text(&error))
}

/// Removes the unit and the copies of this program; gives what is still there.
fn forget_unit(places: &BootServicePaths) -> Vec<String> {
    if places.is_live() && places.unit(unit::RESTORE).exists() {
        // It did its work at boot; one that was never started is not there to be stopped.
        let _not_started = systemctl::stop(unit::NAME);
    }
    match places.remove() {
        Err(failures) => failures.iter().map(|error| crate::error_text(error)).collect(),
        Ok(true) => {
            say(&format!("removed {}", unit::NAME));
            if places.is_live()
                && let Err(error) = systemctl::daemon_reload()
            {
                say(&format!(
                    "{}; it forgets the unit at the next boot",
                    crate::error_text(&error)
                ));
            }
            Vec::new()
        }
        Ok(false) => Vec::new(),
    }
}

/// Removes the agent's files, and the directory when nothing else is in it; gives what is still there.
fn remove_state(state: &Path) -> Vec<String> {
    // Somebody else's files, perhaps: a link in our place leads anywhere.
    if let Err(error) = state_directory::check(state) {
        return vec![format!("{}: nothing in it is removed", crate::error_text(&error))];
    }
    let history = state.join(history::FILE);
    let kept = (0..=history::KEPT).map(|age| append_file::aged(&history, age));
    let paths = FILES.iter().map(|name| state.join(name)).chain(kept);
    let mut failures: Vec<String> = paths
        .flat_map(|path| [files::remove(&files::temporary(&path)), files::remove(&path)])
        .filter_map(|removed| Some(crate::error_text(&removed.err()?)))
        .collect();
    match files::remove_directory(state) {
        Ok(true) => {}
        Ok(false) => say(&format!("{} stays: it holds other files", state.display())),
        Err(error) => failures.push(crate::error_text(&error)),
    }
    failures
}

/// What is removed is removed, whether or not anybody can be told.
pub(super) fn say(text: &str) {
    let _untold = screen::write(&format!("{}\n", safe::safe(text)));
}
