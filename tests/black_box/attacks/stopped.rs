//! Whoever was told to stop is stopped until the release, is told truly, and runs again afterwards: whatever he looks like
//! meanwhile, whoever traces or holds him, and however many there are.
//!
//! Each test shows first that an order stops whoever does nothing about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Ns, Running, lab_program, wait_until};
use edgewarden_lab::stage::{Stage, copy_program};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::processes::{order_processes, order_rules, release, signal, who_runs};
use super::waiting::next_look;
use crate::common::agent::{joined, restart};
use crate::common::programs::{build, run, sender, start_named, state_of, wait_state};
use crate::common::told::{is_told, shown};
use crate::common::{LIMIT, done, options, ready};

/// Looks of the agent within this time: three at least.
const LOOKS: Duration = Duration::from_secs(4);

/// The cloud isolates the device and freezes these.
fn freeze_all(stage: &Stage, matches: &[Value]) {
    let rules: Vec<_> = matches
        .iter()
        .map(|matches| (matches.clone(), "freeze"))
        .collect();
    order_rules(stage, &rules);
}

pub(super) fn child_of(pid: u32) -> u32 {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let mut child = None;
    wait_until(LIMIT, "it has a child", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        child = text
            .split_ascii_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok());
        child.is_some()
    })
    .unwrap();
    child.unwrap()
}

/// Calls itself something else as soon as it is let go on.
const RENAMES: &str = r#"
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>
static void rename_me(int signal) { prctl(PR_SET_NAME, "kworker/u8:1"); }
int main(void) { signal(SIGCONT, rename_me); for (;;) usleep(10000); }
"#;

lab_test!(whoever_was_stopped_stays_so_whatever_he_looks_like_later, || {
    let mut stage = ready(options());
    let at = |name: &str| stage.site.directory().join("opt").join(name);
    let (moved, linked) = (sender(&stage, "kept-moved"), sender(&stage, "kept-linked"));
    let renamed = run(&stage, &build(&stage, "kept-renamed", RENAMES), &[]);
    freeze_all(
        &stage,
        &[
            json!({"exe": "*/opt/kept-moved"}),
            json!({"exe": "*/opt/kept-linked"}),
            json!({"name": "kept-renamed"}),
        ],
    );
    let all = [&moved, &linked, &renamed];
    for (running, name) in all.iter().zip(["moved", "linked", "renamed"]) {
        println!("control: {name}");
        wait_state(running, "T");
    }
    std::fs::rename(at("kept-moved"), at("innocent")).unwrap();
    std::fs::hard_link(at("kept-linked"), at("kept-linked (deleted)")).unwrap();
    std::fs::remove_file(at("kept-linked")).unwrap();
    signal(renamed.pid(), Signal::SIGCONT);
    let comm = format!("/proc/{}/comm", renamed.pid());
    wait_until(LIMIT, "it has another name", || {
        std::fs::read_to_string(&comm).unwrap().starts_with("kworker")
    })
    .unwrap();
    wait_state(&renamed, "T");
    let stay = || {
        let runs = wait_until(LOOKS, "one runs", || {
            all.iter().any(|one| state_of(one.pid()) != Some('T'))
        });
        assert!(runs.is_err(), "an order names them still");
    };
    stay();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    restart(&mut stage);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    stay();
    let status = stage.status();
    for one in all {
        assert_eq!(shown(&status, one.pid())["action"], "freeze", "{status}");
    }
    release(&stage);
    for one in all {
        wait_state(one, "SR");
    }
});

