//! Processes that were frozen are never forgotten: whatever becomes of the journal, of the agent and of its capabilities,
//! they run again once nothing orders otherwise, or somebody is told. Whoever was stopped by somebody else stays so.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Ns, Running, SpawnSpec, lab_program, wait_until};
use edgewarden_lab::stage::{Stage, copy_program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::agent::{restart, restart_as};
use crate::common::broker::broker_down;
use crate::common::programs::{sender, state_of, wait_state};
use crate::common::told::{is_told, shown};
use crate::common::{LIMIT, done, options, ready};

/// A user who is not ours.
const NOBODY: u32 = 65_534;
/// The agent without the right to signal processes of other users.
const POWERLESS: [&str; 4] = ["--bounding-set", "-kill", "--inh-caps", "-kill"];
/// The agent without the right to mark processes of other users.
const UNMARKING: [&str; 4] = ["--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"];

/// The operator isolates the device and freezes that program; nothing but the order says so.
fn freeze(stage: &Stage, program: &str) {
    let file = stage.site.directory().join("order.json");
    let rule = json!({"match": {"exe": format!("*/opt/{program}")}, "action": "freeze"});
    let order = json!({"posture": "isolate", "reason": "r", "processes": [rule]});
    std::fs::write(&file, order.to_string()).unwrap();
    done(stage, &["quarantine", "--order", file.to_str().unwrap()]);
}

/// A program that the order freezes and one that somebody else stopped.
fn one_of_each(stage: &Stage, name: &str) -> (Running, Running) {
    let (rogue, other) = (sender(stage, name), sender(stage, &format!("{name}-other")));
    wait_state(&rogue, "SR");
    send(&other, Signal::SIGSTOP);
    wait_state(&other, "T");
    freeze(stage, name);
    wait_state(&rogue, "T");
    let told = |s: &Value| s["enforcement"]["phase"] == "enforced" && !shown(s, rogue.pid()).is_null();
    stage.wait_status(LIMIT, "control: it is shown", told).unwrap();
    (rogue, other)
}

fn send(running: &Running, signal: Signal) {
    kill(Pid::from_raw(running.pid().cast_signed()), signal).unwrap();
}

fn journal(stage: &Stage) -> PathBuf {
    stage.state_directory().join("journal")
}

fn stop_agent(stage: &mut Stage) {
    stage.agent.as_mut().unwrap().kill9().unwrap();
}

fn stays_stopped(other: &Running) {
    assert_eq!(
        state_of(other.pid()),
        Some('T'),
        "whoever was stopped by somebody else is left alone"
    );
}

/// The history, once it says that this process runs again: it is written after whoever waits was told.
fn history_of_freed(stage: &Stage, name: &str, running: &Running) -> String {
    let state = stage.state_directory();
    let freed = format!("{name} ({}) runs again", running.pid());
    let mut page = String::new();
    wait_until(LIMIT, &freed, || {
        page = done(stage, &["history", "--state-dir", state.to_str().unwrap()]);
        page.contains(&freed)
    })
    .unwrap();
    page
}

lab_test!(a_damaged_journal_forgets_nobody, || {
    let mut stage = ready(options());
    let (rogue, other) = one_of_each(&stage, "damaged-rogue");
    // The shadow would speak at once, and end what a damaged journal makes us assume.
    broker_down(&mut stage);
    stop_agent(&mut stage);
    std::fs::write(journal(&stage), [0; 300]).unwrap();
    restart(&mut stage);
    let recovers = |s: &Value| {
        s["enforcement"]["orders"][0]["authority"] == "recovery" && !shown(s, rogue.pid()).is_null()
    };
    let status = stage
        .wait_status(LIMIT, "isolated to be safe, and it is shown", recovers)
        .unwrap();
    assert_eq!(
        state_of(rogue.pid()),
        Some('T'),
        "who was stopped stays so while nobody spoke"
    );
    assert!(shown(&status, other.pid()).is_null(), "{status}");
    done(&stage, &["release"]);
    wait_state(&rogue, "SR");
    stays_stopped(&other);
    history_of_freed(&stage, "damaged-rogue", &rogue);
});

lab_test!(a_removed_journal_forgets_nobody, || {
    let mut stage = ready(options());
    let (rogue, other) = one_of_each(&stage, "removed-rogue");
    stop_agent(&mut stage);
    std::fs::remove_file(journal(&stage)).unwrap();
    restart(&mut stage);
    stage.wait_phase(LIMIT, "released").unwrap();
    wait_state(&rogue, "SR");
    stays_stopped(&other);
    let is_gone = |s: &Value| shown(s, rogue.pid()).is_null();
    stage.wait_status(LIMIT, "it is shown no more", is_gone).unwrap();
});

lab_test!(
    who_cannot_be_marked_is_read_in_what_is_left_of_the_journal,
    || {
        let mut stage = ready(options());
        restart_as(&mut stage, "setpriv", &UNMARKING);
        stage.wait_phase(LIMIT, "released").unwrap();
        let Some(rogue) = sender_of_nobody(&stage, "unmarked-rogue") else {
            return;
        };
        freeze(&stage, "unmarked-rogue");
        wait_state(&rogue, "T");
        let untold = "cannot be marked as ours";
        wait_until(LIMIT, untold, || stage.agent_output().contains(untold)).unwrap();
        broker_down(&mut stage);
        stop_agent(&mut stage);
        let mut bytes = std::fs::read(journal(&stage)).unwrap();
        bytes[25] ^= 1;
        std::fs::write(journal(&stage), bytes).unwrap();
        restart_as(&mut stage, "setpriv", &UNMARKING);
        let kept = |s: &Value| !shown(s, rogue.pid()).is_null();
        stage.wait_status(LIMIT, "it is remembered", kept).unwrap();
        done(&stage, &["release"]);
        wait_state(&rogue, "SR");
    }
);

lab_test!(uninstall_lets_everybody_go_whatever_the_journal_says, || {
    let mut stage = ready(options());
    let (rogue, other) = one_of_each(&stage, "unread-rogue");
    stop_agent(&mut stage);
    // Not believed: anybody may have written it.
    std::fs::set_permissions(journal(&stage), PermissionsExt::from_mode(0o666)).unwrap();
    let state = stage.state_directory();
    let (code, _, errors) = stage.edgewarden(&["uninstall"]).unwrap();
    assert_eq!(code, Some(1), "control: an order may live");
    assert!(errors.contains("recovery journal-damaged"), "{errors}");
    let text = done(&stage, &["uninstall", "--release", "--reason", "gone", "--purge"]);
    wait_state(&rogue, "SR");
    stays_stopped(&other);
    for told in [
        "ended every order: recovery journal-damaged".to_owned(),
        format!("{}.damaged is not trusted", journal(&stage).display()),
        "is stopped, and nothing says that it was Edgewarden".to_owned(),
    ] {
        assert!(text.contains(&told), "{told} in\n{text}");
    }
    assert!(!state.exists());
});

/// A program of that name that sends for ever as another user; none where there is no other user.
fn sender_of_nobody(stage: &Stage, name: &str) -> Option<Running> {
    let program = stage.site.directory().join("opt").join(name);
    copy_program(&lab_program().unwrap(), &program).unwrap();
    // He must reach it.
    std::fs::set_permissions(stage.site.directory(), PermissionsExt::from_mode(0o711)).unwrap();
    let mut spec = SpawnSpec::new("setpriv", stage.site.directory().join("programs.log"));
    let id = NOBODY.to_string();
    // In a session of its own: whoever shares one may send SIGCONT, whoever he is.
    let args = ["--reuid", &id, "--regid", &id, "--clear-groups", "setsid"];
    spec.args = args.iter().map(Into::into).collect();
    spec.args.push(program.into());
    let sensor = ["sensor", "--remote", "198.51.100.1:9000", "--udp"];
    spec.args.extend(sensor.iter().map(Into::into));
    let mut running = stage.site.spawn_with(Ns::Gateway, spec).unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", running.pid()));
    let mut is_there = false;
    wait_until(LIMIT, "it runs as nobody", || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        is_there = text.contains(&format!("Uid:\t{id}\t")) && !text.contains("Name:\tset");
        is_there || !running.is_running()
    })
    .unwrap();
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "there is no other user");
        println!("SKIPPED: without real root there is no other user");
        return None;
    }
    Some(running)
}

