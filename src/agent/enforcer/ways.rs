//! By which ways the lifelines' addresses are reached, as the host's routes say.
//!
//! In: that routes or interfaces have changed, the addresses. Out: what lifelines are tied to. Routes are read where it holds
//! nobody up, when something has changed, and from time to time: a change whose event was lost must not cut a lifeline for
//! long.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::Enforcer;
use super::filter::Mission;
use crate::Gather;
use crate::moment::Now;
use crate::quarantine::lifelines::tunnels::{Tunnel, told};
use crate::quarantine::lifelines::ways::{KnownWays, LinksOf, Ways};
use crate::quarantine::orders::order::Posture;
use crate::quarantine::plan::Plan;
use crate::quarantine::ports::Machine;
use crate::quarantine::proof::standing::Standing;

/// How often routes are read although nothing was heard of a change.
const READ_EVERY: Duration = Duration::from_secs(5);

/// From one time that next hops are met anew to the next.
const MEET_EVERY: Duration = Duration::from_secs(5);

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
    /// Somebody may have said wrongly on a link who is where.
    is_doubted: bool,
    /// Uptime at which next hops were met anew last.
    met: Option<Duration>,
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

    /// The channel is silent, or nobody was kept so far from saying wrongly on a link who is where.
    pub(super) const fn doubt_next_hops(&mut self) {
        self.is_doubted = true;
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
    /// Whoever makes frames by hand may have told a router where the device is, or a switch where the router is, before he was cut; they
    /// believe it for minutes, some for hours. Where the kernel asks for its next hops they hear better.
    pub(super) async fn meet_next_hops(&mut self, mission: &Mission, now: Now) {
        let young = |met| now.uptime.saturating_sub(met) < MEET_EVERY;
        let Ways::Tied(ways) = self.ways.ties() else {
            return;
        };
        if !self.ways.is_doubted || !mission.cuts() || self.ways.met.is_some_and(young) {
            return;
        }
        self.filter.meet_next_hops(&ways).await;
        (self.ways.is_doubted, self.ways.met) = (false, Some(now.uptime));
    }

    /// Reads the routes, where what is known of them may be old.
    pub(super) async fn look_for_ways(&mut self, now: Now) {
        let endpoints = self.addresses.endpoints().into_iter();
        let addresses: BTreeSet<IpAddr> = endpoints.map(|endpoint| endpoint.address).in_set();
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
