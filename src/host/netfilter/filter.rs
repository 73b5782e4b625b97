//! The kernel's packet filter as enforcement asks for it: [`PacketFilter`], straight over netlink.
//!
//! No program is started between an order and its effect, and nothing here grows with what others have in the kernel. Questions
//! and transactions go through a thread of their own with a limit; it keeps its sockets, so it needs no descriptor and no
//! thread at the moment at which a device is exhausted.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nf_tables::Batch;
use nf_tables::socket::Connection;

use super::sockets::FilterSockets;
use super::standby::Standby;
use super::{WORKER, kernel, trial};
use crate::error_text;
use crate::host::clock;
use crate::host::worker::Worker;
use crate::moment::Now;
use crate::observe::link::Link;
use crate::quarantine::lifelines::tunnels::Reached;
use crate::quarantine::lifelines::ways::Way;
use crate::quarantine::plan::tracked::Crowd;
use crate::quarantine::ports::{PacketFilter, StoodIn};
use crate::quarantine::proof::canary::CanaryFate;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::ruleset::verify::{self, Comparison};
use crate::quarantine::ruleset::{Barred, Barrier, CarriedCounters, EgressMeans, Lack, Layer, Ruleset};

/// For one piece of work: some questions of which each has a limit of its own, and the comparison of 100,000 remotes.
const LIMIT: Duration = Duration::from_secs(15);

/// The packet filter of the network namespace of the thread that first asks.
pub struct KernelFilter {
    kernel: Worker<FilterSockets>,
    /// The newest generation whose transaction is complete, until the thread knows it.
    settled: Option<u32>,
    standby: Standby,
}

impl KernelFilter {
    /// What is to be put back at once stands by in `standby`, for whoever watches.
    pub(crate) fn new(standby: Standby) -> Self {
        Self {
            kernel: Worker::urgent(WORKER, LIMIT),
            settled: None,
            standby,
        }
    }

    /// Has a transaction carried out; what stood by is withdrawn first, so the batch is made for what it has left behind.
    async fn commit(
        &mut self,
        batch: impl FnOnce(&mut Connection) -> Result<Batch, Obstacle> + Send + 'static,
    ) -> Result<(), Obstacle> {
        self.standby.withdraw();
        let standby = self.standby.clone();
        self.ask(move |kernel| {
            standby.settle();
            let mut batch = batch(kernel)?;
            kernel::commit(kernel, &mut batch)
        })
        .await
    }

    /// Asks the kernel for something, or tells it something.
    async fn ask<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&mut Connection) -> Result<T, Obstacle> + Send + 'static,
    ) -> Result<T, Obstacle> {
        let settled = self.settled.take();
        let asked = self.kernel.ask(move |sockets| {
            sockets.ask(|kernel| {
                if let Some(generation) = settled {
                    kernel.note_settled(generation);
                }
                question(kernel)
            })
        });
        asked.await.unwrap_or_else(|error| {
            Err(Obstacle::FilterSilent {
                why: error_text(&error),
            })
        })
    }
}

impl PacketFilter for KernelFilter {
    async fn generation(&mut self) -> Result<u32, Obstacle> {
        self.ask(kernel::generation).await
    }

    fn note_settled(&mut self, generation: u32) {
        self.settled = Some(generation);
    }

    async fn tables(&mut self) -> Result<BTreeSet<Layer>, Obstacle> {
        self.ask(kernel::tables).await
    }

    async fn try_out(&mut self) -> Result<(), Obstacle> {
        self.ask(kernel::try_out).await
    }

    async fn lacks(&mut self, loudly: bool) -> Result<Vec<Lack>, Obstacle> {
        self.ask(move |kernel| kernel::lacking(kernel, loudly)).await
    }

    async fn compare(
        &mut self,
        layers: &BTreeSet<Layer>,
        wanted: &Arc<Ruleset>,
        before: Option<&Arc<Ruleset>>,
        now: Now,
    ) -> Result<Comparison, Obstacle> {
        let (layers, wanted, before) = (layers.clone(), Arc::clone(wanted), before.map(Arc::clone));
        self.ask(move |kernel| {
            let listings = kernel::list(kernel, &layers, &wanted, before.as_deref())?;
            Ok(verify::compare(
                &wanted,
                &listings,
                before.as_deref(),
                clock::since(now),
            ))
        })
        .await
    }

