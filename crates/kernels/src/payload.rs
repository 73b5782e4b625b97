//! What a guest is given by us: the agent, the lab and the tests, built for it, where each looks for the others.
//!
//! In: a kernel, the checks. Out: an archive that is unpacked over the kernel's root. Tests find the program and
//! the tree by the paths that they were compiled with, so these stand in the guest too.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::cross::{self, Target};
use xtask::failure::Failure;
use xtask::{run, workspace};

use crate::checks::{Check, PROGRAMS};
use crate::list::Kernel;
use crate::root;

/// The guest's first process.
const INIT: &str = include_str!("init.sh");
/// Whom the tests need to exist.
const USERS: &str = "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
    mosquitto:x:108:108::/var/lib/mosquitto:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUPS: &str = "root:x:0:\ndaemon:x:1:\nadm:x:4:\ntty:x:5:\nmosquitto:x:108:\nnogroup:x:65534:\n";
/// Parts of the tree that tests read.
const TREE: [&str; 7] = [
    "Cargo.lock",
    "Cargo.toml",
    "recipe.yaml",
    "recipes",
    "schemas",
    "docs",
    "tests",
];
/// How many tests run at once where the host's processor runs them. Most of a test is waiting.
const AT_ONCE: u32 = 3;
/// And where it is emulated: the command line waits two seconds for what it reads, whatever the machine.
const AT_ONCE_EMULATED: u32 = 2;

/// Test programs by name, and what else was built.
#[derive(Debug)]
pub(crate) struct Built {
    programs: BTreeMap<String, PathBuf>,
}

/// Builds everything for this target; quick when nothing has changed.
pub(crate) fn build(target: &'static Target) -> Result<Built, Failure> {
    cross::ensure(target)?;
    let mut arguments = vec!["--locked", "--message-format", "json-render-diagnostics"];
    for package in ["edgewarden", "edgewarden-lab", "nf-tables", "packet-ring"] {
        arguments.extend(["--package", package]);
    }
    for program in ["edgewarden", "edgewarden-lab"] {
        arguments.extend(["--bin", program]);
    }
    for test in PROGRAMS {
        arguments.extend(["--test", test]);
    }
    let mut command = cross::cargo(&workspace::root(), target, &arguments)?;
    // What is carried into the guest is kept small, and is not too slow for an emulated processor. Elsewhere than other
    // builds, which have other settings.
    command
        .env("CARGO_TARGET_DIR", workspace::target().join("kernels/build"))
        .env("CARGO_PROFILE_DEV_STRIP", "symbols")
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    eprintln!("$ {}", run::line(&command));
    let programs = programs_in(&run::output(&mut command)?);
    let wanted = PROGRAMS.iter().copied().chain(["edgewarden", "edgewarden-lab"]);
    for name in wanted {
        if !programs.contains_key(name) {
            return Err(Failure::Content {
                subject: format!("the output of cargo for {}", target.triple),
                fault: format!("expected a message about the program `{name}`"),
            });
        }
    }
    Ok(Built { programs })
}

/// The programs that cargo's messages tell of.
fn programs_in(messages: &str) -> BTreeMap<String, PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| {
            let path = message["executable"].as_str()?;
            let name = message["target"]["name"].as_str()?;
            Some((name.to_owned(), PathBuf::from(path)))
        })
        .collect()
}

/// Packs the payload of one guest.
pub(crate) fn pack(
    kernel: &Kernel,
    built: &Built,
    checks: &[(usize, &Check)],
    factor: u32,
) -> Result<PathBuf, Failure> {
    let folder = root::folder(kernel).join("payload");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(workspace::file("clear", &folder))?;
    }
    for path in built.programs.values() {
        place(path, &folder)?;
    }
    let tree = workspace::root();
    for part in TREE {
        place_all(&tree.join(part), &folder)?;
    }
    let lines = checks
        .iter()
        .map(|(number, check)| line(*number, check, built, factor));
    for (path, text, mode) in [
        ("init", INIT.to_owned(), 0o755),
        ("checks", lines.collect(), 0o644),
        ("environment", environment(factor), 0o644),
        ("etc/passwd", USERS.to_owned(), 0o644),
        ("etc/group", GROUPS.to_owned(), 0o644),
        (
            "etc/hosts",
            "127.0.0.1 localhost\n::1 localhost\n".to_owned(),
            0o644,
        ),
        ("etc/resolv.conf", String::new(), 0o644),
        (
            "etc/machine-id",
            "0123456789abcdef0123456789abcdef\n".to_owned(),
            0o444,
        ),
    ] {
        let path = folder.join(path);
        workspace::write(&path, &text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .map_err(workspace::file("set the mode of", &path))?;
    }
    let archive = root::folder(kernel).join("payload.cpio");
    root::pack(&folder, &archive)?;
    fs::remove_dir_all(&folder).map_err(workspace::file("clear", &folder))?;
    Ok(archive)
}

/// As the guest's first process reads it.
fn line(number: usize, check: &Check, built: &Built, factor: u32) -> String {
    let program = built
        .programs
        .get(check.program)
        .map(|path| path.display().to_string());
    let at_once = if factor == 1 { AT_ONCE } else { AT_ONCE_EMULATED };
    format!(
        "{number}|{}|{at_once}|{}|{}\n",
        check.seconds() * u64::from(factor),
        program.unwrap_or_default(),
        check.tests.join(" ")
    )
}

fn environment(factor: u32) -> String {
    // Without privilege nothing may be skipped there.
    format!(
        "export CI=1 RUST_BACKTRACE=0 {}={factor}\n",
        edgewarden_lab::site::TIME_FACTOR
    )
}

/// Copies a file to its own path below the folder.
fn place(path: &Path, folder: &Path) -> Result<(), Failure> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let target = folder.join(below);
    if let Some(parent) = target.parent() {
        workspace::make_folder(parent)?;
    }
    fs::copy(path, &target).map_err(workspace::file("copy", path))?;
    Ok(())
}

fn place_all(path: &Path, folder: &Path) -> Result<(), Failure> {
    if path.is_file() {
        return place(path, folder);
    }
    let entries = fs::read_dir(path).map_err(workspace::file("list", path))?;
    for entry in entries {
        let entry = entry.map_err(workspace::file("list", path))?;
        place_all(&entry.path(), folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_messages_of_cargo() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"black_box"},"executable":"/t/black_box-1"}"#,
            "\nnonsense\n",
            r#"{"reason":"compiler-artifact","target":{"name":"libc"},"executable":null}"#
        );
        let programs = programs_in(messages);
        assert_eq!(programs.len(), 1);
        assert_eq!(programs["black_box"], PathBuf::from("/t/black_box-1"));
    }
}
