//! Compares what the kernel lists with what the plan wants.
//!
//! In: a [`Ruleset`] and the JSON of `nft -j list table` for each of our tables that exists. Out: every difference.
//! Invariant: nothing may call a plan enforced unless this found no difference. Interfaces of the egress chain are
//! compared by the caller: nft 1.0.6 leaves them out of its JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Chain, Layer, Ruleset, SetElements, TABLE, Table};
use crate::quarantine::orders::order::Protocol;

/// Differences that are named; more say nothing new.
const MAX_DIFFERENCES: usize = 8;
/// How far the kernel's timer of an element may be from the plan's time: loading a large set takes seconds.
const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// The listings of our tables that exist.
pub type Listings = BTreeMap<Layer, Value>;

/// What listings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// What differs from what was wanted, each a sentence.
    pub differences: Vec<String>,
    /// What identifies the tables beyond that, see [`fingerprint`].
    pub fingerprint: String,
}

/// Compares listings with what is wanted; as [`verify`].
pub fn compare(
    wanted: &Ruleset,
    listings: Listings,
    also: Option<&Ruleset>,
    now: Timestamp,
) -> Comparison {
    let none = SetElements::default();
    let also = also.map_or(&none, |also| &also.elements);
    Comparison {
        differences: verify(wanted, &listings, also, now).err().unwrap_or_default(),
        fingerprint: fingerprint(listings),
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
    let mut differences = Vec::new();
    for layer in Layer::ALL {
        let table = ruleset.tables.iter().find(|table| table.layer == layer);
        match (table, listings.get(&layer)) {
            (None, None) => {}
            (None, Some(_)) => differences.push(format!("the table {layer} {TABLE} is still there")),
            (Some(_), None) => differences.push(format!("the table {layer} {TABLE} is missing")),
            (Some(table), Some(listing)) => {
                let objects = objects(listing);
                compare_chains(table, &objects, &mut differences);
                ListedSets { table, objects }.compare(&ruleset.elements, also, now, &mut differences);
            }
        }
    }
    differences.truncate(MAX_DIFFERENCES);
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences)
    }
}

fn compare_chains(table: &Table, objects: &[&Value], differences: &mut Vec<String>) {
    for chain in &table.chains {
        compare_chain(table.layer, chain, objects, differences);
    }
    let chains = objects
        .iter()
        .filter(|object| object.get("chain").is_some())
        .count();
    if chains != table.chains.len() {
        differences.push(format!(
            "the table {} {TABLE} has {chains} chains, expected {}",
            table.layer,
            table.chains.len()
        ));
    }
}

fn objects(listing: &Value) -> Vec<&Value> {
    listing
        .get("nftables")
        .and_then(Value::as_array)
        .map(|list| list.iter().collect())
        .unwrap_or_default()
}

fn compare_chain(layer: Layer, chain: &Chain, objects: &[&Value], differences: &mut Vec<String>) {
    let hook = chain.hook;
    let name = format!("chain {hook} of {layer} {TABLE}");
    let listed = objects
        .iter()
        .filter_map(|object| object.get("chain"))
        .find(|c| c["name"] == hook);
    let Some(listed) = listed else {
        differences.push(format!("the {name} is missing"));
        return;
    };
    if listed["hook"] != hook || listed["type"] != "filter" || listed["policy"] != chain.policy {
        differences.push(format!(
            "the {name} is not a filter on its hook with policy {}",
            chain.policy
        ));
    }
    let rules: Vec<&Value> = objects
        .iter()
        .filter_map(|object| object.get("rule"))
        .filter(|rule| rule["chain"] == hook)
        .collect();
    if rules.len() != chain.rules.len() {
        differences.push(format!(
            "the {name} has {} rules, expected {}",
            rules.len(),
            chain.rules.len()
        ));
    }
    for (expected, rule) in chain.rules.iter().zip(&rules) {
        let verdict = rule["expr"]
            .as_array()
            .and_then(|list| list.last())
            .and_then(|last| {
                ["accept", "drop"]
                    .into_iter()
                    .find(|verdict| last.get(verdict).is_some())
            });
        if rule["comment"] != expected.comment.as_str() || verdict != expected.verdict() {
            differences.push(format!(
                "the {name} has {} where {} is expected",
                rule["comment"].as_str().unwrap_or("a foreign rule"),
                expected.comment
            ));
        }
    }
}

