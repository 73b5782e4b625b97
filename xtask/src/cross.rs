//! Building for the processors that gateways have, whatever this machine is: the one list of them.
//!
//! In: a target, what cargo shall do. Out: a cargo command that links against no newer C library than
//! [`OLDEST_GLIBC`], and whose output depends on nothing outside the tree. What it needs is made on the way: the target's
//! standard library by rustup, the linker from PyPI into the target folder.
//! Deliberately absent: a C cross compiler; nothing that is shipped has C code.

use std::path::{Path, PathBuf};
use std::process::Command;

use edgewarden_lab::python::CROSS_LINKER;

use crate::failure::Failure;
use crate::{run, setup};

/// A processor that a gateway may have.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// What the recipe and `uname -m`'s readers among nuclei call it; the end of the program's name.
    pub architecture: &'static str,
    /// What rustc calls it.
    pub triple: &'static str,
    /// What rustc is told beside the profile.
    flags: &'static [&'static str],
}

/// Every one that a package has a program for.
pub const TARGETS: &[Target] = &[
    Target {
        architecture: "amd64",
        triple: "x86_64-unknown-linux-gnu",
        // The tables by which a panic finds its way are a fifth of a megabyte smaller where frames have pointers, as they have
        // on ARM anyway.
        flags: &["-Cforce-frame-pointers=yes"],
    },
    Target {
        architecture: "aarch64",
        triple: "aarch64-unknown-linux-gnu",
        flags: &[],
    },
    Target {
        architecture: "arm",
        triple: "armv7-unknown-linux-gnueabihf",
        flags: &[],
    },
];

/// The C library that a program asks for at most: Debian 10's, and that of most vendors' images since 2019.
pub const OLDEST_GLIBC: &str = "2.28";

impl Target {
    /// The file among the component's artifacts.
    #[must_use]
    pub fn file(&self) -> String {
        format!("edgewarden-{}", self.architecture)
    }
}

/// The one that this machine runs, if there is one.
#[must_use]
pub fn of_this_machine() -> Option<&'static Target> {
    let machine = std::env::consts::ARCH;
    TARGETS.iter().find(|target| target.triple.starts_with(machine))
}

/// Makes sure that this target can be built for: its standard library and the linker are here.
pub fn ensure(target: &Target) -> Result<(), Failure> {
    linker()?;
    let library = ["--print", "target-libdir", "--target", target.triple];
    let folder = PathBuf::from(run::output(Command::new(rustc()).args(library))?.trim());
    if folder.is_dir() {
        return Ok(());
    }
    let library = format!("Rust's standard library for {}", target.triple);
    setup::rustup(library, &["target", "add", target.triple])
}

/// `cargo zigbuild` with these arguments for this target, in a copy of the workspace or itself. [`ensure`] must have made it
/// possible.
pub fn cargo(workspace: &Path, target: &Target, arguments: &[&str]) -> Result<Command, Failure> {
    let python = linker()?;
    let programs = python.parent().unwrap_or(&python);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(programs.to_owned()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders).map_err(|_| Failure::Content {
        subject: programs.display().to_string(),
        fault: "expected a path without a colon, for it stands in PATH".to_owned(),
    })?;
    let mut command = Command::new(programs.join("cargo-zigbuild"));
    command
        .arg("zigbuild")
        .args(arguments)
        .arg("--target")
        .arg(format!("{}.{OLDEST_GLIBC}", target.triple))
        .current_dir(workspace)
        .env("PATH", path)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace, target).join("\u{1f}"));
    Ok(command)
}

/// The Python of the environment that has the linker.
fn linker() -> Result<PathBuf, Failure> {
    CROSS_LINKER.python().map_err(|source| Failure::Linker {
        source: Box::new(source),
    })
}

/// What rustc is told, first what keeps this machine's folders out of the program: panics name source files.
fn flags(workspace: &Path, target: &Target) -> Vec<String> {
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let hidden = [
        (cargo_home, "/cargo"),
        (Some(workspace.to_owned()), "/edgewarden"),
    ];
    let remapped = hidden
        .into_iter()
        .filter_map(|(folder, name)| Some(format!("--remap-path-prefix={}={name}", folder?.display())));
    remapped
        .chain(target.flags.iter().map(|flag| (*flag).to_owned()))
        .collect()
}

/// The compiler that cargo uses, unless a configuration says otherwise.
pub fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_one_that_dependencies_are_judged_for() {
        let rules = crate::workspace::read(&crate::workspace::root().join("deny.toml")).unwrap();
        for target in TARGETS {
            assert!(rules.contains(&format!("\"{}\",", target.triple)), "{target:?}");
        }
    }
}
