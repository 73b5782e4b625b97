//! What the kernel lists and tells when others have their hands in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::namespaces::{CHAINS, LIMIT, LIMITS, connect, in_namespace, loading, nft_load};
use crate::rulesets::{Shape, build};
use edgewarden_lab::lab_test;
use nf_tables::socket::{AskError, Connection, Notifications};
use nf_tables::{
    Batch, Counter, Element, Expression, Family, Generation, Item, Listing, ListingError, ListingLimits,
    MessageType, Notice, Object, ObjectKind, ObjectState, Table, TableContents, TableFlags,
};

fn inet(name: &str) -> Table {
    Table::new(Family::Inet, name)
}

lab_test!(what_is_not_ours_is_listed_and_equals_nothing_of_ours, || {
    in_namespace(|| {
        let mut connection = connect();
        let ruleset = build(Shape::Closed, "t");
        connection.commit(&mut loading(&ruleset)).unwrap();
        // Each, and whether this crate has no words for it.
        let edits = [
            ("add rule inet t output log prefix \"x\" accept", true),
            ("add rule inet t output meta mark set 1", false),
            ("add rule inet t output ip saddr set 1.2.3.4", true),
            (
                "add rule inet t output ct original ip saddr 1.2.3.4 accept",
                false,
            ),
            ("add rule inet t output ct original packets > 7 accept", true),
            (
                "add rule inet t output tcp dport vmap { 22 : accept, 23 : drop }",
                true,
            ),
            ("add rule inet t output numgen inc mod 2 0 accept", true),
            ("add rule inet t output socket mark 1 accept", true),
            (
                "add rule inet t output tcp dport { 22 counter, 23 counter }",
                false,
            ),
            ("add rule inet t output tcp dport 1-1000 accept", false),
            ("add rule inet t output jump more", false),
            ("insert rule inet t output accept", false),
            (
                "add set inet t later { type ipv4_addr; comment \"theirs\"; }",
                false,
            ),
            ("add counter inet t theirs", false),
            ("add ct helper inet t ftp { type \"ftp\" protocol tcp; }", false),
            (
                "add chain inet t added { type nat hook prerouting priority -100; }",
                false,
            ),
            ("add chain netdev t egress { policy accept; }", false),
            (
                "add element inet t hosts4 { 192.0.2.1 comment \"theirs\" }",
                false,
            ),
            (
                "delete element inet t endpoints4 { 198.51.100.1 . tcp . 8883 }",
                false,
            ),
        ];
        for (edit, strange) in edits {
            nft_load("add chain inet t more");
            let mut look = || -> Vec<_> {
                let tables = ruleset.tables.iter().map(|loaded| {
                    let table = &loaded.contents.table;
                    let contents = connection.table(table, CHAINS, LIMITS).unwrap().unwrap().contents;
                    let timeless = |all: &mut Vec<Element>, element| {
                        all.push(Element {
                            expiration: None,
                            ..element
                        });
                    };
                    let sets = contents.sets.iter().map(|set| {
                        let listed = connection.elements(table, &set.name, 10, Vec::new, timeless);
                        listed.unwrap().unwrap().0
                    });
                    let elements: Vec<_> = sets.collect();
                    (contents, elements)
                });
                tables.collect()
            };
            let before = look();
            assert_eq!(before, look());
            nft_load(edit);
            let after = look();
            assert_ne!(before, after, "{edit}");
            let expressions = after[0]
                .0
                .chains
                .iter()
                .flat_map(|chain| &chain.rules)
                .flat_map(|rule| &rule.expressions);
            let unknown = expressions
                .filter(|expression| matches!(expression, Expression::Unknown(_)))
                .count();
            assert_eq!(unknown > 0, strange, "{edit}");
            let mut batch = Batch::new();
            for loaded in &ruleset.tables {
                batch.delete_table(&loaded.contents.table);
                batch.add_contents(&loaded.contents);
                for (set, elements) in &loaded.elements {
                    batch.add_elements(&loaded.contents.table, set, elements.iter().cloned());
                }
            }
            connection.commit(&mut batch).unwrap();
        }
    });
});

lab_test!(kinds_of_objects_that_are_not_known_keep_their_bytes, || {
    in_namespace(|| {
        nft_load("add table inet t\nadd counter inet t c\nadd synproxy inet t s { mss 1460; wscale 7; }");
        let objects = connect().objects(&inet("t"), 10).unwrap();
        let unknown = |object: &Object| matches!(object.state, ObjectState::Unknown { .. });
        assert_eq!(
            objects.iter().filter(|object| unknown(object)).count(),
            1,
            "{objects:?}"
        );
        assert_eq!(objects.len(), 2);
    });
});

