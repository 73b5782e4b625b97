//! Compares what the kernel lists with what the plan wants.
//!
//! In: a [`Ruleset`], and of each table of ours that exists its contents as the kernel lists them, with the elements of its
//! sets ([`ListedTable`]). Out: every difference. Rules are compared expression by expression, so there is no second notion of
//! what was loaded: what somebody rewrote under our comments differs from the plan.
//! Invariant: nothing may call a plan enforced unless this found no difference. Interfaces of the egress chain are compared
//! by the caller, each time: one that leaves takes its hook with it.

#[path = "verify_times.rs"]
mod times;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use jiff::Timestamp;
use nf_tables::{Chain, ChainContents, Devices, Element, Interval, Object, TableContents, intervals_of};

use super::conditions::address_of;
use super::elements::{Content, MAX_TIMEOUT, OwnSet};
use super::keys::{bearer_of, called_of, endpoint_of, home_of, plain, sender_of, tag_of, way_of};
use super::{CarriedCounters, Layer, Ruleset, SetElements, TABLE, Table};
use crate::Arrange;
use crate::quarantine::lifelines::lifeline::EndpointKey;
use crate::quarantine::lifelines::ways::{Bearer, InterfaceName, Way};
use times::strays;

/// Differences that are named; more say nothing new.
const MAX_DIFFERENCES: usize = 8;

/// The listings of our tables that exist.
pub type Listings = BTreeMap<Layer, ListedTable>;

/// What listings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// What differs from what was wanted, each a sentence.
    pub differences: Vec<String>,
    /// Everything but the elements is as what was loaded before has it; `false` where that is not known.
    pub is_as_before: bool,
    /// So are the elements: nothing has changed since it was loaded. `false` where that is not known.
    pub is_before: bool,
}

/// One of our tables as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTable {
    contents: TableContents,
    elements: ListedElements,
}

/// Whether one of our sets has that name.
#[must_use]
pub fn is_own_set(name: &str) -> bool {
    OwnSet::named(name).is_some()
}

/// The elements of a table's sets, each as small as it can be kept: there may be a hundred thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedElements {
    endpoints: Vec<EndpointKey>,
    nucleus: Vec<EndpointKey>,
    ways: Vec<Way>,
    bearers: Vec<(bool, Bearer)>,
    senders: Vec<[u8; 6]>,
    hardware: Vec<Bearer>,
    homes: Vec<(InterfaceName, IpAddr)>,
    called: Vec<(IpAddr, [u8; 6])>,
    tags: Vec<(InterfaceName, u16)>,
    /// With the milliseconds that are left.
    hosts: Vec<(IpAddr, Option<u64>)>,
    nets: [Vec<Element>; 2],
    /// Elements that none of ours can be.
    foreign: usize,
}

impl ListedElements {
    /// Takes one of the elements of the set of that name.
    pub fn take(&mut self, set: &str, element: Element) {
        // Only remotes end by themselves.
        let key = plain(&element);
        let lasting = key.filter(|_| element.timeout.is_none());
        let taken = OwnSet::named(set).and_then(|own| {
            match own.content {
                Content::Endpoints => self.endpoints.push(endpoint_of(lasting?, own.v4)?),
                Content::Nucleus => self.nucleus.push(endpoint_of(lasting?, own.v4)?),
                Content::Ways => self.ways.push(way_of(lasting?, own.v4)?),
                Content::Bearers => self.bearers.push((!own.v4, bearer_of(lasting?)?)),
                Content::Senders => self.senders.push(sender_of(lasting?)?),
                Content::Hardware => self.hardware.push(bearer_of(lasting?)?),
                Content::Homes => self.homes.push(home_of(lasting?, own.v4)?),
                Content::Called => self.called.push(called_of(lasting?, own.v4)?),
                Content::Tags => self.tags.push(tag_of(lasting?)?),
                Content::Hosts => {
                    let host = address_of(key?.bytes())?;
                    let left = element.timeout.map(|_| element.expiration.unwrap_or_default());
                    self.hosts.push((host, left));
                }
                Content::Nets => self.nets[usize::from(!own.v4)].push(element),
            }
            Some(())
        });
        self.foreign += usize::from(taken.is_none());
    }

