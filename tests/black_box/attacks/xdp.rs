//! Frames sent by `AF_XDP`, which pass no hook of the packet filter: with a socket of after the order, and with one of before.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Ns, Running, wait_until};
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use crate::common::gateway::ip;
use crate::common::packet::marker;
use crate::common::programs::build;
use crate::common::{LIMIT, isolate, options, order, ready, release};
use crate::layers::frames::{BROADCAST, Between, UNKNOWN};
use crate::layers::free;
use crate::layers::wire::{Ear, Port};

const SOURCE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/crates/attack/programs/xdp.c"
));
/// Frames of an attack.
const COUNT: &str = "20";
/// What "within a second" means.
const SECOND: Duration = Duration::from_secs(1);
const NAME: &str = "by AF_XDP";

/// The attacker's program, and the frame that it sends.
struct Attacker<'a> {
    stage: &'a Stage,
    program: PathBuf,
}

impl<'a> Attacker<'a> {
    fn on(stage: &'a Stage) -> Self {
        let program = build(stage, "xdp", SOURCE);
        Self { stage, program }
    }

    fn frame(interface: &str) -> String {
        let from = Port::of("gateway", interface).mac();
        let between = Between { from, to: BROADCAST };
        let frame = between.frame(NAME, UNKNOWN, |marker| marker);
        frame.bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Sends with a socket of its own; how many frames an ear hears.
    fn sends(&self, ear: &Ear, interface: &str, queue: u32) -> usize {
        ear.drain();
        let (frame, queue) = (Self::frame(interface), queue.to_string());
        let run = || {
            Command::new(&self.program)
                .args([interface, &frame, COUNT, &queue])
                .output()
        };
        let _refused_or_not = self.stage.site.run_in(Ns::Gateway, run).unwrap().unwrap();
        heard(ear)
    }

    /// Takes a queue, and sends once `go` is there.
    fn takes(&self, interface: &str, queue: u32, go: &str) -> Running {
        let (frame, queue) = (Self::frame(interface), queue.to_string());
        let words = [interface, &frame, COUNT, &queue, go];
        let log = self.stage.site.directory().join("xdp.log");
        let spawned = self
            .stage
            .site
            .spawn(Ns::Gateway, &self.program, &words, &[], log);
        let mut running = spawned.unwrap();
        let bound = running.wait_event(LIMIT, |event| event["event"] == "bound");
        bound.unwrap();
        running
    }
}

/// What arrives within the flight time.
fn heard(ear: &Ear) -> usize {
    let wanted = marker(NAME);
    let is_ours = |frame: &Vec<u8>| frame.windows(wanted.len()).any(|part| part == wanted);
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(300) {
        count += ear.drain().iter().filter(|frame| is_ours(frame)).count();
        std::thread::sleep(Duration::from_millis(5));
    }
    count
}

/// An interface with four queues, whose other end is another namespace's.
fn four_queues(stage: &Stage, name: &str) {
    ip(
        stage,
        &format!(
            "link add {name} numtxqueues 4 numrxqueues 4 type veth peer name {name}far netns extra
             link set {name} up
             -n extra link set {name}far up"
        ),
    );
}

fn uncovered(status: &Value) -> &Value {
    &status["enforcement"]["uncovered"]
}

lab_test!(what_is_sent_by_xdp_does_not_leave, || {
    let stage = free(options());
    ip(&stage, "netns add extra");
    let (internet, extra) = (Ear::open("internet"), Ear::open("extra"));
    let attacker = Attacker::on(&stage);
    four_queues(&stage, "x0");
    assert!(attacker.sends(&internet, "wan0", 0) > 0, "control");
    for queue in 0..4 {
        assert!(attacker.sends(&extra, "x0", queue) > 0, "control: queue {queue}");
    }

    isolate(&stage);
    assert_eq!(attacker.sends(&internet, "wan0", 0), 0);
    for queue in 0..4 {
        assert_eq!(attacker.sends(&extra, "x0", queue), 0, "queue {queue}");
    }
    // Made since, and gone and come back.
    four_queues(&stage, "x1");
    ip(
        &stage,
        "link set x0 netns extra\n-n extra link set x0 netns gateway\nlink set x0 up",
    );
    std::thread::sleep(SECOND);
    for (interface, queue) in [("x1", 0), ("x1", 3), ("x0", 0), ("x0", 2)] {
        let arrived = attacker.sends(&extra, interface, queue);
        assert_eq!(arrived, 0, "queue {queue} of {interface}");
    }
    let status = stage.status();
    assert_eq!(uncovered(&status), &json!([]), "{status}");

    let block = json!({"remotes": ["203.0.113.0/24"]});
    let restrict = json!({"id": "r1", "posture": "restrict", "block": block});
    order(&stage, &restrict);
    assert_eq!(attacker.sends(&internet, "wan0", 0), 0, "restricted");
    release(&stage);
    wait_until(LIMIT, "the queues are given back", || {
        attacker.sends(&internet, "wan0", 0) > 0 && attacker.sends(&extra, "x1", 3) > 0
    })
    .unwrap();
});

lab_test!(a_queue_that_was_taken_before_is_told_with_its_holder, || {
    let stage = free(options());
    let internet = Ear::open("internet");
    let attacker = Attacker::on(&stage);
    let go = stage.site.directory().join("go");
    let mut holder = attacker.takes("wan0", 0, go.to_str().unwrap());
    isolate(&stage);
    let told = |status: &Value| {
        let text = uncovered(status).to_string();
        text.contains("AF_XDP") && text.contains("queue 0 of wan0")
    };
    let status = stage.wait_status(LIMIT, "it is told", told).unwrap();
    let named = format!("/xdp (process {})", holder.pid());
    assert!(
        uncovered(&status).to_string().contains(&named),
        "{named}: {status}"
    );
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
    let reported = |shadow: &Value| {
        let told = &shadow["state"]["reported"]["quarantineStatus"]["uncovered"];
        told.to_string().contains("AF_XDP")
    };
    stage.wait_shadow(LIMIT, "the cloud is told", reported).unwrap();
    internet.drain();
    std::fs::write(&go, "").unwrap();
    assert!(heard(&internet) > 0, "what is told is so");

    holder.kill9().unwrap();
    let whole = |status: &Value| uncovered(status) == &json!([]);
    stage.wait_status(LIMIT, "it is taken after him", whole).unwrap();
    assert_eq!(attacker.sends(&internet, "wan0", 0), 0);
});

lab_test!(a_successor_takes_the_queues_again, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.start_agent().unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    std::thread::sleep(SECOND);
    let internet = Ear::open("internet");
    let attacker = Attacker::on(&stage);
    assert_eq!(attacker.sends(&internet, "wan0", 0), 0);
    let status = stage.status();
    assert_eq!(uncovered(&status), &json!([]), "{status}");
});
