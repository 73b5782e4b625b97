//! The way out and the answers where no agent answers: it is dead, stopped, or hangs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::preload::{HANGING_RUNTIME, Hang};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::common::programs::state_of;
use crate::common::{LIMIT, authorities, connected_and_released, done, isolate, options, ready};
use crate::holds::picture::picture;

pub(super) const OVERRIDE: [&str; 4] = ["release", "--override", "--reason", "by hand"];
/// Exit code of a command that only shows something, where no agent answers.
const NO_AGENT: Option<i32> = Some(3);

/// What a page or an answer is, with its exit code.
pub(super) fn said(stage: &Stage, args: &[&str]) -> (Option<i32>, String, String) {
    let begun = Instant::now();
    let said = stage.edgewarden(args).unwrap();
    println!("{args:?} in {:?}: {said:?}", begun.elapsed());
    said
}

/// What is in the state directory.
fn files(stage: &Stage) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let entries = std::fs::read_dir(stage.state_directory()).unwrap();
    let files = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file());
    let file = |path: PathBuf| {
        let written = path.metadata().unwrap().modified().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        (path, (written, bytes))
    };
    files.map(file).collect()
}

fn absent(stage: &Stage) -> Value {
    let (code, output, errors) = said(stage, &["status", "--json"]);
    assert_eq!(code, NO_AGENT, "{output}{errors}");
    serde_json::from_str(&output).unwrap()
}

/// What is said of an isolated device whose agent does not answer; nothing of it changes anything.
fn tells_what_holds(stage: &Stage, agent: &str, pid: Option<u32>) {
    let (before, rules) = (files(stage), picture(stage));
    let status = absent(stage);
    assert_eq!(
        (&status["agent"], &status["pid"]),
        (&json!(agent), &json!(pid)),
        "{status}"
    );
    assert_eq!(status["orders"][0]["authority"], "shadow", "{status}");
    let kernel = status["kernel"].as_str().unwrap();
    assert!(kernel.starts_with("holds what is wanted: isolate"), "{status}");
    assert!(status["since"].is_string(), "{status}");
    let (code, page, _) = said(stage, &["status"]);
    assert_eq!(code, NO_AGENT);
    for part in [
        agent,
        "orders are NOT heard",
        "isolate by shadow",
        "release --override",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.lines().count() <= 24, "{page}");
    let (code, orders, _) = said(stage, &["orders"]);
    assert!(
        code == NO_AGENT && orders.contains("isolate by shadow"),
        "{orders}"
    );
    let (code, plan, _) = said(stage, &["plan"]);
    assert!(
        code == NO_AGENT && plan.contains("all else: in, out and forwarded"),
        "{plan}"
    );
    assert!(done(stage, &["history"]).contains("isolate ordered by shadow"));
    assert_eq!(files(stage), before, "whoever looks changes nothing");
    assert_eq!(picture(stage), rules);
    assert!(stage.has_table().unwrap());
}

/// The operator's release without the agent; then the next one, which the cloud hears of it from.
fn is_released_for_good(stage: &mut Stage, found: &str) {
    let begun = Instant::now();
    let text = done(stage, &OVERRIDE);
    println!("released in {:?}", begun.elapsed());
    assert!(
        text.contains(found) && text.contains("normal: nothing is cut"),
        "{text}"
    );
    assert!(!stage.has_table().unwrap());
    let history = done(stage, &["history"]);
    for part in [
        "without an agent",
        "operator ended every order (shadow shadow): by hand",
    ] {
        assert!(history.contains(part), "{part}: {history}");
    }
    stage.agent = None;
    stage.start_agent().unwrap();
    let told = |shadow: &Value| shadow["state"]["reported"]["quarantineStatus"]["overridden"] == "by hand";
    stage.wait_shadow(LIMIT, "the cloud is told", told).unwrap();
    let status = stage.wait_phase(LIMIT, "released").unwrap();
    assert!(authorities(&status).is_empty(), "{status}");
    assert!(!stage.has_table().unwrap(), "the same wish stays ended");
    // Another wish counts again.
    stage
        .desire(&json!({"quarantine": {"id": "inc-2", "posture": "isolate"}}))
        .unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
}

