//! What a look at processes does not reach, and what waits for none: others make as many threads and as slow file systems as
//! they like.
//!
//! Each test shows first that an order stops whoever does nothing about it.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{INTERNET_V4, Ns, Running, lab_program, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions, copy_program};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::processes::{Helper, order_processes, release, signal, wait_history};
use crate::common::agent::{joined, restart};
use crate::common::programs::{build, run, sender, state_of, wait_state};
use crate::common::silent::hang;
use crate::common::told::{is_told, shown};
use crate::common::{LIMIT, connected_and_released, done, options, ready};
use crate::orders::silence::{detoured, lead_by};

/// Sleeps in as many threads as it is told, and says how many those are.
const THREADS: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void *sleep_on(void *none) { for (;;) pause(); }
int main(int count, char **words) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    int made = 0;
    for (pthread_t thread; made < atoi(words[1]) && !pthread_create(&thread, &small, sleep_on, 0); made++);
    printf("{\"event\":\"threads\",\"made\":%d}\n", made);
    fflush(stdout);
    for (;;) pause();
}
"#;
/// More than are looked at within the two seconds that a look has.
const MANY: u64 = 26_000;
/// Enough to keep a look busy for longer than a question to the cloud takes.
const SLOW: u64 = 6_000;
/// Looks at such a process: three at least.
const SLOW_LOOKS: Duration = Duration::from_secs(14);
/// Looks at few processes.
const LOOKS: Duration = Duration::from_secs(4);

/// Held while there is a crowd: two of them would use up the machine's process numbers, and other tests could start nothing.
const ALONE: &str = "edgewarden-tests-crowd.lock";

/// A process of so many threads, alone on this machine; none where it does not let us have them.
fn crowd(stage: &Stage, program: &Path, many: u64) -> Option<(File, Running)> {
    let alone = File::create(std::env::temp_dir().join(ALONE)).unwrap();
    alone.lock().unwrap();
    let log = stage.site.directory().join("threads.log");
    let words = many.to_string();
    let mut crowd = stage
        .site
        .spawn(Ns::Gateway, program, &[&words], &[], log)
        .unwrap();
    let made = crowd
        .wait_event(LIMIT, |event| event["event"] == "threads")
        .unwrap();
    if made["made"].as_u64() < Some(many) {
        println!("SKIPPED: no more threads can be made here than {}", made["made"]);
        return None;
    }
    Some((alone, crowd))
}

fn is_contested(status: &Value) -> bool {
    let stopped = status["enforcement"]["stopped"].as_array();
    let counts = stopped.into_iter().flatten().map(|one| one["contested"].as_u64());
    is_told(status, "processContested") || counts.flatten().any(|times| times > 0)
}

lab_test!(whom_a_look_does_not_reach_is_not_said_to_go_on, || {
    let stage = ready(options());
    let program = build(&stage, "zq-many", THREADS);
    let Some((_alone, mut many)) = crowd(&stage, &program, MANY) else {
        return;
    };
    let few = build(&stage, "zq-few", THREADS);
    let innocent = run(&stage, &few, &["3"]);
    signal(innocent.pid(), Signal::SIGSTOP);
    wait_state(&innocent, "T");
    let folder = program.parent().unwrap().display().to_string();
    order_processes(&stage, &json!({"exe": format!("{folder}/zq-*")}), "freeze");
    let frozen = |s: &Value| shown(s, innocent.pid())["stoppedBefore"] == true;
    stage.wait_status(LIMIT, "control: it is frozen", frozen).unwrap();
    wait_state(&many, "T");
    let began = Instant::now();
    while began.elapsed() < SLOW_LOOKS {
        let status = stage.status();
        assert!(!is_contested(&status), "nobody lets anybody go on: {status}");
        std::thread::sleep(Duration::from_millis(300));
    }
    release(&stage);
    wait_state(&many, "SR");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(state_of(innocent.pid()), Some('T'), "its owner had stopped it");
    many.kill9().unwrap();
});

/// In the middle of what these took.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

