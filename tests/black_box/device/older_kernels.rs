//! The whole life of an agent on kernels that lack calls: what it still does there, and what it says.
//!
//! A filter of calls ([`OlderKernel`]) stands in for kernels that cannot be booted here. It sees numbers of calls and families of
//! sockets; what the packet filter lacks is looked at in `layers/older_rules.rs`.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, INTERNET_V4, Ns, Running, wait_until};
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::older::{Older, OlderKernel};
use serde_json::{Value, json};

use crate::common::programs::{build, run, sender, state_of, wait_state};
use crate::common::told::shown;
use crate::common::{LIMIT, connected_and_released, options};

/// What is said where signals go by number.
const BY_NUMBER: &str = "sends signals by number only";

/// An agent on such a kernel that hears the cloud, with nothing ordered.
fn begun(kernel: OlderKernel) -> (Stage, Older) {
    let mut stage = Stage::start(options()).unwrap();
    let older = Older::prepare(&stage).unwrap();
    older.start(&mut stage, kernel).unwrap();
    connected_and_released(&stage);
    let agent = stage.agent.as_ref().unwrap().pid();
    let kept = std::fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    assert!(
        kept.contains("Seccomp:\t2"),
        "control: it is behind the filter: {kept}"
    );
    (stage, older)
}

/// The cloud isolates the device and does that to these programs.
fn order(stage: &Stage, rules: &[(&str, &str)]) {
    let rule = |(exe, action): &(&str, &str)| json!({"match": {"exe": exe}, "action": action});
    let rules: Vec<Value> = rules.iter().map(rule).collect();
    let order = json!({"id": "f", "posture": "isolate", "processes": rules});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    carried_out(stage);
}

fn carried_out(stage: &Stage) {
    let is_done = |s: &Value| {
        let enforcement = &s["enforcement"];
        enforcement["orders"][0]["id"] == "f"
            && enforcement["phase"] == "enforced"
            && enforcement["leftRunning"] == json!([])
            && enforcement["obstacles"] == json!([])
    };
    stage
        .wait_status(LIMIT, "the order is carried out", is_done)
        .unwrap();
}

fn reaches(stage: &Stage, to: std::net::IpAddr, port: u16) -> bool {
    stage.site.tcp_connects(Ns::Gateway, to, port).unwrap()
}

/// It starts, reports, isolates, proves, stops and ends processes, is killed and restores, releases and lets go.
fn lives(kernel: OlderKernel, by_number: bool) {
    let (mut stage, older) = begun(kernel);
    let _open = stage.site.echo_server(Ns::Internet, 4_444).unwrap();
    let _lifeline = stage.site.echo_server(Ns::Internet, 8_443).unwrap();
    let tells = |status: &Value| {
        let told = status["enforcement"]["uncovered"].to_string();
        assert_eq!(told.contains(BY_NUMBER), by_number, "{kernel:?}: {told}");
    };
    tells(&stage.status());
    stage
        .wait_status(LIMIT, "it reports", |s| {
            s["reports"]["accepted"].as_u64() > Some(1)
        })
        .unwrap();

    let name = |what: &str| format!("{what}-{kernel:?}").to_lowercase();
    let (frozen, killed) = (name("frozen"), name("killed"));
    let (keeps, goes) = (sender(&stage, &frozen), sender(&stage, &killed));
    for program in [&keeps, &goes] {
        wait_state(program, "SR");
    }
    assert!(reaches(&stage, ATTACKER_V4, 4_444), "control: open before");

    // One by its path, which is looked up, and one by a pattern.
    let path = stage
        .site
        .directory()
        .join("opt")
        .join(&frozen)
        .canonicalize()
        .unwrap();
    let pattern = format!("*/opt/{killed}");
    order(&stage, &[(path.to_str().unwrap(), "freeze"), (&pattern, "kill")]);
    let is_cut = |stage: &Stage, keeps: &Running| {
        assert_eq!(state_of(keeps.pid()), Some('T'), "{kernel:?}: it is stopped");
        assert!(!reaches(stage, ATTACKER_V4, 4_444), "{kernel:?}: it is cut");
        assert!(reaches(stage, INTERNET_V4, 8_443), "{kernel:?}: lifelines pass");
        let status = stage.status();
        assert_eq!(status["enforcement"]["posture"], "isolate", "{status}");
        assert_eq!(shown(&status, keeps.pid())["action"], "freeze", "{status}");
        tells(&status);
    };
    is_cut(&stage, &keeps);
    assert!(
        matches!(state_of(goes.pid()), None | Some('Z')),
        "{kernel:?}: it has ended"
    );

    stage.agent.as_mut().unwrap().kill9().unwrap();
    assert!(!reaches(&stage, ATTACKER_V4, 4_444), "the kernel keeps the rules");
    older.start(&mut stage, kernel).unwrap();
    carried_out(&stage);
    is_cut(&stage, &keeps);

    stage.desire(&json!({"quarantine": false})).unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
    wait_state(&keeps, "SR");
    assert!(reaches(&stage, ATTACKER_V4, 4_444), "{kernel:?}: open again");
    assert!(!stage.has_table().unwrap());
}

lab_test!(all_is_done_as_on_linux_5_4, || lives(OlderKernel::Linux54, false));
lab_test!(all_is_done_as_on_linux_5_2, || lives(OlderKernel::Linux52, false));
lab_test!(all_is_done_as_on_linux_4_19, || lives(
    OlderKernel::Linux419,
    true
));
lab_test!(all_is_done_as_on_linux_4_14, || lives(
    OlderKernel::Linux414,
    true
));
lab_test!(all_is_done_in_a_container_that_refuses_pidfds, || lives(
    OlderKernel::OldContainer,
    true
));

/// Starts another one of itself and ends, every two milliseconds.
const BREEDER: &str = r"
#include <unistd.h>
#include <signal.h>
int main(void) {
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        usleep(2000);
        if (fork() != 0) _exit(0);
    }
}
";

lab_test!(whoever_starts_others_faster_is_caught_without_pidfds, || {
    let (stage, _older) = begun(OlderKernel::Linux419);
    let program = build(&stage, "older-breeder", BREEDER);
    let _first = run(&stage, &program, &[]);
    let runs = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let of_it = |place: &std::path::Path| {
            std::fs::read_link(place.join("exe")).is_ok_and(|exe| exe == program)
                && std::fs::read_to_string(place.join("stat"))
                    .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'T', 'X']))
        };
        all.filter(|entry| of_it(&entry.path())).count()
    };
    wait_until(LIMIT, "control: it goes on and on", || runs() > 0).unwrap();
    order(&stage, &[("*/older-breeder", "kill")]);
    // Between its end and its child's beginning nobody is seen either.
    let is_over = || {
        (0..30).all(|_| {
            std::thread::sleep(Duration::from_millis(10));
            runs() == 0
        })
    };
    // Each look finds it with some luck only: it takes some ten looks.
    wait_until(4 * LIMIT, "nobody is left, and nobody comes", is_over).unwrap();
});
