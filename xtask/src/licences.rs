//! Judges every dependency by the rules of deny.toml.
//!
//! In: `cargo metadata` for the shipped targets, the rules. Out: one fault a line. [`faults`] is pure.

use serde_json::Value;

use crate::deny::{self, Rules};
use crate::failure::Failure;
use crate::{spdx, workspace};

/// Asks cargo and judges.
pub fn check() -> Result<(), Failure> {
    let path = workspace::root().join("deny.toml");
    let rules = deny::read("deny.toml", &workspace::read(&path)?)?;
    let platforms: Vec<&str> = rules
        .targets
        .iter()
        .flat_map(|target| ["--filter-platform", target.as_str()])
        .collect();
    let metadata = workspace::metadata(&platforms)?;
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    if packages.is_empty() {
        return Err(Failure::Content {
            subject: "the output of `cargo metadata`".to_owned(),
            fault: "expected `packages`, a list that is not empty".to_owned(),
        });
    }
    let faults = faults(packages, &rules);
    if !faults.is_empty() {
        return Err(Failure::Faults {
            check: "licence",
            faults,
        });
    }
    println!(
        "{} packages, every licence allowed, no banned crate",
        packages.len()
    );
    Ok(())
}

/// What is wrong with these packages of `cargo metadata`. The workspace's own (without a source) are not judged.
pub fn faults(packages: &[Value], rules: &Rules) -> Vec<String> {
    packages
        .iter()
        .filter(|package| !package["source"].is_null())
        .flat_map(|package| judge(package, rules))
        .collect()
}

fn judge(package: &Value, rules: &Rules) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or("?");
    let version = package["version"].as_str().unwrap_or("?");
    let mut faults = Vec::new();
    if rules.banned.iter().any(|banned| banned == name) {
        faults.push(format!(
            "{name} {version}: banned by deny.toml; `cargo tree -i {name}` shows who brings it"
        ));
    }
    match package["license"].as_str() {
        None => faults.push(format!("{name} {version}: declares no licence expression")),
        Some(expression) => match spdx::satisfied(expression, &rules.allowed) {
            Ok(true) => {}
            Ok(false) => faults.push(format!(
                "{name} {version}: `{expression}` is not covered by deny.toml's allow list"
            )),
            Err(fault) => faults.push(format!("{name} {version}: licence `{expression}`: {fault}")),
        },
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judge_one(package: Value) -> Vec<String> {
        let rules = Rules {
            targets: vec![],
            allowed: vec!["MIT".to_owned()],
            banned: vec!["openssl-sys".to_owned()],
        };
        faults(&[package], &rules)
    }

    #[test]
    fn an_allowed_dependency_passes() {
        assert_eq!(
            judge_one(json!({"name": "a", "version": "1", "source": "r", "license": "GPL-2.0 OR MIT"})),
            [""; 0]
        );
    }

    #[test]
    fn each_fault_names_the_package_and_the_reason() {
        let faults = judge_one(json!({"name": "a", "version": "1", "source": "r", "license": "GPL-2.0"}));
        assert_eq!(
            faults,
            ["a 1: `GPL-2.0` is not covered by deny.toml's allow list"]
        );
        let faults = judge_one(json!({"name": "a", "version": "1", "source": "r", "license": null}));
        assert_eq!(faults, ["a 1: declares no licence expression"]);
        let faults =
            judge_one(json!({"name": "openssl-sys", "version": "1", "source": "r", "license": "MIT"}));
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("openssl-sys 1: banned"));
        let faults = judge_one(json!({"name": "a", "version": "1", "source": "r", "license": "MIT OR"}));
        assert!(faults[0].contains("expected a licence"));
    }

    #[test]
    fn our_own_packages_are_not_judged() {
        assert_eq!(
            judge_one(json!({"name": "xtask", "version": "1", "source": null, "license": null})),
            [""; 0]
        );
    }
}
