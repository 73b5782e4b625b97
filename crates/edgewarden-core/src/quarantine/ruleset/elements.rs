//! What our sets hold: lifeline addresses and blocked remotes.
//!
//! In: [`Plan`]. Out: what each set holds, and its declaration as text.
//!
//! Single hosts and wider blocks are kept apart: hosts are in a hash, where one more costs the same however many there
//! are; of a set with intervals nft 1.0.6 reads every element before it adds one (100,000: 2 s, nftables on this
//! kernel).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::quarantine::orders::order::Protocol;
use crate::quarantine::plan::Plan;

/// Longest time a kernel element is given in seconds, three years: nft reads eight digits, though the kernel could count on.
pub(super) const MAX_TIMEOUT: i64 = 99_999_999;

/// More hosts of one family than this, and their set is declared with [`LONG_SIZE`]; fewer are loaded as fast without, and a
/// small device should not hold a megabyte of empty hash in each table for them.
const LONG: usize = 16_384;
/// What a set of many hosts is declared to hold at most: more than all orders together can name. The kernel then makes its
/// hash large at once, instead of step by step while it is filled and listed; a hundred thousand are loaded in half the
/// time. It takes 16 bits of the number as its hint (`nelem_hint` of `rhashtable_params`), so that these are all ones.
pub(super) const LONG_SIZE: u32 = 0x3_ffff;

/// What the sets hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetElements {
    /// Lifelines, sorted.
    pub endpoints: Vec<(IpAddr, Protocol, u16)>,
    /// Blocked hosts, with the time each ends; sorted. Shared with the plan's list that they were made of: there may be a hundred
    /// thousand.
    pub hosts: Arc<Vec<(IpAddr, Option<Timestamp>)>>,
    /// Blocked blocks that are wider than a host, disjoint and sorted.
    pub nets: Arc<Vec<(IpNet, Option<Timestamp>)>>,
}

/// What one of our sets holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Lifelines: address, protocol and port.
    Endpoints,
    /// Blocked hosts.
    Hosts,
    /// Blocked blocks.
    Nets,
}

/// One of our sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OwnSet {
    pub(super) content: Content,
    pub(super) v4: bool,
}

impl OwnSet {
    /// The sets of a table, in order.
    pub(super) fn all(with_endpoints: bool) -> impl Iterator<Item = Self> {
        let contents = [Content::Endpoints, Content::Hosts, Content::Nets];
        let contents = contents
            .into_iter()
            .filter(move |content| with_endpoints || *content != Content::Endpoints);
        let contents: Vec<Content> = contents.collect();
        [true, false].into_iter().flat_map(move |v4| {
            let own = contents.clone().into_iter();
            own.map(move |content| Self { content, v4 })
        })
    }

