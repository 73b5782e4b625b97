//! The control of the oracle: what is loaded as types differs from the text in one place, and both judges see it.
//!
//! In: one plan with everything in it, and faults of every kind: in each of its rules one expression, rules left out and
//! exchanged, elements, policies, interfaces, counts. Out: nothing, or the fault that nft, or our own reading, passes over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use edgewarden::quarantine::lifelines::lifeline::{Endpoint, Purpose};
use edgewarden::quarantine::lifelines::ways::{Bearer, InterfaceName};
use edgewarden::quarantine::orders::document::{Wish, read};
use edgewarden::quarantine::orders::order::{Authority, Protocol};
use edgewarden::quarantine::plan::{IsolationSettings, Scope, fold};
use edgewarden::quarantine::ruleset::{CarriedCounters, CutAction, EgressDevice, Hooks, Ruleset, render};
use edgewarden_lab::lab_test;
use edgewarden_lab::site::nft;
use jiff::Timestamp;
use nf_tables::socket::Connection;
use nf_tables::{
    AnonymousSet, Bitwise, Comparison, Conntrack, ConntrackKey, DynamicElement, Expression, ExtensionHeader,
    Fib, FibFlags, Header, KeyType, Limit, Lookup, Meta, MetaKey, Octet, Payload, PayloadBase, SetReference,
    TypeOf, Value,
};
use serde_json::json;

use super::{connect, difference, make_interfaces, misread, some_counted};

/// A plan with everything in it.
pub(super) fn everything(now: Timestamp) -> Ruleset {
    let order = json!({
        "posture": "isolate",
        "allow": [
            {"remote": "198.51.100.7/32", "protocol": "tcp", "ports": [22, 443], "direction": "in"},
            {"remote": "2001:db8::/33", "protocol": "udp", "ports": [53, 443], "direction": "out"},
        ],
        "block": {
            "remotes": [
                "203.0.113.0/24", "203.0.114.1", "2001:db8:7::/48",
                {"remote": "2001:db8::7", "expires": (now + jiff::SignedDuration::from_hours(2)).to_string()},
            ],
            "ports": [{"protocol": "udp", "port": 19}, {"protocol": "tcp", "port": 23}, {"protocol": "tcp", "port": 24}],
        },
        "limit": {"egressBytesPerSecond": 20_000, "quotaBytes": 50_000_000, "quotaPeriodSeconds": 86_400},
    });
    let Ok(Wish::Order(order)) = read(Some(&order), Authority::Shadow, now) else {
        panic!("no order: {order}");
    };
    let endpoints = [("198.51.100.1", 8883), ("2001:db8::1", 8883)].map(|(address, port)| Endpoint {
        purpose: Purpose::DataEndpoint,
        address: address.parse().unwrap(),
        protocol: Protocol::Tcp,
        port,
    });
    let settings = IsolationSettings::default();
    let plan = fold(&[*order], &settings, endpoints.to_vec(), Scope::Wide, now);
    let devices = ["eth0", "eth1"].map(|name| EgressDevice {
        name: name.to_owned(),
        index: 0,
    });
    let hooks = Hooks {
        bridge: true,
        egress: devices.to_vec(),
        pppoe: true,
        crowded: true,
        vlans: [(InterfaceName::new("eth0").unwrap(), 7)].into(),
        senders: [[2, 0, 0, 0, 0, 7]].into(),
        hardware: [Bearer {
            interface: InterfaceName::new("eth0").unwrap(),
            hardware: [2, 0, 0, 0, 0, 7],
        }]
        .into(),
        members: ["eth0", "eth1"]
            .map(|name| InterfaceName::new(name).unwrap())
            .to_vec(),
        unwrapping: [4_789, 6_081].into(),
        own: ["198.51.100.2", "198.51.100.3", "2001:db8::2"]
            .map(|address| address.parse().unwrap())
            .into(),
        ..Hooks::default()
    };
    render(&plan, &hooks, CutAction::Cut)
}

/// A value with another last bit.
fn flipped(value: &Value) -> Value {
    let mut bytes = value.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    Value::new(&bytes).unwrap()
}

/// Another expression that the kernel takes in its place; none where it is left out instead.
fn altered(expression: &Expression) -> Option<Expression> {
    Some(match expression.clone() {
        Expression::Meta(_) | Expression::Payload(_) | Expression::Conntrack(_) => loads_other(expression),
        Expression::Comparison(comparison) => {
            let value = flipped(&comparison.value);
            Comparison { value, ..comparison }.into()
        }
        Expression::ExtensionHeader(extension) => {
            // Of the options of IPv4 the kernel knows four.
            let header = Octet(match extension.header.0 {
                131 => 137,
                137 => 131,
                _ => 60,
            });
            ExtensionHeader { header, ..extension }.into()
        }
        Expression::Bitwise(bitwise) => {
            let mask = flipped(&bitwise.mask);
            Bitwise { mask, ..bitwise }.into()
        }
        Expression::Lookup(lookup) => {
            let set = other_set(&lookup.set);
            Lookup { set, ..lookup }.into()
        }
        Expression::Fib(fib) => {
            let flags = if fib.flags == FibFlags::SOURCE {
                FibFlags::DESTINATION
            } else {
                FibFlags::SOURCE
            };
            Fib { flags, ..fib }.into()
        }
        Expression::Limit(limit) => {
            let burst = limit.burst + 1;
            Limit { burst, ..limit }.into()
        }
        Expression::DynamicElement(dynamic) => {
            let limited = altered(dynamic.expression.as_deref()?)?;
            let expression = Some(Box::new(limited));
            DynamicElement {
                expression,
                ..dynamic
            }
            .into()
        }
        Expression::SetVerdict(_) if *expression == Expression::accept() => Expression::drop(),
        Expression::SetVerdict(_) => Expression::accept(),
        // nft does not tell the direction of a `byteorder`, only that there is one.
        _ => return None,
    })
}