/// The sets of one listed table.
struct ListedSets<'a> {
    table: &'a Table,
    objects: Vec<&'a Value>,
}

impl ListedSets<'_> {
    fn compare(
        &self,
        wanted: &SetElements,
        also: &SetElements,
        now: Timestamp,
        differences: &mut Vec<String>,
    ) {
        let layer = self.table.layer;
        if self.table.has_endpoints {
            let mut listed: Vec<_> = self.of("endpoints").filter_map(read_endpoint).collect();
            listed.sort_unstable();
            if listed != wanted.endpoints {
                differences.push(format!(
                    "the lifeline sets of {layer} {TABLE} hold {} addresses that are not the {} expected",
                    listed.len(),
                    wanted.endpoints.len()
                ));
            }
        }
        let hosts: BTreeMap<IpAddr, Option<u64>> = self.of("hosts").filter_map(read_host).collect();
        let right = |host: &IpAddr, ends: &Option<u64>| match find(&wanted.hosts, host) {
            Some(expires) => in_time(expires, *ends, now),
            None => find(&also.hosts, host).is_some_and(|expires| ended(expires, now)),
        };
        let wrong = hosts.iter().filter(|(host, ends)| !right(host, ends)).count();
        let soon = now.saturating_add(SLACK).unwrap_or(now);
        let gone = |(host, expires): &&(IpAddr, Option<Timestamp>)| {
            !hosts.contains_key(host) && !ended(*expires, soon)
        };
        let missing = wanted.hosts.iter().filter(gone).count();
        if wrong + missing > 0 {
            differences.push(format!(
                "the blocked hosts of {layer} {TABLE} differ: {wrong} should not be there or not for that time, {missing} are missing"
            ));
        }
        self.compare_nets(wanted, also, now, differences);
    }

    fn compare_nets(
        &self,
        wanted: &SetElements,
        also: &SetElements,
        now: Timestamp,
        differences: &mut Vec<String>,
    ) {
        let listed: Vec<IpNet> = self.of("nets").flat_map(read_block).collect();
        let covered = |nets: &mut dyn Iterator<Item = IpNet>| {
            let nets: Vec<IpNet> = nets.collect();
            IpNet::aggregate(&nets).into_iter().collect::<BTreeSet<IpNet>>()
        };
        let soon = now.saturating_add(SLACK).unwrap_or(now);
        let still = also.nets.iter().filter(|(_, expires)| ended(*expires, now));
        let all = wanted.nets.iter().chain(still).map(|(net, _)| *net);
        let lasting = wanted.nets.iter().filter(|(_, expires)| !ended(*expires, soon));
        let found = covered(&mut listed.into_iter());
        let fits = found == covered(&mut wanted.nets.iter().map(|(net, _)| *net))
            || found == covered(&mut { all })
            || found == covered(&mut lasting.map(|(net, _)| *net));
        if !fits {
            differences.push(format!(
                "the blocked nets of {} {TABLE} cover {} blocks that are not the {} expected",
                self.table.layer,
                found.len(),
                wanted.nets.len()
            ));
        }
    }

    /// The elements of both families' sets.
    fn of(&self, name: &str) -> impl Iterator<Item = &Value> {
        let names = [format!("{name}4"), format!("{name}6")];
        self.objects
            .iter()
            .filter_map(|object| object.get("set"))
            .filter(move |set| names.iter().any(|name| set["name"] == name.as_str()))
            .flat_map(|set| set["elem"].as_array().into_iter().flatten())
    }
}