/// Its first thread stops as it is told; the other one is let go on by the process that traces it.
const TRACED_THREAD: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static int told[2];
static void *go_on(void *none) {
    pid_t own = syscall(SYS_gettid);
    write(told[1], &own, sizeof own);
    /* Seldom enough that the process' time on a processor hardly tells. */
    for (;;) usleep(200000);
}
int main(void) {
    pipe(told);
    if (!fork()) {
        prctl(PR_SET_NAME, "zq-traced");
        pthread_t thread;
        pthread_create(&thread, 0, go_on, 0);
        for (;;) pause();
    }
    prctl(PR_SET_NAME, "zq-helper");
    pid_t thread;
    read(told[0], &thread, sizeof thread);
    ptrace(PTRACE_SEIZE, thread, 0, 0);
    for (int status; waitpid(thread, &status, __WALL) == thread && WIFSTOPPED(status);)
        ptrace(PTRACE_CONT, thread, 0, 0);
}
"#;

/// Those who are stopped are looked at once a second.
const NEXT_LOOK: Duration = Duration::from_secs(4);

lab_test!(
    a_process_of_which_a_thread_goes_on_is_not_said_to_be_frozen,
    || {
        let stage = ready(options());
        let plain = sender(&stage, "zq-plain-rogue");
        let helper = run(&stage, &build(&stage, "zq-helping", TRACED_THREAD), &[]);
        let rogue = child_of(helper.pid());
        let threads = || std::fs::read_dir(format!("/proc/{rogue}/task")).unwrap().count();
        wait_until(LIMIT, "it has two threads", || threads() == 2).unwrap();
        freeze_all(
            &stage,
            &[json!({"name": "zq-plain-rogue"}), json!({"name": "zq-traced"})],
        );
        wait_state(&plain, "T");
        wait_until(LIMIT, "its first thread is stopped", || {
            state_of(rogue) == Some('T')
        })
        .unwrap();
        // Until they were looked at, that is told instead.
        let told = |s: &Value| {
            let left = s["enforcement"]["leftRunning"].to_string();
            left.contains("zq-traced") && !shown(s, plain.pid()).is_null()
        };
        stage.wait_status(LIMIT, "it is told", told).unwrap();
        for _ in 0..20 {
            // Between the signal and whoever lets it go on all of it is stopped: the next look tells.
            let honest = |s: &Value| {
                let of_rogue = shown(s, rogue);
                of_rogue.is_null() || of_rogue["contested"].as_u64() > Some(0)
            };
            let status = stage.wait_status(NEXT_LOOK, "it goes on", honest).unwrap();
            assert!(shown(&status, plain.pid())["contested"] == 0, "control: {status}");
            std::thread::sleep(Duration::from_millis(100));
        }
        release(&stage);
    }
);

/// Starts others for two seconds, each of which waits for one of its own in the kernel, where no signal stops it.
const VFORKS: &str = r#"
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
    prctl(PR_SET_NAME, "zq-parent");
    for (int i = 0; i < 240; i++) {
        if (!fork()) {
            prctl(PR_SET_NAME, "zq-vforker");
            if (!vfork()) { prctl(PR_SET_NAME, "zq-other"); usleep(1500000); _exit(0); }
            for (;;) pause();
        }
        usleep(8000);
    }
    for (;;) pause();
}
"#;

lab_test!(whoever_stops_late_runs_after_release, || {
    let stage = ready(options());
    let program = build(&stage, "zq-vforks", VFORKS);
    let parent = run(&stage, &program, &[]);
    let stopped = || {
        let all = who_runs(&program).into_iter();
        all.filter(|pid| state_of(*pid) == Some('T')).count()
    };
    wait_until(LIMIT, "some wait", || who_runs(&program).len() > 4).unwrap();
    freeze_all(&stage, &[json!({"name": "zq-vforker"})]);
    wait_until(LIMIT, "control: all are frozen", || stopped() == 240).unwrap();
    let status = stage.status();
    let before = joined(&status["enforcement"]["stopped"]).contains("\"stoppedBefore\":true");
    assert!(!before, "nobody else had stopped them: {status}");
    release(&stage);
    wait_until(LIMIT, "all run", || stopped() == 0).unwrap();
    drop(parent);
});

