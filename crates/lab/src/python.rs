//! Python environments: what is checked against other people's implementations runs in them, and what links for other
//! processors comes from there.
//!
//! In: `python3` and PyPI, once. Out: a Python that has the pinned packages, cached in cargo's target folder, where
//! tests and `xtask` share it. Deliberately absent: what is done with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::site::wait_until;

/// An environment with its packages. PyPI never changes a released file; what makes the shipped program is pinned by its
/// digest nevertheless.
#[derive(Debug, Clone, Copy)]
pub struct Environment {
    /// Its folder in the target folder.
    folder: &'static str,
    /// Every package as a line of pip's requirements file, those that others need too: pip adds none by itself. Where one
    /// line has `--hash`, pip wants it of all.
    requirements: &'static [&'static str],
    /// What has to load.
    imports: &'static str,
}

/// AWS's own IPC client and the library it is made of: what the stand-in nucleus is checked against.
pub const IPC_CLIENT: Environment = Environment {
    folder: "official-client",
    requirements: &["awsiotsdk==1.31.0", "awscrt==0.36.1"],
    imports: "awsiot.greengrasscoreipc",
};

/// What Device Defender reports are checked with: a second implementation of CBOR, a validator of JSON Schema, and
/// AWS's own agent. That one's package names `cbor` (only as source, so it would need a compiler; `cbor2` has the same
/// functions) and `awsiotsdk` (to send, which nobody here does).
pub const REPORT_TOOLS: Environment = Environment {
    folder: "report-tools",
    requirements: &[
        "cbor2==6.3.0",
        "jsonschema==4.26.0",
        "jsonschema-specifications==2025.9.1",
        "referencing==0.37.0",
        "rpds-py==2026.9.1",
        "attrs==26.1.0",
        "typing-extensions==4.16.0",
        "psutil==7.2.2",
        "AWSIoTDeviceDefenderAgentSDK==2.0.0",
    ],
    imports: "cbor2, jsonschema, psutil, AWSIoTDeviceDefenderAgentSDK",
};

/// A linker and the C library's symbols of each version for every processor, and the cargo command that uses them: what
/// packages are built with. The digests are those of the wheels for x86-64 and 64-bit ARM.
pub const CROSS_LINKER: Environment = Environment {
    folder: "cross-linker",
    requirements: &[
        "ziglang==0.13.0 \
        --hash=sha256:3ce0c9f16547e5d61b32e0d226926e9a2552ef4b91fccf7ab5ea1a623a77824b \
        --hash=sha256:5714a4d46f9246ba6180a0930e23df2bc8bc26e62b5fe0dc798b4afca1903308",
        "cargo-zigbuild==0.24.1 \
        --hash=sha256:238a1ab54a95053a4eadc34775c81f795a8ad75f80bfed63f3f445f518102375 \
        --hash=sha256:07c5e3dcddf208500462ec927c556bb306cca2b533b0abe29446bffb63767b85",
    ],
    imports: "ziglang",
};

/// What Python says when that part is missing.
const NO_VENV: &str = "ensurepip";
/// What pip says, for every attempt, when it cannot reach the index.
const NO_INDEX: &str = "after connection broken by";
/// Longest a step may take: 80 MB from PyPI, over a slow line.
const STEP_LIMIT: Duration = Duration::from_secs(600);

/// Why there is no such environment.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// The index cannot be reached, so this says nothing about the stand-in.
    #[error("PyPI cannot be reached: {output}")]
    Unreachable {
        /// What pip said.
        output: String,
    },
    /// Python is there, the part of it that makes environments is not, and only root may install it.
    #[error(
        "Python cannot make environments: run `cargo xtask setup`, or install the Debian package python3-venv"
    )]
    NoVenv,
    /// A step failed.
    #[error("{command} failed: {output}")]
    Step {
        /// The command line.
        command: String,
        /// What it said.
        output: String,
    },
    /// A program could not be started.
    #[error("could not start {command}")]
    Start {
        /// The command line.
        command: String,
        #[source]
        /// Why.
        source: std::io::Error,
    },
    /// The cache could not be made, locked or read.
    #[error("could not use the cache {path}")]
    Cache {
        /// The file or folder.
        path: PathBuf,
        #[source]
        /// Why.
        source: std::io::Error,
    },
    /// The running program is not one that cargo built.
    #[error("{program} is not in a target folder of cargo")]
    NoTarget {
        /// The program.
        program: PathBuf,
    },
}