    async fn load(
        &mut self,
        ruleset: &Arc<Ruleset>,
        counted: &CarriedCounters,
        now: Now,
    ) -> Result<(), Obstacle> {
        let (ruleset, counted) = (Arc::clone(ruleset), counted.clone());
        self.commit(move |kernel| {
            // Asked here: what stood by may have come back until a moment ago.
            let present = kernel::tables(kernel)?;
            Ok(ruleset.load_batch(&present, &counted, clock::since(now)))
        })
        .await
    }

    async fn change(
        &mut self,
        ruleset: &Arc<Ruleset>,
        held: &Arc<Ruleset>,
        counted: &CarriedCounters,
        generation: u32,
        now: Now,
    ) -> Result<(), Obstacle> {
        let (ruleset, held, counted) = (Arc::clone(ruleset), Arc::clone(held), counted.clone());
        self.commit(move |kernel| {
            let handles = kernel::rule_handles(kernel, &ruleset, &held)?;
            let batch = ruleset.change_batch(&held, &handles, &counted, generation, clock::since(now));
            batch.ok_or_else(|| Obstacle::Unreadable {
                why: "the kernel lists other rules than it was given".to_owned(),
            })
        })
        .await
    }

    async fn stand_by(
        &mut self,
        ruleset: &Arc<Ruleset>,
        counted: &CarriedCounters,
        now: Now,
    ) -> Result<(), Obstacle> {
        let (ruleset, counted, standby) = (Arc::clone(ruleset), counted.clone(), self.standby.clone());
        let ticket = standby.ticket();
        self.ask(move |_| {
            standby.set(ruleset, counted, now, ticket);
            Ok(())
        })
        .await
    }

    fn withdraw_standby(&mut self) {
        self.standby.withdraw();
    }

    fn stood_in(&mut self) -> Option<StoodIn> {
        self.standby.stood_in()
    }

    async fn counted(&mut self) -> Result<CarriedCounters, Obstacle> {
        self.ask(kernel::counted).await
    }

    async fn egress_devices(&mut self) -> Result<BTreeSet<String>, Obstacle> {
        self.ask(kernel::egress_devices).await
    }

    async fn interfaces(&mut self) -> Result<(Vec<Link>, usize), String> {
        let listed = self.kernel.ask(FilterSockets::links).await;
        listed.unwrap_or_else(|error| Err(error_text(&error)))
    }

    async fn ways(&mut self, to: &BTreeSet<IpAddr>) -> Result<Reached, String> {
        let to = to.clone();
        let listed = self.kernel.ask(move |sockets| sockets.ways(&to)).await;
        listed.unwrap_or_else(|error| Err(error_text(&error)))
    }

    async fn meet_next_hops(&mut self, ways: &[Way]) {
        let ways = ways.to_vec();
        let met = self
            .kernel
            .ask(move |sockets| sockets.meet_next_hops(&ways))
            .await;
        let met = met.unwrap_or_else(|error| Err(error_text(&error)));
        if let Err(why) = met {
            tracing::debug!(why, "what was learned of next hops stays");
        }
    }

    async fn crowd(&mut self) -> Option<Crowd> {
        self.kernel.ask(FilterSockets::crowd).await.ok().flatten()
    }

    async fn egress_means(&mut self, only_old: bool) -> Option<EgressMeans> {
        if only_old && !trial::is_old() {
            return None;
        }
        self.kernel.ask(|_| trial::egress()).await.ok().flatten()
    }

    async fn bar(&mut self, barrier: Option<&Barrier>) -> Result<Barred, Obstacle> {
        let barrier = barrier.cloned();
        let asked = self.kernel.ask(move |sockets| sockets.bar(barrier.as_ref()));
        let barred = asked.await.unwrap_or_else(|error| Err(error_text(&error)));
        barred.map_err(|why| Obstacle::NotBarred { why })
    }

    async fn send_canary(&mut self, to: SocketAddr) -> CanaryFate {
        let sent = self.kernel.ask(move |sockets| sockets.send_canary(to)).await;
        sent.unwrap_or_else(|error| CanaryFate::Unclear(error_text(&error)))
    }
}
