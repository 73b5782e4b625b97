//! Frozen processes and ends of orders where somebody speaks from another pid or time namespace, or without `/proc`: nobody is
//! forgotten because he cannot be seen, and no order ends because a clock counts from elsewhere.

use std::process::{Command, Output};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Ns, Running};
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use crate::common::agent::{restart, restart_as};
use crate::common::programs::{sender, state_of, wait_state};
use crate::common::told::is_told;
use crate::common::{LIMIT, done, options, ready};

const OTHER_PIDS: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];
const OTHER_TIME: [&str; 5] = ["--time", "--boottime", "100000", "--fork", "--kill-child"];
/// Nobody is shown there.
const NO_PROC: [&str; 5] = [
    "--mount",
    "sh",
    "-c",
    "mount -t tmpfs none /proc && exec \"$@\"",
    "sh",
];
const UNSEEN: &str = "cannot be seen from here";

/// The operator restricts the device and freezes that program; the agent is gone then.
fn frozen_and_left(stage: &mut Stage, name: &str) -> Running {
    let rogue = sender(stage, name);
    wait_state(&rogue, "SR");
    let file = stage.site.directory().join("order.json");
    let rule = json!({"match": {"exe": format!("*/opt/{name}")}, "action": "freeze"});
    let order = json!({"posture": "restrict", "reason": "r", "processes": [rule]});
    std::fs::write(&file, order.to_string()).unwrap();
    done(stage, &["quarantine", "--order", file.to_str().unwrap()]);
    wait_state(&rogue, "T");
    stage.agent.as_mut().unwrap().kill9().unwrap();
    rogue
}

/// The command line for the stage's state, behind `unshare` with these words.
fn apart(stage: &Stage, how: &[&str], words: &[&str]) -> Output {
    let mut unshare = Command::new("unshare");
    unshare.args(how).arg(stage.artifact()).args(words);
    unshare.arg("--state-dir").arg(stage.state_directory());
    unshare.arg("--control-socket").arg(stage.control_socket());
    let said = stage.site.run_in(Ns::Gateway, || unshare.output()).unwrap();
    let said = said.unwrap();
    println!("{how:?} {words:?}: {said:?}");
    said
}

/// That is said to be not done, and nobody is forgotten.
fn forgets_nobody(stage: &Stage, rogue: &Running, said: &Output) {
    let errors = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{errors}");
    assert!(errors.contains(UNSEEN) && errors.contains("nsenter"), "{errors}");
    assert_eq!(state_of(rogue.pid()), Some('T'), "control: it is frozen still");
    let journal = std::fs::read_to_string(stage.state_directory().join("journal")).unwrap();
    let named = format!("\"pid\":{},", rogue.pid());
    assert!(journal.contains(&named), "{journal}");
}

/// The next agent where they are lets them go.
fn is_let_go_by_the_next_agent(stage: &mut Stage, rogue: &Running) {
    restart(stage);
    stage.wait_phase(LIMIT, "released").unwrap();
    wait_state(rogue, "SR");
    done(stage, &["release", "--override", "--reason", "nothing is left"]);
}

fn a_release_from(how: &[&str], name: &str) {
    let mut stage = ready(options());
    let rogue = frozen_and_left(&mut stage, name);
    let said = apart(&stage, how, &["release"]);
    forgets_nobody(&stage, &rogue, &said);
    // What somebody there is told again, however often.
    let said = apart(&stage, how, &["release", "--override", "--reason", "again"]);
    forgets_nobody(&stage, &rogue, &said);
    is_let_go_by_the_next_agent(&mut stage, &rogue);
}

lab_test!(
    a_release_from_another_pid_namespace_forgets_no_frozen_process,
    || {
        a_release_from(&OTHER_PIDS, "pids-rogue");
    }
);

lab_test!(
    a_release_from_another_time_namespace_forgets_no_frozen_process,
    || {
        a_release_from(&OTHER_TIME, "time-rogue");
    }
);

lab_test!(a_release_without_proc_forgets_no_frozen_process, || {
    a_release_from(&NO_PROC, "noproc-rogue");
});

lab_test!(an_uninstall_from_another_pid_namespace_removes_nothing, || {
    let mut stage = ready(options());
    let rogue = frozen_and_left(&mut stage, "uninstall-rogue");
    let words = ["uninstall", "--release", "--reason", "gone"];
    for _ in 0..2 {
        let said = apart(&stage, &OTHER_PIDS, &words);
        forgets_nobody(&stage, &rogue, &said);
    }
    done(&stage, &words);
    wait_state(&rogue, "SR");
    assert!(!stage.state_directory().join("journal").exists());
});

lab_test!(
    an_agent_in_another_pid_namespace_forgets_no_frozen_process,
    || {
        let mut stage = ready(options());
        let rogue = frozen_and_left(&mut stage, "elsewhere-rogue");
        restart_as(&mut stage, "unshare", &OTHER_PIDS);
        let told = |s: &Value| is_told(s, "processesElsewhere") && s["enforcement"]["posture"] == "restrict";
        stage.wait_status(LIMIT, "it is told", told).unwrap();
        let (code, _, errors) = stage.edgewarden(&["release"]).unwrap();
        assert!(code == Some(1) && errors.contains(UNSEEN), "{errors}");
        let told = |s: &Value| is_told(s, "processesElsewhere") && s["enforcement"]["phase"] == "released";
        stage.wait_status(LIMIT, "it is told still", told).unwrap();
        assert_eq!(state_of(rogue.pid()), Some('T'), "control: it is frozen still");
        is_let_go_by_the_next_agent(&mut stage, &rogue);
        let told = is_told(&stage.status(), "processesElsewhere");
        assert!(!told, "nothing is left");
    }
);

lab_test!(an_order_does_not_end_early_in_another_time_namespace, || {
    let mut stage = ready(options());
    done(
        &stage,
        &["quarantine", "--reason", "r", "--expires-seconds", "3600"],
    );
    stage.wait_phase(LIMIT, "enforced").unwrap();
    restart_as(&mut stage, "unshare", &OTHER_TIME);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    let enforcement = &stage.status()["enforcement"];
    assert_eq!(enforcement["orders"][0]["authority"], "operator", "{enforcement}");
    assert!(stage.has_table().unwrap());
    restart(&mut stage);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    done(&stage, &["release"]);
});
