//! A second agent: it takes over from a first one that is deaf, and from nobody else; a disk that hangs does not hold it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::{Ns, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions, Turns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::agent::second_beside_the_first;
use crate::common::programs::{build_as, state_of, wait_state};
use crate::common::{
    LIMIT, done, isolate, isolated_as_shipped, isolated_as_shipped_with, options, ready, release, reports,
};

/// For a takeover: the longest patience tried here (15 s), the five seconds of an orderly end, and a busy machine.
const TAKEOVER: Duration = Duration::from_secs(60);
/// For the end of one that says itself that its nucleus is gone.
const AT_ONCE: Duration = Duration::from_secs(2);
/// For an order that waits for a nucleus that is started anew.
const OBEYED: Duration = Duration::from_secs(5);
/// Longer than the patience with an orphan: who would be ended, would be by then.
const LONGER_THAN_PATIENCE: Duration = Duration::from_secs(30);

/// Within which a successor has looked at its predecessor, and got no answer (4 s).
const LOOKED: Duration = Duration::from_secs(6);

/// A process that nobody waits for; gone with the test.
struct Orphan(u32);

impl Orphan {
    fn lives(&self) -> bool {
        state_of(self.0).is_some_and(|state| state != 'Z')
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.cast_signed()), signal).unwrap();
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if self.lives() {
            let _ = kill(Pid::from_raw(self.0.cast_signed()), Signal::SIGKILL);
        }
    }
}

