//! Nucleus lite itself, on a machine of its own with systemd, in the gateway.
//!
//! In: lite's tree, what `cargo xtask package` built. Out: a nucleus whose daemons systemd starts again and again, as on a
//! device. Components are deployed by `ggl-cli`, as docs/install.md says; configuration by a console, a component that may
//! ask the nucleus for deployments, because `ggl-cli` deploys none. Each beginning boots anew. Deliberately absent: any
//! file of the nucleus in this repository.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgewarden_lab::front::Front;
use edgewarden_lab::site::{Running, Site, wait_until};
use serde_json::{Value, json};
use xtask::workspace;

use super::machine::{Machine, PACKAGE};
use super::services::{self, PLAIN_PORT, Services, THING};
use super::versions::lay_out;
use super::{
    Bed, COMPONENT, Kind, PATIENCE, Setup, clear, clear_rules, end_processes, merge, not_asked,
    packaged_program, told,
};
use crate::error::{Trouble, io};
use crate::ipc::{self, Access};
use crate::keys::Keys;
use crate::own_files::{CREDENTIALS, ENDPOINT};
use crate::prober::{Book, Prober};
use crate::processes;

/// Where it keeps everything.
const ROOT: &str = "/var/lib/greengrass";
/// The component that asks for deployments.
const CONSOLE: &str = "com.example.Console";
/// Where the console tells what it was given to speak with the nucleus.
const CONSOLE_TOKEN: &str = "/run/acceptance-console";
/// The unit that deploys.
const DEPLOYER: &str = "ggl.core.ggdeploymentd.service";
/// The nucleus' own units.
const DAEMONS: &str = "ggl.core.*.service";
/// What the deployer writes at a deployment's end, before the word on it.
const DEPLOYED: &str = "Completed deployment processing and reporting job as ";
/// How long a deployment may take: lite waits up to half a minute for a component that does not get up.
const DEPLOYMENT_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks at a deployment.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Lite, with what is around it.
#[derive(Debug)]
pub(crate) struct Lite {
    machine: Option<Machine>,
    prober: Prober,
    _https: Running,
    services: Services,
    keys: Keys,
    setup: Setup,
    program: PathBuf,
    /// SIGKILLs in journals that are gone.
    kills_before: usize,
    /// Machines so far; each one's journal stays.
    machines: u32,
    site: Site,
}

/// The unit of a component.
pub(crate) fn unit(component: &str) -> String {
    format!("ggl.{component}.service")
}

impl Lite {
    /// Sets it up and starts it.
    pub(crate) fn start(setup: Setup, book: Arc<Mutex<Book>>) -> Result<Self, Trouble> {
        let folder = &setup.folder;
        clear(folder)?;
        workspace::make_folder(folder)?;
        let keys = Keys::make(&folder.join("keys"))?;
        let site = Site::new()?;
        let services = Services::start(&site, folder, &keys, setup.proxy)?;
        let prober = Prober::start(&site, book)?;
        let mut lite = Self {
            machine: None,
            prober,
            _https: services::https_without_content(&site, folder, &keys)?,
            services,
            keys,
            program: packaged_program(&setup.artifacts)?,
            setup,
            kills_before: 0,
            machines: 0,
            site,
        };
        lite.fresh()?;
        Ok(lite)
    }

    fn machine(&self) -> Result<&Machine, Trouble> {
        self.machine.as_ref().ok_or_else(|| Trouble::Late {
            what: "the machine of nucleus lite".to_owned(),
            seconds: 0,
        })
    }

    /// `systemctl` inside.
    pub(crate) fn systemctl(&self, words: &[&str]) -> Result<String, Trouble> {
        let words: Vec<_> = ["systemctl"].iter().chain(words).copied().collect();
        self.machine()?.done(&words)
    }

    /// Takes the component's unit and files away without a word to anybody, as a careless hand does.
    pub(crate) fn take_component_away(&self) -> Result<(), Trouble> {
        self.systemctl(&["disable", "--now", &unit(COMPONENT)])?;
        let files = format!("{ROOT}/packages/artifacts/{COMPONENT}");
        self.machine()?.done(&["rm", "-r", &files]).map(drop)
    }

    /// The deployments that have ended, by the nucleus' word on each.
    fn deployments(&self) -> Result<Vec<String>, Trouble> {
        let journal = self.machine()?.journal(DEPLOYER);
        let words = journal.lines().filter_map(|line| line.split_once(DEPLOYED));
        Ok(words
            .map(|(_, word)| word.trim_end_matches('.').to_owned())
            .collect())
    }

    /// Asks for a deployment and waits for its end; gives the nucleus' word on it.
    fn deploy(&self, ask: impl FnOnce(&Machine) -> Result<(), Trouble>) -> Result<String, Trouble> {
        let machine = self.machine()?;
        let before = self.deployments()?.len();
        ask(machine)?;
        let mut words = Vec::new();
        let ended = wait_until(DEPLOYMENT_LIMIT, "the end of a deployment", || {
            std::thread::sleep(LOOK_EVERY);
            words = self.deployments().unwrap_or_default();
            words.len() > before
        });
        match (ended, words.pop()) {
            (Ok(()), Some(word)) => Ok(word),
            _ => Err(Trouble::Late {
                what: "the end of a deployment".to_owned(),
                seconds: DEPLOYMENT_LIMIT.as_secs(),
            }),
        }
    }

