//! Interfaces that appear, vanish and have strange names while the device is isolated.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{limit_here, wait_until};
use edgewarden_lab::stage::Stage;
use serde_json::json;

use super::frames::{BROADCAST, Between, Frame, UNKNOWN};
use super::free;
use super::wire::{Ear, Port};
use crate::common::gateway::ip;
use crate::common::{isolate, options};

fn connect(stage: &Stage, name: &str) -> (Port, Frame) {
    ip(
        stage,
        &format!(
            "link add {name} type veth peer name x1 netns extra\nlink set {name} up\n-n extra link set x1 up"
        ),
    );
    let port = Port::of("gateway", name);
    let between = Between {
        from: port.mac(),
        to: BROADCAST,
    };
    let frame = between.frame("by hand", UNKNOWN, |m| m);
    (port, frame)
}

lab_test!(an_interface_that_appears_is_cut_within_a_second, || {
    let stage = free(options());
    ip(&stage, "netns add extra");
    let ear = Ear::open("extra");
    let (port, frame) = connect(&stage, "x0");
    assert!(ear.hears(&port, &frame), "control");
    ip(&stage, "link del x0");
    isolate(&stage);
    // New, then removed and made again under the same name.
    for round in 0..3 {
        let (port, frame) = connect(&stage, "x0");
        std::thread::sleep(limit_here(Duration::from_secs(1)));
        assert!(!ear.hears(&port, &frame), "round {round}");
        ip(&stage, "link del x0");
    }
    let status = stage.status();
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
    assert_eq!(status["enforcement"]["uncovered"], json!([]), "{status}");
});

lab_test!(a_strange_name_breaks_nothing_and_is_told, || {
    let stage = free(options());
    ip(&stage, "netns add extra");
    let ear = Ear::open("extra");
    isolate(&stage);
    for name in ["a;b", "x\"y", "$(id)", "{}"] {
        let (port, frame) = connect(&stage, name);
        let told = stage
            .wait_status(crate::common::LIMIT, "the gap is told", |status| {
                status["enforcement"]["uncovered"]
                    .to_string()
                    .contains("unusual names")
            })
            .unwrap();
        assert_eq!(told["enforcement"]["phase"], "enforced", "{name}: {told}");
        assert!(ear.hears(&port, &frame), "what is told is so: {name}");
        ip(&stage, &format!("link del {name}"));
    }
    stage
        .wait_status(crate::common::LIMIT, "no gap", |status| {
            status["enforcement"]["uncovered"] == json!([])
        })
        .unwrap();
});

/// More than a kernel takes in one chain.
const MANY: usize = 300;

lab_test!(more_interfaces_than_one_chain_takes_are_all_cut, || {
    let stage = free(options());
    ip(&stage, "netns add extra");
    let batch = stage.site.directory().join("many-interfaces");
    let pairs = (0..MANY).map(|number| {
        format!("link add m{number} type veth peer name p{number} netns extra\nlink set m{number} up\n")
    });
    let others = (0..MANY).map(|number| format!("link set p{number} up\n"));
    std::fs::write(&batch, pairs.collect::<String>()).unwrap();
    ip(&stage, &format!("-batch {}", batch.display()));
    std::fs::write(&batch, others.collect::<String>()).unwrap();
    ip(&stage, &format!("-n extra -batch {}", batch.display()));
    let ear = Ear::open("extra");
    let frames = |number: usize| {
        let port = Port::of("gateway", &format!("m{number}"));
        let between = Between {
            from: port.mac(),
            to: BROADCAST,
        };
        let frame = between.frame("by hand", UNKNOWN, |m| m);
        (port, frame)
    };
    let some = [0, 127, 128, 200, 254, MANY - 1].map(frames);
    for (port, frame) in &some {
        let hears = || ear.hears(port, frame);
        wait_until(crate::common::LIMIT, "control", hears).unwrap();
    }
    isolate(&stage);
    let gaps = stage.status()["enforcement"]["uncovered"].to_string();
    assert!(!gaps.contains("past the IP stack are not cut"), "{gaps}");
    for (number, (port, frame)) in some.iter().enumerate() {
        assert!(!ear.hears(port, frame), "{number}");
    }
    // One goes, and all others stay cut.
    ip(&stage, "link del m7");
    stage.wait_phase(crate::common::LIMIT, "enforced").unwrap();
    let (port, frame) = frames(MANY - 1);
    assert!(!ear.hears(&port, &frame));
});