    /// The set of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let v4 = match name.chars().last()? {
            '4' => true,
            '6' => false,
            _ => return None,
        };
        let content = match &name[..name.len() - 1] {
            "endpoints" => Content::Endpoints,
            "hosts" => Content::Hosts,
            "nets" => Content::Nets,
            _ => return None,
        };
        Some(Self { content, v4 })
    }

    pub(super) fn name(self) -> String {
        let kind = match self.content {
            Content::Endpoints => "endpoints",
            Content::Hosts => "hosts",
            Content::Nets => "nets",
        };
        format!("{kind}{}", if self.v4 { '4' } else { '6' })
    }

    /// Its type and flags as nft writes them.
    const fn kind(self) -> &'static str {
        match (self.content, self.v4) {
            (Content::Endpoints, true) => "type ipv4_addr . inet_proto . inet_service",
            (Content::Endpoints, false) => "type ipv6_addr . inet_proto . inet_service",
            (Content::Hosts, true) => "type ipv4_addr\n    flags timeout",
            (Content::Hosts, false) => "type ipv6_addr\n    flags timeout",
            (Content::Nets, true) => "type ipv4_addr\n    flags interval, timeout",
            (Content::Nets, false) => "type ipv6_addr\n    flags interval, timeout",
        }
    }
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
        let (hosts, nets) = plan.block.remotes.hosts_and_nets();
        Self {
            endpoints,
            hosts: Arc::clone(hosts),
            nets: Arc::clone(nets),
        }
    }

    /// Without what has ended by itself: the kernel has let it go too.
    #[must_use]
    pub fn live(mut self, now: Timestamp) -> Self {
        keep_live(&mut self.hosts, now);
        keep_live(&mut self.nets, now);
        self
    }

    /// Whether any remote of this family is blocked.
    pub(super) fn blocks(&self, v4: bool) -> (bool, bool) {
        (
            self.hosts.iter().any(|(host, _)| host.is_ipv4() == v4),
            self.nets.iter().any(|(net, _)| net.addr().is_ipv4() == v4),
        )
    }

    /// Most elements that one of our sets can have in the kernel: of a block its beginning and what comes behind it.
    pub fn in_one_set(&self) -> usize {
        let blocks = self.nets.len().saturating_mul(2).saturating_add(1);
        blocks.max(self.hosts.len()).max(self.endpoints.len())
    }

    /// Whether any of them ends.
    pub fn ends(&self) -> bool {
        let hosts = self.hosts.iter().any(|(_, end)| end.is_some());
        hosts || self.nets.iter().any(|(_, end)| end.is_some())
    }

    /// Whether one of our sets has any element.
    pub(super) fn has(&self, set: OwnSet) -> bool {
        let is_own = |address: IpAddr| address.is_ipv4() == set.v4;
        match set.content {
            Content::Endpoints => self.endpoints.iter().any(|(address, ..)| is_own(*address)),
            Content::Hosts => self.hosts.iter().any(|(host, _)| is_own(*host)),
            Content::Nets => self.nets.iter().any(|(net, _)| is_own(net.addr())),
        }
    }

    /// Whether so many hosts of this family are blocked that their set is declared with [`LONG_SIZE`].
    pub(super) fn is_long(&self, v4: bool) -> bool {
        // Sorted: those of IPv4 come first.
        let first = self.hosts.partition_point(|(host, _)| host.is_ipv4());
        let count = if v4 { first } else { self.hosts.len() - first };
        count > LONG
    }

    /// Whether the sets of both are declared alike.
    pub(super) fn declared_as(&self, other: &Self) -> bool {
        [true, false]
            .iter()
            .all(|v4| self.is_long(*v4) == other.is_long(*v4))
    }

    /// What a set is declared to hold at most; none where it may grow for ever.
    pub(super) fn size(&self, set: OwnSet) -> Option<u32> {
        (set.content == Content::Hosts && self.is_long(set.v4)).then_some(LONG_SIZE)
    }

    /// The elements of one set as nft writes them.
    fn written(&self, set: OwnSet) -> Vec<(String, Option<Timestamp>)> {
        let is_own = |address: IpAddr| address.is_ipv4() == set.v4;
        match set.content {
            Content::Endpoints => {
                let own = self.endpoints.iter().filter(|(address, ..)| is_own(*address));
                own.map(|(address, protocol, port)| (format!("{address} . {protocol} . {port}"), None))
                    .collect()
            }
            Content::Hosts => {
                let own = self.hosts.iter().filter(|(host, _)| is_own(*host));
                own.map(|(host, expires)| (host.to_string(), *expires)).collect()
            }
            Content::Nets => {
                let own = self.nets.iter().filter(|(net, _)| is_own(net.addr()));
                own.map(|(net, expires)| (net.to_string(), *expires)).collect()
            }
        }
    }

    pub(super) fn declare(&self, text: &mut String, with_endpoints: bool, now: Timestamp) {
        for set in OwnSet::all(with_endpoints) {
            let _ = writeln!(text, "  set {} {{\n    {}", set.name(), set.kind());
            if let Some(size) = self.size(set) {
                let _ = writeln!(text, "    size {size}");
            }
            let elements = self.written(set);
            if !elements.is_empty() {
                text.push_str("    elements = { ");
                write_elements(text, &elements, now);
                text.push_str(" }\n");
            }
            text.push_str("  }\n");
        }
    }

    /// What is here and not, or not alike, in `other`.
    pub(super) fn difference(&self, other: &Self) -> Self {
        Self {
            endpoints: missing(&self.endpoints, &other.endpoints),
            hosts: Arc::new(missing(&self.hosts, &other.hosts)),
            nets: Arc::new(missing(&self.nets, &other.nets)),
        }
    }
}

/// Copied only where something has ended.
fn keep_live<T: Clone>(list: &mut Arc<Vec<(T, Option<Timestamp>)>>, now: Timestamp) {
    let has_ended = |(_, expires): &(T, Option<Timestamp>)| expires.is_some_and(|expires| expires <= now);
    if list.iter().any(has_ended) {
        Arc::make_mut(list).retain(|one| !has_ended(one));
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
            let _ = write!(text, " timeout {}s", timeout_seconds(*expires, now));
        }
    }
}

/// How long an element lives in seconds. Rounded up: the kernel's element must not end before the plan's.
pub(super) fn timeout_seconds(expires: Timestamp, now: Timestamp) -> i64 {
    let seconds = expires.duration_since(now).as_secs().saturating_add(1);
    seconds.clamp(1, MAX_TIMEOUT)
}