lab_test!(neither_order_nor_status_nor_release_waits_for_a_look, || {
    let stage = ready(options());
    let program = build(&stage, "zq-crowded", THREADS);
    let file = stage.site.directory().join("order.json");
    let order = |remote: usize| {
        let rule = json!({"match": {"exe": program}, "action": "freeze"});
        let allow = json!({"remote": format!("198.51.100.{remote}/32"), "protocol": "tcp", "ports": [22], "direction": "out"});
        let order = json!({"posture": "isolate", "reason": "r", "processes": [rule], "allow": [allow]});
        std::fs::write(&file, order.to_string()).unwrap();
        let began = Instant::now();
        std::thread::scope(|threads| {
            threads.spawn(|| drop(stage.edgewarden(&["quarantine", "--order", file.to_str().unwrap()])));
            wait_until(LIMIT, "the kernel has it", || {
                let (_, text, _) = stage.nft(&["list", "ruleset"]).unwrap();
                text.contains(&format!("198.51.100.{remote}"))
            })
            .unwrap();
            began.elapsed()
        })
    };
    let status = |_| {
        let began = Instant::now();
        done(&stage, &["status"]);
        began.elapsed()
    };
    let before = (
        median((31..36).map(order).collect()),
        median((0..5).map(status).collect()),
    );
    done(&stage, &["release"]);
    let Some((_alone, mut many)) = crowd(&stage, &program, MANY) else {
        return;
    };
    order(41);
    wait_state(&many, "T");
    std::thread::sleep(LOOKS);
    let after = (
        median((51..56).map(order).collect()),
        median((0..5).map(status).collect()),
    );
    println!("order and status without the crowd {before:?}, with it {after:?}");
    let allowed = Duration::from_millis(600);
    assert!(
        after.0 < before.0 + allowed && after.1 < before.1 + allowed,
        "{before:?} {after:?}"
    );
    let began = Instant::now();
    done(&stage, &["release"]);
    assert!(began.elapsed() < before.1 + 2 * allowed, "{:?}", began.elapsed());
    wait_state(&many, "SR");
    many.kill9().unwrap();
});

lab_test!(a_path_that_has_no_answer_holds_up_no_process, || {
    let stage = ready(options());
    let (rogue, second) = (sender(&stage, "zq-stopped"), sender(&stage, "zq-second"));
    let folder = stage.site.directory().join("hangs");
    std::fs::create_dir(&folder).unwrap();
    let file = stage.site.directory().join("order.json");
    let rule = |exe: String| json!({"match": {"exe": exe}, "action": "freeze"});
    let at = |name: &str| {
        stage
            .site
            .directory()
            .join("opt")
            .join(name)
            .display()
            .to_string()
    };
    let order = |rules: &[Value]| {
        let order = json!({"posture": "isolate", "reason": "r", "processes": rules});
        std::fs::write(&file, order.to_string()).unwrap();
        stage
            .edgewarden(&["quarantine", "--order", file.to_str().unwrap()])
            .unwrap()
    };
    let (code, _, errors) = order(&[rule(at("zq-stopped"))]);
    assert_eq!(code, Some(0), "control: {errors}");
    wait_state(&rogue, "T");
    let Some(silent) = hang(&stage, &folder) else {
        return;
    };
    let hangs = folder.join("app/program").display().to_string();
    let (code, _, errors) = order(&[rule(at("zq-stopped")), rule(at("zq-second")), rule(hangs)]);
    assert_eq!(code, Some(0), "{errors}");
    wait_state(&second, "T");
    signal(rogue.pid(), Signal::SIGCONT);
    wait_status_contested(&stage, rogue.pid());
    wait_state(&rogue, "T");
    let began = Instant::now();
    done(&stage, &["release"]);
    assert!(began.elapsed() < LOOKS, "{:?}", began.elapsed());
    wait_state(&rogue, "SR");
    wait_state(&second, "SR");
    drop(silent);
});

fn wait_status_contested(stage: &Stage, pid: u32) {
    let contested = |s: &Value| shown(s, pid)["contested"].as_u64() > Some(0);
    stage.wait_status(LIMIT, "it is told", contested).unwrap();
}

lab_test!(
    a_nucleus_that_is_started_again_is_spared_until_it_is_connected,
    || {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("zq-nucleus");
        copy_program(&lab_program().unwrap(), &program).unwrap();
        let mut stage = ready(StageOptions {
            lab: Some(program.clone()),
            ..options()
        });
        // Its program and its user, in its cgroup, by another name: the lab's cloud runs that program too.
        let again = place.path().join("zq-again");
        std::os::unix::fs::symlink(&program, &again).unwrap();
        let start = |stage: &Stage| {
            let words = ["sensor", "--remote", "198.51.100.1:9000", "--udp"];
            run(stage, &again, &words)
        };
        let mut first = start(&stage);
        order_processes(&stage, &json!({"exe": program, "name": "zq-again"}), "kill");
        let killed = wait_until(LIMIT, "it is killed", || !first.is_running());
        assert!(
            killed.is_ok(),
            "control: the nucleus is connected: {}",
            stage.status()
        );
        stage.nucleus.kill9().unwrap();
        let lives = |stage: &Stage| {
            let mut nucleus = start(stage);
            let told = |s: &Value| joined(&s["enforcement"]["spared"]).contains("it is what the nucleus was");
            stage.wait_status(LIMIT, "it is spared, and told", told).unwrap();
            let ended = wait_until(LOOKS, "it is killed", || !nucleus.is_running());
            assert!(ended.is_err(), "nobody would hear the cloud again");
            nucleus
        };
        let mut nucleus = lives(&stage);
        nucleus.kill9().unwrap();
        // The journal knows it as well.
        restart(&mut stage);
        let mut nucleus = lives(&stage);
        stage.nucleus.restart().unwrap();
        // That nucleus takes tokens of its own only.
        restart(&mut stage);
        wait_until(LIMIT, "it is not the nucleus: that is connected", || {
            !nucleus.is_running()
        })
        .unwrap();
        assert!(stage.nucleus.is_running());
    }
);

