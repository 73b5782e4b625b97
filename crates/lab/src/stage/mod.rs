//! The whole lab in one piece: site, broker, cloud, nucleus, and the agent started as its recipe says.
//!
//! In: [`StageOptions`]. Out: a running [`Stage`] with the handles a test or the demo needs: the shadow's desired
//! section, the agent's own status, the cloud's events.
//!
//! Deliberately absent: any knowledge of Edgewarden's code. The stage knows its recipe, its program and its
//! documented command line, nothing else.

mod ask;
pub mod filter_hook;
pub mod older;
pub mod packaged;
pub mod paths;
pub mod preload;
mod turns;
pub mod versions;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::front::Front;
use crate::nucleus::personality::Personality;
use crate::site::{BROKER_PORT, INTERNET_V4, Ns, Running, Site, SiteError, SpawnSpec, lab_program};
use turns::TurnCheck;
pub use turns::Turns;

/// How long a part may take to come up; a machine with two busy cores needs seconds, not tens of them.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The thing of the lab.
pub const THING: &str = "gateway-01";
const COMPONENT: &str = "io.edgewarden.Agent";
/// Name of the file in which the agent tells its turns.
const TURNS: &str = "turns.log";
/// Name of the recipe as a package has it.
const RECIPE: &str = "recipe.yaml";

/// What a stage is made of.
#[derive(Clone, Debug)]
pub struct StageOptions {
    /// The program under test.
    pub agent: PathBuf,
    /// The component's recipe.
    pub recipe: PathBuf,
    /// Which nucleus.
    pub personality: Personality,
    /// Merged over the recipe's default configuration, as a deployment does.
    pub configuration: Value,
    /// More arguments of `edgewarden-lab cloud`.
    pub cloud: Vec<String>,
    /// More arguments of `edgewarden-lab nucleus`.
    pub nucleus: Vec<String>,
    /// As whom it runs, where not as root; it may read and end everything all the same.
    pub nucleus_user: Option<u32>,
    /// Where the nucleus finds its broker, HOST:PORT; by default the broker's own address.
    pub broker: String,
    /// Whether the nucleus launches (and restarts) the component; otherwise [`Stage::start_agent`] does.
    pub launch: bool,
    /// Whether broker and cloud run from the beginning.
    pub online: bool,
    /// The lab's own program; the one beside the running program when none.
    pub lab: Option<PathBuf>,
    /// What becomes of the turns of the agent's deciding thread.
    pub turns: Turns,
    /// Whether a relay ([`crate::front`]) stands before the broker at its address.
    pub front: bool,
    /// Whether a guard stands by for the agent, as shipped. It outlives agent and nucleus, so whoever wants it ends it.
    pub guard: bool,
}

impl StageOptions {
    /// A stage that reports every two seconds and is otherwise configured as shipped.
    pub fn new(agent: impl Into<PathBuf>, recipe: impl Into<PathBuf>) -> Self {
        Self {
            agent: agent.into(),
            recipe: recipe.into(),
            personality: Personality::Lite,
            configuration: json!({"development": {"reportIntervalSeconds": 2}}),
            cloud: vec!["--min-interval-seconds".into(), "1".into()],
            nucleus: Vec::new(),
            nucleus_user: None,
            broker: format!("{INTERNET_V4}:{BROKER_PORT}"),
            launch: false,
            online: true,
            lab: None,
            turns: Turns::Unmeasured,
            front: false,
            guard: false,
        }
    }

    fn lab_program(&self) -> Result<PathBuf, SiteError> {
        self.lab.clone().map_or_else(lab_program, Ok)
    }
}

/// The running lab. Parts are dropped, and so stopped, in this order.
#[derive(Debug)]
pub struct Stage {
    /// The agent, when the stage started it.
    pub agent: Option<Running>,
    /// The nucleus.
    pub nucleus: Running,
    /// The cloud, once it runs.
    pub cloud: Option<Running>,
    front: Option<Front>,
    /// The broker, once it runs.
    pub broker: Option<Running>,
    _turns: Option<TurnCheck>,
    /// The network.
    pub site: Site,
    options: StageOptions,
}

