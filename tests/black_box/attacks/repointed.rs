//! Paths and programs that somebody else than root has lead elsewhere, or calls by names that protect: nobody else's processes
//! are stopped by that, and none of his own lives by it.
//!
//! Each test shows first that an order stops whoever does nothing about it.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Ns, Running, SpawnSpec, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions, copy_program};
use nix::sys::signal::Signal;
use serde_json::json;

use super::disguised::{run_as_nobody, wait_name};
use super::processes::{order_processes, order_rules, release, signal};
use crate::common::agent::joined;
use crate::common::gateway::NOBODY;
use crate::common::programs::{build_as, sender, state_of, wait_state};
use crate::common::told::is_told;
use crate::common::{LIMIT, options, ready};

/// Looks of the agent within this time: three at least.
const LOOKS: Duration = Duration::from_secs(4);

/// A folder of an ordinary user's, below one that he reaches.
fn his_folder(stage: &Stage) -> PathBuf {
    let path = stage.site.directory().canonicalize().unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o711)).unwrap();
    let his = path.join("his");
    std::fs::create_dir(&his).unwrap();
    give(&his);
    his
}

fn give(path: &Path) {
    let nobody = NOBODY.parse().unwrap();
    chown(path, Some(nobody), Some(nobody)).unwrap();
}

/// He does that.
fn as_nobody(script: &str, arguments: &[&Path]) {
    let user = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
    let mut command = Command::new("setpriv");
    command.args(user).args(["sh", "-ec", script]).args(arguments);
    assert!(command.status().unwrap().success(), "{script}");
}

fn ended(running: &mut Running) {
    wait_until(LIMIT, "it has ended", || !running.is_running()).unwrap();
}

/// Who lives after some looks of the agent.
fn living<'a>(names: &[&'a str], all: &mut [Running]) -> Vec<&'a str> {
    let mut living = Vec::new();
    let _who_is_left = wait_until(LOOKS, "all have ended", || {
        let left = names.iter().zip(all.iter_mut());
        living = left
            .filter_map(|(name, one)| one.is_running().then_some(*name))
            .collect();
        living.is_empty()
    });
    living
}

lab_test!(
    a_folder_that_its_user_has_lead_elsewhere_stops_nobody_else,
    || {
        let stage = ready(options());
        let his = his_folder(&stage);
        let (sleep, log) = (Path::new("/bin/sleep"), stage.site.directory().join("roots.log"));
        let roots = stage.site.directory().canonicalize().unwrap().join("roots");
        let daemon = roots.join("zq-daemon");
        copy_program(sleep, &daemon).unwrap();
        for folder in ["app", "v1"] {
            copy_program(sleep, &his.join(folder).join("zq-rogue")).unwrap();
            give(&his.join(folder));
        }
        as_nobody("ln -s v1 \"$0/current\"", &[&his]);
        let start = || {
            stage
                .site
                .spawn(Ns::Gateway, &daemon, &["600"], &[], &log)
                .unwrap()
        };
        let mut all = [start(), start()];
        let mut rogue = run_as_nobody(&stage, &his.join("app/zq-rogue"), &["600"]);
        let mut linked = run_as_nobody(&stage, &his.join("v1/zq-rogue"), &["600"]);
        wait_name(rogue.pid(), "zq-rogue");
        wait_name(linked.pid(), "zq-rogue");
        order_rules(
            &stage,
            &[
                (json!({"exe": his.join("app/*")}), "kill"),
                (json!({"exe": his.join("app/zq-daemon")}), "kill"),
                (json!({"exe": his.join("current/*")}), "kill"),
            ],
        );
        ended(&mut rogue);
        // A link of his own leads his own processes.
        ended(&mut linked);
        assert!(all.iter_mut().all(Running::is_running), "control: root's live");
        as_nobody("cd \"$0\"; mv app app.old; ln -s \"$1\" app", &[&his, &roots]);
        let stopped = wait_until(LOOKS, "one has ended", || {
            !all.iter_mut().all(Running::is_running)
        });
        assert!(stopped.is_err(), "his link had root's process killed");
        let mut own = run_as_nobody(&stage, &daemon, &["600"]);
        ended(&mut own);
        release(&stage);
    }
);

/// Deeper than the C library resolves in a second, and not too deep for the kernel.
fn links_through_many_folders(at: &Path) {
    let mut deep = at.join("d");
    while deep.as_os_str().len() < 4_080 {
        deep.push("a");
    }
    std::fs::create_dir_all(&deep).unwrap();
    for link in 0..37 {
        symlink(deep.join(format!("l{}", link + 1)), deep.join(format!("l{link}"))).unwrap();
    }
    std::fs::create_dir(at.join("real")).unwrap();
    symlink(at.join("real"), deep.join("l37")).unwrap();
    symlink(deep.join("l0"), at.join("app.link")).unwrap();
}

