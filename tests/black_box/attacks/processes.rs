//! Processes that do not want to be stopped, and those around them.
//!
//! Each test shows first that an order stops whoever does nothing about it. Nothing is claimed of a process that is not so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Running, wait_until};
use edgewarden_lab::stage::Stage;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::agent::restart;
use crate::common::programs::{build, run, sender, state_of, wait_state};
use crate::common::told::{is_told, shown};
use crate::common::{LIMIT, done, options, ready};

/// From one SIGCONT of a helper to the next.
const HELP: Duration = Duration::from_micros(500);

/// Somebody who lets a process go on whenever it is stopped, until he is dropped.
pub(super) struct Helper {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Helper {
    pub(super) fn of(pid: u32) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                signal(pid, Signal::SIGCONT);
                std::thread::sleep(HELP);
            }
        });
        Self {
            ends,
            thread: Some(thread),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

pub(super) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// The cloud isolates the device and does that to processes.
pub(super) fn order_processes(stage: &Stage, matches: &Value, action: &str) {
    order_rules(stage, &[(matches.clone(), action)]);
}

/// The same by several rules.
pub(super) fn order_rules(stage: &Stage, rules: &[(Value, &str)]) {
    let rule = |(matches, action): &(Value, &str)| json!({"match": matches, "action": action});
    let rules: Vec<Value> = rules.iter().map(rule).collect();
    let order = json!({"id": "f", "posture": "isolate", "processes": rules});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    stage
        .wait_status(LIMIT, "the order is carried out", |s| {
            s["enforcement"]["orders"][0]["id"] == "f" && s["enforcement"]["phase"] == "enforced"
        })
        .unwrap();
}

fn freeze(stage: &Stage, program: &str) {
    order_processes(stage, &json!({"exe": format!("*/opt/{program}")}), "freeze");
}

pub(super) fn release(stage: &Stage) {
    stage.desire(&json!({"quarantine": false})).unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
}

/// What the status says of a stopped process; null where it says nothing.
pub(super) fn wait_history(stage: &Stage, text: &str) {
    let state = stage.state_directory();
    wait_until(LIMIT, text, || {
        done(stage, &["history", "--state-dir", state.to_str().unwrap()]).contains(text)
    })
    .unwrap();
}

lab_test!(
    a_frozen_process_that_others_let_go_on_is_told_as_contested,
    || {
        let stage = ready(options());
        let rogue = sender(&stage, "contested-rogue");
        wait_state(&rogue, "SR");
        freeze(&stage, "contested-rogue");
        wait_state(&rogue, "T");
        let calm = |s: &Value| {
            shown(s, rogue.pid())["action"] == "freeze" && s["enforcement"]["leftRunning"] == json!([])
        };
        let status = stage.wait_status(LIMIT, "control: it is frozen", calm).unwrap();
        assert!(!is_told(&status, "processContested"), "{status}");

        let helper = Helper::of(rogue.pid());
        let contested = |s: &Value| {
            shown(s, rogue.pid())["contested"].as_u64() > Some(2) && is_told(s, "processContested")
        };
        let status = stage.wait_status(LIMIT, "it is contested", contested).unwrap();
        let told = status["enforcement"]["leftRunning"].to_string();
        assert!(told.contains("contested-rogue"), "it is no success: {status}");
        let page = done(&stage, &["status"]);
        assert!(page.contains("CONTESTED: found to have run"), "{page}");
        wait_history(&stage, "CONTESTED: found to have run 2 times");
        drop(helper);

        wait_state(&rogue, "T");
        let calm =
            |s: &Value| !is_told(s, "processContested") && s["enforcement"]["leftRunning"] == json!([]);
        let status = stage.wait_status(LIMIT, "it stays frozen", calm).unwrap();
        assert!(
            shown(&status, rogue.pid())["contested"].as_u64() > Some(2),
            "{status}"
        );
        release(&stage);
        wait_state(&rogue, "SR");
    }
);

/// Frozen by an order, after its owner had stopped it.
pub(super) fn frozen_after_its_owner(stage: &Stage, name: &str) -> Running {
    let job = sender(stage, name);
    wait_state(&job, "SR");
    signal(job.pid(), Signal::SIGSTOP);
    wait_state(&job, "T");
    freeze(stage, name);
    let frozen = |s: &Value| shown(s, job.pid())["action"] == "freeze";
    stage.wait_status(LIMIT, "it is frozen", frozen).unwrap();
    job
}

/// It is still stopped after what would have let it go on.
pub(super) fn stays_stopped(job: &Running) {
    let runs = wait_until(Duration::from_secs(1), "it runs", || {
        state_of(job.pid()) != Some('T')
    });
    assert!(runs.is_err(), "it was stopped by its owner");
}

lab_test!(whom_his_owner_had_stopped_stays_stopped_after_release, || {
    let mut stage = ready(options());
    let job = frozen_after_its_owner(&stage, "paused-job");
    release(&stage);
    wait_history(&stage, "stays stopped, as it was found");
    stays_stopped(&job);
    signal(job.pid(), Signal::SIGCONT);
    wait_state(&job, "SR");

    // Nothing but its mark says so.
    signal(job.pid(), Signal::SIGSTOP);
    wait_state(&job, "T");
    freeze(&stage, "paused-job");
    let before = |s: &Value| shown(s, job.pid())["stoppedBefore"] == true;
    stage.wait_status(LIMIT, "it is frozen", before).unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    std::fs::remove_file(stage.state_directory().join("journal")).unwrap();
    stage.desire(&json!({"quarantine": false})).unwrap();
    restart(&mut stage);
    stage.wait_phase(LIMIT, "released").unwrap();
    wait_history(&stage, "stays stopped, as it was found");
    stays_stopped(&job);
});

lab_test!(whom_his_owner_lets_go_on_meanwhile_runs_after_release, || {
    let stage = ready(options());
    let job = frozen_after_its_owner(&stage, "resumed-job");
    signal(job.pid(), Signal::SIGCONT);
    let seen = |s: &Value| {
        let job = shown(s, job.pid());
        job["contested"].as_u64() > Some(0) && job["stoppedBefore"] == false
    };
    stage.wait_status(LIMIT, "it is seen", seen).unwrap();
    release(&stage);
    wait_state(&job, "SR");
});

/// Is another process every two milliseconds, for a minute.
const FORKER: &str = r"
#include <time.h>
#include <unistd.h>
int main(void) {
    time_t end = time(0) + 60;
    while (time(0) < end) {
        if (fork() > 0) _exit(0);
        usleep(2000);
    }
}
";

/// Everybody who runs that program.
pub(super) fn who_runs(program: &Path) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let exe = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe"));
    pids.filter(|pid| exe(pid).is_ok_and(|exe| exe == program))
        .collect()
}

