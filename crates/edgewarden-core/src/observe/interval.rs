//! One closed reporting period: immutable counters, as later stages and `edgewarden top --json` see them.
//!
//! In: what the ledger closed. Out: plain data. Nothing here computes except [`Counters`]' own arithmetic.
//!
//! Identity that always holds: the sum of [`Interval::processes`] + [`Interval::unattributed`] +
//! [`Interval::forwarded`] + [`Interval::stacked`] + [`Interval::other`] equals [`Interval::captured_total`], which is
//! the sum of [`InterfaceTraffic::captured`].

use std::net::IpAddr;
use std::ops::AddAssign;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::process::{ProcessId, Workload};

use super::flow::IpProtocol;

/// Traffic of one thing, in bytes (frames with link header) and packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub packets_in: u64,
    pub packets_out: u64,
}

impl Counters {
    /// Traffic of one way.
    #[must_use]
    pub const fn traffic(out: bool, bytes: u64, packets: u64) -> Self {
        if out {
            Self {
                bytes_in: 0,
                bytes_out: bytes,
                packets_in: 0,
                packets_out: packets,
            }
        } else {
            Self {
                bytes_in: bytes,
                bytes_out: 0,
                packets_in: packets,
                packets_out: 0,
            }
        }
    }

    /// What was added since `earlier`.
    ///
    /// A counter that fell was reset in between, and a reset concerns the whole interface: then everything counted
    /// since the reset is the growth. It is never negative and never wraps.
    #[must_use]
    pub const fn growth_since(&self, earlier: &Self) -> Self {
        let reset = self.bytes_in < earlier.bytes_in
            || self.bytes_out < earlier.bytes_out
            || self.packets_in < earlier.packets_in
            || self.packets_out < earlier.packets_out;
        if reset {
            return *self;
        }
        Self {
            bytes_in: self.bytes_in - earlier.bytes_in,
            bytes_out: self.bytes_out - earlier.bytes_out,
            packets_in: self.packets_in - earlier.packets_in,
            packets_out: self.packets_out - earlier.packets_out,
        }
    }

    /// Bytes of both ways.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes_in.saturating_add(self.bytes_out)
    }

    /// Packets of both ways.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets_in.saturating_add(self.packets_out)
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.packets_in = self.packets_in.saturating_add(other.packets_in);
        self.packets_out = self.packets_out.saturating_add(other.packets_out);
    }
}

impl std::iter::Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |mut total, item| {
            total += item;
            total
        })
    }
}

/// The kernel's own counters of one interface since that interface exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCounters {
    pub name: String,
    /// Interface index; a replaced interface has another one.
    pub index: u32,
    /// Absolute values.
    pub counters: Counters,
}

/// Why traffic has no owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnattributedReason {
    /// Not an IP packet.
    NotIp,
    /// Truncated or malformed.
    Unparsed,
    /// A protocol without ports, or a later fragment.
    NoPorts,
    /// The kernel knows no socket for the flow, and none was remembered.
    NoSocket,
    /// A handshake with a listening socket that no process has accepted.
    NotAccepted,
    /// There is a socket, but no process that we may look into holds it.
    NoProcess,
    /// The kernel could not be asked.
    LookupFailed,
    /// Between two others on the link.
    Foreign,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceTraffic {
    pub name: String,
    /// What the kernel counted in this interval; absent if it could not be read or the interface is gone.
    pub kernel: Option<Counters>,
    /// What capture saw; all zero for an interface that is not captured.
    pub captured: Counters,
    /// The part of `captured` that was routed for others.
    pub forwarded: Counters,
}

/// Traffic routed for one peer on our side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForwardedTraffic {
    /// The end on our side: a device behind this gateway, a container, a virtual machine.
    pub peer: IpAddr,
    /// The other end.
    pub remote: IpAddr,
    /// Its port, 0 for protocols without ports.
    pub port: u16,
    pub protocol: IpProtocol,
    /// As the peer sees it: `*_out` is what it sent. Counted where it entered.
    pub counters: Counters,
}

/// Traffic with one remote endpoint on one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteTraffic {
    /// Name of the interface.
    pub interface: String,
    pub address: IpAddr,
    /// Remote port, 0 for protocols without ports.
    pub port: u16,
    pub protocol: IpProtocol,
    pub counters: Counters,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessTraffic {
    /// pid and start time.
    pub identity: ProcessId,
    /// Command name.
    pub name: String,
    /// Path of the program.
    pub exe: Option<String>,
    /// cgroup v2 path.
    pub cgroup: Option<String>,
    /// The container or Greengrass component it is part of.
    pub workload: Option<Workload>,
    /// Total, including remotes that did not fit into the list.
    pub counters: Counters,
    /// By remote endpoint, most bytes first.
    pub remotes: Vec<RemoteTraffic>,
    /// What did not fit into `remotes`.
    pub other_remotes: Counters,
}

/// Traffic without owner, by reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnattributedTraffic {
    pub reason: UnattributedReason,
    pub counters: Counters,
}

/// One closed reporting period.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    pub started: Timestamp,
    pub ended: Timestamp,
    /// Every interface but loopback, by name.
    pub interfaces: Vec<InterfaceTraffic>,
    /// Every process with traffic, most bytes first.
    pub processes: Vec<ProcessTraffic>,
    /// Routed for others: `*_in` where it entered, `*_out` where it left. What entered and did not leave was dropped.
    pub forwarded: Counters,
    /// What entered of that, by its two ends, most bytes first.
    pub forwarded_by_peer: Vec<ForwardedTraffic>,
    /// What did not fit into `forwarded_by_peer`.
    pub other_forwarded: Counters,
    /// Seen on the lower interface of a stack (VLAN, bond, bridge, macvlan) and counted on the upper one.
    pub stacked: Counters,
    /// Sum of `unattributed_by_reason`.
    pub unattributed: Counters,
    /// Why traffic has no owner.
    pub unattributed_by_reason: Vec<UnattributedTraffic>,
    /// Traffic whose owner did not fit into the bounded tables.
    pub other: Counters,
    /// Everything captured, on all interfaces.
    pub captured_total: Counters,
    /// Frames that could not be read; their bytes are in `unattributed`.
    pub unparsed: u64,
    /// Frames the kernel dropped because they were not read in time; absent with a receiver that does not tell.
    pub lost_frames: Option<u64>,
    /// What hinders capture now, one sentence each.
    pub capture_faults: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_survives_resets() {
        let earlier = Counters {
            bytes_in: 100,
            bytes_out: 50,
            packets_in: 10,
            packets_out: 5,
        };
        let grown = Counters {
            bytes_in: 150,
            bytes_out: 50,
            packets_in: 11,
            packets_out: 5,
        };
        let reset = Counters {
            bytes_in: 120,
            bytes_out: 3,
            packets_in: 11,
            packets_out: 1,
        };
        assert_eq!(
            grown.growth_since(&earlier),
            Counters {
                bytes_in: 50,
                bytes_out: 0,
                packets_in: 1,
                packets_out: 0
            }
        );
        assert_eq!(reset.growth_since(&earlier), reset);
    }
}
