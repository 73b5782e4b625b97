//! A release, another plan or the agent's end in the middle of a chase: whom it has stopped by then runs again, although nobody
//! heard of him, and nobody is ended afterwards.
//!
//! The agent may not mark processes of other users, as in most containers: nothing but what is noted tells of them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Running, wait_until};
use edgewarden_lab::stage::Stage;
use nix::sys::signal::Signal;
use serde_json::json;

use super::processes::{order_processes, signal, stays_stopped, who_runs};
use crate::common::agent::{restart, restart_as};
use crate::common::gateway::{NOBODY, by_user};
use crate::common::programs::{build, run, sender, state_of, wait_state};
use crate::common::{LIMIT, done, options, ready};

/// The agent without the right to mark processes of other users.
const UNMARKING: [&str; 4] = ["--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"];
/// From the first that is stopped to the middle of the chase.
const INTO_THE_CHASE: Duration = Duration::from_millis(80);
/// Looks of the agent within this time: three at least.
const LOOKS: Duration = Duration::from_secs(4);

/// Starts another one, and as soon as that one is stopped many more, which go on for ever: all but the first are chased. Tells by
/// its own name when it is done.
const BREEDS: &str = r#"
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
static pid_t start(void) {
    pid_t child = fork();
    if (child) return child;
    prctl(PR_SET_NAME, "zq-chased");
    for (;;) usleep(50000);
}
int main(void) {
    prctl(PR_SET_NAME, "zq-breeder");
    waitpid(start(), 0, WUNTRACED);
    for (int left = 150; left--; usleep(2000)) start();
    prctl(PR_SET_NAME, "zq-bred");
    for (;;) pause();
}
"#;

/// Builds the program that starts others; an ordinary user reaches it.
fn breeding(stage: &Stage) -> PathBuf {
    let program = build(stage, "zq-breeding", BREEDS);
    std::fs::set_permissions(stage.site.directory(), PermissionsExt::from_mode(0o711)).unwrap();
    program.canonicalize().unwrap()
}

struct Brood {
    program: PathBuf,
    parent: Running,
}

impl Brood {
    /// Begins to be, in the middle of an order that stops all but the first, and is chased.
    fn chased(stage: &Stage, program: PathBuf) -> Self {
        let parent = by_user(stage, NOBODY, &["--bounding-set=-all"], &program, &[]);
        let brood = Self { program, parent };
        wait_until(LIMIT, "control: some are stopped", || brood.stopped() > 0).unwrap();
        std::thread::sleep(INTO_THE_CHASE);
        brood
    }

    fn children(&self) -> Vec<u32> {
        let mut all = who_runs(&self.program);
        all.retain(|pid| *pid != self.parent.pid());
        all
    }

    fn stopped(&self) -> usize {
        let all = self.children().into_iter();
        all.filter(|pid| state_of(*pid) == Some('T')).count()
    }

    fn wait_bred(&self) {
        super::disguised::wait_name(self.parent.pid(), "zq-bred");
    }

    /// Ends all of them.
    fn end(mut self) {
        self.parent.kill9().unwrap();
        for pid in self.children() {
            signal(pid, Signal::SIGKILL);
        }
    }
}

/// The cloud isolates the device and does that to whom the program starts.
fn order(stage: &Stage, program: &Path, action: &str) {
    order_processes(stage, &json!({"exe": program, "name": "zq-chased"}), action);
}

lab_test!(a_release_in_the_middle_of_a_chase_leaves_nobody_stopped, || {
    let mut stage = ready(options());
    restart_as(&mut stage, "setpriv", &UNMARKING);
    stage.wait_phase(LIMIT, "released").unwrap();
    let program = breeding(&stage);
    for _ in 0..4 {
        order(&stage, &program, "freeze");
        let brood = Brood::chased(&stage, program.clone());
        done(&stage, &["release", "--override", "--reason", "r"]);
        brood.wait_bred();
        wait_until(LOOKS, "all run again", || brood.stopped() == 0).unwrap();
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        assert_eq!(brood.stopped(), 0);
        brood.end();
    }
});