/// What loads something else about the packet; itself where there is nothing else that nft has words for.
fn loads_other(expression: &Expression) -> Expression {
    match expression.clone() {
        Expression::Meta(meta) => {
            let key = match meta.key {
                MetaKey::InputType => MetaKey::OutputType,
                MetaKey::OutputType => MetaKey::InputType,
                MetaKey::Length => MetaKey::Mark,
                MetaKey::User => MetaKey::Group,
                key => key,
            };
            Meta { key, ..meta }.into()
        }
        // The other end of a packet.
        Expression::Payload(payload) => {
            let offset = match (payload.base, payload.offset, payload.length) {
                (PayloadBase::Transport, 0, 2) => 2,
                (PayloadBase::Transport, 2, 2) => 0,
                (PayloadBase::Network, 12, 4) => 16,
                (PayloadBase::Network, 16, 4) => 12,
                (PayloadBase::Network, 8, 16) => 24,
                (PayloadBase::Network, 24, 16) => 8,
                (_, offset, _) => offset,
            };
            Payload { offset, ..payload }.into()
        }
        Expression::Conntrack(conntrack) if conntrack.direction.is_some() => {
            let [original] = Conntrack::ORIGINAL;
            let direction = Some(Octet(original));
            Conntrack {
                direction,
                ..conntrack
            }
            .into()
        }
        Expression::Conntrack(conntrack) => {
            let key = match conntrack.key {
                ConntrackKey::Direction => ConntrackKey::State,
                _ => ConntrackKey::Direction,
            };
            Conntrack { key, ..conntrack }.into()
        }
        other => other,
    }
}

/// Another set of ours, or other constants.
fn other_set(set: &SetReference) -> SetReference {
    match set {
        SetReference::Named(name) if name.starts_with("hosts") => {
            SetReference::Named(name.replace("hosts", "nets"))
        }
        SetReference::Named(name) => SetReference::Named(name.replace("nets", "hosts")),
        SetReference::Anonymous(set) => {
            let keys = set
                .elements()
                .iter()
                .map(|element| flipped(&element.key.unwrap()));
            let field = TypeOf::Field {
                header: Header::Tcp,
                field: 1,
            };
            let other = AnonymousSet::of_values(KeyType::INTEGER, field, keys);
            SetReference::Anonymous(Box::new(other))
        }
    }
}

type Fault = (String, Box<dyn Fn(&mut Ruleset)>);

/// In each rule one expression: of the kind that has had the fewest faults so far.
fn in_expressions(ruleset: &Ruleset) -> Vec<Fault> {
    let mut had: BTreeMap<String, usize> = BTreeMap::new();
    let mut faults: Vec<Fault> = Vec::new();
    let kind = |expression: &Expression| {
        let text = format!("{expression:?}");
        text.split('(').next().unwrap_or_default().to_owned()
    };
    for (table, of_table) in ruleset.tables.iter().enumerate() {
        for (chain, of_chain) in of_table.chains.iter().enumerate() {
            for (rule, said) in of_chain.rules.iter().enumerate() {
                // The protocol that an option needs is not listed by nft.
                let is_option = |step: &Expression| matches!(step, Expression::ExtensionHeader(_));
                let first = said.expressions.iter().position(is_option).unwrap_or(0);
                let steps = said.expressions.iter().enumerate().skip(first);
                let alterable = steps.filter(|(_, expression)| {
                    altered(expression).is_none_or(|altered| altered != **expression)
                });
                let fewest = |(_, expression): &(usize, &Expression)| had.get(&kind(expression)).copied();
                let Some((step, expression)) = alterable.min_by_key(fewest) else {
                    continue;
                };
                *had.entry(kind(expression)).or_default() += 1;
                let name = format!("{} of {}: {expression:?}", said.comment, of_chain.name);
                let plant = move |ruleset: &mut Ruleset| {
                    let steps = &mut ruleset.tables[table].chains[chain].rules[rule].expressions;
                    match altered(&steps[step]) {
                        Some(altered) => steps[step] = altered,
                        None => drop(steps.remove(step)),
                    }
                };
                faults.push((name, Box::new(plant)));
            }
        }
    }
    let every: BTreeSet<String> = ruleset
        .tables
        .iter()
        .flat_map(|table| &table.chains)
        .flat_map(|chain| &chain.rules)
        .flat_map(|rule| rule.expressions.iter().map(kind))
        .collect();
    assert_eq!(
        had.into_keys().collect::<BTreeSet<_>>(),
        every,
        "kinds of expressions"
    );
    faults
}

