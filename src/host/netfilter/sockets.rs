//! The sockets that enforcement needs, opened before an order comes.
//!
//! In: the first question, at the start. Out: three sockets that stay open: questions and transactions of the packet filter, lists
//! of interfaces, canaries. Whoever takes away all descriptors afterwards keeps no order from the kernel. A socket that failed
//! is replaced by another one where there is one, and used again where there is none.

use std::net::SocketAddr;

use netlink_sys::protocols::NETLINK_ROUTE;
use nf_tables::socket::Connection;

use super::canary::CanarySockets;
use super::kernel;
use crate::error_text;
use crate::host::net::links::links_from;
use crate::host::net::netlink::Netlink;
use crate::observe::link::Link;
use crate::quarantine::ports::CanaryFate;
use crate::quarantine::proof::obstacle::Obstacle;

/// What is kept open, by the thread that asks.
#[derive(Default)]
pub(super) struct FilterSockets {
    filter: Option<Connection>,
    links: Option<Netlink>,
    canaries: CanarySockets,
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
                // At the first question, which nobody has ordered yet.
                self.links = Netlink::open(NETLINK_ROUTE).ok();
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

    /// Every interface.
    ///
    /// # Errors
    /// Why they cannot be listed, for people.
    pub(super) fn links(&mut self) -> Result<Vec<Link>, String> {
        let kept = match self.links.take() {
            Some(kept) => self.links.insert(kept),
            None => {
                let opened = Netlink::open(NETLINK_ROUTE).map_err(|error| error_text(&error))?;
                self.links.insert(opened)
            }
        };
        let listed = links_from(kept).map_err(|error| error_text(&error));
        if listed.is_err()
            && let Ok(other) = Netlink::open(NETLINK_ROUTE)
        {
            *kept = other;
        }
        listed
    }

    /// Sends one datagram of one byte.
    pub(super) fn send_canary(&mut self, to: SocketAddr) -> CanaryFate {
        self.canaries.send(to)
    }
}
