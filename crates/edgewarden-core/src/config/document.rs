//! What the checked values of a configuration document mean.
//!
//! In: JSON, and whether development keys are allowed. Out: [`Config`] or every fault.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::keys::KEYS;
use super::values::{ConfigValues, MAX_ITEMS, SCALARS};
use super::{CaptureConfig, Config, DetectConfig, IsolationConfig, Mode, ReportingConfig, ShadowConfig};
use crate::detect::Behavior;
use crate::document::fault::{Fault, quote};
use crate::document::fields::{Scalars, push};
use crate::quarantine::lifelines::lifeline::Lifelines;
use crate::quarantine::orders::document::{MAX_ALLOWANCES, MAX_PROCESS_RULES, read_allowance};
use crate::quarantine::orders::process_rule::read_process_rule;
use crate::quarantine::plan::IsolationSettings;
use crate::report::custom::settings;
use crate::report::{Encoding, Format, NameLength, OfflinePolicy};

/// How the keys begin that are for laboratories only.
const DEVELOPMENT: &str = "development.";

/// Whether keys of the `development` group are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Development {
    /// Refused: what ships.
    Refused,
    /// Taken: a laboratory.
    Allowed,
}

/// Reads a document.
///
/// # Errors
/// Every fault, with its path.
pub fn read(document: &Value, development: Development) -> Result<Config, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut values = ConfigValues::defaults();
    match document {
        Value::Null => {}
        Value::Object(map) => values.take(map, "", 0, &mut faults),
        other => push(
            &mut faults,
            "",
            format!("the configuration is {}, expected an object", quote(other)),
        ),
    }
    if development == Development::Refused {
        let of_laboratories = KEYS.iter().filter(|key| key.path.starts_with(DEVELOPMENT));
        for key in of_laboratories.filter(|key| values.integer(key.path) != 0) {
            let why = "is for laboratories and refused here (EDGEWARDEN_DEVELOPMENT=1 is not set)";
            push(&mut faults, key.path, why);
        }
    }
    let config = mean(&values, &mut faults);
    if faults.is_empty() {
        Ok(config)
    } else {
        Err(faults)
    }
}

