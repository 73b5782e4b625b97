//! When names are due, what follows from their answers, and what hurries them.

use super::*;
use crate::quarantine::orders::order::Protocol;

fn target(purpose: Purpose, weight: Weight, host: &str) -> LifelineTarget {
    LifelineTarget {
        purpose,
        weight,
        host: host.into(),
        below: false,
        ports: vec![(Protocol::Tcp, 443)],
        source: String::new(),
    }
}

fn three() -> Vec<LifelineTarget> {
    vec![
        target(Purpose::DataEndpoint, Weight::Control, "control"),
        target(Purpose::Ntp, Weight::Needed, "needed"),
        target(Purpose::Logs, Weight::Optional, "optional"),
    ]
}

#[test]
fn a_name_that_is_wanted_for_more_is_looked_up_at_once() {
    let mut lookups = Lookups::default();
    let resolver = target(Purpose::Dns, Weight::Needed, "192.0.2.1");
    lookups.set([resolver.clone()]);
    lookups.start(false, s(0));
    lookups.done("192.0.2.1", address(), s(0));
    lookups.set([resolver.clone()]);
    assert_eq!(lookups.start(false, s(1)), [""; 0]);
    let server = target(Purpose::Ntp, Weight::Needed, "192.0.2.1");
    lookups.set([resolver, server]);
    assert_eq!(lookups.start(false, s(1)), ["192.0.2.1"]);
    assert_eq!(lookups.done("192.0.2.1", address(), s(1)).len(), 2);
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn address() -> Result<Vec<IpAddr>, String> {
    Ok(vec!["192.0.2.1".parse().unwrap()])
}

#[test]
fn a_name_that_never_resolved_keeps_what_is_known_at_its_ports() {
    let mut lookups = Lookups::default();
    lookups.set(three());
    lookups.done("control", address(), s(0));
    lookups.done("control", Err("dead".into()), s(9));
    let control = lookups.confinement(Purpose::DataEndpoint);
    assert_eq!((control.kept.len(), control.ports.len()), (1, 0), "{control:?}");
    assert_eq!(control.kept, lookups.control());
    let logs = lookups.confinement(Purpose::Logs);
    assert_eq!((logs.kept.len(), logs.ports), (0, vec![(Protocol::Tcp, 443)]));
    let storage = lookups.confinement(Purpose::Storage);
    assert!(storage.kept.is_empty() && storage.ports.is_empty());
}

#[test]
fn a_name_that_hangs_or_fails_holds_up_no_other() {
    let mut lookups = Lookups::default();
    lookups.set(three());
    assert_eq!(lookups.start(false, s(0)), ["control", "needed", "optional"]);
    assert!(!lookups.control_was_tried());
    assert_eq!(lookups.done("control", address(), s(1)).len(), 1);
    assert!(lookups.control_was_tried());
    assert!(lookups.done("optional", Err("it failed".into()), s(1)).is_empty());
    assert_eq!(lookups.unresolved(), ["it failed"]);
    assert_eq!(lookups.endpoints(), 1);
    // "needed" hangs for ever: the others keep their time, and it is not asked again.
    assert_eq!(lookups.wait(false, s(1)), s(60));
    assert_eq!(lookups.start(false, s(60)), [""; 0]);
    assert_eq!(lookups.start(false, s(61)), ["control", "optional"]);
}

#[test]
fn what_failed_is_asked_again_by_its_weight() {
    let mut lookups = Lookups::default();
    lookups.set(three());
    lookups.start(false, s(0));
    for host in ["control", "needed", "optional"] {
        lookups.done(host, Err("no".into()), s(0));
    }
    assert_eq!(lookups.start(false, s(5)), ["control", "needed"]);
    assert_eq!(lookups.start(false, s(59)), [""; 0]);
    assert_eq!(lookups.start(false, s(60)), ["optional"]);
}

#[test]
fn a_broken_channel_is_looked_up_every_few_seconds() {
    let mut lookups = Lookups::default();
    lookups.set(three());
    lookups.start(false, s(0));
    for host in ["control", "needed", "optional"] {
        lookups.done(host, address(), s(0));
    }
    assert_eq!(lookups.start(false, s(10)), [""; 0]);
    assert_eq!(lookups.start(true, s(10)), ["control"]);
    lookups.done("control", address(), s(10));
    assert_eq!(lookups.wait(true, s(10)), s(3));
    assert_eq!(lookups.start(true, s(12)), [""; 0]);
    assert_eq!(lookups.start(true, s(13)), ["control"]);
}

#[test]
fn new_names_are_due_and_old_ones_keep_their_time() {
    let mut lookups = Lookups::default();
    lookups.set(three());
    lookups.start(false, s(0));
    lookups.done("control", address(), s(0));
    let mut more = three();
    more.remove(1);
    more.push(target(Purpose::Tunnel, Weight::Optional, "new"));
    lookups.set(more);
    assert!(
        lookups.done("needed", address(), s(1)).is_empty(),
        "not wanted any more"
    );
    assert_eq!(lookups.start(false, s(1)), ["new"]);
}

#[test]
fn one_name_may_serve_several_purposes_and_counts_by_the_heaviest() {
    let mut lookups = Lookups::default();
    lookups.set([
        target(Purpose::Deployments, Weight::Optional, "x"),
        target(Purpose::DataEndpoint, Weight::Control, "x"),
    ]);
    assert_eq!(lookups.start(false, s(0)), ["x"]);
    let found = lookups.done("x", address(), s(0));
    let purposes: Vec<_> = found.iter().map(|found| found.endpoint.purpose).collect();
    assert_eq!(purposes, [Purpose::Deployments, Purpose::DataEndpoint]);
    assert_eq!(lookups.start(true, s(3)), ["x"]);
}

#[test]
fn an_answer_without_a_usable_address_is_a_failure() {
    let mut lookups = Lookups::default();
    lookups.set(three());
    lookups.start(false, s(0));
    let nobody = Ok(vec!["224.0.0.1".parse().unwrap()]);
    assert!(lookups.done("control", nobody, s(0)).is_empty());
    assert_eq!(lookups.unresolved(), ["control has no address"]);
}

#[test]
fn names_are_bounded() {
    let mut lookups = Lookups::default();
    let many = (0..500).map(|n| target(Purpose::Ntp, Weight::Needed, &format!("n{n}")));
    lookups.set(many);
    assert_eq!(lookups.start(false, s(0)).len(), MAX_NAMES);
}

#[test]
fn a_name_that_a_program_asks_for_is_looked_up_at_once_and_not_all_the_time() {
    let mut lookups = Lookups::default();
    lookups.set(three());
    lookups.start(false, s(0));
    for host in ["control", "needed", "optional"] {
        lookups.done(host, address(), s(0));
    }
    assert_eq!(lookups.start(false, s(10)), [""; 0]);
    lookups.hurry("control", s(10));
    lookups.hurry("unknown", s(10));
    assert_eq!(lookups.wait(false, s(10)), s(0));
    assert_eq!(lookups.start(false, s(10)), ["control"]);
    lookups.done("control", address(), s(11));
    assert_eq!(lookups.start(false, s(11)), [""; 0], "it was answered since");
    lookups.hurry("control", s(12));
    assert_eq!(lookups.start(false, s(12)), [""; 0], "{HURRIED:?} at least");
    assert_eq!(lookups.start(false, s(13)), ["control"]);
}

#[test]
fn names_below_are_looked_up_when_asked_for_and_forgotten_again() {
    let storage = LifelineTarget {
        below: true,
        ..target(Purpose::Storage, Weight::Optional, "s3.example")
    };
    let mut lookups = Lookups::default();
    lookups.set([storage.clone(), target(Purpose::Logs, Weight::Optional, "logs")]);
    lookups.start(false, s(0));
    lookups.done("s3.example", address(), s(0));
    lookups.done("logs", address(), s(0));
    lookups.hurry("bucket.s3.example", s(1));
    lookups.hurry("below.logs", s(1));
    assert_eq!(lookups.start(false, s(1)), ["bucket.s3.example"]);
    let found = lookups.done("bucket.s3.example", address(), s(1));
    assert_eq!(found[0].origin.by, OriginKind::AskedFor);
    assert_eq!(found[0].endpoint.purpose, Purpose::Storage);
    lookups.set([storage]);
    assert_eq!(lookups.names.len(), 2, "it stays with its lifeline");
    lookups.start(false, s(1) + ASKED_KEPT);
    assert_eq!(lookups.names.len(), 1);
    for n in 0..500 {
        lookups.hurry(&format!("b{n}.s3.example"), s(100));
    }
    assert_eq!(lookups.names.len(), 1 + MAX_ASKED);
    lookups.start(false, s(100));
    lookups.done("b0.s3.example", Err("no".into()), s(100));
    assert_eq!(lookups.unresolved(), [""; 0], "others' names are no news");
    lookups.set([]);
    assert_eq!(lookups.names.len(), 0);
}

#[test]
fn one_answer_takes_a_part_of_the_room() {
    let mut lookups = Lookups::default();
    lookups.set(three());
    let many = (1..=60).map(|n| IpAddr::from([192, 0, 2, n])).collect();
    assert_eq!(lookups.done("control", Ok(many), s(0)).len(), MAX_ADDRESSES);
}

#[test]
fn each_family_has_its_half_of_the_room_and_no_number_goes_before_another() {
    let four = |last| IpAddr::from([192, 0, 2, last]);
    let six = |last| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]);
    let of = |fours: u8, sixes: u16| {
        let all: Vec<_> = (1..=fours).rev().map(four).chain((1..=sixes).map(six)).collect();
        let taken = of_each_family(&all);
        let fours = taken.iter().filter(|address| address.is_ipv4()).count();
        (fours, taken.len() - fours, taken.first().copied())
    };
    assert_eq!(of(17, 2), (17, 2, Some(four(17))));
    assert_eq!(of(60, 2), (22, 2, Some(four(60))));
    assert_eq!(of(60, 60), (12, 12, Some(four(60))));
    assert_eq!(of(3, 60), (3, 21, Some(four(3))));
}

