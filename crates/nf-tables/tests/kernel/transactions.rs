//! Transactions against the real kernel: whole or not at all, refusals that name what they are about, small changes.

use std::net::UdpSocket;
use std::process::Command;

use crate::namespaces::{CHAINS, LIMITS, connect, in_namespace, ip, loading, nft_load};
use crate::rulesets::{Shape, build};
use edgewarden_lab::lab_test;
use edgewarden_lab::site::nft;
use nf_tables::socket::{CommitError, Connection, Refusal};
use nf_tables::{
    Action, Batch, Chain, ChainContents, Comparison, Counter, Element, Expression, Family, Hook, Item,
    KeyType, Lookup, Meta, MetaKey, Object, ObjectKind, ObjectReference, Operator, Payload, PayloadBase,
    Policy, Rule, Set, SetFlags, Step, Table, TableContents, Value,
};

fn table() -> Table {
    Table::new(Family::Inet, "t")
}

/// A table with one set, one counter, one chain.
fn small(rules: Vec<Rule>) -> TableContents {
    let mut contents = TableContents::new(table());
    contents.objects.push(Object::new("counted", Counter::default()));
    contents
        .sets
        .push(Set::new("hosts", KeyType::IPV4, 4, SetFlags::TIMEOUT));
    contents.chains.push(ChainContents {
        chain: Chain::filter("output", Hook::new(Hook::OUTPUT, 0), Policy::Accept),
        rules,
    });
    contents
}

fn counting(comment: &str) -> Rule {
    let object = ObjectReference {
        kind: ObjectKind::Counter,
        name: "counted".into(),
    };
    Rule::new(vec![object.into(), Expression::accept()], comment)
}

fn asking(set: &str, comment: &str) -> Rule {
    let steps = vec![
        Payload::first(PayloadBase::Network, 16, 4).into(),
        Lookup::named(set).into(),
        Expression::drop(),
    ];
    Rule::new(steps, comment)
}

fn load(connection: &mut Connection, contents: &TableContents) {
    let mut batch = Batch::new();
    batch.add_contents(contents);
    connection.commit(&mut batch).unwrap();
}

fn refused(result: Result<(), CommitError>) -> Vec<Refusal> {
    match result {
        Err(CommitError::Refused { refusals }) => refusals,
        other => panic!("not refused: {other:?}"),
    }
}

fn step_of<'a>(batch: &'a Batch, refusal: &Refusal) -> &'a Step {
    batch.step_at(refusal.step.unwrap()).unwrap()
}

lab_test!(a_refusal_names_its_rule_and_nothing_is_changed, || {
    in_namespace(|| {
        let mut connection = connect();
        let before = connection.generation().unwrap().id;
        let mut bad = asking("hosts", "bad");
        bad.expressions[1] = Lookup::named("nobody").into();
        let mut batch = Batch::new();
        batch.add_contents(&small(vec![counting("good"), bad, counting("after")]));
        let refusals = refused(connection.commit(&mut batch));
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert_eq!(refusals[0].errno, 2, "no such set");
        let expected = Step {
            action: Action::Add,
            table: table(),
            item: Item::Rule {
                chain: "output".into(),
                comment: Some("bad".into()),
                handle: None,
            },
        };
        assert_eq!(*step_of(&batch, &refusals[0]), expected);
        assert!(!connection.has_table(&table()).unwrap());
        assert_eq!(connection.generation().unwrap().id, before);
        // The same batch may be sent again, and the connection works on.
        assert_eq!(refused(connection.commit(&mut batch)), refusals);
        load(&mut connection, &small(vec![counting("good")]));
        assert!(connection.has_table(&table()).unwrap());
    });
});

