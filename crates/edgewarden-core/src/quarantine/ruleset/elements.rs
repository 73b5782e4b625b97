//! What our sets hold: lifeline addresses and blocked remotes.
//!
//! In: [`Plan`]. Out: what each set holds, and its declaration as text.
//!
//! Single hosts and wider blocks are kept apart: hosts are in a hash, where one more costs the same however many there
//! are; of a set with intervals nft 1.0.6 reads every element before it adds one (100,000: 2 s, nftables on this
//! kernel).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;

use super::conditions::{number_text, octets};
use super::{Hooks, Lack, Table};
use crate::quarantine::lifelines::lifeline::{Endpoint, EndpointKey};
use crate::quarantine::lifelines::ways::{Bearer, InterfaceName, Way};
use crate::quarantine::plan::Plan;
use crate::{Arrange, Gather};

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
    pub endpoints: Vec<EndpointKey>,
    /// Those that are the nucleus' alone, sorted.
    pub nucleus: Vec<EndpointKey>,
    /// The ways that lifelines are tied to, sorted; empty where they are not.
    pub ways: Vec<Way>,
    /// What their frames leave by and are sent as, sorted; empty where they are not tied.
    pub bearers: Vec<(bool, Bearer)>,
    /// Hardware addresses of this device, sorted; empty where not all of them are known.
    pub senders: Vec<[u8; 6]>,
    /// Interfaces, with the hardware addresses that this device has on their links, sorted; empty where not all are known.
    pub hardware: Vec<Bearer>,
    /// Interfaces, with the addresses of this device that its links are the homes of, sorted.
    pub homes: Vec<(InterfaceName, IpAddr)>,
    /// Those addresses, with the hardware addresses that each is at there, sorted.
    pub called: Vec<(IpAddr, [u8; 6])>,
    /// Interfaces that frames leave by with a VLAN's tag, and its number, sorted.
    pub tags: Vec<(InterfaceName, u16)>,
    /// Blocked hosts, with the time each ends; sorted. Shared with the plan's list that they were made of: there may be a hundred
    /// thousand.
    pub hosts: Arc<Vec<(IpAddr, Option<Timestamp>)>>,
    /// Blocked blocks that are wider than a host, disjoint and sorted.
    pub nets: Arc<Vec<(IpNet, Option<Timestamp>)>>,
    /// The kernel has blocks that last only: whoever changes the elements ends them.
    pub lasting_nets: bool,
}

