//! The way out, attacked a second time: what the mends of the first attack left open.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns, wait_until};
use edgewarden_lab::stage::nft_script::NftScript;
use edgewarden_lab::stage::preload::Hang;
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::guard::lives;
use super::way_out::{OVERRIDE, said};
use crate::common::agent::{restart, restart_as};
use crate::common::gateway::{ip, run};
use crate::common::{LIMIT, connected_and_released, done, isolate, options, order, ready};

/// The stage's command line, with the stage's places.
fn command(stage: &Stage, args: &[&str]) -> Command {
    let mut command = Command::new(stage.artifact());
    command
        .arg("--control-socket")
        .arg(stage.control_socket())
        .args(args)
        .arg("--state-dir")
        .arg(stage.state_directory());
    command
}

/// Whatever makes a write fail: a full disk, a file system that became read-only.
fn unwritable(stage: &Stage, name: &str) {
    let in_the_way = stage.state_directory().join(name);
    std::fs::create_dir(&in_the_way).unwrap();
    std::fs::write(in_the_way.join("x"), "").unwrap();
}

fn note(stage: &Stage) -> Value {
    let lock = std::fs::read(stage.state_directory().join("lock")).unwrap();
    serde_json::from_slice(&lock).unwrap()
}

fn kernel(stage: &Stage) -> String {
    let (_, output, _) = said(stage, &["status", "--json"]);
    let status: Value = serde_json::from_str(&output).unwrap();
    status["kernel"].as_str().unwrap().to_owned()
}

/// Loads or ends a rule in `internet` that swallows everything to and from the broker, as a failed network would.
fn broker_unreachable(stage: &Stage) {
    let script = "add table inet outage; add chain inet outage in { type filter hook input priority 0; }; \
         add rule inet outage in iifname \"gw0\" tcp dport 8883 drop";
    run(stage, Ns::Internet, "/usr/sbin/nft", &[script]);
}

// Q-104, false "done": the nft that a killed agent has started goes on without it.
lab_test!(
    a_load_that_outlives_its_killed_agent_does_not_close_the_device_again,
    || {
        let mut stage = ready(options());
        let slow = "if [ \"$1\" = -f ]; then echo >> \"$folder/begun\"; sleep 5; fi";
        let script = NftScript::start(&mut stage, slow).unwrap();
        connected_and_released(&stage);
        script.activate().unwrap();
        stage.desire(&json!({"quarantine": true})).unwrap();
        wait_until(LIMIT, "a load is under way", || script.written("begun").is_some()).unwrap();
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        let (code, ..) = said(&stage, &OVERRIDE);
        assert!(!stage.has_table().unwrap(), "control: open");
        let closed = wait_until(Duration::from_secs(12), "closed again", || {
            stage.has_table().unwrap()
        });
        said(&stage, &["status"]);
        assert!(
            closed.is_err() || code != Some(0),
            "exit {code:?}, and closed again by nobody's order"
        );
    }
);

// Q-105, a healthy agent is killed: the silence was its predecessor's, seconds ago.
lab_test!(
    a_silence_of_before_does_not_kill_the_agent_that_has_started_since,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        // As a listing of very many remotes takes on a small processor; the command's own nft, the agent's is quick.
        let script = NftScript::prepare(
            &stage,
            "if [ \"$1\" = -j ]; then echo >> \"$folder/listing\"; sleep 4; fi",
        )
        .unwrap();
        script.activate().unwrap();
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        let path = script.environment();
        let path = path.strip_prefix("PATH=").unwrap();
        let mut release = command(&stage, &OVERRIDE);
        release
            .env("PATH", path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let release = stage
            .site
            .run_in(Ns::Gateway, || release.spawn())
            .unwrap()
            .unwrap();
        wait_until(LIMIT, "it looks at the kernel", || {
            script.written("listing").is_some()
        })
        .unwrap();
        // Watchdog, nucleus or guard end the one that hangs, and start another.
        stage.agent = None;
        stage.start_agent().unwrap();
        let pid = stage.agent.as_ref().unwrap().pid();
        let well = |s: &Value| s["cloud"]["channelWorks"] == true;
        let is_well = stage.wait_status(Duration::from_secs(3), "it hears the cloud", well);
        let output = release.wait_with_output().unwrap();
        println!("{output:?} {:?}", is_well.is_ok());
        assert!(lives(pid), "a healthy agent was killed by a command");
    }
);