lab_test!(each_refused_step_is_named, || {
    in_namespace(|| {
        let mut connection = connect();
        load(&mut connection, &small(Vec::new()));
        let mut batch = Batch::new();
        batch.add_chain(
            &table(),
            &Chain::filter("output", Hook::new(Hook::OUTPUT, 0), Policy::Drop),
        );
        batch.add_rule(&table(), "nowhere", &counting("lost"));
        batch.add_object(&table(), &Object::new("fine", Counter::default()));
        batch.delete_elements(&table(), "hosts", [Element::new([192, 0, 2, 1])]);
        batch.delete_table(&Table::new(Family::Netdev, "absent"));
        batch.delete_rule(&table(), "output", 99);
        let refusals = refused(connection.commit(&mut batch));
        let steps: Vec<_> = refusals.iter().map(|refusal| refusal.step.unwrap()).collect();
        assert_eq!(steps, [0, 1, 3, 4, 5], "{refusals:?}");
        assert_eq!(refusals[0].errno, 17);
        // NFTA_CHAIN_NAME of the refused chain: the kernel points at it.
        assert_eq!(refusals[0].place.last().unwrap().number, 3, "{refusals:?}");
        assert_eq!(refusals[1].place.last().unwrap().number, 2, "{refusals:?}");
        assert!(
            connection.objects(&table(), 10).unwrap().len() == 1,
            "nothing was changed"
        );
    });
});

lab_test!(the_expression_that_is_refused_is_pointed_at, || {
    in_namespace(|| {
        let mut connection = connect();
        let mut bad = counting("bad");
        // More bytes than the register has.
        bad.expressions
            .insert(0, Comparison::first(Operator::Equal, Value::zero(0)).into());
        bad.expressions.insert(0, Meta::first(MetaKey::Length).into());
        let mut batch = Batch::new();
        batch.add_contents(&small(vec![counting("good"), bad]));
        let refusals = refused(connection.commit(&mut batch));
        assert!(
            matches!(&step_of(&batch, &refusals[0]).item, Item::Rule { comment: Some(comment), .. } if comment == "bad")
        );
    });
});

lab_test!(a_transaction_for_another_generation_is_refused_whole, || {
    in_namespace(|| {
        let mut connection = connect();
        let generation = connection.generation().unwrap().id;
        let mut batch = Batch::for_generation(generation);
        batch.add_contents(&small(Vec::new()));
        nft_load("add table inet other");
        let error = connection.commit(&mut batch).unwrap_err();
        assert!(error.is_outdated(), "{error:?}");
        assert!(!connection.has_table(&table()).unwrap());
        let mut batch = Batch::for_generation(connection.generation().unwrap().id);
        batch.add_contents(&small(Vec::new()));
        connection.commit(&mut batch).unwrap();
        assert!(connection.has_table(&table()).unwrap());
        assert_eq!(connection.generation().unwrap().id, generation + 2);
    });
});

lab_test!(whole_tables_are_replaced_in_one_transaction, || {
    in_namespace(|| {
        let mut connection = connect();
        let (old, new) = (build(Shape::Open, "t"), build(Shape::Closed, "t"));
        connection.commit(&mut loading(&old)).unwrap();
        nft_load("add rule inet t output accept");
        let generation = connection.generation().unwrap().id;
        let mut batch = Batch::new();
        for loaded in &new.tables {
            batch.clear_table(&loaded.contents.table);
        }
        batch.clear_table(&Table::new(Family::Ipv4, "never-there"));
        for loaded in &new.tables {
            batch.add_contents(&loaded.contents);
        }
        connection.commit(&mut batch).unwrap();
        assert_eq!(connection.generation().unwrap().id, generation + 1);
        for loaded in &new.tables {
            let listing = connection
                .table(&loaded.contents.table, CHAINS, LIMITS)
                .unwrap()
                .unwrap();
            assert_eq!(listing.contents, loaded.contents);
        }
        assert!(
            !connection
                .has_table(&Table::new(Family::Ipv4, "never-there"))
                .unwrap()
        );
    });
});

