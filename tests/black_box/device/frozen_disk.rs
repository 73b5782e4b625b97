//! A file system that is frozen under the agent: whoever writes there waits, and cannot even be killed.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use crate::common::agent::restart;
use crate::common::{LIMIT, connected_and_released, done, isolate, options, ready, release};

/// The state directory's file system. It thaws when this is dropped: the agent could not be ended before.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one of its own over the state directory; `None`, with a printed reason, where that is not permitted.
    fn mount(stage: &Stage) -> Option<Self> {
        let (image, place) = (stage.site.directory().join("disk"), stage.state_directory());
        std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        let made = run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
        assert!(made.is_ok(), "{made:?}");
        let mounted = run(
            "mount",
            &["-o", "loop", image.to_str().unwrap(), place.to_str().unwrap()],
        );
        if let Err(why) = mounted {
            assert!(std::env::var_os("CI").is_none() || !is_root(), "{why}");
            println!("SKIPPED: no file system can be mounted here: {why}");
            return None;
        }
        std::fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Some(Self(place))
    }

    fn freeze(&self) {
        run("fsfreeze", &["-f", self.0.to_str().unwrap()]).unwrap();
    }

    fn thaw(&self) -> Result<(), String> {
        run("fsfreeze", &["-u", self.0.to_str().unwrap()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may have been thawed.
        let _thawed = self.thaw();
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
    stage.agent = None;
    let Some(disk) = Disk::mount(&stage) else {
        return;
    };
    restart(&mut stage);
    connected_and_released(&stage);
    isolate(&stage);
    release(&stage);
    assert!(
        stage.state_directory().join("journal").exists(),
        "control: it is written there"
    );

    disk.freeze();
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

    disk.thaw().unwrap();
    let kept =
        |s: &Value| s["enforcement"]["phase"] == "enforced" && s["enforcement"]["obstacles"] == json!([]);
    stage
        .wait_status(LIMIT, "what was late is on disk", kept)
        .unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    restart(&mut stage);
    stage.wait_status(LIMIT, "the order survived", isolated).unwrap();
    release(&stage);
});