lab_test!(links_through_very_many_folders_keep_no_order_waiting, || {
    let stage = ready(options());
    let his = his_folder(&stage);
    links_through_many_folders(&his);
    let program = his.join("app/zq-deep");
    copy_program(Path::new("/bin/sleep"), &program).unwrap();
    give(&his.join("app"));
    let deep = run_as_nobody(&stage, &program, &["600"]);
    wait_name(deep.pid(), "zq-deep");
    order_processes(&stage, &json!({"exe": program}), "freeze");
    wait_state(&deep, "T");

    as_nobody("cd \"$0\"; mv app app.old; mv app.link app", &[&his]);
    std::thread::sleep(LOOKS);
    signal(deep.pid(), Signal::SIGCONT);
    let runs = wait_until(LIMIT, "it is stopped again", || state_of(deep.pid()) == Some('T'));
    let other = sender(&stage, "zq-beside-deep");
    let rules = [
        (json!({"exe": program}), "freeze"),
        (json!({"exe": "*/opt/zq-beside-deep"}), "freeze"),
    ];
    order_rules(&stage, &rules);
    let beside = wait_until(LIMIT, "another is stopped", || state_of(other.pid()) == Some('T'));
    let status = stage.status();
    // A folder that deep is not removed by what removes the others.
    Command::new("rm").arg("-rf").arg(&his).status().unwrap();
    runs.unwrap();
    beside.unwrap();
    assert!(!is_told(&status, "processesUnknown"), "{status}");
    release(&stage);
    wait_state(&deep, "SR");
});

/// Needs nothing but itself.
const ALONE: &str = "#include <unistd.h>\nint main(void) { for (;;) usleep(10000); }\n";

/// The script's arguments: its root, the program there.
const CONTAINED: &str = "mount --bind \"$0\" \"$0\"; cd \"$0\"; pivot_root . old; exec \"$1\"";

/// Root in a container: a folder of the host's as its root, no right over the host, processes and mounts of its own.
fn contain(stage: &Stage, root: &Path, program: &str) -> Running {
    let mut spec = SpawnSpec::new("unshare", stage.site.directory().join("contained.log"));
    let words = [
        "--mount",
        "--propagation",
        "private",
        "--ipc",
        "--uts",
        "sh",
        "-ec",
        CONTAINED,
    ];
    spec.args = words.iter().map(Into::into).collect();
    spec.args.extend([root.into(), program.into()]);
    let running = stage.site.spawn_with(Ns::Gateway, spec).unwrap();
    let exe = || std::fs::read_link(format!("/proc/{}/exe", running.pid())).unwrap_or_default();
    wait_until(LIMIT, "it runs", || exe() == Path::new(program)).unwrap();
    running
}

lab_test!(nothing_that_a_container_has_of_its_own_protects_there, || {
    // There is such a folder on the host, and of the same file system.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let home = folder.path().canonicalize().unwrap();
    let stage = ready(StageOptions {
        configuration: json!({
            "development": {"reportIntervalSeconds": 2},
            "isolation": {"protected": [home.join("*")]},
        }),
        ..options()
    });
    let root = stage.site.directory().canonicalize().unwrap().join("container");
    std::fs::create_dir_all(root.join("old")).unwrap();
    let built = root.join("alone");
    build_as(&built, ALONE, &["-static"]);
    let place = |path: &str| {
        let path = root.join(path.trim_start_matches('/'));
        copy_program(&built, &path).unwrap();
        path
    };
    let gone = home.join("zq-gone");
    let gone = gone.to_str().unwrap();
    let names = ["/opt/zq-contained", "/opt/edgewarden-zq", gone];
    let places = names.map(place);
    let mut all = names.map(|name| contain(&stage, &root, name));
    std::fs::remove_file(&places[2]).unwrap();
    // One of the host's own that an update has removed.
    let kept = home.join("zq-kept");
    copy_program(Path::new("/bin/sleep"), &kept).unwrap();
    let log = stage.site.directory().join("roots.log");
    let kept_running = stage.site.spawn(Ns::Gateway, &kept, &["600"], &[], &log).unwrap();
    wait_name(kept_running.pid(), "zq-kept");
    std::fs::remove_file(&kept).unwrap();
    order_rules(
        &stage,
        &[
            (json!({"name": "zq-contained"}), "kill"),
            (json!({"name": "edgewarden-zq"}), "kill"),
            (json!({"exe": home.join("zq-*")}), "kill"),
        ],
    );
    ended(&mut all[0]);
    assert_eq!(living(&names, &mut all), [""; 0]);
    let status = stage.status();
    assert!(
        joined(&status["enforcement"]["spared"]).contains("zq-kept"),
        "control: the system's own is spared: {status}"
    );
    assert!(state_of(kept_running.pid()).is_some_and(|state| "SR".contains(state)));
    release(&stage);
});

/// Calls itself something harmless.
const HARMLESS: &str = r#"
#include <sys/prctl.h>
#include <unistd.h>
int main(void) { prctl(PR_SET_NAME, "harmless"); for (;;) usleep(10000); }
"#;

lab_test!(
    a_program_of_an_ordinary_users_is_no_interpreter_by_its_name,
    || {
        let stage = ready(options());
        let his = his_folder(&stage);
        let built = crate::common::programs::build(&stage, "zq-harmless", HARMLESS);
        let names = ["zq-plain-name", "node-20.99", "sh.99", "python3.99"];
        let mut all = names.map(|name| {
            let program = his.join(name);
            copy_program(&built, &program).unwrap();
            give(&program);
            let running = run_as_nobody(&stage, &program, &[]);
            wait_name(running.pid(), "harmless");
            running
        });
        let rules = names.map(|name| (json!({ "name": name }), "kill"));
        order_rules(&stage, &rules);
        ended(&mut all[0]);
        assert_eq!(living(&names, &mut all), [""; 0]);
        release(&stage);
    }
);