/// What holds at every look for that long.
fn holds(time: Duration, what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while began.elapsed() < time {
        assert!(so(), "{what}, after {:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn waits_for_release(stage: &Stage) -> Value {
    let released = |s: &Value| s["enforcement"]["phase"] == "released";
    let status = stage
        .wait_status(TAKEOVER, "released by the successor", released)
        .unwrap();
    reports(stage, &json!(false));
    assert!(!stage.has_table().unwrap());
    status
}

/// The first that the nucleus started and that is not known yet.
fn pid_of_component(stage: &Stage, known: &[u32]) -> u32 {
    let started = |event: &Value| {
        event["event"] == "component"
            && event["state"] == "started"
            && !known
                .iter()
                .any(|pid| event["pid"].as_u64() == Some((*pid).into()))
    };
    let event = stage.nucleus.find_event(LIMIT, started).unwrap();
    u32::try_from(event["pid"].as_u64().unwrap()).unwrap()
}

lab_test!(a_stopped_agent_is_taken_over_and_the_device_obeys_again, || {
    let mut stage = ready(options());
    isolate(&stage);
    let mut first = stage.agent.take().unwrap();
    first.signal(Signal::SIGSTOP).unwrap();
    wait_state(&first, "T");
    stage.start_agent().unwrap();
    stage.desire(&json!({"quarantine": false})).unwrap();

    let ended = first.wait_exit(TAKEOVER).unwrap();
    assert_eq!(ended.signal(), Some(9), "a stopped process hears nothing else");
    let status = waits_for_release(&stage);
    let told = status["predecessor"].as_str().unwrap_or_default();
    assert!(
        told.contains(&first.pid().to_string())
            && told.contains("gave no answer")
            && told.contains("was killed"),
        "{status}"
    );
    assert!(done(&stage, &["status"]).contains("Took over"));
    let log = stage.agent_output();
    assert!(
        log.contains("it is told to end") && log.contains("took over:"),
        "{log}"
    );
    isolate(&stage);
});

lab_test!(
    the_orphan_of_a_classic_nucleus_that_was_killed_is_taken_over,
    || {
        let mut stage = isolated_as_shipped(Personality::Classic);
        let orphan = Orphan(pid_of_component(&stage, &[]));
        stage.nucleus.kill9().unwrap();
        assert!(orphan.lives(), "control: a nucleus that dies kills nobody");
        let knows = |s: &Value| s["cloud"]["orphan"].is_string() && s["cloud"]["channelWorks"] == false;
        stage.wait_status(LIMIT, "it says what it is", knows).unwrap();
        // The way out for who stands before the device.
        done(&stage, &["quarantine", "--reason", "nobody hears the cloud"]);
        done(&stage, &["release"]);
        assert!(
            orphan.lives() && stage.has_table().unwrap(),
            "the shadow's order holds"
        );

        stage.desire(&json!({"quarantine": false})).unwrap();
        stage.nucleus.restart().unwrap();
        let successor = pid_of_component(&stage, &[orphan.0]);
        let started = Instant::now();
        wait_until(TAKEOVER, "the orphan has ended", || !orphan.lives()).unwrap();
        let gone = started.elapsed();
        let status = waits_for_release(&stage);
        let obeyed = started.elapsed();
        println!(
            "the orphan is gone {gone:?} after its successor's start, the order is obeyed after {obeyed:?}"
        );
        assert!(gone < AT_ONCE && obeyed < OBEYED, "{gone:?}, {obeyed:?}");
        let told = status["predecessor"].as_str().unwrap_or_default();
        assert!(
            told.contains(&orphan.0.to_string())
                && told.contains("the nucleus that takes us")
                && told.contains("has ended"),
            "{status}"
        );
        assert!(
            state_of(successor).is_some(),
            "the component that the nucleus knows"
        );
        isolate(&stage);
    }
);

lab_test!(what_leaves_no_doubt_waits_for_no_patience, || {
    // A stopped process is late with every turn.
    let mut stage = isolated_as_shipped_with(StageOptions {
        personality: Personality::Classic,
        turns: Turns::Unmeasured,
        ..options()
    });
    let orphan = Orphan(pid_of_component(&stage, &[]));
    stage.nucleus.kill9().unwrap();
    // Doubt first: one that is stopped gives no answer, and may give one again. (Stopped before, it would be sent SIGHUP.)
    orphan.signal(Signal::SIGSTOP);
    stage.desire(&json!({"quarantine": false})).unwrap();
    stage.nucleus.restart().unwrap();
    let successor = Orphan(pid_of_component(&stage, &[orphan.0]));
    holds(LOOKED, "control: doubt has its patience", || {
        orphan.lives() && stage.has_table().unwrap()
    });
    // Then it says itself that its nucleus has ended.
    orphan.signal(Signal::SIGCONT);
    let goes_on = Instant::now();
    waits_for_release(&stage);
    let obeyed = goes_on.elapsed();
    println!("obeyed {obeyed:?} after it went on");
    assert!(obeyed < OBEYED, "{obeyed:?}");
    assert!(successor.lives() && !orphan.lives());
    isolate(&stage);
});

lab_test!(
    an_agent_without_nucleus_stays_while_its_successor_has_none_either,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        let (mut first, started) = second_beside_the_first(&mut stage);
        // A new one knows neither token.
        stage.nucleus.restart().unwrap();
        let away = |s: &Value| {
            s["cloud"]["ipc"]
                .as_str()
                .is_some_and(|ipc| ipc.starts_with("not connected"))
        };
        stage.wait_status(LIMIT, "the first one is away", away).unwrap();
        let second = stage.agent.as_ref().unwrap().pid();
        let refused =
            |event: &Value| event["event"] == "denied" && event["pid"].as_u64() == Some(second.into());
        stage.nucleus.find_event(LIMIT, refused).unwrap();
        holds(LONGER_THAN_PATIENCE, "the first one runs on", || {
            first.is_running()
        });
        assert_eq!(stage.status()["started"], started);
        assert!(stage.has_table().unwrap());
    }
);

lab_test!(whoever_else_holds_the_lock_is_named_and_never_ended, || {
    let mut stage = ready(options());
    // What it has written into the file stays there.
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let lock = stage.state_directory().join("lock");
    let log = stage.site.directory().join("flock.log");
    let args = ["-x", lock.to_str().unwrap(), "sleep", "600"];
    let mut stranger = stage
        .site
        .spawn(Ns::Gateway, Path::new("flock"), &args, &[], log)
        .unwrap();
    let holder = stranger.pid().to_string();
    wait_until(LIMIT, "flock holds it", || {
        std::fs::read_to_string("/proc/locks").is_ok_and(|locks| {
            locks
                .lines()
                .any(|line| line.contains("FLOCK") && line.contains(&format!(" {holder} ")))
        })
    })
    .unwrap();
    let earlier = stage.agent_output().len();
    stage.start_agent().unwrap();
    let named = format!("process {holder} (flock) holds");
    wait_until(LIMIT, "it is named", || {
        stage.agent_output()[earlier..].contains(&named)
    })
    .unwrap();
    holds(LONGER_THAN_PATIENCE, "flock runs on", || stranger.is_running());
    let agent = stage.status()["agent"].to_string();
    assert!(
        agent.contains("not running") && agent.contains("flock"),
        "it waits: {agent}"
    );
    // The program that flock started has inherited the lock.
    let sleeps = format!("/proc/{holder}/task/{holder}/children");
    let child: i32 = std::fs::read_to_string(sleeps).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(child), Signal::SIGTERM).unwrap();
    stranger.wait_exit(LIMIT).unwrap();
    let works = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "the agent begins", works).unwrap();
});