    /// Takes the elements of other sets, too.
    pub fn extend(&mut self, other: Self) {
        let Self {
            endpoints,
            nucleus,
            ways,
            bearers,
            senders,
            hardware,
            homes,
            called,
            tags,
            hosts,
            nets,
            foreign,
        } = other;
        self.endpoints.extend(endpoints);
        self.nucleus.extend(nucleus);
        self.ways.extend(ways);
        self.bearers.extend(bearers);
        self.senders.extend(senders);
        self.hardware.extend(hardware);
        self.homes.extend(homes);
        self.called.extend(called);
        self.tags.extend(tags);
        self.hosts.extend(hosts);
        for (own, others) in self.nets.iter_mut().zip(nets) {
            own.extend(others);
        }
        self.foreign += foreign;
    }
}

impl ListedTable {
    /// What is compared of a table: not what traffic has changed of it, nor the interfaces of its chains.
    #[must_use]
    pub fn new(contents: TableContents, elements: ListedElements) -> Self {
        Self {
            contents: comparable(contents),
            elements,
        }
    }
}

fn comparable(contents: TableContents) -> TableContents {
    let mut contents = contents.uncounted();
    // A counter that was made later is listed behind the others, and counts no otherwise.
    contents
        .objects
        .arrange_by(|one, other| one.name.cmp(&other.name));
    // So are chains and sets.
    contents
        .chains
        .arrange_by(|one, other| one.chain.name.cmp(&other.chain.name));
    contents.sets.arrange_by(|one, other| one.name.cmp(&other.name));
    for ChainContents { chain, .. } in &mut contents.chains {
        if let Some(hook) = &mut chain.hook {
            hook.devices = Devices::default();
        }
    }
    contents
}

/// Compares listings with what is wanted. Of `before`, which was loaded before, elements that have just ended may still be
/// there.
pub fn compare(
    wanted: &Ruleset,
    listings: &Listings,
    before: Option<&Ruleset>,
    now: Timestamp,
) -> Comparison {
    let none = SetElements::default();
    let also = before.map_or(&none, |before| &before.elements);
    let differences = verify(wanted, listings, also, now).err().unwrap_or_default();
    let is_as_before = before.is_some_and(|before| structure_differences(before, listings).is_empty());
    // Where what is wanted is there it does not matter.
    let to_compare = before.filter(|_| is_as_before && !differences.is_empty());
    Comparison {
        is_before: to_compare.is_some_and(|before| verify(before, listings, &none, now).is_ok()),
        differences,
        is_as_before,
    }
}

/// Checks listings. `also` is what was loaded before: what of it has just ended may still be there.
///
/// # Errors
/// The differences, each a sentence.
pub fn verify(
    ruleset: &Ruleset,
    listings: &Listings,
    also: &SetElements,
    now: Timestamp,
) -> Result<(), Vec<String>> {
    let mut differences = structure_differences(ruleset, listings);
    for table in &ruleset.tables {
        if let Some(listed) = listings.get(&table.layer) {
            let elements = Elements {
                layer: table.layer,
                listed: &listed.elements,
                wanted: &ruleset.elements,
                also,
                now,
            };
            elements.compare(table, &mut differences);
        }
    }
    differences.truncate(MAX_DIFFERENCES);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences)
    }
}

/// What differs but for elements.
fn structure_differences(ruleset: &Ruleset, listings: &Listings) -> Vec<String> {
    let mut differences = Vec::new();
    for layer in Layer::ALL {
        match (ruleset.table(layer), listings.get(&layer)) {
            (None, None) => {}
            (None, Some(_)) => differences.push(format!("the table {layer} {TABLE} is still there")),
            (Some(_), None) => differences.push(format!("the table {layer} {TABLE} is missing")),
            (Some(table), Some(listed)) => {
                let wanted = comparable(ruleset.contents(table, &CarriedCounters::default()));
                if wanted != listed.contents {
                    let named = differences.len();
                    compare_contents(layer, &wanted, &listed.contents, &mut differences);
                    if differences.len() == named {
                        differences.push(format!("the table {layer} {TABLE} is meant otherwise"));
                    }
                }
            }
        }
    }
    differences
}

