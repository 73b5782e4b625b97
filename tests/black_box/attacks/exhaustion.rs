//! A device that is exhausted while an order comes: no room for a process, no descriptor, no end of other programs' files.
//!
//! Each test shows first that orders are carried out, and then that what is to be exhausted is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns, Running, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::common::agent::joined;
use crate::common::pids::PidsGroup;
use crate::common::programs::{build, start_named};
use crate::common::{LIMIT, isolate, options, ready, release, reports};

/// From an order to its effect, by the clock of a test that starts programs in between, on a machine that does much else. The
/// bench measures it.
const IN_TIME: Duration = Duration::from_secs(2);

/// Forks until nobody may, and goes on trying. Its children wait for its end.
const BOMB: &str = r"
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void) {
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (;;) pause();
        }
        if (child < 0) usleep(200);
    }
}
";
/// Processes and threads in the cgroup of agent and bomb.
const ROOM: u64 = 200;

fn agent(stage: &Stage) -> u32 {
    stage.agent.as_ref().unwrap().pid()
}

fn leaves(stage: &Stage) -> bool {
    let reaches = stage
        .site
        .udp_reaches(Ns::Gateway, Ns::Internet, ATTACKER_V4, 4444);
    reaches.unwrap()
}

/// Has the cloud order something and waits until the kernel has it, or has it no more.
fn ordered_in_time(stage: &Stage, quarantine: bool) {
    let began = Instant::now();
    stage.desire(&json!({ "quarantine": quarantine })).unwrap();
    wait_until(LIMIT, "it is in the kernel", || {
        stage.has_table().unwrap() == quarantine
    })
    .unwrap();
    let took = began.elapsed();
    println!("quarantine {quarantine}: in the kernel after {took:?}");
    assert!(took < IN_TIME, "quarantine {quarantine}: {took:?}");
}

/// Isolated, proven, with nothing in the way and nothing uncovered but what `told` allows; then put back after a flush; then
/// released.
fn carries_orders_out(stage: &Stage, told: impl Fn(&str) -> bool) -> Value {
    assert!(leaves(stage), "control: it arrives before");
    ordered_in_time(stage, true);
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(!leaves(stage));
    reports(stage, &json!(true));
    let seen = &status["enforcement"];
    for key in ["faults", "uncovered"] {
        for text in seen[key].as_array().unwrap() {
            assert!(told(text.as_str().unwrap()), "{key}: {text}: {status}");
        }
    }
    for table in ["inet", "netdev"] {
        let (code, _, errors) = stage.nft(&["list", "table", table, "edgewarden"]).unwrap();
        assert_eq!(code, Some(0), "{table}: {errors}");
    }

    let before = seen["reasserted"].as_u64().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    let again = |s: &Value| {
        s["enforcement"]["reasserted"].as_u64() > Some(before) && s["enforcement"]["phase"] == "enforced"
    };
    let status = stage.wait_status(LIMIT, "put back", again).unwrap();
    assert!(!leaves(stage), "and nothing leaves");

    ordered_in_time(stage, false);
    stage.wait_phase(LIMIT, "released").unwrap();
    reports(stage, &json!(false));
    assert!(leaves(stage));
    status
}

/// A running fork bomb in the cgroup.
fn bomb(stage: &Stage, group: &PidsGroup) -> Running {
    let folder = stage.site.directory();
    let program = build(stage, "bomb", BOMB);
    let go = folder.join("go");
    let wait = format!(
        "until [ -e {} ]; do sleep 0.01; done; exec {}",
        go.display(),
        program.display()
    );
    let log = folder.join("bomb.log");
    let spawned = stage.site.spawn(Ns::Gateway, "/bin/sh", &["-c", &wait], &[], log);
    let bomb = spawned.unwrap();
    group.take(bomb.pid());
    std::fs::write(go, "").unwrap();
    bomb
}

lab_test!(
    a_fork_bomb_beside_the_agent_keeps_no_order_from_the_kernel,
    || {
        let stage = ready(options());
        isolate(&stage);
        release(&stage);
        let group = PidsGroup::make(&stage);
        group.take(agent(&stage));
        group.allow(ROOM);
        let mut bomb = bomb(&stage, &group);
        let refused = || group.refused();
        wait_until(LIMIT, "control: the cgroup is full", || {
            group.count() >= ROOM && refused() > 10
        })
        .unwrap();

        for _ in 0..2 {
            let before = refused();
            carries_orders_out(&stage, |_| false);
            assert!(bomb.is_running());
            assert!(group.count() >= ROOM, "control: still full");
            assert!(refused() > before, "control: somebody was refused all the while");
        }
        let journal = std::fs::read(stage.state_directory().join("journal")).unwrap();
        assert!(!journal.is_empty());
    }
);