#[test]
fn who_asks_for_everything_makes_few_look_ups_and_keeps_no_control_name_waiting() {
    let storage = LifelineTarget {
        below: true,
        ..target(Purpose::Storage, Weight::Optional, "s3.example")
    };
    let mut lookups = Lookups::default();
    lookups.set(three().into_iter().chain([storage]));
    let (mut of_others, mut of_control) = (0, 0);
    for tenths in 0..600 {
        let now = Duration::from_millis(100 * tenths);
        for name in ["control", "needed", "optional", "s3.example"] {
            lookups.hurry(name, now);
        }
        (0..40).for_each(|n| lookups.hurry(&format!("b{n}.s3.example"), now));
        for host in lookups.start(false, now) {
            assert!(tenths == 0 || lookups.is_hurried(&host));
            *(if host == "control" {
                &mut of_control
            } else {
                &mut of_others
            }) += 1;
            lookups.done(&host, address(), now);
        }
        assert!(lookups.wait(false, now) > Duration::ZERO, "it does not spin");
    }
    // The first three, the burst, and one in two seconds.
    assert!((40..=3 + 16 + 30).contains(&of_others), "{of_others}");
    assert!((28..=31).contains(&of_control), "{of_control}");
}

#[test]
fn who_hurries_a_name_in_vain_keeps_no_resolver_from_being_asked() {
    let mut lookups = Lookups::default();
    lookups.set(three());
    lookups.start(false, s(0));
    lookups.done("control", address(), s(0));
    let (mut whole, mut hurried) = (Vec::new(), 0);
    for second in 1..200 {
        lookups.hurry("control", s(second));
        if !lookups.start(false, s(second)).contains(&"control".to_owned()) {
            continue;
        }
        // The resolver that answered last is dead now; the other one is not asked.
        if lookups.is_hurried("control") {
            hurried += 1;
        } else {
            whole.push(second);
        }
        lookups.done("control", Err("nobody answers".into()), s(second));
    }
    assert!(hurried > 20, "control: {hurried}");
    assert!((60..=62).contains(&whole[0]) && whole.len() > 5, "{whole:?}");
    assert!(lookups.unresolved().contains(&"nobody answers".to_owned()));
}
