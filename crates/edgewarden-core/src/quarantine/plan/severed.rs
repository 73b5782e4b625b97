//! Which live connections a plan cuts, so that their sockets can be closed.
//!
//! In: the plan, connections as their sockets have them. Out: whether the rules let nothing of them pass any more. Says
//! the same as [`crate::quarantine::ruleset`] does of packets, and where the two could differ it says "passes": closing
//! a socket is for good, a packet that is dropped is not. Absent: forwarded connections, whose sockets are on other
//! devices; address translation, which sockets do not see; who holds a socket.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::Plan;
use crate::quarantine::lifelines::lifeline::DNS_PORT;
use crate::quarantine::orders::order::{Allowance, Direction, Posture, Protocol};

/// Client and server ports of DHCPv4 and DHCPv6.
const DHCP_PORTS: [(u16, u16); 2] = [(68, 67), (546, 547)];

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketEnds {
    pub protocol: Protocol,
    /// Our end; IPv4-mapped addresses taken as IPv4.
    pub local: SocketAddr,
    /// The other end, likewise.
    pub remote: SocketAddr,
}

/// Whether `plan` lets nothing of this connection pass.
pub fn is_cut(plan: &Plan, connection: &SocketEnds) -> bool {
    let remote = connection.remote.ip();
    let internal = remote.is_loopback() || remote == connection.local.ip();
    if plan.is_normal() || internal || is_lifeline(plan, connection) {
        return false;
    }
    if plan.blocks_remote(remote) || is_blocked_port(plan, connection) {
        return true;
    }
    plan.posture == Posture::Isolate && !plan.allow.iter().any(|allowance| allows(allowance, connection))
}

/// Which of the orders behind a plan cut a connection that the plan cuts; `alone` are the plans of these orders, each by
/// itself. Everyone that would cut it alone is named: ending another one would not have left it open. Where none would,
/// because isolating orders grant different allowances, they cut it together.
pub fn cutters<'a>(alone: &'a [Plan], connection: &'a SocketEnds) -> impl Iterator<Item = usize> + 'a {
    let together = !alone.iter().any(|plan| is_cut(plan, connection));
    let named = alone.iter().enumerate().filter(move |(_, plan)| {
        if together {
            plan.posture == Posture::Isolate
        } else {
            is_cut(plan, connection)
        }
    });
    named.map(|(index, _)| index)
}

/// Whether a connection that is cut is left all the same: the other end is an address of this device, whose traffic
/// never leaves it, or whoever holds the socket must live.
pub fn is_spared(
    connection: &SocketEnds,
    inode: u32,
    own: &BTreeSet<IpAddr>,
    protected: &BTreeSet<u32>,
) -> bool {
    own.contains(&connection.remote.ip()) || (inode != 0 && protected.contains(&inode))
}

pub(super) fn is_lifeline(plan: &Plan, connection: &SocketEnds) -> bool {
    let SocketEnds {
        protocol,
        local,
        remote,
    } = *connection;
    let dhcp = DHCP_PORTS.contains(&(local.port(), remote.port()));
    let known = plan.endpoints.iter().any(|endpoint| {
        (endpoint.protocol, endpoint.address, endpoint.port) == (protocol, remote.ip(), remote.port())
    });
    known
        || (protocol == Protocol::Udp && plan.lifelines.dhcp && dhcp)
        || is_wide(plan, protocol, remote.port())
}

fn is_wide(plan: &Plan, protocol: Protocol, port: u16) -> bool {
    let ports = plan.wide_ports();
    match protocol {
        Protocol::Udp => !ports.is_empty() && port == DNS_PORT,
        Protocol::Tcp => ports.contains(&port),
    }
}

/// A blocked port is cut as destination and as source, so at either end.
pub(super) fn is_blocked_port(plan: &Plan, connection: &SocketEnds) -> bool {
    plan.block.ports.iter().any(|blocked| {
        let ends = [connection.local.port(), connection.remote.port()];
        blocked.protocol == connection.protocol && ends.contains(&blocked.port)
    })
}

