//! Letting go everybody whom Edgewarden froze, for `uninstall`: no agent will do it later.
//!
//! In: the state directory, the control socket. Out: processes that run again, and what could not be done, each a sentence with its next step.
//! Who is meant stands in the journal, in one that was damaged and set aside, and in the kernel, by the mark that the agent
//! leaves, or in the note beside the control socket. Whoever was stopped by somebody else stays so.

use std::path::Path;

use super::uninstall::say;
use crate::error_text;
use crate::host::files::journal_lists;
use crate::host::processes::above;
use crate::host::processes::frozen::{self, Ours};
use crate::host::processes::process_table;
use crate::host::processes::signals::SignalError;
use crate::host::processes::unmarked;
use crate::process::{Process, ProcessId};
use crate::quarantine::plan::processes::{OneAbove, StoppedProcess};
use crate::quarantine::proof::elsewhere::Elsewhere;
use crate::quarantine::proof::journal;
use crate::quarantine::proof::obstacle::Obstacle;

/// Where stopped processes are named.
const JOURNALS: [&str; 2] = ["journal", "journal.damaged"];
/// Processes shown that somebody stopped; more of them are counted.
const MAX_SHOWN: usize = 8;

/// Lets everybody go; gives what could not be done.
pub(super) fn thaw(state: &Path, socket: &Path) -> Vec<String> {
    let (mut named, is_certain) = named(state);
    let elsewhere = Elsewhere::take_out(process_table::seen_from(), &mut named);
    let told = |obstacle: &Obstacle| format!("{obstacle}; {}", obstacle.next_step());
    let ours = Ours::of(state, Some(socket.with_file_name(unmarked::NAME)));
    let suspected: Vec<ProcessId> = named.iter().map(|known| known.identity).collect();
    let found = match frozen::list(&ours, &suspected) {
        Ok(found) => found,
        Err(error) => {
            let why = error_text(&error);
            let unknown = [Some(Obstacle::ProcessesUnknown { why }), elsewhere.obstacle()];
            return unknown.iter().flatten().map(told).collect();
        }
    };
    let mut failures: Vec<String> = elsewhere.obstacle().iter().map(told).collect();
    let mut running = 0_u32;
    for found in found {
        let Process { identity, name, .. } = found.process;
        let by_journal = |known: &StoppedProcess| known.identity == identity && known.stopped_before;
        let stays = found.stopped_before || named.iter().any(by_journal);
        let let_go = if stays {
            frozen::leave_stopped
        } else {
            frozen::thaw
        };
        match let_go(identity, &ours) {
            Ok(()) if !found.stopped => {}
            Ok(()) if stays => say(&format!(
                "{name} ({}) stays stopped, as it was found",
                identity.pid
            )),
            Ok(()) => {
                running += 1;
                say(&format!("{name} ({}) runs again", identity.pid));
            }
            Err(SignalError::Gone(_)) => {}
            Err(error @ SignalError::Refused { .. }) => {
                let (pid, why) = (identity.pid, error_text(&error));
                failures.push(told(&Obstacle::ProcessStaysFrozen { pid, name, why }));
            }
        }
    }
    // Those who stopped with them; who is left runs.
    let by_owner = |one: &OneAbove| {
        // Of whom a debugger held it is looked whether he has gone on since.
        one.held_at.is_none()
            && named
                .iter()
                .any(|known| known.identity == one.identity && known.stopped_before)
    };
    let above = named.iter().map(|known| known.above.clone());
    let above: Vec<_> = above.filter(|row| !row.iter().any(by_owner)).collect();
    let _run = above::go_on(&above, &ours);
    if running > 0 {
        say(&format!("frozen processes that run again: {running}"));
    }
    if !is_certain && failures.is_empty() {
        tell_the_others();
    }
    failures
}

/// Whom the journals name, and whether they say all.
fn named(state: &Path) -> (Vec<StoppedProcess>, bool) {
    let (mut named, mut is_certain) = (Vec::new(), true);
    for name in JOURNALS {
        let path = state.join(name);
        let stopped = match journal_lists::read_whole(&path) {
            Ok(None) => continue,
            Ok(Some(bytes)) => match journal::decode(&bytes) {
                Ok(journal) => journal.stopped.into_owned(),
                Err(damage) => {
                    is_certain = false;
                    say(&format!("{}: {damage}", path.display()));
                    journal::stopped_in(&bytes)
                }
            },
            Err(error) => {
                is_certain = false;
                say(&error_text(&error));
                continue;
            }
        };
        named.extend(stopped);
    }
    (named, is_certain)
}

/// Whom somebody stopped. We may have been it, where processes could not be marked and the journal cannot be read.
fn tell_the_others() {
    let others = frozen::stopped().unwrap_or_default();
    for process in others.iter().take(MAX_SHOWN) {
        let (name, pid) = (&process.name, process.identity.pid);
        say(&format!(
            "{name} ({pid}) is stopped, and nothing says that it was Edgewarden: `kill -CONT {pid}` lets it go on"
        ));
    }
    if let Some(more) = others.len().checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
        say(&format!("and {more} more are stopped"));
    }
}
