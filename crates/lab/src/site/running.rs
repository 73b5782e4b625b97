//! A program running in a namespace: its pid, its signals, its JSON lines.
//!
//! In: a [`SpawnSpec`]. Out: a [`Running`] that kills the program when it is dropped. The pid is the program's own:
//! it is started directly by a thread that lives in the namespace, without a shell or wrapper in between.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::namespace::Handle;
use super::{SiteError, wait_until};

/// Longest line kept of a program's output: above every event the lab prints (a whole report is 128 KB at most).
const MAX_LINE_BYTES: u64 = 512 * 1024;
/// Events kept per program; a runaway program must not fill the memory of the test.
const MAX_EVENTS: usize = 100_000;
/// How long a program may take to open its port.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// Lines of the log shown when something was waited for in vain.
const SHOWN_LINES: usize = 15;

/// How a program is started.
#[derive(Clone, Debug)]
pub struct SpawnSpec {
    /// Path of the program, or its name if it is on the PATH.
    pub program: PathBuf,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Added to the environment of the test.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; the test's own when none.
    pub directory: Option<PathBuf>,
    /// Standard output and error are appended here.
    pub log: PathBuf,
    /// TCP port on the namespace's loopback that must accept before the program counts as started.
    pub ready_port: Option<u16>,
}

impl SpawnSpec {
    /// `program` without arguments, writing to `log`.
    pub fn new(program: impl AsRef<Path>, log: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
            log: log.as_ref().to_owned(),
            ready_port: None,
        }
    }
}

/// A program in a namespace; killed when dropped.
#[derive(Debug)]
pub struct Running {
    namespace: Option<Handle>,
    spec: SpawnSpec,
    child: Child,
    events: Arc<Mutex<Vec<Value>>>,
    next_event: usize,
}

impl Running {
    /// Starts a program in the caller's own namespaces: for what needs no network of its own.
    ///
    /// # Errors
    /// As [`super::Site::spawn`].
    pub fn start_here(spec: SpawnSpec) -> Result<Self, SiteError> {
        Self::start(None, spec)
    }

    pub(super) fn start(namespace: Option<Handle>, spec: SpawnSpec) -> Result<Self, SiteError> {
        let events = Arc::default();
        let child = launch(namespace.as_ref(), &spec, &events)?;
        let mut running = Self {
            namespace,
            spec,
            child,
            events,
            next_event: 0,
        };
        running.wait_ready()?;
        Ok(running)
    }

    /// The program's own process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.spec.log
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the program cannot be waited for.
    pub fn kill9(&mut self) -> Result<ExitStatus, SiteError> {
        let program = self.name();
        let failed = |source| SiteError::Signal {
            program: program.clone(),
            source,
        };
        self.child.kill().map_err(failed)?;
        self.child.wait().map_err(failed)
    }

