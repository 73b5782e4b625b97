//! A file system that is frozen under the agent: whoever writes there waits, and cannot even be killed.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Running, wait_until};
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use crate::common::agent::restart_behind;
use crate::common::{LIMIT, connected_and_released, done, isolate, options, ready, release};

/// The state directory's file system, in the agent's own view of files. It thaws when this is dropped: the agent could not be
/// ended before.
struct Disk {
    image: PathBuf,
    place: PathBuf,
    agent: Option<u32>,
}

impl Disk {
    /// Makes it; `None`, with a printed reason, where none can be mounted.
    fn make(stage: &Stage) -> Option<Self> {
        let image = stage.site.directory().join("disk");
        std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]).unwrap();
        let disk = Self {
            image,
            place: stage.state_directory(),
            agent: None,
        };
        let tried = ["--mount", "--propagation", "private", "sh", "-c", &disk.mount()];
        match run("unshare", &tried) {
            Ok(()) => Some(disk),
            Err(why) => {
                assert!(std::env::var_os("CI").is_none() || !is_root(), "{why}");
                println!("SKIPPED: no file system can be mounted here: {why}");
                None
            }
        }
    }

    fn mount(&self) -> String {
        let (image, place) = (self.image.display(), self.place.display());
        format!("mount -o loop {image} {place} && chmod 700 {place}")
    }

    /// Starts the agent with its state there.
    fn start(&mut self, stage: &mut Stage) {
        restart_behind(stage, &self.mount());
        self.agent = stage.agent.as_ref().map(Running::pid);
    }

    /// Runs a program where the agent sees files.
    fn there(&self, words: &[&str]) -> Result<(), String> {
        let agent = self.agent.ok_or("there is no agent")?;
        let view = format!("--mount=/proc/{agent}/ns/mnt");
        let place = self.place.to_str().unwrap();
        run("nsenter", &[&[view.as_str()], words, &[place]].concat())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may have been thawed.
        let _thawed = self.there(&["fsfreeze", "-u"]);
    }
}

/// Root of the machine, not of a user namespace.
fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295"))
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

lab_test!(a_file_system_that_is_frozen_holds_no_order_up, || {
    let mut stage = ready(options());
    let Some(mut disk) = Disk::make(&stage) else {
        return;
    };
    disk.start(&mut stage);
    connected_and_released(&stage);
    isolate(&stage);
    release(&stage);
    disk.there(&["mountpoint", "-q"]).unwrap();
    assert_eq!(
        stage.status()["enforcement"]["obstacles"],
        json!([]),
        "control: it is written there"
    );

    disk.there(&["fsfreeze", "-f"]).unwrap();
    let ordered = Instant::now();
    stage.desire(&json!({"quarantine": true})).unwrap();
    let isolated = |s: &Value| s["enforcement"]["posture"] == "isolate";
    stage
        .wait_status(LIMIT, "isolated without the disk", isolated)
        .unwrap();
    let took = ordered.elapsed();
    assert!(
        took < Duration::from_secs(6),
        "{took:?}: the order waited for the disk"
    );
    let page = done(&stage, &["status"]);
    assert!(page.contains("would not survive a restart"), "{page}");
    stage.nft(&["flush", "ruleset"]).unwrap();
    let gone = Instant::now();
    wait_until(LIMIT, "the table is back", || stage.has_table().unwrap()).unwrap();
    assert!(gone.elapsed() < Duration::from_secs(1), "{:?}", gone.elapsed());

    disk.there(&["fsfreeze", "-u"]).unwrap();
    let kept =
        |s: &Value| s["enforcement"]["phase"] == "enforced" && s["enforcement"]["obstacles"] == json!([]);
    stage
        .wait_status(LIMIT, "what was late is on disk", kept)
        .unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    disk.start(&mut stage);
    stage.wait_status(LIMIT, "the order survived", isolated).unwrap();
    release(&stage);
});
