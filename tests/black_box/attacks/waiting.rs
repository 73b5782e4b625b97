//! Who waits in the kernel when he is told to stop: he hears no signal there, runs nothing, and stops before he does anything
//! else. He is neither said to go on nor to be let go on by others, and keeps no order from being reported as done.
//!
//! Each test shows first that a process that does not wait is frozen.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Running, wait_until};
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
pub(super) fn waits(pid: u32) -> bool {
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
    let turns = || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", crowd.pid())).unwrap();
        let turns =
            threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap());
        turns.collect::<Vec<String>>()
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
    // No look lets it go on for a moment.
    let before = turns();
    (0..3).for_each(|_| next_look(stage.agent.as_ref().unwrap().pid()));
    assert_eq!(turns(), before);
    release(&stage);
    wait_until(LIMIT, "one goes on again", || states() == format!("{waiting}S")).unwrap();
});

/// Waits in the kernel for its child (`vfork`) until that has ended; then it computes until it is told to wait again. With a word
/// another thread of it goes on.
pub(super) const WAITS_AT_LOOKS: &str = r#"
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile int is_to_wait = 1;
static void wait_again(int signal) { is_to_wait = 1; }
static void *go_on(void *none) { for (;;) usleep(10000); }
int main(int count, char **words) {
    pthread_t thread;
    signal(SIGUSR1, wait_again);
    prctl(PR_SET_NAME, words[1]);
    if (count > 2) pthread_create(&thread, 0, go_on, 0);
    for (;;) {
        while (!is_to_wait);
        is_to_wait = 0;
        if (!vfork()) { prctl(PR_SET_NAME, "zq-excuse"); for (;;) pause(); }
        wait(0);
    }
}
"#;

/// How often the agent's threads that look at processes had a turn, as every user may read.
fn turns_of_looks(agent: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{agent}/task")).unwrap();
    let texts = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("status")).ok());
    let looks = texts.filter(|text| text.starts_with("Name:\tprocess"));
    let turns = looks.filter_map(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse::<u64>().ok()
    });
    turns.sum()
}

/// Waits until the agent's next look is over.
pub(super) fn next_look(agent: u32) {
    let before = turns_of_looks(agent);
    wait_until(LIMIT, "a look", || turns_of_looks(agent) != before).unwrap();
    let mut last = 0;
    wait_until(LIMIT, "it is over", || {
        std::thread::sleep(Duration::from_millis(60));
        std::mem::replace(&mut last, turns_of_looks(agent)) == last
    })
    .unwrap();
}

/// How long its first thread had a processor.
fn ran(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split_ascii_whitespace().next().unwrap().parse().unwrap())
}

/// One that runs [`WAITS_AT_LOOKS`] has a processor for a tenth of a second, waits again and is told to stop.
pub(super) fn is_let_go_on_and_waits_again(rogue: &Running) {
    let enough = ran(rogue.pid()) + Duration::from_millis(100);
    // On a busy machine a look may come too early.
    let let_go_on = || signal(rogue.pid(), Signal::SIGCONT);
    let_go_on();
    signal(child_of(rogue.pid()), Signal::SIGKILL);
    wait_until(LIMIT, "it runs", || {
        let_go_on();
        ran(rogue.pid()) > enough
    })
    .unwrap();
    signal(rogue.pid(), Signal::SIGUSR1);
    wait_until(LIMIT, "it waits again", || {
        let_go_on();
        waits(rogue.pid())
    })
    .unwrap();
    signal(rogue.pid(), Signal::SIGSTOP);
}

lab_test!(
    who_waits_in_the_kernel_at_each_look_and_runs_in_between_is_told,
    || {
        let stage = ready(options());
        let program = build(&stage, "zq-excused", WAITS_AT_LOOKS);
        let words = [&["zq-part-time"][..], &["zq-part-times", "threads"]];
        let rogues = words.map(|words| run_as_nobody(&stage, &program, words));
        for rogue in &rogues {
            wait_until(LIMIT, "control: it waits", || waits(rogue.pid())).unwrap();
        }
        let rules = ["zq-part-time", "zq-part-times"].map(|name| (json!({"name": name}), "freeze"));
        order_rules(&stage, &rules);
        let agent = stage.agent.as_ref().unwrap().pid();
        let frozen = |s: &Value, times: fn(&Value) -> bool| {
            let told = |one: &Running| {
                shown(s, one.pid())["action"] == "freeze" && times(&shown(s, one.pid())["contested"])
            };
            rogues.iter().all(told)
        };
        let held = |s: &Value| frozen(s, |times| *times == 0);
        stage.wait_status(LIMIT, "they are frozen", held).unwrap();
        (0..3).for_each(|_| next_look(agent));
        let status = stage.status();
        assert!(held(&status), "control: they do nothing but wait: {status}");
        for _ in 0..4 {
            next_look(agent);
            rogues.iter().for_each(is_let_go_on_and_waits_again);
        }
        let told = |s: &Value| frozen(s, |times| times.as_u64() > Some(1));
        let status = stage.wait_status(LIMIT, "they are told", told).unwrap();
        let left = status["enforcement"]["leftRunning"].to_string();
        let is_left = |one: &Running| left.contains(&one.pid().to_string());
        assert!(rogues.iter().all(is_left), "{left}");
        let children = rogues.each_ref().map(|rogue| child_of(rogue.pid()));
        release(&stage);
        children.iter().for_each(|child| signal(*child, Signal::SIGKILL));
        rogues.iter().for_each(|rogue| wait_state(rogue, "R"));
    }
);

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

lab_test!(
    who_waits_in_the_kernel_and_was_told_to_stop_before_stays_so,
    || {
        let stage = ready(options());
        let program = build(&stage, "zq-waiting", WAITS);
        let waiter = run_as_nobody(&stage, &program, &[]);
        wait_name(waiter.pid(), "zq-waiter");
        let child = child_of(waiter.pid());
        wait_name(child, "zq-awaited");
        signal(waiter.pid(), Signal::SIGSTOP);
        order_rules(&stage, &[(json!({"name": "zq-waiter"}), "freeze")]);
        let held = |s: &Value| shown(s, waiter.pid())["action"] == "freeze";
        let status = stage.wait_status(LIMIT, "it is frozen", held).unwrap();
        assert!(waits(waiter.pid()), "control");
        assert_eq!(shown(&status, waiter.pid())["stoppedBefore"], true, "{status}");
        release(&stage);
        signal(child, Signal::SIGKILL);
        wait_state(&waiter, "T");
        signal(waiter.pid(), Signal::SIGCONT);
        wait_name(waiter.pid(), "zq-waited");
    }
);