impl Stage {
    /// Builds everything and waits until each part runs. Must be called inside a lab.
    ///
    /// # Errors
    /// When a part does not come up; the text has its last output.
    pub fn start(options: StageOptions) -> Result<Self, SiteError> {
        let site = Site::new()?;
        let artifacts = site.directory().join("artifacts");
        install(&options.agent, &artifacts)?;
        write(
            &site.directory().join(RECIPE),
            packaged_recipe(&options.recipe, &artifacts.join(artifact_name()))?.as_bytes(),
        )?;
        write(
            &site.directory().join("configuration.json"),
            options.configuration.to_string().as_bytes(),
        )?;
        let (mut broker, mut cloud) = (None, None);
        let front = options.front.then(|| start_front(&site, &options)).transpose()?;
        if options.online {
            broker = Some(start_broker(&site, &options)?);
            cloud = Some(start_cloud(&site, &options)?);
        }
        let mut nucleus = site.spawn_with(Ns::Gateway, nucleus_spec(&site, &options, &artifacts)?)?;
        nucleus.wait_event(PATIENCE, |event| event["event"] == "listening")?;
        if options.online {
            nucleus.find_event(PATIENCE, |event| {
                event["event"] == "mqtt" && event["state"] == "connected"
            })?;
        }
        Ok(Self {
            _turns: (options.turns == Turns::Checked).then(|| TurnCheck(site.directory().join(TURNS))),
            agent: None,
            nucleus,
            cloud,
            front,
            broker,
            site,
            options,
        })
    }

