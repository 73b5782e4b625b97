//! What our sets hold: lifeline addresses and blocked remotes.
//!
//! In: [`Plan`]. Out: the sets' declarations with their elements, and the change from one content to another.
//!
//! Single hosts and wider blocks are kept apart: hosts are in a hash, where one more costs the same however many there
//! are; of a set with intervals nft 1.0.6 reads every element before it adds one (100,000: 2 s, nftables on this
//! kernel).

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::quarantine::orders::order::{BlockedRemote, Protocol};
use crate::quarantine::plan::Plan;

/// Longest time a kernel element is given in seconds, ten years; the kernel counts in milliseconds of 64 bits.
const MAX_TIMEOUT: i64 = 10 * 366 * 86_400;

/// What the sets hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetElements {
    /// Lifelines, sorted.
    pub endpoints: Vec<(IpAddr, Protocol, u16)>,
    /// Blocked hosts, with the time each ends; sorted.
    pub hosts: Vec<(IpAddr, Option<Timestamp>)>,
    /// Blocked blocks that are wider than a host, disjoint and sorted.
    pub nets: Vec<(IpNet, Option<Timestamp>)>,
}

/// One set with its elements as nft writes them.
struct NftSet {
    name: String,
    kind: &'static str,
    elements: Vec<(String, Option<Timestamp>)>,
}

impl SetElements {
    pub(super) fn of(plan: &Plan) -> Self {
        let mut endpoints: Vec<_> = plan
            .endpoints
            .iter()
            .map(|e| (e.address, e.protocol, e.port))
            .collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        let (mut hosts, mut nets) = (Vec::new(), Vec::new());
        for BlockedRemote { remote, expires } in &plan.block.remotes {
            if remote.prefix_len() == remote.max_prefix_len() {
                hosts.push((remote.addr(), *expires));
            } else {
                nets.push((*remote, *expires));
            }
        }
        Self {
            endpoints,
            hosts,
            nets,
        }
    }

    /// Without what has ended by itself: the kernel has let it go too.
    #[must_use]
    pub fn live(mut self, now: Timestamp) -> Self {
        let live = |expires: &Option<Timestamp>| expires.is_none_or(|expires| expires > now);
        self.hosts.retain(|(_, expires)| live(expires));
        self.nets.retain(|(_, expires)| live(expires));
        self
    }

    /// Whether any remote of this family is blocked.
    pub(super) fn blocks(&self, v4: bool) -> (bool, bool) {
        (
            self.hosts.iter().any(|(host, _)| host.is_ipv4() == v4),
            self.nets.iter().any(|(net, _)| net.addr().is_ipv4() == v4),
        )
    }

    fn sets(&self, with_endpoints: bool) -> Vec<NftSet> {
        let mut sets = Vec::new();
        for (suffix, v4) in [('4', true), ('6', false)] {
            if with_endpoints {
                let own = self
                    .endpoints
                    .iter()
                    .filter(|(address, ..)| address.is_ipv4() == v4);
                sets.push(NftSet {
                    name: format!("endpoints{suffix}"),
                    kind: if v4 {
                        "type ipv4_addr . inet_proto . inet_service"
                    } else {
                        "type ipv6_addr . inet_proto . inet_service"
                    },
                    elements: own
                        .map(|(address, protocol, port)| (format!("{address} . {protocol} . {port}"), None))
                        .collect(),
                });
            }
            let hosts = self.hosts.iter().filter(|(host, _)| host.is_ipv4() == v4);
            sets.push(NftSet {
                name: format!("hosts{suffix}"),
                kind: if v4 {
                    "type ipv4_addr\n    flags timeout"
                } else {
                    "type ipv6_addr\n    flags timeout"
                },
                elements: hosts
                    .map(|(host, expires)| (host.to_string(), *expires))
                    .collect(),
            });
            let nets = self.nets.iter().filter(|(net, _)| net.addr().is_ipv4() == v4);
            sets.push(NftSet {
                name: format!("nets{suffix}"),
                kind: if v4 {
                    "type ipv4_addr\n    flags interval, timeout"
                } else {
                    "type ipv6_addr\n    flags interval, timeout"
                },
                elements: nets.map(|(net, expires)| (net.to_string(), *expires)).collect(),
            });
        }
        sets
    }

    pub(super) fn declare(&self, text: &mut String, with_endpoints: bool, now: Timestamp) {
        for NftSet { name, kind, elements } in self.sets(with_endpoints) {
            let _ = writeln!(text, "  set {name} {{\n    {kind}");
            if !elements.is_empty() {
                text.push_str("    elements = { ");
                write_elements(text, &elements, now);
                text.push_str(" }\n");
            }
            text.push_str("  }\n");
        }
    }

    /// Writes the removal of `unwanted` and the addition of these.
    pub(super) fn change(
        &self,
        text: &mut String,
        table: &str,
        with_endpoints: bool,
        unwanted: &Self,
        now: Timestamp,
    ) {
        let wanted = self.sets(with_endpoints);
        let unwanted = unwanted.sets(with_endpoints);
        // An element whose time changes is in both: removed, then added.
        for (command, sets) in [("delete", unwanted), ("add", wanted)] {
            for NftSet { name, elements, .. } in sets.into_iter().filter(|set| !set.elements.is_empty()) {
                let _ = write!(text, "{command} element {table} {name} {{ ");
                if command == "add" {
                    write_elements(text, &elements, now);
                } else {
                    let keys: Vec<_> = elements.into_iter().map(|(key, _)| (key, None)).collect();
                    write_elements(text, &keys, now);
                }
                text.push_str(" }\n");
            }
        }
    }

    /// What is here and not, or not alike, in `other`.
    pub(super) fn difference(&self, other: &Self) -> Self {
        Self {
            endpoints: missing(&self.endpoints, &other.endpoints),
            hosts: missing(&self.hosts, &other.hosts),
            nets: missing(&self.nets, &other.nets),
        }
    }
}

/// What of a sorted list another sorted list does not have.
fn missing<T: Ord + Copy>(from: &[T], other: &[T]) -> Vec<T> {
    let mut rest = other;
    let absent = |item: &&T| {
        while let [first, tail @ ..] = rest {
            if first >= *item {
                return first != *item;
            }
            rest = tail;
        }
        true
    };
    from.iter().filter(absent).copied().collect()
}

fn write_elements(text: &mut String, elements: &[(String, Option<Timestamp>)], now: Timestamp) {
    for (index, (key, expires)) in elements.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(key);
        if let Some(expires) = expires {
            // Rounded up: the kernel's element must not end before the plan's.
            let seconds = expires.duration_since(now).as_secs().saturating_add(1);
            let _ = write!(text, " timeout {}s", seconds.clamp(1, MAX_TIMEOUT));
        }
    }
}
