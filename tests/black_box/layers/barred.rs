//! Kernels whose egress hook takes no rules: filters of `tc` drop what has not passed ours.

use std::process::Command;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{INTERNET_V4, Ns, wait_until};
use edgewarden_lab::stage::filter_hook::{FilterHook, REFUSED};
use edgewarden_lab::stage::{Stage, Turns};
use serde_json::{Value, json};

use super::frames::{ARP, Between, EAPOL, Frame, IPV4, UNKNOWN, arp};
use super::wire::{Ear, Port, names};
use crate::common::agent::{restart, restart_as};
use crate::common::gateway::{ip, run};
use crate::common::packet::{SYN, TCP, ip as packet, tcp};
use crate::common::{LIMIT, isolate, options, order, release};

/// What is told of what no filter sees.
const ROUND: &str = "PACKET_QDISC_BYPASS";
/// How the handles of our filters begin.
const OURS: &str = "handle 0xed6e00";

fn tc(stage: &Stage, words: &str) -> String {
    let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
    let run = move || Command::new("tc").args(words).output().unwrap();
    let output = stage.site.run_in(Ns::Gateway, run).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn at_egress(stage: &Stage, interface: &str) -> String {
    tc(stage, &format!("filter show dev {interface} egress"))
}

/// Whether this kernel is one that has no hook: nothing needs to be imitated then.
fn is_old() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let mut next = || numbers.next().unwrap().unwrap();
    (next(), next()) < (5, 16)
}

/// A free device whose kernel refuses the hook.
fn old() -> (Stage, Option<FilterHook>) {
    let mut options = options();
    options.cloud.push("--no-lambda".into());
    if is_old() {
        // In an emulated machine, as a rule.
        options.turns = Turns::Unmeasured;
    }
    let mut stage = Stage::start(options).unwrap();
    let hook = (!is_old()).then(|| {
        let hook = FilterHook::prepare(&stage).unwrap();
        hook.begin(REFUSED, "netdev").unwrap();
        hook
    });
    again(&mut stage, hook.as_ref());
    let foretold = |status: &Value| {
        status["enforcement"]["phase"] == "released"
            && status["enforcement"]["uncovered"].to_string().contains(ROUND)
    };
    stage.wait_status(LIMIT, "it is told before", foretold).unwrap();
    assert_eq!(
        tc(&stage, "qdisc show").matches("clsact").count(),
        0,
        "nothing is left of the trial"
    );
    (stage, hook)
}

fn again(stage: &mut Stage, hook: Option<&FilterHook>) {
    let Some(hook) = hook else {
        return restart(stage);
    };
    let [preload, place] = hook.environment();
    restart_as(stage, "/usr/bin/env", &[&preload, &place]);
}

/// Where frames leave, and those that must not; and one that the link needs.
fn by_hand() -> (Port, Vec<Frame>, Frame) {
    let wan = Port::of("gateway", "wan0");
    let between = Between {
        from: wan.mac(),
        to: Port::of("internet", "gw0").mac(),
    };
    let own = [198, 51, 100, 2];
    let asks = arp(between.from, own, [198, 51, 100, 1], &[]);
    let cut = vec![
        between.frame("unknown", UNKNOWN, |marker| marker),
        between.frame("ARP by hand", ARP, |marker| [asks.clone(), marker].concat()),
        between.frame("in the lifeline's name", IPV4, |marker| {
            packet(own.into(), INTERNET_V4, TCP, 0, &tcp(1_000, 8_443, SYN, &marker))
        }),
        between.frame("short", IPV4, |marker| marker),
    ];
    let keys = between.frame("keys", EAPOL, |marker| [vec![1, 1, 0, 0], marker].concat());
    (wan, cut, keys)
}

fn lifeline_lives(stage: &Stage) {
    ip(stage, "neigh flush dev wan0");
    let lives = || stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, 8_443).unwrap();
    wait_until(LIMIT, "the lifeline and the ARP for it pass", lives).unwrap();
}

