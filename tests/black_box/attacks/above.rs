//! Who waits for a process and stops himself with it, as `su` and `sudo` do with their command: he goes on with it too, whoever lets
//! it go, and hears of its end.
//!
//! Each test shows first that he stops when an order stops what he has started.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Running, wait_until};
use edgewarden_lab::stage::Stage;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::disguised::wait_name;
use super::processes::{order_processes, release, signal, wait_history};
use super::stopped::child_of;
use crate::common::agent::restart;
use crate::common::programs::{build, run, state_of};
use crate::common::told::shown;
use crate::common::{LIMIT, done, options, ready};

/// Starts one that starts one: both stop themselves when their child is stopped, and let it go on when they do.
const WAITS: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
static void wait_for(pid_t child) {
    for (int status; waitpid(child, &status, WUNTRACED) == child;) {
        if (!WIFSTOPPED(status)) exit(0);
        kill(getpid(), SIGSTOP);
        kill(child, SIGCONT);
    }
}
int main(int count, char **words) {
    prctl(PR_SET_NAME, "zq-outer");
    pid_t child = fork();
    if (child) wait_for(child);
    prctl(PR_SET_NAME, "zq-inner");
    child = fork();
    if (child) wait_for(child);
    prctl(PR_SET_NAME, words[1]);
    for (;;) usleep(10000);
}
"#;

/// The same, but the one in between runs on, and says above that its child is stopped: so does `sudo` that has given its command a
/// terminal.
const TELLS: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **words) {
    int tells[2];
    if (pipe(tells)) return 1;
    prctl(PR_SET_NAME, "zq-outer");
    if (fork()) {
        close(tells[1]);
        for (pid_t child; read(tells[0], &child, sizeof child) == sizeof child;) {
            kill(getpid(), SIGSTOP);
            kill(child, SIGCONT);
        }
        return 0;
    }
    prctl(PR_SET_NAME, "zq-inner");
    pid_t child = fork();
    if (child) {
        for (int status; waitpid(child, &status, WUNTRACED) == child;) {
            if (!WIFSTOPPED(status)) return 0;
            if (write(tells[1], &child, sizeof child) < 0) return 1;
        }
    }
    prctl(PR_SET_NAME, words[1]);
    close(tells[1]);
    for (;;) usleep(10000);
}
"#;

/// Somebody who waits for somebody who waits for one of that name.
pub(super) struct Chain {
    pub(super) outer: Running,
    pub(super) inner: u32,
    pub(super) work: u32,
}

impl Chain {
    pub(super) fn start(stage: &Stage, name: &str) -> Self {
        Self::of(WAITS, stage, name)
    }

    fn of(source: &str, stage: &Stage, name: &str) -> Self {
        let program = build(stage, &format!("{name}-started"), source);
        let words = [name];
        let outer = run(stage, &program, &words);
        let inner = child_of(outer.pid());
        let work = child_of(inner);
        wait_name(work, name);
        Self { outer, inner, work }
    }

    pub(super) fn wait(&self, states: [&str; 3]) {
        let all = [self.outer.pid(), self.inner, self.work];
        wait_until(LIMIT, &format!("{states:?}"), || {
            all.iter()
                .zip(states)
                .all(|(pid, states)| state_of(*pid).is_some_and(|state| states.contains(state)))
        })
        .unwrap();
    }

    /// What it waits for ends, and it hears of that.
    pub(super) fn ends(mut self) {
        signal(self.work, Signal::SIGTERM);
        wait_until(LIMIT, "whoever waits for it ends", || !self.outer.is_running()).unwrap();
    }
}

pub(super) const ALL_STOPPED: [&str; 3] = ["T", "T", "T"];
pub(super) const ALL_RUN: [&str; 3] = ["SR", "SR", "SR"];

/// Freezes what it waits for, and waits for what that makes of the three.
pub(super) fn freeze(stage: &Stage, chain: &Chain, name: &str, states: [&str; 3]) {
    order_processes(stage, &json!({"name": name}), "freeze");
    chain.wait(states);
    let frozen = |s: &Value| shown(s, chain.work)["action"] == "freeze";
    let status = stage.wait_status(LIMIT, "it is frozen", frozen).unwrap();
    assert!(
        shown(&status, chain.inner).is_null(),
        "no order names it: {status}"
    );
}

