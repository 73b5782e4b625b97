//! The end of orders that nobody is left to take back, where the owner wants that.
//!
//! In: how we were started, the link to the nucleus, the configuration, the live orders. Out: one command for the enforcer, and on
//! the board when it will come. A nucleus is gone for an agent that the guard started as long as none takes it; for one that a
//! nucleus started, once that nucleus' process has ended too: one that only does not speak is there to be mended, or starts us
//! again. Absent: the count itself (`quarantine::orders::solitude`).

use std::time::Duration;

use jiff::Timestamp;

use super::board::Board;
use super::context::Context;
use super::enforcer::EnforcerCommand;
use crate::cloud::link::{LinkState, LinkWatch, Nucleus};
use crate::host::clock;
use crate::host::processes::process_table;
use crate::process::ProcessId;
use crate::quarantine::orders::solitude::Solitude;

/// From one look to the next while no nucleus takes us.
const LOOK: Duration = Duration::from_secs(2);

/// Looks whether there is a nucleus, as far as we can know.
pub(super) struct NucleusLook {
    /// None where none can be tried.
    nucleus: Option<(Nucleus, LinkWatch)>,
    /// Whether the guard started us, and no nucleus.
    is_stand_in: bool,
    /// Whoever took us last.
    server: Option<ProcessId>,
    /// Whether it did at the last look.
    is_connected: bool,
}

impl NucleusLook {
    pub(super) fn new(nucleus: Option<Nucleus>, is_stand_in: bool) -> Self {
        let nucleus = nucleus.map(|nucleus| {
            let link = nucleus.link();
            (nucleus, link)
        });
        Self {
            nucleus,
            is_stand_in,
            server: None,
            is_connected: false,
        }
    }

    fn is_there(&mut self) -> bool {
        let connected = self
            .nucleus
            .as_mut()
            .and_then(|(nucleus, link)| (link.state() == LinkState::Connected).then_some(nucleus));
        self.is_connected = connected.is_some();
        if let Some(nucleus) = connected {
            self.server = nucleus.server().map(|server| ProcessId {
                pid: server.pid,
                start_ticks: server.start_ticks,
            });
        }
        let is_gone = self.is_stand_in || self.server.is_some_and(process_table::has_ended);
        self.is_connected || !is_gone
    }

    /// Waits for a change of the link; cancel-safe. `false`: there will be none.
    async fn changed(&mut self) -> bool {
        match &mut self.nucleus {
            Some((_, link)) => link.changed().await,
            None => std::future::pending().await,
        }
    }
}

/// Ends, for ever, what came through a nucleus when there has been none for as long as the owner has configured.
pub(super) async fn release(context: Context, mut look: NucleusLook) -> String {
    let mut configs = context.config.clone();
    let mut solitude = Solitude::begin(clock::now().uptime);
    loop {
        let now = clock::now();
        solitude.note(look.is_there(), now.uptime);
        let after = configs.borrow_and_update().isolation.release_without_nucleus;
        let left = solitude.left(after, &context.enforcer.state().borrow().orders);
        tell(
            &context.board,
            left.and_then(|left| now.wall.checked_add(left).ok()),
        );
        if let (Some(Duration::ZERO), Some(after)) = (left, after) {
            let seconds = after.as_secs();
            let why = format!("no nucleus for {seconds} s (isolation.releaseWithoutNucleusSeconds)");
            // Its answer is waited for: an enforcer that is late is asked once. One that has failed is asked again.
            let command = EnforcerCommand::ReleaseWithoutNucleus { why };
            context.enforcer.ask(command).await;
            context.board.update(|status| status.releases_at = None);
        }
        // Where nothing can end there is nothing to look for.
        let is_needed = after.is_some() && !look.is_connected;
        tokio::select! {
            () = tokio::time::sleep(LOOK), if is_needed => {}
            there = look.changed() => if !there {
                return "the client of the nucleus' IPC is gone".to_owned();
            },
            Ok(()) = configs.changed() => {}
        }
    }
}

/// Shows when orders end by themselves, and logs that they will, or do not after all.
fn tell(board: &Board, at: Option<Timestamp>) {
    let mut before = None;
    board.update(|status| before = std::mem::replace(&mut status.releases_at, at));
    match (before, at) {
        (None, Some(at)) => tracing::warn!(
            "no nucleus is there: the orders of shadow and deployment END BY THEMSELVES at {at}, unless one is before"
        ),
        (Some(_), None) => tracing::info!("no order ends by itself for want of a nucleus"),
        _ => {}
    }
}