// Q-105, a healthy agent is killed: 32 places for a second each are no defence, only a larger number.
lab_test!(
    a_well_agent_with_very_many_silent_clients_is_not_killed_by_a_release,
    || {
        let stage = ready(options());
        isolate(&stage);
        let pid = stage.agent.as_ref().unwrap().pid();
        // A younger one is asked once more.
        thread::sleep(Duration::from_secs(3));
        let clients: Vec<UnixStream> = (0..120)
            .map(|_| UnixStream::connect(stage.control_socket()).unwrap())
            .collect();
        said(&stage, &OVERRIDE);
        drop(clients);
        assert!(lives(pid), "a healthy agent was killed by a command");
    }
);

// Q-104, Q-108: what a restart forgets is not done, whoever carried it out.
lab_test!(
    an_answered_release_that_is_not_on_disk_is_not_said_to_be_done,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        unwritable(&stage, "journal.new");
        let (code, ..) = said(&stage, &OVERRIDE);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        restart(&mut stage);
        let again = stage.wait_phase(Duration::from_secs(10), "enforced");
        assert!(
            again.is_err() || code != Some(0),
            "exit {code:?}, and isolated again"
        );
    }
);

// Q-108: the same with an order.
lab_test!(an_order_that_is_not_on_disk_is_not_said_to_be_done, || {
    let mut stage = ready(options());
    unwritable(&stage, "journal.new");
    let (code, ..) = said(&stage, &["quarantine", "--reason", "mine"]);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    restart(&mut stage);
    let heard = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "it is back", heard).unwrap();
    assert!(
        stage.has_table().unwrap() || code != Some(0),
        "exit {code:?}, and a boot has forgotten it"
    );
});

// Q-109: what is said to come next.
lab_test!(
    what_is_said_to_come_next_ends_with_the_order_that_wanted_it,
    || {
        let stage = ready(StageOptions {
            configuration: json!({"isolation": {"confirmSeconds": 10}}),
            ..options()
        });
        broker_unreachable(&stage);
        done(
            &stage,
            &["quarantine", "--reason", "too much", "--expires-seconds", "35"],
        );
        let gave_up = |s: &Value| s["enforcement"]["phase"] == "rolled-back";
        stage
            .wait_status(Duration::from_secs(34), "control: given up", gave_up)
            .unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        let page = done(&stage, &["status"]);
        println!("{page}");
        assert!(
            !page.contains("the rules are put back"),
            "nothing is ordered, and nobody puts anything back: {page}"
        );
    }
);

// Q-104: "is in the history", and what is not on disk is a failure.
lab_test!(
    a_release_without_an_agent_that_is_not_in_the_history_says_so,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let history = stage.state_directory().join("history");
        let kept = stage.site.directory().join("history.kept");
        std::fs::rename(&history, &kept).unwrap();
        unwritable(&stage, "history");
        let (code, text, errors) = said(&stage, &OVERRIDE);
        std::fs::remove_dir_all(&history).unwrap();
        std::fs::rename(&kept, &history).unwrap();
        let (_, records, _) = said(&stage, &["history"]);
        assert!(
            records.contains("by hand")
                || code != Some(0)
                || text.contains("history")
                || errors.contains("history"),
            "exit {code:?}: no record, and no word of that"
        );
    }
);

// Q-104, Q-108: the agent puts its rules back at once.
lab_test!(an_override_at_the_wrong_places_is_not_said_to_be_done, || {
    let stage = ready(options());
    isolate(&stage);
    let directory = stage.site.directory();
    let (elsewhere, nowhere) = (directory.join("elsewhere"), directory.join("nowhere.sock"));
    let mut args = OVERRIDE.to_vec();
    args.extend([
        "--state-dir",
        elsewhere.to_str().unwrap(),
        "--control-socket",
        nowhere.to_str().unwrap(),
    ]);
    let (code, ..) = said(&stage, &args);
    let lifted = |s: &Value| s["enforcement"]["reasserted"].as_u64() >= Some(1);
    let back = stage.wait_status(Duration::from_secs(8), "put back", lifted);
    println!("{:?}", back.is_ok());
    assert!(
        !stage.has_table().unwrap() || code != Some(0),
        "exit {code:?}, and the device is closed"
    );
});