lab_test!(single_rules_come_and_go_in_their_places, || {
    in_namespace(|| {
        let mut connection = connect();
        load(
            &mut connection,
            &small(vec![counting("a"), counting("b"), counting("c")]),
        );
        let of_output = |connection: &mut Connection| -> Vec<u64> {
            let handles = connection.rule_handles(&table(), 10).unwrap();
            assert!(handles.iter().all(|(chain, _)| chain == "output"));
            handles.into_iter().map(|(_, handle)| handle).collect()
        };
        let handles = of_output(&mut connection);
        assert_eq!(handles.len(), 3);
        let mut batch = Batch::new();
        for comment in ["B", "C"] {
            batch.insert_rule(&table(), "output", handles[1], &asking("hosts", comment));
        }
        batch.delete_rule(&table(), "output", handles[2]);
        batch.insert_rule(&table(), "output", handles[0], &counting("first"));
        batch.add_rule(&table(), "output", &counting("d"));
        connection.commit(&mut batch).unwrap();
        let listing = connection.table(&table(), CHAINS, LIMITS).unwrap().unwrap();
        let asks = |comment| asking("hosts", comment);
        let expected = small(vec![
            counting("first"),
            counting("a"),
            asks("B"),
            asks("C"),
            counting("b"),
            counting("d"),
        ]);
        assert_eq!(listing.contents, expected);
        let after = of_output(&mut connection);
        assert_eq!([after[1], after[4]], handles[..2]);
        assert!(
            connection.rule_handles(&table(), 5).is_err(),
            "a list has a bound"
        );
    });
});

lab_test!(an_object_goes_with_the_last_rule_that_refers_to_it, || {
    in_namespace(|| {
        let mut connection = connect();
        load(&mut connection, &small(vec![counting("a")]));
        let delete = |batch: &mut Batch| batch.delete_object(&table(), ObjectKind::Counter, "counted");
        let mut batch = Batch::new();
        delete(&mut batch);
        let refusals = refused(connection.commit(&mut batch));
        assert_eq!((refusals[0].errno, refusals[0].step), (16, Some(0)), "busy");
        let (_, handle) = connection.rule_handles(&table(), 10).unwrap()[0];
        let mut batch = Batch::new();
        batch.delete_rule(&table(), "output", handle);
        delete(&mut batch);
        connection.commit(&mut batch).unwrap();
        assert_eq!(connection.objects(&table(), 10).unwrap(), []);
    });
});

lab_test!(elements_come_and_go_alone, || {
    in_namespace(|| {
        let mut connection = connect();
        load(&mut connection, &small(vec![asking("hosts", "a")]));
        let host = |last: u8| Element::new([192, 0, 2, last]);
        let mut batch = Batch::new();
        batch.add_elements(&table(), "hosts", [host(1), host(2).with_timeout(Some(60_000))]);
        connection.commit(&mut batch).unwrap();
        let mut batch = Batch::new();
        batch.delete_elements(&table(), "hosts", [host(1)]);
        batch.add_elements(&table(), "hosts", [host(3)]);
        connection.commit(&mut batch).unwrap();
        let listed = connection.elements(&table(), "hosts", 10, Vec::new, Vec::push);
        let (mut listed, _) = listed.unwrap().unwrap();
        listed.sort_by_key(|element| element.key);
        let left = listed[0].expiration.take().unwrap();
        assert!((1..=60_000).contains(&left), "{left}");
        assert_eq!(listed, [host(2).with_timeout(Some(60_000)), host(3)]);
        let found = connection.element(&table(), "hosts", &host(3)).unwrap();
        assert_eq!(found, Some(host(3)));
        assert_eq!(connection.element(&table(), "hosts", &host(1)).unwrap(), None);
        assert_eq!(connection.element(&table(), "nobody", &host(1)).unwrap(), None);
        let none = connection.elements(&table(), "nobody", 10, Vec::new, Vec::<Element>::push);
        assert_eq!(none.unwrap(), None);
    });
});

