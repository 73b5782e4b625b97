//! The kernel's packet filter as enforcement asks for it: [`PacketFilter`], by netlink and the `nft` program.
//!
//! Questions to the kernel go through a thread of their own with a limit; `nft` is a process with a limit
//! ([`super::nft`]). What goes wrong becomes an [`Obstacle`].

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;

use super::canary;
use super::kernel::NftKernel;
use super::nft::{self, NftError};
use crate::error_text;
use crate::host::net::links::links;
use crate::host::net::netlink::NetlinkError;
use crate::host::worker::Worker;
use crate::observe::link::Link;
use crate::quarantine::ports::{CanaryFate, PacketFilter};
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::ruleset::verify::Listings;
use crate::quarantine::ruleset::{CarriedCounters, Layer, Ruleset, SetElements};

/// The kernel answers within microseconds; a dump of a thousand interfaces takes milliseconds, and another program's
/// large transaction holds everybody up for a second or two.
const LIMIT: Duration = Duration::from_secs(5);

/// The question channel of the thread, open while it works.
type Channel = Option<NftKernel>;

/// The packet filter of the network namespace of the thread that first asks.
pub struct KernelFilter {
    questions: Worker<Channel>,
}

impl Default for KernelFilter {
    fn default() -> Self {
        Self {
            questions: Worker::new("nft-questions", LIMIT),
        }
    }
}

impl KernelFilter {
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut NftKernel) -> Result<T, NetlinkError> + Send + 'static,
    ) -> Result<T, Obstacle> {
        let asked = self.questions.ask(move |channel| {
            let mut open = match channel.take() {
                Some(open) => open,
                None => NftKernel::open()?,
            };
            let answer = question(&mut open)?;
            // One that failed is not used again: what it still has to say would be taken for the next answer.
            *channel = Some(open);
            Ok(answer)
        });
        match asked.await {
            Ok(answer) => answer.map_err(|error: NetlinkError| silent(&error)),
            Err(error) => Err(Obstacle::FilterSilent {
                why: error_text(&error),
            }),
        }
    }
}

fn silent(error: &NetlinkError) -> Obstacle {
    if error.refusal() == Some(Errno::EPERM) {
        Obstacle::NotPermitted
    } else {
        Obstacle::FilterSilent {
            why: error_text(error),
        }
    }
}

impl From<NftError> for Obstacle {
    fn from(error: NftError) -> Self {
        match error {
            NftError::Missing => Self::NftMissing,
            NftError::NotPermitted => Self::NotPermitted,
            NftError::Refused { complaint } => Self::Refused { complaint },
            NftError::Run { .. } => Self::NftFailed {
                why: error_text(&error),
            },
            NftError::Timeout | NftError::Listing(_) => Self::NftUnreadable {
                why: error_text(&error),
            },
        }
    }
}

impl PacketFilter for KernelFilter {
    async fn generation(&mut self) -> Result<u32, Obstacle> {
        self.ask(NftKernel::generation).await
    }

    async fn tables(&mut self) -> Result<BTreeSet<Layer>, Obstacle> {
        self.ask(NftKernel::tables).await
    }

    async fn list(&mut self, layers: &BTreeSet<Layer>) -> Result<Listings, Obstacle> {
        Ok(nft::list(layers).await?)
    }

    async fn load(
        &mut self,
        ruleset: &Ruleset,
        present: &BTreeSet<Layer>,
        counted: &CarriedCounters,
        now: Timestamp,
    ) -> Result<(), Obstacle> {
        run(&ruleset.load(present, counted, now)).await
    }

    async fn change(
        &mut self,
        ruleset: &Ruleset,
        held: &SetElements,
        now: Timestamp,
    ) -> Result<(), Obstacle> {
        run(&ruleset.change(held, now)).await
    }

    async fn counted(&mut self) -> Result<CarriedCounters, Obstacle> {
        self.ask(NftKernel::counted).await
    }

    async fn egress_devices(&mut self) -> Result<BTreeSet<String>, Obstacle> {
        self.ask(NftKernel::egress_devices).await
    }

    async fn interfaces(&mut self) -> Result<Vec<Link>, String> {
        match self.questions.ask(|_| links()).await {
            Ok(links) => links.map_err(|error| error_text(&error)),
            Err(error) => Err(error_text(&error)),
        }
    }

    async fn send_canary(&mut self, to: SocketAddr) -> CanaryFate {
        let sent = self.questions.ask(move |_| canary::send(to)).await;
        sent.unwrap_or_else(|error| CanaryFate::Unclear(error_text(&error)))
    }
}

/// An empty transaction is none.
async fn run(text: &str) -> Result<(), Obstacle> {
    if text.is_empty() {
        return Ok(());
    }
    Ok(nft::load(text).await?)
}