// Q-108: the kernel keeps what the ended order wanted.
lab_test!(
    a_release_that_leaves_the_device_as_closed_as_before_is_not_said_to_be_done,
    || {
        let mut stage = ready(options());
        let wish = json!({"posture": "restrict", "id": "inc-1", "reason": "r",
        "limit": {"egressBytesPerSecond": 1_000_000}});
        order(&stage, &wish);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        let passes = |stage: &Stage| {
            let address = ATTACKER_V4;
            stage
                .site
                .udp_reaches(Ns::Gateway, Ns::Internet, address, 5001)
                .unwrap()
        };
        assert!(passes(&stage), "control: the cloud's order lets it through");
        done(&stage, &["quarantine", "--reason", "mine"]);
        assert!(!passes(&stage), "control: the operator's does not");
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let (code, ..) = said(&stage, &["release"]);
        said(&stage, &["status"]);
        assert!(
            passes(&stage) || code != Some(0),
            "exit {code:?}, and the operator's isolation is still in the kernel"
        );
    }
);

// Q-106: an agent that hears the cloud is not deaf because its socket cannot be made.
lab_test!(a_well_agent_without_a_socket_is_not_said_to_be_deaf, || {
    let stage = ready(options());
    let socket = stage.control_socket();
    std::fs::remove_file(&socket).unwrap();
    std::fs::create_dir(&socket).unwrap();
    std::fs::write(socket.join("x"), "").unwrap();
    thread::sleep(Duration::from_secs(3));
    let (_, text, _) = said(&stage, &["status"]);
    stage.desire(&json!({"quarantine": true})).unwrap();
    wait_until(LIMIT, "control: it hears the cloud", || {
        stage.has_table().unwrap()
    })
    .unwrap();
    let pid = stage.agent.as_ref().unwrap().pid();
    said(&stage, &OVERRIDE);
    println!("the agent lives: {}", lives(pid));
    assert!(!text.contains("orders are NOT heard"), "{text}");
});

/// Somebody who listens where the agent did and answers every question with a line.
fn stranger(stage: &Stage, line: &'static str) {
    use std::io::{BufRead as _, BufReader, Write as _};
    std::fs::remove_file(stage.control_socket()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(stage.control_socket()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = String::new();
            let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked);
            let _ = stream.write_all(line.as_bytes());
        }
    });
}

// Q-104: a stranger at the socket of an agent that hangs, and not of a dead one.
lab_test!(
    nonsense_at_the_socket_of_a_stopped_agent_does_not_take_away_the_way_out,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        stranger(&stage, "hello\n");
        let (code, ..) = said(&stage, &OVERRIDE);
        assert!(!stage.has_table().unwrap(), "exit {code:?}: no way out");
    }
);

// Q-104: the same, of one that refuses everything, or of another version.
lab_test!(
    a_refusal_at_the_socket_of_a_dead_agent_does_not_take_away_the_way_out,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        stranger(&stage, "{\"protocol\":1,\"error\":\"no\"}\n");
        let (code, ..) = said(&stage, &OVERRIDE);
        assert!(!stage.has_table().unwrap(), "exit {code:?}: no way out");
    }
);

// Q-104, false "done": an agent that has no lock (a disk that hung at its start, a directory that others could write to).
lab_test!(a_stopped_agent_without_the_lock_does_not_undo_a_release, || {
    let mut stage = ready(options());
    let state = stage.state_directory();
    let script = format!("chmod 0777 {}; exec \"$@\"", state.display());
    restart_as(&mut stage, "sh", &["-c", &script, "sh"]);
    let hears = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "control: it hears", hears).unwrap();
    stage.desire(&json!({"quarantine": true})).unwrap();
    let closed = |s: &Value| s["enforcement"]["posture"] == "isolate";
    stage.wait_status(LIMIT, "isolated", closed).unwrap();
    // As its status says that it should be done.
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
    said(&stage, &["status"]);
    let (code, text, errors) = said(&stage, &OVERRIDE);
    let pid = stage.agent.as_ref().unwrap().pid();
    println!("lives: {}", lives(pid));
    stage.agent.as_mut().unwrap().signal(Signal::SIGCONT).unwrap();
    let back = wait_until(Duration::from_secs(15), "closed again", || {
        stage.has_table().unwrap()
    });
    assert!(
        back.is_err() || code != Some(0),
        "exit {code:?}, {text}{errors}: and closed again"
    );
    assert!(
        !text.contains("no agent runs"),
        "one does, and its silence was heard: {text}"
    );
});

