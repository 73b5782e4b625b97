//! How things stand where no agent answers. Changes nothing.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::machine::LookingMachine;
use super::possession::YOUNG;
use super::{DISK_LIMIT, Places, Silent};
use crate::agent::control::operator;
use crate::agent::enforcer::{Enforcer, KernelLook, Remembered};
use crate::agent::holder::{self, Holder, Note};
use crate::control::ask_error::AskError;
use crate::control::client::feel_pulse;
use crate::control::status::AbsentAgent;
use crate::host::files::append_file;
use crate::host::files::shelter::Shelter;
use crate::host::processes::doing::is_stopped;
use crate::host::processes::process_table;
use crate::host::worker::Worker;
use crate::host::{clock, guard};
use crate::process::ProcessId;
use crate::quarantine::history::{self, Event, HistoryFile, HistoryLine};
use crate::quarantine::plan::preview::PlanPreview;
use crate::quarantine::proof::state::State;
use crate::quarantine::ruleset::TABLE;

/// Bytes of the history's end in which the newest record is looked for.
const MAX_END: u64 = 64 * 1024;

/// Of a plan that stops processes.
const NUCLEUS_NOT_KNOWN: &str = "who the nucleus is: an agent spares it, and what started it, also where they are said to be stopped here";

/// Who is in the agent's place, what the kernel holds, what the journal wants.
pub(crate) async fn look(places: &Places) -> AbsentAgent {
    see(places).await.0
}

/// The same, with how many tables of ours the kernel holds, and what the journal says of the time before.
pub(crate) async fn see(places: &Places) -> (AbsentAgent, usize, Remembered) {
    let (state, silent) = (places.state.clone(), places.silent.clone());
    let disk = Worker::new("state-directory", DISK_LIMIT);
    let found = disk.run(move || InItsPlace::find(&state, silent.as_ref())).await;
    let InItsPlace {
        agent,
        pid,
        since,
        guard,
    } = found.unwrap_or_else(|error| InItsPlace {
        agent: format!("nobody knows: {}", crate::error_text(&error)),
        ..InItsPlace::default()
    });
    let mut enforcer = enforcer(places).await;
    let remembered = enforcer.remembered();
    let (wanted, seen) = enforcer.look().await;
    let seen = match places.elsewhere().await {
        None => seen,
        Some(elsewhere) => Err(elsewhere.to_string()),
    };
    let tables = seen.as_ref().map_or(0, |seen| seen.tables.len());
    let found = AbsentAgent {
        agent,
        pid,
        since,
        guard,
        kernel: kernel(&wanted, seen, enforcer.observes()),
        mode: if enforcer.observes() { "observe" } else { "enforce" }.to_owned(),
        wanted: wanted.wanted,
        orders: wanted.orders,
        overridden: wanted.overridden,
        rolled_back: wanted.rolled_back,
        stopped: wanted.stopped,
    };
    (found, tables, remembered)
}

/// What is to be done now, or would be if the operator gave the order of that document, as far as the journal tells.
///
/// # Errors
/// What is wrong with the document, in a sentence for the operator.
pub(crate) async fn plan(places: &Places, order: Option<&Value>) -> Result<PlanPreview, String> {
    let now = clock::now().wall;
    let order = order
        .map(|order| operator::order_to_look_at(order, now))
        .transpose()?;
    let mut enforcer = enforcer(places).await;
    let mut preview = enforcer.preview(order).await;
    preview.look().await;
    let mut preview = preview.write();
    let stops = preview.plan.processes.iter().any(|line| line.action.is_some());
    preview.plan.not_known = (stops && !places.knows_nucleus().await).then(|| NUCLEUS_NOT_KNOWN.to_owned());
    Ok(preview)
}

async fn enforcer(places: &Places) -> Enforcer<LookingMachine> {
    let nothing = Event::WithoutAgent { why: String::new() };
    let (socket, settings) = places.begin().await;
    let machine = LookingMachine {
        state_directory: places.state.clone(),
        shelter: Shelter::beside(&socket),
    };
    super::enforcer(machine, settings, nothing).await
}

/// Who is in the agent's place.
#[derive(Default)]
struct InItsPlace {
    agent: String,
    pid: Option<u32>,
    since: Option<Timestamp>,
    guard: Option<u32>,
}

impl InItsPlace {
    fn find(state: &Path, silent: Option<&Silent>) -> Self {
        let (agent, process) = match holder::find(state) {
            None => match silent.and_then(Silent::agent) {
                None => ("not running".to_owned(), None),
                Some(process) if is_stopped(process) => ("stopped".to_owned(), Some(process)),
                Some(process) => ("not answering".to_owned(), Some(process)),
            },
            Some(Holder::Agent(note)) if is_stopped(note.process) => {
                ("stopped".to_owned(), Some(note.process))
            }
            Some(Holder::Agent(note)) => (condition(&note, silent), Some(note.process)),
            Some(Holder::Other(who)) => (format!("not running, and {who} holds its state directory"), None),
        };
        Self {
            agent,
            pid: process.map(|process| process.pid),
            since: process.map_or_else(|| newest_record(state), began),
            guard: guard::standing_pid(state),
        }
    }
}

/// How an agent is that is not stopped. `silent`: who gave no answer just now.
fn condition(note: &Note, silent: Option<&Silent>) -> String {
    let socket = &note.control_socket;
    let is_silent = silent.is_some_and(|silent| silent.is(note));
    let felt = (!is_silent).then(|| feel_pulse(socket));
    let is_young = note.age().is_some_and(|age| age < YOUNG);
    match felt {
        Some(Ok(())) => format!("well, and listens at {}", socket.display()),
        Some(Err(error)) if is_young && !matches!(error, AskError::Silent { .. }) => "starting".to_owned(),
        None | Some(Err(AskError::Silent { .. })) => "not answering".to_owned(),
        Some(Err(_)) => format!("not listening at {}", socket.display()),
    }
}

/// When a process began, by the wall clock of now.
fn began(process: ProcessId) -> Option<Timestamp> {
    let runs = SignedDuration::try_from(process_table::age(process)?).ok()?;
    clock::now().wall.checked_sub(runs).ok()
}

/// When the history was last written.
fn newest_record(state: &Path) -> Option<Timestamp> {
    let (bytes, _) = append_file::end_of(&state.join(history::FILE), MAX_END).ok()??;
    let file = HistoryFile {
        name: history::FILE.to_owned(),
        age: 0,
        bytes,
    };
    let lines: Vec<HistoryLine> = history::read(&file).0.collect();
    lines
        .iter()
        .rev()
        .find_map(|line| Some(line.record.as_ref().ok()?.at))
}

/// What the kernel holds, in a sentence.
fn kernel(wanted: &State, seen: Result<KernelLook, String>, is_observed: bool) -> String {
    let KernelLook { tables, differences } = match seen {
        Ok(seen) => seen,
        Err(why) => return format!("cannot be read: {why}"),
    };
    if tables.is_empty() {
        return "holds no rules of Edgewarden: nothing is cut".to_owned();
    }
    let tables: Vec<String> = tables.iter().map(|layer| format!("{layer} {TABLE}")).collect();
    let tables = tables.join(", ");
    if wanted.plan.is_none() {
        return format!("holds rules of Edgewarden although nothing is to be enforced ({tables})");
    }
    match differences.first() {
        None if is_observed => {
            format!("holds rules of Edgewarden that only count, mode observe: nothing is cut ({tables})")
        }
        None => format!("holds what is wanted: {} ({tables})", wanted.wanted),
        Some(first) => format!("holds rules of Edgewarden ({tables}) that are not what is wanted: {first}"),
    }
}
