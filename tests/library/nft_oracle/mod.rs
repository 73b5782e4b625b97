//! nft as the judge of our rules: loaded by us as types, and by `nft -f` as the text of the same plan, nft lists them alike,
//! and we read back from the kernel just what was sent. What changes rule by rule ends where a whole load does. [`faults`]
//! shows that a difference of any kind would be seen.
//!
//! In: plans at random. Out: nothing, or the shortest plan of which nft, or our own reading of the kernel, sees a difference.

mod faults;
mod plans;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use edgewarden::quarantine::ruleset::verify::{ListedElements, ListedTable, Listings, verify};
use edgewarden::quarantine::ruleset::{CarriedCounters, Layer, RuleHandles, Ruleset, SetElements, own_table};
use edgewarden_lab::lab_test;
use edgewarden_lab::site::nft::{self, Listed};
use jiff::Timestamp;
use nf_tables::socket::Connection;
use nf_tables::{Item, ListingLimits, TableContents};
use proptest::prelude::*;
use serde_json::Value;

use super::reference::check;
use plans::{ruleset, two_alike};

/// Plans in the suite; each takes a tenth of a second. `EDGEWARDEN_RULESETS` says otherwise.
const CASES: u32 = 60;
const SHRINKS: u32 = 200;
/// More than any plan here has.
const LIMITS: ListingLimits = ListingLimits {
    items: 100_000,
    bytes: 10_000_000,
};

/// Where our tables with their interfaces can be, in the namespace of the calling thread.
fn make_interfaces() {
    let links = ["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"];
    assert!(Command::new("ip").args(links).status().unwrap().success());
}

fn connect() -> Connection {
    Connection::open(Duration::from_secs(20)).unwrap()
}

/// What differs between our tables as we read them and what was sent; none where nothing does.
fn misread(
    kernel: &mut Connection,
    sent: &Ruleset,
    counted: &CarriedCounters,
    now: Timestamp,
) -> Option<String> {
    let mut listings = Listings::new();
    let mut exact = Vec::new();
    for layer in Layer::ALL {
        let own = own_table(layer);
        let table = sent.tables.iter().find(|table| table.layer == layer);
        let chains = table.map(|table| table.chains.as_slice()).unwrap_or_default();
        let chains: Vec<&str> = chains.iter().map(|chain| chain.name).collect();
        let Some(listing) = kernel.table(&own, &chains, LIMITS).unwrap() else {
            continue;
        };
        if let Some(table) = table {
            let (mut read, mut sent) = (listing.contents.clone(), sent.contents(table, counted));
            for contents in [&mut read, &mut sent] {
                // In the order in which they were made, which means nothing.
                contents.objects.sort_by(|one, other| one.name.cmp(&other.name));
                contents.sets.sort_by(|one, other| one.name.cmp(&other.name));
                contents
                    .chains
                    .sort_by(|one, other| one.chain.name.cmp(&other.chain.name));
            }
            exact.extend((read != sent).then(|| first_difference(&read, &sent)));
        }
        let mut elements = ListedElements::default();
        for set in &listing.contents.sets {
            let take = |listed: &mut ListedElements, element| listed.take(&set.name, element);
            let listed = kernel.elements(&own, &set.name, LIMITS.items, ListedElements::default, take);
            elements.extend(listed.unwrap().unwrap().0);
        }
        listings.insert(layer, ListedTable::new(listing.contents, elements));
    }
    let verified = verify(sent, &listings, &SetElements::default(), now);
    exact.extend(verified.err().into_iter().flatten());
    (!exact.is_empty()).then(|| exact.join("\n"))
}

fn first_difference(read: &TableContents, sent: &TableContents) -> String {
    let rules = |contents: &TableContents| -> Vec<nf_tables::Rule> {
        let chains = contents.chains.iter();
        chains.flat_map(|chain| chain.rules.clone()).collect()
    };
    let (found, wanted) = (rules(read), rules(sent));
    let differing = found.iter().zip(&wanted).find(|(one, other)| one != other);
    match differing {
        Some((found, wanted)) => format!("read {found:?}, sent {wanted:?}"),
        None => format!(
            "{}: read {} rules, sent {}; or it is no rule",
            read.table,
            found.len(),
            wanted.len()
        ),
    }
}

