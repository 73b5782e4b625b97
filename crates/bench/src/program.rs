//! A program under measurement that stops at two points, so that it can be looked at while it does nothing.
//!
//! In: a command. The program writes JSON lines with an `event`; after some of them it waits for a line on its
//! standard input. Out: those events, and its [`Usage`] whenever it is asked for.
//!
//! ```text
//! program: {"event": "ready"}                  warmed up, waits        bench: looks, says go
//! program: {"event": "done", "calls": ...}     finished, waits         bench: looks, closes the input
//! ```
//!
//! A program that serves until it is stopped (an agent, a server) needs none of this: start it with the lab's
//! `Running` and ask [`Usage::of`] its pid.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use xtask::workspace;

use crate::error::{self, BenchError};
use crate::usage::Usage;

/// Longest line taken from a program, in bytes: an event is a few hundred.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// Events that wait to be looked at; a chattering program is held up by its pipe.
const MAX_EVENTS: usize = 64;

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    log: PathBuf,
    child: Child,
    input: Option<ChildStdin>,
    events: Receiver<Value>,
}

impl Program {
    /// Starts it; `name` is for messages, standard error goes to `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: PathBuf) -> Result<Self, BenchError> {
        let file = File::create(&log).map_err(workspace::file("create", &log))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().map_err(error::start(program))?;
        let (sender, events) = sync_channel(MAX_EVENTS);
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || read_events(output, &sender));
        }
        Ok(Self {
            name: name.to_owned(),
            log,
            input: child.stdin.take(),
            child,
            events,
        })
    }

    /// Waits for the event of this name; others before it are passed over.
    pub(crate) fn expect(&mut self, event: &'static str, limit: Duration) -> Result<Value, BenchError> {
        let deadline = Instant::now() + limit;
        let mut said = "nothing".to_owned();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(value) if value["event"] == event => return Ok(value),
                Ok(value) => said = value.to_string(),
                Err(_) => {
                    return Err(BenchError::Silent {
                        program: self.name.clone(),
                        event,
                        limit,
                        said,
                        log: self.log.clone(),
                    });
                }
            }
        }
    }

    /// Lets it go on.
    pub(crate) fn go(&mut self) -> Result<(), BenchError> {
        let Some(input) = &mut self.input else {
            return Ok(());
        };
        input
            .write_all(b"go\n")
            .and_then(|()| input.flush())
            .map_err(|source| BenchError::Talk {
                program: self.name.clone(),
                source,
            })
    }

    /// What it has cost so far.
    pub(crate) fn usage(&self) -> Result<Usage, BenchError> {
        Usage::of(self.child.id())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_events(output: ChildStdout, events: &SyncSender<Value>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Ok(event @ Value::Object(_)) = serde_json::from_slice(&line)
            && events.send(event).is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> (tempfile::TempDir, Program) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let program = Program::start("sh", Command::new("sh").args(["-c", script]), log).unwrap();
        (folder, program)
    }

    #[test]
    fn a_program_waits_at_its_two_points() {
        let script = r#"echo noise; echo '{"event":"ready"}'; read go; echo "{\"event\":\"done\",\"said\":\"$go\"}"; read end"#;
        let (_folder, mut program) = shell(script);
        program.expect("ready", LIMIT).unwrap();
        let before = program.usage().unwrap();
        program.go().unwrap();
        assert_eq!(program.expect("done", LIMIT).unwrap()["said"], "go");
        assert!(program.usage().unwrap().cpu >= before.cpu);
    }

    #[test]
    fn a_program_that_ends_early_is_quoted() {
        let (_folder, mut program) = shell(r#"echo '{"event":"fault"}'"#);
        let error = program.expect("ready", LIMIT).unwrap_err().to_string();
        assert!(error.contains(r#"it said: {"event":"fault"}"#), "{error}");
    }
}