fn compare_contents(
    layer: Layer,
    wanted: &TableContents,
    listed: &TableContents,
    differences: &mut Vec<String>,
) {
    let chains = |contents: &TableContents| contents.chains.len();
    for ChainContents { chain, rules } in &wanted.chains {
        let name = format!("chain {} of {layer} {TABLE}", chain.name);
        let Some(found) = listed.chains.iter().find(|found| found.chain.name == chain.name) else {
            differences.push(format!("the {name} is missing"));
            continue;
        };
        if found.chain != *chain {
            differences.push(format!(
                "the {name} is not a filter on its hook with policy {}",
                policy(chain)
            ));
        }
        compare_rules(&name, rules, &found.rules, differences);
    }
    if chains(wanted) != chains(listed) {
        differences.push(format!(
            "the table {layer} {TABLE} has {} chains, expected {}",
            chains(listed),
            chains(wanted)
        ));
    }
    if wanted.sets != listed.sets {
        differences.push(format!("the sets of {layer} {TABLE} are not those expected"));
    }
    let missing = |object: &&Object| !listed.objects.contains(object);
    let foreign = |object: &&Object| !wanted.objects.contains(object);
    for object in wanted.objects.iter().filter(missing) {
        let name = &object.name;
        differences.push(format!("{name} of {layer} {TABLE} is missing, or another one"));
    }
    for object in listed.objects.iter().filter(foreign) {
        differences.push(format!("{} of {layer} {TABLE} should not be there", object.name));
    }
}

fn compare_rules(
    name: &str,
    wanted: &[nf_tables::Rule],
    listed: &[nf_tables::Rule],
    differences: &mut Vec<String>,
) {
    if wanted.len() != listed.len() {
        differences.push(format!(
            "the {name} has {} rules, expected {}",
            listed.len(),
            wanted.len()
        ));
    }
    for (expected, rule) in wanted.iter().zip(listed) {
        let comment = |rule: &nf_tables::Rule| {
            let comment = rule.comment().filter(|comment| !comment.is_empty());
            comment.unwrap_or("a foreign rule").to_owned()
        };
        if rule.comment() != expected.comment() {
            differences.push(format!(
                "the {name} has {} where {} is expected",
                comment(rule),
                comment(expected)
            ));
        } else if rule != expected {
            let same = rule.expressions.iter().zip(&expected.expressions);
            let place = same.take_while(|(found, wanted)| found == wanted).count() + 1;
            differences.push(format!(
                "the rule {} of the {name} was rewritten, from its step {place} on",
                comment(rule)
            ));
        }
    }
}

fn policy(chain: &Chain) -> &'static str {
    match chain.policy {
        Some(nf_tables::Policy::Drop) => "drop",
        _ => "accept",
    }
}

/// The elements of one listed table, and what they should be.
struct Elements<'a> {
    layer: Layer,
    listed: &'a ListedElements,
    wanted: &'a SetElements,
    also: &'a SetElements,
    now: Timestamp,
}

