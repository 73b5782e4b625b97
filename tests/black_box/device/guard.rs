//! Nobody starts the agent any more: the guard does, and gives way to whoever a nucleus starts.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::{ATTACKER_V4, INTERNET_V4, Ns, ask_name_servers, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::programs::state_of;
use crate::common::{LIMIT, done, isolate, options, release};

/// What an order takes once somebody hears it, on a machine that does much else.
const OBEYED: Duration = Duration::from_secs(5);
/// Longer than the two seconds after which a configuration counts.
const SETTLED: Duration = Duration::from_secs(6);
/// A guard that finds no will waits a minute for a nucleus.
const AFTER_A_BOOT: Duration = Duration::from_secs(90);

pub(super) fn signal(pid: u32, signal: Signal) {
    let _gone = kill(Pid::from_raw(pid.cast_signed()), signal);
}

pub(super) fn lives(pid: u32) -> bool {
    state_of(pid).is_some_and(|state| state != 'Z')
}

/// The note that whoever holds this lock has left in it.
fn note(lock: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(lock).ok()?).ok()
}

fn pid_in(lock: &Path) -> Option<u32> {
    let pid = u32::try_from(note(lock)?["pid"].as_u64()?).ok()?;
    lives(pid).then_some(pid)
}

/// A stage whose agent has a guard; both end with it.
pub(super) struct Guarded {
    pub(super) stage: Stage,
    pub(super) state: PathBuf,
}

impl Guarded {
    /// Waits for no guard: what a device without one does not do is for the tests to see.
    pub(super) fn start(personality: Personality) -> Self {
        Self::start_with(StageOptions {
            personality,
            ..options()
        })
    }

    /// As [`Guarded::start`], on a stage of its own kind.
    pub(super) fn start_with(options: StageOptions) -> Self {
        let stage = Stage::start(StageOptions {
            launch: true,
            guard: true,
            ..options
        })
        .unwrap();
        let state = stage.state_directory();
        let guarded = Self { stage, state };
        let works = |s: &Value| s["cloud"]["channelWorks"] == true && s["enforcement"]["phase"] == "released";
        guarded
            .stage
            .wait_status(LIMIT, "control: released", works)
            .unwrap();
        guarded
    }

    fn wait_guard(&self) -> u32 {
        wait_until(LIMIT, "a guard stands by", || self.guard().is_some()).unwrap();
        self.guard().unwrap()
    }

    pub(super) fn guard(&self) -> Option<u32> {
        pid_in(&self.state.join("guard"))
    }

    pub(super) fn agent(&self) -> Option<u32> {
        pid_in(&self.state.join("lock"))
    }

    /// The component's agent dies until its nucleus starts no other.
    pub(super) fn break_the_component(&mut self) {
        let mut known = 0;
        for death in 0..3 {
            // On a machine that does much else the guard may be first, and makes room.
            wait_until(
                LIMIT,
                &format!("an agent of the component after {death} deaths"),
                || {
                    let own = note(&self.state.join("lock")).is_some_and(|note| note["guarded"] != true);
                    own && self.agent().is_some_and(|pid| pid != known)
                },
            )
            .unwrap();
            known = self.agent().unwrap();
            signal(known, Signal::SIGKILL);
        }
        let broken = |event: &Value| event["event"] == "component" && event["state"] == "broken";
        self.stage.nucleus.find_event(LIMIT, broken).unwrap();
    }

    pub(super) fn wait_stand_in(&self) -> Value {
        let stands_in = |s: &Value| s["guarded"].is_string() && s["enforcement"]["phase"] == "enforced";
        let status = self
            .stage
            .wait_status(LIMIT, "the guard's agent", stands_in)
            .unwrap();
        assert!(self.stage.has_table().unwrap());
        status
    }

    pub(super) fn wait_another_guard(&self, than: u32) -> u32 {
        wait_until(LIMIT, "another guard", || {
            self.guard().is_some_and(|pid| pid != than)
        })
        .unwrap();
        self.guard().unwrap()
    }

    pub(super) fn stays_closed_until(&self, what: &str, mut so: impl FnMut() -> bool) {
        wait_until(LIMIT, what, || {
            assert!(self.stage.has_table().unwrap(), "open before: {what}");
            so()
        })
        .unwrap();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // A killed nucleus kills nobody, and nobody of ours may be left on this machine.
        let _gone = self.stage.nucleus.kill9();
        let _left = wait_until(LIMIT, "nobody is left", || {
            let left = [self.agent(), self.guard()];
            left.into_iter()
                .flatten()
                .for_each(|pid| signal(pid, Signal::SIGKILL));
            left == [None, None]
        });
    }
}