/// The first thing that nft lists otherwise; none where nothing differs.
fn difference(one: &Listed, other: &Listed) -> Option<String> {
    if one == other {
        return None;
    }
    let lines = one.text.lines().zip(other.text.lines());
    let differing = lines.filter(|(one, other)| one != other);
    let first = differing.map(|(one, other)| format!("{one}\n{other}")).next();
    Some(first.unwrap_or_else(|| format!("{}\n{}", one.json, other.json)))
}

/// Loads the first, then the second in its place; what nft lists after each.
fn both(rulesets: &[Ruleset; 2], load: &mut dyn FnMut(&Ruleset, &BTreeSet<Layer>)) -> Vec<Listed> {
    nft::load("flush ruleset").unwrap();
    let mut present = BTreeSet::new();
    let mut seen = Vec::new();
    for ruleset in rulesets {
        load(ruleset, &present);
        present = ruleset.tables.iter().map(|table| table.layer).collect();
        seen.push(nft::listed().unwrap());
    }
    seen
}

fn cases() -> u32 {
    let asked = std::env::var("EDGEWARDEN_RULESETS").ok();
    asked.map_or(CASES, |text| text.parse().unwrap())
}

lab_test!(rules_loaded_as_types_are_those_that_nft_loads_as_text, || {
    make_interfaces();
    check(cases(), SHRINKS, &[ruleset(), ruleset()], |rulesets| {
        let (counted, now) = (CarriedCounters::default(), Timestamp::now());
        let expected = both(&rulesets, &mut |ruleset, present| {
            nft::load(&ruleset.text(present, &counted, now)).unwrap();
        });
        let mut kernel = connect();
        let found = both(&rulesets, &mut |ruleset, present| {
            kernel
                .commit(&mut ruleset.load_batch(present, &counted, now))
                .unwrap();
            assert_eq!(misread(&mut kernel, ruleset, &counted, now), None);
        });
        for (one, other) in expected.iter().zip(&found) {
            prop_assert_eq!(difference(one, other), None);
        }
        prop_assert!(!found[0].text.is_empty(), "control: rules were listed");
        Ok(())
    });
});

/// Hosts from which on their set is declared with a size, and one more.
const LONG_LIST: u32 = 16_385;

lab_test!(a_long_list_of_hosts_is_declared_alike, || {
    make_interfaces();
    let (counted, now) = (CarriedCounters::default(), Timestamp::now());
    let with_hosts = |count: u32| {
        let mut ruleset = faults::everything(now);
        let addresses = (0..count).map(|number| (number + 0x0a00_0000).to_be_bytes());
        let hosts = addresses.map(|address| (IpAddr::from(address), None));
        ruleset.elements.hosts = Arc::new(hosts.collect());
        ruleset
    };
    let (few, many) = (with_hosts(LONG_LIST - 1), with_hosts(LONG_LIST));
    let mut kernel = connect();
    for (ruleset, size) in [(&few, false), (&many, true)] {
        nft::load("flush ruleset").unwrap();
        let nothing = BTreeSet::new();
        nft::load(&ruleset.text(&nothing, &counted, now)).unwrap();
        let expected = nft::listed().unwrap();
        assert_eq!(expected.text.contains("size 262143"), size);
        assert_eq!(misread(&mut kernel, ruleset, &counted, now), None);
        nft::load("flush ruleset").unwrap();
        kernel
            .commit(&mut ruleset.load_batch(&nothing, &counted, now))
            .unwrap();
        assert_eq!(difference(&nft::listed().unwrap(), &expected), None);
        assert_eq!(misread(&mut kernel, ruleset, &counted, now), None);
    }
    let more = with_hosts(LONG_LIST + 1);
    let generation = kernel.generation().unwrap().id;
    let change = more.change_batch(&many, &RuleHandles::new(), &counted, generation, now);
    kernel.commit(&mut change.unwrap()).unwrap();
    assert_eq!(misread(&mut kernel, &more, &counted, now), None);
});

