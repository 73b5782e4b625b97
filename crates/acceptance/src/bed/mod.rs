//! What a scenario acts on: the agent on a nucleus, with the cloud behind a way that can be changed.
//!
//! In: [`StandIn`], [`Real`] or [`Lite`]. Out: the same verbs for all, so that one scenario shows what each does.

mod lite;
mod machine;
mod real;
mod services;
mod stand_in;
mod versions;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use edgewarden_lab::front::Front;
use edgewarden_lab::site::{Ns, Running, Site, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use xtask::workspace;

pub(crate) use lite::{Lite, unit as lite_unit};
pub(crate) use machine::missing_of_lite;
pub(crate) use real::Real;
pub(crate) use services::PROXY_PORT;
pub(crate) use stand_in::StandIn;
pub(crate) use versions::{FAILING, write_failing};

use crate::error::{Trouble, io};
use crate::mqtt;
use crate::prober::Prober;
use crate::processes;

/// The component.
pub(crate) const COMPONENT: &str = workspace::COMPONENT;
/// How long something that must come before a scenario can begin may take, on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Which nucleus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    StandIn,
    /// The classic one.
    Real,
    Lite,
}

/// What the nucleus is made of.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Where it is: with `nucleus/lib/Greengrass.jar` and `CliServer.jar`, or a tree as lite's `cmake --install` writes it.
    pub(crate) nucleus_folder: PathBuf,
    /// What `cargo xtask package` laid out.
    pub(crate) artifacts: PathBuf,
    /// Where everything of the run goes.
    pub(crate) folder: PathBuf,
    /// Default user of components, USER:GROUP.
    pub(crate) user: String,
    /// Merged into the nucleus' own configuration.
    pub(crate) nucleus: Value,
    /// Whether the agent is deployed at the beginning.
    pub(crate) deployed: bool,
    /// Whether a proxy runs.
    pub(crate) proxy: bool,
}

/// The program among artifacts as `cargo xtask package` lays them out.
fn packaged_program(artifacts: &Path) -> Result<PathBuf, Trouble> {
    let folder = artifacts.join(COMPONENT).join(workspace::version()?);
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

/// How often the cloud's services have connected to the broker.
fn connected(cloud: &Running) -> usize {
    let is = |event: &Value| event["event"] == "connected";
    cloud.events().iter().filter(|event| is(event)).count()
}

/// Waits until they have once more: what is published before that, no shadow service hears.
fn wait_for_cloud(cloud: &Running, before: usize) -> Result<(), Trouble> {
    let back = wait_until(PATIENCE, "the cloud's services", || connected(cloud) > before);
    back.map_err(|_| Trouble::Late {
        what: "the cloud's services".to_owned(),
        seconds: PATIENCE.as_secs(),
    })
}

/// Puts the keys of `more` into `document`, objects within objects too.
pub(crate) fn merge(document: &mut Value, more: &Value) {
    match (document, more) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (place, value) => place.clone_from(value),
    }
}

/// Removes a folder, if it is there.
fn clear(folder: &Path) -> Result<(), Trouble> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(workspace::file("clear", folder))?;
    }
    Ok(())
}

/// Ends everything of the gateway at once, as a power cut does.
fn end_processes() -> Result<(), Trouble> {
    let what = "the end of the gateway's processes";
    let ended = wait_until(PATIENCE, what, || {
        let left = processes::of_gateway();
        for process in &left {
            let _ = processes::signal(process.pid, Signal::SIGKILL);
        }
        left.is_empty()
    });
    ended.map_err(|_| Trouble::Late {
        what: what.to_owned(),
        seconds: PATIENCE.as_secs(),
    })
}

/// Takes every rule out of the gateway's kernel.
fn clear_rules(site: &Site) -> Result<(), Trouble> {
    site.run_in(Ns::Gateway, || {
        Command::new("/usr/sbin/nft").args(["flush", "ruleset"]).status()
    })?
    .map(drop)
    .map_err(io("clear the gateway's rules"))
}