lab_test!(whoever_stops_with_his_child_goes_on_with_it, || {
    let mut stage = ready(options());
    let chain = Chain::start(&stage, "zq-with-child");
    for _ in 0..2 {
        freeze(&stage, &chain, "zq-with-child", ALL_STOPPED);
        release(&stage);
        chain.wait(ALL_RUN);
    }
    // The next agent knows it from the journal.
    freeze(&stage, &chain, "zq-with-child", ALL_STOPPED);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.desire(&json!({"quarantine": false})).unwrap();
    restart(&mut stage);
    stage.wait_phase(LIMIT, "released").unwrap();
    chain.wait(ALL_RUN);
    // And so does the command line, where there is no agent.
    freeze(&stage, &chain, "zq-with-child", ALL_STOPPED);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let state = stage.state_directory();
    let place = ["--state-dir", state.to_str().unwrap()];
    done(
        &stage,
        &[&["release", "--override", "--reason", "r"][..], &place].concat(),
    );
    chain.wait(ALL_RUN);
    chain.ends();
});

lab_test!(whoever_stops_above_one_that_runs_goes_on_as_well, || {
    let stage = ready(options());
    let chain = Chain::of(TELLS, &stage, "zq-on-a-tty");
    for _ in 0..2 {
        freeze(&stage, &chain, "zq-on-a-tty", ["T", "SR", "T"]);
        release(&stage);
        chain.wait(ALL_RUN);
    }
    chain.ends();
    // Also where his child is killed, and he hears of it only when he goes on.
    let mut killed = Chain::of(TELLS, &stage, "zq-killed-tty");
    freeze(&stage, &killed, "zq-killed-tty", ["T", "SR", "T"]);
    order_processes(&stage, &json!({"name": "zq-killed-tty"}), "kill");
    wait_until(LIMIT, "whoever waits for it ends", || !killed.outer.is_running()).unwrap();
    release(&stage);
});

lab_test!(uninstall_lets_those_go_on_who_stopped_with_their_children, || {
    let mut stage = ready(options());
    let chain = Chain::start(&stage, "zq-left-child");
    freeze(&stage, &chain, "zq-left-child", ALL_STOPPED);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    done(&stage, &["uninstall", "--release", "--reason", "gone", "--purge"]);
    chain.wait(ALL_RUN);
    chain.ends();
});

lab_test!(whoever_stops_with_his_child_hears_of_its_end, || {
    let stage = ready(options());
    let ends = |chain: &mut Chain| {
        wait_until(LIMIT, "whoever waits for it ends", || !chain.outer.is_running()).unwrap();
    };
    // It is killed by the order, which stops it first.
    let mut killed = Chain::start(&stage, "zq-killed-child");
    order_processes(&stage, &json!({"name": "zq-killed-child"}), "kill");
    ends(&mut killed);
    release(&stage);
    // Somebody else ends it while it is frozen.
    let mut ended = Chain::start(&stage, "zq-ended-child");
    freeze(&stage, &ended, "zq-ended-child", ALL_STOPPED);
    signal(ended.work, Signal::SIGKILL);
    wait_history(&stage, "ended while frozen");
    ends(&mut ended);
    release(&stage);
});

lab_test!(whom_his_owner_had_stopped_above_a_frozen_one_stays_so, || {
    let stage = ready(options());
    let chain = Chain::start(&stage, "zq-below");
    signal(chain.inner, Signal::SIGSTOP);
    chain.wait(["T", "T", "SR"]);
    order_processes(&stage, &json!({"name": "zq-below"}), "freeze");
    chain.wait(ALL_STOPPED);
    let frozen = |s: &Value| shown(s, chain.work)["action"] == "freeze";
    stage.wait_status(LIMIT, "it is frozen", frozen).unwrap();
    release(&stage);
    chain.wait(["T", "T", "SR"]);
    let runs = wait_until(Duration::from_secs(3), "it runs", || {
        state_of(chain.inner) != Some('T') || state_of(chain.outer.pid()) != Some('T')
    });
    assert!(runs.is_err(), "its owner had stopped it");
    signal(chain.inner, Signal::SIGCONT);
    signal(chain.outer.pid(), Signal::SIGCONT);
    chain.wait(ALL_RUN);
    chain.ends();
});

