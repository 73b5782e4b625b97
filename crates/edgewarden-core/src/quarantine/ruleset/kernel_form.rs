//! Our tables as the kernel takes them, without any text in between.
//!
//! In: a [`Ruleset`], what was counted, the time. Out: the transaction that loads it whole, and the contents that a listing
//! of each table must have. The text of [`Ruleset::text`] makes the same.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nf_tables::{
    Batch, Chain, ChainContents, Counter, Element, Family, Hook, Interval, KeyOrder, KeyType, Limit,
    LimitFlags, LimitKind, MetaKey, Object, Policy, Quota, QuotaFlags, Set, SetDescription, SetFlags,
    TableContents, TypeOf, UserData, Value, interval_elements,
};

use super::conditions::{FilledSet, octets, transport_number};
use super::elements::{Content, OwnSet, timeout_seconds};
use super::marks::{ARP_OUTPUT, MARKED};
use super::{CarriedCounters, Layer, Ruleset, SetElements, TABLE, Table, burst_of, quota_name};
use crate::Gather;
use crate::quarantine::lifelines::ways::Bearer;

/// Bytes of a key of each family's endpoints: address, protocol and port, each filled up to four.
const ENDPOINT4: u32 = 12;
const ENDPOINT6: u32 = 24;
/// Of each family's ways: address, interface and next hop.
const WAY4: u32 = 24;
const WAY6: u32 = 48;
/// Of bearers: interface and hardware address.
const BEARER: u32 = 24;
/// What a sender is told by: its hardware address.
const SENDER_KEY: TypeOf = TypeOf::Bits {
    base: 1,
    offset: 48,
    length: 48,
};
const SENDER: u32 = 6;
/// What a tag is told by: the interface that a frame leaves by, and the number behind its type.
const TAG_KEY: TypeOf = TypeOf::Parts(&[
    TypeOf::Meta(MetaKey::OutputName.number()),
    TypeOf::Bits {
        base: 1,
        offset: 112,
        length: 16,
    },
]);
const TAG: u32 = 20;
/// What a home is told by: the interface that a frame leaves by, and where a message of ARP, or of neighbours, has whom it speaks of.
const HOME_KEYS: [TypeOf; 2] = [
    TypeOf::Parts(&[TypeOf::Meta(MetaKey::OutputName.number()), ARP_ADDRESS]),
    TypeOf::Parts(&[TypeOf::Meta(MetaKey::OutputName.number()), TARGET]),
];
/// And what an address is called by: that, and the hardware address beside it.
const CALLED_KEYS: [TypeOf; 2] = [
    TypeOf::Parts(&[
        ARP_ADDRESS,
        TypeOf::Bits {
            base: 1,
            offset: 176,
            length: 48,
        },
    ]),
    TypeOf::Parts(&[
        TARGET,
        TypeOf::Bits {
            base: 3,
            offset: 208,
            length: 48,
        },
    ]),
];
const ARP_ADDRESS: TypeOf = TypeOf::Bits {
    base: 1,
    offset: 224,
    length: 32,
};
const TARGET: TypeOf = TypeOf::Bits {
    base: 3,
    offset: 64,
    length: 128,
};
/// Bytes of an interface's name, and of a hardware address filled up.
const NAME: u32 = 16;
const FILLED_HARDWARE: u32 = 8;
const ADDRESS4: u32 = 4;
const ADDRESS6: u32 = 16;
/// What a bearer is told by: the interface that a frame leaves by, and its sender's hardware address.
const BEARER_KEY: TypeOf = TypeOf::Parts(&[
    TypeOf::Meta(MetaKey::OutputName.number()),
    TypeOf::Bits {
        base: 1,
        offset: 48,
        length: 48,
    },
]);

/// Our table of this layer.
pub fn own_table(layer: Layer) -> nf_tables::Table {
    let family = match layer {
        Layer::Inet => Family::Inet,
        Layer::Bridge => Family::Bridge,
        Layer::Netdev => Family::Netdev,
        Layer::Arp => Family::Arp,
    };
    nf_tables::Table::new(family, TABLE)
}

/// Whether a table is one of ours.
#[must_use]
pub fn is_own_table(table: &nf_tables::Table) -> bool {
    Layer::ALL.map(own_table).contains(table)
}

/// The transaction that removes our tables.
pub fn removal(present: &BTreeSet<Layer>) -> Batch {
    let mut batch = Batch::new();
    for layer in present {
        batch.delete_table(&own_table(*layer));
    }
    batch
}

impl Ruleset {
    /// The transaction that replaces the tables that are `present` by these, whatever became of them since: a table that came
    /// or went meanwhile must not look like one that this kernel does not take.
    pub fn load_batch(&self, present: &BTreeSet<Layer>, counted: &CarriedCounters, now: Timestamp) -> Batch {
        let mut batch = Batch::new();
        let wanted = self.tables.iter().map(|table| table.layer);
        let layers: BTreeSet<Layer> = wanted.chain(present.iter().copied()).in_set();
        for layer in layers {
            batch.clear_table(&own_table(layer));
        }
        self.add_to(&mut batch, counted, now);
        batch
    }

