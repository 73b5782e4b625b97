//! What the tests share: a network namespace for each load, nft as the oracle.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nf_tables::socket::Connection;
use nf_tables::{Batch, ListingLimits};

use crate::rulesets::Ruleset;

/// Longest wait for an answer of the kernel; a loaded machine takes a while for a hundred thousand elements.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// More than any ruleset of these tests has.
pub(crate) const LIMITS: ListingLimits = ListingLimits {
    items: 10_000,
    bytes: 10_000_000,
};

/// The chains that rulesets of these tests have, in any family.
pub(crate) const CHAINS: &[&str] = &["output", "input", "forward", "egress"];

/// Runs `body` in a network namespace of its own, with two interfaces.
pub(crate) fn in_namespace<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            run(
                "ip",
                &["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"],
                "",
            );
            body()
        });
        inside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a program in the namespace of the calling thread; its output.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::scope(|scope| {
        let writing = scope.spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap().unwrap();
        output
    });
    assert!(
        writer.status.success(),
        "{program} {arguments:?}: {}\n{input}",
        String::from_utf8_lossy(&writer.stderr)
    );
    String::from_utf8(writer.stdout).unwrap()
}

/// Loads text with nft.
pub(crate) fn nft_load(text: &str) {
    run("nft", &["-f", "-"], text);
}

/// What nft lists of everything, as text and as JSON, without what differs from load to load: handles, and how long
/// elements still live.
pub(crate) fn nft_lists() -> (String, serde_json::Value) {
    let text = run("nft", &["list", "ruleset"], "");
    let text: Vec<&str> = text.split(' ').collect();
    let mut kept = Vec::new();
    let mut words = text.into_iter();
    while let Some(word) = words.next() {
        if word == "expires" {
            // "1h992ms }" or "1h992ms,".
            let time = words.next().unwrap_or_default();
            kept.push(if time.contains(',') { "expires," } else { "expires" });
        } else {
            kept.push(word);
        }
    }
    let mut json = serde_json::from_str(&run("nft", &["-j", "list", "ruleset"], "")).unwrap();
    strip(&mut json);
    (kept.join(" "), json)
}

fn strip(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.remove("handle");
            map.remove("expires");
            map.values_mut().for_each(strip);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Opens a connection in the namespace of the calling thread.
pub(crate) fn connect() -> Connection {
    Connection::open(LIMIT).unwrap()
}

/// One transaction that makes all tables of a ruleset.
pub(crate) fn loading(ruleset: &Ruleset) -> Batch {
    let mut batch = Batch::new();
    for table in &ruleset.tables {
        batch.add_contents(&table.contents);
        for (set, elements) in &table.elements {
            batch.add_elements(&table.contents.table, set, elements.iter().cloned());
        }
    }
    batch
}