    /// Starts broker and cloud of a stage that began offline.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn go_online(&mut self) -> Result<(), SiteError> {
        self.broker = Some(start_broker(&self.site, &self.options)?);
        self.cloud = Some(start_cloud(&self.site, &self.options)?);
        Ok(())
    }

    /// The relay before the broker.
    ///
    /// # Panics
    /// When the stage was not asked for one ([`StageOptions::front`]).
    pub fn front(&self) -> &Front {
        self.front.as_ref().expect("a stage with `front: true`")
    }

    /// Starts the agent with the environment the nucleus gives to components; does not wait.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_agent(&mut self) -> Result<(), SiteError> {
        self.start_agent_as(&self.artifact(), &[])
    }

    /// Starts the agent through another program: `wrapper` gets the agent's own path and arguments appended.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_agent_as(&mut self, program: &Path, wrapper: &[&str]) -> Result<(), SiteError> {
        let mut spec = SpawnSpec::new(program, self.agent_log());
        let mut args: Vec<std::ffi::OsString> = wrapper.iter().map(Into::into).collect();
        if program != self.artifact() {
            args.push(self.artifact().into());
        }
        args.extend(["run", "--state-dir"].map(Into::into));
        args.push(self.state_directory().into());
        args.extend(["--control-socket".into(), self.control_socket().into()]);
        spec.args = args;
        spec.env = self.component_environment()?;
        spec.env.extend(allocator(&self.options.recipe)?);
        spec.env.push(("EDGEWARDEN_DEVELOPMENT".into(), "1".into()));
        if !self.options.guard {
            spec.env.push(("EDGEWARDEN_GUARD".into(), "off".into()));
        }
        if self.options.turns != Turns::Unmeasured {
            spec.env
                .push(("EDGEWARDEN_TURNS".into(), self.turns_file().into()));
        }
        // As the nucleus starts a component: in a folder of its own.
        make_own_directory(&self.state_directory())?;
        spec.directory = Some(self.state_directory());
        self.agent = Some(self.site.spawn_with(Ns::Gateway, spec)?);
        Ok(())
    }

    /// Deploys configuration: what is given is merged over what runs, where what it leaves out stays; or
    /// `{"MERGE": {…}, "RESET": ["/key"]}`.
    ///
    /// # Errors
    /// When the file cannot be written or the nucleus is gone.
    pub fn deploy(&mut self, configuration: &Value) -> Result<(), SiteError> {
        write(
            &self.site.directory().join("configuration.json"),
            configuration.to_string().as_bytes(),
        )?;
        self.nucleus.signal(nix::sys::signal::Signal::SIGHUP)
    }

    /// Has a part of the nucleus do something, e.g. `restart-iotcored`, and waits until it is done.
    ///
    /// # Errors
    /// When the nucleus does not know the command, or is gone.
    pub fn command_nucleus(&mut self, command: &str) -> Result<(), SiteError> {
        write(&self.root().join("command"), command.as_bytes())?;
        self.nucleus.signal(nix::sys::signal::Signal::SIGUSR2)?;
        let done = |event: &Value| event["event"] == "command" && event["done"] == command;
        self.nucleus.wait_event(PATIENCE, done).map(drop)
    }

    /// Where the agent keeps its journal: the recipe's place, or one of the stage's own.
    pub fn state_directory(&self) -> PathBuf {
        if self.options.launch {
            "/var/lib/edgewarden".into()
        } else {
            self.root().join("work").join(COMPONENT)
        }
    }

    /// Where the agent's command line asks.
    pub fn control_socket(&self) -> PathBuf {
        if self.options.launch {
            "/run/edgewarden/control.sock".into()
        } else {
            self.site.directory().join("run/control.sock")
        }
    }

    /// The agent's output.
    pub fn agent_log(&self) -> PathBuf {
        self.root().join("logs").join(format!("{COMPONENT}.log"))
    }

    /// Where the agent tells its turns, if it was asked to.
    pub fn turns_file(&self) -> PathBuf {
        self.site.directory().join(TURNS)
    }

    /// The agent's program, as the nucleus installed it.
    pub fn artifact(&self) -> PathBuf {
        self.site.directory().join("artifacts").join(artifact_name())
    }

    fn root(&self) -> PathBuf {
        self.site.directory().join("greengrass")
    }

    fn component_environment(&self) -> Result<Vec<(std::ffi::OsString, std::ffi::OsString)>, SiteError> {
        let path = self.root().join("component.env");
        let text = std::fs::read_to_string(&path).map_err(|source| SiteError::File { path, source })?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(pairs.map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// What the recipe's run step tells the allocator: memory is measured as it is on a device.
fn allocator(recipe: &Path) -> Result<Vec<(std::ffi::OsString, std::ffi::OsString)>, SiteError> {
    let text = std::fs::read_to_string(recipe).map_err(|source| SiteError::File {
        path: recipe.to_path_buf(),
        source,
    })?;
    let run = text.lines().find(|line| line.contains("exec $p run"));
    let words = run.into_iter().flat_map(str::split_whitespace);
    let told = words.filter(|word| word.starts_with("MALLOC_"));
    let pairs = told.filter_map(|word| word.split_once('='));
    Ok(pairs.map(|(name, value)| (name.into(), value.into())).collect())
}

fn artifact_name() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    };
    format!("edgewarden-{architecture}")
}

fn start_broker(site: &Site, options: &StageOptions) -> Result<Running, SiteError> {
    if options.front {
        site.mosquitto_inside()
    } else {
        site.mosquitto()
    }
}

/// At the broker's address, so that whoever goes to the broker goes through it; the cloud's own programs do not.
fn start_front(site: &Site, options: &StageOptions) -> Result<Front, SiteError> {
    let ends = (
        SocketAddr::new(INTERNET_V4, BROKER_PORT),
        (Ipv4Addr::LOCALHOST, BROKER_PORT).into(),
    );
    Front::start(site, Ns::Internet, &options.lab_program()?, "front", ends)
}

fn start_cloud(site: &Site, options: &StageOptions) -> Result<Running, SiteError> {
    let mut spec = SpawnSpec::new(options.lab_program()?, site.directory().join("cloud.log"));
    spec.args = ["cloud", "--broker", &format!("127.0.0.1:{BROKER_PORT}")]
        .iter()
        .map(Into::into)
        .collect();
    spec.args.extend(options.cloud.iter().map(Into::into));
    let mut cloud = site.spawn_with(Ns::Internet, spec)?;
    cloud.wait_event(PATIENCE, |event| event["event"] == "connected")?;
    Ok(cloud)
}