/// Asks the kernel for something again and again, and is traced at each call, as by `strace`.
const TRACED: &str = r#"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    pid_t child = fork();
    if (!child) {
        prctl(PR_SET_NAME, "zq-busy");
        for (;;) syscall(SYS_getppid);
    }
    prctl(PR_SET_NAME, "zq-tracer");
    ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD);
    ptrace(PTRACE_INTERRUPT, child, 0, 0);
    for (int status; waitpid(child, &status, __WALL) == child && WIFSTOPPED(status);) {
        int signal = WSTOPSIG(status), event = status >> 16;
        if (event == PTRACE_EVENT_STOP && signal == SIGSTOP) {
            ptrace(PTRACE_LISTEN, child, 0, 0);
            continue;
        }
        usleep(300);
        ptrace(PTRACE_SYSCALL, child, 0, event || signal == (SIGTRAP | 0x80) ? 0 : signal);
    }
}
"#;

lab_test!(whoever_is_traced_runs_after_release, || {
    let stage = ready(options());
    let tracer = run(&stage, &build(&stage, "zq-tracing", TRACED), &[]);
    let busy = child_of(tracer.pid());
    let turns = || std::fs::read_to_string(format!("/proc/{busy}/schedstat")).unwrap();
    let runs = |limit| {
        let before = turns();
        wait_until(limit, "it runs", || turns() != before).is_ok()
    };
    wait_until(LIMIT, "it is traced", || state_of(busy) == Some('t')).unwrap();
    assert!(runs(LIMIT), "control");
    freeze_all(&stage, &[json!({"name": "zq-busy"})]);
    let frozen = |s: &Value| shown(s, busy)["action"] == "freeze";
    let status = stage.wait_status(LIMIT, "it is frozen", frozen).unwrap();
    assert_eq!(shown(&status, busy)["stoppedBefore"], false, "{status}");
    wait_until(LIMIT, "it stands still", || !runs(Duration::from_millis(300))).unwrap();
    release(&stage);
    assert!(runs(LIMIT), "it runs after the release");
});

lab_test!(
    an_order_that_names_edgewarden_stops_neither_guard_nor_command_line,
    || {
        let stage = ready(options());
        // Only what lies there: other tests run the same program.
        let folder = stage.artifact().parent().unwrap().to_owned();
        let copy = |name: &str, of: &Path| {
            copy_program(of, &folder.join(name)).unwrap();
            folder.join(name)
        };
        let ours = copy("edgewarden", &stage.artifact());
        let socket = stage.control_socket();
        let top = ["top", "--control-socket", socket.to_str().unwrap()];
        let mut page = run(&stage, &ours, &top);
        let rogue = copy("zq-beside", &lab_program().unwrap());
        let mut rogue = run(
            &stage,
            &rogue,
            &["sensor", "--remote", "198.51.100.1:9000", "--udp"],
        );
        wait_state(&page, "SR");
        order_processes(&stage, &json!({"exe": format!("{}/*", folder.display())}), "kill");
        wait_until(LIMIT, "control: it is killed", || !rogue.is_running()).unwrap();
        for _ in 0..20 {
            let (code, _, errors) = stage.edgewarden(&["status"]).unwrap();
            assert_eq!(code, Some(0), "{errors}");
        }
        assert!(page.is_running());
        let spared = joined(&stage.status()["enforcement"]["spared"]);
        assert!(spared.contains("it is Edgewarden"), "{spared}");
        done(&stage, &["release", "--override", "--reason", "r"]);
    }
);

