//! AWS's agent as a process that is asked for one report after another.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A running agent; ends when dropped.
pub(super) struct AwsAgent {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl AwsAgent {
    pub(super) fn start(python: &Path, arguments: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/aws_agent.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut agent = Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        };
        assert_eq!(agent.event()["event"], "ready");
        agent
    }

    /// A report, or what went wrong inside the agent.
    pub(super) fn report(&mut self) -> Result<Value, String> {
        self.input.write_all(b"go\n").unwrap();
        let mut event = self.event();
        match event["fault"].as_str() {
            Some(fault) => Err(fault.to_owned()),
            None => Ok(event["report"].take()),
        }
    }

    fn event(&mut self) -> Value {
        serde_json::from_str(&self.output.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for AwsAgent {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
