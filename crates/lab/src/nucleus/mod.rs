//! A Greengrass nucleus for tests and the demo: the IPC server, bridged to a real MQTT broker.
//!
//! In: a recipe, a broker, a root folder. Out: a Unix socket that speaks the IPC's wire protocol in one of two
//! [`personality`]s, the component itself with `--launch`, and JSON lines on standard output:
//!
//! | event | other members |
//! |---|---|
//! | `listening` | `socket`, `component`, `version` |
//! | `mqtt` | `state`: `connected`, `disconnected` (`reason`) |
//! | `client` | `id`, and `pid` and `state`: `connected`, or `fault` |
//! | `component` | `state`: `started` (`pid`), `exited` (`pid`, `code`, `signal`), `broken` (`starts`), `absent` |
//! | `component` | `state`: `killed` (`pid`): a process that was told to stop and did not in time |
//! | `component` | `state`: `installed` (`attempt`), `installFailed` (`attempt`, `code`, `signal`) |
//! | `component` | `component`, and `state`: `paused`, `resumed`, `restarting`, `stopping`, as was asked of it |
//! | `rollout` | `state`: `deployed` (`version`), `failed`, `refused` (`reason`), `rolledBack` (`version`), `removed` |
//! | `state` | `component`, `state`: what UpdateState said |
//! | `denied` | `operation`, and `resource` or (for `connect`) `pid` |
//! | `configuration` | `deployment` and `state`: `deferred` (`milliseconds`), `deployed`, `rejected` (`reason`) |
//! | `configuration` | `error`: the file cannot be used |
//! | `unsubscribed` | a component's stream of MQTT messages has ended: `filter`, `monotonicNanoseconds` |
//! | `message` | with `--tell-messages`: `to` (`component`, `cloud`), `topic`, `payload`, `monotonicNanoseconds` |
//! | `metrics` | `component`, `metrics`: what PutComponentMetric said |
//! | `restarted` | after SIGUSR1 |
//! | `command` | after SIGUSR2: `done`, or `error` |
//!
//! Signals: TERM and INT stop it (and the component); HUP reads `--configuration` again and deploys it over what runs, as
//! `merging` says: what it leaves out stays. Components that subscribed are asked first and may defer or refuse; USR1 does
//! what a restart of lite's ggipcd does: every connection ends, every token becomes invalid, the component lives on; USR2 does
//! what the file `command` under the root says (`command.rs`). KILL leaves the component running, as
//! the end of a real nucleus' process may; what it writes then meets a broken pipe on the classic one.
//!
//! Versions come and go by requests in the root (`rollout`).
//!
//! Deliberately absent: other components, secrets, client devices, TLS;
//! lite's stalling of all clients by one that does not read; lite's limit on the size of an answer with configuration; lite's
//! restart of a component whose configuration a job's deployment changed (those here are local ones). Where lite asks systemd whose process a client is,
//! this asks whether the nucleus started it.

mod ancestry;
mod bridge;
mod command;
mod component;
mod configuration_file;
mod connection;
mod deployment;
mod events;
mod filters;
mod installer;
mod launcher;
mod loopback;
mod merging;
mod operations;
pub mod personality;
mod policy;
mod properties;
mod ration;
mod recipe;
mod refusal;
mod rollout;
mod service;
mod settings;
mod shadow_store;
mod spool;
mod state;
mod store;
mod subscriptions;
pub(crate) mod topics;
mod uplink;
mod variables;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use loopback::LoopbackNucleus;
use personality::Personality;