lab_test!(a_dead_agent_does_not_take_away_the_way_out, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    tells_what_holds(&stage, "not running", None);
    is_released_for_good(&mut stage, "no agent runs");
});

lab_test!(a_stopped_agent_does_not_take_away_the_way_out, || {
    let mut stage = ready(options());
    isolate(&stage);
    let agent = stage.agent.as_mut().unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    let pid = agent.pid();
    tells_what_holds(&stage, "stopped", Some(pid));
    is_released_for_good(&mut stage, "gave no sign of life");
    assert!(state_of(pid).is_none_or(|state| state == 'Z'), "it was ended");
});

lab_test!(a_hanging_agent_does_not_take_away_the_way_out, || {
    let mut stage = ready(options());
    let runtime = Hang::start(&mut stage, HANGING_RUNTIME).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    runtime.begin().unwrap();
    let pid = stage.agent.as_ref().unwrap().pid();
    wait_until(LIMIT, "it hangs", || said(&stage, &["status"]).0 == NO_AGENT).unwrap();
    tells_what_holds(&stage, "not answering", Some(pid));
    is_released_for_good(&mut stage, "gave no sign of life");
});

lab_test!(
    an_agent_that_is_well_elsewhere_is_asked_there_and_not_ended,
    || {
        let stage = ready(options());
        isolate(&stage);
        let pid = stage.agent.as_ref().unwrap().pid();
        let nowhere = stage.site.directory().join("nowhere.sock");
        // Asked at a place where nobody listens; the last one that is named counts.
        let mut args = OVERRIDE.to_vec();
        args.extend(["--control-socket", nowhere.to_str().unwrap()]);
        done(&stage, &args);
        assert!(!stage.has_table().unwrap());
        assert!(state_of(pid).is_some_and(|state| state != 'Z'), "it lives");
        let history = done(&stage, &["history"]);
        assert!(!history.contains("without an agent"), "{history}");
    }
);

lab_test!(a_release_without_a_nucleus_or_a_broker_is_done, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.nucleus.kill9().unwrap();
    let text = done(&stage, &OVERRIDE);
    assert!(text.contains("normal: nothing is cut"), "{text}");
    assert!(!stage.has_table().unwrap());
    let pid = stage.agent.as_ref().unwrap().pid();
    assert!(
        state_of(pid).is_some_and(|state| state != 'Z'),
        "its agent did it"
    );
});

lab_test!(
    the_operators_own_order_ends_without_an_agent_and_others_stay,
    || {
        let mut stage = ready(options());
        done(&stage, &["quarantine", "--reason", "mine"]);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let text = done(&stage, &["release"]);
        assert!(text.contains("normal: nothing is cut"), "{text}");
        assert!(!stage.has_table().unwrap());
        stage.agent = None;
        stage.start_agent().unwrap();
        connected_and_released(&stage);
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let (code, text, errors) = said(&stage, &["release"]);
        assert_eq!(code, Some(1), "{text}{errors}");
        assert!(errors.contains("you hold no order"), "{errors}");
        assert!(stage.has_table().unwrap());
    }
);

/// Longer than a status takes with an agent that hangs.
const SOON: Duration = Duration::from_secs(5);

lab_test!(every_command_says_soon_that_the_agent_hangs, || {
    let mut stage = ready(options());
    stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
    for args in [
        &["top", "--once"][..],
        &["connections"],
        &["report", "last"],
        &["quarantine", "--reason", "now"],
    ] {
        let begun = Instant::now();
        let (code, output, errors) = said(&stage, args);
        assert!(begun.elapsed() < SOON, "{args:?}: {:?}", begun.elapsed());
        assert_eq!(code, NO_AGENT, "{args:?}: {output}{errors}");
        assert!(
            errors.contains("it is stopped, or it hangs"),
            "{args:?}: {errors}"
        );
    }
    stage.agent.as_mut().unwrap().signal(Signal::SIGCONT).unwrap();
    connected_and_released(&stage);
});
