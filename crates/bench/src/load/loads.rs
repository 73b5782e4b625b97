//! Work that others cause.
//!
//! In: a lab whose agent runs. Out: programs that make it until they are dropped.

use std::path::Path;
use std::time::{Duration, Instant};

use edgewarden_lab::site::{GATEWAY_WAN_V4, INTERNET_V4, Ns, Running};

use crate::error::{BenchError, content};
use crate::machine;
use crate::quarantine::lab::Lab;

/// A kind of work.
pub(super) struct Load {
    pub(super) name: &'static str,
    programs: fn() -> Vec<Program>,
    /// Its program says `ready` when the work is there.
    tells: bool,
}

/// Where it runs, what it is, its words.
type Program = (Ns, &'static str, Vec<String>);

/// Packets a second of the floods, and of DNS.
const FLOOD: u64 = 120_000;
const DNS: u64 = 100_000;
/// How long the making of descriptors and processes may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) const LOADS: &[Load] = &[
    load("quiet", false, Vec::new),
    load("SYN 120 kpps", false, || {
        let remote = format!("{GATEWAY_WAN_V4}:8883");
        vec![lab(
            Ns::Internet,
            &format!("syn --remote {remote} --rate {FLOOD}"),
        )]
    }),
    load("UDP 120 kpps", false, || {
        let remote = format!("{GATEWAY_WAN_V4}:9009");
        let words = format!("flood --remote {remote} --rate {FLOOD} --flows 256");
        vec![lab(Ns::Internet, &words)]
    }),
    load("DNS 100 kpps", false, || {
        let question = question("bucket.s3.eu-central-1.amazonaws.com");
        let words = format!("flood --remote {INTERNET_V4}:53 --rate {DNS} --flows 256 --payload {question}");
        vec![lab(Ns::Gateway, &words)]
    }),
    load("300 interfaces come and go", false, || {
        shell(
            "while :; do for i in $(seq 300); do ip link add d$i type dummy; done; \
             for i in $(seq 300); do ip link del d$i; done; done",
        )
    }),
    load("1,500,000 foreign descriptors", true, || python(DESCRIPTORS)),
    load("100 transactions of others a second", false, || {
        shell("while :; do nft add table inet other; nft delete table inet other; sleep 0.01; done")
    }),
    load("8,000 foreign processes", true, || python(PROCESSES)),
];

/// Descriptors of as many processes as they need; the first one says `ready` when all have theirs.
const DESCRIPTORS: &str = "
import os, resource, time
each = min(100000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100)
resource.setrlimit(resource.RLIMIT_NOFILE, (each + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
r, w = os.pipe()
children = -(-1500000 // each)
for child in range(children):
    if os.fork() == 0:
        first = os.open('/dev/null', os.O_RDONLY)
        for _ in range(each):
            os.dup(first)
        os.write(w, b'.')
        time.sleep(3600)
left = children
while left:
    left -= len(os.read(r, left))
os.write(1, b'ready\n')
time.sleep(3600)
";

const PROCESSES: &str = "
import os, time
for child in range(8000):
    if os.fork() == 0:
        time.sleep(3600)
        os._exit(0)
os.write(1, b'ready\\n')
time.sleep(3600)
";

const fn load(name: &'static str, tells: bool, programs: fn() -> Vec<Program>) -> Load {
    Load {
        name,
        programs,
        tells,
    }
}

/// A question for the address of a name, two digits a byte. Below a lifeline's name each has to be looked at.
fn question(name: &str) -> String {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).unwrap_or_default();
        std::iter::once(length).chain(label.bytes())
    });
    let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let bytes = head.into_iter().chain(labels).chain([0, 0, 1, 0, 1]);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// The lab's own program, for as long as the bench lasts.
fn lab(ns: Ns, words: &str) -> Program {
    let program = machine::release("edgewarden-lab").display().to_string();
    let script = format!("exec {program} {words} --millis 3600000");
    (ns, "/bin/sh", vec!["-c".into(), script])
}

fn shell(script: &str) -> Vec<Program> {
    vec![(Ns::Gateway, "/bin/sh", vec!["-c".into(), script.into()])]
}

fn python(script: &str) -> Vec<Program> {
    vec![(Ns::Gateway, "/usr/bin/python3", vec!["-c".into(), script.into()])]
}

impl Load {
    /// Makes the work, and waits until all of it is there.
    pub(super) fn begin(&self, lab: &Lab) -> Result<Vec<Running>, BenchError> {
        let site = &lab.stage.site;
        let log = site.directory().join("load.log");
        let mut running = Vec::new();
        for (ns, program, words) in (self.programs)() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            running.push(site.spawn(ns, program, &words, &[], &log)?);
        }
        let begun = Instant::now();
        while self.tells && !is_ready(&log) {
            if begun.elapsed() > PATIENCE {
                return Err(content(self.name, "expected it to be there in time"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(running)
    }
}

fn is_ready(log: &Path) -> bool {
    std::fs::read_to_string(log).is_ok_and(|text| text.contains("ready"))
}
