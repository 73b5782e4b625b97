//! A log that nobody reads: broken, full, closed or absent. It stops no task and holds nothing up.

use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::stage::Stage;
use serde_json::Value;

use crate::common::agent::{restart, restart_as};
use crate::common::{LIMIT, isolate, options, ready, release};

/// As in the nucleus' own limit for a stop (five seconds), with room for a busy machine.
const STOPS_WITHIN: Duration = Duration::from_secs(4);

/// The agent obeys, tells the truth about its tasks, and stops when it is told to.
fn goes_on(stage: &mut Stage) {
    let works = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "the channel works", works).unwrap();
    isolate(stage);
    release(stage);
    let status = stage.status();
    let tasks = status["tasks"].as_array().unwrap();
    assert!(tasks.iter().any(|task| task["name"] == "enforcer"), "{status}");
    assert!(tasks.iter().all(|task| task["restarts"] == 0), "{status}");
    isolate(stage);
    let told = Instant::now();
    let agent = stage.agent.as_mut().unwrap();
    agent.terminate().unwrap();
    agent.wait_exit(LIMIT).unwrap();
    assert!(told.elapsed() < STOPS_WITHIN, "{:?}", told.elapsed());
    // A successor takes over at once.
    restart(stage);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    release(stage);
}

/// The agent with its output through a piece of shell, and with much to say.
fn with_output(redirection: &str) {
    let mut stage = ready(options());
    let script = format!("exec \"$@\" {redirection}");
    restart_as(&mut stage, "env", &["EDGEWARDEN_LOG=trace", "bash", "-c", &script, "bash"]);
    goes_on(&mut stage);
}

lab_test!(a_log_that_nobody_reads_stops_no_task, || {
    // The reader takes the first line and is gone: every line after it meets a broken pipe.
    with_output("> >(head -n 1 > /dev/null) 2>&1");
});

lab_test!(a_log_that_is_full_holds_nothing_up, || {
    // The reader lives and does not read: a nucleus that is stopped, or swapped out.
    with_output("> >(exec sleep 600) 2>&1");
});

lab_test!(a_log_that_is_closed_holds_nothing_up, || {
    with_output(">&- 2>&-");
});