/// Exit code, output, errors.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What a nucleus is not asked here.
fn not_asked(what: &str) -> Trouble {
    Trouble::Nucleus {
        operation: format!("what another one is asked: {what}"),
        answer: "it is not asked here".to_owned(),
    }
}

/// The agent on a nucleus.
pub(crate) trait Bed {
    fn kind(&self) -> Kind;
    /// The classic one, for what the others are not asked.
    fn real(&mut self) -> Option<&mut Real> {
        None
    }
    /// Lite, for what the others are not asked.
    fn lite(&mut self) -> Option<&mut Lite> {
        None
    }
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
    /// It dies, and nobody starts another one.
    fn lose_nucleus(&mut self) -> Result<(), Trouble> {
        Err(not_asked("to go for ever"))
    }
    /// Where it keeps artifacts, a folder for each component.
    fn store(&self) -> PathBuf {
        PathBuf::new()
    }
    /// Deploys this program as another version and waits for the end, which `fails` makes a rollback.
    fn deploy_version(&mut self, _version: &str, _fails: bool) -> Result<(), Trouble> {
        Err(not_asked("for another version"))
    }
    /// Whether its interface takes connections.
    fn interface_is_up(&self) -> bool;
    /// Merges into the component's configuration by a deployment, and waits for its end.
    fn configure(&mut self, merge: &Value) -> Result<(), Trouble>;
    /// Deploys what `cargo xtask package` built; gives the nucleus' word on it, SUCCEEDED or FAILED.
    fn deploy_agent(&mut self) -> Result<String, Trouble> {
        Err(Trouble::Nucleus {
            operation: "a deployment of the package".to_owned(),
            answer: "the stand-in begins with the agent".to_owned(),
        })
    }
    /// Stops the component in order and starts it again; deaths before that no longer count.
    fn restart_component(&mut self) -> Result<(), Trouble>;
    /// The broker ends without a word.
    fn kill_broker(&mut self) -> Result<(), Trouble>;
    /// It comes back, without its memory when `forget`, and with the cloud's own services.
    fn start_broker(&mut self, forget: bool) -> Result<(), Trouble>;
    /// Everything from the beginning: free, deployed, connected, without delay.
    fn fresh(&mut self) -> Result<(), Trouble>;
    /// What the component has written.
    fn component_log(&self) -> String;
    /// How often the nucleus had to kill a process of ours, as its log says.
    fn kills(&self) -> usize;

    /// Publishes as a cloud application would; gives the moment at which the message set out.
    fn publish(&self, topic: &str, payload: &str) -> Result<SystemTime, Trouble> {
        let port = self.broker_port();
        self.site()
            .run_in(Ns::Internet, || mqtt::publish(port, topic, payload))?
            .map_err(io(format!("publish to {topic}")))
    }

    /// Writes `desired` of the classic shadow.
    fn desire(&self, desired: &Value) -> Result<SystemTime, Trouble> {
        let document = json!({"state": {"desired": desired}}).to_string();
        self.publish(&format!("$aws/things/{}/shadow/update", self.thing()), &document)
    }

    /// Runs the agent's command line in the gateway: exit code, output, errors.
    fn edgewarden(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String), Trouble> {
        self.run(&self.artifact(), arguments)
    }

    /// Runs a program in the gateway: exit code, output, errors.
    fn run(&self, program: &Path, arguments: &[&str]) -> Result<(Option<i32>, String, String), Trouble> {
        let output = self
            .site()
            .run_in(Ns::Gateway, || Command::new(program).args(arguments).output())?
            .map_err(io(format!("start {}", program.display())))?;
        Ok(told(&output))
    }

    /// The way as it was at the beginning, and no order in the shadow.
    fn forget_orders(&self) -> Result<(), Trouble> {
        self.way().delay(Duration::ZERO)?;
        self.way().black_hole(false)?;
        self.policy().deny([])?;
        let topic = format!("$aws/things/{}/shadow/delete", self.thing());
        self.publish(&topic, "{}").map(drop)
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