lab_test!(a_broken_component_still_obeys_on_classic, || {
    let mut guarded = Guarded::start(Personality::Classic);
    isolate(&guarded.stage);
    guarded.break_the_component();
    let broken = Instant::now();
    guarded.wait_stand_in();
    println!(
        "the guard's agent enforces {:?} after the last death",
        broken.elapsed()
    );
    // The token is the service's, which lives on.
    let hears = |s: &Value| s["cloud"]["channelWorks"] == true;
    guarded.stage.wait_status(LIMIT, "it hears", hears).unwrap();
    let page = done(&guarded.stage, &["status"]);
    assert!(
        page.contains("the component does NOT run") && page.contains("orders from the cloud are heard"),
        "{page}"
    );
    let ordered = Instant::now();
    release(&guarded.stage);
    isolate(&guarded.stage);
    assert!(ordered.elapsed() < OBEYED * 2, "{:?}", ordered.elapsed());

    // A deployment starts the component again, whatever it deploys.
    let stand_in = guarded.agent().unwrap();
    let deployed = Instant::now();
    let configuration = json!({"development": {"reportIntervalSeconds": 3}});
    guarded.stage.deploy(&configuration).unwrap();
    guarded.stays_closed_until("the stand-in makes room", || !lives(stand_in));
    println!(
        "the stand-in is gone {:?} after the deployment",
        deployed.elapsed()
    );
    let own = |s: &Value| {
        s["guarded"].is_null()
            && s["cloud"]["channelWorks"] == true
            && s["enforcement"]["phase"] == "enforced"
    };
    guarded
        .stage
        .wait_status(LIMIT, "the component's own", own)
        .unwrap();
    println!(
        "the component's own hears {:?} after the deployment",
        deployed.elapsed()
    );
    release(&guarded.stage);
});

lab_test!(a_failed_unit_is_guarded_and_released_by_hand_on_lite, || {
    let mut guarded = Guarded::start(Personality::Lite);
    isolate(&guarded.stage);
    guarded.break_the_component();
    guarded.wait_stand_in();
    done(&guarded.stage, &["release", "--override", "--reason", "by hand"]);
    guarded.stage.wait_phase(LIMIT, "released").unwrap();
    assert!(!guarded.stage.has_table().unwrap());
});

