//! The way out and whoever else is there: agents that are well, slow, stopped or elsewhere, other operators, strangers.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::{Ns, SpawnSpec, wait_until};
use edgewarden_lab::stage::filter_hook::{BEFORE, FilterHook};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::guard::{Guarded, lives};
use super::way_out::{OVERRIDE, said};
use crate::common::programs::state_of;
use crate::common::{LIMIT, authorities, connected_and_released, done, isolate, options, order, ready};

/// Somebody who listens where the agent did, reads a question and answers.
fn stranger(stage: &Stage, answers: fn(&str) -> Option<&'static str>) {
    std::fs::remove_file(stage.control_socket()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(stage.control_socket()).unwrap();
    thread::spawn(move || {
        use std::io::{BufRead as _, BufReader, Write as _};
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut line = String::new();
            let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
            if let Some(answer) = answers(&line) {
                let _ = stream.write_all(answer.as_bytes());
            } else {
                kept.push(stream);
            }
        }
    });
}

/// Somebody hears the cloud again after a release against an agent that was stopped: its orderly end is the end of its component.
fn heard_again(guarded: &Guarded) {
    let agent = guarded.agent().unwrap();
    super::guard::signal(agent, Signal::SIGSTOP);
    said(&guarded.stage, &OVERRIDE);
    let heard = |s: &Value| s["cloud"]["channelWorks"] == true;
    let again = guarded
        .stage
        .wait_status(Duration::from_secs(60), "somebody hears", heard);
    println!("guard {:?} agent {:?}", guarded.guard(), guarded.agent());
    for event in guarded
        .stage
        .nucleus
        .events()
        .iter()
        .filter(|event| event["event"] == "component")
    {
        println!("{event}");
    }
    assert!(again.is_ok(), "the release left a device that hears nobody");
}

// Q-105.
lab_test!(
    a_well_agent_whose_places_are_taken_is_not_killed_by_a_release,
    || {
        let stage = ready(options());
        isolate(&stage);
        let pid = stage.agent.as_ref().unwrap().pid();
        // Eight clients of root's that hang, a monitoring script for instance.
        let clients: Vec<UnixStream> = (0..8)
            .map(|_| UnixStream::connect(stage.control_socket()).unwrap())
            .collect();
        thread::sleep(Duration::from_millis(300));
        said(&stage, &["status"]);
        said(&stage, &OVERRIDE);
        assert!(lives(pid), "a healthy agent was killed by a command");
        drop(clients);
    }
);

// Q-105.
lab_test!(
    a_well_agent_whose_socket_file_is_gone_is_not_killed_by_a_release,
    || {
        let stage = ready(options());
        isolate(&stage);
        let pid = stage.agent.as_ref().unwrap().pid();
        std::fs::remove_file(stage.control_socket()).unwrap();
        said(&stage, &["status"]);
        said(&stage, &OVERRIDE);
        assert!(lives(pid), "a healthy agent was killed by a command");
    }
);

// The same with an agent that is well.
lab_test!(
    a_release_at_the_wrong_places_does_not_lift_a_well_agents_rules,
    || {
        let stage = ready(options());
        isolate(&stage);
        let directory = stage.site.directory();
        let (elsewhere, nowhere) = (directory.join("elsewhere"), directory.join("nowhere.sock"));
        let args = [
            "release",
            "--state-dir",
            elsewhere.to_str().unwrap(),
            "--control-socket",
            nowhere.to_str().unwrap(),
        ];
        let (code, text, _) = said(&stage, &args);
        let lifted = |s: &Value| s["enforcement"]["reasserted"].as_u64() >= Some(1);
        let status = stage.wait_status(Duration::from_secs(8), "put back", lifted);
        assert!(
            status.is_err() && code != Some(0),
            "exit {code:?}, {text}: a healthy agent had to put its rules back"
        );
    }
);

// Q-104: a stopped agent that is continued later, where the directory cannot be locked.
lab_test!(a_release_that_a_stopped_agent_may_undo_says_so, || {
    let mut stage = ready(options());
    isolate(&stage);
    let agent = stage.agent.as_mut().unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    std::fs::set_permissions(stage.state_directory(), std::fs::Permissions::from_mode(0o777)).unwrap();
    said(&stage, &["status"]);
    let (code, _, errors) = said(&stage, &OVERRIDE);
    assert!(!stage.has_table().unwrap(), "released for the moment");
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("released for the moment"), "{errors}");
});

