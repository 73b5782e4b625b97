//! Tasks that only pass news on: changes of the packet filter and of interfaces for the enforcer, the link to the nucleus
//! for the board.
//!
//! In: the kernel's notifications, the link. Out: commands without content, because the enforcer looks at everything; the
//! reason why nothing more is heard, for the supervisor, which tells it and tries again. Meanwhile the enforcer's timer finds
//! what has changed.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use super::board::Board;
use super::context::Connected;
use super::enforcement::Enforcement;
use super::enforcer::EnforcerCommand;
use crate::cloud::link::{LinkState, Nucleus, ServerProcess};
use crate::host::net::link_watch::LinkWatch as InterfaceWatch;
use crate::host::netfilter::watch as filter_watch;
use crate::host::processes::process_table;
use crate::process::ProcessId;

/// What the board says of a link that stands.
pub(super) const CONNECTED: &str = "connected";
/// From one change of interfaces and routes that is looked at to the next: whoever makes hundreds of them a second has them looked
/// at together.
const PACE: Duration = Duration::from_millis(50);
/// From one look to the next whether the nucleus' process has ended, while it is not connected: a large one takes some
/// tenths of a second to be gone.
const BURIAL: Duration = Duration::from_millis(200);

/// Has the kernel compared whenever somebody changed the packet filter, so that a flushed table is back at once; gives why it
/// has ended.
pub(super) async fn packet_filter(enforcer: Enforcement) -> String {
    let watched = async {
        let mut changes = filter_watch::open(enforcer.standby())?;
        loop {
            let change = changes.recv().await.ok_or_else(thread_gone)??;
            enforcer.send(EnforcerCommand::KernelChanged(change)).await;
        }
    };
    found_late("changes of the packet filter", watched.await)
}

/// Has the rules follow interfaces and routes: what leaves by a new interface past the IP stack would be unseen, and a lifeline
/// that is reached another way be cut. Gives why it has ended.
pub(super) async fn interfaces(enforcer: Enforcement) -> String {
    let watched = async {
        let mut changes = InterfaceWatch::open()?.in_background()?;
        loop {
            changes.recv().await.ok_or_else(thread_gone)??;
            enforcer.send(EnforcerCommand::LinksChanged).await;
            tokio::time::sleep(PACE).await;
        }
    };
    found_late("changes of interfaces", watched.await)
}

fn thread_gone() -> io::Error {
    io::Error::other("the thread that waits for the kernel is gone")
}

fn found_late(what: &str, ended: io::Result<Infallible>) -> String {
    let Err(error) = ended;
    format!(
        "{what} are found by the timer only: {}",
        crate::error_text(&error)
    )
}

/// Shows the link to the nucleus on the board, and tells the nucleus that we run once it is known for which thing. Gives why it
/// has ended.
pub(super) async fn nucleus_link(connected: Connected) -> String {
    let introduce = async {
        connected.thing().await;
        if connected.is_stand_in {
            // The component is in a state that is the nucleus' own word: broken, or gone.
            return;
        }
        // Both nuclei take RUNNING; one that does not knows that we run anyway.
        if let Err(error) = connected.nucleus.say_running().await {
            let why = crate::error_text(&error);
            tracing::debug!("the nucleus did not take our state: {why}");
        }
    };
    tokio::join!(introduce, show(&connected.nucleus, &connected.context.board));
    "the client of the nucleus' IPC is gone".to_owned()
}

async fn show(nucleus: &Nucleus, board: &Board) {
    let mut link = nucleus.link();
    let mut server = None;
    loop {
        let text = match link.state() {
            LinkState::Connected => {
                server = nucleus.server();
                CONNECTED.to_owned()
            }
            LinkState::Away { why: None } => "connecting".to_owned(),
            LinkState::Away { why: Some(why) } => format!("not connected: {why}"),
        };
        let is_away = link.state() != LinkState::Connected;
        board.update(|status| {
            status.cloud.ipc = text;
            status.cloud.orphan.take_if(|_| !is_away);
        });
        let change = tokio::select! {
            change = link.changed() => change,
            // Shown until something changes.
            () = tell_orphan(server.filter(|_| is_away), board) => link.changed().await,
        };
        if !change {
            // What it said last is true no more, and nobody will say anything else.
            board.update(|status| status.cloud.ipc = "not connected: the client is gone".to_owned());
            return;
        }
    }
}

/// Says on the board that the nucleus' process has ended, once it has; nothing where it is not known or lives. Its
/// connections end before it does, and its number may be kept for a while by who does not bury it. The first process serves
/// the socket where systemd listens for the nucleus, and never ends.
async fn tell_orphan(server: Option<ServerProcess>, board: &Board) {
    let Some(server) = server else {
        return std::future::pending().await;
    };
    let process = ProcessId {
        pid: server.pid,
        start_ticks: server.start_ticks,
    };
    while !process_table::has_ended(process) {
        tokio::time::sleep(BURIAL).await;
    }
    let text = format!("process {} of the nucleus that started us has ended", process.pid);
    let mut known = None;
    board.update(|status| known = status.cloud.orphan.replace(text.clone()));
    // Each try to connect leads here anew.
    if known.as_ref() != Some(&text) {
        tracing::warn!("{text}: who is started by the next one takes over");
    }
}
