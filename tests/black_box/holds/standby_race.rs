//! What stood by comes into the kernel between our look at the tables and our load: the load must not be taken for refused.
//!
//! In: nothing. The thread that watches is held up with what stands by in its hand, until the one that loads waits behind it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use edgewarden_lab::site::{ATTACKER_V4, Ns, wait_until};
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::filter_hook::{FilterHook, HANGS, HELD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::picture::picture;
use crate::common::{LIMIT, connected_and_released, isolate, options, order, ready};

/// The thread that puts back what stands by, as the kernel knows it.
const WATCHES: &str = "filter-watch";
/// A device that is cut off is looked at every five seconds.
const LOOK: Duration = Duration::from_secs(7);
/// As long as a pass may take to be over.
const SETTLED: Duration = Duration::from_secs(8);
/// Touches by somebody else.
const ROUNDS: u64 = 10;

/// Somebody removes the egress table alone; the look that finds it missing loads while what stood by comes back.
pub(crate) fn keeps_every_layer() {
    let mut stage = ready(options());
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    let before = picture(&stage);
    assert!(
        before
            .as_ref()
            .is_some_and(|before| before.contains("\"netdev\"")),
        "control: this kernel has the layer: {before:?}"
    );
    let uncovered = |status: &Value| status["enforcement"]["uncovered"].clone();
    let covered = uncovered(&stage.status());
    let failures = |stage: &Stage| {
        let (_, history, _) = stage.edgewarden(&["history"]).unwrap();
        history
    };
    hook.begin(HANGS, WATCHES).unwrap();
    let (code, _, errors) = stage.nft(&["delete", "table", "netdev", "edgewarden"]).unwrap();
    assert_eq!(code, Some(0), "control: {errors}");
    wait_until(LIMIT, "control: the watcher is held up", || {
        hook.written(HELD).is_some()
    })
    .unwrap();
    // The look that finds it waits behind the watcher then.
    sleep(LOOK);
    hook.end(HANGS).unwrap();
    wait_until(LIMIT, "it is back", || picture(&stage) == before).unwrap();
    sleep(SETTLED);
    let status = stage.status();
    assert_eq!(uncovered(&status), covered, "{}\n{status}", failures(&stage));
    assert_eq!(picture(&stage), before, "{}\n{status}", failures(&stage));
}

/// Somebody adds chains to our table, again and again, and removes nothing: what was counted is still there to be read.
pub(crate) fn loses_no_count() {
    const QUOTA: u64 = 10_000_000;
    const PAYLOAD: usize = 1_000;
    const DATAGRAMS: usize = 50;
    let stage = ready(options());
    let limit = json!({"quotaBytes": QUOTA, "quotaPeriodSeconds": 3_600});
    order(
        &stage,
        &json!({"id": "q-1", "posture": "restrict", "limit": limit}),
    );
    let quota = |status: &Value| status["enforcement"]["quotas"][0]["used"].as_u64();
    stage
        .wait_status(LIMIT, "control: nothing is used", |status| {
            quota(status).is_some()
        })
        .unwrap();
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let open = |ns, address| {
        let opened = stage.site.run_in(ns, || UdpSocket::bind(address).unwrap());
        opened.unwrap()
    };
    let target = SocketAddr::new(ATTACKER_V4, 5001);
    let receiver = open(Ns::Internet, target);
    let sender = open(Ns::Gateway, any);
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut arrived = 0;
    for round in 1..=ROUNDS {
        for _ in 0..DATAGRAMS {
            sender.send_to(&[b'f'; PAYLOAD], target).unwrap();
            receiver.recv(&mut [0; 2_000]).unwrap();
            arrived += PAYLOAD as u64 + 28;
        }
        let (code, _, errors) = stage
            .nft(&["add", "chain", "inet", "edgewarden", "more"])
            .unwrap();
        assert_eq!(code, Some(0), "control: {errors}");
        let again = |status: &Value| status["enforcement"]["reasserted"].as_u64() >= Some(round);
        stage.wait_status(LIMIT, "put back", again).unwrap();
    }
    let all = |status: &Value| quota(status) >= Some(arrived);
    let told = stage.wait_status(LOOK, "all of it is counted", all);
    assert!(told.is_ok(), "{:?} of {arrived} bytes", quota(&stage.status()));
}

/// Our tables are removed and about to come back when the order is taken back: the release is one, and no failure.
pub(crate) fn lets_a_release_be_one() {
    let mut stage = ready(options());
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    hook.begin(HANGS, WATCHES).unwrap();
    let (code, _, errors) = stage.nft(&["flush", "ruleset"]).unwrap();
    assert_eq!(code, Some(0), "control: {errors}");
    wait_until(LIMIT, "control: the watcher is held up", || {
        hook.written(HELD).is_some()
    })
    .unwrap();
    let nothing = |status: &Value| status["enforcement"]["wanted"] == "normal";
    stage.desire(&json!({"quarantine": false})).unwrap();
    let released = || stage.status()["enforcement"]["phase"] == "released";
    sleep(LOOK / 2);
    assert!(!released(), "control: it waits for what is about to come back");
    hook.end(HANGS).unwrap();
    stage.wait_status(LIMIT, "heard", nothing).unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
    assert!(!stage.has_table().unwrap());
    let (_, history, _) = stage.edgewarden(&["history"]).unwrap();
    assert!(!history.contains("is still there"), "{history}");
}

/// A blocked remote ends in the kernel when its order says so, also where what stood by for a while came back meanwhile.
/// The pass that waits for the thread that is held up began before, too: neither its time nor that of what stood by is the
/// time at which an element is made.
pub(crate) fn prolongs_nothing() {
    const LASTS: i64 = 22;
    // Less than the fifteen seconds for which whoever decides waits for the thread that is held up.
    const HELD_UP: Duration = Duration::from_secs(12);
    const LATE: Duration = Duration::from_secs(3);
    let mut stage = ready(options());
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    let reaches = |stage: &Stage| stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap();
    assert!(reaches(&stage), "control");
    let began = Instant::now();
    let expires = (Timestamp::now() + SignedDuration::from_secs(LASTS)).to_string();
    let remotes = json!([{"remote": ATTACKER_V4, "expires": expires}, "203.0.113.77"]);
    let restriction = json!({"id": "e-1", "posture": "restrict", "block": {"remotes": remotes}});
    order(&stage, &restriction);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(!reaches(&stage), "control: blocked");
    hook.begin(HANGS, "packet-filter").unwrap();
    sleep(HELD_UP);
    let (code, _, errors) = stage.nft(&["delete", "table", "inet", "edgewarden"]).unwrap();
    assert_eq!(code, Some(0), "control: {errors}");
    wait_until(LIMIT, "what stood by is back", || stage.has_table().unwrap()).unwrap();
    hook.end(HANGS).unwrap();
    assert!(!reaches(&stage), "control: blocked");
    let lasts = Duration::from_secs(LASTS.unsigned_abs()) + LATE;
    sleep(lasts.saturating_sub(began.elapsed()));
    let late = Instant::now();
    let ended = wait_until(LIMIT, "it has ended", || reaches(&stage));
    assert!(
        ended.is_ok() && late.elapsed() < LATE,
        "{:?} later",
        late.elapsed() + LATE
    );
}
