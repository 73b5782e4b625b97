//! Told to stop, the component ends within a second, whatever hangs: a nucleus kills what takes five, and says so.

use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::{INTERNET_V4, Ns, wait_until};
use edgewarden_lab::stage::preload::{HANGING_RUNTIME, HANGING_SYNC, Hang};
use edgewarden_lab::stage::{Stage, StageOptions, Turns};
use serde_json::{Value, json};

use crate::common::agent::{restart_as, restart_behind};
use crate::common::{
    LIMIT, connected_and_released, done_for_the_moment, isolate, isolated_as_shipped_with, options, ready,
};

const SECOND: Duration = Duration::from_secs(1);

/// Ends in time and in order, and the rules stay as they are.
fn stops_within_a_second(stage: &mut Stage, what: &str) {
    let closed = stage.has_table().unwrap();
    let agent = stage.agent.as_mut().unwrap();
    let told = Instant::now();
    agent.terminate().unwrap();
    let status = agent.wait_exit(LIMIT).unwrap();
    let took = told.elapsed();
    println!("{what}: stopped in {took:?}");
    assert!(status.success(), "{what}: {status}");
    assert!(took < SECOND, "{what}: {took:?}");
    assert_eq!(stage.has_table().unwrap(), closed);
}

lab_test!(a_stop_takes_less_than_a_second, || {
    let mut stage = ready(options());
    stops_within_a_second(&mut stage, "released");
    stage.start_agent().unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    stops_within_a_second(&mut stage, "isolated");
});

lab_test!(a_resolver_that_is_silent_does_not_delay_a_stop, || {
    let mut stage = ready(options());
    let silent = stage
        .site
        .run_in(Ns::Internet, || UdpSocket::bind((INTERNET_V4, 53)));
    let silent = silent.unwrap().unwrap();
    silent.set_read_timeout(Some(LIMIT)).unwrap();
    let file = stage.site.directory().join("resolv.conf");
    let text = format!("nameserver {INTERNET_V4}\noptions timeout:30 attempts:3\n");
    std::fs::write(&file, text).unwrap();
    restart_behind(
        &mut stage,
        &format!("mount --bind {} /etc/resolv.conf", file.display()),
    );
    connected_and_released(&stage);
    let configuration = json!({"isolation": {"timeServers": ["silent.example"]}});
    stage.deploy(&configuration).unwrap();
    wait_until(LIMIT, "control: a look-up waits for its answer", || {
        let mut question = [0; 512];
        let length = silent.recv(&mut question).unwrap();
        question[..length].windows(6).any(|text| text == b"silent")
    })
    .unwrap();
    stops_within_a_second(&mut stage, "a silent resolver");
});

lab_test!(a_disk_that_hangs_does_not_delay_a_stop_and_loses_no_order, || {
    let mut stage = ready(options());
    let disk = Hang::start(&mut stage, HANGING_SYNC).unwrap();
    connected_and_released(&stage);
    disk.begin().unwrap();
    // Of the operator, whom nobody asks again.
    done_for_the_moment(&stage, &["quarantine", "--reason", "late on disk"]);
    let late = |s: &Value| {
        let obstacles = s["enforcement"]["obstacles"].as_array().unwrap();
        s["enforcement"]["posture"] == "isolate"
            && obstacles
                .iter()
                .any(|obstacle| obstacle["kind"] == "journalNotWritten")
    };
    stage
        .wait_status(LIMIT, "control: in force, and not on disk", late)
        .unwrap();
    stops_within_a_second(&mut stage, "a disk that hangs");
    assert!(
        stage
            .agent_output()
            .contains("it is kept in memory for the next agent")
    );

    // As after a flush by somebody: what holds is what the next agent knows. The disk still hangs.
    stage.nft(&["flush", "ruleset"]).unwrap();
    let [preload, switch] = disk.environment();
    restart_as(&mut stage, "env", &[&preload, &switch]);
    let isolated = |s: &Value| {
        s["enforcement"]["posture"] == "isolate" && s["enforcement"]["orders"][0]["authority"] == "operator"
    };
    stage.wait_status(LIMIT, "the order survived", isolated).unwrap();
    let kept = stage.control_socket().with_file_name("journal.late");
    assert!(kept.exists(), "control: it is in memory only");
    disk.end().unwrap();
    wait_until(LIMIT, "it is on disk", || !kept.exists()).unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    stage.agent = None;
    stage.start_agent().unwrap();
    stage.wait_status(LIMIT, "from the disk", isolated).unwrap();
});

fn answers_nobody(stage: &Stage) {
    wait_until(LIMIT, "control: it answers nobody", || {
        let asked = std::os::unix::net::UnixStream::connect(stage.control_socket()).unwrap();
        let _asked = (&asked).write_all(b"{\"protocol\":1,\"command\":\"status\"}\n");
        asked.set_read_timeout(Some(SECOND)).unwrap();
        !matches!((&asked).read(&mut [0; 16]), Ok(1..))
    })
    .unwrap();
}

lab_test!(a_deciding_thread_that_hangs_does_not_delay_a_stop, || {
    let mut stage = ready(StageOptions {
        turns: Turns::Unmeasured,
        ..options()
    });
    let runtime = Hang::start(&mut stage, HANGING_RUNTIME).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    runtime.begin().unwrap();
    answers_nobody(&stage);
    stops_within_a_second(&mut stage, "a thread that hangs");
});

lab_test!(the_nucleus_has_to_kill_nobody, || {
    // The worst that was met: one that hangs.
    let folder = tempfile::tempdir().unwrap();
    let runtime = Hang::in_folder(folder.path(), HANGING_RUNTIME).unwrap();
    let set = |variable| ["--set-env".to_owned(), variable];
    let mut stage = isolated_as_shipped_with(StageOptions {
        personality: Personality::Classic,
        nucleus: runtime.environment().into_iter().flat_map(set).collect(),
        turns: Turns::Unmeasured,
        ..options()
    });
    runtime.begin().unwrap();
    answers_nobody(&stage);
    let told = Instant::now();
    stage.nucleus.terminate().unwrap();
    stage.nucleus.wait_exit(LIMIT).unwrap();
    println!("the nucleus has stopped its component in {:?}", told.elapsed());
    let events = stage.nucleus.events();
    let of = |state: &str| {
        let wanted = |event: &&Value| event["event"] == "component" && event["state"] == state;
        events.iter().filter(wanted).count()
    };
    assert_eq!((of("exited"), of("killed")), (1, 0), "{events:?}");
    assert!(stage.has_table().unwrap() && Path::new("/var/lib/edgewarden/journal").exists());
});
