//! Flags, numbers and times as people, editors and deployments write them.

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::stage::StageOptions;
use serde_json::{Value, json};

use crate::common::{LIMIT, done, options, ready, reports};

lab_test!(flags_of_a_recipe_are_read_as_yaml_writes_them, || {
    // Lite hands every scalar on as the text that stood in the recipe.
    let mut stage = ready(StageOptions {
        personality: Personality::Lite,
        ..options()
    });
    for (wish, phase) in [("True", "enforced"), ("no", "released"), ("ON", "enforced")] {
        let configuration = json!({
            "quarantine": wish,
            "reporting": {"enabled": "True", "intervalSeconds": "300.0"},
            "development": {"reportIntervalSeconds": "2"},
        });
        stage.deploy(&configuration).unwrap();
        let status = stage.wait_phase(LIMIT, phase).unwrap();
        assert_eq!(status["configuration"]["faults"], json!([]), "{status}");
        assert_eq!(stage.has_table().unwrap(), phase == "enforced");
        reports(&stage, &json!(phase == "enforced"));
    }
    stage.deploy(&json!({"quarantine": "tRue"})).unwrap();
    let refused = |s: &Value| s["enforcement"]["rejected"].to_string().contains("tRue");
    let status = stage
        .wait_status(LIMIT, "no YAML flag is refused", refused)
        .unwrap();
    assert_eq!(status["enforcement"]["phase"], "enforced", "and changes nothing");
});

lab_test!(times_are_those_of_the_rfc_and_no_others, || {
    let stage = ready(options());
    let order = |expires: &str| json!({"quarantine": {"posture": "isolate", "expires": expires}});
    for wrong in [
        "2099-01-01T00:00:00+24:00",
        "2099-01-01T00:00:00,5Z",
        "2099-01-01T12:59:60Z",
    ] {
        stage.desire(&order(wrong)).unwrap();
        let refused = |s: &Value| s["enforcement"]["rejected"].to_string().contains(wrong);
        stage.wait_status(LIMIT, wrong, refused).unwrap();
        assert!(!stage.has_table().unwrap());
    }
    for right in ["9999-12-31T23:59:59Z", "2099-01-01T00:00:00.123456789123Z"] {
        stage.desire(&order(right)).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
    }
});

lab_test!(an_order_file_of_another_systems_editor_is_read, || {
    let stage = ready(options());
    let path = stage.site.directory().join("order.json");
    let text = "\u{feff}{\"posture\": \"isolate\",\r\n\"reason\": \"marked\"}\r\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    assert!(done(&stage, &["plan", "--order", path]).contains("isolate"));
    done(&stage, &["quarantine", "--order", path]);
    assert!(stage.has_table().unwrap());
});