fn nucleus_spec(site: &Site, options: &StageOptions, artifacts: &Path) -> Result<SpawnSpec, SiteError> {
    let root = site.directory().join("greengrass");
    make_directory(&root.join("logs"))?;
    let mut spec = SpawnSpec::new(options.lab_program()?, site.directory().join("nucleus.log"));
    if let Some(user) = options.nucleus_user {
        let program = std::mem::replace(&mut spec.program, "setpriv".into());
        let user = user.to_string();
        let words = [
            "--reuid",
            &user,
            "--clear-groups",
            "--inh-caps=+dac_override,+kill",
            "--ambient-caps=+dac_override,+kill",
        ];
        spec.args.extend(words.iter().map(Into::into));
        spec.args.push(program.into());
    }
    let personality = options.personality.name();
    let words = ["nucleus", "--thing", THING, "--personality", personality];
    spec.args.extend(words.iter().map(Into::into));
    for (flag, path) in [
        ("--root", root.as_path()),
        ("--recipe", &site.directory().join(RECIPE)),
        ("--artifacts", artifacts),
        ("--configuration", &site.directory().join("configuration.json")),
    ] {
        spec.args.extend([flag.into(), path.into()]);
    }
    spec.args
        .extend(["--broker".into(), options.broker.as_str().into()]);
    if options.launch {
        spec.args
            .extend(["--launch", "--set-env", "EDGEWARDEN_DEVELOPMENT=1"].map(Into::into));
        if !options.guard {
            spec.args
                .extend(["--set-env", "EDGEWARDEN_GUARD=off"].map(Into::into));
        }
        if options.turns != Turns::Unmeasured {
            let file = site.directory().join(TURNS);
            let variable = format!("EDGEWARDEN_TURNS={}", file.display());
            spec.args.extend(["--set-env".into(), variable.into()]);
        }
    }
    spec.args.extend(options.nucleus.iter().map(Into::into));
    Ok(spec)
}

/// Puts the program where the nucleus unpacks artifacts, under the name the recipe gives it.
fn install(agent: &Path, artifacts: &Path) -> Result<(), SiteError> {
    make_directory(artifacts)?;
    copy_program(agent, &artifacts.join(artifact_name()))
}

/// The recipe for this program, which has the name that the recipe gives it.
///
/// # Errors
/// When one of the two cannot be read.
pub fn packaged_recipe(recipe: &Path, program: &Path) -> Result<String, SiteError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| SiteError::File { path, source }
    };
    let text = std::fs::read_to_string(recipe).map_err(file(recipe))?;
    let digest = packaged::digest(program).map_err(file(program))?;
    Ok(packaged::with_digest(&text, &artifact_name(), &digest))
}

/// Copies a program; a name of its own makes it another program to rules that go by path.
///
/// # Errors
/// When it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) -> Result<(), SiteError> {
    if let Some(directory) = to.parent() {
        make_directory(directory)?;
    }
    std::fs::copy(from, to)
        .map(|_| ())
        .map_err(|source| SiteError::File {
            path: from.to_owned(),
            source,
        })
}

fn make_directory(path: &Path) -> Result<(), SiteError> {
    std::fs::create_dir_all(path).map_err(|source| SiteError::File {
        path: path.to_owned(),
        source,
    })
}

/// Makes a directory that nobody else may write to, whatever the caller's umask is.
fn make_own_directory(path: &Path) -> Result<(), SiteError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| SiteError::File {
            path: path.to_owned(),
            source,
        })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), SiteError> {
    std::fs::write(path, bytes).map_err(|source| SiteError::File {
        path: path.to_owned(),
        source,
    })
}

/// Runs a program in a namespace to its end and gives its exit code, output and errors.
pub(crate) fn output_of(
    site: &Site,
    ns: Ns,
    program: &Path,
    args: &[&str],
) -> Result<(Option<i32>, String, String), SiteError> {
    let start = |source| SiteError::Start {
        program: program.to_owned(),
        source,
    };
    let output = site
        .run_in(ns, || Command::new(program).args(args).output())?
        .map_err(start)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}
