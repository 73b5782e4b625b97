//! Ways past the rules that cannot be closed: they are told, and no longer once they are gone.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Ns, limit_here};
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use super::frames::{BROADCAST, Between, Frame, UNKNOWN};
use super::free;
use super::wire::{Ear, Port};
use crate::common::gateway::{ip, run};
use crate::common::programs::build;
use crate::common::{LIMIT, isolate, options};

/// Attaches an XDP program that lets everything pass, and keeps it there.
const ATTACHES: &str = r#"
#include <linux/bpf.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static int bpf(int what, union bpf_attr *given) { return syscall(SYS_bpf, what, given, sizeof *given); }
int main(int count, char **words) {
    struct bpf_insn passes[] = {{.code = 0xb7, .imm = 2}, {.code = 0x95}};
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_XDP, .insns = (unsigned long)passes, .insn_cnt = 2,
                           .license = (unsigned long)"GPL"};
    union bpf_attr link = {0};
    link.link_create.prog_fd = bpf(BPF_PROG_LOAD, &load);
    link.link_create.target_ifindex = if_nametoindex(words[1]);
    link.link_create.attach_type = BPF_XDP;
    if (bpf(BPF_LINK_CREATE, &link) < 0) { perror("attach"); return 1; }
    puts("{\"event\":\"attached\"}");
    fflush(stdout);
    pause();
}
"#;

/// An isolated device with an interface that leads to another namespace; nothing is uncovered.
fn isolated() -> Stage {
    let stage = free(options());
    ip(
        &stage,
        "netns add extra
         netns add other
         link add x0 type veth peer name x1 netns extra
         link set x0 up
         -n extra link set x1 up",
    );
    isolate(&stage);
    is_whole(&stage);
    stage
}

fn is_told(stage: &Stage, what: &str) {
    let told = |status: &Value| status["enforcement"]["uncovered"].to_string().contains(what);
    let status = stage.wait_status(LIMIT, what, told).unwrap();
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
}

fn is_whole(stage: &Stage) {
    let whole = |status: &Value| status["enforcement"]["uncovered"] == json!([]);
    stage.wait_status(LIMIT, "nothing is uncovered", whole).unwrap();
}

lab_test!(programs_and_filters_at_interfaces_are_told, || {
    let stage = isolated();
    let log = stage.site.directory().join("attaches.log");
    let spawned = stage.site.spawn(
        Ns::Gateway,
        build(&stage, "attaches", ATTACHES),
        &["x0"],
        &[],
        log,
    );
    let mut attached = spawned.unwrap();
    attached
        .wait_event(LIMIT, |event| event["event"] == "attached")
        .unwrap();
    is_told(&stage, "XDP program");
    attached.kill9().unwrap();
    is_whole(&stage);

    let tc = |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        run(&stage, Ns::Gateway, "tc", &words);
    };
    tc("qdisc add dev x0 clsact");
    let redirect = "u32 match u32 0 0 action mirred egress redirect dev wan0";
    for way in ["ingress", "egress"] {
        tc(&format!("filter add dev x0 {way} protocol all {redirect}"));
        is_told(&stage, "a tc filter (mirred) on x0");
        tc(&format!("filter del dev x0 {way}"));
        is_whole(&stage);
    }
});

lab_test!(whoever_reads_frames_past_the_rules_is_told, || {
    let stage = isolated();
    let reader = Port::of("gateway", "x0").sender(UNKNOWN);
    is_told(&stage, &format!("(process {})", std::process::id()));
    is_told(&stage, "read past the rules");
    drop(reader);
    is_whole(&stage);
});

fn by_hand(port: &Port) -> Frame {
    let between = Between {
        from: port.mac(),
        to: BROADCAST,
    };
    between.frame("by hand", UNKNOWN, |marker| marker)
}

lab_test!(an_interface_that_is_moved_away_is_told, || {
    let stage = isolated();
    // As an engine makes a container's: what it sends comes by here.
    ip(
        &stage,
        "link add c0 type veth peer name c1\nlink set c1 netns other",
    );
    ip(&stage, "link set x0 netns other\n-n other link set x0 up");
    is_told(&stage, "x0 is not cut: it was moved");
    let status = stage.status();
    let uncovered = &status["enforcement"]["uncovered"];
    assert_eq!(uncovered.as_array().unwrap().len(), 1, "{status}");
    let port = Port::of("other", "x0");
    assert!(
        Ear::open("extra").hears(&port, &by_hand(&port)),
        "what is told is so"
    );
    ip(&stage, "-n other link set x0 netns gateway\nlink set x0 up");
    is_whole(&stage);
});

lab_test!(a_renamed_interface_is_cut_within_a_second, || {
    let stage = isolated();
    let ear = Ear::open("extra");
    ip(&stage, "link set x0 down\nlink set x0 name y0\nlink set y0 up");
    std::thread::sleep(limit_here(Duration::from_secs(1)));
    let port = Port::of("gateway", "y0");
    assert!(!ear.hears(&port, &by_hand(&port)));
    is_whole(&stage);
});
