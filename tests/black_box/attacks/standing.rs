//! Who stands still is not said to be let go on by others, whatever else has to do with him: he has less of a processor than it
//! takes to do anything.
//!
//! Each test shows first that he had a turn on one all the same.

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::debugged::HOLDS;
use super::disguised::run_as_nobody;
use super::processes::{
    frozen_after_its_owner, order_processes, order_rules, release, signal, stays_stopped, wait_history,
};
use super::stopped::child_of;
use super::waiting::{WAITS_AT_LOOKS, is_let_go_on_and_waits_again, next_look, waits};
use crate::common::programs::{build, run, sender, wait_state};
use crate::common::told::shown;
use crate::common::{LIMIT, options, ready};

/// What it had of a processor, in time and turns.
fn turns(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap()
}

/// Looks at a process as a debugger does, and lets nothing of it go on.
const PEEKS: &str = r"
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
int main(int count, char **words) {
    pid_t other = atoi(words[1]);
    if (ptrace(PTRACE_ATTACH, other, 0, 0)) return 1;
    waitpid(other, 0, 0);
    ptrace(PTRACE_DETACH, other, 0, 0);
}
";

lab_test!(whom_a_debugger_looks_at_is_not_said_to_be_let_go_on, || {
    let stage = ready(options());
    let program = build(&stage, "zq-peeking", PEEKS);
    let job = frozen_after_its_owner(&stage, "peeked-job");
    let agent = stage.agent.as_ref().unwrap().pid();
    next_look(agent);
    let before = turns(job.pid());
    let words = [&*job.pid().to_string()];
    let mut debugger = run(&stage, &program, &words);
    wait_until(LIMIT, "it has looked", || !debugger.is_running()).unwrap();
    wait_state(&job, "T");
    assert_ne!(turns(job.pid()), before, "control: it had turns");
    (0..2).for_each(|_| next_look(agent));
    let status = stage.status();
    let told = shown(&status, job.pid());
    assert_eq!(told["contested"], 0, "{status}");
    assert_eq!(told["stoppedBefore"], true, "{status}");
    assert_eq!(status["enforcement"]["leftRunning"], json!([]), "{status}");
    release(&stage);
    wait_history(&stage, "stays stopped, as it was found");
    stays_stopped(&job);
});

lab_test!(who_was_let_go_on_once_may_wait_and_stop_as_before, || {
    let stage = ready(options());
    let program = build(&stage, "zq-once-excused", WAITS_AT_LOOKS);
    let rogue = run_as_nobody(&stage, &program, &["zq-once"]);
    wait_until(LIMIT, "control: it waits", || waits(rogue.pid())).unwrap();
    order_rules(&stage, &[(json!({"name": "zq-once"}), "freeze")]);
    let agent = stage.agent.as_ref().unwrap().pid();
    let times = |s: &Value| shown(s, rogue.pid())["contested"].as_u64();
    stage
        .wait_status(LIMIT, "it is frozen", |s| times(s) == Some(0))
        .unwrap();
    next_look(agent);
    is_let_go_on_and_waits_again(&rogue);
    let told = |s: &Value| times(s) > Some(0);
    stage.wait_status(LIMIT, "control: it is told", told).unwrap();
    let calm = |s: &Value| s["enforcement"]["leftRunning"] == json!([]);
    let before = stage.wait_status(LIMIT * 2, "it waits again", calm).unwrap();
    let turns_before = turns(rogue.pid());
    // What it waits for ends: it stops before it does anything else.
    signal(child_of(rogue.pid()), Signal::SIGKILL);
    wait_state(&rogue, "T");
    assert_ne!(turns(rogue.pid()), turns_before, "control: it had a turn");
    (0..2).for_each(|_| next_look(agent));
    let status = stage.status();
    assert_eq!(times(&status), times(&before), "{status}");
    assert!(calm(&status), "{status}");
    release(&stage);
    wait_state(&rogue, "R");
});

lab_test!(
    whom_his_owner_had_stopped_and_a_debugger_holds_stays_stopped,
    || {
        let stage = ready(options());
        let holds = build(&stage, "zq-holds-stopped", HOLDS);
        let job = sender(&stage, "held-job");
        wait_state(&job, "SR");
        signal(job.pid(), Signal::SIGSTOP);
        wait_state(&job, "T");
        let mut debugger = run(&stage, &holds, &[&job.pid().to_string()]);
        wait_state(&job, "t");
        order_processes(&stage, &json!({"exe": "*/opt/held-job"}), "freeze");
        let frozen = |s: &Value| shown(s, job.pid())["action"] == "freeze";
        let status = stage.wait_status(LIMIT, "it is frozen", frozen).unwrap();
        assert_eq!(shown(&status, job.pid())["stoppedBefore"], true, "{status}");
        release(&stage);
        wait_history(&stage, "stays stopped, as it was found");
        wait_state(&job, "t");
        debugger.kill9().unwrap();
        wait_state(&job, "T");
        stays_stopped(&job);
    }
);

lab_test!(whom_only_a_debugger_holds_runs_after_it_and_the_release, || {
    let stage = ready(options());
    let holds = build(&stage, "zq-holds-running", HOLDS);
    let job = sender(&stage, "dumped-job");
    let matches = json!({"exe": "*/opt/dumped-job"});
    let words = [&*job.pid().to_string(), "stop"];
    let times = |s: &Value| shown(s, job.pid())["contested"].as_u64();
    for leaves_before in [false, true] {
        wait_state(&job, "SR");
        let mut debugger = run(&stage, &holds, &words);
        wait_state(&job, "t");
        order_processes(&stage, &matches, "freeze");
        stage
            .wait_status(LIMIT, "it is frozen", |s| times(s) == Some(0))
            .unwrap();
        if leaves_before {
            debugger.kill9().unwrap();
            wait_state(&job, "T");
        }
        let agent = stage.agent.as_ref().unwrap().pid();
        (0..2).for_each(|_| next_look(agent));
        let status = stage.status();
        assert_eq!(
            shown(&status, job.pid())["stoppedBefore"],
            !leaves_before,
            "{status}"
        );
        release(&stage);
        if !leaves_before {
            wait_state(&job, "t");
            debugger.kill9().unwrap();
        }
        wait_state(&job, "SR");
        std::thread::sleep(std::time::Duration::from_millis(300));
        wait_state(&job, "SR");
    }
});