    /// The transaction that replaces these tables by themselves, whatever there is left of them.
    pub fn reload_batch(&self, counted: &CarriedCounters, now: Timestamp) -> Batch {
        self.load_batch(&BTreeSet::new(), counted, now)
    }

    fn add_to(&self, batch: &mut Batch, counted: &CarriedCounters, now: Timestamp) {
        for table in &self.tables {
            self.add_table(batch, table, counted, now);
        }
    }

    /// One of these tables, with all that its sets hold.
    pub(super) fn add_table(
        &self,
        batch: &mut Batch,
        table: &Table,
        counted: &CarriedCounters,
        now: Timestamp,
    ) {
        batch.add_contents(&self.contents(table, counted));
        let own = own_table(table.layer);
        for set in OwnSet::all(table) {
            batch.add_elements(&own, &set.name(), self.elements.in_kernel(set, true, now));
        }
    }

    /// What the kernel must list of one of these tables, whose counters go on from `counted`.
    pub fn contents(&self, table: &Table, counted: &CarriedCounters) -> TableContents {
        let mut contents = TableContents::new(own_table(table.layer));
        contents.objects = self.objects(table, counted);
        contents.sets = OwnSet::all(table)
            .map(|set| declared(set, &self.elements))
            .chain(table.filled_sets().into_iter().map(FilledSet::declared))
            .collect();
        contents.chains = table.chains.iter().map(chain_contents).collect();
        contents
    }

    fn objects(&self, table: &Table, counted: &CarriedCounters) -> Vec<Object> {
        let counter = |name: &str| Object::new(name, counter_from(counted, table.layer, name));
        let mut objects: Vec<Object> = table.counters().into_iter().map(counter).collect();
        if table.layer != Layer::Inet {
            return objects;
        }
        for (index, limited) in self.limits.iter().enumerate() {
            if let Some(rate) = limited.bytes_per_second {
                let limit = Limit {
                    rate,
                    seconds: 1,
                    burst: u32::try_from(burst_of(rate)).unwrap_or(u32::MAX),
                    kind: LimitKind::Bytes,
                    flags: LimitFlags::OVER,
                };
                objects.push(Object::new(format!("rate{index}"), limit));
            }
            if let Some(quota) = limited.quota {
                let name = quota_name(&limited.order, quota.since);
                let used = counted.quotas.get(&(table.layer, name.clone()));
                let state = Quota {
                    bytes: quota.bytes,
                    flags: QuotaFlags::OVER,
                    used: used.copied().unwrap_or_default(),
                };
                objects.push(Object::new(name, state));
            }
        }
        objects
    }
}

/// A counter that goes on from what was counted.
pub(super) fn counter_from(counted: &CarriedCounters, layer: Layer, name: &str) -> Counter {
    let before = counted.counters.get(&(layer, name.to_owned()));
    let (packets, bytes) = before.copied().unwrap_or_default();
    Counter { bytes, packets }
}

pub(super) fn chain_contents(chain: &super::Chain) -> ChainContents {
    let priority = chain.priority;
    let hook = match chain.hook {
        "prerouting" => Hook::new(Hook::PREROUTING, priority),
        "input" => Hook::new(Hook::INPUT, priority),
        "forward" => Hook::new(Hook::FORWARD, priority),
        "output" if chain.name == MARKED => Hook::new(ARP_OUTPUT, priority),
        "output" => Hook::new(Hook::OUTPUT, priority),
        "postrouting" => Hook::new(Hook::POSTROUTING, priority),
        _ => Hook::egress(priority, chain.devices.iter().map(|device| device.name.clone())),
    };
    let policy = match chain.policy {
        "drop" => Policy::Drop,
        _ => Policy::Accept,
    };
    let rules = chain.rules.iter();
    ChainContents {
        chain: if chain.hook.is_empty() {
            Chain::regular(chain.name)
        } else {
            Chain::filter(chain.name, hook, policy)
        },
        rules: rules
            .map(|rule| nf_tables::Rule::new(rule.expressions.clone(), &rule.comment))
            .collect(),
    }
}

/// An element whose key is made of parts.
fn joined(parts: &[&[u8]]) -> Option<Element> {
    Value::concatenation(parts).map(Element::new)
}

fn bearer_element(bearer: &Bearer) -> Option<Element> {
    joined(&[bearer.interface.bytes(), &bearer.hardware])
}

