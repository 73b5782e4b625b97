//! Wiring: what is started, in which order, and how it stops.
//!
//! 1. state directory and lock, last good configuration
//! 2. **the journal is enforced** ([`enforcer`]), before the network is used for anything
//! 3. what needs no nucleus: capture, control socket, intervals, the local detector
//! 4. the nucleus: configuration, lifeline addresses, then shadow and reports
//!
//! Everything that goes on is a task of the `supervisor`, made from what is shared (`context`).
//!
//! Invariants: no failure after step 1 ends the process, because the nucleus rations exits (three an hour); no task is
//! silently gone; stopping leaves the kernel's rules as they are.

mod addresses;
mod board;
mod channel;
pub mod configuration;
mod context;
mod control;
mod detector;
mod dns_feed;
mod enforcement;
pub mod enforcer;
mod names;
pub mod observer;
mod reporter;
mod shadow;
mod supervisor;
mod watches;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OnceCell, watch};
use wildmatch::WildMatch;

use crate::cloud::link::Nucleus;
use crate::cloud::nucleus;
use crate::config::document::Development;
use crate::config::{Capture, Config};
use crate::host::capture::Receiver;
use crate::host::files::state_directory;
use crate::host::worker::Worker;
use crate::host::{clock, files};
use crate::quarantine::lifelines::dns_answers::Watched;
use board::Board;
use channel::{Channel, ChannelState};
use context::{Connected, Context, Thing};
use control::server::Server;
use observer::intervals::Intervals;
use observer::{ObserveSettings, Observer};
use reporter::{memory, questions};
use supervisor::Supervisor;

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
    let (cell, channel) = watch::channel(ChannelState::default());
    let board = Board::new(channel);
    let mut supervisor = Supervisor::new(board.clone());
    tokio::select! {
        () = serve(&start, lookup, cell, board, &mut supervisor) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; the rules in the kernel stay as they are");
    supervisor.stop().await;
    Ok(())
}

async fn serve(
    start: &Start,
    lookup: impl Fn(&str) -> Option<String>,
    cell: watch::Sender<ChannelState>,
    board: Board,
    supervisor: &mut Supervisor,
) {
    let directory = &start.state_directory;
    let _lock = own(directory).await;
    let last_good = configuration::last_good(directory, start.development);
    let config = last_good.config;
    board.update(|status| {
        status.version = env!("CARGO_PKG_VERSION").into();
        status.started = Some(clock::now().wall);
        status.configuration.source = last_good.source.into();
        status.mode = configuration::mode(&config);
    });
    let settings = configuration::settings(&config, None);
    let (enforcer, enforcement) = enforcement::restore(directory.clone(), settings).await;
    supervisor.start("enforcer", move || enforcer.clone().run());

    let (publish, configs) = watch::channel(config.clone());
    let context = Context {
        config: configs,
        channel: Channel::new(cell, enforcement.clone()),
        enforcer: enforcement,
        board,
        state_directory: directory.clone(),
    };
    let local = start_local(start, &config, &context, supervisor);
    let region = lookup("AWS_REGION").as_deref().and_then(nucleus::region);
    match Nucleus::connect(lookup) {
        Ok(nucleus) => start_connected(start, context, nucleus, region, publish, local, supervisor),
        Err(error) => {
            let why = crate::error_text(&error);
            tracing::error!("the nucleus cannot be reached, only local functions work: {why}");
            context.board.update(|status| status.cloud.ipc = why);
        }
    }
    supervisor.run().await;
}

/// What the tasks that talk to the nucleus take over from those that do not.
struct Local {
    intervals: Intervals,
    questions: questions::Questions,
}

