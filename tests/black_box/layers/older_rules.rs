//! Packet filters of older kernels, as far as they can be imitated: what they refuse costs no more than itself, is told before an
//! order and while one holds, and is found where the kernel does not say what of a rule it refuses (before Linux 5.10).

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, INTERNET_V4, Ns, wait_until};
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::filter_hook::{COUNTED, FilterHook, LACKS, REFUSED};
use edgewarden_lab::stage::older::{Older, OlderKernel};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::common::{LIMIT, connected_and_released, isolate, options, release};

const OPTIONS: &str = "does not read options of IPv4";
const ANSWERERS: &str = "does not tell who answers";
const FILLED: &str = "has no sets that rules fill";
const BLOCKS: &str = "does not end blocked networks by itself";
const FRAMES: &str = "frames sent past the IP stack are not cut";

/// Waits that may count: the first of each socket of both agents.
const MAX_WAITS: usize = 12;

/// What a packet filter of that age lacks, what of that is told while nothing is ordered, and what besides while it is cut.
struct Age {
    kernel: OlderKernel,
    lacks: &'static str,
    foreseen: &'static [&'static str],
    found: &'static [&'static str],
}

const AGES: [Age; 3] = [
    Age {
        kernel: OlderKernel::Linux54,
        lacks: "places",
        foreseen: &[FRAMES],
        found: &[],
    },
    Age {
        kernel: OlderKernel::Linux419,
        lacks: "places ipoption empty",
        foreseen: &[FRAMES, OPTIONS],
        found: &[],
    },
    Age {
        kernel: OlderKernel::Linux414,
        lacks: "places ipoption empty answerer filled ending",
        foreseen: &[FRAMES, OPTIONS, FILLED, BLOCKS],
        found: &[ANSWERERS],
    },
];

/// The agent on such a kernel, in place of a running one.
fn start(stage: &mut Stage, hook: &FilterHook, older: &Older, age: &Age) {
    hook.begin(LACKS, age.lacks).unwrap();
    hook.begin(REFUSED, "netdev").unwrap();
    let mut words = hook.environment().to_vec();
    words.extend(older.before(age.kernel));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    stage.agent = None;
    stage
        .start_agent_as(std::path::Path::new("/usr/bin/env"), &words)
        .unwrap();
}

fn tells(status: &Value, all: &[&str]) {
    let told = status["enforcement"]["uncovered"].to_string();
    for words in [OPTIONS, ANSWERERS, FILLED, BLOCKS, FRAMES] {
        assert_eq!(told.contains(words), all.contains(&words), "{words}: {told}");
    }
    assert_eq!(status["enforcement"]["obstacles"], json!([]), "{status}");
}

fn lives(age: &Age) {
    let mut stage = Stage::start(options()).unwrap();
    let hook = FilterHook::prepare(&stage).unwrap();
    let older = Older::prepare(&stage).unwrap();
    let _open = stage.site.echo_server(Ns::Internet, 4_444).unwrap();
    let _lifeline = stage.site.echo_server(Ns::Internet, 8_443).unwrap();
    start(&mut stage, &hook, &older, age);
    connected_and_released(&stage);
    tells(&stage.status(), age.foreseen);
    assert!(!stage.has_table().unwrap(), "a trial leaves nothing behind");
    let reaches = |to, port| stage.site.tcp_connects(Ns::Gateway, to, port).unwrap();
    assert!(reaches(ATTACKER_V4, 4_444), "control: open before");

    isolate(&stage);
    let while_cut = [age.foreseen, age.found].concat();
    tells(&stage.status(), &while_cut);
    let is_cut = |stage: &Stage| {
        let reaches = |to, port| stage.site.tcp_connects(Ns::Gateway, to, port).unwrap();
        !reaches(ATTACKER_V4, 4_444) && reaches(INTERNET_V4, 8_443)
    };
    assert!(is_cut(&stage), "cut, and lifelines pass");

    // Somebody opens it: it is put back, and nothing else is taken for somebody's doing.
    let before = stage.status()["enforcement"]["reasserted"].clone();
    assert_eq!(before, 0, "nobody has touched it");
    stage
        .nft(&["flush", "chain", "inet", "edgewarden", "output"])
        .unwrap();
    stage
        .wait_status(LIMIT, "put back", |s| {
            s["enforcement"]["reasserted"] == 1 && s["enforcement"]["phase"] == "enforced"
        })
        .unwrap();
    assert!(is_cut(&stage), "cut again");

    stage.agent.as_mut().unwrap().kill9().unwrap();
    assert!(is_cut(&stage), "the kernel keeps the rules");
    start(&mut stage, &hook, &older, age);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(is_cut(&stage), "restored");
    tells(&stage.status(), &while_cut);
    release(&stage);
    assert!(stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4_444).unwrap());
    let waits = hook.written(COUNTED).unwrap_or_default().len();
    if age.lacks.contains("empty") {
        assert!((1..MAX_WAITS).contains(&waits), "{waits} waits were changes");
    } else {
        assert_eq!(waits, 0, "control");
    }
}

