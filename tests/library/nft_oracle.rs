//! nft as the judge of our rules: loaded by us as types, and by `nft -f` as the text of the same plan, nft lists them alike.
//!
//! In: plans at random, over the types that orders are made of. Out: nothing, or the shortest plan of which nft, or our own
//! reading of the kernel, sees a difference.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::time::Duration;

use edgewarden::quarantine::lifelines::lifeline::{Endpoint, Purpose};
use edgewarden::quarantine::orders::order::{
    Allowance, Authority, Block, BlockedPort, BlockedRemote, Direction, Limit, Order, Posture, Protocol,
};
use edgewarden::quarantine::plan::{IsolationSettings, Scope, fold};
use edgewarden::quarantine::ruleset::verify::{ListedElements, ListedTable, Listings, verify};
use edgewarden::quarantine::ruleset::{
    CarriedCounters, CutAction, EgressDevice, Hooks, Layer, Ruleset, SetElements, own_table, render,
};
use edgewarden_lab::lab_test;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use nf_tables::ListingLimits;
use nf_tables::socket::Connection;
use proptest::prelude::*;

use super::reference::check;

/// Plans in the suite; each takes a tenth of a second. `EDGEWARDEN_RULESETS` says otherwise.
const CASES: u32 = 60;
const SHRINKS: u32 = 200;

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| Ipv4Addr::from(octets).into()),
        any::<[u8; 16]>().prop_map(|octets| Ipv6Addr::from(octets).into()),
    ]
}

fn block() -> impl Strategy<Value = IpNet> {
    (address(), 0..=128_u8).prop_map(|(address, bits)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, bits.min(most)).unwrap().trunc()
    })
}

/// When a block ends, in seconds from now on; never within the test.
fn end() -> impl Strategy<Value = Option<i64>> {
    proptest::option::of(1_000..99_000_000_i64)
}

fn allowance() -> impl Strategy<Value = Allowance> {
    let ports = proptest::collection::btree_set(any::<u16>(), 1..5);
    (block(), protocol(), ports, any::<bool>()).prop_map(|(remote, protocol, ports, out)| Allowance {
        remote,
        protocol,
        ports: ports.into_iter().collect(),
        direction: if out { Direction::Out } else { Direction::In },
    })
}

fn order() -> impl Strategy<Value = Order> {
    let remotes = proptest::collection::vec((block(), end()), 0..12);
    let ports = proptest::collection::btree_set((protocol(), any::<u16>()), 0..5);
    let allow = proptest::collection::vec(allowance(), 0..4);
    let limit = (
        proptest::option::of(1..4_000_000_000_u64),
        proptest::option::of(1..1_u64 << 40),
    );
    (any::<bool>(), remotes, ports, allow, limit).prop_map(
        |(isolates, remotes, ports, allow, (rate, quota))| {
            let now = Timestamp::now();
            let expires = |seconds: Option<i64>| Some(now + SignedDuration::from_secs(seconds?));
            let remotes = remotes.into_iter().map(|(remote, ends)| BlockedRemote {
                remote,
                expires: expires(ends),
            });
            let block = Block {
                remotes: remotes.collect(),
                ports: ports
                    .into_iter()
                    .map(|(protocol, port)| BlockedPort { protocol, port })
                    .collect(),
                omitted: 0,
            };
            let limit = (rate.is_some() || quota.is_some()).then_some(Limit {
                egress_bytes_per_second: rate,
                quota_bytes: quota,
                quota_period_seconds: quota.map(|_| 3_600),
            });
            Order {
                posture: if isolates {
                    Posture::Isolate
                } else {
                    Posture::Restrict
                },
                allow,
                block,
                limit,
                ..Order::isolate(Authority::Shadow, "oracle", None, now)
            }
        },
    )
}

/// A plan as the kernel is told.
fn ruleset() -> impl Strategy<Value = Ruleset> {
    let endpoints = proptest::collection::vec((address(), protocol(), any::<u16>()), 0..8);
    let orders = proptest::collection::vec(order(), 1..3);
    (orders, endpoints, any::<[bool; 5]>()).prop_map(|(orders, endpoints, switches)| {
        let [wide, counts, bridge, egress, pppoe] = switches;
        let endpoints = endpoints.into_iter().map(|(address, protocol, port)| Endpoint {
            purpose: Purpose::DataEndpoint,
            address,
            protocol,
            port,
        });
        let scope = if wide { Scope::Wide } else { Scope::Pinned };
        let settings = IsolationSettings::default();
        let plan = fold(&orders, &settings, endpoints.collect(), scope, Timestamp::now());
        let devices = ["eth0", "eth1"].map(|name| EgressDevice {
            name: name.to_owned(),
            index: 0,
        });
        let hooks = Hooks {
            bridge,
            egress: devices.into_iter().filter(|_| egress).collect(),
            pppoe,
        };
        let effect = if counts { CutAction::Count } else { CutAction::Cut };
        render(&plan, &hooks, effect)
    })
}

