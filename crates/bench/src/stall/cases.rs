//! What is done to the agent while its turns are measured.
//!
//! In: a stage without agent. Out: a running agent in trouble, and what keeps the trouble going until it is dropped.

use std::path::Path;

use edgewarden_lab::site::{INTERNET_V4, Ns, Running, SiteError};
use edgewarden_lab::stage::filter_hook::{AFTER, BEFORE, EDIT_AFTER_LOAD, FilterHook};
use edgewarden_lab::stage::preload::{HANGING_SYNC, Hang};
use edgewarden_lab::stage::{PATIENCE, Stage};
use serde_json::json;

use crate::error::BenchError;
use crate::machine;

/// A trouble.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Starts the agent and the trouble.
    pub(super) begin: fn(&mut Stage) -> Result<Trouble, BenchError>,
}

/// Programs that make the trouble; they end when this is dropped.
pub(super) type Trouble = Vec<Running>;

/// All of them.
pub(super) const CASES: &[Case] = &[
    case("quiet", |stage| started(stage, Vec::new())),
    case("log broken", |stage| {
        with_output(stage, "> >(head -n 1 > /dev/null) 2>&1")
    }),
    case("log full", |stage| with_output(stage, "> >(exec sleep 600) 2>&1")),
    case("log closed", |stage| with_output(stage, ">&- 2>&-")),
    case("fifo as resolv.conf", fifo),
    case("disk that hangs", |stage| {
        let disk = Hang::start(stage, HANGING_SYNC)?;
        let trouble = started(stage, Vec::new())?;
        disk.begin()?;
        Ok(trouble)
    }),
    case("a kernel that takes a second", |stage| {
        with_hook(stage, BEFORE, "sleep 1")
    }),
    case("edits after each load", |stage| {
        with_hook(stage, AFTER, EDIT_AFTER_LOAD)
    }),
    case("100 transactions of others a second", |stage| {
        let loops = "while :; do nft add table inet other; nft delete table inet other; sleep 0.01; done";
        started(stage, vec![("/bin/sh", vec!["-c".into(), loops.into()])])
    }),
    case("interfaces come and go", |stage| {
        let loops = "while :; do for i in $(seq 300); do ip link add d$i type dummy; done; \
                     for i in $(seq 300); do ip link del d$i; done; done";
        started(stage, vec![("/bin/sh", vec!["-c".into(), loops.into()])])
    }),
    case("UDP 100 kpps", |stage| {
        let lab = machine::release("edgewarden-lab").display().to_string();
        let flood =
            format!("exec {lab} flood --remote {INTERNET_V4}:9009 --rate 100000 --millis 600000 --flows 256");
        started(stage, vec![("/bin/sh", vec!["-c".into(), flood])])
    }),
    case("crafted DNS, 1000 a second", |stage| {
        started(
            stage,
            vec![("/usr/bin/python3", vec!["-c".into(), crafted_dns()])],
        )
    }),
    case("400000 foreign descriptors", |stage| {
        started(
            stage,
            vec![("/usr/bin/python3", vec!["-c".into(), DESCRIPTORS.into()])],
        )
    }),
    case("8000 foreign processes", |stage| {
        started(
            stage,
            vec![("/usr/bin/python3", vec!["-c".into(), PROCESSES.into()])],
        )
    }),
    case("100000 blocked remotes", many_remotes),
];

const fn case(name: &'static str, begin: fn(&mut Stage) -> Result<Trouble, BenchError>) -> Case {
    Case { name, begin }
}

/// Descriptors of four processes; each says `ready` once it has them.
const DESCRIPTORS: &str = "
import os, resource, time
for child in range(4):
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (110000, 110000))
        held = [os.open('/dev/null', os.O_RDONLY)]
        held += [os.dup(held[0]) for _ in range(100000)]
        time.sleep(600)
time.sleep(600)
";

const PROCESSES: &str = "
import os, time
for child in range(8000):
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
time.sleep(600)
";

/// Questions and answers with as many records and pointers as fit, from and to the configured resolver's port.
fn crafted_dns() -> String {
    format!(
        "
import socket, struct, time
name = b'\\x01a' * 60 + b'\\x00'
pointer = b'\\xc0\\x0c' + struct.pack('>HHIH', 1, 1, 60, 4) + b'\\xcb\\x00\\x71\\x01'
head = struct.pack('>HHHHHH', 7, 0x8180, 1, 64, 64, 64)
message = head + name + struct.pack('>HH', 1, 1) + pointer * 192
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    for _ in range(10):
        try:
            s.sendto(message, ('{INTERNET_V4}', 53))
        except OSError:
            pass
    time.sleep(0.01)
"
    )
}

/// Starts the agent as it is, then programs in the gateway, each with its arguments.
fn started(stage: &mut Stage, programs: Vec<(&str, Vec<String>)>) -> Result<Trouble, BenchError> {
    if stage.agent.is_none() {
        stage.start_agent()?;
    }
    connected(stage)?;
    let mut trouble = Vec::new();
    for (program, arguments) in programs {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let log = stage.site.directory().join("trouble.log");
        trouble.push(stage.site.spawn(Ns::Gateway, program, &arguments, &[], log)?);
    }
    Ok(trouble)
}

fn connected(stage: &Stage) -> Result<(), SiteError> {
    let works = |status: &serde_json::Value| status["cloud"]["channelWorks"] == true;
    stage.wait_status(PATIENCE, "connected", works).map(drop)
}

fn with_output(stage: &mut Stage, redirection: &str) -> Result<Trouble, BenchError> {
    let script = format!("exec \"$@\" {redirection}");
    let arguments = ["EDGEWARDEN_LOG=trace", "bash", "-c", &script, "bash"];
    stage.start_agent_as(Path::new("env"), &arguments)?;
    started(stage, Vec::new())
}

fn with_hook(stage: &mut Stage, what: &str, shell: &str) -> Result<Trouble, BenchError> {
    let hook = FilterHook::start(stage)?;
    let trouble = started(stage, Vec::new())?;
    hook.begin(what, shell)?;
    Ok(trouble)
}

fn fifo(stage: &mut Stage) -> Result<Trouble, BenchError> {
    let fifo = stage.site.directory().join("fifo").display().to_string();
    let script = format!("mkfifo {fifo} && mount --bind {fifo} /etc/resolv.conf && exec \"$@\"");
    let arguments = ["--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    stage.start_agent_as(Path::new("unshare"), &arguments)?;
    started(stage, Vec::new())
}

/// The operator's order stays while the shadow's come and go: each of them is folded with it.
fn many_remotes(stage: &mut Stage) -> Result<Trouble, BenchError> {
    let trouble = started(stage, Vec::new())?;
    let first = u32::from(std::net::Ipv4Addr::new(100, 64, 0, 0));
    let remotes: Vec<String> = (0..100_000)
        .map(|number| std::net::Ipv4Addr::from(first + 2 * number).to_string())
        .collect();
    let order =
        json!({"id": "many", "posture": "restrict", "reason": "bench", "block": {"remotes": remotes}});
    let file = stage.site.directory().join("many.json");
    xtask::workspace::write(&file, &order.to_string())?;
    stage.edgewarden(&["quarantine", "--order", &file.to_string_lossy()])?;
    stage.wait_phase(PATIENCE, "enforced")?;
    Ok(trouble)
}