lab_test!(what_is_in_use_is_refused_as_busy, || {
    in_namespace(|| {
        let mut connection = connect();
        load(&mut connection, &small(vec![asking("hosts", "a")]));
        let mut batch = Batch::new();
        batch.add_rule(&table(), "output", &counting("b"));
        batch.delete_set(&table(), "hosts");
        let refusals = refused(connection.commit(&mut batch));
        assert_eq!(
            (refusals[0].errno, refusals[0].step),
            (16, Some(1)),
            "{refusals:?}"
        );
    });
});

lab_test!(more_refusals_than_the_socket_holds_are_a_refusal, || {
    in_namespace(|| {
        let mut connection = connect();
        load(&mut connection, &small(Vec::new()));
        let mut batch = Batch::new();
        for _ in 0..20_000 {
            batch.delete_chain(&table(), "absent");
        }
        let refusals = refused(connection.commit(&mut batch));
        assert_eq!(refusals[0].step, Some(0));
        // Whatever is left in the socket is no answer to the next question.
        assert!(connection.has_table(&table()).unwrap());
        let mut batch = Batch::new();
        batch.add_rule(&table(), "output", &counting("b"));
        connection.commit(&mut batch).unwrap();
    });
});

lab_test!(nothing_is_not_sent, || {
    in_namespace(|| {
        let mut connection = connect();
        let before = connection.generation().unwrap().id;
        connection.commit(&mut Batch::new()).unwrap();
        let mut batch = Batch::new();
        batch.add_elements(&table(), "hosts", []);
        assert!(batch.is_empty());
        connection.commit(&mut batch).unwrap();
        assert_eq!(connection.table(&table(), CHAINS, LIMITS).unwrap(), None);
        assert_eq!(
            connection.generation().unwrap().id,
            before,
            "to list changes nothing"
        );
    });
});

lab_test!(what_cannot_be_written_is_not_sent, || {
    in_namespace(|| {
        let mut connection = connect();
        let mut batch = Batch::new();
        batch.add_contents(&small(vec![counting("good")]));
        batch.add_rule(&table(), "out\0put", &counting("name"));
        let error = connection.commit(&mut batch).unwrap_err();
        assert!(
            matches!(error, CommitError::Unwritable { step: Some(5), .. }),
            "{error:?}"
        );
        let mut batch = Batch::new();
        batch.add_contents(&small(vec![Rule::new(vec![Expression::accept(); 3_000], "long")]));
        let error = connection.commit(&mut batch).unwrap_err();
        assert!(
            matches!(error, CommitError::Unwritable { step: Some(4), .. }),
            "{error:?}"
        );
        assert!(!connection.has_table(&table()).unwrap());
    });
});

lab_test!(a_hundred_thousand_elements_are_one_transaction, || {
    if std::fs::read_to_string("/proc/self/uid_map")
        .unwrap()
        .split_whitespace()
        .last()
        != Some("4294967295")
    {
        assert!(std::env::var_os("CI").is_none(), "must not be skipped under CI");
        println!("SKIPPED: a user namespace may not send as much at once");
        return;
    }
    in_namespace(|| {
        let mut connection = connect();
        let count = 100_000_u32;
        let keys = |from: u32| (from..from + count).map(|n| Element::new((n + 0x0a00_0000).to_be_bytes()));
        let mut batch = Batch::new();
        batch.add_contents(&small(vec![asking("hosts", "a")]));
        batch.add_elements(
            &table(),
            "hosts",
            keys(0).map(|element| element.with_timeout(Some(3_600_000))),
        );
        connection.commit(&mut batch).unwrap();
        // Right behind the load the kernel's hash still grows.
        let sum = |found: &mut (u64, u64), element: Element| {
            let key: [u8; 4] = element.key.unwrap().bytes().try_into().unwrap();
            found.0 += 1;
            found.1 += u64::from(u32::from_be_bytes(key) - 0x0a00_0000);
        };
        let limit = count as usize;
        let listed = connection.elements(&table(), "hosts", limit, || (0, 0), sum);
        let expected = u64::from(count) * u64::from(count - 1) / 2;
        assert_eq!(listed.unwrap().unwrap().0, (100_000, expected));
        let fewer = connection.elements(&table(), "hosts", limit - 1, || (0, 0), sum);
        assert!(fewer.is_err(), "a list has a bound");
        // The rest of that list is read away.
        assert!(connection.has_table(&table()).unwrap());
        let mut batch = Batch::new();
        batch.delete_elements(&table(), "hosts", keys(0));
        connection.commit(&mut batch).unwrap();
        let listed = connection.elements(&table(), "hosts", limit, || (0, 0), sum);
        assert_eq!(listed.unwrap().unwrap().0, (0, 0));
    });
});

