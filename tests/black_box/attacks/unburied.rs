//! The dead whom nobody buries: whoever traces a thread of a process keeps it in the list for ever. They run no more, and are
//! neither said to go on nor to be let go on by others.
//!
//! Each test shows first what is said of one that does nothing about it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Ns, Running, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions, copy_program};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::disguised::run_as_nobody;
use super::processes::{order_rules, release, signal, wait_history};
use super::stopped::child_of;
use crate::common::agent::joined;
use crate::common::programs::{build, run, sender, wait_state};
use crate::common::told::shown;
use crate::common::{LIMIT, done, options, ready};

/// A process of two threads; another one traces the second and never waits for it.
const UNBURIED_THREAD: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>
static int told[2];
static void *second(void *none) {
    pid_t own = syscall(SYS_gettid);
    write(told[1], &own, sizeof own);
    for (;;) pause();
}
int main(void) {
    pipe(told);
    if (!fork()) {
        prctl(PR_SET_NAME, "zq-undead");
        pthread_t thread;
        pthread_create(&thread, 0, second, 0);
        for (;;) pause();
    }
    pid_t thread;
    read(told[0], &thread, sizeof thread);
    ptrace(PTRACE_SEIZE, thread, 0, 0);
    prctl(PR_SET_NAME, "zq-gravedigger");
    for (;;) pause();
}
"#;

/// Who traces, and the traced one.
fn traced(stage: &Stage) -> (Running, u32) {
    let program = build(stage, "zq-digging", UNBURIED_THREAD);
    let helper = run(stage, &program, &[]);
    super::disguised::wait_name(helper.pid(), "zq-gravedigger");
    let rogue = child_of(helper.pid());
    assert_eq!(threads(rogue), "SS", "control: it has two threads");
    (helper, rogue)
}

/// The letters of its threads' states.
fn threads(pid: u32) -> String {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
    let state = |stat: String| stat.rsplit_once(") ").unwrap().1.chars().next().unwrap();
    stats.map(state).collect()
}

fn wait_dead(pid: u32) {
    wait_until(LIMIT, "all of it is dead", || threads(pid) == "ZZ").unwrap();
}

lab_test!(who_was_killed_and_is_not_buried_is_not_said_to_go_on, || {
    let stage = ready(options());
    let mut plain = sender(&stage, "zq-mortal");
    let (helper, rogue) = traced(&stage);
    let rules = [json!({"name": "zq-mortal"}), json!({"name": "zq-undead"})];
    order_rules(&stage, &rules.map(|rule| (rule, "kill")));
    wait_until(LIMIT, "control: it is killed", || !plain.is_running()).unwrap();
    wait_dead(rogue);
    let told = |s: &Value| [plain.pid(), rogue].map(|pid| shown(s, pid)["action"] == "kill") == [true; 2];
    let status = stage.wait_status(LIMIT, "both are told as killed", told).unwrap();
    assert_eq!(status["enforcement"]["leftRunning"], json!([]), "{status}");
    // The cloud reads that its order is done, and nobody stays to be looked at.
    let is_done = |shadow: &Value| shadow["state"]["reported"]["quarantine"]["id"] == "f";
    stage.wait_shadow(LIMIT, "the order is done", is_done).unwrap();
    let (code, _, errors) = stage.edgewarden(&["release"]).unwrap();
    assert!(
        code == Some(1) && errors.contains("you hold no order"),
        "{code:?}: {errors}"
    );
    release(&stage);
    assert_eq!(
        threads(rogue),
        "ZZ",
        "nobody buries it while {} lives",
        helper.pid()
    );
});

lab_test!(
    who_dies_while_frozen_and_is_not_buried_is_not_said_to_be_contested,
    || {
        let stage = ready(options());
        let plain = sender(&stage, "zq-mortal-ice");
        let (helper, rogue) = traced(&stage);
        let rules = [json!({"name": "zq-mortal-ice"}), json!({"name": "zq-undead"})];
        order_rules(&stage, &rules.map(|rule| (rule, "freeze")));
        wait_state(&plain, "T");
        let frozen = |s: &Value| shown(s, rogue)["action"] == "freeze";
        stage.wait_status(LIMIT, "control: it is frozen", frozen).unwrap();
        signal(plain.pid(), Signal::SIGKILL);
        signal(rogue, Signal::SIGKILL);
        wait_dead(rogue);
        wait_history(&stage, &format!("zq-undead ({rogue}) ended"));
        let gone = |s: &Value| shown(s, rogue).is_null() && shown(s, plain.pid()).is_null();
        let status = stage.wait_status(LIMIT, "both are gone", gone).unwrap();
        let enforcement = &status["enforcement"];
        assert_eq!(enforcement["leftRunning"], json!([]), "{status}");
        assert!(!joined(&enforcement["faults"]).contains("zq-undead"), "{status}");
        assert!(
            !stage.agent_output().contains("was let go on by others"),
            "it is dead"
        );
        release(&stage);
        assert_eq!(
            threads(rogue),
            "ZZ",
            "nobody buries it while {} lives",
            helper.pid()
        );
    }
);