/// What the start reads or locks waits for as long as a file is there, 120 seconds at most.
const HANGING_START: &str = r#"
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void wait_for_disk(const char *what) {
    const char *hangs = getenv("DISK_HANGS"), *who = getenv("DISK_HANGS_AT");
    if (!hangs || !who || !strstr(what, who)) return;
    for (int tenths = 0; tenths < 1200 && access(hangs, F_OK) == 0; tenths++) usleep(100000);
}
int flock(int fd, int operation) {
    wait_for_disk("flock");
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(fd, operation);
}
int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    wait_for_disk(path);
    return ((int (*)(const char *, int, int))dlsym(RTLD_NEXT, "open64"))(path, flags, mode);
}
"#;

/// A disk that hangs for whoever is started behind it.
struct HangingStart {
    hangs: PathBuf,
    environment: Vec<String>,
}

impl HangingStart {
    fn at(stage: &Stage, what: &str) -> Self {
        let folder = stage.site.directory();
        let library = folder.join("start.so");
        let options = ["-D_GNU_SOURCE", "-shared", "-fPIC", "-ldl"];
        build_as(&library, HANGING_START, &options);
        let hangs = folder.join("disk-hangs");
        std::fs::write(&hangs, "").unwrap();
        let environment = vec![
            format!("LD_PRELOAD={}", library.display()),
            format!("DISK_HANGS={}", hangs.display()),
            format!("DISK_HANGS_AT={what}"),
        ];
        Self { hangs, environment }
    }

    fn start_agent(&self, stage: &mut Stage) {
        let environment: Vec<&str> = self.environment.iter().map(String::as_str).collect();
        stage.start_agent_as(Path::new("env"), &environment).unwrap();
    }
}

fn starts_on_a_disk_that_hangs_at(what: &str, told: &str) {
    let mut stage = ready(options());
    isolate(&stage);
    let disk = HangingStart::at(&stage, what);
    let earlier = stage.agent_output().len();
    stage.agent = None;
    disk.start_agent(&mut stage);
    let works = |s: &Value| s["cloud"]["channelWorks"] == true && s["enforcement"]["phase"] == "enforced";
    stage
        .wait_status(TAKEOVER, "the journal is enforced without that", works)
        .unwrap();
    let log = stage.agent_output()[earlier..].to_owned();
    assert!(log.contains(told), "{told:?} in\n{log}");
    assert!(disk.hangs.exists(), "control: it still hangs");
    release(&stage);
}

lab_test!(a_lock_that_hangs_is_no_way_past_a_living_agent, || {
    let mut stage = ready(options());
    isolate(&stage);
    let disk = HangingStart::at(&stage, "flock");
    let mut first = stage.agent.take().unwrap();
    let started = stage.status()["started"].clone();
    let earlier = stage.agent_output().len();
    disk.start_agent(&mut stage);
    let says = |stage: &Stage, what: &str| {
        wait_until(LIMIT, what, || stage.agent_output()[earlier..].contains(what)).unwrap();
    };
    says(&stage, "and an agent answers at");
    assert_eq!(stage.status()["started"], started, "the first one answers");
    release(&stage);

    std::fs::remove_file(&disk.hangs).unwrap();
    says(&stage, "another agent holds");
    assert!(first.is_running());
    first.kill9().unwrap();
    let taken_over = |s: &Value| s["started"].is_string() && s["started"] != started;
    stage
        .wait_status(LIMIT, "the second takes over", taken_over)
        .unwrap();
    isolate(&stage);
});

lab_test!(a_lock_that_hangs_does_not_hold_the_start, || {
    starts_on_a_disk_that_hangs_at("flock", "going on without its lock");
});

lab_test!(
    a_configuration_that_cannot_be_read_in_time_does_not_hold_the_start,
    || {
        starts_on_a_disk_that_hangs_at(
            "/configuration.json",
            "the last good configuration could not be read",
        );
    }
);