/// The agent may have no other descriptors than those that it keeps; gives what was allowed before.
fn take_descriptors(stage: &Stage) -> Rlimit {
    let pid = Pid::from_raw(i32::try_from(agent(stage)).unwrap());
    let open = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", agent(stage))).unwrap();
        let files = open.filter_map(|entry| {
            let path = entry.ok()?.path();
            let number: u64 = path.file_name()?.to_str()?.parse().ok()?;
            Some((number, std::fs::read_link(path).ok()?))
        });
        files.collect::<BTreeSet<_>>()
    };
    // What the agent has inherited from us.
    let before = getrlimit(Resource::Nofile);
    let mut allowed = u64::MAX;
    wait_until(LIMIT, "all that are allowed are kept", || {
        // Files that are read are open for a moment, sockets that ask a resolver for five seconds.
        let began = Instant::now();
        let mut kept = open();
        while began.elapsed() < Duration::from_secs(6) {
            std::thread::sleep(Duration::from_millis(20));
            kept = &kept & &open();
        }
        let kept: BTreeSet<u64> = kept.into_iter().map(|(number, _)| number).collect();
        let first_free = (0..).find(|number| !kept.contains(number)).unwrap();
        let settled = first_free >= allowed;
        allowed = allowed.min(first_free);
        let only = Rlimit {
            current: Some(allowed),
            ..before
        };
        prlimit(pid, Resource::Nofile, only).unwrap();
        settled
    })
    .unwrap();
    println!("{allowed} descriptors are allowed");
    before
}

/// When something of the journal was last written.
fn journal_written(stage: &Stage) -> SystemTime {
    let files = std::fs::read_dir(stage.state_directory()).unwrap().flatten();
    let journals = files.filter(|file| file.file_name().to_string_lossy().starts_with("journal"));
    journals
        .map(|file| file.metadata().unwrap().modified().unwrap())
        .max()
        .unwrap()
}

fn want_of_descriptors(fault: &str) -> bool {
    fault.contains("Too many open files")
}

lab_test!(
    without_descriptors_orders_are_carried_out_and_what_could_not_be_done_is_told,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        release(&stage);
        let before = take_descriptors(&stage);
        for _ in 0..2 {
            let before = journal_written(&stage);
            let status = carries_orders_out(&stage, want_of_descriptors);
            let faults = joined(&status["enforcement"]["faults"]);
            let is_told = faults.contains("would not survive a restart");
            assert!(is_told || journal_written(&stage) > before, "{status}");
        }
        let log = stage.agent_output();
        assert!(
            want_of_descriptors(&log),
            "control: there was none to be had: {log}"
        );
        // The operator is heard, too.
        let (code, output, errors) = stage.edgewarden(&["quarantine", "--reason", "drill"]).unwrap();
        let is_told = errors.contains("for the moment, but");
        assert!(code == Some(0) || is_told, "{output}{errors}");
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert!(!leaves(&stage));
        let (_, output, errors) = stage.edgewarden(&["release"]).unwrap();
        assert!(!stage.has_table().unwrap(), "{output}{errors}");
        stage.wait_phase(LIMIT, "released").unwrap();
        let agent = stage.agent.as_mut().unwrap();
        assert!(agent.is_running(), "it did all that itself");

        // Once there are descriptors again nothing is left of it.
        let pid = Pid::from_raw(i32::try_from(agent.pid()).unwrap());
        prlimit(pid, Resource::Nofile, before).unwrap();
        isolate(&stage);
        let whole = |s: &Value| s["enforcement"]["faults"] == json!([]);
        stage.wait_status(LIMIT, "no fault is left", whole).unwrap();
        release(&stage);
    }
);

/// Programs with very many files, and files of each.
const HOARDERS: usize = 12;

lab_test!(
    descriptors_of_protected_programs_keep_no_order_from_the_kernel,
    || {
        let stage = ready(StageOptions {
            configuration: json!({"isolation": {"protected": ["*/opt/hoarder*"]}}),
            ..options()
        });
        isolate(&stage);
        release(&stage);
        let mut hoarders: Vec<Running> = (0..HOARDERS)
            .map(|number| start_named(&stage, Ns::Gateway, &format!("hoarder{number}"), &["hoard"]))
            .collect();
        let mut files = 0;
        for hoarder in &mut hoarders {
            let open = |event: &Value| event["event"] == "hoarding";
            files += hoarder.wait_event(LIMIT, open).unwrap()["files"]
                .as_u64()
                .unwrap();
        }
        println!("{files} files");
        assert!(files > 50_000, "control: {files} files are open");
        // A connection that is cut, so that somebody looks whose it is.
        let _echo = stage.site.echo_server(Ns::Internet, 4444).unwrap();
        for _ in 0..2 {
            let mut cut = stage
                .site
                .open_connection(Ns::Gateway, ATTACKER_V4, 4444)
                .unwrap();
            assert!(cut.exchange(), "control: it is open");
            carries_orders_out(&stage, |_| false);
        }
        assert_eq!(stage.status()["enforcement"]["rolledBack"], Value::Null);
    }
);
