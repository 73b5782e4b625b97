//! The kernel's packet filter as enforcement asks for it: [`PacketFilter`], by netlink and the `nft` program.
//!
//! Questions to the kernel go through a thread of their own with a limit, and so does `nft`, a process with a limit
//! ([`super::nft`]): to start it may take as long as its disk does. What goes wrong becomes an [`Obstacle`].

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;

use super::canary;
use super::kernel::NftKernel;
use super::load_watch::LoadWatch;
use super::nft::{self, Nft, NftError};
use crate::error_text;
use crate::host::net::links::links;
use crate::host::net::netlink::NetlinkError;
use crate::host::worker::Worker;
use crate::observe::link::Link;
use crate::quarantine::ports::{CanaryFate, PacketFilter};
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::ruleset::verify::{self, Comparison, Listings};
use crate::quarantine::ruleset::{CarriedCounters, Layer, Ruleset};

/// The kernel answers within microseconds; a dump of a thousand interfaces takes milliseconds, and another program's
/// large transaction holds everybody up for a second or two.
const LIMIT: Duration = Duration::from_secs(5);
/// nft has a limit of its own; what is listed of 100,000 remotes takes some hundred milliseconds to compare.
const PROGRAM_LIMIT: Duration = nft::LIMIT.saturating_add(Duration::from_secs(5));

/// The question channel of the thread, open while it works.
type Channel = Option<NftKernel>;

/// The packet filter of the network namespace of the thread that first asks.
pub struct KernelFilter {
    questions: Worker<Channel>,
    program: Worker<NftProgram>,
}

impl Default for KernelFilter {
    fn default() -> Self {
        Self {
            questions: Worker::urgent("nft-questions", LIMIT),
            program: Worker::urgent("nft", PROGRAM_LIMIT),
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

impl KernelFilter {
    /// Has something done with the program.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut NftProgram) -> Result<T, NftError> + Send + 'static,
    ) -> Result<T, Obstacle> {
        match self.program.ask(work).await {
            Ok(done) => Ok(done?),
            Err(error) => Err(Obstacle::NftUnreadable {
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
            NftError::Run { .. } | NftError::Crashed { .. } => Self::NftFailed {
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

    async fn try_out(&mut self) -> Result<(), Obstacle> {
        self.run(|program| program.nft.try_out()).await
    }

    async fn compare(
        &mut self,
        layers: &BTreeSet<Layer>,
        wanted: &Arc<Ruleset>,
        also: Option<&Arc<Ruleset>>,
        now: Timestamp,
    ) -> Result<Comparison, Obstacle> {
        let (layers, wanted, also) = (layers.clone(), Arc::clone(wanted), also.map(Arc::clone));
        let compared = self.run(move |program| {
            let (mut listings, mut unlisted) = (Listings::new(), Vec::new());
            for (layer, listed) in program.nft.list(&layers)? {
                match listed {
                    Ok(listing) => drop(listings.insert(layer, listing)),
                    Err(NftError::Refused { complaint }) => unlisted.push((layer, complaint)),
                    Err(error) => return Err(error),
                }
            }
            Ok((verify::compare(&wanted, listings, also.as_deref(), now), unlisted))
        });
        let (compared, unlisted) = compared.await?;
        // What nft says in words is no fact: a table that it does not list may be there all the same.
        let there = if unlisted.is_empty() {
            BTreeSet::new()
        } else {
            self.tables().await?
        };
        match unlisted.into_iter().find(|(layer, _)| there.contains(layer)) {
            Some((_, complaint)) => Err(Obstacle::Refused { complaint }),
            None => Ok(compared),
        }
    }

    async fn load(
        &mut self,
        ruleset: &Arc<Ruleset>,
        present: &BTreeSet<Layer>,
        counted: &CarriedCounters,
        now: Timestamp,
    ) -> Result<(), Obstacle> {
        let (ruleset, present, counted) = (Arc::clone(ruleset), present.clone(), counted.clone());
        self.run(move |program| {
            // Without it a load counts only where nobody else changes anything.
            program.watch = LoadWatch::open().ok();
            program.transact(&ruleset.load(&present, &counted, now))
        })
        .await
    }

    async fn only_ours(&mut self, generation: u32) -> Result<bool, Obstacle> {
        let touched = self.run(move |program| {
            let watch = program.watch.take();
            Ok(watch.and_then(|watch| watch.touched(generation).ok().flatten()))
        });
        Ok(touched.await? == Some(1))
    }

    async fn change(
        &mut self,
        ruleset: &Arc<Ruleset>,
        held: &Arc<Ruleset>,
        now: Timestamp,
    ) -> Result<(), Obstacle> {
        let (ruleset, held) = (Arc::clone(ruleset), Arc::clone(held));
        self.run(move |program| {
            let live = held.elements.clone().live(now);
            program.transact(&ruleset.change(&live, now))
        })
        .await
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

/// The program that loads and lists, and who touches our tables meanwhile.
#[derive(Default)]
struct NftProgram {
    nft: Nft,
    watch: Option<LoadWatch>,
}

impl NftProgram {
    /// An empty transaction is none.
    fn transact(&mut self, text: &str) -> Result<(), NftError> {
        if text.is_empty() {
            return Ok(());
        }
        self.nft.load(text)
    }
}