// docs/cli.md: the reason "is kept, shown and reported to the cloud".
lab_test!(the_reason_of_a_plain_release_is_kept, || {
    let mut stage = ready(options());
    done(&stage, &["quarantine", "--reason", "mine"]);
    done(&stage, &["release", "--reason", "false alarm 77"]);
    done(&stage, &["quarantine", "--reason", "mine"]);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    done(&stage, &["release", "--reason", "false alarm 78"]);
    let history = done(&stage, &["history"]);
    for reason in ["false alarm 77", "false alarm 78"] {
        assert!(history.contains(reason), "{reason}: {history}");
    }
});

// Q-106: what the kernel holds is what it holds, whatever the configuration on disk says.
lab_test!(rules_that_cut_are_not_said_to_only_count, || {
    let mut stage = ready(options());
    let slow = "if [ \"$1\" = -f ]; then echo >> \"$folder/begun\"; sleep 8; exit 1; fi";
    let script = NftScript::start(&mut stage, slow).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    script.activate().unwrap();
    stage.deploy(&json!({"mode": "observe"})).unwrap();
    let kept = stage.state_directory().join("configuration.json");
    wait_until(LIMIT, "the configuration is kept", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"mode\":\"observe\""))
    })
    .unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let passes = stage
        .site
        .udp_reaches(Ns::Gateway, Ns::Internet, ATTACKER_V4, 5001)
        .unwrap();
    assert!(!passes, "control: it is cut");
    // The stage's configuration has keys for laboratories.
    let mut status = command(&stage, &["status"]);
    status.env("EDGEWARDEN_DEVELOPMENT", "1");
    let output = stage
        .site
        .run_in(Ns::Gateway, || status.output())
        .unwrap()
        .unwrap();
    let page = String::from_utf8_lossy(&output.stdout);
    assert!(!page.contains("nothing is cut"), "{page}");
});

// Q-106: what is wanted includes every interface.
lab_test!(an_interface_that_came_since_is_not_said_to_be_held, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    assert!(kernel(&stage).starts_with("holds what is wanted"), "control");
    ip(
        &stage,
        "link add late0 type veth peer name late1
            link set late0 up
            link set late1 up",
    );
    let text = kernel(&stage);
    let (_, before, _) = stage.nft(&["list", "ruleset"]).unwrap();
    stage.agent = None;
    stage.start_agent().unwrap();
    let works = |s: &Value| s["enforcement"]["phase"] == "enforced" && s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "enforced", works).unwrap();
    let (_, after, _) = stage.nft(&["list", "ruleset"]).unwrap();
    assert!(
        after.contains("late0") && !before.contains("late0"),
        "control: it is wanted"
    );
    assert!(!text.starts_with("holds what is wanted"), "{text}");
});

// Q-110: what is in force, and not what was kept last.
lab_test!(
    what_stays_in_force_is_told_also_where_it_could_not_be_kept,
    || {
        let mut stage = ready(options());
        let kept = stage.state_directory().join("configuration.json");
        stage
            .deploy(&json!({"isolation": {"confirmSeconds": 77}}))
            .unwrap();
        wait_until(LIMIT, "control: taken and kept", || {
            std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("77"))
        })
        .unwrap();
        unwritable(&stage, "configuration.new");
        stage
            .deploy(&json!({"isolation": {"confirmSeconds": 88}}))
            .unwrap();
        wait_until(LIMIT, "it is in force, and not kept", || {
            std::fs::read_to_string(stage.agent_log())
                .is_ok_and(|log| log.contains("the next start begins with the configuration before"))
        })
        .unwrap();
        stage
            .deploy(&json!({"isolation": {"confirmSeconds": "soon"}}))
            .unwrap();
        let told = |s: &Value| !s["configuration"]["faults"].as_array().unwrap().is_empty();
        let status = stage.wait_status(LIMIT, "refused", told).unwrap();
        assert_eq!(status["configuration"]["inForce"], json!(["88"]), "{status}");
    }
);

