//! Wiring: what is started, in which order, and how it stops.
//!
//! 1. state directory and lock (a predecessor that is deaf is ended: `takeover`), last good configuration
//! 2. **the journal is enforced** ([`enforcer`]), before the network is used for anything
//! 3. what needs no nucleus: capture, control socket, intervals, the local detector
//! 4. the nucleus: configuration, lifeline addresses, then shadow and reports
//!
//! Everything that goes on is a task of the `supervisor`, made from what is shared (`context`).
//!
//! Invariants: no failure after step 1 ends the process, because the nucleus rations exits (three an hour); no task is
//! silently gone; stopping leaves the kernel's rules as they are and takes less than a second, whatever hangs; a disk that
//! does not answer is not waited for.

mod addresses;
mod board;
mod channel;
pub mod configuration;
mod context;
mod control;
mod detector;
mod dns_feed;
mod endpoints_memory;
mod endpoints_question;
mod enforcement;
pub mod enforcer;
mod holder;
mod host_reader;
mod names;
mod nucleus_watch;
pub mod observer;
pub(crate) mod offline;
mod publishing;
mod pulse;
mod reporter;
mod settling;
mod shadow;
mod stand_by;
mod start;
mod supervisor;
mod takeover;
mod watches;
mod without_nucleus;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use crate::cloud::link::Nucleus;
use crate::cloud::nucleus;
use crate::config::document::Development;
use crate::host::spare::Spare;
use crate::host::worker::Worker;
use crate::host::{clock, files};
use crate::report::last::LastReport;
use board::Board;
use channel::{Channel, ChannelState};
use configuration::LastGood;
use context::Context;
use enforcement::{Enforcement, EnforcerTask};
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
    /// Since when nobody else runs, where the guard started us; absent where a nucleus did.
    pub guarded: Option<Timestamp>,
    /// Our working directory, from which the nucleus may name its socket.
    pub directory: Option<PathBuf>,
    /// Whether a guard is to stand by.
    pub has_guard: bool,
}

/// Runs the agent until it is told to end, or stands in for one that is there. `lookup` reads the environment.
pub async fn run(start: Start, lookup: impl Fn(&str) -> Option<String>, told_to_end: oneshot::Receiver<()>) {
    let (cell, channel) = watch::channel(ChannelState::default());
    let board = Board::new(channel);
    let mut supervisor = Supervisor::new(board.clone());
    let mut left = Left::default();
    tokio::select! {
        () = serve(&start, lookup, cell, board, &mut supervisor, &mut left) => {}
        // From the first moment: what is waited for at the start may take longer than the watchdog's patience.
        () = pulse::run() => {}
        _ = told_to_end => {}
    }
    tracing::info!("stopping; the rules in the kernel stay as they are");
    left.rest();
    supervisor.stop().await;
    if let Some(enforcer) = left.enforcer {
        enforcer.last_words().await;
    }
    // The kernel lets it go when the process has ended: a successor must not begin while a thread of ours still writes.
    std::mem::forget(left.lock);
}

/// What is left to do, and to leave, once everything has stopped.
#[derive(Default)]
struct Left {
    lock: Option<files::FileLock>,
    enforcer: Option<EnforcerTask>,
    /// The state of enforcement, and what the guard is left.
    guarded: Option<(Enforcement, Arc<stand_by::Testament>)>,
}

impl Left {
    /// Tells the guard to rest where nothing is ordered.
    fn rest(&self) {
        if let Some((enforcement, testament)) = &self.guarded
            && stand_by::is_done(&enforcement.state().borrow())
        {
            testament.rest();
        }
    }
}

