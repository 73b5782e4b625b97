//! The nucleus as the parent of its component: environment, restarts, authentication by name.

use std::path::Path;

use edgewarden_lab::nucleus::read_component_env;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::bench::{Bench, Ipc, LIMIT, eventually};

fn component(script: &str) -> impl FnOnce(&Path) {
    let script = script.to_owned();
    move |folder| std::fs::write(folder.join("artifacts/component.sh"), script).unwrap()
}

#[test]
fn the_component_runs_as_the_recipe_says_and_ends_with_the_nucleus() {
    let script = "env > seen.env; pwd >> seen.env; echo args $1 $2 >> seen.env; echo done > ready; \
        echo to-log; exec sleep 1000";
    let mut bench = Bench::start_with("lite", &["--launch", "--set-env", "EXTRA=1"], component(script));
    let started = bench
        .nucleus
        .find_event(LIMIT, |event| event["state"] == "started")
        .unwrap();
    let work = bench.root().join("work/com.example.C");
    eventually("the component is ready", || work.join("ready").exists());
    let seen = std::fs::read_to_string(work.join("seen.env")).unwrap();
    let written = read_component_env(&bench.root()).unwrap();
    for name in [
        "SVCUID",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT",
        "AWS_IOT_THING_NAME",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "GGC_VERSION",
        "EXTRA",
    ] {
        assert!(
            seen.contains(&format!("{name}={}\n", written[name])),
            "{name} in\n{seen}"
        );
    }
    let work = work.canonicalize().unwrap();
    assert!(
        seen.contains(&format!("\n{}\nargs 300 {}\n", work.display(), work.display())),
        "{seen}"
    );
    let log = bench.root().join("logs/com.example.C.log");
    eventually("its output is in the log", || {
        std::fs::read_to_string(&log).unwrap().contains("to-log")
    });
    bench.nucleus.terminate().unwrap();
    assert!(bench.nucleus.wait_exit(LIMIT).unwrap().success());
    let process = format!("/proc/{}", started["pid"]);
    assert!(!Path::new(&process).exists(), "the component ended first");
}

#[test]
fn three_starts_an_hour_and_then_it_is_broken() {
    let bench = Bench::start_with("classic", &["--launch"], component("exit 3"));
    bench
        .nucleus
        .find_event(LIMIT, |event| event["state"] == "broken")
        .unwrap();
    let of = |state: &str| {
        let events = bench.nucleus.events();
        events
            .into_iter()
            .filter(|event| event["state"] == state)
            .collect::<Vec<_>>()
    };
    assert_eq!((of("started").len(), of("exited").len()), (3, 3));
    assert!(
        of("exited")
            .iter()
            .all(|exit| exit["code"] == 3 && exit["signal"].is_null())
    );
}

/// The bench's recipe with an install step before its run step.
fn installing(install: &str, run: &str) -> impl FnOnce(&Path) {
    let (install, run) = (install.to_owned(), component(run));
    move |folder| {
        run(folder);
        let path = folder.join("recipe.yaml");
        let recipe = std::fs::read_to_string(&path).unwrap();
        let step = format!("    Lifecycle:\n      install: {{Script: \"{install}\"}}\n");
        let changed = recipe.replace("    Lifecycle:\n", &step);
        assert_ne!(changed, recipe, "the recipe has a lifecycle");
        std::fs::write(path, changed).unwrap();
    }
}

