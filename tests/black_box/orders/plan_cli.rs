//! `edgewarden plan` shows and changes nothing; `edgewarden quarantine --order` gives a rich order.

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, INTERNET_V4, Ns};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use crate::common::gateway::nft_takes;
use crate::common::programs::sender;
use crate::common::{LIMIT, done, isolate, options, ready, release};

/// Writes an order, gives its path.
fn file(stage: &Stage, order: &str) -> String {
    let path = stage.site.directory().join("order.json");
    std::fs::write(&path, order).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Why a command fails.
fn refused(stage: &Stage, args: &[&str]) -> String {
    let (code, output, errors) = stage.edgewarden(args).unwrap();
    assert_eq!((code, output.as_str()), (Some(1), ""), "{args:?}: {errors}");
    errors
}

fn journal(stage: &Stage) -> Option<Vec<u8>> {
    std::fs::read(stage.state_directory().join("journal")).ok()
}

lab_test!(a_plan_is_shown_and_nothing_changes, || {
    let stage = ready(options());
    assert!(done(&stage, &["plan"]).contains("normal: nothing is cut"));
    let allow = json!([{"remote": "192.0.2.7", "protocol": "tcp", "ports": [22], "direction": "in"}]);
    let block = json!({"remotes": ["203.0.113.0/24"], "ports": [{"protocol": "udp", "port": 19}]});
    let order = json!({"id": "try-1", "posture": "isolate", "allow": allow, "block": block});
    let path = file(&stage, &order.to_string());
    let before = (journal(&stage), stage.status()["enforcement"].clone());

    let page = done(&stage, &["plan", "--order", &path]);
    for part in [
        "ISOLATE",
        "isolate by operator (try-1)",
        &format!("data endpoint: {INTERNET_V4} tcp 443 8443 8883"),
        "192.0.2.7/32 may reach this device on tcp 22",
        "203.0.113.0/24",
        "udp 19",
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    let value: Value = serde_json::from_str(&done(&stage, &["plan", "--order", &path, "--json"])).unwrap();
    assert_eq!(value["plan"]["posture"], "isolate", "{value}");
    let addresses = value["plan"]["endpoints"].as_array().unwrap();
    assert!(
        addresses
            .iter()
            .any(|one| one["address"] == INTERNET_V4.to_string())
    );
    let text = done(&stage, &["plan", "--order", &path, "--nft"]);
    assert_eq!(value["text"], *text);
    assert!(nft_takes(&stage, &text, &["-c"]).is_ok(), "{text}");
    assert!(
        nft_takes(
            &stage,
            &text.replacen("policy drop", "policy nonsense", 1),
            &["-c"]
        )
        .is_err(),
        "control"
    );

    let after = (journal(&stage), stage.status()["enforcement"].clone());
    assert_eq!(before.0, after.0, "the journal");
    for key in ["phase", "orders", "wanted", "plan", "rejected"] {
        assert_eq!(before.1[key], after.1[key], "{key}");
    }
    assert!(!stage.has_table().unwrap(), "the kernel");
    isolate(&stage);
    let page = done(&stage, &["plan"]);
    assert!(page.contains("isolate by shadow"), "what is done now: {page}");
    release(&stage);
});

lab_test!(
    a_plan_names_the_processes_it_would_stop_and_those_it_spares,
    || {
        let stage = ready(StageOptions {
            configuration: json!({"isolation": {"protected": ["*/opt/planned-spared"]}}),
            ..options()
        });
        let running = ["planned-rogue", "planned-spared"].map(|name| sender(&stage, name));
        let rule = json!([{"match": {"exe": "*/opt/planned-*"}, "action": "freeze"}]);
        let path = file(
            &stage,
            &json!({"posture": "restrict", "processes": rule}).to_string(),
        );
        let page = done(&stage, &["plan", "--order", &path]);
        let line = |label: &str, index: usize| {
            let who = format!("({})", running[index].pid());
            page.lines()
                .any(|line| line.starts_with(label) && line.contains(&who))
        };
        assert!(line("Freezes", 0) && line("Spares", 1), "{page}");
    }
);

lab_test!(a_faulty_order_is_refused_with_every_fault, || {
    let stage = ready(options());
    let faulty = json!({
        "posture": "total", "extra": 1, "expires": "tomorrow",
        "block": {"remotes": ["203.0.113.0/33", 7]},
        "allow": [{"remote": "x", "protocol": "tcp", "ports": [0], "direction": "in"}],
    });
    let path = file(&stage, &faulty.to_string());
    for args in [
        vec!["plan", "--order", &path],
        vec!["quarantine", "--order", &path, "--reason", "test"],
    ] {
        let errors = refused(&stage, &args);
        for place in [
            "posture",
            "extra",
            "expires",
            "block.remotes[0]",
            "block.remotes[1]",
            "allow[0].remote",
        ] {
            assert!(
                errors.contains(&format!("quarantine.{place}: ")),
                "{place}: {errors}"
            );
        }
    }
    let path = file(&stage, "{\"posture\": ");
    assert!(refused(&stage, &["plan", "--order", &path]).contains("is no JSON"));
    let path = file(&stage, "false");
    assert!(refused(&stage, &["plan", "--order", &path]).contains("orders nothing"));
    let path = file(&stage, r#"{"posture": "isolate"}"#);
    assert!(refused(&stage, &["quarantine", "--order", &path]).contains("needs a reason"));
    assert!(refused(&stage, &["plan", "--order", "/nowhere/order.json"]).contains("/nowhere/order.json"));
    assert_eq!(stage.status()["enforcement"]["phase"], "released");
    assert!(!stage.has_table().unwrap());
});

lab_test!(the_operator_gives_a_rich_order_with_very_many_remotes, || {
    let stage = ready(options());
    let site = &stage.site;
    let _servers = [4444, 8080].map(|port| site.echo_server(Ns::Internet, port).unwrap());
    let reach = |address, port| site.tcp_connects(Ns::Gateway, address, port).unwrap();
    assert!(reach(ATTACKER_V4, 4444) && reach(INTERNET_V4, 8080), "control");
    // Every other address, so that they do not fold into blocks; and the attacker.
    let many = (0..100_000_u32).map(|n| std::net::Ipv4Addr::from(0x0A00_0000 + 2 * n).to_string());
    let remotes: Vec<String> = many.chain([ATTACKER_V4.to_string()]).collect();
    let order =
        json!({"id": "many", "posture": "restrict", "reason": "a list", "block": {"remotes": remotes}});
    let path = file(&stage, &order.to_string());
    let page = done(&stage, &["plan", "--order", &path]);
    assert!(page.contains("and 99977 more"), "{page}");
    assert!(!stage.has_table().unwrap());
    done(&stage, &["quarantine", "--order", &path]);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(!reach(ATTACKER_V4, 4444) && reach(INTERNET_V4, 8080));
    done(&stage, &["release"]);
    stage.wait_phase(LIMIT, "released").unwrap();
    assert!(reach(ATTACKER_V4, 4444));
});
