//! Other tables beside ours: docker's, the administrator's. Nothing we do changes a byte of them.
//!
//! In: nothing. What is compared are whole listings with handles and counts: a table that was removed and made again
//! would have other handles.

use edgewarden_lab::stage::Stage;
use serde_json::json;

use super::picture::picture;
use crate::common::gateway::nft_takes;
use crate::common::{LIMIT, done, isolate, options, ready, release};

/// Hooks, chains, sets, maps and counters as others have them; the counts are given, and no traffic hits them.
const OTHERS: &str = r#"
table ip nat {
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        iifname "wan0" tcp dport 7001 counter packets 7 bytes 700 dnat to 192.0.2.2:7001
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 192.0.2.0/24 oifname "docker0" counter packets 3 bytes 300 masquerade
    }
}
table ip docker {
    chain DOCKER-USER { counter packets 9 bytes 900 return; }
    chain DOCKER { iifname "docker0" ip daddr 172.17.0.2 tcp dport 80 counter packets 1 bytes 60 accept; }
    chain unused { type filter hook forward priority filter; policy accept; iifname "docker0" jump DOCKER-USER; iifname "docker0" jump DOCKER; }
}
table ip6 filter {
    chain input { type filter hook input priority filter; policy accept; tcp dport 7003 counter packets 2 bytes 200 drop; }
}
table inet admin {
    set friends { type ipv4_addr; flags interval; elements = { 192.0.2.0/25, 198.51.100.7 } }
    map ports { type inet_service : verdict; elements = { 7004 : accept, 7005 : drop } }
    counter hits { packets 5 bytes 500 }
    chain input {
        type filter hook input priority filter - 10; policy accept;
        ip saddr @friends tcp dport 7002 counter name hits accept
        tcp dport vmap @ports
    }
}
table bridge admin {
    chain forward { type filter hook forward priority filter; policy accept; ether type arp counter packets 4 bytes 168 accept; }
}
table netdev admin {
    chain early { type filter hook ingress device "wan0" priority 0; policy accept; tcp dport 7006 counter packets 6 bytes 600 drop; }
}
"#;
/// Where the kernel has it: flows past the forward chains.
const FLOWTABLE: &str = r#"
table inet flows {
    flowtable fast { hook ingress priority filter; devices = { "wan0", "lan0" }; }
    chain forward { type filter hook forward priority filter; policy accept; tcp dport 7007 flow add @fast; }
}
"#;

/// Every table that is not ours, whole.
fn others(stage: &Stage) -> String {
    let (_, tables, _) = stage.nft(&["list", "tables"]).unwrap();
    let mut all = String::new();
    for table in tables.lines().filter(|line| !line.ends_with(" edgewarden")) {
        let words: Vec<&str> = ["-a", "list"].into_iter().chain(table.split(' ')).collect();
        let (code, listing, errors) = stage.nft(&words).unwrap();
        assert_eq!(code, Some(0), "{words:?}: {errors}");
        all.push_str(&listing);
    }
    all
}

/// Isolation, restriction, repair, release and removal beside them.
pub(crate) fn stay_as_they_are() {
    let mut stage = ready(options());
    nft_takes(&stage, OTHERS, &[]).unwrap();
    if let Err(refusal) = nft_takes(&stage, FLOWTABLE, &[]) {
        println!("this kernel has no flowtables: {refusal}");
    }
    let before = others(&stage);
    assert!(
        before.matches("table ").count() >= 6,
        "control: they are listed:\n{before}"
    );
    let same = |what: &str| assert_eq!(others(&stage), before, "{what}");

    isolate(&stage);
    same("isolated");
    let order = json!({"id": "r", "posture": "restrict",
        "block": {"remotes": ["203.0.113.0/24"], "ports": [{"protocol": "tcp", "port": 2323}]}});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    let restricted = |s: &serde_json::Value| {
        s["enforcement"]["posture"] == "restrict" && s["enforcement"]["phase"] == "enforced"
    };
    stage.wait_status(LIMIT, "restricted", restricted).unwrap();
    same("restricted");

    let ours = picture(&stage);
    let (code, ..) = stage.nft(&["delete", "table", "inet", "edgewarden"]).unwrap();
    assert_eq!(code, Some(0));
    let repaired = |s: &serde_json::Value| s["enforcement"]["reasserted"] == 1 && picture(&stage) == ours;
    stage.wait_status(LIMIT, "put back", repaired).unwrap();
    same("put back");
    release(&stage);
    same("released");

    isolate(&stage);
    // Control: the comparison sees what somebody else changes.
    let (code, ..) = stage
        .nft(&["add", "element", "inet", "admin", "friends", "{ 192.0.2.200 }"])
        .unwrap();
    assert_eq!(code, Some(0));
    assert_ne!(others(&stage), before);
    let before = others(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    done(&stage, &["uninstall", "--release", "--reason", "gone"]);
    assert_eq!(picture(&stage), None, "nothing of ours is left");
    assert_eq!(others(&stage), before, "uninstalled");
}