lab_test!(one_element_among_many_that_is_refused_is_told, || {
    in_namespace(|| {
        let mut connection = connect();
        load(&mut connection, &small(Vec::new()));
        let keys = (0..10_000_u32).map(|n| Element::new(n.to_be_bytes()));
        let mut batch = Batch::new();
        batch.add_elements(&table(), "hosts", keys.chain([Element::new([1, 2, 3])]));
        let refusals = refused(connection.commit(&mut batch));
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        assert_eq!(step_of(&batch, &refusals[0]).item, Item::Elements("hosts".into()));
        let none = connection.elements(&table(), "hosts", 10, Vec::new, Vec::push);
        assert_eq!(none.unwrap().unwrap().0, Vec::<Element>::new());
    });
});

/// Set where the test below has been run again without the right.
const WITHOUT_RIGHT: &str = "NF_TABLES_WITHOUT_RIGHT";

#[test]
fn without_the_right_to_it_is_refused() {
    let name = edgewarden_lab::test_name!(without_the_right_to_it_is_refused);
    if std::env::var_os(WITHOUT_RIGHT).is_some() {
        let mut batch = Batch::new();
        batch.add_contents(&small(Vec::new()));
        let refusals = refused(connect().commit(&mut batch));
        assert_eq!((refusals[0].errno, refusals[0].step), (1, None), "{refusals:?}");
        return;
    }
    edgewarden_lab::site::in_lab(name, || {
        let own = std::env::current_exe().unwrap();
        let arguments = [
            "--bounding-set=-net_admin",
            own.to_str().unwrap(),
            "--exact",
            name,
            "--nocapture",
        ];
        let output = Command::new("setpriv")
            .args(arguments)
            .env(WITHOUT_RIGHT, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    });
}

lab_test!(counters_and_quotas_begin_where_they_are_told_to, || {
    in_namespace(|| {
        let mut connection = connect();
        let ruleset = build(Shape::Open, "t");
        connection.commit(&mut loading(&ruleset)).unwrap();
        let contents = &ruleset.tables[0].contents;
        assert_eq!(
            connection.objects(&contents.table, 100).unwrap(),
            contents.objects
        );
        ip(&["address", "add", "192.0.2.1/24", "dev", "eth0"]);
        for name in ["eth0", "eth1"] {
            ip(&["link", "set", name, "up"]);
        }
        ip(&["route", "add", "203.0.114.1", "dev", "eth0"]);
        let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
        let sent = socket.send_to(b"blocked", ("203.0.114.1", 9));
        assert_eq!(sent.unwrap_err().raw_os_error(), Some(1), "it is dropped");
        let counted = connection
            .table(&contents.table, CHAINS, LIMITS)
            .unwrap()
            .unwrap()
            .contents;
        assert_ne!(counted, *contents, "a counter has counted");
        assert_eq!(counted.uncounted(), contents.clone().uncounted());
        assert!(nft::listed().unwrap().text.contains("used 77 bytes"));
    });
});
