//! nft as the judge: what this crate loads is listed by nft as what nft itself loads, and what the kernel lists of it is
//! what was sent.

use std::collections::BTreeSet;

use crate::namespaces::{CHAINS, LIMITS, connect, in_namespace, loading};
use crate::rulesets::{Ruleset, Shape, build};
use edgewarden_lab::lab_test;
use edgewarden_lab::site::nft::{self, Listed};
use nf_tables::{Batch, Element, Expression, Family, Table, TableContents, intervals_of};

const SHAPES: [Shape; 2] = [Shape::Closed, Shape::Open];

/// What nft lists of a ruleset that was loaded as types.
fn listed(ruleset: &Ruleset) -> Listed {
    in_namespace(|| {
        connect().commit(&mut loading(ruleset)).unwrap();
        assert_listed(ruleset);
        nft::listed().unwrap()
    })
}

lab_test!(what_is_loaded_is_listed_by_nft_as_its_own, || {
    for shape in SHAPES {
        let ruleset = build(shape, "t");
        let expected = in_namespace(|| {
            nft::load(&ruleset.text).unwrap();
            assert_listed(&ruleset);
            nft::listed().unwrap()
        });
        assert!(expected.text.contains("chain egress"), "{}", expected.text);
        let found = listed(&ruleset);
        for (line, (one, other)) in expected.text.lines().zip(found.text.lines()).enumerate() {
            assert_eq!(one, other, "line {line}");
        }
        assert_eq!(expected, found);
    }
});

#[test]
fn every_kind_of_expression_is_among_them() {
    let ruleset = build(Shape::Closed, "t");
    let rules = ruleset.tables.iter().flat_map(|table| &table.contents.chains);
    let expressions = rules
        .flat_map(|chain| &chain.rules)
        .flat_map(|rule| &rule.expressions);
    let kinds: BTreeSet<&str> = expressions.map(Expression::name).collect();
    let every = [
        "bitwise",
        "byteorder",
        "cmp",
        "counter",
        "ct",
        "fib",
        "immediate",
        "limit",
        "lookup",
        "meta",
        "notrack",
        "objref",
        "payload",
        "quota",
        "range",
    ];
    assert_eq!(kinds, BTreeSet::from(every));
}

/// Rules that nft writes in other ways.
const OTHERS: &str = r#"
table inet t {
  comment "a table"
  counter c { packets 5 bytes 7; comment "a counter"; }
  quota q { 1000 bytes used 5 bytes; }
  limit l { rate 5/hour; }
  limit m { rate 1 mbytes/second burst 3 kbytes; }
  set ports { type inet_service; flags interval; auto-merge; elements = { 1-5, 9, 65000-65535 } }
  set nets { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 1-5, 192.0.2.1 . 9 } }
  set named { type ipv6_addr; size 100; timeout 1h; elements = { 2001:db8::1, 2001:db8::2 timeout 5m comment "short" } }
  set names { typeof ip saddr; comment "typed"; elements = { 192.0.2.1 } }
  chain more {
    tcp dport != 1-1000 return
    counter packets 3 bytes 4 quota over 25 bytes quota 3 mbytes limit rate over 3 kbytes/minute accept
  }
  chain input {
    type filter hook input priority -5; policy drop;
    ip saddr . tcp dport @nets jump more
    tcp sport @ports goto more comment "with a comment"
    ip saddr != @names ct state new,established meta pkttype broadcast drop
    ip6 saddr @named iif 1 oifname "eth*" meta mark & 0xff == 5 continue
    ip saddr != { 10.0.0.0/8, 192.168.0.0/16 } ip daddr { 192.0.2.1, 192.0.2.2 } accept
    meta skuid 0 meta l4proto { tcp, udp } th sport { 5, 7-9 } accept
  }
}
table netdev t {
  chain egress { type filter hook egress device "eth0" priority 7; }
}
"#;

