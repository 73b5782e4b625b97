//! Tasks that only pass news on: changes of the packet filter and of interfaces for the enforcer, the link to the nucleus
//! for the board.
//!
//! In: the kernel's notifications, the link. Out: commands without content, because the enforcer looks at everything. What
//! cannot be watched is tried again, and meanwhile found by the enforcer's timer.

use std::time::Duration;

use super::board::Board;
use super::context::Connected;
use super::enforcement::Enforcement;
use super::enforcer::EnforcerCommand;
use crate::cloud::link::{LinkState, LinkWatch};
use crate::host::net::link_watch::LinkWatch as InterfaceWatch;
use crate::host::netfilter::watch as nft_watch;

/// After the kernel could not be watched: what it refuses once it refuses for long.
const RETRY: Duration = Duration::from_secs(60);

/// Has the kernel compared whenever somebody changed the packet filter, so that a flushed table is back at once.
pub(super) async fn packet_filter(enforcer: Enforcement) {
    let mut said = Said::default();
    loop {
        match nft_watch::open() {
            Ok(mut changes) => {
                while let Some(change) = changes.recv().await {
                    enforcer.send(EnforcerCommand::KernelChanged(change)).await;
                }
                said.once(
                    "changes of the packet filter",
                    "the kernel ended the subscription",
                );
            }
            Err(error) => said.once("changes of the packet filter", &crate::error_text(&error)),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Has the rules follow the interfaces: those of a new one would leave past the IP stack unseen.
pub(super) async fn interfaces(enforcer: Enforcement) {
    let mut said = Said::default();
    loop {
        match InterfaceWatch::open().and_then(InterfaceWatch::in_background) {
            Ok(mut changes) => {
                while changes.recv().await.is_some() {
                    enforcer.send(EnforcerCommand::LinksChanged).await;
                }
                said.once("changes of interfaces", "the kernel ended the subscription");
            }
            Err(error) => said.once("changes of interfaces", &crate::error_text(&error)),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Shows the link to the nucleus on the board, and tells the nucleus that we run once it is known for which thing.
pub(super) async fn nucleus_link(connected: Connected) {
    let introduce = async {
        connected.thing().await;
        // Both nuclei take RUNNING; one that does not knows that we run anyway.
        if let Err(error) = connected.nucleus.say_running().await {
            let why = crate::error_text(&error);
            tracing::debug!("the nucleus did not take our state: {why}");
        }
    };
    tokio::join!(
        introduce,
        show(connected.nucleus.link(), &connected.context.board)
    );
}

async fn show(mut link: LinkWatch, board: &Board) {
    loop {
        let text = match link.state() {
            LinkState::Connected => "connected".to_owned(),
            LinkState::Away { why: None } => "connecting".to_owned(),
            LinkState::Away { why: Some(why) } => format!("not connected: {why}"),
        };
        board.update(|status| status.cloud.ipc = text);
        if !link.changed().await {
            return;
        }
    }
}

/// Tells a fault that stays only once.
#[derive(Default)]
struct Said(Option<String>);

impl Said {
    fn once(&mut self, what: &str, why: &str) {
        if self.0.as_deref() != Some(why) {
            tracing::warn!("{what} are found by the timer only: {why}");
            self.0 = Some(why.to_owned());
        }
    }
}