// An answer that says what is not so.
lab_test!(
    an_order_that_ended_by_itself_is_not_said_to_be_of_an_agent_elsewhere,
    || {
        let mut stage = ready(options());
        done(
            &stage,
            &["quarantine", "--reason", "mine", "--expires-seconds", "4"],
        );
        stage.agent.as_mut().unwrap().kill9().unwrap();
        wait_until(LIMIT, "it has ended", || {
            done_or_not(&stage, &["orders"]).contains("no live order")
        })
        .unwrap();
        let (_, text, _) = said(&stage, &OVERRIDE);
        assert!(!stage.has_table().unwrap());
        said(&stage, &["history"]);
        assert!(!text.contains("knew nothing of the kernel's rules"), "{text}");
    }
);

fn done_or_not(stage: &Stage, args: &[&str]) -> String {
    said(stage, args).1
}

// What the agent spares the plan spares too, also where no agent answers.
lab_test!(a_plan_without_an_agent_does_not_stop_the_nucleus, || {
    let mut stage = Stage::start(options()).unwrap();
    let parent = stage.site.directory().join("opt/way-nucleus");
    std::fs::create_dir_all(parent.parent().unwrap()).unwrap();
    std::fs::copy("/bin/sh", &parent).unwrap();
    let wrapper = ["-c", "\"$@\"; sleep 60; true", "x"];
    stage.start_agent_as(&parent, &wrapper).unwrap();
    connected_and_released(&stage);
    let rules = json!([{"match": {"exe": "*/opt/way-nucleus"}, "action": "freeze"}]);
    let wish = json!({"posture": "isolate", "id": "inc-1", "reason": "r", "processes": rules});
    order(&stage, &wish);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    let (_, with, _) = said(&stage, &["plan", "--json"]);
    let agent = nix::unistd::Pid::from_raw(i32::try_from(note(&stage)["pid"].as_i64().unwrap()).unwrap());
    nix::sys::signal::kill(agent, Signal::SIGKILL).unwrap();
    wait_until(LIMIT, "it is gone", || !lives(agent.as_raw().cast_unsigned())).unwrap();
    let (_, without, _) = said(&stage, &["plan", "--json"]);
    let of = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let (with, without) = (of(&with), of(&without));
    assert_eq!(
        without["plan"]["processes"], with["plan"]["processes"],
        "{without}"
    );
});

/// Whoever opens the journal waits: a disk that is not read from any more.
const HANGING_JOURNAL: &str = r#"
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
int open64(const char *path, int flags, ...) {
    va_list all;
    va_start(all, flags);
    int mode = va_arg(all, int);
    va_end(all);
    size_t length = strlen(path);
    if (length > 8 && strcmp(path + length - 8, "/journal") == 0) wait_here();
    return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64"))(path, flags, mode);
}
"#;

// Q-104: the disk is why the agent is dead.
lab_test!(a_journal_that_is_not_read_does_not_hold_the_way_out_up, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let hang = Hang::prepare(&stage, HANGING_JOURNAL).unwrap();
    hang.begin().unwrap();
    let timed = |args: &[&str]| {
        let mut command = command(&stage, args);
        for variable in hang.environment() {
            let (name, value) = variable.split_once('=').unwrap();
            command.env(name, value);
        }
        let begun = Instant::now();
        let mut running = stage
            .site
            .run_in(Ns::Gateway, || command.spawn())
            .unwrap()
            .unwrap();
        let ended = wait_until(Duration::from_secs(30), "it ends", || {
            running.try_wait().unwrap().is_some()
        });
        println!("{args:?} in {:?}: {ended:?}", begun.elapsed());
        let _ended = running.kill();
        let _ended = running.wait();
        ended.is_ok()
    };
    let (status, release) = (timed(&["status"]), timed(&OVERRIDE));
    println!("open: {}", !stage.has_table().unwrap());
    assert!(status && release, "status {status}, release {release}");
});

