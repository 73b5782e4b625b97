//! Somebody changes the rules behind the agent's back.

use std::time::Duration;

use edgewarden_lab::site::{in_lab, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);
/// Within this the rules must be back.
const BACK: Duration = Duration::from_secs(1);

#[test]
fn rules_that_somebody_changed_are_back_within_a_second_and_counted() {
    in_lab(
        "rules_that_somebody_changed_are_back_within_a_second_and_counted",
        || {
            let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipe.yaml");
            let mut stage =
                Stage::start(StageOptions::new(env!("CARGO_BIN_EXE_edgewarden"), recipe)).unwrap();
            stage.desire(&json!({"quarantine": true})).unwrap();
            stage.start_agent().unwrap();
            stage.wait_phase(LIMIT, "enforced").unwrap();
            let rules = |stage: &Stage| {
                stage
                    .nft(&["-s", "list", "table", "inet", "edgewarden"])
                    .unwrap()
                    .1
            };
            let ordered = rules(&stage);
            let changes: [&[&str]; 6] = [
                &["delete", "table", "inet", "edgewarden"],
                &["flush", "table", "inet", "edgewarden"],
                &["flush", "ruleset"],
                &["insert", "rule", "inet", "edgewarden", "output", "accept"],
                &[
                    "add",
                    "chain",
                    "inet",
                    "edgewarden",
                    "output",
                    "{ policy accept ; }",
                ],
                &[
                    "add",
                    "element",
                    "inet",
                    "edgewarden",
                    "endpoints4",
                    "{ 203.0.113.1 . tcp . 4444 }",
                ],
            ];
            for (count, change) in changes.iter().enumerate() {
                let (code, _, errors) = stage.nft(change).unwrap();
                assert_eq!(code, Some(0), "{change:?}: {errors}");
                wait_until(BACK, "the ordered rules are back", || rules(&stage) == ordered).unwrap();
                let counted = count as u64 + 1;
                stage
                    .wait_status(LIMIT, "the change is counted", |s| {
                        s["enforcement"]["reasserted"].as_u64() >= Some(counted)
                    })
                    .unwrap();
            }
            assert_eq!(stage.status()["enforcement"]["phase"], "enforced");
        },
    );
}
