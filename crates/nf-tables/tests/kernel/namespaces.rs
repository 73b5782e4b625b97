//! What the tests share: a network namespace for each load, nft as the oracle.

use std::process::Command;
use std::time::Duration;

use edgewarden_lab::site::nft;
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
            ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
            body()
        });
        inside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `ip` in the namespace of the calling thread.
pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {complaint}");
}

/// Loads text with nft.
pub(crate) fn nft_load(text: &str) {
    nft::load(text).unwrap();
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