fn states(bench: &Bench) -> Vec<String> {
    let events = bench.nucleus.events();
    let of_component = events.iter().filter(|event| event["event"] == "component");
    of_component
        .filter_map(|event| event["state"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn the_install_step_comes_before_the_run_on_classic_at_every_start_of_the_nucleus() {
    for (personality, again) in [
        ("classic", ["exited", "installed", "started"].as_slice()),
        ("lite", &["exited", "started"]),
    ] {
        installed_and_started(personality, again);
    }
}

/// `again` is what the component does when the nucleus starts a second time.
fn installed_and_started(personality: &str, again: &[&str]) {
    let mut bench = Bench::start_with(
        personality,
        &["--launch"],
        installing("echo again >> installed", "exec sleep 1000"),
    );
    let installed = bench.root().join("work/com.example.C/installed");
    let times = || {
        std::fs::read_to_string(&installed)
            .unwrap_or_default()
            .lines()
            .count()
    };
    eventually("the component is started", || {
        states(&bench).contains(&"started".into())
    });
    assert_eq!(states(&bench), ["installed", "started"]);
    assert_eq!(times(), 1);

    bench.nucleus.terminate().unwrap();
    bench.nucleus.wait_exit(LIMIT).unwrap();
    bench.nucleus.restart().unwrap();
    eventually("the component is started again", || {
        states(&bench).len() >= 2 + again.len()
    });
    assert_eq!(states(&bench)[2..], *again);
    assert_eq!(times(), again.len() - 1);
}

#[test]
fn an_install_step_that_fails_is_tried_again_and_then_the_component_is_broken() {
    let flaky = "test -e once || { touch once; exit 7; }";
    let bench = Bench::start_with("lite", &["--launch"], installing(flaky, "exec sleep 1000"));
    eventually("the component is started", || {
        states(&bench).contains(&"started".into())
    });
    assert_eq!(states(&bench), ["installFailed", "installed", "started"]);

    let bench = Bench::start_with("lite", &["--launch"], installing("exit 7", "exec sleep 1000"));
    eventually("it is given up", || states(&bench).contains(&"broken".into()));
    assert_eq!(
        states(&bench),
        ["installFailed", "installFailed", "installFailed", "broken"]
    );
    assert!(bench.nucleus.events().iter().any(|event| event["code"] == 7));
}

#[test]
fn a_component_that_finishes_is_not_started_again() {
    let bench = Bench::start_with("lite", &["--launch"], component("exit 0"));
    let exited = bench
        .nucleus
        .find_event(LIMIT, |event| event["state"] == "exited")
        .unwrap();
    assert_eq!(exited["code"], 0);
    bench
        .ipc()
        .call("UpdateState", &json!({ "state": "RUNNING" }))
        .unwrap();
    bench
        .nucleus
        .find_event(LIMIT, |event| event["state"] == "RUNNING")
        .unwrap();
    let starts = bench
        .nucleus
        .events()
        .iter()
        .filter(|event| event["state"] == "started")
        .count();
    assert_eq!(starts, 1);
    let wrong = bench
        .ipc()
        .call("UpdateState", &json!({ "state": "FINE" }))
        .unwrap_err();
    assert_eq!(wrong["_errorCode"], "InvalidArgumentsError");
}

#[test]
fn a_restarted_ipc_server_forgets_tokens_and_connections() {
    let mut bench = Bench::start("lite", &[]);
    let old = bench.token();
    let mut ipc = bench.ipc();
    bench.nucleus.signal(Signal::SIGUSR1).unwrap();
    bench
        .nucleus
        .wait_event(LIMIT, |event| event["event"] == "restarted")
        .unwrap();
    assert!(ipc.read().is_none(), "connections end");
    assert!(
        bench
            .dial()
            .hello(&json!({ "authToken": old }), "0.1.0")
            .is_none(),
        "the old token is dead"
    );
    assert!(bench.ipc().get(&["interval"]).is_ok(), "the new one works");
}

/// The component is this very test program, asked for the one test that plays it.
#[test]
fn only_the_component_may_authenticate_by_name() {
    let own = std::env::current_exe().unwrap();
    let played = edgewarden_lab::test_name!(played_component);
    let script = format!("exec {} --exact {played} --nocapture", own.display());
    let bench = Bench::start_with(
        "lite",
        &["--launch", "--set-env", "EDGEWARDEN_PLAYED=1"],
        component(&script),
    );
    let result = bench.root().join("work/com.example.C/result");
    eventually("the component has its answer", || result.exists());
    assert_eq!(
        std::fs::read_to_string(&result).unwrap(),
        bench.token(),
        "the acknowledgement has the token"
    );
    let outsider = bench
        .dial()
        .hello(&json!({ "componentName": "com.example.C" }), "0.1.0");
    assert!(outsider.is_none());
}

#[test]
fn played_component() {
    if std::env::var_os("EDGEWARDEN_PLAYED").is_none() {
        return;
    }
    let socket = std::env::var_os("AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT").unwrap();
    let mut ipc = Ipc::dial(Path::new(&socket));
    let ack = ipc
        .hello(&json!({ "componentName": "com.example.C" }), "0.1.0")
        .expect("accepted");
    std::fs::write("result.partial", ack.svcuid.unwrap()).unwrap();
    std::fs::rename("result.partial", "result").unwrap();
}