    /// Deploys one component from a folder inside that has recipes and artifacts.
    fn deploy_component(&self, folder: &str, component: &str, version: &str) -> Result<String, Trouble> {
        let (recipes, what) = (format!("{folder}/recipes"), format!("{component}={version}"));
        self.deploy(|machine| {
            let ask = [
                "ggl-cli",
                "deploy",
                "--recipe-dir",
                &recipes,
                "--artifacts-dir",
                folder,
                "--add-component",
                &what,
            ];
            machine.done(&ask).map(drop)
        })
    }

    /// Deploys the console and reads what the nucleus gave it.
    fn deploy_console(&self) -> Result<(), Trouble> {
        let folder = "/run/acceptance";
        let recipe = self
            .machine()?
            .path(&format!("{folder}/recipes/{CONSOLE}-1.0.0.json"));
        workspace::write(&recipe, &console().to_string())?;
        let word = self.deploy_component(folder, CONSOLE, "1.0.0")?;
        let token = self.machine()?.path(CONSOLE_TOKEN);
        wait_until(PATIENCE, "the console", || token.is_file()).map_err(|_| Trouble::Nucleus {
            operation: "the deployment of the console".to_owned(),
            answer: word,
        })
    }

    /// How to speak with the nucleus in the console's name.
    fn access(&self) -> Result<Access, Trouble> {
        let machine = self.machine()?;
        let token = machine.path(CONSOLE_TOKEN);
        let token = std::fs::read_to_string(&token).map_err(io(format!("read {}", token.display())))?;
        Ok(Access {
            socket: machine.path(&format!("{ROOT}/gg-ipc.socket")),
            token,
        })
    }

    /// Ends the machine at once, as a power cut does; its journal stays.
    fn stop(&mut self) -> Result<(), Trouble> {
        self.kills_before = self.kills();
        if let Some(machine) = self.machine.take() {
            let name = format!("journal-{}.log", self.machines);
            workspace::write(&self.setup.folder.join(name), &machine.whole_journal())?;
        }
        Ok(())
    }
}

impl Drop for Lite {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

impl Bed for Lite {
    fn kind(&self) -> Kind {
        Kind::Lite
    }

    fn lite(&mut self) -> Option<&mut Self> {
        Some(self)
    }

    fn site(&self) -> &Site {
        &self.site
    }

    fn prober(&self) -> &Prober {
        &self.prober
    }

    fn way(&self) -> &Front {
        &self.services.way
    }

    fn policy(&self) -> &Front {
        &self.services.policy
    }

    fn broker_port(&self) -> u16 {
        PLAIN_PORT
    }

    fn thing(&self) -> &'static str {
        THING
    }

    fn artifact(&self) -> PathBuf {
        self.program.clone()
    }

    /// The daemon that holds the connection to the cloud.
    fn nucleus(&mut self) -> Option<i32> {
        let own = |process: &processes::Process| process.words[0] == "/usr/bin/iotcored";
        processes::of_gateway()
            .iter()
            .find(|process| own(process))
            .map(|process| process.pid)
    }

    /// Systemd does.
    fn keep_nucleus(&mut self) -> Result<(), Trouble> {
        Ok(())
    }

    /// All its daemons, whatever systemd is told to do about it.
    fn lose_nucleus(&mut self) -> Result<(), Trouble> {
        let listed = self.systemctl(&["list-units", "--plain", "--no-legend", DAEMONS])?;
        let units = listed.lines().filter_map(|line| line.split_whitespace().next());
        let units: Vec<&str> = units.collect();
        self.systemctl(&[&["mask", "--runtime"], &units[..]].concat())?;
        self.systemctl(&[&["kill", "--signal", "KILL"], &units[..]].concat())
            .map(drop)
    }

    fn store(&self) -> PathBuf {
        let store = format!("{ROOT}/packages/artifacts");
        self.machine()
            .map(|machine| machine.path(&store))
            .unwrap_or_default()
    }

    /// Without a failure beside it, which lite does not go back for.
    fn deploy_version(&mut self, version: &str, fails: bool) -> Result<(), Trouble> {
        if fails {
            return Err(not_asked("to roll back"));
        }
        let folder = format!("/run/acceptance-{version}");
        let package = self.machine()?.path(&folder);
        clear(&package)?;
        lay_out(&self.setup.artifacts, version, &package)?;
        match self.deploy_component(&folder, COMPONENT, version)?.as_str() {
            "SUCCEEDED" => Ok(()),
            word => Err(Trouble::Nucleus {
                operation: format!("a deployment of version {version}"),
                answer: word.to_owned(),
            }),
        }
    }

