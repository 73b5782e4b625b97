//! The names of a conversation: protocol, both ends, and the same seen from this device.
//!
//! In: nothing. Out: plain values used as keys by every later stage. No counters, no owners.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Transport protocol of an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IpProtocol {
    Tcp,
    Udp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMP for IPv6.
    Icmpv6,
    /// Any other, by its IANA number.
    Other(u8),
}

impl IpProtocol {
    /// From the number in the IP header.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            1 => Self::Icmp,
            58 => Self::Icmpv6,
            other => Self::Other(other),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortPair {
    pub source: u16,
    pub destination: u16,
}

/// Both ends of a packet as written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    pub protocol: IpProtocol,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Absent for protocols without ports and for later fragments.
    pub ports: Option<PortPair>,
}

/// A conversation seen from this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalFlow {
    pub protocol: IpProtocol,
    pub local: IpAddr,
    /// Our port, 0 where there is none.
    pub local_port: u16,
    pub remote: IpAddr,
    /// The peer's port, 0 where there is none.
    pub remote_port: u16,
}

impl Hash for FlowKey {
    /// Three wide writes instead of a dozen narrow ones: this runs once a packet. Equal flows write the same.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let number = match self.protocol {
            IpProtocol::Tcp => 6,
            IpProtocol::Udp => 17,
            IpProtocol::Icmp => 1,
            IpProtocol::Icmpv6 => 58,
            IpProtocol::Other(number) => number,
        };
        let (source, destination) = self
            .ports
            .map_or((0, 0), |ports| (ports.source, ports.destination));
        state.write_u64(u64::from(number) << 32 | u64::from(source) << 16 | u64::from(destination));
        for address in [self.source, self.destination] {
            match address {
                IpAddr::V4(v4) => state.write_u64(u64::from(v4.to_bits())),
                IpAddr::V6(v6) => state.write_u128(v6.to_bits()),
            }
        }
    }
}

impl FlowKey {
    /// The flow with `source` as our side.
    #[must_use]
    pub fn outgoing(&self) -> LocalFlow {
        let ports = self.ports.unwrap_or(PortPair {
            source: 0,
            destination: 0,
        });
        LocalFlow {
            protocol: self.protocol,
            local: self.source,
            local_port: ports.source,
            remote: self.destination,
            remote_port: ports.destination,
        }
    }

    /// The flow with `destination` as our side.
    #[must_use]
    pub fn incoming(&self) -> LocalFlow {
        let ports = self.ports.unwrap_or(PortPair {
            source: 0,
            destination: 0,
        });
        LocalFlow {
            protocol: self.protocol,
            local: self.destination,
            local_port: ports.destination,
            remote: self.source,
            remote_port: ports.source,
        }
    }

    /// True if a socket can be named by this flow: TCP or UDP with ports.
    #[must_use]
    pub fn has_socket(&self) -> bool {
        self.ports.is_some() && matches!(self.protocol, IpProtocol::Tcp | IpProtocol::Udp)
    }
}