/// Arguments of `edgewarden-lab nucleus`.
#[derive(Clone, Debug, clap::Args)]
pub struct NucleusArgs {
    /// Root folder: socket, component.env, work/ and logs/ go there.
    #[arg(long, value_name = "DIR")]
    pub root: PathBuf,
    /// Name of the thing; also the MQTT client id.
    #[arg(long, default_value = "gateway-01")]
    pub thing: String,
    /// AWS Region the component is told.
    #[arg(long, default_value = "eu-central-1")]
    pub region: String,
    /// MQTT broker, plain TCP; an IPv6 address in brackets.
    #[arg(long, value_name = "HOST:PORT")]
    pub broker: String,
    /// Which nucleus to imitate.
    #[arg(long, value_enum, default_value = "lite")]
    pub personality: Personality,
    /// The component's recipe, YAML or JSON.
    #[arg(long, value_name = "FILE")]
    pub recipe: PathBuf,
    /// Folder of the component's artifacts, which the nucleus copies into its store for {artifacts:path}.
    #[arg(long, value_name = "DIR")]
    pub artifacts: PathBuf,
    /// JSON merged over the recipe's default configuration (null removes); read again at SIGHUP and then merged over what
    /// runs, or `{"MERGE": {…}, "RESET": ["/key"]}`.
    #[arg(long, value_name = "FILE")]
    pub configuration: Option<PathBuf>,
    /// Run the component as its recipe says.
    #[arg(long)]
    pub launch: bool,
    /// User of all components, by number, to whom the artifacts belong; nobody but us when not given.
    #[arg(long, value_name = "UID")]
    pub component_user: Option<u32>,
    /// Run no uninstall step, as the classic nucleus before 2.17; lite never does.
    #[arg(long)]
    pub no_uninstall_step: bool,
    /// Added to the component's environment.
    #[arg(long, value_name = "NAME=VALUE", num_args = 1..)]
    pub set_env: Vec<String>,
    /// iotDataEndpoint in the nucleus' configuration; the broker's host when not given.
    #[arg(long, value_name = "HOST")]
    pub data_endpoint: Option<String>,
    /// iotCredEndpoint in the nucleus' configuration; the data endpoint when not given.
    #[arg(long, value_name = "HOST")]
    pub credentials_endpoint: Option<String>,
    /// JSON merged over the nucleus' own configuration, e.g. its network proxy.
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub nucleus_configuration: Option<serde_json::Value>,
    /// File with the URL of the HTTP proxy that it goes through and tells as `networkProxy`, read for every connection and
    /// every question; empty: none.
    #[arg(long, value_name = "FILE")]
    pub proxy_file: Option<PathBuf>,
    /// Longest pause between connection attempts to the broker. The real nuclei wait up to 300 s; tests cannot.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub mqtt_backoff_max_seconds: u64,
    /// First pause after a lost connection, which doubles. Lite waits 5 s, classic 1 s; tests that wait for something else
    /// need not.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 200)]
    pub mqtt_backoff_first_milliseconds: u64,
    /// Longest wait of a deployment for a component's answer. The classic nucleus waits 20 s for a validity report and
    /// by default 60 s for a deferral.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub answer_limit_seconds: u64,
    /// Between two steps of a change of configuration, in which readers see half of it.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    pub configuration_step_millis: u64,
    /// Tell iotDataEndpoint only so long after the first question for it, as both real nuclei do.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 50)]
    pub endpoint_late_millis: u64,
    /// Serve SubscribeToIoTCoreConnectionStatus, as nuclei newer than those imitated do.
    #[arg(long)]
    pub connection_status: bool,
    /// Print every message between component and cloud with the time it was handed on, for measurements.
    #[arg(long)]
    pub tell_messages: bool,
}

/// Why the nucleus could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum NucleusError {
    /// An argument does not have the expected form.
    #[error("{argument} is {found:?}; expected {expected}")]
    Argument {
        /// Its name.
        argument: &'static str,
        /// What was given.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A file or folder.
    #[error("could not {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        #[source]
        /// Why.
        source: std::io::Error,
    },
    /// The recipe.
    #[error("recipe {path} cannot be used")]
    Recipe {
        /// The file.
        path: PathBuf,
        #[source]
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The configuration file.
    #[error("configuration {path} is not a JSON object")]
    Configuration {
        /// The file.
        path: PathBuf,
        #[source]
        /// Why, when it is not even JSON.
        source: Option<serde_json::Error>,
    },
    /// The component.
    #[error("could not run component {component}")]
    Component {
        /// Its name.
        component: String,
        #[source]
        /// Why.
        source: std::io::Error,
    },
    /// Signals or randomness.
    #[error("could not {action}")]
    System {
        /// What was tried.
        action: &'static str,
        #[source]
        /// Why.
        source: std::io::Error,
    },
}

/// Runs the nucleus until SIGTERM or SIGINT.
///
/// # Errors
/// See [`NucleusError`].
pub async fn run(args: NucleusArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    service::run(args).await.map_err(Into::into)
}

/// Reads `<root>/component.env`, for a test that starts the component itself.
///
/// # Errors
/// When the file is not there (yet) or cannot be read.
pub fn read_component_env(root: &Path) -> std::io::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(root.join("component.env"))?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// Parsed: left to itself clap takes any text for a JSON string.
fn json(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(text)
}
