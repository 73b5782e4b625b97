//! What `edgewarden install` puts where, what `uninstall` leaves, and a state directory that others could change.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edgewarden_lab::lab_test;

use crate::common::agent::{joined, restart, said_once};
use crate::common::{LIMIT, isolate, options, ready, release};

const PROGRAM: &str = env!("CARGO_BIN_EXE_edgewarden");
const UNIT: &str = "etc/systemd/system/edgewarden-restore.service";
const WANTED: &str = "etc/systemd/system/sysinit.target.wants/edgewarden-restore.service";
const GUARD: &str = "etc/systemd/system/edgewarden-guard.service";
const GUARD_WANTED: &str = "etc/systemd/system/multi-user.target.wants/edgewarden-guard.service";
/// What is there after an install, by name.
const INSTALLED: [&str; 5] = [GUARD, UNIT, GUARD_WANTED, WANTED, COPY];
const STATE: &str = "var/lib/edgewarden";
const COPY: &str = "var/lib/edgewarden/edgewarden";

/// A root directory, with a systemd that runs or without.
fn root(systemd: bool) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    if systemd {
        fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
    }
    root
}

fn edgewarden(command: &str, root: &Path, more: &[&str]) -> Output {
    let mut program = Command::new(PROGRAM);
    program.arg(command).arg("--root").arg(root).args(more);
    program.output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Every file and link below, with what would change if it were written again.
fn files(root: &Path) -> Vec<(PathBuf, u64, u32, i64)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let data = fs::symlink_metadata(&path).unwrap();
            if data.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_owned();
                found.push((name, data.ino(), data.mode() & 0o7777, data.mtime_nsec()));
            }
        }
    }
    found.sort();
    found
}

fn names(root: &Path) -> Vec<PathBuf> {
    files(root).into_iter().map(|(name, ..)| name).collect()
}

fn links_lead_to_units(root: &Path) {
    for (link, unit) in [(WANTED, UNIT), (GUARD_WANTED, GUARD)] {
        let read = |name: &str| fs::read(root.join(name)).unwrap();
        assert_eq!(read(link), read(unit), "{link}");
    }
}

fn no_link_is_left(root: &Path) {
    for link in [WANTED, GUARD_WANTED] {
        assert!(!root.join(link).parent().unwrap().exists(), "{link}");
    }
}

#[test]
fn install_writes_its_three_files_once_and_uninstall_leaves_nothing_of_them() {
    let root = root(true);
    let root = root.path();
    let text = said(&edgewarden("install", root, &[]));
    assert_eq!(
        text,
        "edgewarden-restore.service restores isolation before the network (written)\n"
    );
    let written = files(root);
    assert_eq!(names(root), INSTALLED.map(PathBuf::from));
    let mode = |name: &str| fs::symlink_metadata(root.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode(UNIT), mode(COPY), mode(STATE)), (0o644, 0o700, 0o700));
    links_lead_to_units(root);
    let copy = Command::new(root.join(COPY)).arg("--version").output().unwrap();
    assert!(said(&copy).starts_with("edgewarden "), "{copy:?}");

    let text = said(&edgewarden("install", root, &[]));
    assert!(text.ends_with("(nothing to change)\n"), "{text}");
    assert_eq!(files(root), written, "nothing was written again");

    // An upgrade finds another program, another unit and a loose mode.
    fs::write(root.join(COPY), "older").unwrap();
    fs::write(root.join(UNIT), "[Unit]\n").unwrap();
    fs::write(root.join(GUARD), "[Unit]\n").unwrap();
    fs::set_permissions(root.join(STATE), fs::Permissions::from_mode(0o755)).unwrap();
    let text = said(&edgewarden("install", root, &[]));
    assert!(text.ends_with("(written)\n"), "{text}");
    assert_eq!(fs::read(root.join(COPY)).unwrap(), fs::read(PROGRAM).unwrap());
    assert_eq!((mode(UNIT), mode(COPY), mode(STATE)), (0o644, 0o700, 0o700));
    assert_eq!(names(root), INSTALLED.map(PathBuf::from));

    // What the agent adds, and what a kill in the middle of a write leaves.
    for name in ["journal", "journal.new", "lock", "edgewarden.new"] {
        fs::write(root.join(STATE).join(name), "").unwrap();
    }
    assert_eq!(
        said(&edgewarden("uninstall", root, &[])),
        "removed edgewarden-restore.service\n"
    );
    assert!(names(root).is_empty(), "{:?}", names(root));
    assert!(!root.join(STATE).exists());
    no_link_is_left(root);
    assert_eq!(
        said(&edgewarden("uninstall", root, &[])),
        "",
        "again: nothing to do"
    );

    // Somebody else's file stays, and is told of.
    said(&edgewarden("install", root, &[]));
    fs::write(root.join(STATE).join("notes"), "").unwrap();
    let text = said(&edgewarden("uninstall", root, &[]));
    assert!(text.contains("stays: it holds other files"), "{text}");
    assert_eq!(names(root), [Path::new(STATE).join("notes")]);
}

