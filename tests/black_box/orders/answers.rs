//! What the operator is told: exit codes that say done and not taken, what stays in force, since when, and what helps.

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use crate::common::agent::{restart, restart_as};
use crate::common::{LIMIT, connected_and_released, done, isolate, options, ready, release};

/// Exit code, output and errors of a command that is not done.
fn not_done(stage: &Stage, args: &[&str]) -> String {
    let (code, output, errors) = stage.edgewarden(args).unwrap();
    assert_eq!(code, Some(1), "{args:?}: {output}{errors}");
    errors
}

lab_test!(an_order_that_the_kernel_refuses_is_not_said_to_be_done, || {
    let mut stage = ready(options());
    done(&stage, &["quarantine", "--reason", "control"]);
    done(&stage, &["release"]);
    let powerless = ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    restart_as(&mut stage, "setpriv", &powerless);
    let told = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "it hears", told).unwrap();
    let errors = not_done(&stage, &["quarantine", "--reason", "mine"]);
    for part in [
        "taken and is NOT carried out",
        "CAP_NET_ADMIN",
        "run the agent as root",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    assert!(!stage.has_table().unwrap());
});

lab_test!(an_order_that_is_only_counted_is_not_said_to_be_done, || {
    let mut stage = ready(options());
    stage.deploy(&json!({"mode": "observe"})).unwrap();
    let observes = |s: &Value| s["mode"] == "observe";
    stage.wait_status(LIMIT, "mode observe", observes).unwrap();
    let errors = not_done(&stage, &["quarantine", "--reason", "mine"]);
    assert!(
        errors.contains("mode observe") && errors.contains("nothing is cut"),
        "{errors}"
    );
    done(&stage, &["release"]);
});

lab_test!(a_release_that_releases_nothing_says_who_holds_the_device, || {
    let stage = ready(options());
    done(&stage, &["release"]);
    isolate(&stage);
    let errors = not_done(&stage, &["release"]);
    for part in [
        "you hold no order",
        "still ISOLATED by shadow (shadow)",
        "release --override --reason",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    // One of two: what was asked for is done.
    done(&stage, &["quarantine", "--reason", "mine"]);
    let page = done(&stage, &["release"]);
    assert!(page.contains("isolate by shadow"), "{page}");
    assert!(stage.has_table().unwrap());
    release(&stage);
});

lab_test!(an_allowance_that_another_order_overrules_is_named, || {
    let stage = ready(options());
    let order = json!({"posture": "isolate", "allow":
        [{"remote": "203.0.113.9", "protocol": "tcp", "ports": [443], "direction": "out"}]});
    let file = stage.site.directory().join("order.json");
    std::fs::write(&file, order.to_string()).unwrap();
    let give = [
        "quarantine",
        "--reason",
        "mine",
        "--order",
        file.to_str().unwrap(),
    ];
    done(&stage, &give);
    done(&stage, &["release"]);
    isolate(&stage);
    let errors = not_done(&stage, &give);
    for part in [
        "203.0.113.9/32",
        "has no effect",
        "shadow (shadow) does not allow it",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
});

lab_test!(since_when_a_device_is_isolated_is_known_over_a_restart, || {
    let mut stage = ready(options());
    isolate(&stage);
    let since = stage.status()["enforcement"]["since"].clone();
    assert!(since.is_string());
    restart(&mut stage);
    let heard = |s: &Value| s["enforcement"]["phase"] == "enforced" && s["cloud"]["channelWorks"] == true;
    let status = stage.wait_status(LIMIT, "enforced again", heard).unwrap();
    assert_eq!(status["enforcement"]["since"], since, "{status}");
    let page = done(&stage, &["status"]);
    assert!(
        page.contains("the control channel works behind the rules"),
        "{page}"
    );
    release(&stage);
    assert_ne!(stage.status()["enforcement"]["since"], since);
});

lab_test!(a_refused_configuration_says_what_stays_in_force, || {
    let mut stage = ready(options());
    let told = |s: &Value| !s["configuration"]["faults"].as_array().unwrap().is_empty();
    stage
        .deploy(&json!({"isolation": {"confirmSeconds": 77}}))
        .unwrap();
    let kept = stage.state_directory().join("configuration.json");
    wait_until(LIMIT, "control: taken and kept", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("77"))
    })
    .unwrap();
    stage
        .deploy(&json!({"isolation": {"confirmSeconds": "soon"}}))
        .unwrap();
    let status = stage.wait_status(LIMIT, "refused", told).unwrap();
    assert_eq!(status["configuration"]["inForce"], json!(["77"]), "{status}");
    let page = done(&stage, &["status"]);
    assert!(page.contains("; 77 stays in force"), "{page}");
});

lab_test!(
    a_refused_shadow_says_which_write_removes_what_was_left_behind,
    || {
        let stage = ready(options());
        stage
            .desire(&json!({"quarantine": {"posture": "isolate", "extra": 1}}))
            .unwrap();
        let refused = |s: &Value| !s["enforcement"]["rejected"].as_array().unwrap().is_empty();
        stage.wait_status(LIMIT, "refused", refused).unwrap();
        // A new order does not take the key away: the service merges.
        stage
            .desire(&json!({"quarantine": {"id": "inc-2", "posture": "isolate"}}))
            .unwrap();
        let page = stage.wait_status(LIMIT, "still refused", refused).unwrap();
        let faults = page["enforcement"]["rejected"][0]["faults"].as_array().unwrap();
        let told = faults.last().unwrap()["problem"].as_str().unwrap();
        let write = told.split_once("removes it: ").unwrap().1;
        let write: Value = serde_json::from_str(write).unwrap();
        stage.desire(&write["state"]["desired"]).unwrap();
        let status = stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(status["enforcement"]["orders"][0]["id"], "inc-2", "{status}");
        stage.desire(&json!({"quarantine": false})).unwrap();
        connected_and_released(&stage);
    }
);
