//! Honest listings pass, and every kind of edit is noticed.

use super::*;
use crate::quarantine::orders::order::{Authority, Block, Order, Posture};
use crate::quarantine::plan::{IsolationSettings, Scope, fold};
use crate::quarantine::ruleset::{CutAction, EgressDevice, Hooks, render};
use serde_json::json;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn ruleset(expires: Option<&str>) -> Ruleset {
    let blocked = |remote: &str| crate::quarantine::orders::order::BlockedRemote {
        remote: remote.parse().unwrap(),
        expires: expires.map(|text| text.parse().unwrap()),
    };
    let order = Order {
        posture: Posture::Restrict,
        block: Block {
            remotes: vec![blocked("203.0.113.0/24"), blocked("198.51.100.7/32")],
            ports: Vec::new(),
            omitted: 0,
        },
        ..Order::isolate(Authority::Shadow, "s", None, now())
    };
    let endpoint = crate::quarantine::lifelines::lifeline::Endpoint {
        purpose: crate::quarantine::lifelines::lifeline::Purpose::DataEndpoint,
        address: "192.0.2.1".parse().unwrap(),
        protocol: Protocol::Tcp,
        port: 8883,
    };
    let settings = IsolationSettings::default();
    let plan = fold(&[order], &settings, vec![endpoint], Scope::Pinned, now());
    let hooks = Hooks {
        bridge: true,
        egress: vec![EgressDevice {
            name: "eth0".into(),
            index: 2,
        }],
        pppoe: false,
    };
    render(&plan, &hooks, CutAction::Cut)
}

/// What nft would list of `ruleset`, written by hand from what it does list.
fn listings(ruleset: &Ruleset, timed: bool) -> Listings {
    let element = |value: Value| {
        if timed {
            json!({"elem": {"val": value, "timeout": 3600, "expires": 3599}})
        } else {
            value
        }
    };
    let table = |table: &Table| {
        let mut objects = vec![
            json!({"metainfo": {"version": "1.0.6"}}),
            json!({"set": {"name": "endpoints4", "elem": [{"concat": ["192.0.2.1", "tcp", 8883]}]}}),
            json!({"set": {"name": "hosts4", "elem": [element(json!("198.51.100.7"))]}}),
            json!({"set": {"name": "nets4",
                           "elem": [element(json!({"prefix": {"addr": "203.0.113.0", "len": 24}}))]}}),
            json!({"counter": {"name": "out_remote", "handle": 2, "packets": 3, "bytes": 9}}),
        ];
        for chain in &table.chains {
            objects.push(
                json!({"chain": {"name": chain.hook, "type": "filter", "hook": chain.hook,
                                          "policy": chain.policy, "handle": 1}}),
            );
            objects.extend(chain.rules.iter().map(|rule| {
                let verdict = rule.verdict().unwrap();
                json!({"rule": {"chain": chain.hook, "comment": rule.comment, "handle": 7,
                                "expr": [{"match": rule.statement}, {verdict: null}]}})
            }));
        }
        (table.layer, json!({ "nftables": objects }))
    };
    ruleset.tables.iter().map(table).collect()
}

fn check(ruleset: &Ruleset, listings: &Listings) -> Result<(), Vec<String>> {
    verify(ruleset, listings, &SetElements::default(), now())
}

#[test]
fn an_honest_listing_passes_and_a_missing_table_does_not() {
    let ruleset = ruleset(None);
    let honest = listings(&ruleset, false);
    assert_eq!(check(&ruleset, &honest), Ok(()));
    for layer in Layer::ALL {
        let mut fewer = honest.clone();
        fewer.remove(&layer);
        assert!(check(&ruleset, &fewer).is_err(), "{layer}");
    }
    let settings = IsolationSettings::default();
    let normal = fold(&[], &settings, Vec::new(), Scope::Pinned, now());
    let normal = render(&normal, &Hooks::default(), CutAction::Cut);
    assert_eq!(check(&normal, &Listings::new()), Ok(()));
    assert!(check(&normal, &honest).is_err());
}