lab_test!(a_dormant_table_is_told, || {
    in_namespace(|| {
        nft_load("add table inet t { flags dormant; }");
        let listing = connect().table(&inet("t"), CHAINS, LIMITS).unwrap().unwrap();
        assert_eq!(listing.contents.properties.flags, TableFlags::DORMANT);
    });
});

lab_test!(others_tables_are_passed_over, || {
    in_namespace(|| {
        let ruleset = build(Shape::Closed, "t");
        let mut connection = connect();
        connection.commit(&mut loading(&ruleset)).unwrap();
        let mut others = String::from("table inet other {\n set s { type ipv4_addr; elements = { ");
        let addresses: Vec<String> = (0..2_000)
            .map(|n| format!("10.0.{}.{}", n / 256, n % 256))
            .collect();
        others.push_str(&addresses.join(", "));
        others.push_str(" }\n }\n");
        for n in 0..300 {
            others.push_str(&format!(" chain c{n} {{\n  type filter hook input priority {n}\n  tcp dport {{ 1, {} }} accept\n }}\n", n + 2));
        }
        others.push_str("}\n");
        nft_load(&others);
        // What there is of others would not fit.
        let limits = ListingLimits {
            items: 400,
            bytes: 200_000,
        };
        let listing = connection.table(&inet("t"), CHAINS, limits).unwrap().unwrap();
        assert_eq!(listing.contents, ruleset.tables[0].contents);
    });
});

lab_test!(chains_that_are_not_expected_are_listed_too, || {
    in_namespace(|| {
        let mut connection = connect();
        connection
            .commit(&mut loading(&build(Shape::Closed, "t")))
            .unwrap();
        let names = |connection: &mut Connection, expected: &[&str]| -> Vec<String> {
            let listing = connection.table(&inet("t"), expected, LIMITS).unwrap().unwrap();
            listing
                .contents
                .chains
                .into_iter()
                .map(|chain| chain.chain.name)
                .collect()
        };
        // In the order of the question where nothing else is there, in the kernel's where everything is listed.
        let other_order = ["forward", "output", "prerouting", "input"];
        assert_eq!(names(&mut connection, &other_order), other_order);
        let kernels_order = ["output", "input", "forward", "prerouting"];
        assert_eq!(names(&mut connection, &[]), kernels_order);
        assert_eq!(
            names(&mut connection, &["forward", "absent", "input"]),
            kernels_order
        );
        nft_load("add chain inet t more");
        assert_eq!(
            names(&mut connection, &other_order),
            ["output", "input", "forward", "prerouting", "more"]
        );
    });
});

lab_test!(a_table_that_is_too_large_is_an_error, || {
    in_namespace(|| {
        let mut connection = connect();
        connection
            .commit(&mut loading(&build(Shape::Closed, "t")))
            .unwrap();
        for limits in [
            ListingLimits { items: 10, ..LIMITS },
            ListingLimits {
                bytes: 1_000,
                ..LIMITS
            },
        ] {
            let error = connection.table(&inet("t"), CHAINS, limits).unwrap_err();
            assert!(
                matches!(error, AskError::Listing(ListingError::TooLarge { .. })),
                "{error:?}"
            );
        }
        assert!(connection.table(&inet("t"), CHAINS, LIMITS).unwrap().is_some());
        assert_eq!(connection.table(&inet("absent"), CHAINS, LIMITS).unwrap(), None);
    });
});

lab_test!(a_list_is_of_one_generation_while_others_write, || {
    in_namespace(|| {
        let shapes = [Shape::Closed, Shape::Open].map(|shape| build(shape, "t"));
        let mut connection = connect();
        connection.commit(&mut loading(&shapes[0])).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = connect();
                for round in 0..200 {
                    let mut batch = Batch::new();
                    for loaded in &shapes[(round + 1) % 2].tables {
                        batch.delete_table(&loaded.contents.table);
                        batch.add_contents(&loaded.contents);
                    }
                    writer.commit(&mut batch).unwrap();
                    if round % 10 == 0 {
                        // Time for a whole list.
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                done.store(true, Ordering::Relaxed);
            });
            let mut seen = [0_usize; 2];
            while !done.load(Ordering::Relaxed) {
                match connection.table(&inet("t"), CHAINS, LIMITS) {
                    Ok(Some(listing)) if !listing.during.is_one() => {}
                    Ok(listing) => {
                        let contents = listing.unwrap().contents;
                        let place = shapes
                            .iter()
                            .position(|ruleset| ruleset.tables[0].contents == contents);
                        seen[place.expect("one of both, whole")] += 1;
                    }
                    Err(AskError::Changing) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert!(seen.iter().sum::<usize>() > 0);
        });
        let listing = connection.table(&inet("t"), CHAINS, LIMITS).unwrap().unwrap();
        assert_eq!(listing.contents, shapes[0].tables[0].contents);
    });
});

