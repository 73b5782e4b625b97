//! A state directory that every write reaches and a restart of the machine forgets: it is told, and one on a disk is not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use edgewarden_lab::lab_test;
use edgewarden_lab::stage::Stage;
use serde_json::Value;

use crate::common::agent::restart_behind;
use crate::common::{connected_and_released, done, options, ready};

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgewarden");
const FORGETS: &str = "a restart of the machine forgets what is ordered";

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|error| error.to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(errors)
}

/// Mounts something at `place`, in the lab's own view of files.
fn mount(place: &Path, words: &[&str]) -> Result<(), String> {
    fs::create_dir_all(place).unwrap();
    run("mount", &[words, &[place.to_str().unwrap()]].concat())?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o700)).unwrap();
    Ok(())
}

fn memory(place: &Path) {
    mount(place, &["-t", "tmpfs", "memory"]).unwrap();
}

/// What an agent says of its state directory, started behind mounts of its own.
fn told_behind(stage: &mut Stage, mounts: &str) -> Value {
    restart_behind(stage, mounts);
    connected_and_released(stage);
    let status = stage.status();
    let told = status.get("volatile");
    told.unwrap_or_else(|| panic!("the field is always there: {status}"))
        .clone()
}

lab_test!(a_state_directory_in_memory_is_told_wherever_somebody_asks, || {
    let mut stage = ready(options());
    if on_a_disk(&stage.state_directory()) {
        assert_eq!(told_behind(&mut stage, "true"), Value::Null, "control: on a disk");
        assert!(!done(&stage, &["status"]).contains(FORGETS), "control");
        let answer = done(&stage, &["quarantine", "--reason", "control"]);
        assert!(!answer.contains(FORGETS), "control: {answer}");
        done(&stage, &["release"]);
    }
    let state = stage.state_directory().display().to_string();
    let mounts = format!("mount -t tmpfs memory {state} && chmod 700 {state}");
    let told = told_behind(&mut stage, &mounts);
    let text = told.as_str().unwrap_or_default();
    assert!(text.contains("tmpfs") && text.contains(FORGETS), "{told}");
    assert!(done(&stage, &["status"]).contains(FORGETS));
    let answer = done(&stage, &["quarantine", "--reason", "drill"]);
    assert!(answer.contains(FORGETS), "{answer}");
    let log = stage.agent_output();
    assert!(log.contains(FORGETS), "{log}");
});

fn on_a_disk(place: &Path) -> bool {
    let words = ["-f", "-c", "%T", place.to_str().unwrap()];
    let kind = Command::new("stat").args(words).output().unwrap();
    !["tmpfs", "overlayfs", "ramfs"].contains(&String::from_utf8_lossy(&kind.stdout).trim())
}

lab_test!(what_lies_on_memory_by_a_detour_is_told, || {
    let mut stage = ready(options());
    let memory = stage.site.directory().join("memory");
    fs::create_dir(&memory).unwrap();
    let (memory, state) = (memory.display(), stage.state_directory().display().to_string());
    let begin = format!("mount -t tmpfs memory {memory}");
    let end = format!("chmod 700 {state}");
    let layers = format!("lowerdir={memory}/lower,upperdir={memory}/up,workdir={memory}/work");
    let detours = [
        // An overlay whose changes lie in memory.
        format!(
            "{begin} && mkdir {memory}/lower {memory}/up {memory}/work && mount -t overlay -o {layers} overlay {state} && {end}"
        ),
        // A file system in a file that does.
        format!(
            "{begin} && truncate -s 16M {memory}/image && mkfs.ext4 -q -F {memory}/image && mount -o loop {memory}/image {state} \
             && {end}"
        ),
    ];
    for mounts in detours {
        let tried = ["--mount", "--propagation", "private", "sh", "-c", &mounts];
        if let Err(why) = run("unshare", &tried) {
            println!("SKIPPED: {mounts}: {why}");
            continue;
        }
        let told = told_behind(&mut stage, &mounts);
        let text = told.as_str().unwrap_or_default();
        assert!(text.contains(FORGETS), "{mounts}: {told}");
    }
});

lab_test!(an_overlay_whose_changes_are_out_of_sight_is_told, || {
    let mut stage = ready(options());
    let below = stage.site.directory().join("below");
    fs::create_dir(&below).unwrap();
    let (below, state) = (below.display(), stage.state_directory().display().to_string());
    let layers = format!("lowerdir={below}/lower,upperdir={below}/up,workdir={below}/work");
    let mounts = format!(
        "mount -t tmpfs below {below} && mkdir {below}/lower {below}/up {below}/work && \
         mount -t overlay -o {layers} overlay {state} && chmod 700 {state}"
    );
    // As an image's first steps leave it.
    let hidden = format!("{mounts} && umount -l {below}");
    if let Err(why) = run(
        "unshare",
        &["--mount", "--propagation", "private", "sh", "-c", &hidden],
    ) {
        println!("SKIPPED: {why}");
        return;
    }
    let told = told_behind(&mut stage, &mounts);
    assert!(
        told.as_str().unwrap_or_default().contains(FORGETS),
        "control: {told}"
    );
    let told = told_behind(&mut stage, &hidden);
    let text = told.as_str().unwrap_or_default();
    assert!(
        text.contains("may forget") && text.contains("not to be seen"),
        "{told}"
    );
});

lab_test!(an_overlay_that_syncs_nothing_is_told, || {
    let mut stage = ready(options());
    let state = stage.state_directory().display().to_string();
    let folder = stage.site.directory().display().to_string();
    // Once mounted so, its folders are not taken again.
    let mounts = |options: &str| {
        format!(
            "cd $(mktemp -d {folder}/unsynced.XXXX) && mkdir lower up work && mount -t overlay \
             -o lowerdir=$PWD/lower,upperdir=$PWD/up,workdir=$PWD/work{options} overlay {state} && chmod 700 {state} && cd /"
        )
    };
    for options in ["", ",volatile"] {
        let mounts = mounts(options);
        let tried = ["--mount", "--propagation", "private", "sh", "-c", &mounts];
        if let Err(why) = run("unshare", &tried) {
            println!("SKIPPED: {mounts}: {why}");
            return;
        }
        let told = told_behind(&mut stage, &mounts);
        if !options.is_empty() {
            let text = told.as_str().unwrap_or_default();
            assert!(text.contains("may forget") && text.contains("volatile"), "{told}");
        } else if on_a_disk(Path::new(&folder)) {
            assert_eq!(told, Value::Null, "control: its changes lie on a disk");
        }
    }
});

lab_test!(install_says_that_its_directory_is_forgotten, || {
    let folder = tempfile::tempdir().unwrap();
    let systemd = Path::new("/run/systemd");
    if systemd.exists() {
        // This machine's own must not hear of it.
        memory(systemd);
    }
    let [disk, in_memory] = ["disk", "memory"].map(|name| folder.path().join(name));
    memory(&in_memory);
    let installed = |place: &Path| {
        let output = Command::new(PROGRAM)
            .args(["install", "--state-dir"])
            .arg(place.join("edgewarden"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    if on_a_disk(folder.path()) {
        let said = installed(&disk);
        assert!(!said.contains(FORGETS), "control: {said}");
    }
    let said = installed(&in_memory);
    assert!(said.contains("tmpfs") && said.contains(FORGETS), "{said}");
    run("umount", &[in_memory.to_str().unwrap()]).unwrap();
});