/// What one of our sets holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Lifelines: address, protocol and port.
    Endpoints,
    /// Those that are the nucleus' alone, likewise.
    Nucleus,
    /// Ways: address, interface and next hop. The hooks of interfaces do not know the next hop.
    Ways,
    /// Interfaces, and the hardware addresses that the frames of ways leave them with.
    Bearers,
    /// Hardware addresses of this device.
    Senders,
    /// Interfaces, and the hardware addresses that this device has on their links.
    Hardware,
    /// Interfaces, and the addresses of this device that are carried there.
    Homes,
    /// Those addresses, and the hardware addresses that they are at there.
    Called,
    /// Interfaces, and the VLANs whose frames leave by them.
    Tags,
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
    pub(super) fn all(table: &Table) -> impl Iterator<Item = Self> + use<> {
        let mut contents = [
            Content::Endpoints,
            Content::Nucleus,
            Content::Ways,
            Content::Bearers,
            Content::Senders,
            Content::Hardware,
            Content::Homes,
            Content::Called,
            Content::Tags,
            Content::Hosts,
            Content::Nets,
        ]
        .to_vec();
        contents.retain(|content| match content {
            Content::Endpoints | Content::Nucleus => table.has_endpoints,
            Content::Ways => table.has_ways(),
            Content::Bearers
            | Content::Senders
            | Content::Hardware
            | Content::Homes
            | Content::Called
            | Content::Tags => table.has_bearers(),
            Content::Hosts | Content::Nets => true,
        });
        [true, false].into_iter().flat_map(move |v4| {
            let own = contents.clone().into_iter();
            // Frames are of no IP version.
            let of_frames = [Content::Senders, Content::Hardware, Content::Tags];
            let own = own.filter(move |content| v4 || !of_frames.contains(content));
            own.map(move |content| Self { content, v4 })
        })
    }

    /// The set of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        if let Some(content) = match name {
            "senders" => Some(Content::Senders),
            "hardware" => Some(Content::Hardware),
            "tags" => Some(Content::Tags),
            _ => None,
        } {
            return Some(Self { content, v4: true });
        }
        let v4 = match name.chars().last()? {
            '4' => true,
            '6' => false,
            _ => return None,
        };
        let content = match &name[..name.len() - 1] {
            "endpoints" => Content::Endpoints,
            "nucleus" => Content::Nucleus,
            "ways" => Content::Ways,
            "bearers" => Content::Bearers,
            "homes" => Content::Homes,
            "called" => Content::Called,
            "hosts" => Content::Hosts,
            "nets" => Content::Nets,
            _ => return None,
        };
        Some(Self { content, v4 })
    }

    pub(super) fn name(self) -> String {
        let kind = match self.content {
            Content::Endpoints => "endpoints",
            Content::Nucleus => "nucleus",
            Content::Ways => "ways",
            Content::Bearers => "bearers",
            Content::Homes => "homes",
            Content::Called => "called",
            Content::Senders => return "senders".to_owned(),
            Content::Hardware => return "hardware".to_owned(),
            Content::Tags => return "tags".to_owned(),
            Content::Hosts => "hosts",
            Content::Nets => "nets",
        };
        format!("{kind}{}", if self.v4 { '4' } else { '6' })
    }

    /// Its type and flags as nft writes them.
    const fn kind(self) -> &'static str {
        match (self.content, self.v4) {
            (Content::Endpoints | Content::Nucleus, true) => "type ipv4_addr . inet_proto . inet_service",
            (Content::Endpoints | Content::Nucleus, false) => "type ipv6_addr . inet_proto . inet_service",
            (Content::Ways, true) => "type ipv4_addr . ifname . ipv4_addr",
            (Content::Ways, false) => "type ipv6_addr . ifname . ipv6_addr",
            (Content::Bearers | Content::Hardware, _) => "typeof meta oifname . @ll,48,48",
            (Content::Homes, true) => "typeof meta oifname . @ll,224,32",
            (Content::Homes, false) => "typeof meta oifname . @th,64,128",
            (Content::Called, true) => "typeof @ll,224,32 . @ll,176,48",
            (Content::Called, false) => "typeof @th,64,128 . @th,208,48",
            (Content::Senders, _) => "typeof @ll,48,48",
            (Content::Tags, _) => "typeof meta oifname . @ll,112,16",
            (Content::Hosts, true) => "type ipv4_addr\n    flags timeout",
            (Content::Hosts, false) => "type ipv6_addr\n    flags timeout",
            (Content::Nets, true) => "type ipv4_addr\n    flags interval, timeout",
            (Content::Nets, false) => "type ipv6_addr\n    flags interval, timeout",
        }
    }
}

impl SetElements {
    pub(super) fn of(plan: &Plan, hooks: &Hooks) -> Self {
        let keys: BTreeSet<EndpointKey> = plan.endpoints.iter().map(Endpoint::key).in_set();
        let (nucleus, endpoints) = keys.into_iter().partition(|key| plan.nucleus_alone.contains(key));
        let (hosts, nets) = plan.block.remotes.hosts_and_nets();
        let mut ways = plan.ties().unwrap_or_default().to_vec();
        ways.arrange();
        ways.dedup();
        let bearers = ways.iter().flat_map(|way| {
            let below = hooks.bearers.get(&way.interface).into_iter().flatten();
            below.map(|bearer| (way.address.is_ipv6(), *bearer))
        });
        let bearers: BTreeSet<_> = bearers.in_set();
        let lasting_nets = hooks.lacks.contains(&Lack::EndingBlock);
        Self {
            bearers: bearers.into_iter().collect(),
            endpoints,
            nucleus,
            ways,
            senders: hooks.senders.iter().copied().collect(),
            hardware: hooks.hardware.iter().copied().collect(),
            homes: hooks.homes.iter().copied().collect(),
            called: hooks.called.iter().copied().collect(),
            tags: hooks.vlans.iter().copied().collect(),
            hosts: Arc::clone(hosts),
            nets: if lasting_nets {
                Arc::new(nets.iter().map(|(net, _)| (*net, None)).collect())
            } else {
                Arc::clone(nets)
            },
            lasting_nets,
        }
    }

