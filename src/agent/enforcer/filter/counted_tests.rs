//! Readings of counters in every order, without a kernel.

use super::*;
use crate::quarantine::plan::Quota;

const A: &str = "shadow:a";
const B: &str = "operator:b";

fn limit(order: &str) -> PlannedLimit {
    PlannedLimit {
        order: order.to_owned(),
        bytes_per_second: None,
        quota: Some(Quota {
            bytes: 1_000_000,
            since: "2026-01-01T00:00:00Z".parse().unwrap(),
            until: "2026-01-01T01:00:00Z".parse().unwrap(),
        }),
    }
}

fn name(order: &str) -> (Layer, String) {
    let since = "2026-01-01T00:00:00Z".parse().unwrap();
    (Layer::Inet, quota_name(order, since))
}

/// What the kernel says: bytes of these orders' quotas, and packets of one counter.
fn read(quotas: &[(&str, u64)], packets: u64) -> CarriedCounters {
    let quotas = quotas.iter();
    let counter = (Layer::Inet, "out_quota".to_owned());
    CarriedCounters {
        counters: [(counter, (packets, packets * 100))].into(),
        quotas: quotas.map(|(order, used)| (name(order), *used)).collect(),
    }
}

fn packets(counted: &CarriedCounters) -> u64 {
    counted.counters.values().map(|(packets, _)| packets).sum()
}

#[test]
fn what_was_lost_is_what_was_known_and_what_was_set_back_counts_on() {
    let limits = [limit(A)];
    let mut tally = Tally::default();
    tally.begin(&CarriedCounters::default(), &limits);
    assert!(!tally.take(&read(&[(A, 700)], 7), &limits));
    let lost = tally.carried(CarriedCounters::default(), &limits);
    assert_eq!((lost.quotas[&name(A)], packets(&lost)), (700, 7));
    assert!(
        tally.take(&read(&[(A, 50)], 2), &limits),
        "both are less than before"
    );
    let set_back = tally.carried(read(&[(A, 50)], 2), &limits);
    assert_eq!((set_back.quotas[&name(A)], packets(&set_back)), (750, 9));
    tally.begin(&set_back, &limits);
    assert!(
        !tally.take(&read(&[(A, 760)], 9), &limits),
        "nothing is added twice"
    );
    assert_eq!(tally.quotas[0].used, 760);
}

#[test]
fn a_quota_stays_its_orders_when_the_order_before_it_ends() {
    let both = [limit(A), limit(B)];
    let mut tally = Tally::default();
    tally.begin(&CarriedCounters::default(), &both);
    tally.take(&read(&[(A, 900), (B, 30)], 0), &both);
    let only = [limit(B)];
    let carried = tally.carried(read(&[(A, 900), (B, 40)], 0), &only);
    assert_eq!(carried.quotas, [(name(B), 40)].into());
    tally.begin(&carried, &only);
    tally.take(&read(&[(B, 45)], 0), &only);
    assert_eq!(tally.quotas.len(), 1);
    assert_eq!((tally.quotas[0].order.as_str(), tally.quotas[0].used), (B, 45));
}

#[test]
fn the_journal_has_steps_and_the_table_the_newest_value() {
    let limits = [limit(A)];
    let mut tally = Tally::default();
    tally.begin(&read(&[(A, 0)], 0), &limits);
    tally.keep();
    tally.take(&read(&[(A, 9_999)], 0), &limits);
    tally.keep();
    assert_eq!(tally.kept[0].used, 0);
    assert_eq!(
        tally.carried(CarriedCounters::default(), &limits).quotas[&name(A)],
        9_999
    );
    tally.take(&read(&[(A, 10_000)], 0), &limits);
    tally.keep();
    assert_eq!(tally.kept[0].used, 10_000);
}