/// The command line without the right to signal processes of other users, for the stage's state.
fn without_power(stage: &Stage, command: &str) -> Output {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(POWERLESS).arg(stage.artifact()).arg(command);
    setpriv.arg("--state-dir").arg(stage.state_directory());
    setpriv.arg("--control-socket").arg(stage.control_socket());
    stage
        .site
        .run_in(Ns::Gateway, || setpriv.output())
        .unwrap()
        .unwrap()
}

fn refused(output: &Output, pid: u32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stays = format!("process {pid} (stubborn-rogue) stays frozen: could not signal process {pid}");
    assert!(text.contains(&stays), "{text}");
    assert!(
        text.contains("let it go on with `kill -CONT`"),
        "the next step: {text}"
    );
    text
}

lab_test!(who_cannot_be_let_go_is_told_and_remembered_until_he_can, || {
    let mut stage = ready(options());
    let Some(rogue) = sender_of_nobody(&stage, "stubborn-rogue") else {
        return;
    };
    freeze(&stage, "stubborn-rogue");
    wait_state(&rogue, "T");
    stage.wait_phase(LIMIT, "enforced").unwrap();
    let stays = |s: &Value| is_told(s, "processStaysFrozen") && s["enforcement"]["phase"] == "released";
    assert!(!stays(&stage.status()), "control");
    restart_as(&mut stage, "setpriv", &POWERLESS);
    let powerless = |s: &Value| is_told(s, "processRuns");
    let status = stage.wait_status(LIMIT, "it is refused", powerless).unwrap();
    assert!(
        shown(&status, rogue.pid()).is_null(),
        "nothing is claimed: {status}"
    );
    let (code, _, errors) = stage.edgewarden(&["release"]).unwrap();
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains("stays frozen") && errors.contains("kill -CONT"),
        "{errors}"
    );
    stage.wait_status(LIMIT, "it stays frozen", stays).unwrap();
    // Also after a restart: it is in the journal still.
    restart_as(&mut stage, "setpriv", &POWERLESS);
    stage.wait_status(LIMIT, "it stays frozen", stays).unwrap();
    let page = done(&stage, &["status"]);
    assert!(page.contains("kill -CONT"), "the next step: {page}");

    stop_agent(&mut stage);
    refused(&without_power(&stage, "restore"), rogue.pid());
    refused(&without_power(&stage, "uninstall"), rogue.pid());
    assert!(journal(&stage).exists(), "who is frozen is not forgotten");
    assert_eq!(state_of(rogue.pid()), Some('T'));

    let state = stage.state_directory();
    let restored = done(&stage, &["restore", "--state-dir", state.to_str().unwrap()]);
    assert!(
        restored.contains("frozen processes that run again: 1"),
        "{restored}"
    );
    wait_state(&rogue, "SR");
    restart(&mut stage);
    let free = |s: &Value| s["enforcement"]["phase"] == "released" && !stays(s);
    stage.wait_status(LIMIT, "nothing is amiss", free).unwrap();
    done(&stage, &["release"]);
});

