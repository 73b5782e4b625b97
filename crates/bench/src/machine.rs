//! The machine a bench runs on: how busy it is, and the release builds that are measured.
//!
//! In: /proc/loadavg, names of packages. Out: figures of the conditions, paths of programs. Everything said here goes to
//! standard error.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xtask::{run, workspace};

use crate::error::{BenchError, content};
use crate::figure::Figure;
use crate::report::Report;

/// With more processes than this wanting the processor, numbers say more about the neighbours than about us.
const QUIET_LOAD: f64 = 1.5;
/// Between two looks at the load, which the kernel itself renews every five seconds.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Processes that wanted the processor in the last minute, on average.
fn load() -> Result<f64, BenchError> {
    let path = "/proc/loadavg";
    let text = workspace::read(Path::new(path))?;
    let fault = || format!("expected it to begin with a number, found {text:?}");
    first_number(&text).ok_or_else(|| content(path, fault()))
}

fn first_number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Waits until the machine is quiet, for `limit` at most; a busy machine is measured all the same, and said so.
pub(crate) fn wait_until_quiet(limit: Duration) -> Result<(), BenchError> {
    let deadline = Instant::now() + limit;
    while load()? >= QUIET_LOAD && Instant::now() < deadline {
        eprintln!(
            "bench: the load is {}; waiting for less than {QUIET_LOAD}",
            load()?
        );
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

/// Adds how busy the machine is, which a reader needs to judge the numbers. For before and after the measurement.
pub(crate) fn conditions(report: &mut Report, metric: &'static str) -> Result<(), BenchError> {
    report.add(Figure::new("machine", metric, load()?, "processes"));
    Ok(())
}

/// Adds what machine this is and the version of each program, as it tells it.
pub(crate) fn describe(report: &mut Report, programs: &[(&'static str, &Path)]) {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model(&cpuinfo).unwrap_or("unknown");
    report.fact("machine", format!("{model}, {cpus} processors"));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    report.fact("kernel", kernel.trim());
    for (name, program) in programs {
        let said = Command::new(program).arg("--version").output();
        let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        report.fact(name, said.unwrap_or_else(|error| error.to_string()));
    }
}

fn model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// Builds as it is shipped; `arguments` say what.
pub(crate) fn build(arguments: &[&str]) -> Result<(), BenchError> {
    let mut command = workspace::cargo(&["build", "--release", "--locked"]);
    Ok(run::run_aside(command.args(arguments))?)
}

/// What [`build`] has built under this name.
pub(crate) fn release(name: &str) -> PathBuf {
    workspace::target().join("release").join(name)
}

/// A folder for files of a measurement, gone when it is dropped.
pub(crate) fn temporary_folder() -> Result<TempDir, BenchError> {
    let parent = std::env::temp_dir();
    Ok(tempfile::tempdir().map_err(workspace::file("create a folder in", &parent))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_the_first_number() {
        assert_eq!(first_number("1.06 1.15 0.73 1/93 29808\n"), Some(1.06));
        assert_eq!(first_number(""), None);
        assert!(load().unwrap() >= 0.0);
    }

    #[test]
    fn the_model_is_behind_its_colon() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n";
        assert_eq!(model(text), Some("AMD EPYC"));
        assert_eq!(model("processor : 0\n"), None);
    }
}
