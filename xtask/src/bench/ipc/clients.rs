//! The three clients that are compared, and how each is built and started.
//!
//! In: the tree's `bench/ipc`. Out: commands that run a client. Everything is built below the target folder: a Python
//! environment, a cargo target folder of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::error::BenchError;
use crate::bench::machine::{prepare, target};
use crate::workspace::{cargo, root};

/// One of the compared clients, in the order in which they are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// This project's `greengrass-ipc`.
    Ours,
    /// The official client for Python.
    Python,
    /// `greengrass-ipc-rust` of crates.io.
    Community,
}

impl Client {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Ours, Self::Python, Self::Community];

    /// What it is called in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "greengrass-ipc",
            Self::Python => "awsiotsdk",
            Self::Community => "greengrass-ipc-rust",
        }
    }

    /// The command that runs it, without arguments.
    pub fn command(self) -> Command {
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

/// The lab's program, as [`build`] makes it.
pub fn lab_program() -> PathBuf {
    target().join("release/edgewarden-lab")
}

/// Builds the lab and all clients. Quick when they are there.
///
/// # Errors
/// When a build fails, or a package cannot be had.
pub fn build() -> Result<(), BenchError> {
    prepare(&mut cargo(&[
        "build",
        "--locked",
        "--release",
        "--package",
        "edgewarden-lab",
    ]))?;
    // One after the other: built together, each would get the other's features of what they share.
    for package in ["bench-ours", "bench-community"] {
        let mut build = cargo(&["build", "--locked", "--release", "--package", package]);
        prepare(
            build
                .current_dir(sources())
                .env("CARGO_TARGET_DIR", cargo_target()),
        )?;
    }
    if !python().is_file() {
        prepare(Command::new("python3").args(["-m", "venv"]).arg(environment()))?;
    }
    install(&sources().join("python/requirements.txt"))
}

fn install(requirements: &Path) -> Result<(), BenchError> {
    let mut pip = Command::new(python());
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    prepare(pip.arg("--requirement").arg(requirements))
}