// Q-104: eight questions may wait, and thirty-two are taken at once.
lab_test!(
    many_questions_at_once_do_not_make_the_agent_refuse_a_release,
    || {
        use std::io::{Read as _, Write as _};
        use std::sync::atomic::{AtomicBool, Ordering};
        let stage = ready(options());
        let over = AtomicBool::new(false);
        let socket = stage.control_socket();
        let mut refused = Vec::new();
        thread::scope(|scope| {
            let ask = || {
                let mut seen = 0;
                while !over.load(Ordering::Relaxed) {
                    let mut all: Vec<UnixStream> = (0..24)
                        .filter_map(|_| UnixStream::connect(&socket).ok())
                        .collect();
                    for one in &mut all {
                        let _ = one.write_all(b"{\"protocol\":1,\"command\":\"status\"}\n");
                    }
                    for one in &mut all {
                        let mut text = String::new();
                        let _ = one.read_to_string(&mut text);
                        if text.contains("\"error\"") {
                            seen += 1;
                            if seen == 1 {
                                println!("a status: {text}");
                            }
                        }
                    }
                }
                println!("refused: {seen}");
            };
            scope.spawn(ask);
            for _ in 0..30 {
                let (code, text, errors) = said(&stage, &OVERRIDE);
                if code != Some(0) {
                    refused.push(format!("{code:?} {text}{errors}"));
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(refused.is_empty(), "{refused:#?}");
    }
);

// Q-104, false "done": in a panic people remove lock files.
lab_test!(
    a_stopped_agent_whose_lock_file_was_removed_does_not_undo_a_release,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        std::fs::remove_file(stage.state_directory().join("lock")).unwrap();
        let (code, text, errors) = said(&stage, &OVERRIDE);
        println!("lives: {}", lives(stage.agent.as_ref().unwrap().pid()));
        stage.agent.as_mut().unwrap().signal(Signal::SIGCONT).unwrap();
        let back = wait_until(Duration::from_secs(15), "closed again", || {
            stage.has_table().unwrap()
        });
        said(&stage, &["history", "--verify"]);
        assert!(
            back.is_err() || code != Some(0),
            "exit {code:?}, {text}{errors}: and closed again"
        );
    }
);

// Q-109: the page and the error of one command.
lab_test!(
    a_status_does_not_say_of_a_hanging_agent_that_it_does_not_run,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        std::fs::remove_file(stage.state_directory().join("lock")).unwrap();
        let (_, page, errors) = said(&stage, &["status"]);
        assert!(errors.contains("it is stopped, or it hangs"), "control: {errors}");
        assert!(!page.contains("not running"), "{page}{errors}");
    }
);

// An uninstall that is done leaves no agent that obeys the cloud, without the program that ends an order.
lab_test!(
    an_uninstall_beside_a_well_agent_without_the_lock_is_refused,
    || {
        let mut stage = ready(options());
        std::fs::remove_file(stage.state_directory().join("lock")).unwrap();
        let (code, text, _) = said(&stage, &["uninstall"]);
        assert!(stage.agent.as_mut().unwrap().is_running());
        stage.desire(&json!({"quarantine": true})).unwrap();
        let closed = wait_until(LIMIT, "closed", || stage.has_table().unwrap());
        println!("closed: {closed:?}, state: {}", stage.state_directory().exists());
        assert_ne!(code, Some(0), "{text}: and the agent goes on");
    }
);

// Q-105: an agent in a container, whose number there is another one.
lab_test!(a_stopped_agent_of_a_container_is_not_said_not_to_run, || {
    let mut stage = ready(options());
    restart_as(
        &mut stage,
        "unshare",
        &["--pid", "--fork", "--kill-child", "--mount-proc"],
    );
    connected_and_released(&stage);
    isolate(&stage);
    let child = std::fs::read_to_string("/proc/locks").unwrap();
    println!("{child}");
    let outer = stage.agent.as_ref().unwrap().pid();
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let agent: u32 = children.trim().parse().unwrap();
    super::guard::signal(agent, Signal::SIGSTOP);
    let (_, page, _) = said(&stage, &["status"]);
    let begun = Instant::now();
    let (code, ..) = said(&stage, &OVERRIDE);
    let took = begun.elapsed();
    super::guard::signal(agent, Signal::SIGCONT);
    let back = wait_until(Duration::from_secs(15), "closed again", || {
        stage.has_table().unwrap()
    });
    println!("exit {code:?} in {took:?}, closed again: {}", back.is_ok());
    assert!(!page.contains("not running"), "{page}");
});

// Held: whoever kills the command in the middle leaves a device that the next one opens.
lab_test!(a_release_that_is_killed_at_any_moment_leaves_the_way_out, || {
    let mut stage = ready(options());
    for turn in 0..12_u64 {
        let wish = json!({"id": format!("inc-{turn}"), "posture": "isolate"});
        stage.desire(&json!({"quarantine": wish})).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let mut release = command(&stage, &OVERRIDE);
        let mut running = stage
            .site
            .run_in(Ns::Gateway, || release.spawn())
            .unwrap()
            .unwrap();
        thread::sleep(Duration::from_millis(turn * 5));
        let _gone = running.kill();
        let _gone = running.wait();
        let between = stage.has_table().unwrap();
        let (code, text, errors) = said(&stage, &OVERRIDE);
        assert!(
            code == Some(0) && !stage.has_table().unwrap(),
            "turn {turn}, closed between: {between}: {text}{errors}"
        );
        let (verified, ..) = said(&stage, &["history", "--verify"]);
        assert_eq!(verified, Some(0));
        stage.agent = None;
        stage.start_agent().unwrap();
        let heard = |s: &Value| s["cloud"]["channelWorks"] == true;
        let status = stage.wait_status(LIMIT, "connected", heard).unwrap();
        assert_eq!(
            status["enforcement"]["phase"], "released",
            "turn {turn}: {status}"
        );
    }
});

// A wrong --state-dir takes nothing from an agent that is well.
lab_test!(
    an_uninstall_with_the_wrong_state_directory_leaves_a_well_agent_alone,
    || {
        let stage = ready(options());
        let elsewhere = stage.site.directory().join("elsewhere");
        let (code, text, _) = said(&stage, &["uninstall", "--state-dir", elsewhere.to_str().unwrap()]);
        let socket = stage.control_socket();
        println!("socket: {}", socket.exists());
        assert!(
            code != Some(0) && socket.exists(),
            "exit {code:?}: {text}, and the agent goes on without its socket"
        );
    }
);

// Whoever is not root is told that, and not that no agent runs.
lab_test!(whoever_is_not_root_is_told_that, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    std::fs::remove_file(stage.control_socket()).unwrap();
    let path = stage.site.directory();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    for args in [&OVERRIDE[..], &["status"], &["uninstall"], &["history"]] {
        let inner = command(&stage, args);
        let mut outer = Command::new("setpriv");
        outer
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
            .arg(inner.get_program())
            .args(inner.get_args());
        let output = stage
            .site
            .run_in(Ns::Gateway, || outer.output())
            .unwrap()
            .unwrap();
        println!("{args:?}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && (text.contains("root") || text.contains("ermission")),
            "{args:?}: {text}"
        );
    }
});

// Q-104, false "done": the operator's shell is in another network namespace, as where sshd has one for management.
lab_test!(
    a_release_from_another_network_namespace_is_not_said_to_be_done,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        let told = |args: &[&str]| {
            let mut command = command(&stage, args);
            let output = stage.site.run_in(Ns::Lan, || command.output()).unwrap().unwrap();
            println!("{args:?}: {output:?}");
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        };
        let (_, page) = told(&["status"]);
        let (code, text) = told(&OVERRIDE);
        assert!(
            !stage.has_table().unwrap() || code != Some(0),
            "exit {code:?}, {text}: and the gateway is as closed as before"
        );
        assert!(!page.contains("nothing is cut"), "{page}");
    }
);

