//! `cargo xtask setup`: installs what is missing of [`crate::packages`].
//!
//! In: what is on the machine. Out: the programs, or the command a person with root must type. What cargo builds goes
//! below the target folder, never among the user's own programs.
//! Deliberately absent: any change when nothing is missing; any service started by the install.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::packages::{self, CARGO_DENY, PACKAGES, Package, Tool};
use crate::{run, workspace};

/// Where Debian looks for leave to start a service after its installation.
const SERVICE_POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs the packages named after the policy's path, starting none of their services: a broker that the
/// distribution starts would be in the lab's way. An existing policy is the machine's own and stays in force.
const INSTALL_SCRIPT: &str = r#"
set -eu
policy=$1
shift
if (set -C; printf '#!/bin/sh\nexit 101\n' >"$policy") 2>/dev/null; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends "$@"
"#;

/// Makes sure that every program of the demo and the tests is there.
pub fn run() -> Result<(), Failure> {
    ensure(PACKAGES)?;
    ensure_tool(&CARGO_DENY)?;
    println!("setup: every program is here");
    Ok(())
}

/// Makes sure that the programs of these packages are there. Standard output is left to whoever asks.
pub fn ensure(packages: &'static [Package]) -> Result<(), Failure> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        eprintln!("setup: {} is missing ({})", package.name, package.reason);
    }
    install(&missing)?;
    let still = self::missing(packages);
    if still.is_empty() {
        return Ok(());
    }
    Err(Failure::Missing {
        missing: programs(&still),
        advice: "their packages were installed, but the programs are neither in PATH nor in /usr/sbin",
    })
}

/// Makes sure that this program is there, and says where. Standard output is left to whoever asks.
pub fn ensure_tool(tool: &Tool) -> Result<PathBuf, Failure> {
    let folder = workspace::target().join("tools");
    let own = folder.join("bin").join(tool.name);
    // The user's own serves as well when it is the same.
    let places = [own.clone(), PathBuf::from(tool.name)];
    if let Some(found) = places.into_iter().find(|program| is_version(program, tool)) {
        return Ok(found);
    }
    let Tool {
        name,
        version,
        reason,
        as_shipped,
    } = tool;
    eprintln!(
        "setup: {name} {version} is missing ({reason}); cargo builds it once, which takes some minutes"
    );
    let mut install = workspace::cargo(&["install", name, "--locked", "--version", version]);
    if !as_shipped {
        install.arg("--debug").env("CARGO_PROFILE_DEV_DEBUG", "false");
    }
    let built = folder.join("build");
    run::run_aside(install.arg("--root").arg(&folder).arg("--target-dir").arg(&built))?;
    std::fs::remove_dir_all(&built).map_err(workspace::file("clear", &built))?;
    Ok(own)
}

/// Has rustup add a part of the Rust toolchain that is missing. Standard output is left to whoever asks.
pub fn rustup(missing: String, words: &[&str]) -> Result<(), Failure> {
    if !run::succeeds(Command::new("rustup").arg("--version")) {
        return Err(Failure::Missing {
            missing,
            advice: "there is no rustup to add it; install it where this Rust toolchain came from",
        });
    }
    run::run_aside(Command::new("rustup").args(words))
}

/// Whether the program says that it is this one.
fn is_version(program: &Path, tool: &Tool) -> bool {
    let said = Command::new(program).arg("--version").output();
    let wanted = format!("{} {}", tool.name, tool.version);
    said.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted)
}

