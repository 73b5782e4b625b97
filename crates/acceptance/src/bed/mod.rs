//! What a scenario acts on: the agent on a nucleus, with the cloud behind a way that can be changed.
//!
//! In: [`StandIn`] or [`Real`]. Out: the same verbs for both, so that one scenario shows what each does.

mod real;
mod services;
mod stand_in;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edgewarden_lab::front::Front;
use edgewarden_lab::site::{Ns, Site, lab_program};
use serde_json::{Value, json};

pub(crate) use real::{Real, Setup};
pub(crate) use stand_in::StandIn;

use crate::error::{Trouble, io};
use crate::prober::Prober;
use crate::processes;

/// The component.
pub(crate) const COMPONENT: &str = xtask::workspace::COMPONENT;
/// How long something that must come before a scenario can begin may take, on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Which nucleus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    StandIn,
    Real,
}

/// The program among artifacts as `cargo xtask package` lays them out.
pub(crate) fn packaged_program(artifacts: &Path) -> Result<PathBuf, Trouble> {
    let folder = artifacts.join(COMPONENT).join(xtask::workspace::version()?);
    let entries = std::fs::read_dir(&folder).map_err(io(format!("list {}", folder.display())))?;
    let mut programs = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("edgewarden-") && !name.ends_with(".part")
        });
    programs.next().ok_or_else(|| {
        io(format!("find a program in {}", folder.display()))(std::io::ErrorKind::NotFound.into())
    })
}

/// The agent on a nucleus.
pub(crate) trait Bed {
    fn kind(&self) -> Kind;
    fn site(&self) -> &Site;
    fn prober(&self) -> &Prober;
    /// The relay that delays, swallows and cuts.
    fn way(&self) -> &Front;
    /// The relay that reads what the nucleus says: sessions, denied topics.
    fn policy(&self) -> &Front;
    /// Where the cloud's own programs find the broker.
    fn broker_port(&self) -> u16;
    fn thing(&self) -> &'static str;
    /// The program of the command line.
    fn artifact(&self) -> PathBuf;
    /// The nucleus' own process.
    fn nucleus(&mut self) -> Option<i32>;
    /// Sees to it that a nucleus that has ended is started again, as systemd does.
    fn keep_nucleus(&mut self) -> Result<(), Trouble>;
    /// Whether its interface takes connections.
    fn interface_is_up(&self) -> bool;
    /// Merges into the component's configuration by a deployment, and waits for its end.
    fn configure(&mut self, merge: &Value) -> Result<(), Trouble>;
    /// Stops the component in order and starts it again; deaths before that no longer count.
    fn restart_component(&mut self) -> Result<(), Trouble>;
    /// The broker ends without a word.
    fn kill_broker(&mut self) -> Result<(), Trouble>;
    /// It comes back; without its memory when `forget`.
    fn start_broker(&mut self, forget: bool) -> Result<(), Trouble>;
    /// Everything from the beginning: free, deployed, connected, without delay.
    fn fresh(&mut self) -> Result<(), Trouble>;
    /// How often the nucleus had to kill a process of ours, as its log says.
    fn kills(&self) -> usize;
    /// Counts of the cloud's events of one kind.
    fn cloud_events(&self, event: &str) -> Vec<Value>;

    /// Publishes as a cloud application would.
    fn publish(&self, topic: &str, payload: &str) -> Result<(), Trouble> {
        let broker = format!("127.0.0.1:{}", self.broker_port());
        let arguments = [
            "mqtt",
            "--broker",
            &broker,
            "publish",
            "--topic",
            topic,
            "--payload",
            payload,
        ];
        let program = lab_program()?;
        let output = self
            .site()
            .run_in(Ns::Internet, || Command::new(&program).args(arguments).output())?
            .map_err(io("start the lab's console"))?;
        if output.status.success() {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(io(format!("publish to {topic}"))(std::io::Error::other(errors)))
    }

    /// Writes `desired` of the classic shadow.
    fn desire(&self, desired: &Value) -> Result<(), Trouble> {
        let document = json!({"state": {"desired": desired}}).to_string();
        self.publish(&format!("$aws/things/{}/shadow/update", self.thing()), &document)
    }

    /// Runs the agent's command line in the gateway: exit code, output, errors.
    fn edgewarden(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String), Trouble> {
        let program = self.artifact();
        let output = self
            .site()
            .run_in(Ns::Gateway, || Command::new(&program).args(arguments).output())?
            .map_err(io(format!("start {}", program.display())))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    /// `edgewarden status --json`; null while nobody answers.
    fn status(&self) -> Value {
        self.edgewarden(&["status", "--json"])
            .ok()
            .and_then(|(_, output, _)| serde_json::from_str(&output).ok())
            .unwrap_or_default()
    }

    /// Whether the agent says that its channel works.
    fn channel_works(&self) -> bool {
        self.status()["cloud"]["channelWorks"] == true
    }

    /// How many MQTT sessions of the nucleus the broker took so far.
    fn sessions(&self) -> usize {
        let mut sessions = self.policy().told("session");
        sessions.retain(|line| line["accepted"] == true);
        sessions.len()
    }

    /// The agent that runs, if exactly one does.
    fn agent(&self) -> Option<i32> {
        match processes::agents()[..] {
            [pid] => Some(pid),
            _ => None,
        }
    }
}