/// Some looks.
const SOON: Duration = Duration::from_secs(4);

/// Goes from thread to thread, each of which starts the next one and ends; whoever traces them buries none.
const RELAY: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
static int traced[2];
static pthread_attr_t detached;
static int left = 20000;
static void *next(void *none) {
    pthread_t thread;
    usleep(300);
    if (left--) pthread_create(&thread, &detached, next, 0);
    return 0;
}
int main(void) {
    char any = 0;
    pipe(traced);
    pid_t child = fork();
    if (!child) {
        prctl(PR_SET_NAME, "zq-relay");
        pthread_attr_init(&detached);
        pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
        read(traced[0], &any, 1);
        next(0);
        pthread_exit(0);
    }
    ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACECLONE);
    prctl(PR_SET_NAME, "zq-gravedigger");
    write(traced[1], &any, 1);
    for (siginfo_t seen;;)
        if (!waitid(P_ALL, 0, &seen, WSTOPPED | __WALL))
            ptrace(PTRACE_CONT, seen.si_pid, 0, 0);
}
"#;

lab_test!(who_goes_from_thread_to_thread_is_not_taken_for_dead, || {
    let stage = ready(options());
    let program = build(&stage, "zq-relaying", RELAY);
    let helper = run(&stage, &program, &[]);
    super::disguised::wait_name(helper.pid(), "zq-gravedigger");
    let rogue = child_of(helper.pid());
    wait_until(LIMIT, "control: many are dead", || threads(rogue).len() > 2_000).unwrap();
    let grows = || {
        let before = threads(rogue).len();
        std::thread::sleep(Duration::from_millis(100));
        threads(rogue).len() > before
    };
    assert!(grows(), "control: it goes on");
    order_rules(&stage, &[(json!({"exe": program, "name": "zq-relay"}), "kill")]);
    wait_until(SOON, "it is killed", || !grows()).unwrap();
    let told =
        |s: &Value| shown(s, rogue)["action"] == "kill" && s["enforcement"]["leftRunning"] == json!([]);
    stage.wait_status(LIMIT, "it is told as killed", told).unwrap();
    release(&stage);
});

/// Nine children that have ended, and that it never buries.
const LEAVES_DEAD: &str = r#"
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
    for (int left = 9; left--;)
        if (!fork()) { prctl(PR_SET_NAME, "zq-spared"); _exit(0); }
    prctl(PR_SET_NAME, "zq-leaves-dead");
    for (;;) pause();
}
"#;

lab_test!(the_dead_hide_nobody_who_is_spared, || {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let genuine = folder.path().canonicalize().unwrap().join("zq-spared");
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    copy_program(Path::new("/bin/sleep"), &genuine).unwrap();
    let stage = ready(StageOptions {
        configuration: json!({
            "development": {"reportIntervalSeconds": 2},
            "isolation": {"protected": [genuine]},
        }),
        ..options()
    });
    let dead = run_as_nobody(&stage, &build(&stage, "zq-leaving", LEAVES_DEAD), &[]);
    super::disguised::wait_name(dead.pid(), "zq-leaves-dead");
    let log = stage.site.directory().join("programs.log");
    let start = |seconds: u32| {
        let seconds = seconds.to_string();
        stage.site.spawn(Ns::Gateway, &genuine, &[&seconds], &[], &log)
    };
    let first = start(600).unwrap();
    super::disguised::wait_name(first.pid(), "zq-spared");
    let file = stage.site.directory().join("order.json");
    let rule = json!({"match": {"name": "zq-spared"}, "action": "kill"});
    let order = json!({"posture": "restrict", "reason": "r", "processes": [rule]});
    std::fs::write(&file, order.to_string()).unwrap();
    let answer = done(&stage, &["quarantine", "--order", file.to_str().unwrap()]);
    let named = format!("zq-spared ({}) is not stopped", first.pid());
    assert!(answer.contains(&named), "{answer}");
    let spared = stage.status()["enforcement"]["spared"].clone();
    assert_eq!(
        spared.as_array().unwrap().len(),
        1,
        "the dead are nobody: {spared}"
    );
    // More than are shown are counted.
    let _others: Vec<Running> = (601..610).map(|seconds| start(seconds).unwrap()).collect();
    let counted = |s: &Value| joined(&s["enforcement"]["spared"]).contains("and 2 more are not stopped");
    stage.wait_status(LIMIT, "ten are spared", counted).unwrap();
});
