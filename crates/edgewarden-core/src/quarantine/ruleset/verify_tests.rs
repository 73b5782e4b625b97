//! Honest listings pass, and every kind of edit is noticed.

use super::super::conditions::octets;
use super::*;
use crate::quarantine::lifelines::ways::{InterfaceName, Ways};
use crate::quarantine::orders::order::{Authority, Block, Order, Posture, Protocol};
use crate::quarantine::plan::{IsolationSettings, Scope, fold};
use crate::quarantine::ruleset::{CutAction, EgressDevice, Hooks, render};
use nf_tables::Value;

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
            remotes: vec![blocked("203.0.113.0/24"), blocked("198.51.100.7/32")].into(),
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
    let mut plan = fold(&[order], &settings, vec![endpoint], Scope::Pinned, now());
    plan.ways = Ways::Tied(vec![way("wan0")]);
    let eth0 = Bearer {
        interface: InterfaceName::new("eth0").unwrap(),
        hardware: [2, 0, 0, 0, 0, 1],
    };
    let hooks = Hooks {
        bearers: [(InterfaceName::new("wan0").unwrap(), [eth0].into())].into(),
        bridge: true,
        egress: vec![EgressDevice {
            name: "eth0".into(),
            index: 2,
        }],
        crowded: true,
        ..Hooks::default()
    };
    render(&plan, &hooks, CutAction::Cut)
}

fn way(interface: &str) -> Way {
    Way {
        address: "192.0.2.1".parse().unwrap(),
        interface: InterfaceName::new(interface).unwrap(),
        next_hop: "198.51.100.1".parse().unwrap(),
    }
}

#[test]
fn another_way_is_seen() {
    let ruleset = ruleset(None);
    for ways in [Vec::new(), vec![way("lan0")], vec![way("lan0"), way("wan0")]] {
        let mut other = ruleset.clone();
        other.elements.ways = ways;
        let differences = check(&ruleset, &listings(&other, None)).unwrap_err();
        assert!(
            differences[0].contains("the sets of ways of inet"),
            "{differences:?}"
        );
        assert_eq!(differences.len(), 1, "no other table has them: {differences:?}");
    }
}

#[test]
fn another_bearer_is_seen() {
    let ruleset = ruleset(None);
    assert_eq!(ruleset.elements.bearers.len(), 1);
    let mut other = ruleset.clone();
    other.elements.bearers[0].1.hardware[5] = 2;
    for bearers in [Vec::new(), other.elements.bearers] {
        let mut other = ruleset.clone();
        other.elements.bearers = bearers;
        let differences = check(&ruleset, &listings(&other, None)).unwrap_err();
        assert!(
            differences[0].contains("the sets of bearers of netdev"),
            "{differences:?}"
        );
        assert_eq!(differences.len(), 1, "no other table has them: {differences:?}");
    }
}

/// What the kernel would list of `ruleset`; elements that end do so in `ends` milliseconds.
fn listings(ruleset: &Ruleset, ends: Option<u64>) -> Listings {
    let listed = |table: &Table| {
        let contents = ruleset.contents(table, &CarriedCounters::default());
        let mut elements = ListedElements::default();
        for set in OwnSet::all(table) {
            for element in ruleset.elements.in_kernel(set, true, now()) {
                let expiration = element.timeout.and(ends);
                elements.take(
                    &set.name(),
                    Element {
                        expiration,
                        ..element
                    },
                );
            }
        }
        (table.layer, ListedTable::new(contents, elements))
    };
    ruleset.tables.iter().map(listed).collect()
}

fn check(ruleset: &Ruleset, listings: &Listings) -> Result<(), Vec<String>> {
    verify(ruleset, listings, &SetElements::default(), now())
}

