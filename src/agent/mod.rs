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
mod pulse;
mod reporter;
mod shadow;
mod start;
mod supervisor;
mod watches;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cloud::link::Nucleus;
use crate::cloud::nucleus;
use crate::config::document::Development;
use crate::host::files::state_directory;
use crate::host::{clock, files};
use board::Board;
use channel::{Channel, ChannelState};
use context::Context;
use enforcement::EnforcerTask;
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
    // Held until every task has ended: a successor must not begin while we still write.
    let mut lock = None;
    let mut ended = None;
    tokio::select! {
        () = serve(&start, lookup, cell, board, &mut supervisor, &mut lock, &mut ended) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; the rules in the kernel stay as they are");
    supervisor.stop().await;
    if let Some(enforcer) = ended {
        enforcer.last_words().await;
    }
    drop(lock);
    Ok(())
}

async fn serve(
    start: &Start,
    lookup: impl Fn(&str) -> Option<String>,
    cell: watch::Sender<ChannelState>,
    board: Board,
    supervisor: &mut Supervisor,
    lock: &mut Option<files::FileLock>,
    ended: &mut Option<EnforcerTask>,
) {
    let directory = &start.state_directory;
    *lock = own(directory).await;
    let last_good = configuration::last_good(directory, start.development);
    let config = last_good.config;
    let is_configured = last_good.source != configuration::DEFAULTS;
    board.update(|status| {
        status.version = env!("CARGO_PKG_VERSION").into();
        status.started = Some(clock::now().wall);
        status.configuration.source = last_good.source.into();
        status.mode = configuration::mode(&config);
    });
    let settings = configuration::settings(&config, None);
    let (enforcer, enforcement) = enforcement::restore(directory, settings).await;
    *ended = Some(enforcer.clone());
    supervisor.start("enforcer", move || enforcer.clone().run());

    let (publish, configs) = watch::channel(config.clone());
    let context = Context {
        config: configs,
        is_configured,
        channel: Channel::new(cell, enforcement.clone()),
        enforcer: enforcement,
        board,
        state_directory: directory.clone(),
    };
    let local = start::local(start, &config, &context, supervisor);
    let region = lookup("AWS_REGION").as_deref().and_then(nucleus::region);
    match Nucleus::connect(lookup) {
        Ok(nucleus) => start::connected(start, context, nucleus, region, publish, local, supervisor),
        Err(error) => {
            let why = crate::error_text(&error);
            tracing::error!("the nucleus cannot be reached, only local functions work: {why}");
            context.board.update(|status| status.cloud.ipc = why);
        }
    }
    supervisor.run().await;
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