    /// The lifelines that a set of such holds.
    pub(super) fn keys(&self, content: Content) -> &[EndpointKey] {
        match content {
            Content::Nucleus => &self.nucleus,
            _ => &self.endpoints,
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
        let lifelines = (self.endpoints.len() + self.nucleus.len()).max(self.ways.len());
        let senders = self.senders.len().max(self.hardware.len());
        let senders = senders.max(self.homes.len()).max(self.called.len());
        let frames = self.bearers.len().max(senders).max(self.tags.len());
        let lifelines = lifelines.max(frames);
        blocks.max(self.hosts.len()).max(lifelines)
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
            Content::Nucleus => self.nucleus.iter().any(|(address, ..)| is_own(*address)),
            Content::Ways => self.ways.iter().any(|way| is_own(way.address)),
            Content::Bearers => self.bearers.iter().any(|(v6, _)| *v6 != set.v4),
            Content::Senders => !self.senders.is_empty(),
            Content::Hardware => !self.hardware.is_empty(),
            Content::Homes => self.homes.iter().any(|(_, address)| is_own(*address)),
            Content::Called => self.called.iter().any(|(address, _)| is_own(*address)),
            Content::Tags => !self.tags.is_empty(),
            Content::Hosts => self.hosts.iter().any(|(host, _)| is_own(*host)),
            Content::Nets => self.nets.iter().any(|(net, _)| is_own(net.addr())),
        }
    }

    /// Whether so many hosts of this family are blocked that their set is declared with [`LONG_SIZE`].
    pub(super) fn is_long(&self, v4: bool) -> bool {
        // Sorted: those of IPv4 come first.
        let first = self.hosts.partition_point(|(host, _)| host.is_ipv4());
        let count = if v4 { first } else { self.hosts.len() - first };
        // Where blocks do not end, sets with a bound have nothing that ends.
        count > LONG && !self.lasting_nets
    }

    /// Whether the sets of both are declared alike.
    pub(super) fn declared_as(&self, other: &Self) -> bool {
        self.lasting_nets == other.lasting_nets
            && [true, false]
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
            Content::Endpoints | Content::Nucleus => {
                let own = self
                    .keys(set.content)
                    .iter()
                    .filter(|(address, ..)| is_own(*address));
                own.map(|(address, protocol, port)| (format!("{address} . {protocol} . {port}"), None))
                    .collect()
            }
            Content::Ways => {
                let own = self.ways.iter().filter(|way| is_own(way.address));
                own.map(|way| {
                    let words = format!("{} . \"{}\" . {}", way.address, way.interface, way.next_hop);
                    (words, None)
                })
                .collect()
            }
            Content::Bearers => {
                let own = self.bearers.iter().filter(|(v6, _)| *v6 != set.v4);
                own.map(|(_, bearer)| (bearer_text(bearer), None)).collect()
            }
            Content::Hardware => {
                let own = self.hardware.iter();
                own.map(|bearer| (bearer_text(bearer), None)).collect()
            }
            Content::Senders => {
                let own = self.senders.iter().map(|hardware| (number_text(hardware), None));
                own.collect()
            }
            Content::Homes => {
                let own = self.homes.iter().filter(|(_, address)| is_own(*address));
                own.map(|home| (home_text(home), None)).collect()
            }
            Content::Called => {
                let own = self.called.iter().filter(|(address, _)| is_own(*address));
                own.map(|called| (called_text(called), None)).collect()
            }
            Content::Tags => {
                let own = self.tags.iter();
                own.map(|(interface, number)| (format!("\"{interface}\" . {number}"), None))
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

    pub(super) fn declare(&self, text: &mut String, table: &Table, now: Timestamp) {
        for set in OwnSet::all(table) {
            let kind = match set.kind().strip_suffix(", timeout") {
                Some(lasts) if self.lasting_nets => lasts,
                _ => set.kind(),
            };
            let _ = writeln!(text, "  set {} {{\n    {kind}", set.name());
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
            lasting_nets: self.lasting_nets,
            endpoints: missing(&self.endpoints, &other.endpoints),
            nucleus: missing(&self.nucleus, &other.nucleus),
            ways: missing(&self.ways, &other.ways),
            bearers: missing(&self.bearers, &other.bearers),
            senders: missing(&self.senders, &other.senders),
            hardware: missing(&self.hardware, &other.hardware),
            homes: missing(&self.homes, &other.homes),
            called: missing(&self.called, &other.called),
            tags: missing(&self.tags, &other.tags),
            hosts: Arc::new(missing(&self.hosts, &other.hosts)),
            nets: Arc::new(missing(&self.nets, &other.nets)),
        }
    }
}

fn bearer_text(bearer: &Bearer) -> String {
    let hardware = number_text(&bearer.hardware);
    format!("\"{}\" . {hardware}", bearer.interface)
}

fn home_text((interface, address): &(InterfaceName, IpAddr)) -> String {
    format!("\"{interface}\" . {}", number_text(octets(*address).bytes()))
}

fn called_text((address, hardware): &(IpAddr, [u8; 6])) -> String {
    let address = number_text(octets(*address).bytes());
    format!("{address} . {}", number_text(hardware))
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