impl Environment {
    /// Path of its Python; makes the environment when there is none. Safe to call from several processes at once: all
    /// but one wait.
    ///
    /// # Errors
    /// [`PythonError::Unreachable`] without network; see [`PythonError`] for the rest.
    pub fn python(&self) -> Result<PathBuf, PythonError> {
        let folder = target_folder()?.join(self.folder);
        let log = folder.with_extension("log");
        // Held while the environment is looked at or made; the end of the process gives it up.
        let lock = folder.with_extension("lock");
        let _lock = File::create(&lock)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|source| PythonError::Cache { path: lock, source })?;
        let python = folder.join("bin/python");
        if python.is_file() && self.self_test(&python, &log).is_ok() {
            return Ok(python);
        }
        let mut venv = Command::new("python3");
        run(venv.args(["-m", "venv", "--clear"]).arg(&folder), &log).map_err(|error| match error {
            PythonError::Step { output, .. } if output.contains(NO_VENV) => PythonError::NoVenv,
            other => other,
        })?;
        let wanted = folder.join("requirements.txt");
        std::fs::write(&wanted, self.requirements.join("\n")).map_err(|source| PythonError::Cache {
            path: wanted.clone(),
            source,
        })?;
        let mut pip = Command::new(&python);
        // No source packages: they would need a C compiler and many minutes.
        pip.args(["-m", "pip", "install", "--only-binary", ":all:", "--no-deps"])
            .args(["--no-input", "--disable-pip-version-check"])
            .args(["--timeout", "15", "--retries", "1", "--requirement"])
            .arg(&wanted);
        run(&mut pip, &log).map_err(unreachable_or_other)?;
        self.self_test(&python, &log)?;
        Ok(python)
    }

    /// As [`Environment::python`] for tests: without network there is nothing to check with, which is said and is
    /// `None`. Where `CI` is set there has to be network.
    ///
    /// # Errors
    /// Everything else.
    pub fn python_or_skip(&self) -> Result<Option<PathBuf>, PythonError> {
        match self.python() {
            Err(error @ PythonError::Unreachable { .. }) if std::env::var_os("CI").is_none() => {
                println!("SKIPPED {}: {error}", self.folder);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Succeeds in an environment that has the pinned packages, and loads.
    fn self_test(&self, python: &Path, log: &Path) -> Result<(), PythonError> {
        run(Command::new(python).args(["-c", &self.script()]), log)
    }

    fn script(&self) -> String {
        let pinned = self
            .requirements
            .iter()
            .filter_map(|requirement| requirement.split(' ').next()?.split_once("=="));
        let checks = pinned.map(|(name, version)| format!("assert m.version('{name}') == '{version}'\n"));
        let imports = self.imports;
        format!(
            "import importlib.metadata as m\n{}import {imports}\n",
            checks.collect::<String>()
        )
    }
}

/// Of what pip said, the line that tells a missing network from a missing package.
fn unreachable_or_other(error: PythonError) -> PythonError {
    let reason = match &error {
        PythonError::Step { output, .. } => output.lines().find(|line| line.contains(NO_INDEX)),
        _ => None,
    };
    match reason.map(str::to_owned) {
        Some(output) => PythonError::Unreachable { output },
        None => error,
    }
}

/// Cargo marks its target folder; programs and tests are at different depths below it.
fn target_folder() -> Result<PathBuf, PythonError> {
    let program = std::env::current_exe().map_err(|source| PythonError::Cache {
        path: "/proc/self/exe".into(),
        source,
    })?;
    program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .map(Path::to_owned)
        .ok_or_else(|| PythonError::NoTarget {
            program: program.clone(),
        })
}

/// Runs a step to its end, or ends it; what it says goes to `log` and into the error.
fn run(command: &mut Command, log: &Path) -> Result<(), PythonError> {
    let line = format!("{command:?}");
    let cache = |source| PythonError::Cache {
        path: log.to_owned(),
        source,
    };
    let output = File::create(log).map_err(cache)?;
    let errors = output.try_clone().map_err(cache)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|source| PythonError::Start {
            command: line.clone(),
            source,
        })?;
    let mut status: Option<ExitStatus> = None;
    let in_time = wait_until(STEP_LIMIT, "the end of a step", || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if status.is_some_and(|status| status.success()) {
        return Ok(());
    }
    let _ = child.kill();
    let _ = child.wait();
    let mut said = String::from_utf8_lossy(&std::fs::read(log).map_err(cache)?).into_owned();
    if let Err(late) = in_time {
        said = format!("{said}\n{late}");
    }
    Err(PythonError::Step {
        command: line,
        output: said.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(output: &str) -> PythonError {
        unreachable_or_other(PythonError::Step {
            command: "pip".to_owned(),
            output: output.to_owned(),
        })
    }

    #[test]
    fn only_a_missing_network_is_an_excuse() {
        let offline =
            "Looking\nWARNING: Retrying after connection broken by 'x'\nERROR: No matching distribution";
        assert!(
            matches!(said(offline), PythonError::Unreachable { output } if output.starts_with("WARNING"))
        );
        let withdrawn = "ERROR: No matching distribution found";
        assert!(matches!(said(withdrawn), PythonError::Step { .. }));
    }

    #[test]
    fn every_package_is_pinned_and_looked_for() {
        for environment in [IPC_CLIENT, REPORT_TOOLS] {
            let script = environment.script();
            for requirement in environment.requirements {
                let (name, version) = requirement.split_once("==").unwrap();
                assert!(script.contains(&format!("m.version('{name}') == '{version}'")));
            }
        }
    }

    #[test]
    fn a_step_that_fails_says_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let error = run(Command::new("sh").args(["-c", "echo broken >&2; exit 3"]), &log).unwrap_err();
        assert!(matches!(error, PythonError::Step { output, .. } if output == "broken"));
    }
}
