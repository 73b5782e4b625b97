//! A device that starts again: what was ordered is in the kernel before the network, with or without Greengrass.
//!
//! A reboot is played: agent and nucleus killed, the table gone, the interfaces down.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, BROKER_PORT, INTERNET_V4, Ns, Site, wait_until};
use edgewarden_lab::stage::paths::Paths;
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::gateway::ip;
use crate::common::programs::state_of;
use crate::common::{LIMIT, isolate, options, ready, release};

/// Where the installed unit is.
const UNIT: &str = "/etc/systemd/system/edgewarden-restore.service";

fn run_in(site: &Site, program: &Path, args: &[&str]) -> Output {
    site.run_in(Ns::Gateway, || Command::new(program).args(args).output())
        .unwrap()
        .unwrap()
}

/// Every interface of the gateway, loopback included.
fn links(stage: &Stage, up: bool) {
    // Otherwise the kernel takes the IPv6 addresses away, which no reboot of ours is about.
    let keep = "/proc/sys/net/ipv6/conf/all/keep_addr_on_down";
    stage
        .site
        .run_in(Ns::Gateway, || std::fs::write(keep, "1"))
        .unwrap()
        .unwrap();
    for link in ["lo", "wan0", "lan0"] {
        ip(
            stage,
            &format!("link set {link} {}", if up { "up" } else { "down" }),
        );
    }
    if up {
        ip(
            stage,
            "route replace default via 198.51.100.1\nroute replace default via 2001:db8:1::1",
        );
    }
}

fn forget_table(stage: &Stage) {
    stage.nft(&["flush", "ruleset"]).unwrap();
    assert!(
        !stage.has_table().unwrap(),
        "control: the kernel has forgotten it"
    );
}

/// `edgewarden restore` with the stage's state: exit code, output, errors.
fn restore(stage: &Stage) -> (Option<i32>, String, String) {
    let state = stage.state_directory();
    stage
        .edgewarden(&["restore", "--state-dir", state.to_str().unwrap()])
        .unwrap()
}

/// A stage whose configuration holds outside the lab too: `restore` has no development keys at boot.
fn plain() -> StageOptions {
    StageOptions {
        configuration: json!({}),
        ..options()
    }
}

/// The device as it is after a reboot of an isolated one: nothing of ours runs, no rule, no network.
fn rebooted_while_isolated() -> Stage {
    let mut stage = ready(plain());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    forget_table(&stage);
    stage
}

lab_test!(
    isolation_is_restored_before_the_network_even_if_greengrass_never_starts,
    || {
        // For the install step this is a machine with systemd.
        std::fs::create_dir_all("/etc/systemd/system").unwrap();
        std::fs::create_dir_all("/run/systemd/system").unwrap();
        let mut stage = Stage::start(StageOptions {
            launch: true,
            ..plain()
        })
        .unwrap();
        let installed = |event: &Value| event["state"] == "installed";
        stage.nucleus.find_event(LIMIT, installed).unwrap();
        let started = |event: &Value| event["state"] == "started";
        let pid = stage.nucleus.find_event(LIMIT, started).unwrap()["pid"].clone();
        stage.wait_phase(LIMIT, "released").unwrap();
        let works = |s: &Value| s["cloud"]["channelWorks"] == true;
        stage.wait_status(LIMIT, "control: connected", works).unwrap();
        let _paths = Paths::open(&stage.site).unwrap();
        isolate(&stage);

        stage.nucleus.kill9().unwrap();
        let agent = Pid::from_raw(pid.as_i64().unwrap().try_into().unwrap());
        kill(agent, Signal::SIGKILL).unwrap();
        wait_until(LIMIT, "the agent is gone", || is_dead(agent)).unwrap();
        std::fs::remove_file(stage.artifact()).unwrap();
        forget_table(&stage);
        let open = Paths::look(&stage.site).unwrap();
        assert!(
            open.cut.is_empty(),
            "control: without rules all flows: {:?}",
            open.cut
        );
        links(&stage, false);

        let (took, output) = run_unit(&stage.site);
        println!("restored in {took:?} (debug build)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        assert!(
            text.starts_with("restored and proven in the kernel: isolate (") && text.lines().count() == 1,
            "{text}"
        );
        links(&stage, true);
        let cut = Paths::look(&stage.site).unwrap();
        assert!(cut.free.is_empty(), "still flowing: {:?}", cut.free);
        let lifeline = stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, BROKER_PORT);
        assert!(lifeline.unwrap(), "the address in the journal is a lifeline");

        forget_table(&stage);
        let open = Paths::look(&stage.site).unwrap();
        assert!(open.cut.is_empty(), "control: it was the rules: {:?}", open.cut);
    }
);

/// Gone, or waiting for whoever inherited it to notice.
fn is_dead(pid: Pid) -> bool {
    state_of(pid.as_raw().unsigned_abs()).is_none_or(|state| "ZX".contains(state))
}

