//! What is said around the way out is so.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns, wait_until};
use edgewarden_lab::stage::filter_hook::{BEFORE, FilterHook};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::guard::lives;
use super::way_out::{OVERRIDE, said};
use super::way_out_done::{command, unwritable};
use crate::common::agent::restart_as;
use crate::common::gateway::{ip, run};
use crate::common::{LIMIT, connected_and_released, done, isolate, options, order, ready};

/// Loads or ends a rule in `internet` that swallows everything to and from the broker, as a failed network would.
fn broker_unreachable(stage: &Stage) {
    let script = "add table inet outage; add chain inet outage in { type filter hook input priority 0; }; \
         add rule inet outage in iifname \"gw0\" tcp dport 8883 drop";
    run(stage, Ns::Internet, "/usr/sbin/nft", &[script]);
}

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
    assert!(!text.contains("orders are NOT heard"), "{text}");
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
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    hook.begin(BEFORE, "sleep 8").unwrap();
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

fn kernel(stage: &Stage) -> String {
    let (_, output, _) = said(stage, &["status", "--json"]);
    let status: Value = serde_json::from_str(&output).unwrap();
    status["kernel"].as_str().unwrap().to_owned()
}

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
    // The buckets of rates name interfaces too.
    let filters = |stage: &Stage| {
        let (_, rules, _) = stage.nft(&["list", "ruleset"]).unwrap();
        let mut devices = rules.lines().filter(|line| line.contains("devices"));
        devices.any(|line| line.contains("late0"))
    };
    let before = filters(&stage);
    stage.agent = None;
    stage.start_agent().unwrap();
    let works = |s: &Value| s["enforcement"]["phase"] == "enforced" && s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "enforced", works).unwrap();
    assert!(filters(&stage) && !before, "control: it is wanted");
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

/// A device whose agent is dead, and whose operator's order has ended since.
fn behind_an_ended_order() -> Stage {
    let mut stage = ready(options());
    done(
        &stage,
        &["quarantine", "--reason", "mine", "--expires-seconds", "4"],
    );
    stage.agent.as_mut().unwrap().kill9().unwrap();
    wait_until(LIMIT, "it has ended", || {
        said(&stage, &["orders"]).1.contains("no live order")
    })
    .unwrap();
    stage
}

// An answer that says what is not so.
lab_test!(
    an_order_that_ended_by_itself_is_not_said_to_be_of_an_agent_elsewhere,
    || {
        let stage = behind_an_ended_order();
        let (_, text, _) = said(&stage, &OVERRIDE);
        assert!(!stage.has_table().unwrap());
        said(&stage, &["history"]);
        assert!(!text.contains("knew nothing of the kernel's rules"), "{text}");
    }
);

// Q-104: an order that has ended by itself stays in the kernel while no agent runs, and is its operator's to take away.
lab_test!(
    an_operators_order_that_has_ended_is_released_without_an_agent,
    || {
        let stage = behind_an_ended_order();
        assert!(stage.has_table().unwrap(), "control: the kernel keeps its rules");
        let (code, text, errors) = said(&stage, &["release"]);
        assert_eq!(code, Some(0), "{text}{errors}");
        assert!(!stage.has_table().unwrap());
    }
);

// docs/cli.md: JSON is one form, whoever answers, and an empty list is what is known to be empty.
lab_test!(answers_without_an_agent_have_the_form_of_an_agents, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    for command in ["status", "orders", "plan"] {
        let (_, text, _) = said(&stage, &[command, "--json"]);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(text.trim(), value.to_string(), "by the alphabet");
        assert!(
            command != "orders" || value["rejected"].is_null(),
            "the journal has none of them: {text}"
        );
    }
});

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

fn note(stage: &Stage) -> Value {
    let lock = std::fs::read(stage.state_directory().join("lock")).unwrap();
    serde_json::from_slice(&lock).unwrap()
}

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
    let back = wait_until(Duration::from_secs(6), "closed again", || {
        stage.has_table().unwrap()
    });
    println!("exit {code:?} in {took:?}, closed again: {}", back.is_ok());
    assert!(!page.contains("not running"), "{page}");
});

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
    // Quotas that begin within one second have one name in the kernel.
    thread::sleep(Duration::from_millis(1_200));
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
    thread::sleep(Duration::from_secs(9));
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
        let (used, live) = used_without_an_agent(8);
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

// The same by deployment, where a nucleus merges.
lab_test!(
    a_new_order_by_deployment_behind_an_old_end_is_not_passed_over_in_silence,
    || {
        let mut stage = ready(options());
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(8);
        let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let wish = json!({"posture": "isolate", "id": "dep-1", "reason": "r", "expires": end});
        stage.deploy(&json!({ "quarantine": wish })).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        let next = json!({"posture": "isolate", "id": "dep-2", "reason": "again"});
        stage.deploy(&json!({ "quarantine": next })).unwrap();
        let taken = stage.wait_phase(Duration::from_secs(7), "enforced");
        let (_, page, _) = said(&stage, &["status"]);
        assert!(
            taken.is_ok() || page.contains("refused"),
            "neither obeyed nor refused: {page}"
        );
    }
);
