//! How a plan draws the lines of its lifelines.

use std::collections::BTreeSet;

use super::{DATA_ENDPOINT_PORTS, DNS_PORT, Plan, Scope};
use crate::Gather;
use crate::quarantine::orders::order::{Posture, Protocol};

impl Plan {
    /// How its rules really draw the lines: only an isolation has wide ones.
    pub fn drawn(&self) -> Scope {
        if self.lifelines.data_endpoint && self.posture == Posture::Isolate {
            self.scope
        } else {
            Scope::Pinned
        }
    }

    /// TCP ports that wide lifelines open to any address; none while they are pinned. DNS's is not among them: it is
    /// opened for UDP alone.
    pub(crate) fn wide_ports(&self) -> BTreeSet<u16> {
        if self.drawn() == Scope::Pinned {
            return BTreeSet::new();
        }
        let tcp = self.endpoints.iter().filter(|e| e.protocol == Protocol::Tcp);
        let known = tcp.map(|e| e.port).filter(|port| *port != DNS_PORT);
        DATA_ENDPOINT_PORTS.into_iter().chain(known).in_set()
    }
}
