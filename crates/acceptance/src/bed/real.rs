//! The classic nucleus itself, with its Cli plugin, in the gateway.
//!
//! In: the folder with its jars, the artifacts of `cargo xtask package`. Out: a nucleus that its loader starts again and
//! again, as systemd and the loader do on a device. It is set up once: first start, deployment, stop; that root folder is
//! copied for each beginning. Deliberately absent: any file of the nucleus in this repository.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use edgewarden_lab::front::Front;
use edgewarden_lab::site::{Ns, Running, Site, SpawnSpec, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use xtask::{run, workspace};

use super::services::{PLAIN_PORT, Services, THING};
use super::versions::{FAILING, lay_out, write_failing};
use super::{
    Bed, COMPONENT, Kind, PATIENCE, Setup, clear, clear_rules, end_processes, merge, packaged_program,
};
use crate::error::Trouble;
use crate::ipc;
use crate::keys::Keys;
use crate::own_files::{CREDENTIALS, ENDPOINT};
use crate::prober::{Book, Prober};
use crate::processes;

/// Where the agent keeps its state, and where its socket is; both are the lab's own here.
const STATE: &str = "/var/lib/edgewarden";
const RUN: &str = "/run/edgewarden";
/// What the nucleus writes when a process outlived SIGTERM.
const KILLED: &str = "did not respond to interruption within timeout";

/// A real nucleus.
#[derive(Debug)]
pub(crate) struct Real {
    loader: Option<Running>,
    prober: Prober,
    services: Services,
    setup: Setup,
    version: String,
    program: PathBuf,
    /// SIGKILLs in logs that are gone.
    kills_before: usize,
    site: Site,
}

impl Real {
    /// Sets it up and starts it.
    pub(crate) fn start(setup: Setup, book: Arc<Mutex<Book>>) -> Result<Self, Trouble> {
        let folder = &setup.folder;
        clear(folder)?;
        workspace::make_folder(folder)?;
        let keys = Keys::make(&folder.join("keys"))?;
        let site = Site::new()?;
        let services = Services::start(&site, folder, &keys, setup.proxy)?;
        workspace::write(
            &folder.join("init.json"),
            &first_configuration(&setup, &keys).to_string(),
        )?;
        let prober = Prober::start(&site, book)?;
        let mut real = Self {
            loader: None,
            prober,
            services,
            program: packaged_program(&setup.artifacts)?,
            setup,
            version: workspace::version()?,
            kills_before: 0,
            site,
        };
        real.set_up()?;
        real.fresh()?;
        Ok(real)
    }

    /// The first start writes the distribution that the loader starts from then on.
    fn set_up(&mut self) -> Result<(), Trouble> {
        clear_state()?;
        let folder = &self.setup.folder;
        let jar = |name: &str| self.setup.nucleus_folder.join(name).display().to_string();
        let mut spec = SpawnSpec::new("java", folder.join("first.log"));
        spec.args = [
            "-Dlog.store=FILE".to_owned(),
            format!("-Droot={}", self.root().display()),
            "-jar".into(),
            jar("nucleus/lib/Greengrass.jar"),
            "--init-config".into(),
            folder.join("init.json").display().to_string(),
            "--component-default-user".into(),
            self.setup.user.clone(),
            "--trusted-plugin".into(),
            jar("CliServer.jar"),
            "--setup-system-service".into(),
            "false".into(),
            "--start".into(),
            "true".into(),
        ]
        .map(Into::into)
        .to_vec();
        let mut first = self.site.spawn_with(Ns::Gateway, spec)?;
        let token = self.root().join("cli_ipc_info/user-0");
        let waited = wait_until(PATIENCE * 2, "the nucleus' first start", || {
            token.exists() && ipc::answers(&self.root())
        });
        waited.map_err(|_| self.late("the nucleus' first start"))?;
        first.terminate()?;
        first.wait_exit(PATIENCE)?;
        drop(first);
        if self.setup.deployed {
            self.run_loader()?;
            self.wait_up()?;
            self.deploy_agent()?;
            wait_until(PATIENCE, "the agent's channel", || self.channel_works())
                .map_err(|_| self.late("the agent's channel"))?;
        }
        self.stop()?;
        if !Path::new(STATE).exists() {
            workspace::make_folder(Path::new(STATE))?;
        }
        copy(Path::new(STATE), &self.template().with_extension("state"))?;
        copy(&self.root(), &self.template())
    }

    fn late(&self, what: &str) -> Trouble {
        Trouble::Late {
            what: format!("{what} (logs in {})", self.setup.folder.display()),
            seconds: PATIENCE.as_secs() * 2,
        }
    }

    fn run_loader(&mut self) -> Result<(), Trouble> {
        let loader = self.root().join("alts/current/distro/bin/loader");
        let spec = SpawnSpec::new(loader, self.setup.folder.join("loader.log"));
        self.loader = Some(self.site.spawn_with(Ns::Gateway, spec)?);
        Ok(())
    }

    fn wait_up(&self) -> Result<(), Trouble> {
        wait_until(PATIENCE * 2, "the nucleus", || ipc::answers(&self.root()))
            .map_err(|_| self.late("the nucleus"))
    }

    /// A deployment with the recipes and artifacts of the package; `more` says what of, and what else.
    pub(crate) fn request(&self, more: &Value) -> Value {
        let mut request = json!({
            "recipeDirectoryPath": self.setup.artifacts.join("recipes"),
            "artifactsDirectoryPath": self.setup.artifacts,
        });
        merge(&mut request, more);
        request
    }

    /// What `cargo xtask package` laid out.
    pub(crate) fn artifacts(&self) -> &Path {
        &self.setup.artifacts
    }

    /// Ends everything of the gateway at once, as a power cut does.
    fn stop(&mut self) -> Result<(), Trouble> {
        self.loader = None;
        end_processes()
    }

    /// Whether the broker runs.
    pub(crate) fn broker_runs(&mut self) -> bool {
        self.services.broker.is_running()
    }

    /// Its folder.
    pub(crate) fn root(&self) -> PathBuf {
        self.setup.folder.join("gg")
    }

    fn template(&self) -> PathBuf {
        self.setup.folder.join("template")
    }

    /// What is in its logs whose name begins so.
    fn logs(&self, beginning: &str) -> String {
        let Ok(entries) = std::fs::read_dir(self.root().join("logs")) else {
            return String::new();
        };
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(beginning))
            .filter_map(|entry| std::fs::read(entry.path()).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }
}

impl Bed for Real {
    fn kind(&self) -> Kind {
        Kind::Real
    }

    fn real(&mut self) -> Option<&mut Self> {
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

    fn nucleus(&mut self) -> Option<i32> {
        let root = format!("-Droot={}", self.root().display());
        let own = |process: &processes::Process| process.words.contains(&root);
        processes::of_gateway()
            .iter()
            .find(|process| own(process))
            .map(|process| process.pid)
    }

    fn keep_nucleus(&mut self) -> Result<(), Trouble> {
        if self.loader.as_mut().is_some_and(Running::is_running) {
            return Ok(());
        }
        self.run_loader()
    }

    /// Its loader first, which would start it again.
    fn lose_nucleus(&mut self) -> Result<(), Trouble> {
        if let Some(loader) = &mut self.loader {
            loader.kill9()?;
        }
        self.nucleus()
            .map_or(Ok(()), |nucleus| processes::signal(nucleus, Signal::SIGKILL))
    }

    fn store(&self) -> PathBuf {
        self.root().join("packages/artifacts")
    }

    fn deploy_version(&mut self, version: &str, fails: bool) -> Result<(), Trouble> {
        let package = self.root().with_extension(version);
        clear(&package)?;
        lay_out(&self.setup.artifacts, version, &package)?;
        let recipes = package.join("recipes");
        let mut request = json!({
            "recipeDirectoryPath": recipes, "artifactsDirectoryPath": package,
            "rootComponentVersionsToAdd": {COMPONENT: version},
            "failureHandlingPolicy": "ROLLBACK",
        });
        if fails {
            write_failing(&recipes)?;
            request["rootComponentVersionsToAdd"][FAILING] = json!("1.0.0");
        }
        let wanted = if fails { "FAILED" } else { "SUCCEEDED" };
        let word = ipc::deploy(&self.root(), request)?;
        if word.starts_with(wanted) {
            return Ok(());
        }
        Err(Trouble::Nucleus {
            operation: format!("a deployment of version {version}, which should be {wanted}"),
            answer: word,
        })
    }

    fn interface_is_up(&self) -> bool {
        ipc::is_up(&self.root())
    }

    fn configure(&mut self, merge: &Value) -> Result<(), Trouble> {
        let request = json!({"componentToConfiguration": {COMPONENT: {"MERGE": merge}}});
        match ipc::deploy(&self.root(), request)?.as_str() {
            "SUCCEEDED" => Ok(()),
            word => Err(Trouble::Nucleus {
                operation: "a deployment of configuration".to_owned(),
                answer: word.to_owned(),
            }),
        }
    }

    fn deploy_agent(&mut self) -> Result<String, Trouble> {
        let request = self.request(&json!({"rootComponentVersionsToAdd": {COMPONENT: self.version}}));
        ipc::deploy(&self.root(), request)
    }

    fn restart_component(&mut self) -> Result<(), Trouble> {
        ipc::call(
            &self.root(),
            "RestartComponent",
            json!({"componentName": COMPONENT}),
        )
        .map(drop)
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
        self.kills_before += self.logs("").matches(KILLED).count();
        clear_state()?;
        copy(&self.template(), &self.root())?;
        copy(&self.template().with_extension("state"), Path::new(STATE))?;
        clear_rules(&self.site)?;
        self.forget_orders()?;
        self.run_loader()?;
        self.wait_up()
    }

    fn component_log(&self) -> String {
        self.logs(COMPONENT)
    }

    fn kills(&self) -> usize {
        self.kills_before + self.logs("").matches(KILLED).count()
    }
}

/// What the nucleus is told before its first start.
fn first_configuration(setup: &Setup, keys: &Keys) -> Value {
    let mut own = json!({
        "awsRegion": "eu-central-1", "iotDataEndpoint": ENDPOINT, "iotCredEndpoint": CREDENTIALS, "iotRoleAlias": "none",
        "greengrassDataPlaneEndpoint": "iotdata", "mqtt": {"port": 8883},
        "runWithDefault": {"posixUser": setup.user}, "deploymentPollingFrequencySeconds": 1,
        "logging": {"level": "INFO"},
    });
    merge(&mut own, &setup.nucleus);
    json!({
        "system": {
            "certificateFilePath": keys.certificate("gateway"), "privateKeyPath": keys.key("gateway"),
            "rootCaPath": keys.authority(), "rootpath": setup.folder.join("gg"), "thingName": THING,
        },
        "services": {"aws.greengrass.Nucleus": {"componentType": "NUCLEUS", "configuration": own}},
    })
}

/// Replaces a folder by a copy of another, owners and modes included.
fn copy(from: &Path, to: &Path) -> Result<(), Trouble> {
    clear(to)?;
    run::run(Command::new("cp").arg("-a").arg(from).arg(to))?;
    Ok(())
}

fn clear_state() -> Result<(), Trouble> {
    [STATE, RUN].map(Path::new).into_iter().try_for_each(clear)
}