#[test]
fn an_honest_listing_passes_and_a_missing_table_does_not() {
    let ruleset = ruleset(None);
    let honest = listings(&ruleset, None);
    assert_eq!(check(&ruleset, &honest), Ok(()));
    for layer in ruleset.tables.iter().map(|table| table.layer) {
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

fn output(table: &mut ListedTable) -> &mut ChainContents {
    let mut chains = table.contents.chains.iter_mut();
    chains.find(|chain| chain.chain.name == "output").unwrap()
}

/// An edit of one of our tables.
type Edit = fn(&mut ListedTable);

#[test]
fn every_kind_of_edit_is_noticed() {
    let ruleset = ruleset(None);
    let edits: [(&str, Edit); 12] = [
        ("not a filter", |table| {
            output(table).chain.policy = Some(nf_tables::Policy::Drop);
        }),
        ("a foreign rule", |table| {
            let rule = &mut output(table).rules[0];
            *rule = nf_tables::Rule::new(rule.expressions.clone(), "");
        }),
        ("was rewritten, from its step 1 on", |table| {
            let rule = &mut output(table).rules[0];
            rule.expressions = vec![nf_tables::Expression::accept()];
        }),
        ("was rewritten, from its step 5 on", |table| {
            let rule = &mut output(table).rules[0];
            *rule.expressions.last_mut().unwrap() = nf_tables::Expression::drop();
        }),
        ("rules, expected", |table| {
            let rules = &mut table.contents.chains[1].rules;
            rules.insert(0, nf_tables::Rule::new(vec![nf_tables::Expression::accept()], ""));
        }),
        ("chains, expected", |table| {
            let more = table.contents.chains[0].clone();
            table.contents.chains.push(more);
        }),
        ("is missing", |table| drop(table.contents.chains.remove(0))),
        ("the sets of", |table| drop(table.contents.sets.pop())),
        ("is missing, or another one", |table| {
            drop(table.contents.objects.pop());
        }),
        ("is meant otherwise", |table| {
            table.contents.properties.flags = nf_tables::TableFlags::DORMANT;
        }),
        ("lifeline sets", |table| {
            table.elements.endpoints[0].2 = 8_884;
        }),
        ("the blocked hosts", |table| {
            table.elements.hosts[0].0 = "198.51.100.8".parse().unwrap();
        }),
    ];
    for (told, edit) in edits {
        let mut edited = listings(&ruleset, None);
        edit(edited.get_mut(&Layer::Inet).unwrap());
        let differences = check(&ruleset, &edited).unwrap_err().join("; ");
        assert!(differences.contains(told), "{told}: {differences}");
    }
}

#[test]
fn every_element_of_somebody_else_is_noticed() {
    let ruleset = ruleset(None);
    let host = |text: &str| Element::new(octets(text.parse().unwrap()));
    let net = Interval::prefix(octets("192.0.2.0".parse().unwrap()), 24);
    for (set, elements) in [
        ("hosts4", vec![host("198.51.100.9")]),
        ("hosts6", vec![host("2001:db8::1")]),
        (
            "hosts4",
            vec![Element {
                key_end: Some(Value::zero(4)),
                ..host("198.51.100.9")
            }],
        ),
        ("endpoints4", vec![host("198.51.100.9")]),
        ("nets4", intervals(net)),
        (
            "nets6",
            vec![Element {
                userdata: nf_tables::UserData::rule_comment("x"),
                ..host("2001:db8::")
            }],
        ),
        ("others", vec![host("198.51.100.9")]),
    ] {
        let mut more = listings(&ruleset, None);
        let table = more.get_mut(&Layer::Inet).unwrap();
        for element in elements {
            table.elements.take(set, element);
        }
        assert!(check(&ruleset, &more).is_err(), "{set}");
    }
}

fn intervals(interval: Interval) -> Vec<Element> {
    nf_tables::interval_elements([interval], false).collect()
}

#[test]
fn what_traffic_changes_and_where_interfaces_went_is_no_edit() {
    let ruleset = ruleset(None);
    let mut counted = CarriedCounters::default();
    counted
        .counters
        .insert((Layer::Inet, "out_remote".into()), (3, 9));
    let mut listed = listings(&ruleset, None);
    for table in &ruleset.tables {
        let mut contents = ruleset.contents(table, &counted);
        for chain in &mut contents.chains {
            if let Some(hook) = &mut chain.chain.hook {
                hook.devices = Devices::default();
            }
        }
        let elements = listed[&table.layer].elements.clone();
        listed.insert(table.layer, ListedTable::new(contents, elements));
    }
    assert_eq!(check(&ruleset, &listed), Ok(()));
}

#[test]
fn what_ends_by_itself_may_be_there_or_gone_around_its_end() {
    let timed = ruleset(Some("2026-01-01T01:00:00Z"));
    let listed = listings(&timed, Some(3_599_000));
    assert_eq!(check(&timed, &listed), Ok(()));
    assert!(
        check(&timed, &listings(&timed, Some(1_000))).is_err(),
        "too short"
    );
    let later: Timestamp = "2026-01-01T00:59:58Z".parse().unwrap();
    let mut gone = listed.clone();
    for table in gone.values_mut() {
        table.elements.hosts.clear();
        table.elements.nets = Default::default();
    }
    assert!(check(&timed, &gone).is_err(), "an hour before its end");
    assert_eq!(verify(&timed, &gone, &SetElements::default(), later), Ok(()));
    let after: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    let mut rest = timed.clone();
    rest.elements = timed.elements.clone().live(after);
    assert_eq!(verify(&rest, &listed, &timed.elements, after), Ok(()));
    assert!(verify(&rest, &listed, &SetElements::default(), after).is_err());
}

#[test]
fn what_ends_later_than_the_kernel_is_told_is_in_time() {
    let timed = ruleset(Some("2036-01-01T00:00:00Z"));
    let most = u64::try_from(MAX_TIMEOUT).unwrap() * 1_000;
    assert_eq!(check(&timed, &listings(&timed, Some(most))), Ok(()));
    assert!(check(&timed, &listings(&timed, Some(most / 2))).is_err());
}

#[test]
fn tables_are_told_from_those_that_were_loaded_before() {
    let before = ruleset(None);
    let listed = listings(&before, None);
    let mut wanted = before.clone();
    wanted.tables.truncate(1);
    let compared = compare(&wanted, &listed, Some(&before), now());
    assert!(compared.is_as_before && !compared.differences.is_empty());
    let mut edited = listed.clone();
    output(edited.get_mut(&Layer::Inet).unwrap()).rules.clear();
    assert!(!compare(&wanted, &edited, Some(&before), now()).is_as_before);
}
