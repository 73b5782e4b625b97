//! Somebody who may change the packet filter floods our tables, so that they cannot be read or take too long.
//!
//! Whatever it is and however many: the tables are put back whole, and the flood is told with its maker.

use std::fmt::Write as _;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns, wait_until};
use edgewarden_lab::stage::Stage;
use serde_json::Value;

use crate::common::agent::restart;
use crate::common::gateway::nft_takes;
use crate::common::{LIMIT, connected_and_released, done, isolate, options, ready, release};

/// A flood: what it is, and the text that nft reads.
type Flood = (&'static str, String);

/// A line for each number.
fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        writeln!(text, "{}", line(number)).unwrap();
        text
    })
}

/// More than is read of our counters, more than is read of a table or a set, and of every kind.
fn floods() -> Vec<Flood> {
    let table = "inet edgewarden";
    let hosts = |first: &str| -> String {
        let hosts: Vec<String> = (0..3_000)
            .map(|number| format!("{first}.{}.{}", number / 250, number % 250))
            .collect();
        hosts.join(", ")
    };
    let endpoints: Vec<String> = (1..3_000)
        .map(|port| format!("203.0.113.7 . tcp . {port}"))
        .collect();
    vec![
        (
            "counters",
            lines(1_100, |number| format!("add counter {table} flood{number}")),
        ),
        (
            "very many counters",
            lines(20_000, |number| format!("add counter {table} flood{number}")),
        ),
        (
            "quotas of another table",
            lines(1_100, |number| {
                format!("add quota netdev edgewarden flood{number} {{ 10 mbytes }}")
            }),
        ),
        (
            "chains",
            lines(2_000, |number| format!("add chain {table} flood{number}")),
        ),
        (
            "rules",
            lines(20_000, |_| {
                format!("insert rule {table} output accept comment \"flood\"")
            }),
        ),
        (
            "sets",
            lines(1_100, |number| {
                format!("add set {table} flood{number} {{ type ipv4_addr; }}")
            }),
        ),
        (
            "a set with elements",
            format!(
                "add set {table} flood {{ type ipv4_addr; }}\nadd element {table} flood {{ {} }}\n",
                hosts("10.1")
            ),
        ),
        (
            "lifelines",
            format!("add element {table} endpoints4 {{ {} }}\n", endpoints.join(", ")),
        ),
        (
            "maps",
            lines(1_100, |number| {
                format!("add map {table} flood{number} {{ type ipv4_addr : verdict; }}")
            }),
        ),
    ]
}

fn leaves(stage: &Stage) -> bool {
    let reaches = stage
        .site
        .udp_reaches(Ns::Gateway, Ns::Internet, ATTACKER_V4, 4444);
    reaches.unwrap()
}

/// Whether nothing of a flood is left in our tables, and they are there.
fn is_clean(stage: &Stage) -> bool {
    ["inet", "netdev"].iter().all(|family| {
        let (code, text, _) = stage.nft(&["list", "table", family, "edgewarden"]).unwrap();
        code == Some(0) && !text.contains("flood") && !text.contains("203.0.113.7 .")
    })
}

lab_test!(a_flood_of_our_tables_is_replaced_and_told_with_its_maker, || {
    let stage = ready(options());
    assert!(leaves(&stage), "control: it arrives before");
    isolate(&stage);
    let (floods, mut named) = (floods(), 0);
    for (what, flood) in &floods {
        let before = stage.status()["enforcement"]["reasserted"].as_u64().unwrap();
        nft_takes(&stage, flood, &[]).unwrap_or_else(|errors| panic!("control: {what}: {errors}"));
        let again = |s: &Value| {
            s["enforcement"]["reasserted"].as_u64() > Some(before) && s["enforcement"]["phase"] == "enforced"
        };
        // Whoever asks the agent has it look, perhaps before the kernel has told who did it.
        wait_until(LIMIT, what, || is_clean(&stage)).unwrap();
        let status = stage.wait_status(LIMIT, what, again).unwrap();
        assert!(!leaves(&stage), "{what}");
        // A look of its own may have been under way.
        let by = status["enforcement"]["changedBy"].as_str().unwrap_or_default();
        assert!(by.is_empty() || by.starts_with("nft ("), "{what}: {status}");
        named += usize::from(!by.is_empty());
        let told = done(&stage, &["history"]);
        let told = told
            .lines()
            .rfind(|line| line.contains("rules put back"))
            .unwrap();
        assert!(told.contains("edgewarden") && told.contains(by), "{what}: {told}");
        println!("{what}: {told}");
    }
    assert!(
        named + 2 >= floods.len(),
        "{named} of {} makers are named",
        floods.len()
    );
    release(&stage);
});

lab_test!(
    a_flooded_table_of_our_name_keeps_no_order_and_no_release_from_the_kernel,
    || {
        let mut stage = ready(options());
        let flood = format!(
            "add table inet edgewarden\n{}",
            lines(20_000, |number| format!(
                "add counter inet edgewarden flood{number}"
            ))
        );
        // While the device is free: it goes away.
        nft_takes(&stage, &flood, &[]).unwrap();
        wait_until(LIMIT, "the flooded table is gone", || !stage.has_table().unwrap()).unwrap();
        // While nobody looks: the next agent's first look is at it.
        stage.agent.as_mut().unwrap().kill9().unwrap();
        nft_takes(&stage, &flood, &[]).unwrap();
        assert!(stage.has_table().unwrap(), "control: it stays");
        restart(&mut stage);
        connected_and_released(&stage);
        assert!(!stage.has_table().unwrap());
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        nft_takes(&stage, &flood, &[]).unwrap();
        restart(&mut stage);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert!(is_clean(&stage));
        release(&stage);
    }
);

lab_test!(
    a_flood_without_an_end_is_told_and_the_rules_hold_again_after_it,
    || {
        let stage = ready(options());
        isolate(&stage);
        let (stop, ran) = (
            stage.site.directory().join("stop"),
            stage.site.directory().join("ran"),
        );
        let text = format!(
            "n=0; while [ ! -e {} ]; do n=$((n + 1)); /usr/sbin/nft add counter inet edgewarden flood$n && echo $n > {}; done",
            stop.display(),
            ran.display()
        );
        let log = stage.site.directory().join("flood.log");
        let mut others = stage
            .site
            .spawn(Ns::Gateway, "/bin/sh", &["-c", &text], &[], log)
            .unwrap();
        let told = |s: &Value| s["enforcement"]["reasserted"].as_u64() >= Some(3);
        stage.wait_status(LIMIT, "the flood is told", told).unwrap();
        assert!(ran.exists(), "control");
        for _ in 0..5 {
            // Whatever is proven of them: the rules that cut are there all the while.
            assert!(!leaves(&stage));
        }
        std::fs::write(stop, "").unwrap();
        others.wait_exit(LIMIT).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        wait_until(LIMIT, "nothing of it is left", || is_clean(&stage)).unwrap();
        release(&stage);
    }
);