lab_test!(
    an_agent_that_ends_in_the_middle_of_a_chase_leaves_nobody_stopped,
    || {
        let mut stage = ready(options());
        let program = breeding(&stage);
        for _ in 0..2 {
            restart_as(&mut stage, "setpriv", &UNMARKING);
            stage.wait_phase(LIMIT, "released").unwrap();
            order(&stage, &program, "freeze");
            let brood = Brood::chased(&stage, program.clone());
            stage.agent.as_mut().unwrap().kill9().unwrap();
            assert!(brood.stopped() > 0, "control: they stay stopped");
            // Nobody names them any more when the next agent comes.
            stage.desire(&json!({"quarantine": false})).unwrap();
            restart(&mut stage);
            brood.wait_bred();
            stage.wait_phase(LIMIT, "released").unwrap();
            wait_until(LOOKS, "all run again", || brood.stopped() == 0).unwrap();
            brood.end();
        }
    }
);

/// Tries: on a busy machine a chase may have come to its end before the release.
const TRIES: u32 = 12;

lab_test!(a_release_in_the_middle_of_a_chase_kills_nobody, || {
    let mut stage = ready(options());
    restart_as(&mut stage, "setpriv", &UNMARKING);
    stage.wait_phase(LIMIT, "released").unwrap();
    let program = breeding(&stage);
    let all_live = (0..TRIES).any(|_| {
        order(&stage, &program, "kill");
        let brood = Brood::chased(&stage, program.clone());
        let there = brood.children();
        done(&stage, &["release", "--override", "--reason", "r"]);
        brood.wait_bred();
        wait_until(LOOKS, "all run again", || brood.stopped() == 0).unwrap();
        let lives = |pid: &u32| state_of(*pid).is_some_and(|state| state != 'Z');
        let all_live = there.len() > 2 && there.iter().all(lives);
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        brood.end();
        all_live
    });
    assert!(all_live, "each time some were killed after the release");
});

/// Starts one of that name every four milliseconds, for as long as it runs: each chase takes as long as it may.
const STARTS: &str = r#"
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
    signal(SIGCHLD, SIG_IGN);
    for (;; usleep(4000)) {
        if (fork()) continue;
        prctl(PR_SET_NAME, "zq-started");
        usleep(50000);
        return 0;
    }
}
"#;

/// What the kernel keeps of a process for whoever marks it.
fn mark_of(pid: u32) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let mut lines = limits.lines();
    lines
        .find(|line| line.starts_with("Max file locks"))
        .unwrap_or_default()
        .into()
}

lab_test!(
    whom_his_owner_had_stopped_stays_so_where_a_release_comes_before_he_is_killed,
    || {
        let stage = ready(options());
        let program = build(&stage, "zq-starter", STARTS);
        let rule = |name: &str| json!({"match": {"name": name}, "action": "kill"});
        let processes = [rule("zq-paused"), rule("zq-started")];
        let order = json!({"id": "k", "posture": "isolate", "processes": processes});
        let spared = (0..TRIES).filter(|_| {
            let mut job = sender(&stage, "zq-paused");
            signal(job.pid(), Signal::SIGSTOP);
            wait_state(&job, "T");
            let unmarked = mark_of(job.pid());
            let mut starter = run(&stage, &program, &[]);
            stage.desire(&json!({"quarantine": order})).unwrap();
            wait_until(LIMIT, "the order has come to it", || {
                mark_of(job.pid()) != unmarked
            })
            .unwrap();
            done(&stage, &["release", "--override", "--reason", "r"]);
            starter.kill9().unwrap();
            stage.desire(&json!({"quarantine": false})).unwrap();
            stage.wait_phase(LIMIT, "released").unwrap();
            let is_spared = job.is_running();
            if is_spared {
                stays_stopped(&job);
                job.kill9().unwrap();
            }
            is_spared
        });
        assert!(spared.count() > 0, "each time he was killed before the release");
    }
);