fn find(hosts: &[(IpAddr, Option<Timestamp>)], host: &IpAddr) -> Option<Option<Timestamp>> {
    let found = hosts.binary_search_by_key(host, |(host, _)| *host).ok()?;
    Some(hosts[found].1)
}

fn ended(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_some_and(|expires| expires <= now)
}

/// Whether the kernel's element, which ends in `ends` seconds, holds as long as the plan wants.
fn in_time(expires: Option<Timestamp>, ends: Option<u64>, now: Timestamp) -> bool {
    match (expires, ends) {
        (None, None) => true,
        (Some(expires), Some(seconds)) => {
            let left = expires.duration_since(now).saturating_sub(SLACK).as_secs();
            i64::try_from(seconds).is_ok_and(|seconds| seconds >= left)
        }
        _ => false,
    }
}

/// A host, and in how many seconds it ends.
fn read_host(element: &Value) -> Option<(IpAddr, Option<u64>)> {
    let (value, timed) = match element.get("elem") {
        Some(timed) => (&timed["val"], Some(timed)),
        None => (element, None),
    };
    let ends = timed.and_then(|timed| timed["expires"].as_u64());
    Some((value.as_str()?.parse().ok()?, ends))
}

fn read_endpoint(element: &Value) -> Option<(IpAddr, Protocol, u16)> {
    // An element with a timeout or a counter is wrapped once more.
    let concat = element
        .get("concat")
        .or_else(|| element["elem"]["val"].get("concat"))?
        .as_array()?;
    let [address, protocol, port] = concat.as_slice() else {
        return None;
    };
    let protocol = match protocol {
        Value::String(name) if name == "tcp" => Protocol::Tcp,
        Value::String(name) if name == "udp" => Protocol::Udp,
        Value::Number(n) if n.as_u64() == Some(6) => Protocol::Tcp,
        Value::Number(n) if n.as_u64() == Some(17) => Protocol::Udp,
        _ => return None,
    };
    Some((
        address.as_str()?.parse().ok()?,
        protocol,
        u16::try_from(port.as_u64()?).ok()?,
    ))
}

fn read_block(element: &Value) -> Vec<IpNet> {
    let element = element.get("elem").map_or(element, |timed| &timed["val"]);
    if let Some(address) = element.as_str() {
        return address.parse::<IpAddr>().map(IpNet::from).into_iter().collect();
    }
    if let Some(prefix) = element.get("prefix") {
        let text = format!(
            "{}/{}",
            prefix["addr"].as_str().unwrap_or_default(),
            prefix["len"]
        );
        return text.parse().into_iter().collect();
    }
    let bounds = element["range"].as_array().map(Vec::as_slice).unwrap_or_default();
    let [Some(first), Some(last)] = [bounds.first(), bounds.get(1)].map(|bound| {
        bound
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<IpAddr>().ok())
    }) else {
        return Vec::new();
    };
    match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(a), IpAddr::V6(b)) => Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect(),
        _ => Vec::new(),
    }
}

/// What identifies the listed tables beyond the plan: everything but elements (which are compared one by one), handles
/// and what was counted. Taken right after loading, it shows an edit that kept our comments. The text itself, not a
/// checksum: one that is easily computed is easily forged.
pub fn fingerprint(listings: Listings) -> String {
    let canonical = listings.into_iter().map(|(layer, mut listing)| {
        strip(&mut listing);
        format!("{layer} {listing}\n")
    });
    canonical.collect()
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for volatile in ["handle", "metainfo", "elem"] {
                map.remove(volatile);
            }
            // Of a quota only what is used, of a counter all numbers.
            if let Some(Value::Object(counter)) = map.get_mut("counter") {
                counter.remove("packets");
                counter.remove("bytes");
            }
            if let Some(Value::Object(quota)) = map.get_mut("quota") {
                quota.remove("used");
            }
            // An anonymous set's elements are part of its rule.
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
