//! Harm to the journal and to the disk under it: a live order is never silently lost, and nothing hangs.
//!
//! In: nothing. What each case looks at: what the kernel holds once the agent runs again, and what status says.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::picture::picture;
use crate::common::agent::restart_behind;
use crate::common::{LIMIT, connected_and_released, done, done_for_the_moment, options, random, ready};

/// A disk of its own under the state directory, as seen by everybody in the lab.
const DISK: &str = "/run/edgewarden-holds-disk";
/// A start with a damaged journal, to the closed device; far more than it takes on a busy machine.
const NO_HANG: Duration = Duration::from_secs(10);

/// Harm done to the journal, by name.
type Harm = (String, Box<dyn Fn(&Path)>);

fn isolate_by_operator(stage: &Stage) {
    done(stage, &["quarantine", "--reason", "r"]);
    stage.wait_phase(LIMIT, "enforced").unwrap();
}

/// Whatever it is.
fn remove(path: &Path) {
    let _absent = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir_all(path));
}

fn bytes_harm(name: String, bytes: Vec<u8>) -> Harm {
    (name, Box::new(move |path| std::fs::write(path, &bytes).unwrap()))
}

fn truncated(good: &[u8], random: &mut fastrand::Rng) -> Harm {
    // Without its last byte, a line end, it is whole.
    let length = random.usize(0..good.len() - 1);
    bytes_harm(format!("cut to {length} bytes"), good[..length].to_vec())
}

fn garbled(good: &[u8], random: &mut fastrand::Rng) -> Harm {
    let mut bytes = good.to_vec();
    let begin = random.usize(0..bytes.len() - 1);
    let length = random.usize(1..=64).min(bytes.len() - 1 - begin);
    let run = begin..begin + length;
    let kind = random.u8(0..4);
    match kind {
        0 => bytes[begin] ^= 1 << random.u8(0..8),
        1 => bytes[run].iter_mut().for_each(|byte| *byte = !*byte),
        2 => bytes[run].fill(0),
        _ => drop(bytes.drain(run)),
    }
    assert_ne!(bytes, good);
    bytes_harm(
        format!("garbled (kind {kind}) from {begin}, {length} bytes"),
        bytes,
    )
}

fn replaced() -> Vec<Harm> {
    let harm = |name: &str, harm: fn(&Path)| -> Harm { (name.to_owned(), Box::new(harm)) };
    vec![
        harm("empty", |path| std::fs::write(path, "").unwrap()),
        harm("zeros", |path| std::fs::write(path, [0; 4096]).unwrap()),
        harm("a directory", |path| std::fs::create_dir(path).unwrap()),
        harm("a full directory", |path| {
            std::fs::create_dir_all(path.join("x/y")).unwrap();
        }),
        harm("a link to nowhere", |path| symlink("/nonexistent", path).unwrap()),
        harm("a link to itself", |path| symlink(path, path).unwrap()),
        harm("a link to endless zeros", |path| {
            symlink("/dev/zero", path).unwrap();
        }),
        harm("a pipe", |path| {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        }),
        harm("100 MB", |path| {
            std::fs::File::create(path).unwrap().set_len(100_000_000).unwrap();
        }),
    ]
}