async fn serve(
    start: &Start,
    lookup: impl Fn(&str) -> Option<String>,
    cell: watch::Sender<ChannelState>,
    board: Board,
    supervisor: &mut Supervisor,
    left: &mut Left,
) {
    let directory = &start.state_directory;
    let spare = Spare::take();
    let disk = Worker::new("state-directory", takeover::DISK_LIMIT);
    let Some(owned) = takeover::own(start, &lookup, &disk).await else {
        return;
    };
    left.lock = owned.lock;
    let testament = Arc::new(stand_by::Testament::new(start, &lookup));
    tell_volatile(start, &disk, &board).await;
    let last_good = last_good(start, &disk).await;
    let config = last_good.config;
    board.update(|status| {
        status.version = env!("CARGO_PKG_VERSION").into();
        status.started = Some(clock::now().wall);
        status.predecessor = owned.predecessor;
        status.guarded = start.guarded;
        status.configuration.source = last_good.source.into();
        status.mode = configuration::mode(&config);
    });
    let settings = configuration::settings(&config, None);
    let (enforcer, enforcement) = enforcement::restore(directory, &start.control_socket, settings).await;
    left.enforcer = Some(enforcer.clone());
    left.guarded = Some((enforcement.clone(), Arc::clone(&testament)));
    supervisor.start("enforcer", move || enforcer.clone().run());
    // One that a guard has started is told nothing of it after a boot.
    if start.has_guard || start.guarded.is_some() {
        supervisor.start("guard", move || Arc::clone(&testament).keep_guard());
    }

    let (publish, configs) = watch::channel(config.clone());
    let context = Context {
        config: configs,
        in_force: watch::Sender::new(last_good.document),
        channel: Channel::new(cell, enforcement.clone()),
        enforcer: enforcement,
        board,
        state_directory: directory.clone(),
    };
    let last = last_report(start, &disk).await;
    let local = start::local(start, &config, last.as_ref(), &context, spare, supervisor);
    let region = lookup("AWS_REGION").as_deref().and_then(nucleus::region);
    let is_done = start
        .guarded
        .map(|_| stand_by::until_done(context.enforcer.clone(), context.board.clone()));
    let lookup =
        |name: &str| lookup(name).or_else(|| start.guarded.and_then(|_| stand_by::no_nucleus(name, start)));
    let nucleus = Nucleus::connect(lookup);
    start::with_or_without(start, &context, nucleus.as_ref().ok(), supervisor);
    match nucleus {
        Ok(nucleus) => start::connected(start, context, nucleus, region, publish, local, supervisor),
        Err(error) => {
            let why = crate::error_text(&error);
            tracing::error!("the nucleus cannot be reached, only local functions work: {why}");
            context.board.update(|status| status.cloud.ipc = why);
        }
    }
    go_on(supervisor, is_done).await;
}

/// Runs for ever, or until a stand-in is done.
async fn go_on(supervisor: &mut Supervisor, is_done: Option<impl Future<Output = ()>>) {
    match is_done {
        None => supervisor.run().await,
        Some(is_done) => tokio::select! {
            () = supervisor.run() => {}
            () = is_done => tracing::info!("nothing is ordered and no nucleus takes us: nothing is left to stand in for"),
        },
    }
}

/// Tells where the state directory is one that a restart of the machine forgets.
async fn tell_volatile(start: &Start, disk: &Worker, board: &Board) {
    let directory = start.state_directory.clone();
    let look = move || files::volatile::told(&directory);
    let told = read_early(disk, "where the state directory lies", look).await;
    if let Some(why) = told.flatten() {
        tracing::warn!("{why}");
        board.update(|status| status.volatile = Some(why));
    }
}

/// The last good configuration, or the defaults while the disk does not answer.
async fn last_good(start: &Start, disk: &Worker) -> LastGood {
    let (directory, development) = (start.state_directory.clone(), start.development);
    let read = move || configuration::last_good(&directory, development);
    read_early(disk, "the last good configuration", read)
        .await
        .unwrap_or_else(LastGood::defaults)
}

/// The newest report of the run before. While it is not known, one may follow it too soon and be refused.
async fn last_report(start: &Start, disk: &Worker) -> Option<LastReport> {
    let directory = start.state_directory.clone();
    let read = move || reporter::memory::last_report(&directory);
    read_early(disk, "the newest report", read).await.flatten()
}

/// Reads what the start can do without; none, which is told, when the disk does not answer in time.
async fn read_early<T: Send + 'static>(
    disk: &Worker,
    what: &str,
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let problem = if disk.is_idle() {
        match disk.run(read).await {
            Ok(found) => return Some(found),
            Err(error) => crate::error_text(&error),
        }
    } else {
        // Waiting once is enough.
        "the disk still has no answer".to_owned()
    };
    tracing::error!("{what} could not be read, going on without it: {problem}");
    None
}