lab_test!(without_the_egress_hook_frames_past_the_ip_stack_are_cut, || {
    let (mut stage, hook) = old();
    let _lifeline = stage.site.echo_server(Ns::Internet, 8_443).unwrap();
    ip(
        &stage,
        "netns add inside
         link add mv1 link wan0 type macvlan mode bridge
         link set mv1 netns inside
         -n inside link set mv1 up",
    );
    let ear = Ear::open("internet");
    let (wan, frames, keys) = by_hand();
    let inside = Port::of("inside", "mv1");
    let theirs = Between {
        from: inside.mac(),
        to: Port::of("internet", "gw0").mac(),
    };
    let theirs = [
        theirs.frame("of a container", UNKNOWN, |marker| marker),
        theirs.frame("its keys", EAPOL, |marker| marker),
    ];
    assert_eq!(wan.arrivals(&ear, &frames), names(&frames), "control");
    assert_eq!(inside.arrivals(&ear, &theirs), names(&theirs), "control");
    // The owner's own, in the place that ours would like to have.
    tc(&stage, "qdisc add dev lan0 clsact");
    run(
        &stage,
        Ns::Gateway,
        "tc",
        &"filter add dev lan0 egress protocol all pref 1 u32 match u32 0 0 flowid 1:1"
            .split(' ')
            .collect::<Vec<_>>(),
    );
    let owners = at_egress(&stage, "lan0");
    assert!(owners.contains("u32"), "control: {owners}");

    isolate(&stage);
    let is_cut = |stage: &Stage, when: &str| {
        assert_eq!(wan.arrivals(&ear, &frames), [""; 0], "{when}");
        assert_eq!(inside.arrivals(&ear, &theirs), [""; 0], "{when}");
        assert!(ear.hears(&wan, &keys), "{when}: the link lives");
        lifeline_lives(stage);
    };
    is_cut(&stage, "isolated");
    let told = |what: &'static str| {
        move |status: &Value| status["enforcement"]["uncovered"].to_string().contains(what)
    };
    stage
        .wait_status(LIMIT, "what no filter sees is told", told(ROUND))
        .unwrap();
    stage
        .wait_status(
            LIMIT,
            "whoever is asked before",
            told("on lan0 where a tc filter"),
        )
        .unwrap();
    let ours = at_egress(&stage, "wan0");
    assert!(ours.contains(OURS));
    if is_old() {
        // This one has policing.
        assert!(ours.contains("police"), "{ours}");
        println!("{ours}\n{}", stage.status()["enforcement"]["uncovered"]);
    }
    assert!(!tc(&stage, "qdisc show dev lo").contains("clsact"));

    // Somebody takes them away, all and one.
    let before = stage.status()["enforcement"]["reasserted"]
        .as_u64()
        .unwrap_or_default();
    for words in ["qdisc del dev wan0 clsact", "filter del dev wan0 egress"] {
        tc(&stage, words);
        wait_until(LIMIT, "they are put back", || {
            at_egress(&stage, "wan0").contains(OURS)
        })
        .unwrap();
        is_cut(&stage, words);
    }
    let counted = |status: &Value| status["enforcement"]["reasserted"].as_u64() >= Some(before + 2);
    stage.wait_status(LIMIT, "and it is told", counted).unwrap();

    // An interface that comes, and an agent that goes.
    ip(
        &stage,
        "link add late0 type veth peer name late1\nlink set late0 up",
    );
    wait_until(LIMIT, "it has them too", || {
        at_egress(&stage, "late0").contains(OURS)
    })
    .unwrap();
    stage.agent.take().unwrap().kill9().unwrap();
    is_cut(&stage, "without an agent");
    again(&mut stage, hook.as_ref());
    stage.wait_phase(LIMIT, "enforced").unwrap();
    is_cut(&stage, "another agent");

    release(&stage);
    assert_eq!(at_egress(&stage, "wan0"), "");
    assert_eq!(
        tc(&stage, "qdisc show").matches("clsact").count(),
        1,
        "the owner's"
    );
    assert_eq!(at_egress(&stage, "lan0"), owners);
    assert_eq!(wan.arrivals(&ear, &frames), names(&frames), "free again");
});

lab_test!(where_filters_have_no_place_it_is_told, || {
    let (stage, _hook) = old();
    tc(&stage, "qdisc add dev lan0 ingress");
    isolate(&stage);
    let gaps = |what: &'static str| {
        move |status: &Value| status["enforcement"]["uncovered"].to_string().contains(what)
    };
    stage
        .wait_status(
            LIMIT,
            "an ingress discipline",
            gaps("not cut on lan0: its queueing discipline"),
        )
        .unwrap();
    assert!(at_egress(&stage, "wan0").contains(OURS));
    // The owner's marks mean something to him where he goes on.
    let block = json!({"ports": [{"protocol": "tcp", "port": 22}]});
    order(
        &stage,
        &json!({"id": "r-1", "posture": "restrict", "block": block}),
    );
    stage
        .wait_status(
            LIMIT,
            "a restriction",
            gaps("not cut in a restriction: Linux 5.16"),
        )
        .unwrap();
    assert_eq!(at_egress(&stage, "wan0"), "");
    release(&stage);
    assert!(
        tc(&stage, "qdisc show dev lan0").contains("ingress"),
        "the owner's stays"
    );
    assert_eq!(tc(&stage, "qdisc show").matches("clsact").count(), 0);
});