// Held: what a deployment ordered stays ended, as what the shadow did.
lab_test!(
    a_deployments_order_stays_ended_after_a_release_without_an_agent,
    || {
        let mut stage = ready(options());
        let wish = json!({"posture": "isolate", "id": "dep-1", "reason": "r"});
        stage.deploy(&json!({ "quarantine": wish })).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.agent.as_mut().unwrap().kill9().unwrap();
        done(&stage, &OVERRIDE);
        stage.agent = None;
        stage.start_agent().unwrap();
        let heard =
            |s: &Value| s["cloud"]["channelWorks"] == true && s["configuration"]["source"] == "nucleus";
        stage.wait_status(LIMIT, "connected", heard).unwrap();
        // A configuration counts after two seconds.
        thread::sleep(Duration::from_secs(4));
        let status = stage.status();
        assert_eq!(status["enforcement"]["phase"], "released", "{status}");
        assert!(!stage.has_table().unwrap());
    }
);

// Q-110: the service merges objects, and an end that has passed is left behind as any other key is.
lab_test!(
    a_new_order_behind_an_old_end_is_not_passed_over_in_silence,
    || {
        let stage = ready(options());
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5);
        let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let wish = json!({"posture": "isolate", "id": "inc-1", "reason": "r", "expires": end});
        stage.desire(&json!({ "quarantine": wish })).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        let next = json!({"posture": "isolate", "id": "inc-2", "reason": "again"});
        stage.desire(&json!({ "quarantine": next })).unwrap();
        let taken = stage.wait_phase(Duration::from_secs(8), "enforced");
        let (_, page, _) = said(&stage, &["status"]);
        println!("{}", stage.shadow());
        said(&stage, &["history"]);
        assert!(
            taken.is_ok()
                || page.contains("refused")
                || page.contains(&end[..10]) && page.contains("has passed"),
            "neither obeyed nor refused: {page}"
        );
    }
);