// Q-104: two operators at once.
lab_test!(two_releases_at_once_do_not_undo_each_other, || {
    let mut stage = ready(options());
    let mut lost = Vec::new();
    for turn in 0..3 {
        let wish = json!({"id": format!("inc-{turn}"), "posture": "isolate"});
        stage.desire(&json!({"quarantine": wish})).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        done(&stage, &["quarantine", "--reason", "mine"]);
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        let base = stage.artifact();
        let base = base.display();
        let places = format!(
            "--control-socket {} --state-dir {}",
            stage.control_socket().display(),
            stage.state_directory().display()
        );
        let both = format!(
            "{base} release --override --reason hand {places} & a=$!; {base} release {places} & b=$!; wait $a; \
             echo override $?; wait $b; echo plain $?"
        );
        let output = stage
            .site
            .run_in(Ns::Gateway, || {
                std::process::Command::new("sh").args(["-c", &both]).output()
            })
            .unwrap()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{text}{}", String::from_utf8_lossy(&output.stderr));
        let (_, orders, _) = said(&stage, &["orders"]);
        if stage.has_table().unwrap() || !orders.contains("no live order") {
            lost.push(format!("turn {turn}: {text}{orders}"));
        }
        said(&stage, &["history", "--verify"]);
        stage.agent = None;
        stage.start_agent().unwrap();
        let heard = |s: &Value| s["cloud"]["channelWorks"] == true;
        let status = stage.wait_status(LIMIT, "connected", heard).unwrap();
        println!(
            "after: {:?} {}",
            authorities(&status),
            status["enforcement"]["phase"]
        );
    }
    assert!(lost.is_empty(), "an override was lost: {lost:#?}");
});

// What the agent protects a command must protect too: on classic the nucleus is the agent's ancestor, and none of a command's.
lab_test!(a_release_without_the_agent_does_not_stop_the_nucleus, || {
    let mut stage = Stage::start(options()).unwrap();
    let parent = stage.site.directory().join("opt/way-nucleus");
    std::fs::create_dir_all(parent.parent().unwrap()).unwrap();
    std::fs::copy("/bin/sh", &parent).unwrap();
    let wrapper = ["-c", "\"$@\"; sleep 60; true", "x"];
    stage.start_agent_as(&parent, &wrapper).unwrap();
    connected_and_released(&stage);
    let nucleus = stage.agent.as_ref().unwrap().pid();
    let exe = std::fs::read_link(format!("/proc/{nucleus}/exe")).unwrap();
    assert_eq!(exe, parent, "control: it is the agent's parent");
    let rules = json!([{"match": {"exe": "*/opt/way-nucleus"}, "action": "freeze"}]);
    let wish = json!({"posture": "isolate", "id": "inc-1", "reason": "r", "processes": rules});
    order(&stage, &wish);
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    println!("{}", status["enforcement"]);
    assert_ne!(state_of(nucleus), Some('T'), "control: the agent spares it");
    let lock = std::fs::read(stage.state_directory().join("lock")).unwrap();
    let lock: Value = serde_json::from_slice(&lock).unwrap();
    let agent = i32::try_from(lock["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(agent), Signal::SIGKILL).unwrap();
    wait_until(LIMIT, "it is gone", || !lives(u32::try_from(agent).unwrap())).unwrap();
    said(&stage, &["release"]);
    let state = state_of(nucleus);
    stage.agent.as_mut().unwrap().signal(Signal::SIGCONT).unwrap();
    assert_ne!(state, Some('T'), "a release stopped the nucleus");
});

// Q-105: an agent that starts behind a slow nft, with the rules of an order to load.
lab_test!(an_agent_that_starts_slowly_is_not_killed_by_a_release, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    stage.agent = None;
    let hook = FilterHook::prepare(&stage).unwrap();
    hook.begin(BEFORE, "sleep 3").unwrap();
    let [preload, place] = hook.environment();
    stage
        .start_agent_as(std::path::Path::new("env"), &[&preload, &place])
        .unwrap();
    let pid = stage.agent.as_ref().unwrap().pid();
    wait_until(LIMIT, "it has the directory", || {
        std::fs::read_to_string(stage.state_directory().join("lock"))
            .is_ok_and(|lock| lock.contains(&pid.to_string()))
    })
    .unwrap();
    said(&stage, &["status"]);
    said(&stage, &["release"]);
    assert!(lives(pid), "an agent that was starting was killed by a command");
});

// Q-104: somebody else at the socket of an agent that is dead.
lab_test!(a_stranger_at_the_socket_does_not_take_away_the_way_out, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    std::fs::remove_file(stage.control_socket()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(stage.control_socket()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::Write as _;
            let _ = stream.unwrap().write_all(b"hello\n");
        }
    });
    said(&stage, &["status"]);
    let (code, ..) = said(&stage, &OVERRIDE);
    assert!(
        !stage.has_table().unwrap(),
        "exit {code:?}: a stranger at the socket takes away the way out"
    );
});

// Q-104: an agent that could not sign, its disk being full, and hangs.
lab_test!(a_release_that_an_agent_without_a_note_may_undo_says_so, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
    std::fs::write(stage.state_directory().join("lock"), "").unwrap();
    said(&stage, &["status"]);
    let (code, _, errors) = said(&stage, &OVERRIDE);
    assert!(!stage.has_table().unwrap(), "released for the moment");
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("released for the moment"), "{errors}");
});

