//! By which ways the lifelines' addresses are reached, as the host's routes say.
//!
//! In: that routes or interfaces have changed, the addresses. Out: what lifelines are tied to. Routes are read where it holds
//! nobody up, when something has changed, and from time to time: a change whose event was lost must not cut a lifeline for
//! long.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::Enforcer;
use crate::moment::Now;
use crate::quarantine::lifelines::tunnels::{Tunnel, told};
use crate::quarantine::lifelines::ways::{KnownWays, LinksOf, Ways};
use crate::quarantine::orders::order::Posture;
use crate::quarantine::plan::Plan;
use crate::quarantine::ports::Machine;
use crate::quarantine::proof::standing::Standing;

/// How often routes are read although nothing was heard of a change.
const READ_EVERY: Duration = Duration::from_secs(5);

/// The ways as they were read last.
#[derive(Debug, Default)]
pub(super) struct WayKeeper {
    known: KnownWays,
    /// The tunnels that there were.
    tunnels: Vec<Tunnel>,
    /// Which links those of the addresses have that every link may have.
    links: LinksOf,
    /// For which addresses.
    addresses: BTreeSet<IpAddr>,
    /// Uptime at which they were read; none where something has changed since.
    read: Option<Duration>,
}

impl WayKeeper {
    /// Something has changed.
    pub(super) const fn look_again(&mut self) {
        self.read = None;
    }

    /// It is known anew by which links addresses of links are reached.
    pub(super) fn note_links(&mut self, links: LinksOf) {
        if self.links != links {
            self.links = links;
            self.look_again();
        }
    }

    /// What lifelines are tied to.
    pub(super) fn ties(&self) -> Ways {
        self.known.ties()
    }

    /// What of them is not kept where the plan asks for them, each a sentence.
    pub(super) fn gaps(&self, plan: &Plan) -> Vec<String> {
        if plan.is_normal() {
            return Vec::new();
        }
        self.known.gaps().to_vec()
    }

    /// Tunnels that a plan's lifelines lead through and the plan cuts, each a sentence.
    pub(super) fn cut_tunnels(&self, plan: &Plan, standing: &Standing) -> Vec<String> {
        match &plan.ways {
            Ways::Tied(ways) if plan.posture == Posture::Isolate => {
                let confirmed = standing.confirms(&plan.id());
                told(ways.iter(), &self.tunnels, &plan.allow, confirmed)
            }
            Ways::Tied(_) | Ways::Any { .. } => Vec::new(),
        }
    }

    fn is_fresh(&self, addresses: &BTreeSet<IpAddr>, now: Duration) -> bool {
        let young = |read| now.saturating_sub(read) < READ_EVERY;
        self.addresses == *addresses && self.read.is_some_and(young)
    }
}

impl<M: Machine> Enforcer<M> {
    /// Reads the routes, where what is known of them may be old.
    pub(super) async fn look_for_ways(&mut self, now: Now) {
        let endpoints = self.addresses.endpoints().into_iter();
        let addresses: BTreeSet<IpAddr> = endpoints.map(|endpoint| endpoint.address).collect();
        if self.ways.is_fresh(&addresses, now.uptime) {
            return;
        }
        let found = self.filter.ways(&addresses).await;
        let ways = found.map(|found| {
            self.ways.tunnels = found.tunnels;
            found.ways.by_their_links(&self.ways.links)
        });
        self.ways.known.note(&addresses, ways);
        self.ways.addresses = addresses;
        self.ways.read = Some(now.uptime);
    }
}
