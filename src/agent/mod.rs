//! Wiring: what is started, in which order, and how it stops.
//!
//! 1. state directory and lock, last good configuration
//! 2. **the journal is enforced** ([`enforcer`]), before the network is used for anything
//! 3. capture, control socket
//! 4. the nucleus: configuration, lifeline addresses, shadow, reports
//!
//! Invariants: no failure after step 1 ends the process, because the nucleus rations exits (three an hour); stopping
//! leaves the kernel's rules as they are.

pub mod addresses;
pub mod board;
pub mod configuration;
mod control;
pub mod dns_feed;
pub mod enforcer;
pub mod observer;
pub mod reporter;
pub mod shadow;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use greengrass_ipc::{Client, ClientOptions, ComponentState, ConnectionState};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use wildmatch::WildMatch;

use crate::agent::control::server::Server;
use crate::agent::observer::{ObserveSettings, Observer};
use crate::cloud::nucleus;
use crate::config::document::Development;
use crate::config::{CaptureConfig, Config, Mode};
use crate::host::capture::Receiver;
use crate::host::files::state_directory;
use crate::host::net::link_watch::LinkWatch;
use crate::host::net::uplinks::Uplink;
use crate::host::netfilter::watch as nft_watch;
use crate::host::{clock, files};
use crate::quarantine::lifelines::dns_answers::WatchedNames;
use board::Board;
use enforcer::{Command, Enforcer, Handle};
use reporter::desk::Questions;

/// The component's name: the nucleus knows us by it when it must authenticate us again.
pub const COMPONENT: &str = "io.edgewarden.Agent";
/// How long the shadow waits for the first lifeline addresses: an order that arrives before them would have to be
/// carried out with wide lifelines.
const FIRST_ADDRESSES: Duration = Duration::from_secs(12);

/// Longest frame for the nucleus in bytes: a report of 128 KB in base64 and its request. Lite takes less; the client
/// finds that out by two lost connections, the first time a report is larger.
const MAX_FRAME: usize = 131_072 / 3 * 4 + 4_096;

/// How the agent is started.
#[derive(Debug, Clone)]
pub struct Start {
    /// Where journal and last good configuration live.
    pub state_directory: PathBuf,
    /// Where the command line asks.
    pub control_socket: PathBuf,
    /// Whether development keys are taken.
    pub development: Development,
    /// Thing name as the nucleus gives it to components.
    pub thing: Option<String>,
}

/// Runs the agent until SIGTERM or SIGINT. `lookup` reads the environment.
///
/// # Errors
/// Only when signals cannot be received at all.
pub async fn run(start: Start, lookup: impl Fn(&str) -> Option<String>) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut tasks = JoinSet::new();
    tokio::select! {
        () = serve(&start, lookup, &mut tasks) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; the rules in the kernel stay as they are");
    tasks.shutdown().await;
    Ok(())
}

async fn serve(start: &Start, lookup: impl Fn(&str) -> Option<String>, tasks: &mut JoinSet<()>) {
    let directory = &start.state_directory;
    let _lock = own(directory).await;
    let board = Board::default();
    let config = configuration::last_good(directory, start.development, &board);
    board.update(|status| {
        status.version = env!("CARGO_PKG_VERSION").into();
        status.started = Some(clock::now().wall);
        status.mode = if config.mode == Mode::Observe {
            "observe".into()
        } else {
            "enforce".into()
        };
    });
    let (enforcer, handle) = Enforcer::restore(directory, configuration::settings(&config, None)).await;
    tasks.spawn(enforcer.run());
    tasks.spawn(watch_kernel(handle.clone()));
    tasks.spawn(watch_links(handle.clone()));

    let observer = Arc::new(Observer::start(observation(&config.capture)));
    let (reports, questions) = reporter::desk::open();
    let server = Server {
        socket: start.control_socket.clone(),
        board: board.clone(),
        enforcer: handle.clone(),
        observer: Arc::clone(&observer),
        reports,
    };
    tasks.spawn(server.run());
    let region = lookup("AWS_REGION").as_deref().and_then(nucleus::region);
    match ClientOptions::from_lookup(lookup) {
        Ok(mut options) => {
            options.component_name = Some(COMPONENT.into());
            options.max_frame_bytes = MAX_FRAME;
            talk(
                start,
                &config,
                Client::start(options),
                &Parts {
                    handle,
                    observer,
                    board,
                    region,
                },
                questions,
                tasks,
            )
            .await;
        }
        Err(error) => {
            let why = crate::error_text(&error);
            tracing::error!("the nucleus cannot be reached, only local functions work: {why}");
            board.update(|status| status.cloud.ipc = why);
        }
    }
    std::future::pending::<()>().await;
}