fn missing(packages: &'static [Package]) -> Vec<&'static Package> {
    let mut missing = packages::missing(
        packages,
        &packages::search_path(std::env::var_os("PATH").as_deref()),
    );
    let absent = |package: &&Package| match package.probe {
        [program, arguments @ ..] => !run::succeeds(Command::new(program).args(arguments)),
        [] => false,
    };
    for package in packages.iter().filter(absent) {
        if !missing.iter().any(|other| other.name == package.name) {
            missing.push(package);
        }
    }
    missing
}

fn install(missing: &[&Package]) -> Result<(), Failure> {
    if !run::succeeds(Command::new("apt-get").arg("--version")) {
        return Err(Failure::Missing {
            missing: programs(missing),
            advice: "this machine has no apt-get; install them with the system's own package manager",
        });
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    let title = format!(
        "apt-get update && apt-get install {} (no service is started)",
        names.join(" ")
    );
    let script = ["-c", INSTALL_SCRIPT, "setup", SERVICE_POLICY];
    if is_root()? {
        run::run_aside_titled(&title, Command::new("sh").args(script).args(names))
    } else if run::succeeds(Command::new("sudo").args(["-n", "true"])) {
        run::run_aside_titled(
            &title,
            Command::new("sudo").args(["-n", "sh"]).args(script).args(names),
        )
    } else {
        Err(Failure::NeedsRoot {
            missing: programs(missing),
            command: manual_command(missing),
        })
    }
}

/// What a person types to do the same.
fn manual_command(missing: &[&Package]) -> String {
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    format!(
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
        names.join(" ")
    )
}

fn programs(packages: &[&Package]) -> String {
    let names: Vec<_> = packages
        .iter()
        .flat_map(|package| package.programs)
        .copied()
        .collect();
    names.join(", ")
}

/// Our own folder in /proc belongs to the effective user.
fn is_root() -> Result<bool, Failure> {
    let path = std::path::Path::new("/proc/self");
    Ok(std::fs::metadata(path)
        .map_err(workspace::file("look at", path))?
        .uid()
        == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_command_to_type_names_only_what_is_missing() {
        let package = Package {
            name: "mosquitto",
            programs: &["mosquitto"],
            probe: &[],
            reason: "",
        };
        assert_eq!(
            manual_command(&[&package]),
            "sudo apt-get update && sudo apt-get install -y --no-install-recommends mosquitto"
        );
    }

    #[test]
    fn only_the_pinned_version_of_a_tool_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("judge");
        let (script, mode) = (
            "#!/bin/sh\necho judge 1.2.3\n",
            std::fs::Permissions::from_mode(0o755),
        );
        workspace::write(&program, script).unwrap();
        std::fs::set_permissions(&program, mode).unwrap();
        let tool = |version| Tool {
            name: "judge",
            version,
            reason: "",
            as_shipped: false,
        };
        assert!(is_version(&program, &tool("1.2.3")));
        assert!(!is_version(&program, &tool("1.2.30")));
        assert!(!is_version(&folder.path().join("nobody"), &tool("1.2.3")));
    }

    /// Runs the script with an apt-get that writes down its arguments and what it saw of the policy.
    fn install_with(policy_before: Option<&str>, apt_get_status: u8) -> (bool, String, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let (policy, apt_get) = (folder.path().join("policy-rc.d"), folder.path().join("apt-get"));
        let seen = folder.path().join("seen");
        if let Some(text) = policy_before {
            workspace::write(&policy, text).unwrap();
        }
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>{seen}\ntest -x {policy} && sh {policy} || echo policy $? >>{seen}\nexit {apt_get_status}\n",
            seen = seen.display(),
            policy = policy.display(),
        );
        workspace::write(&apt_get, &script).unwrap();
        std::fs::set_permissions(&apt_get, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut path = std::ffi::OsString::from(format!("{}:", folder.path().display()));
        path.push(std::env::var_os("PATH").unwrap());
        let mut command = Command::new("sh");
        command
            .args(["-c", INSTALL_SCRIPT, "setup"])
            .arg(&policy)
            .arg("mosquitto")
            .env("PATH", path);
        let succeeded = run::succeeds(&mut command);
        (
            succeeded,
            workspace::read(&seen).unwrap(),
            workspace::read(&policy).ok(),
        )
    }

    #[test]
    fn services_are_refused_during_the_installation_only() {
        let (succeeded, seen, policy) = install_with(None, 0);
        assert!(succeeded);
        assert_eq!(
            seen,
            "update\npolicy 101\ninstall -y --no-install-recommends mosquitto\npolicy 101\n"
        );
        assert_eq!(policy, None);
    }

    #[test]
    fn a_failed_installation_fails_and_leaves_no_policy() {
        let (succeeded, _, policy) = install_with(None, 100);
        assert!(!succeeded);
        assert_eq!(policy, None);
    }

    #[test]
    fn the_machines_own_policy_stays_as_it_is() {
        let (succeeded, _, policy) = install_with(Some("exit 0\n"), 0);
        assert!(succeeded);
        assert_eq!(policy.as_deref(), Some("exit 0\n"));
    }
}