/// No thread is to be had: a fork bomb, a machine whose numbers are used up.
const NO_THREADS: &str = r#"
#include <errno.h>
#include <pthread.h>
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*begin)(void *), void *with) {
    return EAGAIN;
}
"#;

// Q-104: on a machine under attack there may be no thread, and an agent that is well answers all the same.
lab_test!(a_release_needs_no_thread_to_ask_an_agent_that_is_well, || {
    let stage = ready(options());
    isolate(&stage);
    let none = Hang::prepare(&stage, NO_THREADS).unwrap();
    let mut release = command(&stage, &OVERRIDE);
    let [preload, _] = none.environment();
    let (name, value) = preload.split_once('=').unwrap();
    release.env(name, value);
    let output = stage
        .site
        .run_in(Ns::Gateway, || release.output())
        .unwrap()
        .unwrap();
    println!("{output:?}");
    assert!(!stage.has_table().unwrap(), "{:?}", output.status);
});

/// Bytes that the operator's quota is said to have used, of what was sent while no agent ran and another order stood before it.
fn used_without_an_agent(other_lasts: i64) -> (u64, u64) {
    use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
    let mut stage = ready(options());
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(other_lasts);
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let other = json!({"posture": "restrict", "id": "inc-1", "reason": "r", "expires": end,
        "limit": {"quotaBytes": 10_000_000, "quotaPeriodSeconds": 3600}});
    stage.desire(&json!({ "quarantine": other })).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    let own = json!({"posture": "restrict", "id": "mine", "reason": "r",
        "limit": {"quotaBytes": 2_000_000, "quotaPeriodSeconds": 3600}});
    let file = stage.site.directory().join("order.json");
    std::fs::write(&file, own.to_string()).unwrap();
    done(&stage, &["quarantine", "--order", file.to_str().unwrap()]);
    let quotas = |s: &Value| s["enforcement"]["quotas"].as_array().map(Vec::len) == Some(2);
    stage.wait_status(LIMIT, "control: two quotas", quotas).unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let sender = stage
        .site
        .run_in(Ns::Gateway, || UdpSocket::bind(any).unwrap())
        .unwrap();
    for _ in 0..600 {
        let _ = sender.send_to(&[b'q'; 1_000], SocketAddr::new(ATTACKER_V4, 5001));
    }
    let (_, listing, _) = stage.nft(&["list", "quotas"]).unwrap();
    println!("{listing}");
    thread::sleep(Duration::from_secs(8));
    stage.agent = None;
    stage.start_agent().unwrap();
    let counted = |s: &Value| {
        s["cloud"]["channelWorks"] == true
            && s["enforcement"]["quotas"]
                .as_array()
                .is_some_and(|all| !all.is_empty())
    };
    let status = stage.wait_status(LIMIT, "counted", counted).unwrap();
    println!("{}", status["enforcement"]["quotas"]);
    let all = status["enforcement"]["quotas"].as_array().unwrap();
    let own = all
        .iter()
        .find(|quota| quota["order"] == "operator:mine")
        .unwrap();
    (own["used"].as_u64().unwrap(), all.len() as u64)
}

// Q-111: what a quota has used while no agent ran is not given anew because another order has ended meanwhile.
lab_test!(
    a_quota_goes_on_where_it_was_although_an_order_before_it_has_ended,
    || {
        let (used, live) = used_without_an_agent(6);
        assert_eq!(live, 1, "control: the other order has ended");
        assert!(
            used >= 600_000,
            "600 kB were sent, {used} bytes are said to be used"
        );
    }
);

// Held: the same without such an end.
lab_test!(a_quota_goes_on_where_it_was_while_no_agent_ran, || {
    let (used, live) = used_without_an_agent(600);
    assert_eq!(live, 2, "control: both are live");
    assert!(
        used >= 600_000,
        "600 kB were sent, {used} bytes are said to be used"
    );
});