lab_test!(what_nft_loads_is_loaded_again_as_it_was, || {
    let tables = [Family::Inet, Family::Netdev].map(|family| Table::new(family, "t"));
    let (expected, read) = in_namespace(|| {
        nft::load(OTHERS).unwrap();
        (nft::listed().unwrap(), tables.each_ref().map(read_whole))
    });
    let found = in_namespace(|| {
        let mut batch = Batch::new();
        for (contents, elements) in &read {
            batch.add_contents(contents);
            for (set, elements) in elements {
                batch.add_elements(&contents.table, set, elements.iter().cloned());
            }
        }
        connect().commit(&mut batch).unwrap();
        let again = tables.each_ref().map(read_whole);
        assert_eq!(again, read);
        nft::listed().unwrap()
    });
    let expressions = read[0]
        .0
        .chains
        .iter()
        .flat_map(|chain| &chain.rules)
        .flat_map(|rule| &rule.expressions);
    let unknown: Vec<_> = expressions
        .filter(|expression| matches!(expression, Expression::Unknown(_)))
        .collect();
    assert_eq!(unknown, Vec::<&Expression>::new());
    assert_eq!(expected.text, found.text);
    assert_eq!(expected.json, found.json);
});

/// A table, and its sets' elements without what is left of their time.
fn read_whole(table: &Table) -> (TableContents, Vec<(String, Vec<Element>)>) {
    let mut connection = connect();
    let contents = connection.table(table, CHAINS, LIMITS).unwrap().unwrap().contents;
    let elements = contents.sets.iter().map(|set| {
        let listed = connection.elements(table, &set.name, 100, Vec::new, Vec::push);
        (set.name.clone(), timeless(listed.unwrap().unwrap().0))
    });
    let elements = elements.collect();
    (contents, elements)
}

lab_test!(nft_sees_what_is_not_the_same, || {
    let mut other = build(Shape::Closed, "t");
    let rules = &mut other.tables[2].contents.chains[0].rules;
    let Some(Expression::Comparison(comparison)) = rules[0].expressions.get_mut(2) else {
        panic!("another rule than expected: {:?}", rules[0]);
    };
    comparison.value = [1, 0x80, 0xc2, 0, 0, 0x10].into();
    let (one, other) = (listed(&build(Shape::Closed, "t")), listed(&other));
    assert_ne!(one.text, other.text);
    assert_ne!(one.json, other.json);
});

fn assert_listed(ruleset: &Ruleset) {
    let mut connection = connect();
    for loaded in &ruleset.tables {
        let table = &loaded.contents.table;
        let listing = connection.table(table, CHAINS, LIMITS).unwrap().unwrap();
        for (listed, sent) in listing.contents.chains.iter().zip(&loaded.contents.chains) {
            for (listed, sent) in listed.rules.iter().zip(&sent.rules) {
                assert_eq!(listed, sent, "{table}");
            }
        }
        assert_eq!(listing.contents, loaded.contents);
        for (set, sent) in &loaded.elements {
            let listed = connection.elements(table, set, 1_000, Vec::new, Vec::push);
            let (listed, during) = listed.unwrap().unwrap();
            assert_eq!(during, listing.during);
            assert_eq!(timeless(listed), timeless(sent.clone()), "{table} {set}");
        }
    }
}

/// Sorted, and without what is left of their time.
fn timeless(mut elements: Vec<Element>) -> Vec<Element> {
    for element in &mut elements {
        if let Some(left) = element.expiration.take() {
            // That of the set, where it has none of its own.
            let timeout = element.timeout.unwrap_or(3_600_000);
            assert!(left <= timeout && left + 30_000 > timeout, "{left} of {timeout}");
        }
    }
    elements.sort_by_key(|element| (element.key, !element.ends_interval()));
    elements
}

lab_test!(intervals_come_back, || {
    let ruleset = build(Shape::Closed, "t");
    in_namespace(|| {
        let mut connection = connect();
        connection.commit(&mut loading(&ruleset)).unwrap();
        let table = &ruleset.tables[0].contents.table;
        let listed = connection.elements(table, "nets4", 1_000, Vec::new, Vec::push);
        let intervals = intervals_of(listed.unwrap().unwrap().0).unwrap();
        let found: Vec<_> = intervals
            .iter()
            .map(|interval| {
                (
                    interval.first.bytes().to_vec(),
                    interval.last.bytes().to_vec(),
                    interval.timeout,
                )
            })
            .collect();
        let expected = [
            ([10, 0, 0, 0], [10, 127, 255, 255], None),
            ([10, 128, 0, 0], [10, 255, 255, 255], Some(60_000)),
            ([203, 0, 113, 0], [203, 0, 113, 255], Some(3_601_000)),
            ([255, 0, 0, 0], [255, 255, 255, 255], None),
        ];
        assert_eq!(
            found,
            expected.map(|(first, last, time)| (first.to_vec(), last.to_vec(), time))
        );
    });
});
