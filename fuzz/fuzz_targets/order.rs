//! Orders of any bytes through reader, journal, plan and rules: nothing panics, what is accepted survives the journal,
//! faults are named and bounded, and nothing that an authority wrote reaches nft but addresses and numbers.
#![no_main]

use std::collections::BTreeSet;

use edgewarden_core::quarantine::proof::journal::{self, Journal};
use edgewarden_core::quarantine::orders::order::{Authority, Order};
use edgewarden_core::quarantine::orders::document::{Wish, read};
use edgewarden_core::quarantine::plan::{IsolationSettings, Scope, fold};
use edgewarden_core::quarantine::ruleset::{CarriedCounters, EgressDevice, CutAction, Hooks, render};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// What nft needs for our rules. No `;`, `$`, `\`, `'` or `#`: with those a text could say more than one statement.
const ALPHABET: &str = "{}<=>!&|()@.,:/_-\" \n";

fuzz_target!(|data: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let now: Timestamp = Timestamp::from_second(1_800_000_000).unwrap();
    let mut orders: Vec<Order> = Vec::new();
    for authority in [
        Authority::Shadow,
        Authority::Deployment,
        Authority::Detector,
        Authority::Operator,
    ] {
        match read(Some(&value), authority, now) {
            Ok(Wish::Order(order)) => orders.push(*order),
            Ok(Wish::Release) => {}
            Err(faults) => assert!((1..=16).contains(&faults.len()), "{} faults", faults.len()),
        }
    }
    let mut kept = Journal::default();
    for order in &orders {
        kept.book.to_mut().set(order.authority, Wish::Order(Box::new(order.clone())));
    }
    assert_eq!(journal::decode(&journal::encode(&kept)).unwrap(), kept);

    let plan = fold(&orders, &IsolationSettings::default(), Vec::new(), Scope::Wide, now);
    let hooks = Hooks {
        bridge: true,
        egress: vec![EgressDevice { name: "eth0".into(), index: 2 }],
        pppoe: true,
        ..Hooks::default()
    };
    for effect in [CutAction::Cut, CutAction::Count] {
        let text = render(&plan, &hooks, effect).text(&BTreeSet::new(), &CarriedCounters::default(), now);
        let foreign = text.chars().find(|c| !c.is_ascii_alphanumeric() && !ALPHABET.contains(*c));
        assert_eq!(foreign, None, "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
        assert_eq!(text.matches("table ").count(), render(&plan, &hooks, effect).tables.len());
    }
});
