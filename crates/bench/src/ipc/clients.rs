//! The three clients that are compared, and how each is built and started.
//!
//! In: the tree's `bench/ipc`. Out: commands that run a client. Everything is built below the target folder: a Python
//! environment, a cargo target folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::run::run_aside;
use xtask::workspace::{cargo, root, target};

use crate::error::BenchError;
use crate::machine;

/// One of the compared clients, in the order in which they are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// This project's `greengrass-ipc`.
    Ours,
    /// The official client for Python.
    Python,
    /// `greengrass-ipc-rust` of crates.io.
    Community,
}

impl Client {
    /// Every one.
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::Python, Self::Community];

    /// What it is called in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "greengrass-ipc",
            Self::Python => "awsiotsdk",
            Self::Community => "greengrass-ipc-rust",
        }
    }

    /// The command that runs it, without arguments.
    pub(crate) fn command(self) -> Command {
        match self {
            Self::Ours => Command::new(cargo_target().join("release/bench-ours")),
            Self::Community => Command::new(cargo_target().join("release/bench-community")),
            Self::Python => {
                let mut command = Command::new(python());
                command.arg(sources().join("python/client.py"));
                command
            }
        }
    }
}

fn sources() -> PathBuf {
    root().join("bench/ipc")
}

fn cargo_target() -> PathBuf {
    target().join("bench/clients")
}

fn environment() -> PathBuf {
    target().join("bench/python")
}

fn python() -> PathBuf {
    environment().join("bin/python")
}

/// Builds the lab and all clients. Quick when they are there.
pub(crate) fn build() -> Result<(), BenchError> {
    machine::build(&["--package", "edgewarden-lab"])?;
    // One after the other: built together, each would get the other's features of what they share.
    for package in ["bench-ours", "bench-community"] {
        let mut build = cargo(&["build", "--locked", "--release", "--package", package]);
        build.current_dir(sources());
        run_aside(build.env("CARGO_TARGET_DIR", cargo_target()))?;
    }
    if !python().is_file() {
        run_aside(Command::new("python3").args(["-m", "venv"]).arg(environment()))?;
    }
    install(&sources().join("python/requirements.txt"))
}

fn install(requirements: &Path) -> Result<(), BenchError> {
    let mut pip = Command::new(python());
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    Ok(run_aside(pip.arg("--requirement").arg(requirements))?)
}