/// In words, which the kernel's form is compared with above: no tag comes by here whose priority could differ.
#[test]
fn a_vlan_has_one_bucket_and_others_have_none() {
    let now = Timestamp::now();
    let text = faults::everything(now).text(&BTreeSet::new(), &CarriedCounters::default(), now);
    assert!(text.contains("elements = { \"eth0\" . 7 }"), "{text}");
    let of_tags = |line: &&str| line.contains("add @rates-") && line.contains("-tagged");
    let tagged: Vec<&str> = text.lines().filter(of_tags).collect();
    assert!(tagged.len() > 10, "{text}");
    for line in tagged {
        let asked = line.contains("meta oifname . @ll,112,16 & 0x0fff @tags");
        assert!(
            asked && line.contains("{ meta oif . @ll,112,16 & 0x0fff limit"),
            "{line}"
        );
    }
}

/// What all their counters have counted.
fn some_counted(rulesets: &[Ruleset]) -> CarriedCounters {
    let mut counted = CarriedCounters::default();
    for table in rulesets.iter().flat_map(|ruleset| &ruleset.tables) {
        for (number, name) in (1..).zip(table.counters()) {
            let key = (table.layer, name.to_owned());
            counted.counters.entry(key).or_insert((number, 100 * number));
        }
    }
    counted
}

/// Everything but the rules of a chain is listed in the order in which it was made, which means nothing.
fn in_order(listed: &Listed) -> Vec<Value> {
    let mut everything = listed.json["nftables"].as_array().unwrap().clone();
    let of_chain = |one: &Value| {
        let text = |key: &str| one["rule"][key].to_string();
        // Stable: the rules of one chain stay in their order.
        let kind = one.as_object().and_then(|kinds| kinds.keys().next().cloned());
        let whole = if one.get("rule").is_some() {
            String::new()
        } else {
            one.to_string()
        };
        (kind, text("family"), text("chain"), whole)
    };
    everything.sort_by_cached_key(of_chain);
    everything
}

lab_test!(a_change_rule_by_rule_ends_where_a_whole_load_does, || {
    make_interfaces();
    let changed = Cell::new(0_u32);
    check(cases(), SHRINKS, &two_alike(), |rulesets| {
        let [before, after] = &rulesets;
        // One of them cuts nothing.
        if !after.same_frame(before) {
            return Ok(());
        }
        let (counted, now) = (some_counted(&rulesets), Timestamp::now());
        let mut kernel = connect();
        let mut load = |ruleset: &Ruleset| {
            nft::load("flush ruleset").unwrap();
            let mut batch = ruleset.load_batch(&BTreeSet::new(), &counted, now);
            kernel.commit(&mut batch).unwrap();
        };
        load(after);
        let expected = in_order(&nft::listed().unwrap());
        load(before);
        let mut handles = RuleHandles::new();
        for table in &before.tables {
            let listed = kernel.rule_handles(&own_table(table.layer), LIMITS.items);
            handles.insert(table.layer, listed.unwrap());
        }
        let generation = kernel.generation().unwrap().id;
        let batch = after.change_batch(before, &handles, &counted, generation, now);
        let mut batch = batch.expect("these are its handles");
        // What interfaces differ in is of chains, sets and tables of their own; the IP stack's chains stay.
        let hooked =
            |item: &Item| matches!(item, Item::Chain(name) if ["output", "input"].contains(&name.as_str()));
        let stays = |layer| {
            [before, after]
                .iter()
                .all(|of| of.tables.iter().any(|table| table.layer == layer))
        };
        prop_assert!(
            batch.steps().all(|step| !(hooked(&step.item)
                || step.item == Item::Table && step.table == own_table(Layer::Inet)))
        );
        prop_assert!(batch.steps().all(|step| !(step.item == Item::Table
            && step.table == own_table(Layer::Netdev)
            && stays(Layer::Netdev))));
        let rules = batch
            .steps()
            .filter(|step| matches!(step.item, Item::Rule { .. }));
        changed.set(changed.get() + u32::from(rules.count() > 0));
        let transactions = u32::from(!batch.is_empty());
        kernel.commit(&mut batch).unwrap();
        prop_assert_eq!(kernel.generation().unwrap().id, generation + transactions);
        prop_assert_eq!(misread(&mut kernel, after, &counted, now), None);
        prop_assert_eq!(in_order(&nft::listed().unwrap()), expected);
        Ok(())
    });
    assert!(
        changed.get() > cases() / 2,
        "control: {} had other rules",
        changed.get()
    );
});