lab_test!(all_of_a_crowd_are_killed_and_told, || {
    let stage = ready(options());
    let start = |_| {
        start_named(
            &stage,
            Ns::Gateway,
            "zq-crowd",
            &["sensor", "--remote", "198.51.100.1:9000", "--udp"],
        )
    };
    let mut crowd: Vec<Running> = (0..100).map(start).collect();
    crowd.iter().for_each(|one| wait_state(one, "SR"));
    let file = stage.site.directory().join("order.json");
    let rule = json!({"match": {"exe": "*/opt/zq-crowd"}, "action": "kill"});
    let order = json!({"posture": "isolate", "reason": "r", "processes": [rule]});
    std::fs::write(&file, order.to_string()).unwrap();
    done(&stage, &["quarantine", "--order", file.to_str().unwrap()]);
    assert!(
        crowd.iter_mut().all(|one| !one.is_running()),
        "control: they are killed"
    );
    assert!(!is_told(&stage.status(), "processRuns"));
    let named = |one: &Running| format!("process stopped pid={} name=zq-crowd", one.pid());
    wait_until(LIMIT, "the log names each", || {
        let log = stage.agent_output();
        crowd.iter().all(|one| log.contains(&named(one)))
    })
    .unwrap();
    // As many as others may cause in a while; the rest is counted there.
    let state = stage.state_directory();
    let words = [
        "history",
        "--state-dir",
        state.to_str().unwrap(),
        "--last",
        "1000",
    ];
    wait_until(LIMIT, "the history has more than are shown", || {
        done(&stage, &words).matches("zq-crowd").count() > 50
    })
    .unwrap();
    let newest = |s: &Value| s["enforcement"]["stopped"].as_array().map_or(0, Vec::len) == 32;
    stage.wait_status(LIMIT, "the newest are shown", newest).unwrap();
});

/// Where cgroup v2 is.
fn cgroups() -> Option<PathBuf> {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
    places
        .into_iter()
        .find(|place| place.join("cgroup.procs").exists())
}

/// A cgroup of the test's own; what is in it is let go.
struct Group(PathBuf);

impl Group {
    fn hold(&self, held: bool) {
        let text = if held { "1" } else { "0" };
        std::fs::write(self.0.join("cgroup.freeze"), text).unwrap();
        let wanted = format!("frozen {text}");
        wait_until(LIMIT, &wanted, || {
            std::fs::read_to_string(self.0.join("cgroup.events"))
                .unwrap()
                .contains(&wanted)
        })
        .unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ended = std::fs::write(self.0.join("cgroup.freeze"), "0");
        let _gone = wait_until(LIMIT, "it is gone", || std::fs::remove_dir(&self.0).is_ok());
    }
}

lab_test!(who_is_held_by_his_cgroup_is_frozen_and_told_so, || {
    let stage = ready(options());
    let Some(cgroups) = cgroups() else {
        println!("SKIPPED: there is no cgroup v2");
        return;
    };
    let group = Group(cgroups.join(format!("zq-{}", std::process::id())));
    if std::fs::create_dir(&group.0).is_err() || !group.0.join("cgroup.freeze").exists() {
        println!("SKIPPED: no cgroup can be made, or this kernel (before 5.2) holds none");
        return;
    }
    let (mut held, plain) = (sender(&stage, "zq-held"), sender(&stage, "zq-not-held"));
    std::fs::write(group.0.join("cgroup.procs"), held.pid().to_string()).unwrap();
    group.hold(true);
    let file = stage.site.directory().join("order.json");
    let rule = |name: &str| json!({"match": {"exe": format!("*/opt/{name}")}, "action": "freeze"});
    let order =
        json!({"posture": "isolate", "reason": "r", "processes": [rule("zq-held"), rule("zq-not-held")]});
    std::fs::write(&file, order.to_string()).unwrap();
    done(&stage, &["quarantine", "--order", file.to_str().unwrap()]);
    wait_state(&plain, "T");
    let status = stage.status();
    assert_eq!(shown(&status, held.pid())["action"], "freeze", "{status}");
    assert_eq!(shown(&status, held.pid())["stoppedBefore"], false, "{status}");
    group.hold(false);
    wait_state(&held, "T");
    let agent = stage.agent.as_ref().unwrap().pid();
    (0..2).for_each(|_| next_look(agent));
    let status = stage.status();
    assert_eq!(shown(&status, held.pid())["contested"], 0, "{status}");
    assert_eq!(status["enforcement"]["leftRunning"], json!([]), "{status}");
    done(&stage, &["release"]);
    wait_state(&held, "SR");
    held.kill9().unwrap();
});
