//! Other hands in each of our tables: every edit is undone within a second, and counted.
//!
//! In: nothing. The edits are made of what the kernel lists, so each table that there is gets each kind of edit.

use std::time::{Duration, Instant};

use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use serde_json::Value;

use super::picture::{TABLE, picture};
use crate::common::gateway::ip;
use crate::common::{LIMIT, isolate, options, ready, release};

/// An edit must be undone within this.
const BACK_WITHIN: Duration = Duration::from_secs(1);

fn listing(stage: &Stage) -> Vec<Value> {
    let (_, output, _) = stage.nft(&["-j", "list", "ruleset"]).unwrap();
    let listing: Value = serde_json::from_str(&output).unwrap();
    listing["nftables"].as_array().cloned().unwrap_or_default()
}

/// Items of one kind of our table in `family`.
fn ours(stage: &Stage, family: &str, kind: &str) -> Vec<Value> {
    let mine = |item: &Value| {
        let part = &item[kind];
        (part["family"] == family && part["table"] == TABLE).then(|| part.clone())
    };
    listing(stage).iter().filter_map(mine).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Each kind of edit of the table in `family`, as nft reads it. Made anew each time: handles change.
fn edits(stage: &Stage, family: &str) -> Vec<String> {
    let chains = ours(stage, family, "chain");
    let rules = ours(stage, family, "rule");
    let mut edits = vec![
        "flush ruleset".to_owned(),
        format!("flush table {family} {TABLE}"),
        format!("delete table {family} {TABLE}"),
    ];
    // One with a hook, and one that others send packets to, where there is one.
    let hooked = chains.iter().find(|chain| !chain["hook"].is_null()).unwrap();
    let other = chains.iter().find(|chain| chain["hook"].is_null());
    for chain in std::iter::once(hooked).chain(other) {
        let name = text(&chain["name"]);
        let rule = rules.iter().find(|rule| rule["chain"] == name).unwrap();
        let handle = &rule["handle"];
        let place = format!("{family} {TABLE} {name}");
        edits.extend([
            format!("flush chain {place}"),
            format!("insert rule {place} accept"),
            format!("add rule {place} accept"),
            format!("delete rule {place} handle {handle}"),
            format!("replace rule {place} handle {handle} accept"),
        ]);
    }
    let policy = if hooked["policy"] == "drop" {
        "accept"
    } else {
        "drop"
    };
    let place = format!("{family} {TABLE} {}", text(&hooked["name"]));
    edits.push(format!("add chain {place} {{ policy {policy} ; }}"));
    let sets = ours(stage, family, "set");
    let addresses = sets.iter().find(|set| text(&set["type"]) == "ipv4_addr");
    edits.extend(addresses.map(|set| {
        format!(
            "add element {family} {TABLE} {} {{ 203.0.113.77 }}",
            text(&set["name"])
        )
    }));
    edits
}

/// Every edit of every table.
pub(crate) fn is_undone() {
    let stage = ready(options());
    ip(&stage, "link add br0 type bridge");
    isolate(&stage);
    let whole = || picture(&stage);
    let families: Vec<&str> = ["inet", "bridge", "netdev"]
        .into_iter()
        .filter(|family| !ours(&stage, family, "chain").is_empty())
        .collect();
    println!("tables: {families:?}");
    assert!(
        families.contains(&"inet") && families.contains(&"bridge"),
        "{families:?}"
    );
    let before = whole();
    let (mut longest, mut count) = (Duration::ZERO, 0);
    for family in families {
        let kinds = edits(&stage, family).len();
        for kind in 0..kinds {
            let edit = edits(&stage, family)[kind].clone();
            let words: Vec<&str> = edit.split(' ').collect();
            let (code, _, errors) = stage.nft(&words).unwrap();
            assert_eq!(code, Some(0), "control: {edit}: {errors}");
            let edited = Instant::now();
            wait_until(LIMIT, &edit, || whole() == before).unwrap();
            let took = edited.elapsed();
            println!("{edit}: back after {took:?}");
            assert!(took < BACK_WITHIN, "{edit}: back after {took:?}");
            longest = longest.max(took);
            count += 1;
            let counted = |s: &Value| s["enforcement"]["reasserted"].as_u64() >= Some(count);
            let status = stage
                .wait_status(LIMIT, &format!("{edit} is counted"), counted)
                .unwrap();
            assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
        }
    }
    println!("{count} edits, the longest back after {longest:?}");
    let told = |shadow: &Value| {
        let status = &shadow["state"]["reported"]["quarantineStatus"];
        let by = status["changedBy"].as_str().unwrap_or_default();
        status["reasserted"].as_u64() >= Some(count / 2) && by.starts_with("nft (")
    };
    stage
        .wait_shadow(LIMIT, "the cloud is told, and by whom", told)
        .unwrap();
    release(&stage);
    assert_eq!(whole(), None);
}
