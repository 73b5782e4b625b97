//! The sockets that enforcement needs, opened before an order comes.
//!
//! In: the first question, at the start. Out: sockets that stay open: questions and transactions of the packet filter, lists
//! of interfaces and routes, how full connection tracking is, canaries. Whoever takes away all descriptors afterwards keeps no order from the kernel. A socket that failed
//! is replaced by another one where there is one, and used again where there is none.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nf_tables::socket::Connection;

use super::canary::CanarySockets;
use super::kernel;
use crate::error_text;
use crate::host::net::conntrack::crowd_from;
use crate::host::net::frame_filters;
use crate::host::net::links::links_from;
use crate::host::net::neighbours::forget_from;
use crate::host::net::netlink::Netlink;
use crate::host::net::routes::ways_from;
use crate::observe::link::Link;
use crate::quarantine::lifelines::tunnels::Reached;
use crate::quarantine::lifelines::ways::Way;
use crate::quarantine::plan::tracked::Crowd;
use crate::quarantine::proof::canary::CanaryFate;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::ruleset::{Barred, Barrier};

/// What is kept open, by the thread that asks.
#[derive(Default)]
pub(super) struct FilterSockets {
    filter: Option<Connection>,
    links: Option<Netlink>,
    tracking: Option<Netlink>,
    canaries: CanarySockets,
    /// Interfaces whose discipline for filters was made for ours.
    disciplines: BTreeSet<u32>,
}

impl FilterSockets {
    /// Asks the packet filter.
    ///
    /// # Errors
    /// What stands in the way.
    pub(super) fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Connection) -> Result<T, Obstacle>,
    ) -> Result<T, Obstacle> {
        let filter = match self.filter.take() {
            Some(filter) => self.filter.insert(filter),
            None => {
                let opened = self.filter.insert(kernel::open()?);
                // Before anything is loaded, of which it could be taken for a change. Where it fails, the question says why.
                let _learned = opened.learn_to_wait();
                // At the first question, which nobody has ordered yet.
                self.links = Netlink::open(NETLINK_ROUTE).ok();
                self.tracking = Netlink::open(NETLINK_NETFILTER).ok();
                self.canaries.open();
                opened
            }
        };
        let answer = question(filter);
        if matches!(answer, Err(Obstacle::FilterSilent { .. })) {
            // A late answer is told apart by its number, so the old one will do.
            if let Ok(other) = kernel::open() {
                *filter = other;
            }
        }
        answer
    }

    /// The interfaces, and how many there are besides.
    ///
    /// # Errors
    /// Why they cannot be listed, for people.
    pub(super) fn links(&mut self) -> Result<(Vec<Link>, usize), String> {
        self.listed(|kept| links_from(kept).map_err(|error| error_text(&error)))
    }

    /// Every way to these addresses, and the tunnels.
    ///
    /// # Errors
    /// Why they are not known, for people.
    pub(super) fn ways(&mut self, to: &BTreeSet<IpAddr>) -> Result<Reached, String> {
        self.listed(|kept| ways_from(kept, to))
    }

    /// Forgets what was learned of the next hops of these ways.
    ///
    /// # Errors
    /// Why it stays, for people.
    pub(super) fn meet_next_hops(&mut self, ways: &[Way]) -> Result<(), String> {
        self.listed(|kept| forget_from(kept, ways).map_err(|error| error_text(&error)))
    }

    /// Makes the kernel hold these filters at the egress of interfaces, or none.
    ///
    /// # Errors
    /// Why it does not, for people.
    pub(super) fn bar(&mut self, barrier: Option<&Barrier>) -> Result<Barred, String> {
        let mut made = std::mem::take(&mut self.disciplines);
        let barred = self
            .listed(|kept| frame_filters::bar(kept, barrier, &mut made).map_err(|error| error_text(&error)));
        self.disciplines = made;
        barred
    }

    fn listed<T>(&mut self, list: impl FnOnce(&mut Netlink) -> Result<T, String>) -> Result<T, String> {
        let kept = match self.links.take() {
            Some(kept) => self.links.insert(kept),
            None => {
                let opened = Netlink::open(NETLINK_ROUTE).map_err(|error| error_text(&error))?;
                self.links.insert(opened)
            }
        };
        let listed = list(kept);
        if listed.is_err()
            && let Ok(other) = Netlink::open(NETLINK_ROUTE)
        {
            *kept = other;
        }
        listed
    }

    /// How full the table of connection tracking is; none where that is not told.
    pub(super) fn crowd(&mut self) -> Option<Crowd> {
        let mut kept = match self.tracking.take() {
            Some(kept) => kept,
            None => Netlink::open(NETLINK_NETFILTER).ok()?,
        };
        let told = crowd_from(&mut kept);
        self.tracking = Some(kept);
        told.inspect_err(|error| tracing::debug!("connection tracking: {}", error_text(error)))
            .ok()
    }

    /// Sends one datagram of one byte.
    pub(super) fn send_canary(&mut self, to: SocketAddr) -> CanaryFate {
        self.canaries.send(to)
    }
}