/// Runs what the installed unit runs.
fn run_unit(site: &Site) -> (Duration, Output) {
    let unit = std::fs::read_to_string(UNIT).unwrap();
    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .unwrap();
    let mut words = command.split(' ');
    let program = PathBuf::from(words.next().unwrap());
    let begun = Instant::now();
    let output = run_in(site, &program, &words.collect::<Vec<_>>());
    (begun.elapsed(), output)
}

lab_test!(the_agent_takes_over_from_restore_without_a_gap, || {
    let mut stage = rebooted_while_isolated();
    let socket = stage.site.run_in(Ns::Gateway, || UdpSocket::bind("0.0.0.0:0"));
    let socket = socket.unwrap().unwrap();
    let sends = || socket.send_to(b"out", (ATTACKER_V4, 9));
    sends().unwrap();
    assert_eq!(restore(&stage).0, Some(0));
    let refused = sends().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "{refused}");

    let over = AtomicBool::new(false);
    let (refused, left) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let (mut refused, mut left) = (0_u64, 0_u64);
            while !over.load(Ordering::Relaxed) {
                let outcome = sends();
                *if outcome.is_err() { &mut refused } else { &mut left } += 1;
                std::thread::sleep(Duration::from_micros(100));
            }
            (refused, left)
        });
        stage.start_agent().unwrap();
        let taken_over = stage.wait_status(LIMIT, "enforced and connected", |s| {
            s["enforcement"]["phase"] == "enforced" && s["cloud"]["channelWorks"] == true
        });
        over.store(true, Ordering::Relaxed);
        let counts = counting.join().unwrap();
        taken_over.unwrap();
        counts
    });
    println!("{refused} datagrams were refused while the agent took over");
    assert_eq!(left, 0, "rules were absent for a moment");
    assert!(refused > 100, "{refused} tries are no proof");
    let log = stage.agent_output();
    let life = log.rsplit("enforcement changed").count();
    assert!(life > 1, "the agent says what it enforces:\n{log}");
    assert_eq!(
        restore(&stage).1,
        "nothing to do: an agent runs, and enforces the journal itself\n"
    );
    release(&stage);
    sends().unwrap();
});

/// What a journal says; since when the rules are there is another time, as the laboratory's machine has not really started again.
fn content(journal: &[u8]) -> Value {
    let body = journal.splitn(2, |byte| *byte == b'\n').nth(1).unwrap();
    let mut content: Value = serde_json::from_slice(body).unwrap();
    content.as_object_mut().unwrap().remove("held").unwrap();
    content
}

lab_test!(restore_obeys_the_journal_and_nothing_else, || {
    let mut stage = rebooted_while_isolated();
    let journal = stage.state_directory().join("journal");
    let before = std::fs::read(&journal).unwrap();
    // Isolated, twice: the second changes nothing.
    for _ in 0..2 {
        let (code, text, errors) = restore(&stage);
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{text}");
        assert!(
            text.starts_with("restored and proven in the kernel: isolate ("),
            "{text}"
        );
        assert!(stage.has_table().unwrap());
        let after = std::fs::read(&journal).unwrap();
        assert_eq!(content(&after), content(&before), "nothing is forgotten");
    }

    // It says when it could not.
    let state = stage.state_directory();
    forget_table(&stage);
    let artifact = stage.artifact();
    let without = ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    let asked = [
        artifact.to_str().unwrap(),
        "restore",
        "--state-dir",
        state.to_str().unwrap(),
    ];
    let args: Vec<&str> = without.into_iter().chain(asked).collect();
    let failed = run_in(&stage.site, Path::new("/usr/bin/setpriv"), &args);
    let text = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{text}");
    assert!(
        text.contains("could not restore isolate") && text.contains("CAP_NET_ADMIN is missing"),
        "{text}"
    );

    // Damaged: as the agent does.
    let mut bytes = before.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&journal, &bytes).unwrap();
    let (code, text, errors) = restore(&stage);
    assert_eq!(code, Some(0), "{errors}");
    assert!(text.contains("isolate (journal-damaged by recovery)"), "{text}");
    assert!(
        errors.contains("the journal is damaged: its checksum"),
        "{errors}"
    );
    assert!(stage.has_table().unwrap());

    // Released: no rule, whatever is in the kernel.
    stage.start_agent().unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    release(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["add", "table", "inet", "edgewarden"]).unwrap();
    let nothing = "nothing is ordered: the kernel holds no rule of ours\n";
    let (code, text, _) = restore(&stage);
    assert_eq!((code, text.as_str()), (Some(0), nothing));
    assert!(!stage.has_table().unwrap());

    // Never ordered, never installed.
    let none = state.with_file_name("none");
    let (code, text, errors) = stage
        .edgewarden(&["restore", "--state-dir", none.to_str().unwrap()])
        .unwrap();
    assert_eq!((code, text.as_str(), errors.as_str()), (Some(0), nothing, ""));
    assert!(!none.exists() && !stage.has_table().unwrap());
});
