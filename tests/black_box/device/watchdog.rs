//! A deciding thread that hangs where nobody expected it: the agent ends, and the next one takes over.

use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::preload::{HANGING_RUNTIME, Hang};
use serde_json::Value;

use crate::common::agent::{restart, restart_as};
use crate::common::{LIMIT, connected_and_released, isolate, options, ready, release};

/// The watchdog waits for half a minute.
const BARKS_WITHIN: Duration = Duration::from_secs(50);

lab_test!(a_deciding_thread_that_hangs_ends_the_agent, || {
    let mut stage = ready(options());
    let runtime = Hang::start(&mut stage, HANGING_RUNTIME).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    runtime.begin().unwrap();
    let agent = stage.agent.as_mut().unwrap();
    let status = agent.wait_exit(BARKS_WITHIN).unwrap();
    assert!(!status.success(), "{status}");
    assert!(stage.has_table().unwrap(), "the rules stay");
    let log = stage.agent_output();
    assert!(log.contains("has held the thread that decides for 30 s"), "{log}");
    runtime.end().unwrap();
    restart(&mut stage);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    release(&stage);
});

lab_test!(it_ends_as_the_first_process_of_a_container_too, || {
    let mut stage = ready(options());
    let runtime = Hang::prepare(&stage, HANGING_RUNTIME).unwrap();
    let [preload, switch] = runtime.environment();
    // Whose own signals do not kill it.
    let inside = [
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "env",
        &preload,
        &switch,
    ];
    restart_as(&mut stage, "unshare", &inside);
    connected_and_released(&stage);
    runtime.begin().unwrap();
    let container = stage.agent.as_mut().unwrap();
    let status = container.wait_exit(BARKS_WITHIN).unwrap();
    assert!(!status.success(), "{status}");
    runtime.end().unwrap();
});

/// Processor time that a process has taken, in clock ticks of ten milliseconds.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, after) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    [11, 12]
        .map(|at: usize| fields[at].parse::<u64>().unwrap())
        .iter()
        .sum()
}

lab_test!(an_agent_that_has_nothing_to_do_takes_no_time, || {
    let stage = ready(options());
    isolate(&stage);
    release(&stage);
    let pid = stage.agent.as_ref().unwrap().pid();
    let (before, began) = (ticks(pid), Instant::now());
    assert!(before > 0, "control: it took some");
    while began.elapsed() < Duration::from_secs(3) {
        assert!(!stage.has_table().unwrap());
        std::thread::sleep(Duration::from_millis(100));
    }
    let took = ticks(pid) - before;
    assert!(took < 100, "{took} ticks in {:?}", began.elapsed());
});

/// The niceness of each thread, by name.
fn niceness(pid: u32) -> Vec<(String, i64)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            let (before, after) = stat.rsplit_once(')')?;
            let name = before.split_once('(')?.1.to_owned();
            Some((name, after.split_ascii_whitespace().nth(16)?.parse().ok()?))
        })
        .collect()
}

lab_test!(no_thread_runs_before_the_one_that_decides, || {
    let stage = ready(options());
    isolate(&stage);
    let pid = stage.agent.as_ref().unwrap().pid();
    let reads_dns = || {
        let threads = niceness(pid).into_iter();
        threads
            .filter(|(name, _)| name == "dns-questions")
            .map(|(_, nice)| nice)
            .next()
    };
    wait_until(LIMIT, "what others send is read behind everything else", || {
        reads_dns() == Some(0)
    })
    .unwrap();
    let threads = niceness(pid);
    let accounting = threads.iter().find(|(name, _)| name == "accounting");
    let main = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    let decides = threads.iter().find(|(name, _)| name == main.trim()).unwrap().1;
    assert!(accounting.is_some(), "control: {threads:?}");
    assert!(threads.iter().all(|(_, nice)| *nice >= decides), "{threads:?}");
    let status: Value = stage.status();
    assert_eq!(status["enforcement"]["phase"], "enforced");
    release(&stage);
});
