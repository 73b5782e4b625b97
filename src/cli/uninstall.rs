//! `edgewarden uninstall`: leave nothing behind that acts. The recipe's uninstall step runs it.
//!
//! What was done on this device stays readable (the history, a damaged journal) until somebody purges it. Live orders keep it
//! from being done: a removal of the component, or a deployment that is rolled back, must not open an isolated device.

use std::path::{Path, PathBuf};

use super::without_agent::{Closed, Outcome, nobody_beside};
use super::{Failure, done, environment, place, safe, screen, thaw};
use crate::control::client::ask;
use crate::control::question::ReleaseOrders;
use crate::host::boot::boot_service::BootServicePaths;
use crate::host::boot::systemctl;
use crate::host::boot::unit;
use crate::host::files;
use crate::host::files::append_file;
use crate::host::files::journal_file::TIME_NAME;
use crate::host::files::journal_lists;
use crate::host::files::shelter;
use crate::host::files::state_directory::{self, LOCK};
use crate::host::guard;
use crate::host::log::LogStream;
use crate::host::net::frame_filters;
use crate::host::netfilter::kernel;
use crate::host::processes::unmarked;
use crate::quarantine::history;

/// A journal that could not be read: evidence, as the history is.
const DAMAGED: &str = "journal.damaged";
/// What the agent keeps in the state directory and nobody needs afterwards: the journal first, the lock last, because it is held.
const FILES: [&str; 6] = [
    "journal",
    TIME_NAME,
    "configuration.json",
    "last-report.json",
    "endpoints.json",
    LOCK,
];

const RUNS: &str = "the agent is running: stop it first, or it puts its rules back";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    installation: place::Installation,
    /// End every order first, whoever gave it. Without this nothing is removed while an order lives.
    #[arg(long, requires = "reason")]
    release: bool,
    /// Why; it is kept in the history.
    #[arg(long, requires = "release")]
    reason: Option<String>,
    /// Remove the audit history too, and a damaged journal that was kept.
    #[arg(long)]
    purge: bool,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let places = arguments.installation.places();
    let state = places.state();
    // Below another root there is another system, which does not run.
    let is_here = arguments.installation.root.is_none();
    if is_here {
        nobody_beside(&state, socket)?;
        end_orders(arguments, &state, socket)?;
    }
    let mut lock = files::lock(&state.join(LOCK));
    // One that a nucleus started keeps its guard.
    if is_here && (!matches!(lock, Ok(None)) || guard::is_guarded(&state)) {
        guard::end(&state).map_err(|error| Failure::new(&error))?;
        if matches!(lock, Ok(None)) {
            lock = files::lock(&state.join(LOCK));
        }
    }
    if matches!(lock, Ok(None)) {
        return Err(RUNS.to_owned().into());
    }
    let mut failures = Vec::new();
    if is_here {
        failures.extend(thaw::thaw(&state, socket));
        // Before the tables: they cut all that nobody marks any more.
        let removed = frame_filters::remove_all();
        failures.extend(removed.err().map(|error| crate::error_text(&error)));
        match kernel::remove_tables() {
            Ok(()) => say("removed the tables edgewarden, if they were there"),
            Err(obstacle) => failures.push(obstacle.to_string()),
        }
    }
    // Until then the program stays: with it goes the way to try again.
    if failures.is_empty() {
        failures.extend(forget_unit(&places));
    }
    if failures.is_empty() {
        failures.extend(remove_state(&state, arguments.purge));
        if is_here {
            let removed = [
                shelter::clear(socket),
                unmarked::clear(socket),
                files::remove(socket),
            ];
            let refused = removed.into_iter().filter_map(Result::err);
            failures.extend(refused.map(|error| crate::error_text(&error)));
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

/// Refuses while anything keeps the device closed, or ends that where the operator says so.
fn end_orders(arguments: &Arguments, state: &Path, socket: &Path) -> Result<(), Failure> {
    let _log = environment::log("off", LogStream::Error);
    let closed = Closed::find(state, socket)?;
    let names = closed.orders.join(", ");
    let what = match (closed.orders.is_empty(), closed.tables) {
        (true, 0) => return Ok(()),
        (true, _) => format!(
            "the kernel holds rules of Edgewarden of which the journal in {} knows nothing",
            state.display()
        ),
        (false, _) => format!("orders live ({names})"),
    };
    if !arguments.release {
        return Err(format!(
            "{what}, and nothing is removed while they do: let them be taken back, or end them with `edgewarden uninstall \
             --release --reason TEXT`"
        )
        .into());
    }
    match closed.end(arguments.reason.as_deref())? {
        // One that a nucleus started is to be stopped first, as it puts its rules back.
        Outcome::Alive(socket) if guard::is_guarded(state) => {
            let question = ReleaseOrders {
                everything: true,
                reason: arguments.reason.clone(),
            };
            done::release_before_removal(&ask(&socket, question)?.enforcement, None)?;
        }
        Outcome::Alive(_) => return Err(RUNS.to_owned().into()),
        Outcome::Nothing(_) => {}
        Outcome::CarriedOut { state, rival, .. } => {
            done::release_before_removal(&state, rival.as_deref())?;
            if let Some(fault) = &state.history_fault {
                say(&format!("the history says nothing of it: {fault}"));
            }
        }
    }
    if names.is_empty() {
        say("lifted the rules in the kernel; no order was known");
    } else {
        say(&format!("ended every order: {names}"));
    }
    Ok(())
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

/// Removes the agent's files, and the directory when nothing else is in it; gives what is still there. Evidence stays unless it
/// is to be purged.
fn remove_state(state: &Path, purge: bool) -> Vec<String> {
    // Somebody else's files, perhaps: a link in our place leads anywhere.
    if let Err(error) = state_directory::check(state) {
        return vec![format!("{}: nothing in it is removed", crate::error_text(&error))];
    }
    let history = state.join(history::FILE);
    let evidence = (0..=history::KEPT).map(|age| append_file::aged(&history, age));
    let evidence: Vec<PathBuf> = evidence.chain([state.join(DAMAGED)]).collect();
    let purged = evidence.iter().filter(|_| purge).cloned();
    let files = |names: &[&str]| names.iter().map(|name| state.join(name)).collect::<Vec<_>>();
    // The journal before the lists that it names, so that no half of it is left.
    let (journal, others) = FILES.split_at(1);
    let lists = journal_lists::found(state);
    let paths = files(journal)
        .into_iter()
        .chain(lists)
        .chain(files(others))
        .chain(purged);
    let mut failures: Vec<String> = paths
        .flat_map(|path| [files::remove(&files::temporary(&path)), files::remove(&path)])
        .filter_map(|removed| Some(crate::error_text(&removed.err()?)))
        .collect();
    match files::remove_directory(state) {
        Ok(true) => {}
        Ok(false) if !purge && evidence.iter().any(|path| path.exists()) => {
            let kept = evidence.iter().filter(|path| path.exists());
            let kept: Vec<String> = kept.map(|path| path.display().to_string()).collect();
            say(&format!(
                "kept, as evidence of what was done on this device: {}; `edgewarden uninstall --purge` removes it",
                kept.join(", ")
            ));
        }
        Ok(false) => say(&format!("{} stays: it holds other files", state.display())),
        Err(error) => failures.push(crate::error_text(&error)),
    }
    failures
}

/// What is removed is removed, whether or not anybody can be told.
pub(super) fn say(text: &str) {
    let _untold = screen::write(&format!("{}\n", safe::safe(text)));
}