#[test]
fn every_kind_of_edit_is_noticed() {
    let ruleset = ruleset(None);
    let honest = listings(&ruleset, false);
    let edits: [(&str, Value); 7] = [
        ("/nftables/5/chain/policy", json!("drop")),
        ("/nftables/6/rule/comment", json!("other")),
        ("/nftables/6/rule/expr/1", json!({"drop": null})),
        ("/nftables/1/set/elem/0/concat/0", json!("192.0.2.99")),
        ("/nftables/2/set/elem/0", json!("198.51.100.8")),
        (
            "/nftables/2/set/elem/0",
            json!({"elem": {"val": "198.51.100.7", "timeout": 1, "expires": 1}}),
        ),
        ("/nftables/3/set/elem/0/prefix/len", json!(25)),
    ];
    for (path, value) in edits {
        let mut edited = honest.clone();
        *edited.get_mut(&Layer::Inet).unwrap().pointer_mut(path).unwrap() = value;
        assert!(check(&ruleset, &edited).is_err(), "{path}");
    }
    for object in [
        json!({"rule": {"chain": "egress", "expr": []}}),
        json!({"chain": {"name": "more"}}),
        json!({"set": {"name": "hosts6", "elem": ["2001:db8::1"]}}),
    ] {
        let mut more = honest.clone();
        let list = more.get_mut(&Layer::Netdev).unwrap()["nftables"]
            .as_array_mut()
            .unwrap();
        list.push(object.clone());
        assert!(check(&ruleset, &more).is_err(), "{object}");
    }
}

#[test]
fn what_ends_by_itself_may_be_there_or_gone_around_its_end() {
    let timed = ruleset(Some("2026-01-01T01:00:00Z"));
    let listed = listings(&timed, true);
    assert_eq!(check(&timed, &listed), Ok(()));
    let later: Timestamp = "2026-01-01T00:59:58Z".parse().unwrap();
    let gone = {
        let mut gone = listed.clone();
        for listing in gone.values_mut() {
            listing["nftables"][2]["set"]["elem"] = json!([]);
            listing["nftables"][3]["set"]["elem"] = json!([]);
        }
        gone
    };
    assert!(check(&timed, &gone).is_err(), "an hour before its end");
    assert_eq!(verify(&timed, &gone, &SetElements::default(), later), Ok(()));
    let after: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    let mut rest = timed.clone();
    rest.elements = timed.elements.clone().live(after);
    assert_eq!(verify(&rest, &listed, &timed.elements, after), Ok(()));
    assert!(verify(&rest, &listed, &SetElements::default(), after).is_err());
}

#[test]
fn the_fingerprint_ignores_counters_elements_and_handles_only() {
    let honest = listings(&ruleset(None), false);
    let edited = |path: &str, value: Value| {
        let mut edited = honest.clone();
        *edited.get_mut(&Layer::Inet).unwrap().pointer_mut(path).unwrap() = value;
        fingerprint(edited)
    };
    let known = fingerprint(honest.clone());
    assert_eq!(edited("/nftables/4/counter/packets", json!(99)), known);
    assert_eq!(edited("/nftables/6/rule/handle", json!(99)), known);
    assert_eq!(edited("/nftables/2/set/elem", json!([])), known);
    assert_ne!(
        edited("/nftables/6/rule/expr/0", json!({"match": "other"})),
        known
    );
    assert_ne!(edited("/nftables/5/chain/policy", json!("drop")), known);
}

#[test]
fn ranges_of_a_listing_are_blocks() {
    let blocks = read_block(&json!({"range": ["192.0.2.0", "192.0.2.255"]}));
    assert_eq!(blocks, ["192.0.2.0/24".parse::<IpNet>().unwrap()]);
}
