//! Who is measured, and how each says what it cost.
//!
//! In: the table in the kernel. Out: a [`Cost`]; a subject that did not see the whole table is an error.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use edgewarden_lab::python::REPORT_TOOLS;
use serde_json::Value;

use crate::error::{self, BenchError, content};
use crate::machine;
use crate::program::Program;
use xtask::workspace;

/// AWS's agent needs 93 s of a free processor for 50,000 connections.
const PYTHON_LIMIT: Duration = Duration::from_secs(900);

/// What one report cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) cpu_ms: f64,
    pub(crate) peak_mb: f64,
    pub(crate) bytes: Option<f64>,
}

/// Where the programs are.
pub(crate) struct Subjects {
    examples: PathBuf,
    python: Option<PathBuf>,
}

impl Subjects {
    pub(crate) fn new(with_python: bool) -> Result<Self, BenchError> {
        let python = with_python.then(|| REPORT_TOOLS.python()).transpose();
        Ok(Self {
            examples: machine::release("examples"),
            python: python.map_err(|error| content("AWS's agent", edgewarden_lab::error_text(&error)))?,
        })
    }

    /// The kernel's answers, counted.
    pub(crate) fn dump(&self, size: u32) -> Result<Cost, BenchError> {
        measured(&mut Command::new(self.examples.join("sock_diag_floor")), size)
    }

    /// Our report of at most `limit` bytes.
    pub(crate) fn edgewarden(&self, size: u32, limit: usize) -> Result<Cost, BenchError> {
        let mut command = Command::new(self.examples.join("report_once"));
        measured(command.arg(limit.to_string()), size)
    }

    /// AWS's report; `None` if it is not wanted.
    pub(crate) fn aws_python(&self, size: u32) -> Result<Option<Cost>, BenchError> {
        let Some(python) = &self.python else {
            return Ok(None);
        };
        let mut command = Command::new(python);
        command.arg(workspace::root().join("tests/python/aws_agent.py"));
        let log = workspace::target().join("report-bench-python.log");
        let mut program = Program::start("aws_agent.py", &mut command, log)?;
        program.expect("ready", PYTHON_LIMIT)?;
        let before = program.usage()?;
        program.go()?;
        let event = program.expect("done", PYTHON_LIMIT)?;
        let after = program.usage()?;
        let established = &event["report"]["metrics"]["tcp_connections"]["established_connections"];
        saw("aws_agent.py", &established["total"], size)?;
        Ok(Some(Cost {
            cpu_ms: after.cpu_since(&before).as_secs_f64() * 1e3,
            peak_mb: mebibytes(after.peak_rss as f64),
            bytes: event["bytes"].as_f64(),
        }))
    }
}

/// Runs a program that ends with a line about itself.
fn measured(command: &mut Command, size: u32) -> Result<Cost, BenchError> {
    let name = Path::new(command.get_program()).display().to_string();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(error::start(&name))?;
    let line: Value = serde_json::from_slice(&output.stdout).map_err(|error| {
        let fault = format!(
            "ended with {} and a line that is not JSON: {error}",
            output.status
        );
        content(&name, fault)
    })?;
    saw(&name, &line["sockets"], size)?;
    Ok(Cost {
        cpu_ms: line["cpu_us"].as_f64().unwrap_or_default() / 1e3,
        peak_mb: mebibytes(line["peak_rss_kb"].as_f64().unwrap_or_default() * 1024.0),
        bytes: line["bytes"].as_f64(),
    })
}

fn mebibytes(bytes: f64) -> f64 {
    bytes / (1024.0 * 1024.0)
}

/// There are a few sockets more, those that listen; never fewer.
fn saw(name: &str, sockets: &Value, size: u32) -> Result<(), BenchError> {
    if sockets.as_u64() >= Some(size.into()) {
        return Ok(());
    }
    let fault = format!("expected at least {size} sockets, it saw {sockets}");
    Err(content(name, fault))
}