/// Starts what needs no nucleus.
fn start_local(start: &Start, config: &Config, context: &Context, supervisor: &mut Supervisor) -> Local {
    let enforcer = context.enforcer.clone();
    supervisor.start("packet-filter-watch", move || {
        watches::packet_filter(enforcer.clone())
    });
    let enforcer = context.enforcer.clone();
    supervisor.start("interface-watch", move || watches::interfaces(enforcer.clone()));

    let observer = Arc::new(Observer::start(observation(&config.capture)));
    let (reports, questions) = questions::open();
    let server = Server {
        socket: start.control_socket.clone(),
        board: context.board.clone(),
        enforcer: context.enforcer.clone(),
        observer: Arc::clone(&observer),
        reports,
    };
    supervisor.start("control-socket", move || server.clone().run());

    let last = memory::last_report(&start.state_directory);
    let since_last = last.as_ref().map(memory::since);
    let intervals = Intervals::new(observer, config.reporting.interval, since_last);
    // The detector listens before the first interval can be closed.
    let (watched, closed) = (context.clone(), intervals.clone());
    supervisor.start("detector", move || {
        detector::run(watched.clone(), closed.listen())
    });
    let (closing, configs) = (intervals.clone(), context.config.clone());
    supervisor.start("intervals", move || closing.clone().run(configs.clone()));
    Local { intervals, questions }
}

/// Starts what talks to the nucleus.
fn start_connected(
    start: &Start,
    context: Context,
    nucleus: Nucleus,
    region: Option<String>,
    publish: watch::Sender<Config>,
    local: Local,
    supervisor: &mut Supervisor,
) {
    let (looked_up, first) = watch::channel(false);
    let connected = Connected {
        context,
        nucleus,
        thing: Thing {
            from_environment: start.thing.clone(),
            looked_up: first,
            name: Arc::new(OnceCell::new()),
        },
    };
    let link = connected.clone();
    supervisor.start("nucleus-link", move || watches::nucleus_link(link.clone()));

    let (shared, development) = (connected.clone(), start.development);
    let keeper = Worker::new("configuration", configuration::KEEP_LIMIT);
    supervisor.start("configuration", move || {
        let follower = configuration::Follower {
            connected: shared.clone(),
            publish: publish.clone(),
            development,
            keeper: keeper.clone(),
        };
        follower.run()
    });
    let uplinks = start_lifelines(&connected, region, looked_up, supervisor);
    let shared = connected.clone();
    supervisor.start("shadow", move || {
        let shadow = shadow::ShadowTask {
            connected: shared.clone(),
            uplinks: uplinks.clone(),
        };
        shadow.run()
    });
    let reporter = reporter::Reporter::new(connected, local.intervals, local.questions);
    supervisor.start("reporter", move || reporter.clone().run());
}

/// Starts what keeps the lifelines' addresses fresh; gives where the nucleus is connected.
fn start_lifelines(
    connected: &Connected,
    region: Option<String>,
    looked_up: watch::Sender<bool>,
    supervisor: &mut Supervisor,
) -> watch::Receiver<Vec<crate::host::net::uplinks::Uplink>> {
    let (watched, names) = watch::channel(Watched::default());
    let (uplinks, connections) = watch::channel(Vec::new());
    let (shared, host) = (connected.clone(), addresses::Host::new());
    supervisor.start("addresses", move || {
        let resolver = addresses::Resolver {
            connected: shared.clone(),
            region: region.clone(),
            watched: watched.clone(),
            uplinks: uplinks.clone(),
            looked_up: looked_up.clone(),
            host: host.clone(),
        };
        resolver.run()
    });
    let enforcer = connected.context.enforcer.clone();
    supervisor.start("dns-answers", move || {
        let feed = dns_feed::DnsFeed {
            watched: names.clone(),
            enforcer: enforcer.clone(),
        };
        feed.run()
    });
    connections
}

fn observation(capture: &Capture) -> ObserveSettings {
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

/// Makes the state directory ours alone. A second agent waits: two would fight over the same table.
async fn own(directory: &Path) -> Option<files::Lock> {
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

fn wanted(capture: &Capture) -> impl Fn(&str) -> bool + Send + Sync + 'static {
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