lab_test!(a_packet_filter_as_of_linux_5_4_cuts, || lives(&AGES[0]));
lab_test!(a_packet_filter_as_of_linux_4_19_cuts, || lives(&AGES[1]));
lab_test!(a_packet_filter_as_of_linux_4_14_cuts, || lives(&AGES[2]));

lab_test!(a_blocked_network_ends_where_the_kernel_does_not_end_it, || {
    let mut stage = Stage::start(options()).unwrap();
    let hook = FilterHook::prepare(&stage).unwrap();
    let older = Older::prepare(&stage).unwrap();
    let _open = stage.site.echo_server(Ns::Internet, 4_444).unwrap();
    start(&mut stage, &hook, &older, &AGES[2]);
    connected_and_released(&stage);
    let reaches = |to| stage.site.tcp_connects(Ns::Gateway, to, 4_444).unwrap();
    assert!(reaches(ATTACKER_V4), "control: open before");
    // As long as this the machine may be busy before it is looked at.
    let expires = Timestamp::now() + Duration::from_secs(8);
    let block = json!({"remotes": [{"remote": "203.0.113.0/24", "expires": expires.to_string()}]});
    let order = json!({"id": "f", "posture": "restrict", "block": block});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(!reaches(ATTACKER_V4), "it is blocked");
    let (_, listed, _) = stage
        .nft(&["list", "set", "inet", "edgewarden", "nets4"])
        .unwrap();
    assert!(
        !listed.contains("timeout"),
        "control: nothing ends by itself: {listed}"
    );
    wait_until(LIMIT, "it has ended", || reaches(ATTACKER_V4)).unwrap();
});

// What a kernel was built without, which refuses rules and does not say why.
lab_test!(what_is_lacking_is_found_where_refusals_say_nothing, || {
    let mut stage = Stage::start(options()).unwrap();
    let hook = FilterHook::prepare(&stage).unwrap();
    let older = Older::prepare(&stage).unwrap();
    let _open = stage.site.echo_server(Ns::Internet, 4_444).unwrap();
    for (lacks, told, is_foreseen) in [
        ("places limit", "no rates", true),
        ("places rt", "by any interface and next hop", true),
        ("places exthdr", "does not read options", true),
        ("places ct", "no connection tracking", false),
        ("places sockets", "of which network namespace a socket is", true),
    ] {
        hook.begin(LACKS, lacks).unwrap();
        let mut words = hook.environment().to_vec();
        words.extend(older.before(OlderKernel::Linux54));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        stage.agent = None;
        stage
            .start_agent_as(std::path::Path::new("/usr/bin/env"), &words)
            .unwrap();
        connected_and_released(&stage);
        let uncovered = |stage: &Stage| stage.status()["enforcement"]["uncovered"].to_string();
        assert_eq!(uncovered(&stage).contains(told), is_foreseen, "{lacks}: before");
        isolate(&stage);
        assert!(uncovered(&stage).contains(told), "{lacks}: {}", uncovered(&stage));
        assert!(!stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4_444).unwrap());
        release(&stage);
    }
});