/// Starts an agent whose kernel has forgotten everything, and waits until it has closed the device by itself.
pub(super) fn isolates_by_itself(stage: &mut Stage, name: &str) {
    stage.nft(&["flush", "ruleset"]).unwrap();
    assert_eq!(picture(stage), None, "control: as after a reboot");
    let started = Instant::now();
    stage.start_agent().unwrap();
    let status = stage
        .wait_status(NO_HANG, &format!("{name}: isolated again"), |s| {
            s["enforcement"]["posture"] == "isolate"
        })
        .unwrap();
    println!("{name}: closed after {:?}", started.elapsed());
    let order = &status["enforcement"]["orders"][0];
    assert_eq!(order["authority"], "recovery", "{name}: {status}");
    let reason = order["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("journal"), "{name}: why is said: {status}");
    assert!(picture(stage).is_some(), "{name}");
    // The new journal holds what was assumed, so another start does not open the device either.
    assert_eq!(status["enforcement"]["faults"], json!([]), "{name}");
}

/// Every harm to the journal of an isolated device.
pub(crate) fn harmed(rounds: u64) {
    let mut random = random();
    let mut stage = ready(options());
    isolate_by_operator(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let journal = stage.state_directory().join("journal");
    let aside = stage.state_directory().join("journal.damaged");
    let good = std::fs::read(&journal).unwrap();
    let mut harms = replaced();
    for _ in 0..rounds {
        harms.push(truncated(&good, &mut random));
        harms.push(garbled(&good, &mut random));
    }
    for (name, harm) in harms {
        remove(&journal);
        remove(&aside);
        harm(&journal);
        isolates_by_itself(&mut stage, &name);
        assert!(
            aside.symlink_metadata().is_ok(),
            "{name}: kept for whoever looks for the reason"
        );
        stage.agent.as_mut().unwrap().kill9().unwrap();
    }

    // Control: what is whole is obeyed, not assumed.
    remove(&aside);
    std::fs::write(&journal, &good[..good.len() - 1]).unwrap();
    stage.start_agent().unwrap();
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(
        status["enforcement"]["orders"][0]["authority"], "operator",
        "{status}"
    );
    done(&stage, &["release"]);
    assert_eq!(picture(&stage), None);
}

/// A device that was free says so in what is left of its journal, and stays free.
pub(crate) fn harmed_while_free() {
    let mut stage = ready(options());
    isolate_by_operator(&stage);
    done(&stage, &["release"]);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let journal = stage.state_directory().join("journal");
    let good = std::fs::read(&journal).unwrap();
    let mut flipped = good.clone();
    let last = flipped.len() - 3;
    flipped[last] ^= 1;
    for harmed in [&good[..good.len() * 2 / 3], &flipped] {
        std::fs::write(&journal, harmed).unwrap();
        let earlier = stage.agent_output().len();
        stage.start_agent().unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        let life = stage.agent_output()[earlier..].to_owned();
        assert!(life.contains("the journal is damaged"), "{life}");
        assert!(
            life.contains("nothing in it or in the kernel speaks of an order"),
            "{life}"
        );
        assert!(
            !life.contains("posture=Isolate"),
            "never closed in between: {life}"
        );
        stage.agent.as_mut().unwrap().kill9().unwrap();
    }
}

fn mount(args: &[&str]) {
    let output = Command::new("mount").args(args).output().unwrap();
    assert!(output.status.success(), "mount {args:?}: {output:?}");
}

/// Starts the agent with [`DISK`] as its state directory.
fn start_on_disk(stage: &mut Stage) {
    let state = stage.state_directory();
    std::fs::create_dir_all(&state).unwrap();
    restart_behind(stage, &format!("mount --bind {DISK} {}", state.display()));
}

/// A free device on a small disk of its own.
fn ready_on_disk() -> Stage {
    std::fs::create_dir(DISK).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", DISK]);
    let mut stage = Stage::start(options()).unwrap();
    start_on_disk(&mut stage);
    connected_and_released(&stage);
    stage
}

/// Whether the fault of a journal that cannot be written is told.
fn fault_told(status: &Value) -> bool {
    let faults = status["enforcement"]["faults"].to_string();
    faults.contains("/journal") && faults.contains("what is ordered would not survive a restart")
}

fn journal_on_disk() -> String {
    let bytes = std::fs::read(PathBuf::from(DISK).join("journal")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A disk that takes nothing: orders are carried out and told as forgettable, what was written before stays, and once
/// the disk takes something the journal is whole without anybody's help.
fn unwritable(break_disk: &dyn Fn(), mend_disk: &dyn Fn()) {
    let mut stage = ready_on_disk();
    isolate_by_operator(&stage);
    assert_eq!(stage.status()["enforcement"]["faults"], json!([]), "control");
    // The order on disk outlives a kill, though nothing can be written any more.
    stage.agent.as_mut().unwrap().kill9().unwrap();
    break_disk();
    stage.nft(&["flush", "ruleset"]).unwrap();
    start_on_disk(&mut stage);
    let operator = |s: &Value| {
        s["enforcement"]["posture"] == "isolate" && s["enforcement"]["orders"][0]["authority"] == "operator"
    };
    stage
        .wait_status(NO_HANG, "restored from what is on disk", operator)
        .unwrap();

    // A release and an order that cannot be written are carried out, and say so.
    done_for_the_moment(&stage, &["release"]);
    assert_eq!(picture(&stage), None);
    stage
        .wait_status(LIMIT, "the release would be forgotten", fault_told)
        .unwrap();
    assert!(
        journal_on_disk().contains("posture"),
        "control: the disk still holds the order"
    );
    break_disk();
    stage
        .desire(&json!({"quarantine": {"id": "second", "posture": "isolate"}}))
        .unwrap();
    let late = |s: &Value| s["enforcement"]["phase"] == "enforced" && fault_told(s);
    stage
        .wait_status(LIMIT, "enforced, and told as forgettable", late)
        .unwrap();
    assert!(picture(&stage).is_some());
    let told = |shadow: &Value| {
        shadow["state"]["reported"]["quarantineStatus"]
            .to_string()
            .contains("survive a restart")
    };
    stage.wait_shadow(LIMIT, "the cloud is told", told).unwrap();
    assert!(!journal_on_disk().contains("second"), "control: not written");

    restart_in_order(&mut stage);
    stage
        .wait_status(LIMIT, "its successor tells it as forgettable, too", late)
        .unwrap();

    mend_disk();
    let whole =
        |s: &Value| s["enforcement"]["phase"] == "enforced" && s["enforcement"]["faults"] == json!([]);
    stage.wait_status(LIMIT, "written by itself", whole).unwrap();
    wait_until(LIMIT, "the order on disk", || {
        journal_on_disk().contains("second")
    })
    .unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    start_on_disk(&mut stage);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(!journal_on_disk().is_empty());
    assert!(
        !Path::new(DISK).join("journal.damaged").exists(),
        "never half a journal"
    );
}

/// As at any deployment: the next agent finds in memory what its disk did not take.
fn restart_in_order(stage: &mut Stage) {
    let mut agent = stage.agent.take().unwrap();
    agent.signal(Signal::SIGTERM).unwrap();
    agent.wait_exit(LIMIT).unwrap();
    start_on_disk(stage);
}

/// The whole file system becomes read-only, as after an error of the disk.
pub(crate) fn read_only() {
    unwritable(&|| mount(&["-o", "remount,ro", DISK]), &|| {
        mount(&["-o", "remount,rw", DISK]);
    });
}

/// Somebody fills the disk to the last byte.
pub(crate) fn full() {
    let filler = Path::new(DISK).join("filler");
    unwritable(
        &|| {
            let mut file = std::fs::File::options()
                .append(true)
                .create(true)
                .open(&filler)
                .unwrap();
            let error = file.write_all(&vec![b'x'; 1024 * 1024]).unwrap_err();
            assert_eq!(
                error.raw_os_error(),
                Some(nix::libc::ENOSPC),
                "control: the disk is full"
            );
        },
        &|| std::fs::remove_file(&filler).unwrap(),
    );
}