fn observation(capture: &CaptureConfig) -> ObserveSettings {
    ObserveSettings {
        wanted: Arc::new(wanted(capture)),
        receiver: if capture.by_pnet {
            Receiver::Pnet
        } else {
            Receiver::Ring
        },
        promiscuous: capture.promiscuous,
        ..ObserveSettings::all_interfaces(clock::now().wall)
    }
}

/// What several tasks share.
struct Parts {
    handle: Handle,
    observer: Arc<Observer>,
    board: Board,
    /// The AWS Region as the nucleus tells it to components.
    region: Option<String>,
}

async fn talk(
    start: &Start,
    config: &Config,
    client: Client,
    parts: &Parts,
    questions: Questions,
    tasks: &mut JoinSet<()>,
) {
    let (publish, configs) = watch::channel(config.clone());
    tasks.spawn(watch_connection(client.clone(), parts.board.clone()));
    tasks.spawn(
        configuration::Follower {
            client: client.clone(),
            publish,
            enforcer: parts.handle.clone(),
            state_directory: start.state_directory.clone(),
            development: start.development,
            board: parts.board.clone(),
        }
        .run(),
    );
    let (works, channel) = watch::channel(false);
    let (uplinks, connections) = watch::channel(Vec::new());
    let resolved = keep_lifelines(&client, &configs, channel, uplinks, parts, tasks);
    let _ = tokio::time::timeout(FIRST_ADDRESSES, resolved).await;
    // Only now: the configuration may name another thing.
    let thing = configs
        .borrow()
        .thing_name
        .clone()
        .or_else(|| start.thing.clone());
    match thing {
        Some(thing) => {
            parts.board.update(|status| status.thing = Some(thing.clone()));
            let reporter = reporter::Reporter {
                client: client.clone(),
                thing: thing.clone(),
                config: configs.clone(),
                enforcer: parts.handle.clone(),
                observer: Arc::clone(&parts.observer),
                state_directory: start.state_directory.clone(),
                board: parts.board.clone(),
                questions,
            };
            let shadow = shadow::ShadowTask {
                client: client.clone(),
                thing,
                config: configs,
                enforcer: parts.handle.clone(),
                works,
                uplinks: connections,
                board: parts.board.clone(),
            };
            converse(client, shadow, reporter, tasks).await;
        }
        None => tracing::error!("no thing name (AWS_IOT_THING_NAME, thingName): no shadow and no reports"),
    }
}

/// Starts what keeps the lifelines' addresses fresh; the receiver hears of the first ones.
fn keep_lifelines(
    client: &Client,
    configs: &watch::Receiver<Config>,
    works: watch::Receiver<bool>,
    uplinks: watch::Sender<Vec<Uplink>>,
    parts: &Parts,
    tasks: &mut JoinSet<()>,
) -> oneshot::Receiver<()> {
    let (first, resolved) = oneshot::channel();
    let (watched, names) = watch::channel(WatchedNames::default());
    let resolver = addresses::Resolver {
        client: client.clone(),
        config: configs.clone(),
        region: parts.region.clone(),
        enforcer: parts.handle.clone(),
        works,
        watched,
        uplinks,
        board: parts.board.clone(),
    };
    tasks.spawn(resolver.run(first));
    let feed = dns_feed::DnsFeed {
        watched: names,
        enforcer: parts.handle.clone(),
    };
    tasks.spawn(feed.run());
    resolved
}