    /// SIGTERM; does not wait.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn terminate(&mut self) -> Result<(), SiteError> {
        self.signal(Signal::SIGTERM)
    }

    /// Any signal; does not wait. A program that has ended already gets none.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, signal: Signal) -> Result<(), SiteError> {
        if !self.is_running() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, signal).map_err(|errno| SiteError::Signal {
            program: self.name(),
            source: errno.into(),
        })
    }

    /// Waits for the end of the program.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus, SiteError> {
        let mut status = None;
        let _ = wait_until(limit, "exit", || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        status.ok_or_else(|| self.timed_out(limit, "its exit"))
    }

    /// Starts the same program again; kills it first if it still runs. Events seen so far stay readable.
    ///
    /// # Errors
    /// As for the first start.
    pub fn restart(&mut self) -> Result<(), SiteError> {
        if self.is_running() {
            self.kill9()?;
        }
        self.child = launch(self.namespace.as_ref(), &self.spec, &self.events)?;
        self.wait_ready()
    }

    /// Waits for the first JSON line, after the one the last call returned, that `wanted` accepts.
    ///
    /// Lines passed over are not looked at again: a wait never finds what is older than the last one found.
    ///
    /// # Errors
    /// When none came within `limit`, or the program ended without one.
    pub fn wait_event(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<Value, SiteError> {
        let mut found = None;
        let mut ended = None;
        let _ = wait_until(limit, "event", || {
            // Looked at before the events: what a program printed before its end must not be missed.
            let status = self.child.try_wait().ok().flatten();
            found = self.take_event(&mut wanted);
            if found.is_none() && status.is_some() && Arc::strong_count(&self.events) == 1 {
                ended = status;
            }
            found.is_some() || ended.is_some()
        });
        match (found, ended) {
            (Some(event), _) => Ok(event),
            (None, Some(status)) => Err(SiteError::Ended {
                program: self.name(),
                status: status.to_string(),
                what: "the event waited for".to_owned(),
                seen: self.last_lines(),
            }),
            (None, None) => Err(self.timed_out(limit, "an event")),
        }
    }

    /// Waits for a JSON line among all so far and to come, whatever [`Running::wait_event`] has passed over.
    ///
    /// # Errors
    /// When none came within `limit`.
    pub fn find_event(&self, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Result<Value, SiteError> {
        let mut found = None;
        let _ = wait_until(limit, "event", || {
            found = self.events().into_iter().find(|event| wanted(event));
            found.is_some()
        });
        found.ok_or_else(|| self.timed_out(limit, "an event"))
    }

    /// Every JSON line so far, returned before or not.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take_event(&mut self, wanted: &mut impl FnMut(&Value) -> bool) -> Option<Value> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = events.iter().skip(self.next_event).position(wanted)?;
        let index = self.next_event + offset;
        self.next_event = index + 1;
        events.get(index).cloned()
    }

    fn wait_ready(&mut self) -> Result<(), SiteError> {
        let Some(port) = self.spec.ready_port else {
            return Ok(());
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let namespace = self.namespace.clone();
        let mut alive = true;
        let ready = wait_until(READY_LIMIT, "port", || {
            alive = self.is_running();
            !alive || run_in(namespace.as_ref(), move || TcpStream::connect(address).is_ok()).unwrap_or(false)
        });
        if alive && ready.is_ok() {
            return Ok(());
        }
        Err(self.timed_out(READY_LIMIT, &format!("its port {port}")))
    }

    fn name(&self) -> String {
        self.spec
            .program
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    fn timed_out(&self, limit: Duration, what: &str) -> SiteError {
        let seconds = limit.as_secs_f64();
        SiteError::Timeout {
            program: self.name(),
            seconds,
            what: what.to_owned(),
            seen: self.last_lines(),
        }
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read(&self.spec.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let from = lines.len().saturating_sub(SHOWN_LINES);
        format!(
            "last lines of {}:\n{}",
            self.spec.log.display(),
            lines[from..].join("\n")
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run_in<T: Send + 'static>(
    namespace: Option<&Handle>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SiteError> {
    match namespace {
        Some(namespace) => namespace.run(work),
        None => Ok(work()),
    }
}

fn launch(
    namespace: Option<&Handle>,
    spec: &SpawnSpec,
    events: &Arc<Mutex<Vec<Value>>>,
) -> Result<Child, SiteError> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&spec.log)
        .map_err(|source| SiteError::File {
            path: spec.log.clone(),
            source,
        })?;
    let errors = log.try_clone().map_err(|source| SiteError::File {
        path: spec.log.clone(),
        source,
    })?;
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
    if let Some(directory) = &spec.directory {
        command.current_dir(directory);
    }
    let mut child = run_in(namespace, move || command.spawn())?.map_err(|source| SiteError::Start {
        program: spec.program.clone(),
        source,
    })?;
    if let Some(output) = child.stdout.take() {
        let events = Arc::clone(events);
        std::thread::spawn(move || read_output(output, log, &events));
    }
    Ok(child)
}

/// Copies the output to the log and keeps the lines that are JSON objects.
fn read_output(output: ChildStdout, mut log: File, events: &Mutex<Vec<Value>>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match output.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let _ = log.write_all(&line);
        if let Ok(event @ Value::Object(_)) = serde_json::from_slice(&line) {
            let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
            if events.len() < MAX_EVENTS {
                events.push(event);
            }
        }
    }
}