// Q-104: one who answers something else.
lab_test!(nonsense_at_the_socket_does_not_take_away_the_way_out, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stranger(&stage, |_| Some("hello\n"));
    said(&stage, &["status"]);
    let (code, ..) = said(&stage, &OVERRIDE);
    assert!(!stage.has_table().unwrap(), "exit {code:?}: no way out");
});

// Q-104: one whose pulse beats and who does nothing else, as an agent whose enforcer hangs.
lab_test!(a_pulse_without_answers_does_not_take_away_the_way_out, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stranger(&stage, |line| {
        line.contains("pulse").then_some("{\"protocol\":1,\"ok\":{}}\n")
    });
    let (code, ..) = said(&stage, &OVERRIDE);
    assert!(!stage.has_table().unwrap(), "exit {code:?}: no way out");
});

// Q-104: the nucleus starts the next agent the moment the hanging one ends.
lab_test!(
    a_release_against_an_agent_whose_nucleus_starts_another_one_holds,
    || {
        let stage = Stage::start(StageOptions {
            launch: true,
            ..options()
        })
        .unwrap();
        let works = |s: &Value| s["cloud"]["channelWorks"] == true && s["enforcement"]["phase"] == "released";
        stage.wait_status(LIMIT, "control: released", works).unwrap();
        let mut amiss = Vec::new();
        for turn in 0..2 {
            let wish = json!({"id": format!("inc-{turn}"), "posture": "isolate"});
            stage.desire(&json!({"quarantine": wish})).unwrap();
            stage.wait_phase(LIMIT, "enforced").unwrap();
            let lock = std::fs::read(stage.state_directory().join("lock")).unwrap();
            let lock: Value = serde_json::from_slice(&lock).unwrap();
            let agent = nix::unistd::Pid::from_raw(i32::try_from(lock["pid"].as_i64().unwrap()).unwrap());
            nix::sys::signal::kill(agent, Signal::SIGSTOP).unwrap();
            let (code, text, errors) = said(&stage, &OVERRIDE);
            let heard = |s: &Value| s["cloud"]["channelWorks"] == true;
            let status = stage.wait_status(LIMIT, "the next agent", heard).unwrap();
            println!("{}", status["enforcement"]);
            if code != Some(0)
                || stage.has_table().unwrap()
                || !text.contains("told to") && !text.contains("killed")
            {
                amiss.push(format!(
                    "turn {turn}: {code:?} {text}{errors} {}",
                    status["enforcement"]["phase"]
                ));
            }
        }
        said(&stage, &["history", "--verify"]);
        assert!(amiss.is_empty(), "{amiss:#?}");
    }
);

// Nothing was ordered: the agent that ends in order tells the guard to rest, and the nucleus holds the component for finished.
lab_test!(
    a_release_with_nothing_ordered_leaves_somebody_who_hears_the_cloud,
    || {
        let guarded = Guarded::start(Personality::Classic);
        heard_again(&guarded);
    }
);

lab_test!(a_release_of_an_order_leaves_somebody_who_hears_the_cloud, || {
    let guarded = Guarded::start(Personality::Classic);
    isolate(&guarded.stage);
    heard_again(&guarded);
});

lab_test!(a_successor_that_comes_while_a_release_asks_is_not_killed, || {
    let mut stage = ready(options());
    isolate(&stage);
    let first = stage.agent.take().unwrap();
    let earlier = stage.agent_output().len();
    let started = Instant::now();
    stage.start_agent().unwrap();
    let waits = || stage.agent_output()[earlier..].contains("another agent holds");
    wait_until(LIMIT, "the successor waits", waits).unwrap();
    let old = || started.elapsed() > Duration::from_secs(3);
    wait_until(LIMIT, "it was there before anybody asked", old).unwrap();
    let successor = stage.agent.as_ref().unwrap().pid();

    // The first one gives no sign of life, and the operator turns to something else while the release asks for one.
    super::guard::signal(first.pid(), Signal::SIGSTOP);
    let mut spec = SpawnSpec::new(stage.artifact(), stage.site.directory().join("release.log"));
    let (socket, state) = (stage.control_socket(), stage.state_directory());
    spec.args = OVERRIDE.map(Into::into).to_vec();
    spec.args.extend(["--control-socket".into(), socket.into()]);
    spec.args.extend(["--state-dir".into(), state.into()]);
    let mut asks = stage.site.spawn_with(Ns::Gateway, spec).unwrap();
    thread::sleep(Duration::from_millis(500));
    asks.signal(Signal::SIGSTOP).unwrap();
    super::guard::signal(first.pid(), Signal::SIGKILL);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    asks.signal(Signal::SIGCONT).unwrap();

    let ended = asks.wait_exit(LIMIT).unwrap();
    let text = std::fs::read_to_string(asks.log()).unwrap();
    assert!(ended.success(), "{ended}: {text}");
    assert!(!stage.has_table().unwrap());
    assert!(lives(successor), "killed though nobody had asked it: {text}");
    assert!(!done(&stage, &["history"]).contains("without an agent"));
});