async fn converse(
    client: Client,
    shadow: shadow::ShadowTask,
    reporter: reporter::Reporter,
    tasks: &mut JoinSet<()>,
) {
    tasks.spawn(shadow.run());
    tasks.spawn(reporter.run());
    // Both nuclei take RUNNING; one that does not knows that we run anyway.
    if let Err(error) = client.update_state(ComponentState::Running).await {
        tracing::debug!(
            "the nucleus did not take our state: {}",
            crate::error_text(&error)
        );
    }
}

/// Has the kernel compared whenever somebody changed the packet filter, so that a flushed table is back at once. When
/// the kernel cannot be watched the enforcer's timer still finds it.
async fn watch_kernel(enforcer: Handle) {
    let mut changes = match nft_watch::open() {
        Ok(changes) => changes,
        Err(error) => {
            let why = crate::error_text(&error);
            tracing::warn!("changes of the packet filter are found by the timer only: {why}");
            return;
        }
    };
    while let Some(change) = changes.recv().await {
        enforcer.send(Command::KernelChanged(change)).await;
    }
}

/// Has the rules follow the interfaces: those of a new one would leave past the IP stack unseen. When the kernel cannot
/// be watched the enforcer's timer still finds it.
async fn watch_links(enforcer: Handle) {
    let mut changes = match LinkWatch::open().and_then(LinkWatch::in_background) {
        Ok(changes) => changes,
        Err(error) => {
            let why = crate::error_text(&error);
            tracing::warn!("changes of interfaces are found by the timer only: {why}");
            return;
        }
    };
    while changes.recv().await.is_some() {
        enforcer.send(Command::LinksChanged).await;
    }
}

async fn watch_connection(client: Client, board: Board) {
    let mut connection = client.connection();
    loop {
        let text = match &*connection.borrow_and_update() {
            ConnectionState::Connected { .. } => "connected".to_owned(),
            ConnectionState::Connecting {
                last_error: Some(why),
                ..
            } => format!("not connected: {why}"),
            _ => "connecting".to_owned(),
        };
        board.update(|status| status.cloud.ipc = text);
        if connection.changed().await.is_err() {
            return;
        }
    }
}

/// Makes the state directory ours alone. A second agent waits: two would fight over the same table.
async fn own(directory: &Path) -> Option<files::FileLock> {
    match state_directory::prepare(directory) {
        Ok(None) => {}
        Ok(Some(mode)) => {
            let path = directory.display();
            tracing::warn!("{path} could be looked into by others (mode {mode:04o}): closed to them");
        }
        Err(error) => {
            tracing::error!("{}: orders will not survive a restart", crate::error_text(&error));
            return None;
        }
    }
    let path = directory.join(state_directory::LOCK);
    let mut said = false;
    loop {
        match files::lock(&path) {
            Ok(Some(lock)) => return Some(lock),
            Ok(None) if !said => {
                tracing::warn!("another agent holds {}: waiting until it ends", path.display());
                said = true;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!("{}", crate::error_text(&error));
                return None;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn wanted(capture: &CaptureConfig) -> impl Fn(&str) -> bool + Send + Sync + 'static {
    let patterns = |list: &[String]| {
        list.iter()
            .map(|pattern| WildMatch::new(pattern))
            .collect::<Vec<_>>()
    };
    let (include, exclude) = (patterns(&capture.include), patterns(&capture.exclude));
    move |name| {
        include.iter().any(|pattern| pattern.matches(name))
            && !exclude.iter().any(|pattern| pattern.matches(name))
    }
}
