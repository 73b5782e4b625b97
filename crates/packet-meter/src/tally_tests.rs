//! Nothing is lost between count and drain, and memory is bounded.

use super::*;
use crate::flow::{IpProtocol, PortPair};

fn sighting(port: u16) -> Sighting {
    Sighting {
        interface: 2,
        way: FrameCrossing::Out,
        content: SightingContent::Ip(FlowKey {
            protocol: IpProtocol::Udp,
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            ports: Some(PortPair {
                source: port,
                destination: 53,
            }),
        }),
    }
}

fn drain(tally: &mut Tally) -> Vec<(Sighting, FlowSum)> {
    let mut sums = Vec::new();
    tally.drain(&mut sums);
    sums
}

#[test]
fn a_drain_hands_over_each_sum_once() {
    let mut tally = Tally::new(8);
    tally.count(&sighting(1), 100, false);
    tally.count(&sighting(2), 10, true);
    tally.count(&sighting(1), 50, false);
    let sum = |bytes, packets, opens| FlowSum {
        bytes,
        packets,
        opens,
    };
    assert_eq!(
        drain(&mut tally),
        [(sighting(1), sum(150, 2, false)), (sighting(2), sum(10, 1, true))]
    );
    assert_eq!(drain(&mut tally), []);
    tally.count(&sighting(1), 1, false);
    assert_eq!(drain(&mut tally), [(sighting(1), sum(1, 1, false))]);
}

#[test]
fn only_what_is_new_or_opens_asks_for_a_drain() {
    let mut tally = Tally::new(8);
    tally.count(&sighting(1), 100, false);
    assert!(tally.take_fresh());
    tally.count(&sighting(1), 100, false);
    assert!(!tally.take_fresh());
    tally.count(&sighting(1), 100, true);
    assert!(tally.take_fresh());
}

#[test]
fn what_does_not_fit_is_summed_as_overflow() {
    let mut tally = Tally::new(2);
    for port in 1..=5 {
        tally.count(&sighting(port), 10, false);
    }
    let sums = drain(&mut tally);
    assert_eq!(sums.iter().map(|(_, sum)| sum.bytes).sum::<u64>(), 50);
    let overflow = sums
        .iter()
        .find(|(sighting, _)| sighting.content == SightingContent::Overflow);
    assert_eq!(overflow.map(|(_, sum)| sum.packets), Some(3));
}

#[test]
fn idle_flows_are_forgotten_and_undrained_ones_are_not() {
    let mut tally = Tally::new(2);
    tally.count(&sighting(1), 10, false);
    tally.forget_idle();
    tally.forget_idle();
    assert_eq!(drain(&mut tally).len(), 1, "it was not drained before");
    tally.forget_idle();
    assert!(tally.flows.is_empty());
    assert!(tally.take_fresh());
    tally.count(&sighting(1), 10, false);
    assert!(tally.take_fresh(), "it is new again");
}