/// The value at a path in a valid document, or its default, as JSON that is cut where it is long; none where no key has that path, or an outer one.
pub fn in_force(document: &Value, path: &str) -> Option<String> {
    let key = KEYS.iter().find(|key| {
        let rest = path.strip_prefix(key.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    })?;
    let written = key
        .path
        .split('.')
        .try_fold(document, |value, name| value.get(name));
    let written = written.filter(|value| !value.is_null());
    Some(written.map_or_else(|| key.default.to_owned(), quote))
}

/// The configuration of an empty document.
pub fn defaults() -> Config {
    mean(&ConfigValues::defaults(), &mut Vec::new())
}

fn mean(values: &ConfigValues, faults: &mut Vec<Fault>) -> Config {
    let interval = match values.integer("development.reportIntervalSeconds") {
        0 => values.seconds("reporting.intervalSeconds"),
        seconds => Duration::from_secs(seconds),
    };
    let config = Config {
        thing_name: values.text("thingName"),
        mode: if values.text("mode").as_deref() == Some("observe") {
            Mode::Observe
        } else {
            Mode::Enforce
        },
        reporting: ReportingConfig {
            enabled: values.flag("reporting.enabled"),
            interval,
            max_bytes: usize::try_from(values.integer("reporting.maxBytes")).unwrap_or(usize::MAX),
            topic: values.text("reporting.topic"),
            encoding: encoding(values),
            offline: match values.text("reporting.offline").as_deref() {
                Some("drop") => OfflinePolicy::Drop,
                _ => OfflinePolicy::Fold,
            },
            custom: settings::read(
                values.get("reporting.customMetrics"),
                "reporting.customMetrics",
                faults,
            ),
            metrics_directory: values.text("reporting.metricsDirectory").map(PathBuf::from),
        },
        capture: CaptureConfig {
            by_pnet: values.text("capture.receiver").as_deref() == Some("pnet"),
            promiscuous: values.flag("capture.promiscuous"),
            include: values.texts("capture.include"),
            exclude: values.texts("capture.exclude"),
        },
        detect: DetectConfig {
            behaviors: behaviors(values.get("detect.behaviors"), faults),
            quarantine: values.flag("detect.quarantine"),
        },
        shadow: ShadowConfig {
            name: values.text("shadow.name"),
            refresh: values.seconds("shadow.refreshSeconds"),
        },
        isolation: isolation(values, faults),
        quarantine: Some(values.get("quarantine").clone()).filter(|value| !value.is_null()),
    };
    check_names(&config, faults);
    check_directory(&config, faults);
    config
}

fn encoding(values: &ConfigValues) -> Encoding {
    Encoding {
        format: match values.text("reporting.format").as_deref() {
            Some("cbor") => Format::Cbor,
            _ => Format::Json,
        },
        names: match values.text("reporting.names").as_deref() {
            Some("short") => NameLength::Short,
            _ => NameLength::Long,
        },
    }
}

fn isolation(values: &ConfigValues, faults: &mut Vec<Fault>) -> IsolationConfig {
    IsolationConfig {
        settings: IsolationSettings {
            lifelines: Lifelines {
                dhcp: values.flag("isolation.lifelines.dhcp"),
                dns: values.flag("isolation.lifelines.dns"),
                ntp: values.flag("isolation.lifelines.ntp"),
                data_endpoint: values.flag("isolation.lifelines.dataEndpoint"),
                deployments: values.flag("isolation.lifelines.deployments"),
                logs: values.flag("isolation.lifelines.logs"),
                tunnel: values.flag("isolation.lifelines.tunnel"),
            },
            allow: list(values, "isolation.allow", MAX_ALLOWANCES, faults, read_allowance),
            processes: list(
                values,
                "isolation.processes",
                MAX_PROCESS_RULES,
                faults,
                read_process_rule,
            ),
        },
        confirm: values.seconds("isolation.confirmSeconds"),
        hold_in_silence: values.text("isolation.onSilence").as_deref() == Some("hold"),
        release_without_nucleus: [
            "development.releaseWithoutNucleusSeconds",
            "isolation.releaseWithoutNucleusSeconds",
        ]
        .map(|path| values.seconds(path))
        .into_iter()
        .find(|after| !after.is_zero()),
        data_endpoint: values.text("isolation.dataEndpoint"),
        time_servers: values.texts("isolation.timeServers"),
        protected: values.texts("isolation.protected"),
        bridged: values.flag("isolation.bridged"),
        raw_frames: values.flag("isolation.rawFrames"),
    }
}

type ReadItem<T> = fn(&Value, &str, Scalars, &mut Vec<Fault>) -> Option<T>;

fn list<T>(
    values: &ConfigValues,
    path: &str,
    max: usize,
    faults: &mut Vec<Fault>,
    read: ReadItem<T>,
) -> Vec<T> {
    let value = values.get(path);
    let Some(items) = value.as_array().filter(|items| items.len() <= max) else {
        push(
            faults,
            path,
            format!("is {}, expected a list of at most {max} items", quote(value)),
        );
        return Vec::new();
    };
    let numbered = items.iter().enumerate();
    numbered
        .filter_map(|(index, item)| read(item, &format!("{path}[{index}]"), SCALARS, faults))
        .collect()
}

fn behaviors(value: &Value, faults: &mut Vec<Fault>) -> Vec<Behavior> {
    let Some(items) = value.as_array().filter(|items| items.len() <= MAX_ITEMS) else {
        push(
            faults,
            "detect.behaviors",
            format!(
                "is {}, expected a list of at most {MAX_ITEMS} behaviours",
                quote(value)
            ),
        );
        return Vec::new();
    };
    let mut behaviors = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("detect.behaviors[{index}]");
        match serde_json::from_value::<Behavior>(item.clone()) {
            Ok(behavior) => {
                behavior
                    .faults()
                    .into_iter()
                    .for_each(|fault| push(faults, &path, fault));
                behaviors.push(behavior);
            }
            Err(error) => push(faults, &path, error.to_string()),
        }
    }
    behaviors
}

/// Names become parts of MQTT topics, where `/`, `+` and `#` would mean something else.
fn check_names(config: &Config, faults: &mut Vec<Fault>) {
    let plain = |name: &str| {
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || ":_-".contains(c))
    };
    for (path, name) in [
        ("thingName", &config.thing_name),
        ("shadow.name", &config.shadow.name),
    ] {
        if name.as_ref().is_some_and(|name| !plain(name)) {
            push(faults, path, "may hold letters, digits, `:`, `_` and `-` only");
        }
    }
    if config
        .reporting
        .topic
        .as_ref()
        .is_some_and(|topic| topic.contains(['+', '#']))
    {
        push(
            faults,
            "reporting.topic",
            "may not hold the wildcards `+` and `#`",
        );
    }
}

