//! A hundred thousand blocked remotes in a file beside the journal: kept over a kill and a restart of the kernel, written once, and
//! never lost silently.
//!
//! In: nothing. What is looked at: files in the state directory, what an attacker reaches, what the agent says.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use edgewarden_lab::site::{ATTACKER_V4, INTERNET_V4, Ns};
use edgewarden_lab::stage::Stage;
use serde_json::json;

use super::journal::isolates_by_itself;
use super::picture::picture;
use crate::common::{LIMIT, done, options, ready, reports};

/// The journal without its list, with room for a hundred lifeline addresses.
const SHORT: u64 = 16_384;
/// The list alone.
const LONG: u64 = 1_000_000;

/// The lists beside the journal.
fn lists(state: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_list = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("remotes-")
    };
    entries.filter(is_list).collect()
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// The operator blocks very many, the attacker among them.
fn block_many(stage: &Stage) {
    let many = (0..100_000_u32).map(|n| std::net::Ipv4Addr::from(0x0A00_0000 + 2 * n).to_string());
    let remotes: Vec<String> = many.chain([ATTACKER_V4.to_string()]).collect();
    let order =
        json!({"id": "many", "posture": "restrict", "reason": "a list", "block": {"remotes": remotes}});
    let path = stage.site.directory().join("many.json");
    std::fs::write(&path, order.to_string()).unwrap();
    done(stage, &["quarantine", "--order", &path.to_string_lossy()]);
    stage.wait_phase(LIMIT, "enforced").unwrap();
}

/// Kills the agent and has the kernel forget everything, as a power cut does.
fn power_cut(stage: &mut Stage) {
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
}

/// Every harm to the list of a journal that is whole; the agent is dead, before and after.
fn harmed(stage: &mut Stage, list: &Path, content: &[u8]) {
    let state = stage.state_directory();
    let (journal, aside) = (state.join("journal"), state.join("journal.damaged"));
    let file = std::fs::read(&journal).unwrap();
    let mut flipped = content.to_vec();
    flipped[500_000] ^= 1;
    for (harm, harmed) in [
        ("the list is missing", None),
        ("cut to a half", Some(&content[..content.len() / 2])),
        ("a bit of it flipped", Some(&flipped[..])),
    ] {
        std::fs::write(&journal, &file).unwrap();
        let _absent = std::fs::remove_file(list);
        if let Some(bytes) = harmed {
            std::fs::write(list, bytes).unwrap();
        }
        let earlier = stage.agent_output().len();
        isolates_by_itself(stage, harm);
        let said = stage.agent_output()[earlier..].to_owned();
        let name = list.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            said.contains(name.trim_start_matches("remotes-")),
            "{harm}: {said}"
        );
        assert!(lists(&state).is_empty(), "{harm}: nobody needs one any more");
        assert!(size(&aside) >= file.len() as u64, "{harm}: kept");
        stage.agent.as_mut().unwrap().kill9().unwrap();
    }
}

pub(crate) fn outlive_kills() {
    let mut stage = ready(options());
    let _servers = [4444, 8080].map(|port| stage.site.echo_server(Ns::Internet, port).unwrap());
    let reach = |stage: &Stage, address, port| stage.site.tcp_connects(Ns::Gateway, address, port).unwrap();
    assert!(reach(&stage, ATTACKER_V4, 4444), "control");
    block_many(&stage);
    assert!(!reach(&stage, ATTACKER_V4, 4444) && reach(&stage, INTERNET_V4, 8080));
    let state = stage.state_directory();
    let (journal, aside) = (state.join("journal"), state.join("journal.damaged"));
    let list = lists(&state).remove(0);
    assert!(size(&journal) < SHORT && size(&list) > LONG, "control: apart");

    // One more, by somebody else: the list is not written again.
    let before = std::fs::metadata(&list).unwrap();
    let more = json!({"id": "more", "posture": "restrict", "block": {"remotes": ["203.0.113.77"]}});
    stage.desire(&json!({ "quarantine": more })).unwrap();
    reports(&stage, &more);
    let after = std::fs::metadata(&list).unwrap();
    assert_eq!((before.ino(), before.mtime()), (after.ino(), after.mtime()));
    assert!(size(&journal) < SHORT);

    power_cut(&mut stage);
    assert!(reach(&stage, ATTACKER_V4, 4444), "control: as after a reboot");
    stage.start_agent().unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(!reach(&stage, ATTACKER_V4, 4444) && reach(&stage, INTERNET_V4, 8080));
    assert!(!aside.exists());

    // From here on the shadow says nothing: what it said would end what a damaged journal makes the agent assume.
    stage.desire(&json!({"quarantine": null})).unwrap();
    let alone = |s: &serde_json::Value| {
        let orders = s["enforcement"]["orders"].as_array();
        s["enforcement"]["phase"] == "enforced" && orders.is_some_and(|orders| orders.len() == 1)
    };
    stage
        .wait_status(LIMIT, "the operator's order alone", alone)
        .unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let (file, content) = (std::fs::read(&journal).unwrap(), std::fs::read(&list).unwrap());
    harmed(&mut stage, &list, &content);

    // Control: what is whole is obeyed; and without an agent the operator ends it.
    std::fs::write(&journal, &file).unwrap();
    std::fs::write(&list, &content).unwrap();
    std::fs::remove_file(&aside).unwrap();
    stage.start_agent().unwrap();
    let status = stage
        .wait_status(LIMIT, "the operator's order again", alone)
        .unwrap();
    assert_eq!(status["enforcement"]["orders"][0]["id"], "many");
    assert!(!reach(&stage, ATTACKER_V4, 4444));
    stage.agent.as_mut().unwrap().kill9().unwrap();
    done(&stage, &["release"]);
    assert_eq!(picture(&stage), None);
    assert!(reach(&stage, ATTACKER_V4, 4444) && lists(&state).is_empty() && !aside.exists());
}