lab_test!(a_component_that_is_gone_leaves_somebody_who_obeys, || {
    let mut guarded = Guarded::start(Personality::Classic);
    isolate(&guarded.stage);
    let first = guarded.agent().unwrap();
    // The nucleus ends with its component, and nothing is left of either: no socket, no artifact, no uninstall step.
    guarded.stage.nucleus.terminate().unwrap();
    guarded.stays_closed_until("the component has ended", || !lives(first));
    std::fs::remove_file(guarded.stage.artifact()).unwrap();
    std::fs::remove_dir_all(guarded.stage.site.directory().join("greengrass/work")).unwrap();
    guarded.stays_closed_until("the guard's agent", || {
        guarded.agent().is_some_and(|pid| pid != first)
    });
    // No child of the component.
    let guard = guarded.guard().unwrap();
    let state = guarded.state.clone();
    let ask = |args: &[&str]| {
        let program = format!("/proc/{guard}/exe");
        let run = || Command::new(&program).args(args).output();
        let output = guarded.stage.site.run_in(Ns::Gateway, run).unwrap().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    wait_until(LIMIT, "status says so", || {
        let (_, page) = ask(&["status"]);
        page.contains("the component does NOT run") && page.contains("NOT heard")
    })
    .unwrap();
    assert!(guarded.stage.has_table().unwrap());
    let (released, text) = ask(&["release", "--override", "--reason", "nobody else is left"]);
    assert!(released, "{text}");
    wait_until(LIMIT, "released", || !guarded.stage.has_table().unwrap()).unwrap();
    assert!(state.join("guard").exists());

    // Uninstall ends whoever is left.
    let (gone, text) = ask(&["uninstall", "--purge"]);
    assert!(gone, "{text}");
    wait_until(LIMIT, "nobody is left", || !lives(guard) && !state.exists()).unwrap();
});

lab_test!(
    a_guard_costs_next_to_nothing_and_ends_with_an_orderly_stop,
    || {
        let mut guarded = Guarded::start(Personality::Classic);
        let guard = guarded.wait_guard();
        let kilobytes = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/{guard}/status")).unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap()
                .to_owned();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let ticks = || {
            let stat = std::fs::read_to_string(format!("/proc/{guard}/stat")).unwrap();
            let fields: Vec<String> = stat
                .rsplit_once(") ")
                .unwrap()
                .1
                .split(' ')
                .map(str::to_owned)
                .collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let before = ticks();
        isolate(&guarded.stage);
        release(&guarded.stage);
        println!(
            "the guard: RSS {} KB, of that its own {} KB, {} threads, {} ticks of a processor",
            kilobytes("VmRSS"),
            kilobytes("RssAnon"),
            kilobytes("Threads"),
            ticks() - before
        );
        assert!(kilobytes("RssAnon") < 2_048 && kilobytes("Threads") == 1);
        assert_eq!(ticks(), before, "it only waits");

        guarded.stage.nucleus.terminate().unwrap();
        guarded.stage.nucleus.wait_exit(LIMIT).unwrap();
        wait_until(LIMIT, "nothing is ordered: nobody is wanted", || !lives(guard)).unwrap();
        assert!(guarded.agent().is_none());
        // The next start has another one.
        guarded.stage.nucleus.restart().unwrap();
        wait_until(LIMIT, "a guard again", || guarded.guard().is_some()).unwrap();
        let works = |s: &Value| s["cloud"]["channelWorks"] == true;
        guarded.stage.wait_status(LIMIT, "started anew", works).unwrap();
        isolate(&guarded.stage);
    }
);

lab_test!(a_guard_of_another_program_or_none_is_replaced, || {
    let guarded = Guarded::start(Personality::Classic);
    let first = guarded.wait_guard();
    // One of before an upgrade: the same text in another file.
    let copy = guarded.stage.site.directory().join("edgewarden");
    std::fs::copy(format!("/proc/{first}/exe"), &copy).unwrap();
    signal(first, Signal::SIGKILL);
    wait_until(LIMIT, "it has left its post", || guarded.guard().is_none()).unwrap();
    let log = guarded.stage.site.directory().join("guard.log");
    let mut old = guarded
        .stage
        .site
        .spawn(Ns::Gateway, &copy, &["guard"], &[], log)
        .unwrap();
    wait_until(LIMIT, "control: the old one stands there", || {
        guarded.guard() == Some(old.pid())
    })
    .unwrap();
    signal(guarded.agent().unwrap(), Signal::SIGKILL);
    wait_until(LIMIT, "a guard of the program that runs", || {
        guarded.guard().is_some_and(|pid| pid != old.pid())
    })
    .unwrap();
    old.wait_exit(LIMIT).unwrap();
    let second = guarded.guard().unwrap();
    let works = |s: &Value| s["cloud"]["channelWorks"] == true;
    guarded.stage.wait_status(LIMIT, "started anew", works).unwrap();

    // Whoever tidies up ends it: the next agent has another one.
    signal(second, Signal::SIGKILL);
    signal(guarded.agent().unwrap(), Signal::SIGKILL);
    wait_until(LIMIT, "another guard", || {
        guarded.guard().is_some_and(|pid| pid != second)
    })
    .unwrap();
});

const ENDPOINT: &str = "a1b2c3-ats.iot.example";

lab_test!(the_guards_agent_keeps_the_lifelines_of_the_nucleus_fresh, || {
    ask_name_servers(&[INTERNET_V4]).unwrap();
    let mut stage = Stage::start(StageOptions {
        broker: format!("{ENDPOINT}:8883"),
        online: false,
        launch: true,
        guard: true,
        ..options()
    })
    .unwrap();
    let names = |address: IpAddr| json!({ENDPOINT: [address.to_string()]});
    stage.site.set_names(&names(INTERNET_V4)).unwrap();
    let _servers =
        [INTERNET_V4, ATTACKER_V4].map(|address| stage.site.name_server(Ns::Internet, address).unwrap());
    stage.go_online().unwrap();
    let state = stage.state_directory();
    let mut guarded = Guarded { stage, state };
    let works = |s: &Value| s["cloud"]["channelWorks"] == true && s["enforcement"]["phase"] == "released";
    guarded
        .stage
        .wait_status(LIMIT, "control: released", works)
        .unwrap();
    isolate(&guarded.stage);
    let is_open = |guarded: &Guarded, address: IpAddr| {
        let (_, rules, _) = guarded.stage.nft(&["list", "ruleset"]).unwrap();
        rules.contains(&format!("{address} . "))
    };
    wait_until(LIMIT, "control: where the endpoint is", || {
        is_open(&guarded, INTERNET_V4)
    })
    .unwrap();
    assert!(!is_open(&guarded, ATTACKER_V4), "control");

    // The component is dropped and nobody starts it again; the nucleus' endpoint moves.
    guarded.stage.nucleus.terminate().unwrap();
    guarded.stage.nucleus.wait_exit(LIMIT).unwrap();
    guarded.wait_stand_in();
    guarded.stage.site.set_names(&names(ATTACKER_V4)).unwrap();
    let moved = Instant::now();
    guarded.stays_closed_until("the lifeline follows", || is_open(&guarded, ATTACKER_V4));
    println!("the lifeline follows {:?} after the name", moved.elapsed());
});

lab_test!(after_a_boot_without_component_somebody_obeys, || {
    let mut guarded = Guarded::start(Personality::Classic);
    isolate(&guarded.stage);
    // What a boot leaves: the disk. The guard is started by systemd, a nucleus starts nothing of ours.
    let copy = guarded.stage.site.directory().join("edgewarden");
    std::fs::copy(guarded.stage.artifact(), &copy).unwrap();
    wait_until(LIMIT, "the guard of before is gone", || {
        let left = guarded.guard();
        left.into_iter().for_each(|guard| signal(guard, Signal::SIGKILL));
        left.is_none()
    })
    .unwrap();
    guarded.stage.nucleus.terminate().unwrap();
    guarded.stage.nucleus.wait_exit(LIMIT).unwrap();
    std::fs::remove_dir_all("/run/edgewarden").unwrap();
    let guard = guarded
        .stage
        .site
        .spawn(
            Ns::Gateway,
            &copy,
            &["guard"],
            &[],
            guarded.stage.site.directory().join("guard.log"),
        )
        .unwrap();
    let status = guarded
        .stage
        .wait_status(AFTER_A_BOOT, "a stand-in without environment", |s| {
            // The addresses are of the endpoint that the nucleus told an earlier agent.
            s["guarded"].is_string()
                && s["enforcement"]["phase"] == "enforced"
                && s["lifelines"]["addresses"].as_u64() > Some(0)
        })
        .unwrap();
    assert_eq!(status["cloud"]["channelWorks"], false, "{status}");
    done(&guarded.stage, &["release", "--override", "--reason", "by hand"]);
    guarded.stage.wait_phase(LIMIT, "released").unwrap();
    // Nobody but its agent is left: no nucleus starts another guard.
    let (agent, first) = (guarded.agent().unwrap(), guard.pid());
    drop(guard);
    guarded.wait_another_guard(first);
    assert_eq!(guarded.agent(), Some(agent));
});

lab_test!(
    a_deployments_order_outlives_the_deployment_that_was_rolled_back,
    || {
        let mut guarded = Guarded::start(Personality::Classic);
        let stage = &mut guarded.stage;
        stage.deploy(&json!({"quarantine": true})).unwrap();
        let isolated =
            |s: &Value| s["enforcement"]["phase"] == "enforced" && s["enforcement"]["posture"] == "isolate";
        stage
            .wait_status(LIMIT, "control: isolated by the deployment", isolated)
            .unwrap();
        stage.ask_nucleus(&json!({"fail": true})).unwrap();
        stage.wait_rollout(LIMIT, "rolledBack").unwrap();
        guarded.wait_stand_in();
        // Control: it was told that there is no configuration.
        let told = |s: &Value| {
            let problem = s["configuration"]["problem"].as_str().unwrap_or_default();
            problem.contains("knows no configuration")
        };
        guarded
            .stage
            .wait_status(LIMIT, "the guard's agent asked for it", told)
            .unwrap();
        let asked = Instant::now();
        guarded.stays_closed_until("longer than a configuration takes to count", || {
            asked.elapsed() > SETTLED
        });
        let status = guarded.stage.status();
        assert_eq!(
            status["enforcement"]["orders"][0]["authority"], "deployment",
            "{status}"
        );
        done(
            &guarded.stage,
            &["release", "--override", "--reason", "the deployment is gone"],
        );
        wait_until(LIMIT, "released", || !guarded.stage.has_table().unwrap()).unwrap();
    }
);
