//! `edgewarden history`: who ordered what and why, and what was done about it. Reads the files itself, so that it also
//! answers when no agent does; a running agent is asked only where its history ends.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::place::StateDirectory;
use super::{Failure, out, safe};
use crate::control::client::ask;
use crate::control::protocol::Request;
use crate::control::status::Status;
use crate::host::clock;
use crate::host::files::append_file;
use crate::quarantine::history::{
    ChainFault, ChainHead, ChainSummary, FILE, HistoryFile, HistoryLine, KEPT, MAX_FILE, Record, TornLine,
    read, verify,
};

/// Looks at files that the agent may be rotating or writing; what is not whole in the last of them is not whole.
const LOOKS: usize = 3;
/// From one look to the next: a write takes milliseconds.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes read of each file: the agent rotates before [`MAX_FILE`], unless all that waited for a full disk comes at once.
const MAX_READ: u64 = 8 * MAX_FILE;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    state: StateDirectory,
    /// Check the chain: exit code 0 when nothing was changed, removed or moved, 1 and the first place otherwise.
    #[arg(long)]
    verify: bool,
    /// Print JSON: one record a line, as it was written.
    #[arg(long)]
    json: bool,
    /// Show only the newest N records.
    #[arg(long, value_name = "N", conflicts_with = "verify")]
    last: Option<usize>,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let path = arguments.state.path.join(FILE);
    // Asked first: what the agent had written then must be in the files afterwards.
    let end = arguments.verify.then(|| agents_end(socket, &path)).flatten();
    let (files, chain) = look(&path)?;
    if arguments.verify {
        return checked(arguments.json, &files, chain, end.as_ref());
    }
    let seen: Vec<HistoryLine> = files.iter().flat_map(|file| read(file).0).collect();
    let from = arguments
        .last
        .map_or(0, |wanted| seen.len().saturating_sub(wanted));
    let shown = &seen[from..];
    let mut page = String::new();
    if !arguments.json
        && from == 0
        && let Ok(summary) = &chain
        && summary.first > 1
    {
        let _ = writeln!(
            page,
            "begins at record {}; earlier ones were rotated away",
            summary.first
        );
    }
    for seen in shown {
        if arguments.json {
            page.push_str(&json_line(seen)?);
        } else {
            let _ = writeln!(page, "{}", safe::safe(&text_line(seen)));
        }
    }
    out(&page)?;
    match chain {
        Ok(_) => Ok(()),
        Err(fault) => Err(broken(&fault)),
    }
}

/// Where the running agent says that this very history ends.
fn agents_end(socket: &Path, path: &Path) -> Option<ChainHead> {
    let status: Status = serde_json::from_value(ask(socket, &Request::Status).ok()?).ok()?;
    let end = status.enforcement.history?;
    let same = |a: &Path, b: &Path| Some(std::path::absolute(a).ok()? == std::path::absolute(b).ok()?);
    (same(&end.file, path) == Some(true)).then_some(end.head)
}

/// The kept files and what their chain says; looked at again when it is not whole, because the agent may be writing.
fn look(path: &Path) -> Result<(Vec<HistoryFile>, Result<ChainSummary, ChainFault>), Failure> {
    let mut looks = 1;
    loop {
        let files = load(path)?;
        let chain = verify(&files);
        let whole = matches!(&chain, Ok(summary) if summary.torn.is_none());
        if whole || looks == LOOKS {
            return Ok((files, chain));
        }
        looks += 1;
        clock::pause(PAUSE);
    }
}