lab_test!(objects_of_others_hide_none_of_ours, || {
    in_namespace(|| {
        // More than one piece of a list, and others' are counted before them.
        let object = |number: usize| Object::new(format!("{number:04}"), Counter::default());
        let counts = |number: usize| {
            let contents =
                TableContents::new(Table::new(Family::Inet, if number == 0 { "older" } else { "t" }));
            TableContents {
                objects: (0..number).map(object).collect(),
                ..contents
            }
        };
        let mut connection = connect();
        let mut batch = Batch::new();
        [counts(0), counts(2_000)]
            .iter()
            .for_each(|contents| batch.add_contents(contents));
        connection.commit(&mut batch).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = connect();
                while !done.load(Ordering::Relaxed) {
                    for adds in [true, false] {
                        let mut batch = Batch::new();
                        for number in 0..300 {
                            if adds {
                                batch.add_object(&inet("older"), &object(number));
                            } else {
                                batch.delete_object(
                                    &inet("older"),
                                    ObjectKind::Counter,
                                    &object(number).name,
                                );
                            }
                        }
                        writer.commit(&mut batch).unwrap();
                    }
                }
            });
            let (mut whole, mut mixed) = (0, 0);
            while whole < 50 || mixed == 0 {
                match connection.table(&inet("t"), &[], LIMITS) {
                    Ok(listing) => {
                        let Listing { contents, during } = listing.unwrap();
                        assert_eq!(contents.objects.len(), 2_000);
                        (whole, mixed) = (whole + 1, mixed + usize::from(!during.is_one()));
                    }
                    Err(AskError::Changing) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    });
});

lab_test!(every_transaction_is_told_with_its_tables_and_its_maker, || {
    in_namespace(|| {
        let mut notifications = Notifications::open(4 * 1024 * 1024).unwrap();
        assert!(!notifications.next(Duration::ZERO, |_| {}).unwrap());
        let mut connection = connect();
        let ruleset = build(Shape::Closed, "t");
        connection.commit(&mut loading(&ruleset)).unwrap();
        let id = connection.generation().unwrap().id;
        nft_load("add table ip theirs");
        let mut notices = Vec::new();
        let ended = |notices: &[Notice]| matches!(notices.last(), Some(Notice::Generation(last)) if last.id == id + 1);
        while !ended(&notices) {
            assert!(notifications.next(LIMIT, |notice| notices.push(notice)).unwrap());
        }
        let transactions: Vec<_> = notices
            .split_inclusive(|notice| matches!(notice, Notice::Generation(_)))
            .collect();
        assert_eq!(transactions.len(), 2);
        let tables = |notices: &[Notice]| {
            let mut tables: Vec<Table> = notices
                .iter()
                .filter_map(|notice| match notice {
                    Notice::Change { table, .. } => table.clone(),
                    Notice::Generation(_) => None,
                })
                .collect();
            tables.sort_unstable();
            tables.dedup();
            tables
        };
        let families = [Family::Inet, Family::Netdev, Family::Bridge];
        assert_eq!(
            tables(transactions[0]),
            families.map(|family| Table::new(family, "t"))
        );
        assert_eq!(tables(transactions[1]), [Table::new(Family::Ipv4, "theirs")]);
        let change = Notice::Change {
            table: Some(Table::new(Family::Ipv4, "theirs")),
            kind: MessageType::NewTable,
            item: Some(Item::Table),
        };
        assert_eq!(transactions[1][0], change);
        let Some(Notice::Generation(Generation { program, process, .. })) = transactions[1].last() else {
            panic!("no generation");
        };
        assert_eq!(program.as_deref(), Some("nft"));
        assert!(process.is_some());
    });
});

lab_test!(notices_that_are_lost_are_told, || {
    in_namespace(|| {
        let mut notifications = Notifications::open(4_096).unwrap();
        connect().commit(&mut loading(&build(Shape::Open, "t"))).unwrap();
        let mut lost = false;
        loop {
            match notifications.next(Duration::from_millis(100), |_| {}) {
                Ok(true) => {}
                Ok(false) => break,
                Err(AskError::Lost) => lost = true,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(lost);
        // It goes on.
        nft_load("add table ip theirs");
        assert!(notifications.next(LIMIT, |_| {}).unwrap());
    });
});
