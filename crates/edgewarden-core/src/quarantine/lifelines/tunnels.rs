//! Tunnels by which lifelines are reached: what they carry leaves once more, wrapped, as packets of this device to the tunnel's
//! other end, which is no lifeline.
//!
//! In: the host's tunnels ([`Tunnel`]), the ways of lifelines, the configured allowances. Out: a sentence for each tunnel that
//! isolation cuts, with what to configure. Absent: tunnels without an interface of their own (IPsec policies), and those that the
//! kernel cannot tell from others (PPP over IP).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::ways::{FoundWays, InterfaceName, Way};
use crate::Gather;
use crate::quarantine::orders::order::{Allowance, Direction, Protocol};

/// Sentences told; a gateway has one or two tunnels that its cloud is behind.
const MAX_TOLD: usize = 8;

/// How a tunnel wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrapping {
    /// In UDP datagrams to this port.
    Udp(u16),
    /// In packets of another IP protocol, which no allowance can name.
    Protocol,
    /// As its own peers or its program have it, which the interface does not tell.
    Untold,
}

/// An interface whose packets leave once more, wrapped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tunnel {
    pub interface: InterfaceName,
    /// What the kernel calls its kind.
    pub kind: String,
    pub wrapping: Wrapping,
    /// The other end, where there is one.
    pub remote: Option<IpAddr>,
    /// Interfaces whose packets go through it: its own, a bridge that it is a port of, a VLAN on it.
    pub carries: BTreeSet<InterfaceName>,
}

/// What the host's routes say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// By which ways the addresses are reached.
    pub ways: FoundWays,
    /// The tunnels that there are.
    pub tunnels: Vec<Tunnel>,
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.interface, self.kind)?;
        if let Some(remote) = self.remote {
            write!(f, " to {remote}")?;
        }
        if let Wrapping::Udp(port) = self.wrapping {
            write!(f, ", UDP port {port}")?;
        }
        f.write_str(")")
    }
}

impl Tunnel {
    /// Whether the allowances let its packets pass, both ways. Not known where nobody tells how it wraps.
    fn passes(&self, allow: &[Allowance]) -> Option<bool> {
        let (remote, port) = match (self.remote, self.wrapping) {
            (_, Wrapping::Protocol) => return Some(false),
            (Some(remote), Wrapping::Udp(port)) => (remote, port),
            _ => return None,
        };
        let any = |direction| {
            allow.iter().any(|allowance| {
                allowance.protocol == Protocol::Udp
                    && allowance.direction == direction
                    && allowance.ports.contains(&port)
                    && allowance.remote.contains(&remote)
            })
        };
        Some(any(Direction::Out) && any(Direction::In))
    }

    fn what_helps(&self) -> String {
        match (self.remote, self.wrapping) {
            (_, Wrapping::Protocol) => {
                "no allowance can name its protocol, so lifelines need another way".to_owned()
            }
            (Some(remote), Wrapping::Udp(port)) => format!(
                "allow UDP port {port} of {remote} in isolation.allow, with direction `out` and again with `in`"
            ),
            _ => "allow the addresses and ports of its other ends in isolation.allow".to_owned(),
        }
    }
}

/// Tunnels that the ways of lifelines lead through and isolation cuts. `confirmed`: the control channel was seen to work behind it,
/// so what nobody tells of is in order.
pub fn told<'a>(
    ways: impl Iterator<Item = &'a Way>,
    tunnels: &[Tunnel],
    allow: &[Allowance],
    confirmed: bool,
) -> Vec<String> {
    let by: BTreeSet<InterfaceName> = ways.map(|way| way.interface).in_set();
    let leads = tunnels.iter().filter(|tunnel| !tunnel.carries.is_disjoint(&by));
    let cut = leads.filter(|tunnel| !tunnel.passes(allow).unwrap_or(confirmed));
    let tell = |tunnel: &Tunnel| {
        let helps = tunnel.what_helps();
        format!("lifelines lead through the tunnel {tunnel}, whose own packets isolation cuts: {helps}")
    };
    cut.take(MAX_TOLD).map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> InterfaceName {
        InterfaceName::new(name).unwrap()
    }

    fn tunnel(wrapping: Wrapping, remote: Option<&str>) -> Tunnel {
        Tunnel {
            interface: name("vpn0"),
            kind: "vxlan".into(),
            wrapping,
            remote: remote.map(|remote| remote.parse().unwrap()),
            carries: BTreeSet::from([name("vpn0"), name("br0")]),
        }
    }

    fn way(interface: &str) -> Way {
        Way {
            address: "8.8.8.8".parse().unwrap(),
            interface: name(interface),
            next_hop: "8.8.8.8".parse().unwrap(),
        }
    }

    fn allowance(direction: Direction) -> Allowance {
        Allowance {
            remote: "192.0.2.0/24".parse().unwrap(),
            protocol: Protocol::Udp,
            ports: vec![4_789],
            direction,
        }
    }

    #[test]
    fn a_tunnel_that_is_cut_is_told_with_what_helps() {
        let vxlan = [tunnel(Wrapping::Udp(4_789), Some("192.0.2.1"))];
        let told_of = |by: &str, allow: &[Allowance]| told([way(by)].iter(), &vxlan, allow, true);
        assert_eq!(
            told_of("vpn0", &[]),
            [
                "lifelines lead through the tunnel vpn0 (vxlan to 192.0.2.1, UDP port 4789), whose own packets \
              isolation cuts: allow UDP port 4789 of 192.0.2.1 in isolation.allow, with direction `out` and again \
              with `in`"
            ]
        );
        assert_eq!(told_of("br0", &[]).len(), 1, "a bridge that it is a port of");
        assert_eq!(told_of("wan0", &[]), Vec::<String>::new(), "control");
        let out = allowance(Direction::Out);
        assert_eq!(told_of("vpn0", std::slice::from_ref(&out)).len(), 1);
        assert_eq!(
            told_of("vpn0", &[out, allowance(Direction::In)]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_no_allowance_can_name_is_told_always_and_what_nobody_tells_of_until_it_is_seen_to_work() {
        let gre = [tunnel(Wrapping::Protocol, Some("192.0.2.1"))];
        assert!(told([way("vpn0")].iter(), &gre, &[], true)[0].contains("no allowance can name"));
        let program = [tunnel(Wrapping::Untold, None)];
        let told_of = |confirmed| told([way("vpn0")].iter(), &program, &[], confirmed);
        assert!(told_of(false)[0].contains("isolation.allow"));
        assert_eq!(told_of(true), Vec::<String>::new());
    }
}
