//! A disk that does not answer: orders are carried out all the same, that is told, and what was late is on disk later.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use edgewarden_lab::lab_test;
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use crate::common::agent::{restart, restart_as};
use crate::common::{LIMIT, connected_and_released, done, isolate, options, ready, release};

/// While a file is there, whoever syncs waits for it to go: 30 seconds at most, longer than any order may take.
const HANGING_SYNC: &str = r#"
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>
static void wait_for_disk(void) {
    const char *hangs = getenv("DISK_HANGS");
    for (int tenths = 0; hangs && tenths < 300 && access(hangs, F_OK) == 0; tenths++) usleep(100000);
}
int fsync(int fd) {
    wait_for_disk();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
int fdatasync(int fd) {
    wait_for_disk();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"#;

/// A disk of the agent's own that can be made to hang.
struct Disk(PathBuf);

impl Disk {
    fn hang(&self) {
        std::fs::write(&self.0, "").unwrap();
    }

    fn answer(&self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// The library that makes it hang; built by the compiler that Rust links with.
fn library(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("disk.c"), folder.join("disk.so"));
    std::fs::write(&source, HANGING_SYNC).unwrap();
    let status = Command::new("cc")
        .args(["-D_GNU_SOURCE", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(status.success(), "cc: {status}");
    library
}

/// The stage with its agent on such a disk.
fn on_a_disk_that_hangs(stage: &mut Stage) -> Disk {
    let folder = stage.site.directory();
    let disk = Disk(folder.join("disk-hangs"));
    let preload = format!("LD_PRELOAD={}", library(folder).display());
    let hangs = format!("DISK_HANGS={}", disk.0.display());
    restart_as(stage, "env", &[&preload, &hangs]);
    connected_and_released(stage);
    disk
}

fn told(status: &Value, kind: &str) -> bool {
    let obstacles = status["enforcement"]["obstacles"].as_array().unwrap();
    obstacles.iter().any(|obstacle| obstacle["kind"] == kind)
}

lab_test!(a_disk_that_does_not_answer_holds_no_order_up, || {
    let mut stage = ready(options());
    let disk = on_a_disk_that_hangs(&mut stage);
    isolate(&stage);
    release(&stage);
    assert!(
        !told(&stage.status(), "journalNotWritten"),
        "control: a disk that answers"
    );

    disk.hang();
    let began = Instant::now();
    stage.desire(&json!({"quarantine": true})).unwrap();
    let isolated = |s: &Value| s["enforcement"]["posture"] == "isolate";
    stage
        .wait_status(LIMIT, "isolated without the disk", isolated)
        .unwrap();
    assert!(stage.has_table().unwrap());
    let took = began.elapsed();
    assert!(took.as_secs() < 15, "{took:?}: the order waited for the disk");
    let status = stage.status();
    assert!(told(&status, "journalNotWritten"), "{status}");
    let page = done(&stage, &["status"]);
    assert!(page.contains("would not survive a restart"), "{page}");
    assert!(page.contains("make room on, or remount"), "the next step: {page}");

    disk.answer();
    let kept = |s: &Value| !told(s, "journalNotWritten") && s["enforcement"]["phase"] == "enforced";
    stage
        .wait_status(LIMIT, "what was late is on disk", kept)
        .unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    restart(&mut stage);
    stage.wait_status(LIMIT, "the order survived", isolated).unwrap();
    release(&stage);
});

lab_test!(
    an_order_that_was_late_on_disk_does_not_come_back_after_its_release,
    || {
        let mut stage = ready(options());
        let disk = on_a_disk_that_hangs(&mut stage);
        disk.hang();
        stage.desire(&json!({"quarantine": true})).unwrap();
        let posture = |wanted: &'static str| move |s: &Value| s["enforcement"]["posture"] == wanted;
        stage
            .wait_status(LIMIT, "isolated without the disk", posture("isolate"))
            .unwrap();
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage
            .wait_status(LIMIT, "released without the disk", posture("normal"))
            .unwrap();
        assert!(
            told(&stage.status(), "journalNotWritten"),
            "control: the order is still on its way"
        );

        disk.answer();
        let settled = |s: &Value| !told(s, "journalNotWritten") && s["enforcement"]["phase"] == "released";
        stage
            .wait_status(LIMIT, "the release is on disk", settled)
            .unwrap();
        stage.agent.as_mut().unwrap().kill9().unwrap();
        restart(&mut stage);
        connected_and_released(&stage);
        assert!(!stage.has_table().unwrap());
    }
);
