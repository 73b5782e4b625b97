//! Reads a rule of processes as an authority wrote it.
//!
//! In: a JSON value; all of it hostile. Out: a [`ProcessRule`], or every fault. A pattern that can match no process, whatever
//! runs, is a fault: whoever wrote it means something else.

use serde_json::Value;

use super::order::{ProcessAction, ProcessMatch, ProcessRule};
use crate::document::fault::{Fault, quote};
use crate::document::fields::{Fields, Scalars};

/// Longest path pattern: Linux' PATH_MAX is 4096, a shadow document 8 KB; no honest pattern comes near.
const MAX_PATTERN: usize = 512;
/// Longest name of a file.
const MAX_NAME: usize = 255;
/// Fewest characters of a process pattern besides `*`, `?` and `/`.
const MIN_LITERAL: usize = 3;

/// Reads one process rule; used for orders and for the configuration.
pub(crate) fn read_process_rule(
    value: &Value,
    path: &str,
    scalars: Scalars,
    faults: &mut Vec<Fault>,
) -> Option<ProcessRule> {
    let mut fields = Fields::open(value, path, &["match", "action"], scalars, faults)?;
    let action = fields.word("action", "\"freeze\" or \"kill\"", |text| match text {
        "freeze" => Some(ProcessAction::Freeze),
        "kill" => Some(ProcessAction::Kill),
        _ => None,
    });
    for key in ["match", "action"]
        .iter()
        .filter(|key| value.get(**key).is_none_or(Value::is_null))
    {
        fields.fault(key, "is missing");
    }
    let wanted = value.get("match")?;
    let mut fields = Fields::open(
        wanted,
        &format!("{path}.match"),
        &["exe", "name"],
        scalars,
        faults,
    )?;
    let matches = ProcessMatch {
        exe: fields.text("exe", MAX_PATTERN).map(str::to_owned),
        name: fields.text("name", MAX_PATTERN).map(str::to_owned),
    };
    let (no_path, no_name) = (
        matches.exe.as_deref().and_then(no_path),
        matches.name.as_deref().and_then(no_name),
    );
    if let Some(why) = no_path {
        let exe = matches.exe.as_deref().unwrap_or_default();
        fields.fault("exe", format!("is {}, {why}", quote(&exe.into())));
    }
    if let Some(why) = no_name {
        let name = matches.name.as_deref().unwrap_or_default();
        fields.fault("name", format!("is {}, {why}", quote(&name.into())));
    }
    // A rule that matches everything, or nearly so, would stop the device.
    let names_nothing = |pattern: &Option<String>| {
        let literal = |text: &String| text.chars().filter(|c| !"*?/".contains(*c)).count();
        pattern.as_ref().is_none_or(|text| literal(text) < MIN_LITERAL)
    };
    if names_nothing(&matches.exe) && names_nothing(&matches.name) {
        fields.fault(
            "",
            format!(
                "would match too many processes, expected an exe or a name with {MIN_LITERAL} letters or more"
            ),
        );
        return None;
    }
    let can_match = no_path.is_none() && no_name.is_none();
    Some(ProcessRule {
        matches,
        action: action?,
    })
    .filter(|_| can_match)
}

/// Why no program has such a path. The kernel tells paths from the root on, without detours.
fn no_path(exe: &str) -> Option<&'static str> {
    if !exe.starts_with(['/', '*', '?']) {
        return Some("which is no path, expected one that begins with / or *");
    }
    let mut parts = exe.split('/').skip(1);
    if parts.any(|part| ["", ".", ".."].contains(&part)) {
        return Some("which no program has as its path, expected it without //, /./, /../ or / at the end");
    }
    // What `*` and `?` stand for may have a / in it.
    let is_long = exe.split(['/', '*', '?']).any(|run| run.len() > MAX_NAME);
    is_long.then_some("of which a part is longer than the name of any file")
}

/// Why no process has such a name.
fn no_name(name: &str) -> Option<&'static str> {
    if name.starts_with('/') {
        return Some("which is a path, expected it as exe");
    }
    let is_long = name.chars().filter(|c| *c != '*').count() > MAX_NAME;
    is_long.then_some("which is longer than the name of any file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(matches: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        let rule = json!({"match": matches, "action": "freeze"});
        let read = read_process_rule(&rule, "r", Scalars::Exact, &mut faults);
        assert_eq!(read.is_some(), faults.is_empty(), "{matches}");
        faults
            .iter()
            .map(|fault| format!("{} {}", fault.path, fault.problem))
            .collect()
    }

    #[test]
    fn a_pattern_that_can_never_match_is_refused_with_the_reason() {
        for exe in [
            "rogue",
            "usr/bin/rogue",
            "/opt//rogue",
            "/opt/./rogue",
            "/opt/../rogue",
            "/opt/rogue/",
            "/opt/..",
            &format!("/opt/{}", "a".repeat(256)),
            &format!("/opt/*{}*/rogue", "ä".repeat(128)),
        ] {
            let faults = faults(&json!({ "exe": exe }));
            assert_eq!(faults.len(), 1, "{exe}");
            assert!(faults[0].starts_with("r.match.exe is "), "{faults:?}");
        }
        for name in [
            "/usr/bin/rogue".to_owned(),
            "a".repeat(256),
            format!("*{}", "a".repeat(256)),
        ] {
            let faults = faults(&json!({ "name": name }));
            assert!(faults[0].starts_with("r.match.name is "), "{faults:?}");
        }
        for exe in [
            "/opt/rogue",
            "*/rogue",
            "?opt/rogue",
            "/opt/..rogue",
            "/opt/*/rogue (deleted)",
            &format!("/{0}/{0}", "a".repeat(200)),
            &format!("/{0}*{0}", "a".repeat(200)),
        ] {
            assert_eq!(faults(&json!({ "exe": exe })), [""; 0], "{exe}");
        }
        assert_eq!(faults(&json!({"name": "telemetry-uploader"})), [""; 0]);
    }
}
