//! Who waits in the kernel when he is told to stop: he hears no signal there, runs nothing, and stops before he does anything
//! else. He is neither said to go on nor to be let go on by others, and keeps no order from being reported as done.
//!
//! Each test shows first that a process that does not wait is frozen.

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::disguised::{run_as_nobody, wait_name};
use super::processes::{order_rules, release, signal};
use super::stopped::child_of;
use crate::common::programs::{build, sender, state_of, wait_state};
use crate::common::told::shown;
use crate::common::{LIMIT, options, ready};

/// Waits in the kernel for its child, which shares its memory (`vfork`); with a word one of two threads does.
const WAITS: &str = r#"
#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>
static void *go_on(void *none) { for (;;) usleep(10000); }
int main(int count, char **words) {
    pthread_t thread;
    if (count > 1) pthread_create(&thread, 0, go_on, 0);
    prctl(PR_SET_NAME, "zq-waiter");
    if (!vfork()) {
        prctl(PR_SET_NAME, "zq-awaited");
        for (;;) usleep(10000);
    }
    prctl(PR_SET_NAME, "zq-waited");
    for (;;) usleep(10000);
}
"#;

/// Whether its first thread waits in the kernel.
fn waits(pid: u32) -> bool {
    state_of(pid) == Some('D')
}

lab_test!(who_waits_in_the_kernel_is_frozen_and_not_said_to_go_on, || {
    let stage = ready(options());
    let program = build(&stage, "zq-waiting", WAITS);
    let plain = sender(&stage, "zq-waits-not");
    let waiters = [&[][..], &["threads"]].map(|words| run_as_nobody(&stage, &program, words));
    let children = waiters.each_ref().map(|waiter| {
        wait_name(waiter.pid(), "zq-waiter");
        let child = child_of(waiter.pid());
        wait_name(child, "zq-awaited");
        assert!(waits(waiter.pid()), "control");
        child
    });
    let rules = ["zq-waits-not", "zq-waiter", "zq-awaited"].map(|name| (json!({"name": name}), "freeze"));
    order_rules(&stage, &rules);
    wait_state(&plain, "T");
    let is_done = |shadow: &Value| shadow["state"]["reported"]["quarantine"]["id"] == "f";
    stage.wait_shadow(LIMIT, "the order is done", is_done).unwrap();
    let held = |s: &Value| {
        let frozen = |waiter| shown(s, waiter)["action"] == "freeze" && shown(s, waiter)["contested"] == 0;
        waiters.iter().all(|waiter| frozen(waiter.pid())) && s["enforcement"]["leftRunning"] == json!([])
    };
    let status = stage.wait_status(LIMIT, "they are frozen", held).unwrap();
    assert!(
        waiters.iter().all(|waiter| waits(waiter.pid())),
        "control: {status}"
    );
    // What they wait for ends: they stop before they do anything else.
    children.iter().for_each(|child| signal(*child, Signal::SIGKILL));
    waiters.iter().for_each(|waiter| wait_state(waiter, "T"));
    for waiter in &waiters {
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", waiter.pid())).unwrap();
        assert_eq!(comm.trim_end(), "zq-waiter", "it has done nothing more");
        signal(waiter.pid(), Signal::SIGCONT);
    }
    // Those who are let go on are told still.
    let contested = |s: &Value| waiters.iter().all(|one| shown(s, one.pid())["contested"] != 0);
    stage.wait_status(LIMIT, "they are let go on", contested).unwrap();
    release(&stage);
    waiters.iter().for_each(|waiter| wait_state(waiter, "SR"));
});

/// Thirty of its threads wait in the kernel, each for a child of its own, and so does the first; one goes on.
const WAITS_IN_MANY: &str = r#"
#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>
static void *go_on(void *none) { prctl(PR_SET_NAME, "zq-goes-on"); for (;;) usleep(5000); }
static void *wait_for_one(void *none) { if (!vfork()) for (;;) pause(); for (;;) pause(); }
int main(void) {
    pthread_t thread;
    for (int left = 30; left--;) pthread_create(&thread, 0, wait_for_one, 0);
    usleep(200000);
    pthread_create(&thread, 0, go_on, 0);
    prctl(PR_SET_NAME, "zq-crowded");
    wait_for_one(0);
}
"#;

lab_test!(no_thread_goes_on_beside_those_that_wait_in_the_kernel, || {
    let stage = ready(options());
    let crowd = run_as_nobody(&stage, &build(&stage, "zq-crowding", WAITS_IN_MANY), &[]);
    let states = || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", crowd.pid())).unwrap();
        let stats =
            threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
        let state = |stat: String| stat.rsplit_once(") ").unwrap().1.chars().next().unwrap();
        let mut states: Vec<char> = stats.map(state).collect();
        states.sort_unstable();
        states.into_iter().collect::<String>()
    };
    let waiting = "D".repeat(31);
    wait_until(LIMIT, "control: all but one wait", || {
        states() == format!("{waiting}S")
    })
    .unwrap();
    order_rules(&stage, &[(json!({"name": "zq-crowded"}), "freeze")]);
    wait_until(LIMIT, "none goes on", || states() == format!("{waiting}T")).unwrap();
    let held = |s: &Value| {
        shown(s, crowd.pid())["action"] == "freeze" && s["enforcement"]["leftRunning"] == json!([])
    };
    stage.wait_status(LIMIT, "it is told as frozen", held).unwrap();
    release(&stage);
    wait_until(LIMIT, "one goes on again", || states() == format!("{waiting}S")).unwrap();
});

lab_test!(who_waits_in_the_kernel_runs_again_after_the_release, || {
    let stage = ready(options());
    let program = build(&stage, "zq-waiting", WAITS);
    let waiter = run_as_nobody(&stage, &program, &[]);
    wait_name(waiter.pid(), "zq-waiter");
    let child = child_of(waiter.pid());
    order_rules(&stage, &[(json!({"name": "zq-waiter"}), "freeze")]);
    let held = |s: &Value| shown(s, waiter.pid())["action"] == "freeze";
    stage.wait_status(LIMIT, "it is frozen", held).unwrap();
    assert!(waits(waiter.pid()), "control");
    release(&stage);
    signal(child, Signal::SIGKILL);
    wait_name(waiter.pid(), "zq-waited");
});