/// Freezes one of the chain, as the cloud wants it, and then another one, as the operator does; the cloud lets go first.
fn freeze_two(stage: &Stage, chain: &Chain, program: &str, [first, second]: [(u32, &str); 2]) {
    let of = |name: &str| json!({"exe": format!("*/{program}-started"), "name": name});
    order_processes(stage, &of(first.1), "freeze");
    let frozen = |pid: u32| move |s: &Value| shown(s, pid)["action"] == "freeze";
    stage.wait_status(LIMIT, "the first", frozen(first.0)).unwrap();
    // Whoever is above it stops with it.
    chain.wait(["T", "T", "TSR"]);
    let order = json!({"posture": "isolate", "reason": "r", "processes": [{"match": of(second.1), "action": "freeze"}]});
    let file = stage.site.directory().join("operator.json");
    std::fs::write(&file, order.to_string()).unwrap();
    done(stage, &["quarantine", "--order", file.to_str().unwrap()]);
    chain.wait(ALL_STOPPED);
    stage.wait_status(LIMIT, "the second", frozen(second.0)).unwrap();
    stage.desire(&json!({"quarantine": false})).unwrap();
    let is_free = |s: &Value| shown(s, first.0).is_null();
    stage.wait_status(LIMIT, "the cloud lets go", is_free).unwrap();
}

lab_test!(whoever_stopped_with_his_child_and_is_frozen_then_goes_on, || {
    let stage = ready(options());
    let chain = Chain::start(&stage, "zq-two-orders");
    let two = [(chain.work, "zq-two-orders"), (chain.inner, "zq-inner")];
    for _ in 0..2 {
        freeze_two(&stage, &chain, "zq-two-orders", two);
        chain.wait(["T", "T", "SR"]);
        done(&stage, &["release"]);
        chain.wait(ALL_RUN);
    }
    chain.ends();
});

lab_test!(whoever_is_frozen_above_one_that_is_frozen_then_goes_on, || {
    let stage = ready(options());
    let chain = Chain::start(&stage, "zq-then-below");
    let two = [(chain.inner, "zq-inner"), (chain.work, "zq-then-below")];
    for _ in 0..2 {
        freeze_two(&stage, &chain, "zq-then-below", two);
        // He stops himself now, because his child is stopped.
        chain.wait(ALL_STOPPED);
        done(&stage, &["release"]);
        chain.wait(ALL_RUN);
    }
    chain.ends();
});

lab_test!(
    whoever_is_let_go_on_above_one_that_his_owner_had_stopped_goes_on,
    || {
        let stage = ready(options());
        let chain = Chain::start(&stage, "zq-owners");
        signal(chain.work, Signal::SIGSTOP);
        chain.wait(ALL_STOPPED);
        freeze(&stage, &chain, "zq-owners", ALL_STOPPED);
        let status = stage.status();
        assert_eq!(shown(&status, chain.work)["stoppedBefore"], true, "{status}");
        // Each lets go on the one below him.
        signal(chain.outer.pid(), Signal::SIGCONT);
        let seen = |s: &Value| {
            let work = shown(s, chain.work);
            work["contested"].as_u64() > Some(0) && work["stoppedBefore"] == false
        };
        stage.wait_status(LIMIT, "it is seen", seen).unwrap();
        chain.wait(ALL_STOPPED);
        release(&stage);
        chain.wait(ALL_RUN);
        chain.ends();
    }
);