/// A set of ours, empty.
fn declared(set: OwnSet, elements: &SetElements) -> Set {
    let (address, length) = if set.v4 {
        (KeyType::IPV4, ADDRESS4)
    } else {
        (KeyType::IPV6, ADDRESS6)
    };
    let family = usize::from(!set.v4);
    let name = KeyType::INTERFACE_NAME;
    let number = KeyType::INTEGER;
    let of_parts = |parts: &[KeyType], length, told_by| Set {
        userdata: UserData::of_set(KeyOrder::None, false, Some(told_by)),
        ..Set::new(set.name(), KeyType::concatenation(parts), length, SetFlags::NONE)
    };
    match set.content {
        Content::Endpoints | Content::Nucleus => of_parts(
            &[address, KeyType::TRANSPORT_PROTOCOL, KeyType::PORT],
            [ENDPOINT4, ENDPOINT6][family],
            TypeOf::Concatenation,
        ),
        Content::Ways => of_parts(
            &[address, name, address],
            [WAY4, WAY6][family],
            TypeOf::Concatenation,
        ),
        Content::Bearers | Content::Hardware => of_parts(&[name, number], BEARER, BEARER_KEY),
        Content::Homes => of_parts(&[name, number], NAME + length, HOME_KEYS[family]),
        Content::Called => of_parts(&[number, number], length + FILLED_HARDWARE, CALLED_KEYS[family]),
        Content::Tags => of_parts(&[name, number], TAG, TAG_KEY),
        Content::Senders => Set {
            userdata: UserData::of_set(KeyOrder::Network, false, Some(SENDER_KEY)),
            ..Set::new(set.name(), number, SENDER, SetFlags::NONE)
        },
        Content::Hosts => Set {
            description: SetDescription {
                size: elements.size(set),
                ..SetDescription::default()
            },
            ..Set::new(set.name(), address, length, SetFlags::TIMEOUT)
        },
        Content::Nets => {
            let ends = if elements.lasting_nets {
                SetFlags::NONE
            } else {
                SetFlags::TIMEOUT
            };
            let flags = SetFlags::INTERVAL.with(ends);
            Set::new(set.name(), address, length, flags)
        }
    }
}

impl SetElements {
    /// The elements of one set. `into_empty`: it has none yet.
    pub(super) fn in_kernel(
        &self,
        set: OwnSet,
        into_empty: bool,
        now: Timestamp,
    ) -> Box<dyn Iterator<Item = Element> + '_> {
        let time = move |expires: Option<Timestamp>| {
            let seconds = timeout_seconds(expires?, now);
            Some(u64::try_from(seconds).ok()?.saturating_mul(1_000))
        };
        let OwnSet { content, v4 } = set;
        match content {
            Content::Endpoints | Content::Nucleus => {
                let own = self
                    .keys(content)
                    .iter()
                    .filter(move |(address, ..)| address.is_ipv4() == v4);
                Box::new(own.filter_map(|(address, protocol, port)| {
                    let address = octets(*address);
                    let number = [transport_number(*protocol)];
                    joined(&[address.bytes(), &number, &port.to_be_bytes()])
                }))
            }
            Content::Ways => {
                let own = self.ways.iter().filter(move |way| way.address.is_ipv4() == v4);
                Box::new(own.filter_map(|way| {
                    let (address, hop) = (octets(way.address), octets(way.next_hop));
                    joined(&[address.bytes(), way.interface.bytes(), hop.bytes()])
                }))
            }
            Content::Bearers => {
                let own = self.bearers.iter().filter(move |(v6, _)| *v6 != v4);
                Box::new(own.filter_map(|(_, bearer)| bearer_element(bearer)))
            }
            Content::Hardware => Box::new(self.hardware.iter().filter_map(bearer_element)),
            Content::Senders => Box::new(self.senders.iter().map(|hardware| Element::new(*hardware))),
            Content::Homes | Content::Called | Content::Tags => self.places(set),
            Content::Hosts => {
                let own = self.hosts.iter().filter(move |(host, _)| host.is_ipv4() == v4);
                Box::new(
                    own.map(move |(host, expires)| Element::new(octets(*host)).with_timeout(time(*expires))),
                )
            }
            Content::Nets => {
                let own = self
                    .nets
                    .iter()
                    .filter(move |(net, _)| net.addr().is_ipv4() == v4);
                let intervals = own.map(move |(net, expires)| {
                    Interval::prefix(octets(net.addr()), net.prefix_len().into()).with_timeout(time(*expires))
                });
                Box::new(interval_elements(intervals, into_empty))
            }
        }
    }

    /// The elements of one of the sets of what is on which link.
    fn places(&self, OwnSet { content, v4 }: OwnSet) -> Box<dyn Iterator<Item = Element> + '_> {
        match content {
            Content::Homes => {
                let own = self
                    .homes
                    .iter()
                    .filter(move |(_, address)| address.is_ipv4() == v4);
                Box::new(own.filter_map(|(interface, address)| {
                    joined(&[interface.bytes(), octets(*address).bytes()])
                }))
            }
            Content::Called => {
                let own = self
                    .called
                    .iter()
                    .filter(move |(address, _)| address.is_ipv4() == v4);
                Box::new(own.filter_map(|(address, hardware)| joined(&[octets(*address).bytes(), hardware])))
            }
            _ => Box::new(
                self.tags
                    .iter()
                    .filter_map(|(interface, number)| joined(&[interface.bytes(), &number.to_be_bytes()])),
            ),
        }
    }
}