fn load(path: &Path) -> Result<Vec<HistoryFile>, Failure> {
    let mut files = Vec::new();
    for age in (0..=KEPT).rev() {
        let aged = append_file::aged(path, age);
        let Some((bytes, all)) =
            append_file::end_of(&aged, MAX_READ).map_err(|error| Failure::new(&error))?
        else {
            continue;
        };
        let shown = aged.display();
        if !all {
            return Err(failure(format!(
                "{shown} is larger than {MAX_READ} bytes, the agent did not write that"
            )));
        }
        let name = aged.file_name().map(|name| name.to_string_lossy().into_owned());
        files.push(HistoryFile {
            name: name.unwrap_or_default(),
            age,
            bytes,
        });
    }
    if files.is_empty() {
        let shown = path.display();
        return Err(failure(format!(
            "there is no history: {shown} does not exist (--state-dir is the directory that `run` was given)"
        )));
    }
    Ok(files)
}

/// The sentence of `--verify`, or the failure.
fn checked(
    as_json: bool,
    files: &[HistoryFile],
    chain: Result<ChainSummary, ChainFault>,
    end: Option<&ChainHead>,
) -> Result<(), Failure> {
    let summary = chain.map_err(|fault| broken(&fault))?;
    let Some(last) = &summary.last else {
        return Err(failure("the history holds no record at all".into()));
    };
    if let Some(end) = end
        && !holds(files, end)
    {
        return Err(failure(format!(
            "records are missing at the end: the running agent wrote record {}, the files end at {}",
            end.seq, last.seq
        )));
    }
    if !summary.damaged.is_empty() {
        let numbers: Vec<String> = summary.damaged.iter().map(|seq| format!("#{seq}")).collect();
        return Err(failure(format!(
            "the chain is whole, but the agent found that somebody had changed the files: see {}",
            numbers.join(", ")
        )));
    }
    let torn = summary.torn.as_ref().map(|TornLine { at, bytes }| {
        format!("; {at} is torn after {bytes} bytes, as power loss leaves it: the next start cuts it off")
    });
    if as_json {
        let value = json!({
            "first": summary.first,
            "last": last,
            "torn": summary.torn.as_ref().map(|torn| json!({"at": torn.at, "bytes": torn.bytes})),
            "comparedWithAgent": end.is_some(),
        });
        return out(&safe::json(&value).map_err(|error| Failure::new(&error))?);
    }
    let earlier = if summary.first > 1 {
        format!(
            "; it begins at record {}, earlier ones were rotated away",
            summary.first
        )
    } else {
        String::new()
    };
    let compared = if end.is_some() {
        "it ends where the running agent says"
    } else {
        "no running agent could be asked where it ends"
    };
    out(&format!(
        "the history is whole: records {} to {}{earlier}{}; {compared}\nlast hash {}\n",
        summary.first,
        last.seq,
        safe::safe(&torn.unwrap_or_default()),
        last.hash
    ))
}

fn holds(files: &[HistoryFile], end: &ChainHead) -> bool {
    let records = files.iter().rev().flat_map(|file| read(file).0);
    records
        .filter_map(|seen| seen.record.ok())
        .any(|record| record.head == *end)
}

fn broken(fault: &ChainFault) -> Failure {
    failure(format!("the history is NOT as the agent wrote it: {fault}"))
}

fn failure(text: String) -> Failure {
    Failure { text, code: 1 }
}

fn json_line(seen: &HistoryLine) -> Result<String, Failure> {
    let value = match &seen.record {
        Ok(record) => json!({
            "seq": record.head.seq,
            "at": record.at,
            "event": record.event,
            "prev": record.prev,
            "hash": record.head.hash,
        }),
        Err(fault) => json!({ "line": seen.at, "fault": fault.to_string() }),
    };
    safe::json(&value).map_err(|error| Failure::new(&error))
}

fn text_line(seen: &HistoryLine) -> String {
    match &seen.record {
        Ok(record) => format!(
            "{}  #{} {}",
            record.at.strftime("%Y-%m-%d %H:%M:%S UTC"),
            record.head.seq,
            sentence(record)
        ),
        Err(fault) => format!("{}: {fault}", seen.at),
    }
}

fn sentence(record: &Record) -> String {
    record
        .known()
        .map_or_else(|| record.event.to_string(), |event| event.to_string())
}
