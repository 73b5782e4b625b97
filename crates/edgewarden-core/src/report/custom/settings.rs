//! Which custom metrics are wanted: one object of `reporting.customMetrics` each.
//!
//! In: the configuration's list. Out: [`MetricSetting`]s, or every fault with its path.

use serde_json::Value;

use super::label::label;
use super::{MetricType, is_name};
use crate::Arrange;
use crate::document::fault::{Fault, quote};
use crate::document::fields::{Fields, Scalars, push};

/// Objects in the list.
pub(crate) const MAX_SETTINGS: usize = 32;
/// Interfaces or processes one object may name.
const MAX_PATTERNS: usize = 16;
/// Longest name an object may give itself; the rest of a metric's name is for an interface or a process.
const MAX_BASE: usize = 64;
/// Longest list that may be asked for.
const MAX_TOP: u64 = 100;
/// Processes or addresses listed when nothing is said.
const DEFAULT_TOP: u64 = 10;
/// Longest pattern of an interface or a process, in characters; programs go by path.
const MAX_PATTERN: usize = 256;

/// What is counted of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficCounter {
    BytesIn,
    BytesOut,
    PacketsIn,
    PacketsOut,
}

/// What one object asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricSource {
    /// One number for each interface that matches, `<name>:<interface>`.
    Interfaces(TrafficCounter, Vec<String>),
    /// One number, the sum of all interfaces that match.
    InterfaceSum(TrafficCounter, Vec<String>),
    /// One number for each pattern, `<name>:<pattern>`: the sum of the processes it matches.
    Processes(TrafficCounter, Vec<String>),
    /// The processes with most of it: numbers as `<name>`, their names as `<name>:names`.
    TopProcesses(TrafficCounter, usize),
    /// Addresses with most bytes, on these interfaces.
    Remotes(usize, Vec<String>),
    /// Frames lost by capture.
    LostFrames,
    /// Part of the captured bytes without owner, 0 to 100.
    UnattributedPercent,
    /// 0 normal, 1 restrict, 2 isolate: what the kernel was proven to enforce.
    Enforcement,
}

/// One object of `reporting.customMetrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricSetting {
    /// First part of the metric's name, or the whole of it.
    pub name: String,
    pub what: MetricSource,
}

/// Last part of the name of the list of names beside a list of numbers.
pub const NAMES: &str = "names";
const EXPECTED: &str = "interface.* or process.* with bytesIn, bytesOut, packetsIn or packetsOut, remote.addresses, \
                        health.lostFrames, health.unattributedPercent or health.enforcement";

pub fn read(value: &Value, path: &str, faults: &mut Vec<Fault>) -> Vec<MetricSetting> {
    let Some(items) = value.as_array().filter(|items| items.len() <= MAX_SETTINGS) else {
        push(
            faults,
            path,
            format!(
                "is {}, expected a list of at most {MAX_SETTINGS} objects",
                quote(value)
            ),
        );
        return Vec::new();
    };
    let mut settings: Vec<MetricSetting> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let here = format!("{path}[{index}]");
        let Some(setting) = read_one(item, &here, faults) else {
            continue;
        };
        if let Some(other) = settings.iter().find(|other| meet(&other.name, &setting.name)) {
            let (name, other) = (&setting.name, &other.name);
            let problem = format!("{name} and {other} could name the same metric; give another `name`");
            push(faults, &format!("{here}.name"), problem);
        }
        settings.push(setting);
    }
    settings
}

/// Whether two objects could give the same metric name: equal, or one goes on where the other adds an interface.
fn meet(one: &str, other: &str) -> bool {
    let within = |long: &str, short: &str| {
        long.strip_prefix(short)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    };
    within(one, other) || within(other, one)
}

fn read_one(item: &Value, path: &str, faults: &mut Vec<Fault>) -> Option<MetricSetting> {
    let known = ["name", "what", "interfaces", "processes", "top", "sum"];
    let before = faults.len();
    let mut fields = Fields::open(item, path, &known, Scalars::StringsToo, faults)?;
    let word = fields.word("what", EXPECTED, |text| {
        what(text).map(|wanted| (text.to_owned(), wanted))
    });
    if fields.get("what").is_none() {
        fields.fault("what", format!("is missing, expected {EXPECTED}"));
    }
    let name = fields.text("name", MAX_BASE).map(str::to_owned);
    let name = name.or_else(|| Some(word.as_ref()?.0.replace('.', "_")));
    if let Some(name) = name.as_ref().filter(|name| !is_name(name)) {
        let problem = format!(
            "is {}, expected letters, digits, `:`, `_` and `-`, not beginning with aws:",
            quote(&Value::from(name.as_str()))
        );
        fields.fault("name", problem);
    }
    let what = word.and_then(|(_, wanted)| complete(wanted, &mut fields));
    (faults.len() == before).then_some(())?;
    Some(MetricSetting {
        name: name?,
        what: what?,
    })
}