/// Puts something of somebody else's in place of what was installed.
type Replace = fn(&Path) -> std::io::Result<()>;

const REPLACED: [(&str, Replace); 5] = [
    ("another owner's", |path| {
        std::os::unix::fs::lchown(path, Some(65_534), None)
    }),
    ("under another name too", |path| {
        fs::hard_link(path, path.with_extension("other"))
    }),
    ("a link to the same", |path| {
        let elsewhere = path.with_extension("elsewhere");
        fs::rename(path, &elsewhere)?;
        symlink(elsewhere, path)
    }),
    ("writable by others", |path| {
        let mode = fs::metadata(path)?.mode() | 0o022;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }),
    ("run as its owner", |path| {
        let mode = fs::metadata(path)?.mode() | 0o4000;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }),
];

#[test]
fn install_writes_anew_what_is_not_as_it_left_it_although_it_says_the_same() {
    for (name, (what, replace)) in [COPY, UNIT, WANTED]
        .iter()
        .flat_map(|name| REPLACED.iter().map(move |replaced| (name, replaced)))
    {
        // The link's target is the unit, which has its own turns.
        if *name == WANTED && !what.starts_with("another owner") {
            continue;
        }
        let root = root(true);
        let path = root.path().join(name);
        said(&edgewarden("install", root.path(), &[]));
        let again = said(&edgewarden("install", root.path(), &[]));
        assert!(again.ends_with("(nothing to change)\n"), "control: {again}");
        let before = fs::symlink_metadata(&path).unwrap();
        if let Err(error) = replace(&path) {
            // Without real root there is nobody else to give it to.
            println!("SKIPPED {name} {what}: {error}");
            continue;
        }
        let text = said(&edgewarden("install", root.path(), &[]));
        assert!(text.ends_with("(written)\n"), "{name} {what}: {text}");
        let after = fs::symlink_metadata(&path).unwrap();
        let kind = |found: &fs::Metadata| (found.file_type(), found.mode(), found.uid(), found.nlink());
        assert_eq!(kind(&after), kind(&before), "{name} {what}");
    }
}

#[test]
fn uninstall_removes_no_program_behind_a_link() {
    let root = root(true);
    said(&edgewarden("install", root.path(), &[]));
    let (state, elsewhere) = (root.path().join(STATE), root.path().join("elsewhere"));
    fs::rename(&state, &elsewhere).unwrap();
    symlink(&elsewhere, &state).unwrap();
    let output = edgewarden("uninstall", root.path(), &[]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("is not trusted: it is a symbolic link"), "{text}");
    assert!(elsewhere.join("edgewarden").exists(), "not ours to remove");
}

#[test]
fn install_says_where_it_cannot_restore_before_the_network() {
    let plain = root(false);
    let text = said(&edgewarden("install", plain.path(), &[]));
    assert!(
        text.contains("systemd does not run here") && text.contains("when Greengrass starts"),
        "{text}"
    );
    assert_eq!(names(plain.path()), [Path::new(COPY)], "for its operator");
    said(&edgewarden("uninstall", plain.path(), &[]));
    assert!(names(plain.path()).is_empty() && !plain.path().join(STATE).exists());

    let masked = root(true);
    let unit = masked.path().join(UNIT);
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    symlink("/dev/null", &unit).unwrap();
    let text = said(&edgewarden("install", masked.path(), &[]));
    assert!(text.contains("is masked"), "{text}");
    assert_eq!(names(masked.path()), [UNIT, COPY].map(PathBuf::from));
    said(&edgewarden("uninstall", masked.path(), &[]));
    assert_eq!(
        names(masked.path()),
        [Path::new(UNIT)],
        "the administrator's mask stays"
    );

    let odd = root(true);
    let output = edgewarden("install", odd.path(), &["--state-dir", "/var/lib/edge warden"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("edge warden") && text.contains("expected an absolute path"),
        "{text}"
    );

    let open = root(true);
    fs::create_dir_all(open.path().join(STATE)).unwrap();
    fs::set_permissions(open.path().join(STATE), fs::Permissions::from_mode(0o777)).unwrap();
    let output = edgewarden("install", open.path(), &[]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("is not trusted: others may write to it (mode 0777"),
        "{text}"
    );
    assert!(
        names(open.path()).is_empty(),
        "no program is put where others may replace it"
    );
}

/// Installs into the lab's own `/etc/systemd/system` and has systemd judge the unit, with everything in its transaction
/// that it could be in a loop with; `order` replaces what the unit stands before.
fn verify(order: &str) -> (bool, String) {
    let unit = fs::read_to_string(Path::new("/").join(UNIT)).unwrap();
    let changed = unit.replace("Before=network-pre.target", &format!("Before={order}"));
    fs::write(Path::new("/").join(UNIT), changed).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "edgewarden-restore.service"])
        .output()
        .unwrap();
    fs::write(Path::new("/").join(UNIT), unit).unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success() && text.is_empty(), text)
}