fn nft(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("/usr/sbin/nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {arguments:?}: {complaint}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

/// What nft lists of everything, without handles and the time that is left of elements.
fn listed() -> (String, serde_json::Value) {
    let text = nft(&["list", "ruleset"], "");
    let mut words = text.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        kept.push(word.to_owned());
        if word == "expires" {
            let time = words.next().unwrap_or_default();
            kept.push(time.trim_matches(|c: char| c.is_ascii_alphanumeric()).to_owned());
        }
    }
    let mut json = serde_json::from_str(&nft(&["-j", "list", "ruleset"], "")).unwrap();
    strip(&mut json);
    (kept.join(" "), json)
}

fn strip(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.remove("handle");
            map.remove("expires");
            map.values_mut().for_each(strip);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Our tables as we read them.
fn read(kernel: &mut Connection, ruleset: &Ruleset) -> Listings {
    let limits = ListingLimits {
        items: 100_000,
        bytes: 10_000_000,
    };
    let mut listings = Listings::new();
    for layer in Layer::ALL {
        let own = own_table(layer);
        let table = ruleset.tables.iter().find(|table| table.layer == layer);
        let chains = table.map(|table| table.chains.as_slice()).unwrap_or_default();
        let chains: Vec<&str> = chains.iter().map(|chain| chain.hook).collect();
        let Some(listing) = kernel.table(&own, &chains, limits).unwrap() else {
            continue;
        };
        let mut elements = ListedElements::default();
        for set in &listing.contents.sets {
            let take = |listed: &mut ListedElements, element| listed.take(&set.name, element);
            let listed = kernel.elements(&own, &set.name, 100_000, ListedElements::default, take);
            elements.extend(listed.unwrap().unwrap().0);
        }
        listings.insert(layer, ListedTable::new(listing.contents, elements));
    }
    listings
}

/// Loads the first, then the second in its place; what nft lists after each.
fn both(
    rulesets: &[Ruleset; 2],
    now: Timestamp,
    load: &mut dyn FnMut(&Ruleset, &BTreeSet<Layer>, Timestamp),
) -> Vec<(String, serde_json::Value)> {
    nft(&["flush", "ruleset"], "");
    let mut present = BTreeSet::new();
    let mut seen = Vec::new();
    for ruleset in rulesets {
        load(ruleset, &present, now);
        present = ruleset.tables.iter().map(|table| table.layer).collect();
        seen.push(listed());
    }
    seen
}

fn cases() -> u32 {
    let asked = std::env::var("EDGEWARDEN_RULESETS").ok();
    asked.map_or(CASES, |text| text.parse().unwrap())
}

lab_test!(rules_loaded_as_types_are_those_that_nft_loads_as_text, || {
    let links = ["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"];
    assert!(Command::new("ip").args(links).status().unwrap().success());
    check(cases(), SHRINKS, &[ruleset(), ruleset()], |rulesets| {
        let (counted, now) = (CarriedCounters::default(), Timestamp::now());
        let expected = both(&rulesets, now, &mut |ruleset, present, now| {
            nft(&["-f", "-"], &ruleset.text(present, &counted, now)).clear();
        });
        let mut kernel = Connection::open(Duration::from_secs(20)).unwrap();
        let found = both(&rulesets, now, &mut |ruleset, present, now| {
            kernel
                .commit(&mut ruleset.load_batch(present, &counted, now))
                .unwrap();
            let listings = read(&mut kernel, ruleset);
            assert_eq!(verify(ruleset, &listings, &SetElements::default(), now), Ok(()));
        });
        for ((text, json), (other, others)) in expected.iter().zip(&found) {
            for (one, other) in text.lines().zip(other.lines()) {
                prop_assert_eq!(one, other);
            }
            prop_assert_eq!(text, other);
            prop_assert_eq!(json, others);
        }
        prop_assert!(!found[0].0.is_empty(), "control: rules were listed");
        Ok(())
    });
});
