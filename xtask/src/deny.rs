//! Judges every dependency by the rules of deny.toml, with cargo-deny.
//!
//! In: the lock file, what each crate declares. Out: success, or what cargo-deny says of each crate that breaks a rule.
//! Deliberately absent: advisories. Their database comes from the network and changes by itself, so that a commit that
//! passed could fail a day later; `cargo deny check advisories` asks it.

use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::packages::CARGO_DENY;
use crate::{run, setup, workspace};

/// The rules, below the workspace's root.
const RULES: &str = "deny.toml";
/// What is judged; cargo-deny's fourth check is the advisories.
const CHECKS: [&str; 3] = ["bans", "licenses", "sources"];
/// A licence that dependencies are sure to have, as it stands in the rules.
const USED: &str = "\"MIT\",";
/// Exit status of cargo-deny when it refused a licence and nothing else.
const LICENCE_REFUSED: i32 = 4;

/// Lets cargo-deny judge, and lets it show that it would say no.
pub fn check() -> Result<(), Failure> {
    let program = setup::ensure_tool(&CARGO_DENY)?;
    let rules = workspace::root().join(RULES);
    run::run(&mut judge(&program, &rules))?;
    refuses(&program, &workspace::read(&rules)?)
}

fn judge(program: &Path, rules: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(workspace::root());
    command.args(["--locked", "--workspace", "--config"]).arg(rules);
    command.arg("check").args(CHECKS);
    command
}

/// The same rules without a licence that is in use must fail: a judge that says yes to everything proves nothing.
fn refuses(program: &Path, rules: &str) -> Result<(), Failure> {
    let stricter = workspace::target().join("tools/stricter-deny.toml");
    workspace::write(&stricter, &without_used(rules)?)?;
    let mut command = judge(program, &stricter);
    let output = command.output().map_err(|source| Failure::Start {
        command: run::line(&command),
        source,
    })?;
    if output.status.code() == Some(LICENCE_REFUSED) {
        return Ok(());
    }
    Err(Failure::Content {
        subject: run::line(&command),
        fault: format!(
            "expected exit status {LICENCE_REFUSED} without {USED} found {}",
            output.status
        ),
    })
}

fn without_used(rules: &str) -> Result<String, Failure> {
    if rules.matches(USED).count() == 1 {
        return Ok(rules.replace(USED, ""));
    }
    Err(Failure::Content {
        subject: RULES.to_owned(),
        fault: format!("expected {USED} once, in the list of licences"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_licence_is_taken_off_our_own_list() {
        let rules = workspace::read(&workspace::root().join(RULES)).unwrap();
        let stricter = without_used(&rules).unwrap();
        assert_eq!(stricter.len(), rules.len() - USED.len());
        assert!(stricter.contains("\"Apache-2.0\","));
        let fault = without_used(&stricter).unwrap_err().to_string();
        assert!(fault.starts_with("deny.toml: expected \"MIT\", once"), "{fault}");
    }

    #[test]
    fn a_judge_that_always_agrees_is_refused() {
        let rules = format!("[licenses]\nallow = [{USED}]\n");
        let failure = refuses(Path::new("true"), &rules).unwrap_err().to_string();
        assert!(failure.contains("found exit status: 0"), "{failure}");
        let failure = refuses(Path::new("false"), &rules).unwrap_err().to_string();
        assert!(failure.contains("found exit status: 1"), "{failure}");
    }

    #[test]
    fn our_own_file_bans_openssl() {
        let rules = workspace::read(&workspace::root().join(RULES)).unwrap();
        assert!(rules.contains("{ crate = \"openssl-sys\", reason ="));
    }
}