/// The first part of `what`.
enum SourceSubject {
    Interface(TrafficCounter),
    Process(TrafficCounter),
    Remotes,
    Plain(MetricSource),
}

fn what(text: &str) -> Option<SourceSubject> {
    let counter = |text: &str| match text {
        "bytesIn" => Some(TrafficCounter::BytesIn),
        "bytesOut" => Some(TrafficCounter::BytesOut),
        "packetsIn" => Some(TrafficCounter::PacketsIn),
        "packetsOut" => Some(TrafficCounter::PacketsOut),
        _ => None,
    };
    match text.split_once('.')? {
        ("interface", rest) => counter(rest).map(SourceSubject::Interface),
        ("process", rest) => counter(rest).map(SourceSubject::Process),
        ("remote", "addresses") => Some(SourceSubject::Remotes),
        ("health", "lostFrames") => Some(SourceSubject::Plain(MetricSource::LostFrames)),
        ("health", "unattributedPercent") => Some(SourceSubject::Plain(MetricSource::UnattributedPercent)),
        ("health", "enforcement") => Some(SourceSubject::Plain(MetricSource::Enforcement)),
        _ => None,
    }
}

/// Reads the keys that belong to it and refuses those that do not.
fn complete(wanted: SourceSubject, fields: &mut Fields<'_>) -> Option<MetricSource> {
    let top = fields.integer("top", 1, MAX_TOP);
    let top_given = fields.get("top").is_some();
    let length = usize::try_from(top.unwrap_or(DEFAULT_TOP)).ok()?;
    let allowed: &[&str] = match &wanted {
        SourceSubject::Interface(_) => &["interfaces", "sum"],
        SourceSubject::Process(_) => &["processes", "top"],
        SourceSubject::Remotes => &["interfaces", "top"],
        SourceSubject::Plain(_) => &[],
    };
    for key in ["interfaces", "processes", "top", "sum"] {
        if fields.get(key).is_some() && !allowed.contains(&key) {
            fields.fault(key, "does not belong to this `what`");
        }
    }
    let all = || vec!["*".to_owned()];
    let interfaces = patterns("interfaces", fields);
    Some(match wanted {
        SourceSubject::Interface(counter) => {
            let sum = fields.get("sum").is_some_and(|_| flag(fields));
            let interfaces = interfaces.unwrap_or_else(all);
            if sum {
                MetricSource::InterfaceSum(counter, interfaces)
            } else {
                MetricSource::Interfaces(counter, interfaces)
            }
        }
        SourceSubject::Process(counter) => match patterns("processes", fields) {
            Some(_) if top_given => {
                fields.fault("top", "and `processes` exclude each other");
                return None;
            }
            Some(processes) => {
                for (index, pattern) in processes.iter().enumerate() {
                    if label(pattern).is_none() {
                        fields.fault(
                            &format!("processes[{index}]"),
                            "is too long to be part of a metric's name; shorten it with `*`",
                        );
                    }
                }
                MetricSource::Processes(counter, processes)
            }
            None => MetricSource::TopProcesses(counter, length),
        },
        SourceSubject::Remotes => MetricSource::Remotes(length, interfaces.unwrap_or_else(all)),
        SourceSubject::Plain(what) => what,
    })
}

fn flag(fields: &mut Fields<'_>) -> bool {
    let value = fields
        .get("sum")
        .and_then(|value| crate::document::fields::read_flag(value, Scalars::StringsToo));
    if value.is_none() {
        fields.fault("sum", "expected true or false");
    }
    value.unwrap_or_default()
}

/// A list of patterns, each once; `None` if it is not there.
fn patterns(key: &str, fields: &mut Fields<'_>) -> Option<Vec<String>> {
    fields.get(key)?;
    let mut list = fields.list(key, MAX_PATTERNS, |item, path, faults| {
        let text = item
            .as_str()
            .filter(|text| (1..=MAX_PATTERN).contains(&text.len()) && !text.chars().any(char::is_control));
        if text.is_none() {
            push(
                faults,
                path,
                format!(
                    "is {}, expected 1 to {MAX_PATTERN} printable characters",
                    quote(item)
                ),
            );
        }
        text.map(str::to_owned)
    });
    list.arrange();
    list.dedup();
    if list.is_empty() {
        fields.fault(key, "names nothing");
    }
    Some(list)
}

