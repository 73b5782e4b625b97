//! Judges in Python whose packages are not ours.
//!
//! In: a script of tests/python and a line for each thing to be judged. Out: a line for each, in their order.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use edgewarden_lab::python::REPORT_TOOLS;

/// A Python with the judges' packages; none without PyPI, which is said.
pub(crate) fn python() -> Option<&'static PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON
        .get_or_init(|| REPORT_TOOLS.python_or_skip().unwrap())
        .as_ref()
}

/// What the script answers to each line.
pub(crate) fn judge(python: &Path, script: &str, argument: &Path, lines: &[String]) -> Vec<String> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    let mut child = Command::new(python)
        .arg(scripts.join(script))
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    // Beside the reading: both pipes are smaller than what passes them.
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{script}: {}", output.status);
    let said = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<String> = said.lines().map(str::to_owned).collect();
    assert_eq!(answers.len(), lines.len());
    answers
}