lab_test!(long_paths_leave_a_journal_that_is_read_again, || {
    let mut stage = ready(options());
    let mut place = stage.site.directory().to_owned();
    while place.as_os_str().len() < 3_700 {
        // Written as six bytes each.
        place.push("\u{1}".repeat(200));
    }
    let program = place.join("opt/zq-deep");
    copy_program(&lab_program().unwrap(), &program).unwrap();
    let log = stage.site.directory().join("programs.log");
    let words = ["hoard", "--files", "1"];
    let deep = stage.site.spawn(Ns::Gateway, &program, &words, &[], log).unwrap();
    freeze(&stage, "zq-deep");
    wait_state(&deep, "T");
    let shown = |s: &Value| s["enforcement"]["phase"] == "enforced" && !shown(s, deep.pid()).is_null();
    stage.wait_status(LIMIT, "it is shown", shown).unwrap();
    let length = std::fs::metadata(journal(&stage)).unwrap().len();
    assert!(length < 10_000, "{length}");
    stop_agent(&mut stage);
    restart(&mut stage);
    stage.wait_status(LIMIT, "it is known still", shown).unwrap();
    done(&stage, &["release"]);
    wait_state(&deep, "SR");
});

lab_test!(a_frozen_process_that_was_killed_is_not_said_to_run_again, || {
    let stage = ready(options());
    let (rogue, _other) = one_of_each(&stage, "mortal-rogue");
    // Nobody buries it meanwhile.
    send(&rogue, Signal::SIGKILL);
    wait_state(&rogue, "Z");
    let gone = |s: &Value| s["enforcement"]["phase"] == "enforced" && shown(s, rogue.pid()).is_null();
    stage.wait_status(LIMIT, "it is gone", gone).unwrap();
    let late = sender(&stage, "mortal-rogue");
    wait_state(&late, "T");
    done(&stage, &["release"]);
    wait_state(&late, "SR");
    // Who was stopped first is let go first.
    let page = history_of_freed(&stage, "mortal-rogue", &late);
    let dead = format!("({}) runs again", rogue.pid());
    assert!(!page.contains(&dead), "the dead do not\n{page}");
});

/// What a process without Edgewarden has as its limit.
fn mark_of(pid: u32) -> String {
    let limits = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max file locks"));
    line.unwrap().to_owned()
}

lab_test!(the_mark_is_on_the_frozen_and_leaves_no_trace, || {
    let stage = ready(options());
    let (rogue, other) = (sender(&stage, "marked-rogue"), sender(&stage, "unmarked"));
    wait_state(&rogue, "SR");
    let before = mark_of(rogue.pid());
    freeze(&stage, "marked-rogue");
    wait_state(&rogue, "T");
    wait_until(LIMIT, "it is marked", || mark_of(rogue.pid()) != before).unwrap();
    assert_eq!(mark_of(other.pid()), before, "nobody else is");
    done(&stage, &["release"]);
    wait_state(&rogue, "SR");
    wait_until(LIMIT, "it is as before", || mark_of(rogue.pid()) == before).unwrap();
});