/// Starts one anew a second after the last one has ended.
pub(super) const SUPERVISES: &str = r#"
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **words) {
    for (;; usleep(1000000)) {
        pid_t child = fork();
        if (!child) {
            prctl(PR_SET_NAME, words[1]);
            for (;;) usleep(10000);
        }
        waitpid(child, 0, 0);
    }
}
"#;

/// From what lets those go on who stopped with a child, until nobody is taken for one of them any more.
pub(super) const A_MOMENT: Duration = Duration::from_millis(400);

/// Its owner stops it, and lets it go on after three looks of the agent at least.
fn stays_stopped(pid: u32) {
    std::thread::sleep(A_MOMENT);
    signal(pid, Signal::SIGSTOP);
    wait_until(LIMIT, "it stops", || state_of(pid) == Some('T')).unwrap();
    let runs = wait_until(Duration::from_secs(3), "it runs", || state_of(pid) != Some('T'));
    assert!(runs.is_err(), "nobody but its owner has stopped it");
    signal(pid, Signal::SIGCONT);
}

lab_test!(whom_somebody_stops_after_his_child_was_killed_stays_so, || {
    let stage = ready(options());
    let program = build(&stage, "zq-supervisor", SUPERVISES);
    let words = ["zq-supervised"];
    let supervisor = run(&stage, &program, &words);
    let pid = supervisor.pid();
    wait_name(child_of(pid), words[0]);
    order_processes(&stage, &json!({"name": words[0]}), "kill");
    let children = format!("/proc/{pid}/task/{pid}/children");
    for _ in 0..2 {
        let is_alone = || std::fs::read_to_string(&children).is_ok_and(|text| text.is_empty());
        wait_until(LIMIT, "its child is killed", is_alone).unwrap();
        stays_stopped(pid);
        child_of(pid);
    }
    release(&stage);
});

lab_test!(whom_somebody_stops_after_his_child_was_let_go_stays_so, || {
    let stage = ready(options());
    let chain = Chain::of(TELLS, &stage, "zq-then-stopped");
    freeze(&stage, &chain, "zq-then-stopped", ["T", "SR", "T"]);
    release(&stage);
    chain.wait(ALL_RUN);
    // He has not stopped with his child, and may have been about to.
    stays_stopped(chain.inner);
    chain.wait(ALL_RUN);
    chain.ends();
});

/// Waits for its child in a thread, and stops itself with it; the first thread waits in the kernel all the while.
const WAITS_TWICE: &str = r#"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
static pid_t child;
static void *wait_for(void *none) {
    for (int status; waitpid(child, &status, WUNTRACED) == child;) {
        if (!WIFSTOPPED(status)) exit(0);
        raise(SIGSTOP);
        kill(child, SIGCONT);
    }
    return 0;
}
int main(int count, char **words) {
    child = fork();
    if (!child) {
        prctl(PR_SET_NAME, words[1]);
        for (;;) usleep(10000);
    }
    pthread_t thread;
    pthread_create(&thread, 0, wait_for, 0);
    if (!vfork()) for (;;) pause();
}
"#;

/// How its threads are, the first one first.
fn threads_of(pid: u32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut ids: Vec<u32> = threads
        .filter_map(|thread| thread.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    ids.into_iter().filter_map(state_of).collect()
}

lab_test!(
    whoever_stops_while_a_thread_of_his_waits_in_the_kernel_goes_on,
    || {
        let stage = ready(options());
        let program = build(&stage, "zq-waits-twice", WAITS_TWICE);
        let words = ["zq-twice-child"];
        let mut waits = run(&stage, &program, &words);
        let pid = waits.pid();
        let work = child_of(pid);
        wait_name(work, words[0]);
        wait_until(LIMIT, "control: it runs", || threads_of(pid) == "DS").unwrap();
        order_processes(&stage, &json!({"name": words[0]}), "freeze");
        wait_until(LIMIT, "it stops with its child", || threads_of(pid) == "DT").unwrap();
        release(&stage);
        wait_until(LIMIT, "it goes on", || threads_of(pid) == "DS").unwrap();
        signal(work, Signal::SIGTERM);
        wait_until(LIMIT, "it hears of its end", || !waits.is_running()).unwrap();
    }
);