fn allows(allowance: &Allowance, connection: &SocketEnds) -> bool {
    let accepting = match allowance.direction {
        Direction::In => connection.local.port(),
        Direction::Out => connection.remote.port(),
    };
    allowance.protocol == connection.protocol
        && allowance.ports.contains(&accepting)
        && allowance.remote.contains(&connection.remote.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::lifelines::lifeline::{Endpoint, Purpose};
    use crate::quarantine::orders::order::{Authority, Block, BlockedPort, BlockedRemote, Order};
    use crate::quarantine::plan::{IsolationSettings, Scope, fold};

    fn plan(change: impl Fn(&mut Order), scope: Scope) -> Plan {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut order = Order::isolate(Authority::Shadow, "x", None, now);
        change(&mut order);
        let endpoints = vec![Endpoint {
            purpose: Purpose::DataEndpoint,
            address: "198.51.100.1".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 8884,
        }];
        fold(&[order], &IsolationSettings::default(), endpoints, scope, now)
    }

    fn tcp(local: &str, remote: &str) -> SocketEnds {
        SocketEnds {
            protocol: Protocol::Tcp,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
        }
    }

    fn udp(local: &str, remote: &str) -> SocketEnds {
        SocketEnds {
            protocol: Protocol::Udp,
            ..tcp(local, remote)
        }
    }

    fn net(text: &str) -> BlockedRemote {
        text.parse::<ipnet::IpNet>().unwrap().into()
    }

    const LOCAL: &str = "198.51.100.2:40000";

    fn cut(plan: &Plan, connection: &SocketEnds) -> bool {
        is_cut(plan, connection)
    }

    #[test]
    fn isolation_leaves_lifelines_loopback_and_itself() {
        let plan = plan(|_| {}, Scope::Pinned);
        for kept in [
            tcp(LOCAL, "198.51.100.1:8884"),
            tcp("127.0.0.1:1", "127.0.0.2:2"),
            tcp("[::1]:1", "[::1]:2"),
            tcp("192.0.2.1:1", "192.0.2.1:2"),
            udp("198.51.100.2:68", "198.51.100.3:67"),
            udp("[2001:db8::2]:546", "[2001:db8::3]:547"),
        ] {
            assert!(!cut(&plan, &kept), "{kept:?}");
        }
        for dead in [
            tcp(LOCAL, "203.0.113.1:4444"),
            tcp("198.51.100.2:22", "203.0.113.1:4444"),
            tcp("[2001:db8::2]:22", "[2001:db8:ffff::1]:4444"),
            tcp(LOCAL, "198.51.100.1:8885"),
            tcp(LOCAL, "198.51.100.9:8884"),
            udp(LOCAL, "198.51.100.1:8884"),
            udp(LOCAL, "203.0.113.1:53"),
            tcp("198.51.100.2:68", "198.51.100.3:67"),
        ] {
            assert!(cut(&plan, &dead), "{dead:?}");
        }
    }

    #[test]
    fn wide_lifelines_leave_their_ports_to_any_address() {
        let plan = plan(|_| {}, Scope::Wide);
        let kept = [
            tcp(LOCAL, "203.0.113.1:443"),
            tcp(LOCAL, "203.0.113.1:8884"),
            udp(LOCAL, "203.0.113.1:53"),
        ];
        assert_eq!(kept.map(|connection| cut(&plan, &connection)), [false; 3]);
        let dead = [tcp(LOCAL, "203.0.113.1:53"), udp(LOCAL, "203.0.113.1:443")];
        assert_eq!(dead.map(|connection| cut(&plan, &connection)), [true; 2]);
    }

    #[test]
    fn an_allowance_leaves_its_side_of_its_remote_and_blocks_win() {
        let allow = |ports: u16, direction| Allowance {
            remote: "203.0.113.0/24".parse().unwrap(),
            protocol: Protocol::Tcp,
            ports: vec![ports],
            direction,
        };
        let plan = plan(
            |order| {
                order.allow = vec![allow(22, Direction::In), allow(4444, Direction::Out)];
                order.block.remotes = vec![net("203.0.113.9/32")].into();
            },
            Scope::Pinned,
        );
        let kept = [
            tcp("198.51.100.2:22", "203.0.113.1:50000"),
            tcp(LOCAL, "203.0.113.1:4444"),
        ];
        assert_eq!(kept.map(|connection| cut(&plan, &connection)), [false; 2]);
        let dead = [
            tcp(LOCAL, "203.0.113.1:22"),
            tcp("198.51.100.2:4444", "203.0.113.1:50000"),
            tcp("198.51.100.2:22", "192.0.2.1:50000"),
            udp("198.51.100.2:22", "203.0.113.1:50000"),
            tcp("198.51.100.2:22", "203.0.113.9:50000"),
        ];
        assert_eq!(dead.map(|connection| cut(&plan, &connection)), [true; 5]);
    }

    #[test]
    fn a_restriction_cuts_what_it_names_at_either_end_but_no_lifeline() {
        let port = |port| BlockedPort {
            protocol: Protocol::Tcp,
            port,
        };
        let plan = plan(
            |order| {
                order.posture = Posture::Restrict;
                order.block = Block {
                    remotes: vec![net("203.0.113.1/32")].into(),
                    ports: vec![port(23), port(8884)],
                    ..Block::default()
                };
            },
            Scope::Pinned,
        );
        let dead = [
            tcp(LOCAL, "203.0.113.1:1"),
            udp(LOCAL, "203.0.113.1:1"),
            tcp(LOCAL, "192.0.2.1:23"),
            tcp("198.51.100.2:23", "192.0.2.1:50000"),
        ];
        assert_eq!(dead.map(|connection| cut(&plan, &connection)), [true; 4]);
        let kept = [
            tcp(LOCAL, "203.0.113.2:1"),
            udp(LOCAL, "192.0.2.1:23"),
            tcp(LOCAL, "198.51.100.1:8884"),
            tcp("127.0.0.1:1", "127.0.0.1:23"),
        ];
        assert_eq!(kept.map(|connection| cut(&plan, &connection)), [false; 4]);
    }

    #[test]
    fn every_order_is_named_that_would_cut_alone_and_those_that_only_cut_together() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let alone = |authority, change: &dyn Fn(&mut Order)| {
            let mut order = Order::isolate(authority, "x", None, now);
            change(&mut order);
            fold(
                &[order],
                &IsolationSettings::default(),
                Vec::new(),
                Scope::Pinned,
                now,
            )
        };
        let ssh = |remote: &str| Allowance {
            remote: remote.parse().unwrap(),
            protocol: Protocol::Tcp,
            ports: vec![22],
            direction: Direction::In,
        };
        let alone = [
            alone(Authority::Shadow, &|order| {
                order.allow = vec![ssh("203.0.113.0/24")];
            }),
            alone(Authority::Operator, &|order| {
                order.posture = Posture::Restrict;
                order.block.remotes = vec![net("203.0.113.9/32")].into();
            }),
            alone(Authority::Deployment, &|order| {
                order.allow = vec![ssh("203.0.113.1/32")];
            }),
        ];
        let of = |remote| cutters(&alone, &tcp("198.51.100.2:22", remote)).collect::<Vec<_>>();
        assert_eq!(of("192.0.2.1:50000"), [0, 2]);
        assert_eq!(of("203.0.113.9:50000"), [1, 2]);
        assert_eq!(of("203.0.113.2:50000"), [2]);
        assert_eq!(
            of("203.0.113.1:50000"),
            [0, 2],
            "neither grants the other's allowance"
        );
    }

    #[test]
    fn own_addresses_and_protected_holders_are_spared_and_a_socket_without_holder_is_not() {
        let own = BTreeSet::from(["192.0.2.1".parse().unwrap()]);
        let protected = BTreeSet::from([0, 7]);
        let connection = tcp(LOCAL, "203.0.113.1:1");
        assert!(is_spared(&connection, 7, &own, &protected));
        assert!(!is_spared(&connection, 0, &own, &protected));
        assert!(is_spared(&tcp(LOCAL, "192.0.2.1:1"), 0, &own, &BTreeSet::new()));
    }
}
