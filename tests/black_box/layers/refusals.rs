//! Kernels that lack a layer, as far as they say so.

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, INTERNET_V4, Ns};
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::filter_hook::{FilterHook, LACKS, REFUSED};
use serde_json::json;

use super::frames::{ARP, Between, Frame, UNKNOWN, arp};
use super::wire::{Ear, Port};
use crate::common::agent::restart_as;
use crate::common::gateway::ip;
use crate::common::{LIMIT, isolate, options};

lab_test!(a_layer_that_the_kernel_lacks_is_told, || {
    let mut stage = Stage::start(options()).unwrap();
    let hook = FilterHook::prepare(&stage).unwrap();
    ip(&stage, "link add br0 type bridge\nlink set br0 up");
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    let [preload, place] = hook.environment();
    let (raw, bridged) = ("past the IP stack are not cut", "a bridge passes on are not cut");
    for (round, (refused, told)) in [
        ("", vec![]),
        ("netdev", vec![raw]),
        ("bridge", vec![bridged]),
        ("netdev bridge", vec![raw, bridged]),
    ]
    .into_iter()
    .enumerate()
    {
        hook.begin(REFUSED, refused).unwrap();
        restart_as(&mut stage, "/usr/bin/env", &[&preload, &place]);
        if round == 0 {
            stage.wait_phase(LIMIT, "released").unwrap();
            let open = stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap();
            assert!(open, "control: open before");
            isolate(&stage);
        }
        let status = stage
            .wait_status(LIMIT, refused, |status| {
                let limits = status["enforcement"]["uncovered"].to_string();
                let all = [raw, bridged];
                status["enforcement"]["phase"] == "enforced"
                    && all.iter().all(|gap| limits.contains(gap) == told.contains(gap))
            })
            .unwrap();
        let limits = status["enforcement"]["uncovered"].to_string();
        assert_eq!(limits.contains("not supported"), !told.is_empty(), "{limits}");
        assert!(!stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap());
    }
});

/// A frame that nothing needs, and one that every link does.
fn frames() -> (Port, Frame, Frame) {
    let wan = Port::of("gateway", "wan0");
    let between = Between {
        from: wan.mac(),
        to: Port::of("internet", "gw0").mac(),
    };
    let unknown = between.frame("unknown", UNKNOWN, |m| m);
    let asks = between.frame("ARP", ARP, |m| {
        arp(between.from, [198, 51, 100, 2], [198, 51, 100, 1], &m)
    });
    (wan, unknown, asks)
}

lab_test!(what_the_kernel_lacks_costs_no_more_than_itself, || {
    let mut stage = Stage::start(options()).unwrap();
    let hook = FilterHook::prepare(&stage).unwrap();
    let _open = stage.site.echo_server(Ns::Internet, 4_444).unwrap();
    let _lifeline = stage.site.echo_server(Ns::Internet, 8_443).unwrap();
    let ear = Ear::open("internet");
    let [preload, place] = hook.environment();
    for (round, (lacking, told)) in [
        ("", vec![]),
        ("limit", vec!["no rates"]),
        ("ct", vec!["no connection tracking"]),
        ("exthdr", vec!["does not read options"]),
        ("rt", vec!["by any interface and next hop"]),
        ("sockets", vec!["of which network namespace a socket is"]),
        (
            "limit ct exthdr rt",
            vec![
                "no rates",
                "no connection tracking",
                "does not read options",
                "by any interface and next hop",
            ],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        hook.begin(LACKS, lacking).unwrap();
        restart_as(&mut stage, "/usr/bin/env", &[&preload, &place]);
        let (wan, unknown, asks) = frames();
        if round == 0 {
            stage.wait_phase(LIMIT, "released").unwrap();
            let open = stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4_444).unwrap();
            assert!(open && ear.hears(&wan, &unknown), "control: open before");
            isolate(&stage);
        }
        let status = stage
            .wait_status(LIMIT, lacking, |status| {
                let gaps = status["enforcement"]["uncovered"].as_array().map_or(0, Vec::len);
                status["enforcement"]["phase"] == "enforced" && gaps == told.len()
            })
            .unwrap();
        let gaps = status["enforcement"]["uncovered"].to_string();
        assert!(told.iter().all(|gap| gaps.contains(gap)), "{lacking}: {gaps}");
        assert_eq!(
            status["enforcement"]["obstacles"],
            json!([]),
            "{lacking}: {status}"
        );
        assert!(!stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4_444).unwrap());
        assert!(stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, 8_443).unwrap());
        assert!(!ear.hears(&wan, &unknown), "{lacking}: frames are cut");
        assert!(ear.hears(&wan, &asks), "{lacking}: the link lives");
    }
});