fn forker(stage: &Stage, name: &str) -> PathBuf {
    let program = build(stage, name, FORKER);
    let mut first = run(stage, &program, &[]);
    wait_until(LIMIT, "its first process has ended", || !first.is_running()).unwrap();
    for _ in 0..50 {
        wait_until(LIMIT, "control: it goes on", || !who_runs(&program).is_empty()).unwrap();
    }
    program
}

lab_test!(
    one_that_is_another_process_every_two_milliseconds_is_killed,
    || {
        let stage = ready(options());
        let program = forker(&stage, "forking-rogue");
        order_processes(&stage, &json!({"exe": program}), "kill");
        wait_until(LIMIT, "nobody runs it", || {
            (0..20).all(|_| {
                std::thread::sleep(Duration::from_millis(5));
                who_runs(&program).is_empty()
            })
        })
        .unwrap();
        let well = |s: &Value| s["enforcement"]["leftRunning"] == json!([]);
        stage.wait_status(LIMIT, "nothing is amiss", well).unwrap();
    }
);

/// Its first thread ends, and another one goes on.
const HEADLESS: &str = r"
#include <pthread.h>
#include <unistd.h>
static void *go_on(void *none) { for (;;) usleep(1000); return none; }
int main(void) {
    pthread_t thread;
    pthread_create(&thread, 0, go_on, 0);
    pthread_exit(0);
}
";

lab_test!(
    one_whose_first_thread_has_ended_is_named_frozen_and_killed,
    || {
        let stage = ready(options());
        let program = build(&stage, "headless-rogue", HEADLESS);
        let mut rogue = run(&stage, &program, &[]);
        wait_state(&rogue, "Z");
        order_processes(&stage, &json!({"exe": program}), "freeze");
        let told = |s: &Value| shown(s, rogue.pid())["name"] == "headless-rogue";
        stage.wait_status(LIMIT, "it is named", told).unwrap();
        let threads = || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", rogue.pid())).unwrap();
            let names = threads
                .flatten()
                .map(|thread| thread.file_name().to_str().unwrap().parse().unwrap());
            names
                .filter(|thread| *thread != rogue.pid())
                .collect::<Vec<u32>>()
        };
        assert!(
            threads().iter().all(|thread| state_of(*thread) == Some('T')),
            "{:?}",
            threads()
        );
        order_processes(&stage, &json!({"exe": program}), "kill");
        wait_until(LIMIT, "it has ended", || !rogue.is_running()).unwrap();
    }
);