/// In everything but expressions.
fn elsewhere() -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut plant = |name: &str, fault: fn(&mut Ruleset)| faults.push((name.to_owned(), Box::new(fault)));
    plant("a rule left out", |ruleset| {
        drop(ruleset.tables[0].chains[1].rules.remove(3));
    });
    plant("the last rule left out", |ruleset| {
        drop(ruleset.tables[2].chains[0].rules.pop());
    });
    plant("a rule twice", |ruleset| {
        let rules = &mut ruleset.tables[0].chains[0].rules;
        rules.push(rules[0].clone());
    });
    plant("two rules exchanged", |ruleset| {
        ruleset.tables[1].chains[0].rules.swap(0, 1);
    });
    plant("another comment", |ruleset| {
        ruleset.tables[0].chains[0].rules[0].comment.push('x');
    });
    plant("a policy", |ruleset| {
        ruleset.tables[0].chains[2].policy = "accept";
    });
    plant("an interface fewer", |ruleset| {
        drop(ruleset.tables[2].chains[3].devices.pop());
    });
    plant("another sender", |ruleset| ruleset.elements.senders[0][5] += 1);
    plant("another hardware address", |ruleset| {
        ruleset.elements.hardware[0].hardware[5] += 1;
    });
    plant("another VLAN", |ruleset| ruleset.elements.tags[0].1 += 1);
    plant("a chain left out", |ruleset| drop(ruleset.tables[0].chains.pop()));
    plant("a table left out", |ruleset| drop(ruleset.tables.pop()));
    plant("another lifeline", |ruleset| ruleset.elements.endpoints[0].2 += 1);
    plant("a lifeline fewer", |ruleset| {
        ruleset.elements.endpoints.truncate(1);
    });
    plant("another host", |ruleset| {
        Arc::make_mut(&mut ruleset.elements.hosts)[0].0 = "203.0.114.2".parse().unwrap();
    });
    plant("a host fewer", |ruleset| {
        Arc::make_mut(&mut ruleset.elements.hosts).truncate(1);
    });
    plant("a host that never ends", |ruleset| {
        let hosts = Arc::make_mut(&mut ruleset.elements.hosts);
        hosts.iter_mut().for_each(|(_, ends)| *ends = None);
    });
    plant("a wider block", |ruleset| {
        Arc::make_mut(&mut ruleset.elements.nets)[0].0 = "203.0.112.0/23".parse().unwrap();
    });
    plant("a block fewer", |ruleset| {
        Arc::make_mut(&mut ruleset.elements.nets).truncate(1);
    });
    faults
}

/// Loads it as types; what nft, and our own reading, find to differ from what was wanted.
fn seen(
    kernel: &mut Connection,
    loaded: &Ruleset,
    wanted: &(Ruleset, nft::Listed),
    counted: &CarriedCounters,
    now: Timestamp,
) -> [Option<String>; 2] {
    nft::load("flush ruleset").unwrap();
    let mut batch = loaded.load_batch(&BTreeSet::new(), counted, now);
    kernel.commit(&mut batch).unwrap();
    let (ruleset, listed) = wanted;
    let expected = some_counted(std::slice::from_ref(ruleset));
    // Some nonsense nft cannot list at all: it ends itself.
    let by_nft = match nft::listed() {
        Ok(found) => difference(listed, &found),
        Err(error) => Some(error.to_string()),
    };
    [by_nft, misread(kernel, ruleset, &expected, now)]
}

lab_test!(every_planted_difference_is_seen, || {
    make_interfaces();
    let now = Timestamp::now();
    let ruleset = everything(now);
    let counted = some_counted(std::slice::from_ref(&ruleset));
    nft::load(&ruleset.text(&BTreeSet::new(), &counted, now)).unwrap();
    let wanted = (ruleset.clone(), nft::listed().unwrap());
    let mut kernel = connect();
    let nothing = seen(&mut kernel, &ruleset, &wanted, &counted, now);
    assert_eq!(nothing, [None, None], "control");
    let mut faults = in_expressions(&ruleset);
    assert!(faults.len() > 60, "{} faults", faults.len());
    faults.extend(elsewhere());
    for (name, plant) in faults {
        let mut other = ruleset.clone();
        plant(&mut other);
        let found = seen(&mut kernel, &other, &wanted, &counted, now);
        assert!(found.iter().all(Option::is_some), "{name}: {found:?}");
    }
    let another = CarriedCounters::default();
    let found = seen(&mut kernel, &ruleset, &wanted, &another, now);
    assert!(found.iter().all(Option::is_some), "what was counted: {found:?}");
});