    fn interface_is_up(&self) -> bool {
        self.access().is_ok_and(|access| access.is_up())
    }

    fn configure(&mut self, merge: &Value) -> Result<(), Trouble> {
        let access = self.access()?;
        let request = json!({"componentToConfiguration": {COMPONENT: {"MERGE": merge}}});
        let word = self.deploy(|_| ipc::ask(&access, "CreateLocalDeployment", request).map(drop))?;
        match word.as_str() {
            "SUCCEEDED" => Ok(()),
            _ => Err(Trouble::Nucleus {
                operation: "a deployment of configuration".to_owned(),
                answer: word,
            }),
        }
    }

    fn deploy_agent(&mut self) -> Result<String, Trouble> {
        self.deploy_component(PACKAGE, COMPONENT, &workspace::version()?)
    }

    fn restart_component(&mut self) -> Result<(), Trouble> {
        let unit = unit(COMPONENT);
        self.systemctl(&["reset-failed"])?;
        self.systemctl(&["restart", &unit]).map(drop)
    }

    fn kill_broker(&mut self) -> Result<(), Trouble> {
        self.services.kill_broker()
    }

    fn start_broker(&mut self, forget: bool) -> Result<(), Trouble> {
        self.services.start_broker(&self.setup.folder, forget)
    }

    fn fresh(&mut self) -> Result<(), Trouble> {
        self.prober.unguard();
        self.stop()?;
        end_processes()?;
        clear_rules(&self.site)?;
        self.forget_orders()?;
        self.machines += 1;
        let sessions = self.sessions();
        self.machine = Some(Machine::boot(
            &self.site,
            &self.setup.folder,
            &self.setup.nucleus_folder,
            &self.keys,
            &self.setup.artifacts,
            &configuration(&self.setup),
        )?);
        let late = |what: &str| Trouble::Late {
            what: what.to_owned(),
            seconds: PATIENCE.as_secs(),
        };
        wait_until(PATIENCE, "lite's session", || self.sessions() > sessions)
            .map_err(|_| late("lite's MQTT session"))?;
        self.deploy_console()?;
        if self.setup.deployed {
            let word = self.deploy_agent()?;
            wait_until(PATIENCE, "the agent's channel", || self.channel_works())
                .map_err(|_| late(&format!("the agent's channel (its deployment {word})")))?;
        }
        Ok(())
    }

    fn component_log(&self) -> String {
        self.machine()
            .map(|machine| machine.journal(&unit(COMPONENT)))
            .unwrap_or_default()
    }

    fn kills(&self) -> usize {
        let killed = |line: &&str| line.contains("Killing process") && line.contains("SIGKILL");
        let now = self.component_log().lines().filter(killed).count();
        self.kills_before + now
    }

    fn edgewarden(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String), Trouble> {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        let program = format!("{PACKAGE}/{COMPONENT}/{}/{name}", workspace::version()?);
        self.run(Path::new(&program), arguments)
    }

    /// Inside, where the component's files are.
    fn run(&self, program: &Path, arguments: &[&str]) -> Result<(Option<i32>, String, String), Trouble> {
        let program = program.to_string_lossy();
        let words: Vec<_> = [&*program].iter().chain(arguments).copied().collect();
        Ok(told(&self.machine()?.run(&words)?))
    }
}

/// What lite is told before its first start.
fn configuration(setup: &Setup) -> Value {
    let mut own = json!({
        "awsRegion": "eu-central-1", "iotDataEndpoint": ENDPOINT, "iotCredEndpoint": CREDENTIALS, "iotRoleAlias": "none",
        "greengrassDataPlanePort": "8443", "platformOverride": {},
        "runWithDefault": {"posixUser": "gg_component:gg_component"},
    });
    merge(&mut own, &setup.nucleus);
    let file = |name: &str| format!("{ROOT}/credentials/{name}");
    json!({
        "system": {
            "privateKeyPath": file("gateway.key"), "certificateFilePath": file("gateway.pem"),
            "rootCaPath": file("authority.pem"), "rootPath": ROOT, "thingName": THING,
        },
        "services": {"aws.greengrass.NucleusLite": {"componentType": "NUCLEUS", "configuration": own}},
    })
}

/// The recipe of the console: it may deploy, and waits.
fn console() -> Value {
    let may = json!({"operations": ["aws.greengrass#CreateLocalDeployment"], "resources": ["*"]});
    json!({
        "RecipeFormatVersion": "2020-01-25", "ComponentName": CONSOLE, "ComponentVersion": "1.0.0",
        "ComponentConfiguration": {"DefaultConfiguration": {
            "accessControl": {"aws.greengrass.Cli": {format!("{CONSOLE}:cli:1"): may}},
        }},
        "Manifests": [{"Platform": {"os": "linux", "runtime": "*"}, "Lifecycle": {"run": {
            "RequiresPrivilege": true,
            "Script": format!("umask 077; printf %s \"$SVCUID\" >{CONSOLE_TOKEN}; exec sleep infinity"),
        }}}],
    })
}
