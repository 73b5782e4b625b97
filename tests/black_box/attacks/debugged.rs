//! Whom a debugger holds when an order comes, or when it ends: above one that the order names.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::above::{A_MOMENT, ALL_RUN, ALL_STOPPED, Chain, SUPERVISES, freeze};
use super::disguised::wait_name;
use super::processes::{order_processes, order_rules, release, signal};
use super::stopped::child_of;
use crate::common::agent::restart;
use crate::common::programs::{build, run, state_of};
use crate::common::told::shown;
use crate::common::{LIMIT, done, options, ready};

/// Holds that process until it ends; with another word also one that runs.
pub(super) const HOLDS: &str = r"
#include <stdlib.h>
#include <sys/ptrace.h>
#include <unistd.h>
int main(int count, char **words) {
    if (ptrace(PTRACE_SEIZE, atoi(words[1]), 0, 0)) return 1;
    if (count > 2 && ptrace(PTRACE_INTERRUPT, atoi(words[1]), 0, 0)) return 1;
    for (;;) pause();
}
";

lab_test!(
    whoever_is_held_by_a_debugger_at_the_release_goes_on_after_it,
    || {
        let stage = ready(options());
        let chain = Chain::start(&stage, "zq-debugged");
        freeze(&stage, &chain, "zq-debugged", ALL_STOPPED);
        let program = build(&stage, "zq-debugger", HOLDS);
        let pid = chain.outer.pid().to_string();
        let mut debugger = run(&stage, &program, &[&pid]);
        chain.wait(["t", "T", "T"]);
        release(&stage);
        chain.wait(["t", "SR", "SR"]);
        // The agent looks for nobody any more.
        std::thread::sleep(Duration::from_secs(6));
        chain.wait(["t", "SR", "SR"]);
        debugger.kill9().unwrap();
        chain.wait(ALL_RUN);
        chain.ends();
    }
);

lab_test!(
    whom_his_owner_had_stopped_and_a_debugger_holds_above_another_one_stays_so,
    || {
        let stage = ready(options());
        let supervises = build(&stage, "zq-held-above", SUPERVISES);
        let holds = build(&stage, "zq-holding", HOLDS);
        for (name, action) in [("zq-held-kill", "kill"), ("zq-held-freeze", "freeze")] {
            let supervisor = run(&stage, &supervises, &[name]);
            let pid = supervisor.pid();
            let child = child_of(pid);
            wait_name(child, name);
            signal(pid, Signal::SIGSTOP);
            wait_until(LIMIT, "it stops", || state_of(pid) == Some('T')).unwrap();
            let mut debugger = run(&stage, &holds, &[&pid.to_string()]);
            wait_until(LIMIT, "it is held", || state_of(pid) == Some('t')).unwrap();
            order_processes(&stage, &json!({"name": name}), action);
            let wanted = if action == "kill" { 'Z' } else { 'T' };
            wait_until(LIMIT, action, || state_of(child) == Some(wanted)).unwrap();
            release(&stage);
            std::thread::sleep(A_MOMENT);
            debugger.kill9().unwrap();
            let stopped = wait_until(LIMIT, "it is stopped", || state_of(pid) == Some('T'));
            assert!(stopped.is_ok(), "{action}: it runs");
            let runs = wait_until(Duration::from_secs(3), "it runs", || state_of(pid) != Some('T'));
            assert!(runs.is_err(), "{action}: nobody but its owner has stopped it");
            signal(pid, Signal::SIGCONT);
            wait_until(LIMIT, "its owner lets it go on", || state_of(pid) == Some('S')).unwrap();
        }
    }
);

/// The agent is gone, and the command line lets everybody go.
fn uninstall(stage: &mut Stage) {
    stage.agent.as_mut().unwrap().kill9().unwrap();
    done(stage, &["uninstall", "--release", "--reason", "gone", "--purge"]);
}

lab_test!(
    whoever_a_debugger_held_at_the_order_and_who_stops_after_it_goes_on_after_the_release,
    || {
        let mut stage = ready(options());
        let holds = build(&stage, "zq-lets-go", HOLDS);
        for by in ["the agent", "the next one", "uninstall without one"] {
            let chain = Chain::start(&stage, "zq-held-then");
            let words = [chain.inner.to_string(), "also one that runs".to_owned()];
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut debugger = run(&stage, &holds, &words);
            chain.wait(["SR", "t", "SR"]);
            order_processes(&stage, &json!({"name": "zq-held-then"}), "freeze");
            chain.wait(["SR", "t", "T"]);
            debugger.kill9().unwrap();
            chain.wait(ALL_STOPPED);
            match by {
                "the agent" => release(&stage),
                // What the journal says is enough.
                "the next one" => {
                    restart(&mut stage);
                    release(&stage);
                }
                _ => uninstall(&mut stage),
            }
            chain.wait(ALL_RUN);
            chain.ends();
        }
    }
);

lab_test!(
    whom_a_debugger_held_and_an_order_names_too_goes_on_after_the_release_if_he_stops_after_it,
    || {
        let mut stage = ready(options());
        let holds = build(&stage, "zq-lets-go-too", HOLDS);
        for has_agent in [true, false] {
            let chain = Chain::start(&stage, "zq-named-too");
            let words = [chain.outer.pid().to_string(), "also one that runs".to_owned()];
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut debugger = run(&stage, &holds, &words);
            chain.wait(["t", "SR", "SR"]);
            let by_name = |name: &str| (json!({ "name": name }), "freeze");
            order_rules(&stage, &[by_name("zq-named-too"), by_name("zq-outer")]);
            chain.wait(["t", "T", "T"]);
            let frozen = |s: &Value| shown(s, chain.outer.pid())["action"] == "freeze";
            let status = stage.wait_status(LIMIT, "he is named", frozen).unwrap();
            assert_eq!(
                shown(&status, chain.outer.pid())["stoppedBefore"],
                true,
                "{status}"
            );
            debugger.kill9().unwrap();
            chain.wait(ALL_STOPPED);
            if has_agent {
                release(&stage);
            } else {
                uninstall(&mut stage);
            }
            chain.wait(ALL_RUN);
            chain.ends();
        }
    }
);
