//! Faults of all kinds at random, several at a time, while orders go on: afterwards the last order is in force, status says
//! so, nobody is left stopped, and nothing has leaked.
//!
//! `EDGEWARDEN_CHAOS_SECONDS` makes it longer (`cargo xtask bench chaos`), `EDGEWARDEN_HOLDS_SEED` repeats its choices.

use std::path::Path;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Running, wait_until};
use edgewarden_lab::stage::filter_hook::{BEFORE, FAILS, FilterHook, HANGS, REFUSED};
use edgewarden_lab::stage::preload::{HANGING_SYNC, Hang};
use edgewarden_lab::stage::{Stage, StageOptions, Turns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::broker::{broker_down, broker_up};
use crate::common::programs::{sender, wait_state};
use crate::common::{LIMIT, options, random};

/// How long faults are made in the suite.
const SECONDS: u64 = 20;
/// From one choice to the next, in milliseconds at most.
const PAUSE: u64 = 700;
/// For the last order, after the last fault: a hanging packet filter is waited for some seconds, a dead channel asks again after a
/// minute at most.
const RECOVERY: Duration = Duration::from_secs(120);
/// Threads and descriptors that the agent may have besides those of a quiet one: workers that rest after their work.
const SLACK: usize = 12;

/// What is done to messages for the packet filter, and with which words.
const FILTER_FAULTS: [(&str, &str); 4] = [
    (BEFORE, "sleep 1"),
    (FAILS, ""),
    (HANGS, ""),
    (REFUSED, "netdev bridge"),
];

/// The agent's world, and which faults are under way.
struct Chaos {
    stage: Stage,
    disk: Hang,
    filter: FilterHook,
    disk_hangs: bool,
    filter_fault: Option<&'static str>,
    broker_is_down: bool,
    log_is_stopped: bool,
}

/// Who reads the agent's log tells its number.
const READER: &str = "exec \"$@\" > >(echo $BASHPID > \"$READER\"; exec cat >> \"$READER.log\") 2>&1";

impl Chaos {
    fn start_agent(&mut self) {
        let [_, switch] = self.disk.environment();
        let (disk, filter) = (self.disk.library(), self.filter.library());
        let preload = format!("LD_PRELOAD={}:{}", disk.display(), filter.display());
        let reader = format!("READER={}", self.reader().display());
        let place = self.filter.place();
        // Much to say: a reader that stops is a full pipe soon.
        let much = "EDGEWARDEN_LOG=trace";
        let arguments = [
            &preload, &switch, &place, &reader, much, "bash", "-c", READER, "bash",
        ];
        self.stage.agent = None;
        self.stage.start_agent_as(Path::new("env"), &arguments).unwrap();
        self.log_is_stopped = false;
    }

    fn reader(&self) -> std::path::PathBuf {
        self.stage.site.directory().join("reader")
    }

    fn signal_reader(&self, signal: Signal) {
        let pid = std::fs::read_to_string(self.reader()).ok();
        let pid = pid.and_then(|text| text.trim().parse().ok());
        // A reader that is gone already is a fault too.
        let _gone = pid.map(|pid| kill(Pid::from_raw(pid), signal));
    }

    fn agent(&mut self) -> &mut Running {
        self.stage.agent.as_mut().unwrap()
    }

    /// Makes or ends one fault.
    fn happen(&mut self, choice: u32, random: &mut fastrand::Rng) {
        match choice {
            0 if self.disk_hangs => self.disk.end().unwrap(),
            0 => self.disk.begin().unwrap(),
            1 => match self.filter_fault.take() {
                Some(fault) => self.filter.end(fault).unwrap(),
                None => {
                    let (fault, words) = random.choice(FILTER_FAULTS).unwrap();
                    self.filter.begin(fault, words).unwrap();
                    self.filter_fault = Some(fault);
                }
            },
            2 if self.broker_is_down => broker_up(&mut self.stage),
            2 => broker_down(&mut self.stage),
            3 if self.log_is_stopped => self.signal_reader(Signal::SIGCONT),
            3 => self.signal_reader(Signal::SIGSTOP),
            4 => self.signal_reader(Signal::SIGKILL),
            5 => {
                self.agent().kill9().unwrap();
                self.start_agent();
            }
            6 => {
                self.agent().signal(Signal::SIGSTOP).unwrap();
                std::thread::sleep(Duration::from_millis(random.u64(..1_500)));
                self.agent().signal(Signal::SIGCONT).unwrap();
            }
            7 => drop(self.stage.nft(&["flush", "ruleset"]).unwrap()),
            _ => {
                self.agent().terminate().unwrap();
                self.agent().wait_exit(LIMIT).unwrap();
                self.start_agent();
            }
        }
        match choice {
            0 => self.disk_hangs ^= true,
            2 => self.broker_is_down ^= true,
            3 => self.log_is_stopped ^= true,
            _ => {}
        }
    }

    /// Ends every fault that goes on.
    fn calm(&mut self, random: &mut fastrand::Rng) {
        let under_way = [
            self.disk_hangs,
            self.filter_fault.is_some(),
            self.broker_is_down,
            self.log_is_stopped,
        ];
        for (choice, _) in (0..).zip(under_way).filter(|(_, goes_on)| *goes_on) {
            self.happen(choice, random);
        }
    }
}

/// Threads and open descriptors of a process.
fn holdings(pid: u32) -> [usize; 2] {
    ["task", "fd"].map(|kind| std::fs::read_dir(format!("/proc/{pid}/{kind}")).map_or(0, Iterator::count))
}

fn seconds() -> Duration {
    let asked = std::env::var("EDGEWARDEN_CHAOS_SECONDS").ok();
    Duration::from_secs(asked.map_or(SECONDS, |text| text.parse().unwrap()))
}

fn settled(stage: &Stage, isolated: bool) {
    let phase = if isolated { "enforced" } else { "released" };
    let in_force =
        |s: &Value| s["enforcement"]["phase"] == phase && s["enforcement"]["obstacles"] == json!([]);
    stage
        .wait_status(RECOVERY, "the last order is in force", in_force)
        .unwrap();
    let told = |shadow: &Value| shadow["state"]["reported"]["quarantine"] == isolated;
    stage.wait_shadow(RECOVERY, "and reported", told).unwrap();
    assert_eq!(stage.has_table().unwrap(), isolated);
}

lab_test!(
    after_random_faults_the_last_order_is_in_force_and_nothing_is_left,
    || {
        let mut random = random();
        let rule = json!({"match": {"exe": "*/opt/chaos-rogue"}, "action": "freeze"});
        let stage = Stage::start(StageOptions {
            configuration: json!({"isolation": {"processes": [rule], "confirmSeconds": 30}, "shadow": {"refreshSeconds": 60}}),
            // An agent that is stopped takes long turns.
            turns: Turns::Unmeasured,
            ..options()
        });
        let stage = stage.unwrap();
        let (disk, filter) = (
            Hang::prepare(&stage, HANGING_SYNC).unwrap(),
            FilterHook::prepare(&stage).unwrap(),
        );
        let mut chaos = Chaos {
            stage,
            disk,
            filter,
            disk_hangs: false,
            filter_fault: None,
            broker_is_down: false,
            log_is_stopped: false,
        };
        chaos.start_agent();
        let rogue = sender(&chaos.stage, "chaos-rogue");
        settled(&chaos.stage, false);
        chaos.stage.desire(&json!({"quarantine": true})).unwrap();
        settled(&chaos.stage, true);
        wait_state(&rogue, "T");
        let before = holdings(chaos.agent().pid());

        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed() < seconds() {
            let choice = random.u32(..9);
            chaos.happen(choice, &mut random);
            count += 1;
            if !chaos.broker_is_down && random.bool() {
                chaos.stage.desire(&json!({"quarantine": random.bool()})).unwrap();
            }
            std::thread::sleep(Duration::from_millis(random.u64(..PAUSE)));
        }
        chaos.calm(&mut random);
        let isolated = random.bool();
        println!("{count} faults; the last order isolates: {isolated}");
        chaos.stage.desire(&json!({"quarantine": isolated})).unwrap();
        settled(&chaos.stage, isolated);
        wait_state(&rogue, if isolated { "T" } else { "SR" });

        chaos.stage.desire(&json!({"quarantine": true})).unwrap();
        settled(&chaos.stage, true);
        let pid = chaos.agent().pid();
        wait_until(LIMIT, "no thread and no descriptor has leaked", || {
            let after = holdings(pid);
            after
                .iter()
                .zip(before)
                .all(|(after, before)| *after <= before + SLACK)
        })
        .unwrap();
        chaos.stage.desire(&json!({"quarantine": false})).unwrap();
        settled(&chaos.stage, false);
        wait_state(&rogue, "SR");
    }
);