lab_test!(systemd_takes_the_unit_and_finds_no_loop, || {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "package systemd is missing");
        println!("SKIPPED: systemd-analyze (package systemd) is missing");
        return;
    }
    fs::create_dir_all("/run/systemd/system").unwrap();
    said(&Command::new(PROGRAM).arg("install").output().unwrap());
    let whole_boot = Path::new("/").join(format!("{UNIT}.d/boot.conf"));
    fs::create_dir_all(whole_boot.parent().unwrap()).unwrap();
    let targets = "local-fs-pre.target local-fs.target sysinit.target basic.target network-pre.target \
                       network.target multi-user.target systemd-tmpfiles-setup.service";
    let mut wanted = targets.to_owned();
    // Firewalls and network managers, where the machine has them.
    for name in [
        "nftables",
        "systemd-networkd",
        "systemd-resolved",
        "networking",
        "NetworkManager",
        "ufw",
    ] {
        if Path::new(&format!("/lib/systemd/system/{name}.service")).exists() {
            wanted.push_str(&format!(" {name}.service"));
        }
    }
    fs::write(&whole_boot, format!("[Unit]\nRequires={wanted}\n")).unwrap();
    let (good, text) = verify("network-pre.target local-fs-pre.target");
    assert!(
        !good && text.contains("ordering cycle"),
        "control: a loop is found: {text}"
    );
    let (good, text) = verify("network-pre.target");
    assert!(good, "with {wanted}:\n{text}");
    let guard = || {
        let output = Command::new("systemd-analyze")
            .args(["verify", "edgewarden-guard.service"])
            .output();
        let output = output.unwrap();
        (output.status.success() && output.stderr.is_empty(), output)
    };
    let (good, output) = guard();
    assert!(good, "{output:?}");
    let unit = Path::new("/").join(GUARD);
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text.replace("Restart=on-failure", "Restart=sometimes")).unwrap();
    let (good, output) = guard();
    assert!(!good, "control: a mistake is found: {output:?}");
});

/// Makes the state directory into something that others could change.
type Spoil = fn(&Path) -> std::io::Result<()>;

const SPOILED: [(&str, Spoil); 3] = [
    (
        "others may write to it (mode 0777, expected 0700 or stricter)",
        |state| fs::set_permissions(state, fs::Permissions::from_mode(0o777)),
    ),
    ("it is a symbolic link", |state| {
        let elsewhere = state.with_file_name("elsewhere");
        fs::rename(state, &elsewhere)?;
        symlink(elsewhere, state)
    }),
    ("it belongs to user 65534, expected user 0", |state| {
        fs::remove_file(state)?;
        fs::create_dir(state)?;
        std::os::unix::fs::chown(state, Some(65_534), None)
    }),
];

lab_test!(a_state_directory_that_others_could_change_is_not_believed, || {
    let mut stage = ready(options());
    let state = stage.state_directory();
    assert!(state.join("lock").exists(), "control: a good one is used");
    for (why, spoil) in SPOILED {
        stage.agent.as_mut().unwrap().kill9().unwrap();
        if let Err(error) = spoil(&state) {
            // Without real root there is nobody else to give it to.
            println!("SKIPPED {why}: {error}");
            fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
            break;
        }
        for name in names(&state) {
            fs::remove_file(state.join(name)).unwrap();
        }
        fs::write(stage.agent_log(), "").unwrap();
        restart(&mut stage);
        stage.wait_phase(LIMIT, "released").unwrap();
        said_once(
            &mut stage,
            &format!("{} is not trusted: {why}: orders", state.display()),
        );
        isolate(&stage);
        let faults = joined(&stage.status()["enforcement"]["faults"]);
        assert!(
            faults.contains("is not trusted") && faults.contains("would not survive"),
            "{faults}"
        );
        assert!(
            names(&state).is_empty(),
            "nothing is written there: {:?}",
            names(&state)
        );
        release(&stage);
    }

    // What lies there may say anything: it is not read, and not taken for nothing. Nobody says meanwhile that the device is to be free.
    stage.cloud.as_mut().unwrap().kill9().unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    fs::write(state.join("journal"), "anything").unwrap();
    restart(&mut stage);
    let isolated = stage
        .wait_status(LIMIT, "isolated to be safe", |s| {
            s["enforcement"]["posture"] == "isolate"
        })
        .unwrap();
    assert_eq!(
        isolated["enforcement"]["orders"][0]["authority"], "recovery",
        "{isolated}"
    );
});