impl Elements<'_> {
    fn compare(&self, table: &Table, differences: &mut Vec<String>) {
        let layer = self.layer;
        if self.listed.foreign > 0 {
            differences.push(format!(
                "{} elements of {layer} {TABLE} are none that we make",
                self.listed.foreign
            ));
        }
        for (listed, wanted) in [
            (&self.listed.endpoints, &self.wanted.endpoints),
            (&self.listed.nucleus, &self.wanted.nucleus),
        ] {
            let mut listed = listed.clone();
            listed.arrange();
            let expected: &[_] = if table.has_endpoints { wanted } else { &[] };
            if listed != expected {
                differences.push(format!(
                    "the lifeline sets of {layer} {TABLE} hold {} addresses that are not the {} expected",
                    listed.len(),
                    expected.len()
                ));
            }
        }
        let mut ways = self.listed.ways.clone();
        ways.arrange();
        let expected: &[_] = if table.has_ways() { &self.wanted.ways } else { &[] };
        if ways != expected {
            differences.push(format!(
                "the sets of ways of {layer} {TABLE} hold {} that are not the {} expected",
                ways.len(),
                expected.len()
            ));
        }
        let mut bearers = self.listed.bearers.clone();
        bearers.arrange();
        let expected: &[_] = if table.has_bearers() {
            &self.wanted.bearers
        } else {
            &[]
        };
        if bearers != expected {
            differences.push(format!(
                "the sets of bearers of {layer} {TABLE} hold {} that are not the {} expected",
                bearers.len(),
                expected.len()
            ));
        }
        self.compare_frames(table, differences);
        self.compare_hosts(differences);
        self.compare_nets(differences);
    }

    /// What frames are told by.
    fn compare_frames(&self, table: &Table, differences: &mut Vec<String>) {
        let none = SetElements::default();
        let wanted = if table.has_bearers() { self.wanted } else { &none };
        let listed = self.listed;
        let are_alike = holds(&listed.senders, &wanted.senders)
            && holds(&listed.hardware, &wanted.hardware)
            && holds(&listed.homes, &wanted.homes)
            && holds(&listed.called, &wanted.called)
            && holds(&listed.tags, &wanted.tags);
        if !are_alike {
            differences.push(format!(
                "the sets by which frames of {} {TABLE} are told hold others than expected",
                self.layer
            ));
        }
    }

    fn compare_hosts(&self, differences: &mut Vec<String>) {
        let Self {
            layer,
            listed,
            wanted,
            also,
            now,
        } = *self;
        let mut hosts = listed.hosts.clone();
        hosts.sort_unstable();
        let (wrong, missing) = strays(&hosts, &wanted.hosts, &also.hosts, now);
        if wrong + missing > 0 {
            differences.push(format!(
                "the blocked hosts of {layer} {TABLE} differ: {wrong} should not be there or not for that time, {missing} are missing"
            ));
        }
    }

    fn compare_nets(&self, differences: &mut Vec<String>) {
        let Self {
            layer,
            listed,
            wanted,
            also,
            now,
        } = *self;
        let intervals = listed.nets.iter().map(|elements| intervals_of(elements.clone()));
        let Some(intervals) = intervals.collect::<Option<Vec<_>>>() else {
            differences.push(format!("the blocked nets of {layer} {TABLE} are no blocks"));
            return;
        };
        // The kernel lists what it was given, each block for itself.
        let mut found = Vec::new();
        let mut torn = 0;
        for interval in intervals.iter().flatten() {
            match blocks(interval)[..] {
                [block] => {
                    let ends = interval.timeout.map(|_| interval.expiration.unwrap_or_default());
                    found.push((block, ends));
                }
                _ => torn += 1,
            }
        }
        found.sort_unstable();
        let (strays, missing) = strays(&found, &wanted.nets, &also.nets, now);
        let wrong = torn + strays;
        if wrong + missing > 0 {
            differences.push(format!(
                "the blocked nets of {layer} {TABLE} differ: {wrong} should not be there or not for that time, {missing} are missing"
            ));
        }
    }
}

/// Whether these are listed, in whatever order.
fn holds<T: Ord + Clone>(listed: &[T], wanted: &[T]) -> bool {
    let mut listed = listed.to_vec();
    listed.arrange();
    listed == wanted
}

/// The blocks that an interval of addresses is made of.
fn blocks(interval: &Interval) -> Vec<IpNet> {
    let bounds = [interval.first, interval.last].map(|bound| address_of(bound.bytes()));
    match bounds {
        [Some(IpAddr::V4(a)), Some(IpAddr::V4(b))] => Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect(),
        [Some(IpAddr::V6(a)), Some(IpAddr::V6(b))] => Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