/// Names and types of the metrics this setting yields; `interfaces` are those of the device now.
pub fn metrics(setting: &MetricSetting, interfaces: &[String]) -> Vec<(String, MetricType)> {
    let base = &setting.name;
    match &setting.what {
        MetricSource::Interfaces(_, patterns) => interfaces
            .iter()
            .filter(|name| super::traffic::matches(patterns, name))
            .filter_map(|name| Some((format!("{base}:{}", label(name)?), MetricType::Number)))
            .collect(),
        MetricSource::Processes(_, patterns) => patterns
            .iter()
            .filter_map(|pattern| Some((format!("{base}:{}", label(pattern)?), MetricType::Number)))
            .collect(),
        MetricSource::TopProcesses(..) => vec![
            (base.clone(), MetricType::NumberList),
            (format!("{base}:{NAMES}"), MetricType::StringList),
        ],
        MetricSource::Remotes(..) => vec![(base.clone(), MetricType::IpList)],
        MetricSource::InterfaceSum(..)
        | MetricSource::LostFrames
        | MetricSource::UnattributedPercent
        | MetricSource::Enforcement => {
            vec![(base.clone(), MetricType::Number)]
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_all(value: &Value) -> (Vec<MetricSetting>, Vec<String>) {
        let mut faults = Vec::new();
        let settings = read(value, "m", &mut faults);
        (settings, faults.iter().map(Fault::to_string).collect())
    }

    #[test]
    fn every_kind_is_read_and_names_its_metrics() {
        let (settings, faults) = read_all(&json!([
            {"name": "eth_out", "what": "interface.bytesOut", "interfaces": ["eth*"]},
            {"what": "interface.packetsIn", "sum": "true"},
            {"what": "process.bytesOut", "top": "3"},
            {"name": "named", "what": "process.bytesIn", "processes": ["curl", "/usr/bin/*"]},
            {"what": "remote.addresses"},
            {"what": "health.lostFrames"}, {"what": "health.unattributedPercent"}, {"what": "health.enforcement"}
        ]));
        assert_eq!(faults, [""; 0]);
        let interfaces = ["eth0.10".to_owned(), "wlan0".to_owned()];
        let names: Vec<String> = settings
            .iter()
            .flat_map(|setting| metrics(setting, &interfaces))
            .map(|(name, kind)| format!("{name} {}", kind.metric_type()))
            .collect();
        assert_eq!(
            names,
            [
                "eth_out:eth0_2e10 number",
                "interface_packetsIn number",
                "process_bytesOut number-list",
                "process_bytesOut:names string-list",
                "named:_2fusr_2fbin_2f_2a number",
                "named:curl number",
                "remote_addresses ip-address-list",
                "health_lostFrames number",
                "health_unattributedPercent number",
                "health_enforcement number",
            ]
        );
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_path() {
        let (settings, faults) = read_all(&json!([
            {"name": "aws:x", "what": "interface.bytesOut"},
            {"what": "process.bytesOut", "top": 0, "processes": []},
            {"what": "health.enforcement", "interfaces": ["eth0"], "colour": 1},
            {"what": "cpu"},
            {"name": "a b"},
            7,
            {"name": "good", "what": "health.lostFrames"},
            {"name": "good:names", "what": "health.lostFrames"},
            {"name": "long", "what": "process.bytesIn", "processes": ["/usr/lib/".repeat(9)]}
        ]));
        let expected = [
            "m[0].name: is",
            "m[1].top: is 0",
            "m[1].processes: names nothing",
            "m[1].top: and `processes`",
            "m[2].colour: unknown key",
            "m[2].interfaces: does not belong",
            "m[3].what: is \"cpu\"",
            "m[4].what: is missing",
            "m[4].name: is \"a b\"",
            "m[5]: is 7",
            "m[7].name: good:names and good could name the same metric",
            "m[8].processes[0]: is too long",
        ];
        for text in expected {
            assert!(
                faults.iter().any(|fault| fault.starts_with(text)),
                "{text}: {faults:#?}"
            );
        }
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        assert!(settings.iter().all(|setting| setting.name.starts_with("good")));
        assert_eq!(read_all(&json!({"a": 1})).1.len(), 1);
        assert_eq!(read_all(&json!(vec![1; MAX_SETTINGS + 1])).1.len(), 1);
    }
}
