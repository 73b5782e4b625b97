//! Root runs only what root owns: whatever is done to the artifact, and whatever becomes of the component.
//!
//! The artifact belongs to the user of all components here, as the classic nucleus has it. What he puts in its place writes
//! down as whom it runs.

mod path;
mod versions;

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::{Ns, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::{LIMIT, done, isolate, options, release};

/// The user of all components; nobody else has this number.
const USER: u32 = 64_321;
const STATE: &str = "/var/lib/edgewarden";
/// The operator's program.
const OWN: &str = "/var/lib/edgewarden/edgewarden";
const FIRST: &str = "0.1.0";
/// Larger than what the install step copies.
const HUGE: u64 = 1 << 30;

/// Whether files can be given to somebody else here; without real root they cannot.
fn is_root() -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    let given = chown(file.path(), Some(USER), Some(USER));
    if let Err(error) = &given {
        println!("SKIPPED: {error}");
    }
    given.is_ok()
}

/// A stage whose nucleus runs the component as shipped; waits for nothing.
fn begun(personality: Personality, more: &[&str]) -> Stage {
    let mut nucleus = vec!["--component-user".to_owned(), USER.to_string()];
    nucleus.extend(more.iter().map(|flag| (*flag).to_owned()));
    let stage = Stage::start(StageOptions {
        personality,
        launch: true,
        nucleus,
        ..options()
    })
    .unwrap();
    // Everybody may pass, as on a device.
    fs::set_permissions(stage.site.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    let place = stage.site.directory().join("evil");
    fs::DirBuilder::new().create(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    stage
}

fn shipped(personality: Personality, more: &[&str]) -> Stage {
    let mut stage = begun(personality, more);
    stage.wait_rollout(LIMIT, "deployed").unwrap();
    works(&stage);
    stage
}

fn works(stage: &Stage) {
    let works = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "the channel works", works).unwrap();
}

/// Events of the component in this state, so far.
fn events(stage: &Stage, state: &str) -> Vec<Value> {
    let mut events = stage.nucleus.events();
    events.retain(|event| event["event"] == "component" && event["state"] == state);
    events
}

/// The process that the nucleus started last, once it is the agent.
fn agent(stage: &Stage) -> (Pid, PathBuf) {
    let mut found = None;
    wait_until(LIMIT, "the agent runs", || {
        not_as_root(stage, "instead of the agent");
        let pid = events(stage, "started")
            .last()
            .and_then(|event| event["pid"].as_i64());
        found = pid.and_then(|pid| {
            let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            let is_agent = program.file_name()?.to_str()?.starts_with("edgewarden");
            is_agent.then(|| (Pid::from_raw(pid.try_into().unwrap()), program))
        });
        found.is_some()
    })
    .unwrap();
    found.unwrap()
}

/// As the user of all components.
fn as_user(script: &str, arguments: &[&Path]) -> Output {
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", script, "sh"])
        .args(arguments)
        .uid(USER)
        .gid(USER);
    shell.output().unwrap()
}

/// What the user runs, and wants root to run: it tells as whom.
fn evil(stage: &Stage) -> String {
    format!("#!/bin/sh\nid -u >>{}\n", place(stage).display())
}

fn place(stage: &Stage) -> PathBuf {
    stage.site.directory().join("evil/ran-as")
}

/// Nothing of the user's ran as root.
fn not_as_root(stage: &Stage, when: &str) {
    let ran = fs::read_to_string(place(stage)).unwrap_or_default();
    assert!(
        ran.lines().all(|uid| uid == USER.to_string()),
        "{when}: ran as {ran:?}"
    );
}

/// The user puts his program in place of the artifact, and it runs.
fn rewrite(stage: &Stage) {
    let artifact = stage.stored_artifact(FIRST);
    let before = fs::read_to_string(place(stage))
        .unwrap_or_default()
        .lines()
        .count();
    let script = format!(
        "chmod u+w \"$1\"; cat >\"$1\" <<'END'\n{}END\n\"$1\"",
        evil(stage)
    );
    let output = as_user(&script, &[&artifact]);
    assert!(output.status.success(), "control: {output:?}");
    let ran = fs::read_to_string(place(stage)).unwrap();
    assert_eq!(ran.lines().count(), before + 1, "control: it runs");
}

/// The nucleus starts again, and the component with it.
fn restart_nucleus(stage: &mut Stage) {
    stage.nucleus.terminate().unwrap();
    stage.nucleus.wait_exit(LIMIT).unwrap();
    stage.nucleus.restart().unwrap();
}

fn wait_broken(stage: &mut Stage) {
    let broken = |event: &Value| event["state"] == "broken";
    let waited = stage.nucleus.wait_event(LIMIT, broken);
    not_as_root(stage, "instead of being broken");
    waited.unwrap();
}

/// Programs in the folder of copies, whole or not.
fn copies() -> Vec<PathBuf> {
    let folders = fs::read_dir(Path::new(STATE).join("bin")).into_iter().flatten();
    let folders = folders
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir());
    let mut copies: Vec<PathBuf> = folders
        .flat_map(|folder| fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    copies.sort();
    copies
}

fn rewritten_at_any_moment(personality: Personality) {
    if !is_root() {
        return;
    }
    let mut stage = shipped(personality, &[]);
    let right = stage.copy_of(&stage.artifact()).unwrap();
    let owner = fs::metadata(stage.stored_artifact(FIRST)).unwrap().uid();
    assert_eq!(owner, USER, "control: it is his");

    stage.nucleus.terminate().unwrap();
    stage.nucleus.wait_exit(LIMIT).unwrap();
    rewrite(&stage);
    let started = events(&stage, "started").len();
    stage.nucleus.restart().unwrap();
    wait_until(LIMIT, "started again", || {
        not_as_root(&stage, "rewritten before a start of the nucleus");
        events(&stage, "started").len() > started
    })
    .unwrap();
    let (pid, program) = agent(&stage);
    assert_eq!(program, right);
    works(&stage);

    rewrite(&stage);
    isolate(&stage);
    let started = events(&stage, "started").len();
    kill(pid, Signal::SIGKILL).unwrap();
    wait_until(LIMIT, "started again", || {
        events(&stage, "started").len() > started
    })
    .unwrap();
    assert_eq!(agent(&stage).1, right, "before a start of the component");
    stage.wait_phase(LIMIT, "enforced").unwrap();
    works(&stage);
    release(&stage);
    not_as_root(&stage, "rewritten while the agent runs");

    // Nobody but root could do this, and then there is no right program left.
    stage.nucleus.terminate().unwrap();
    stage.nucleus.wait_exit(LIMIT).unwrap();
    fs::remove_dir_all(Path::new(STATE).join("bin")).unwrap();
    stage.nucleus.restart().unwrap();
    wait_broken(&mut stage);
    not_as_root(&stage, "rewritten before the install step");
    let said = match personality {
        Personality::Classic => "has this version's SHA-256",
        // It is not installed again.
        Personality::Lite => "is not this version's, or not root's alone: deploy it again",
    };
    let log = stage.agent_output();
    assert!(log.contains(said), "{log}");
    assert_eq!(copies(), [] as [PathBuf; 0]);
}

lab_test!(
    an_artifact_rewritten_by_the_component_user_never_runs_as_root_on_classic,
    || rewritten_at_any_moment(Personality::Classic)
);

lab_test!(
    an_artifact_rewritten_by_the_component_user_never_runs_as_root_on_lite,
    || rewritten_at_any_moment(Personality::Lite)
);

/// Lets others than root change what root runs.
type Open = fn(copy: &Path);

const OPENED: [Open; 4] = [
    |copy| chown(copy, Some(USER), None).unwrap(),
    |copy| fs::set_permissions(copy, fs::Permissions::from_mode(0o770)).unwrap(),
    |copy| chown(copy.parent().unwrap(), Some(USER), None).unwrap(),
    |_| fs::set_permissions(STATE, fs::Permissions::from_mode(0o707)).unwrap(),
];

lab_test!(a_copy_that_others_could_change_is_not_run, || {
    if !is_root() {
        return;
    }
    let mut stage = shipped(Personality::Lite, &[]);
    let (_, copy) = agent(&stage);
    for (number, open) in OPENED.iter().enumerate() {
        stage.nucleus.terminate().unwrap();
        stage.nucleus.wait_exit(LIMIT).unwrap();
        open(&copy);
        fs::write(stage.agent_log(), "").unwrap();
        stage.nucleus.restart().unwrap();
        wait_broken(&mut stage);
        let log = stage.agent_output();
        assert!(
            log.contains("not root's alone: deploy it again"),
            "{number}: {log}"
        );
        for path in [copy.as_path(), copy.parent().unwrap(), Path::new(STATE)] {
            chown(path, Some(0), Some(0)).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        restart_nucleus(&mut stage);
        works(&stage);
    }
});

/// Puts something else in place of the artifact; gets a program of the user's.
type Replace = fn(artifact: &Path, evil: &Path);

const REPLACED: [(&str, Replace); 6] = [
    ("a link to it", |artifact, evil| symlink(evil, artifact).unwrap()),
    ("a hard link to it", |artifact, evil| {
        fs::hard_link(evil, artifact).unwrap();
    }),
    ("a pipe", |artifact, _| {
        nix::unistd::mkfifo(artifact, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }),
    ("a folder of it", |artifact, evil| {
        fs::create_dir(artifact).unwrap();
        fs::copy(evil, artifact.join("edgewarden")).unwrap();
    }),
    ("more than there should be", |artifact, _| {
        fs::File::create(artifact).unwrap().set_len(HUGE).unwrap();
    }),
    ("nothing", |_, _| {}),
];

lab_test!(
    whatever_lies_in_the_artifacts_place_is_neither_run_nor_waited_for,
    || {
        if !is_root() {
            return;
        }
        let mut stage = shipped(Personality::Classic, &[]);
        let artifact = stage.stored_artifact(FIRST);
        let own = stage.site.directory().join("evil/program");
        fs::write(&own, evil(&stage)).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o4777)).unwrap();
        for (what, replace) in REPLACED {
            stage.nucleus.terminate().unwrap();
            stage.nucleus.wait_exit(LIMIT).unwrap();
            let _copies = fs::remove_dir_all(Path::new(STATE).join("bin"));
            let _folder = fs::remove_dir_all(&artifact);
            let _file = fs::remove_file(&artifact);
            replace(&artifact, &own);
            fs::write(stage.agent_log(), "").unwrap();
            stage.nucleus.restart().unwrap();
            wait_broken(&mut stage);
            let log = stage.agent_output();
            assert_eq!(
                log.matches("has this version's SHA-256").count(),
                3,
                "{what}: {log}"
            );
            assert_eq!(copies(), [] as [PathBuf; 0], "{what}");
            not_as_root(&stage, what);
        }
        // The right one heals.
        fs::copy(stage.artifact(), &artifact).unwrap();
        restart_nucleus(&mut stage);
        works(&stage);
        assert_eq!(agent(&stage).1, stage.copy_of(&stage.artifact()).unwrap());
    }
);

/// Makes the state directory before the component is there.
fn state_of(uid: u32, mode: u32) {
    fs::DirBuilder::new().mode(mode).create(STATE).unwrap();
    fs::set_permissions(STATE, fs::Permissions::from_mode(mode)).unwrap();
    chown(STATE, Some(uid), None).unwrap();
}

fn mount(arguments: &[&str]) {
    let output = Command::new("mount").args(arguments).output().unwrap();
    assert!(output.status.success(), "mount {arguments:?}: {output:?}");
}

lab_test!(
    a_place_that_is_not_roots_alone_or_runs_nothing_is_told_and_not_used,
    || {
        if !is_root() {
            return;
        }
        let places: [(&str, fn()); 5] = [
            (
                "/var/lib/edgewarden must be a folder that only root can change",
                || state_of(USER, 0o755),
            ),
            (
                "/var/lib/edgewarden must be a folder that only root can change",
                || state_of(0, 0o777),
            ),
            (
                "/var/lib/edgewarden must be a folder that only root can change",
                || {
                    fs::create_dir("/var/lib/elsewhere").unwrap();
                    symlink("elsewhere", STATE).unwrap();
                },
            ),
            (
                "/var/lib/edgewarden/bin must be a folder that only root can change",
                || {
                    state_of(0, 0o755);
                    let bin = Path::new(STATE).join("bin");
                    fs::create_dir(&bin).unwrap();
                    chown(bin, Some(USER), None).unwrap();
                },
            ),
            ("/var/lib/edgewarden mounted noexec?", || {
                state_of(0, 0o700);
                mount(&["-t", "tmpfs", "-o", "noexec,mode=0700", "tmpfs", STATE]);
            }),
        ];
        for (why, prepare) in places {
            prepare();
            let mut stage = begun(Personality::Classic, &[]);
            wait_broken(&mut stage);
            let log = stage.agent_output();
            assert!(log.contains(why), "{why}: {log}");
            assert!(events(&stage, "started").is_empty(), "{why}");
            drop(stage);
            let _mounted = Command::new("umount").arg(STATE).output().unwrap();
            let _link = fs::remove_file(STATE);
            let _folder = fs::remove_dir_all(STATE);
        }

        // A device whose disk went read-only goes on with what it has.
        state_of(0, 0o700);
        mount(&["-t", "tmpfs", "-o", "mode=0700", "tmpfs", STATE]);
        let mut stage = shipped(Personality::Classic, &[]);
        stage.nucleus.terminate().unwrap();
        stage.nucleus.wait_exit(LIMIT).unwrap();
        mount(&["-o", "remount,ro", STATE]);
        stage.nucleus.restart().unwrap();
        works(&stage);
        assert_eq!(agent(&stage).1, stage.copy_of(&stage.artifact()).unwrap());
    }
);