fn check_directory(config: &Config, faults: &mut Vec<Fault>) {
    let directory = &config.reporting.metrics_directory;
    if directory.as_ref().is_some_and(|path| !path.is_absolute()) {
        push(faults, "reporting.metricsDirectory", "expected an absolute path");
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::check;
    use super::*;
    use serde_json::json;

    fn ship(document: &Value) -> Result<Config, Vec<Fault>> {
        read(document, Development::Refused)
    }

    #[test]
    fn the_defaults_are_valid() {
        for key in KEYS.iter().filter(|key| !key.path.starts_with("development.")) {
            let value: Value = serde_json::from_str(key.default).unwrap();
            let mut faults = Vec::new();
            if !value.is_null() {
                check(key, &value, &mut faults);
            }
            assert!(faults.is_empty(), "{}: {faults:?}", key.path);
        }
        let mut faults = Vec::new();
        mean(&ConfigValues::defaults(), &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(ship(&json!({})).unwrap(), Config::defaults());
    }

    #[test]
    fn what_stays_in_force_is_told_by_the_path_of_a_fault() {
        let document = json!({"reporting": {"intervalSeconds": 600}, "isolation": {"allow": []}});
        let told = |path| in_force(&document, path);
        assert_eq!(told("reporting.intervalSeconds").as_deref(), Some("600"));
        assert_eq!(told("mode").as_deref(), Some("\"enforce\""), "the default");
        assert_eq!(told("isolation.allow[2].remote").as_deref(), Some("[]"));
        assert_eq!(told("unknown.key"), None);
        assert_eq!(told("modest"), None);
    }

    #[test]
    fn strings_for_numbers_are_what_lite_sends() {
        let config = ship(&json!({
            "mode": "observe", "reporting": {"intervalSeconds": "600", "enabled": "false"},
            "accessControl": {"aws.greengrass.ipc.mqttproxy": {}}
        }))
        .unwrap();
        assert_eq!(config.reporting.interval, Duration::from_secs(600));
        assert!(!config.reporting.enabled);
        assert_eq!(config.mode, Mode::Observe);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let faults = ship(&json!({
            "mode": "sometimes", "reporting": {"intervalSeconds": 60, "intervall": 1}, "isolation": 7,
            "shadow": {"name": "a/b"}, "detect": {"behaviors": [{"name": "x"}]}, "nonsense": {}
        }))
        .unwrap_err();
        let paths: Vec<_> = faults.iter().map(|f| f.path.as_str()).collect();
        for path in [
            "mode",
            "reporting.intervalSeconds",
            "reporting.intervall",
            "isolation",
            "shadow.name",
            "detect.behaviors[0]",
            "nonsense",
        ] {
            assert!(paths.contains(&path), "{path} is not among {paths:?}");
        }
    }

    #[test]
    fn the_shipped_agent_refuses_the_laboratory_interval() {
        let document = json!({"development": {"reportIntervalSeconds": 5}});
        let faults = ship(&document).unwrap_err();
        assert_eq!(faults[0].path, "development.reportIntervalSeconds");
        let lab = read(&document, Development::Allowed).unwrap();
        assert_eq!(lab.reporting.interval, Duration::from_secs(5));
    }

    #[test]
    fn orders_end_without_a_nucleus_only_after_a_time_that_the_owner_has_set() {
        let after = |seconds: Value| {
            let config = ship(&json!({"isolation": {"releaseWithoutNucleusSeconds": seconds}}));
            config.map(|config| config.isolation.release_without_nucleus)
        };
        assert_eq!(Config::defaults().isolation.release_without_nucleus, None);
        assert_eq!(after(json!(0)), Ok(None));
        assert_eq!(after(json!("0")), Ok(None));
        assert_eq!(after(json!(3_600)), Ok(Some(Duration::from_secs(3_600))));
        assert_eq!(after(json!("2592000")), Ok(Some(Duration::from_secs(2_592_000))));
        for wrong in [
            json!(1),
            json!(3_599),
            json!(2_592_001),
            json!("soon"),
            json!(-1),
            json!(true),
        ] {
            let faults = after(wrong.clone()).unwrap_err();
            assert_eq!(
                faults[0].path, "isolation.releaseWithoutNucleusSeconds",
                "{wrong}"
            );
            assert!(faults[0].problem.contains("0 (never)"), "{faults:?}");
        }
        let document = json!({"development": {"releaseWithoutNucleusSeconds": 5}});
        let faults = ship(&document).unwrap_err();
        assert_eq!(faults[0].path, "development.releaseWithoutNucleusSeconds");
        let lab = read(&document, Development::Allowed).unwrap();
        assert_eq!(
            lab.isolation.release_without_nucleus,
            Some(Duration::from_secs(5))
        );
    }

    #[test]
    fn allowances_and_process_rules_are_read_with_their_paths() {
        let config = ship(&json!({"isolation": {
            "allow": [{"remote": "198.51.100.7", "protocol": "tcp", "ports": ["22"], "direction": "in"}],
            "processes": [{"match": {"exe": "/tmp/*"}, "action": "freeze"}]}}))
        .unwrap();
        assert_eq!(config.isolation.settings.allow.len(), 1);
        let faults =
            ship(&json!({"isolation": {"processes": [{"match": {}, "action": "kill"}]}})).unwrap_err();
        assert!(
            faults[0].path.starts_with("isolation.processes[0].match"),
            "{faults:?}"
        );
    }
}