lab_test!(the_end_of_a_frozen_process_is_told, || {
    let stage = ready(options());
    let mut rogue = sender(&stage, "zq-ends");
    order_processes(&stage, &json!({"exe": "*/opt/zq-ends"}), "freeze");
    wait_state(&rogue, "T");
    let frozen = |s: &Value| shown(s, rogue.pid())["action"] == "freeze";
    stage.wait_status(LIMIT, "control: it is frozen", frozen).unwrap();
    let pid = rogue.pid();
    rogue.kill9().unwrap();
    wait_history(&stage, &format!("process zq-ends ({pid}) ended while frozen"));
    release(&stage);
});

lab_test!(who_is_let_go_on_again_and_again_wears_no_disk, || {
    let stage = ready(options());
    let rogue = sender(&stage, "zq-wears");
    order_processes(&stage, &json!({"exe": "*/opt/zq-wears"}), "freeze");
    wait_state(&rogue, "T");
    let helper = Helper::of(rogue.pid());
    wait_status_contested(&stage, rogue.pid());
    std::thread::sleep(LOOKS);
    let written = || {
        let journal = std::fs::metadata(stage.state_directory().join("journal"));
        journal.unwrap().modified().unwrap()
    };
    let times = |s: &Value| shown(s, rogue.pid())["contested"].as_u64().unwrap_or_default();
    let (told, mut last, mut writes) = (times(&stage.status()), written(), 0);
    let began = Instant::now();
    while began.elapsed() < 2 * LOOKS {
        std::thread::sleep(Duration::from_millis(20));
        let newest = written();
        writes += usize::from(newest != last);
        last = newest;
    }
    drop(helper);
    assert!(
        times(&stage.status()) > told + 1,
        "control: it was let go on meanwhile"
    );
    assert!(writes <= 2, "the journal was written {writes} times");
    release(&stage);
});

lab_test!(
    a_rule_whose_process_was_killed_is_not_said_to_be_idle_after_a_restart,
    || {
        let mut stage = ready(options());
        let mut rogue = sender(&stage, "zq-matched");
        let rules = ["*/opt/zq-matched", "*/opt/zq-nobody"]
            .map(|exe| json!({"match": {"exe": exe}, "action": "kill"}));
        let order = json!({"id": "f", "posture": "isolate", "processes": rules});
        stage.desire(&json!({ "quarantine": order })).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        wait_until(LIMIT, "control: it is killed", || !rogue.is_running()).unwrap();
        let idle = |stage: &Stage| joined(&stage.status()["enforcement"]["idleRules"]);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        restart(&mut stage);
        wait_until(LIMIT, "the agent has looked", || {
            idle(&stage).contains("zq-nobody")
        })
        .unwrap();
        let told = idle(&stage);
        assert!(
            !told.contains("zq-matched") && told.contains("at any look so far"),
            "{told}"
        );
    }
);

lab_test!(an_order_is_confirmed_only_once_whom_it_names_is_stopped, || {
    let mut stage = detoured();
    let proxy = stage.site.directory().join("opt/zq-proxy");
    copy_program(&lab_program().unwrap(), &proxy).unwrap();
    let _way = lead_by(&stage, &proxy, INTERNET_V4);
    stage.go_online().unwrap();
    stage.start_agent().unwrap();
    connected_and_released(&stage);
    let program = build(&stage, "zq-many", THREADS);
    let Some(_many) = crowd(&stage, &program, SLOW) else {
        return;
    };
    // The nucleus goes by one of those that are to be stopped, and the look at the other takes its time.
    let stops = |matches: Value| json!({"match": matches, "action": "freeze"});
    let processes = [json!({"exe": "*/opt/zq-proxy"}), json!({"name": "zq-many"})].map(stops);
    let order = json!({"posture": "isolate", "processes": processes});
    stage.desire(&json!({"quarantine": order})).unwrap();
    let given_up = |s: &Value| s["enforcement"]["phase"] == "rolled-back";
    stage
        .wait_status(
            LIMIT * 4,
            "the order that stops the channel is given up",
            given_up,
        )
        .unwrap();
    let heard = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage
        .wait_status(LIMIT * 2, "the channel is back", heard)
        .unwrap();
});
