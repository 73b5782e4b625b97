//! Programs of the test's own, through links and under names of others.

#![expect(
    clippy::disallowed_methods,
    reason = "programs of the test's own, in a folder of its own"
)]

use super::*;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::host::clock;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// `sleep` under another name, started by some path.
fn start(program: &Path, by: &Path) -> Running {
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    if !program.exists() {
        fs::copy("/bin/sleep", program).unwrap();
    }
    let end = clock::instant() + Duration::from_secs(10);
    let child = loop {
        match Command::new(by).arg("60").stdout(Stdio::null()).spawn() {
            Ok(child) => break child,
            // A program that another test starts right now has our copy open for writing, until it begins.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                assert!(clock::instant() < end, "{error}");
                clock::pause(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    };
    while process_table::read(child.id()).and_then(|it| it.exe).is_none() {
        assert!(clock::instant() < end, "it runs");
        clock::pause(Duration::from_millis(1));
    }
    Running(child)
}

fn paths(texts: &[&Path]) -> PathsMeant {
    PathsMeant {
        named: texts
            .iter()
            .map(|path| path.to_str().unwrap().to_owned())
            .collect(),
        ..PathsMeant::default()
    }
}

fn aliases(running: &Running, meant: &PathsMeant) -> Vec<String> {
    let process = process_table::read(running.0.id()).unwrap();
    Places::look_up(meant).candidate(process).aliases
}

#[test]
fn links_on_the_way_and_at_the_end_lead_to_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().canonicalize().unwrap().join(path);
    let running = start(&at("usr/bin/rogue-1.2"), &at("usr/bin/rogue-1.2"));
    symlink("usr/bin", at("bin")).unwrap();
    symlink("rogue-1.2", at("usr/bin/rogue")).unwrap();
    symlink("rogue-1.2", at("usr/bin/other")).unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    let is = |path: &str| aliases(&running, &paths(&[&at(path)])) == [text(at(path))];
    assert!(is("bin/rogue-1.2") && is("bin/rogue") && is("usr/bin/rogue"));
    assert!(!is("bin/other"), "a name of many: it was not started by this one");
    let by_link = start(&at("usr/bin/rogue-1.2"), &at("bin/other"));
    assert_eq!(
        aliases(&by_link, &paths(&[&at("bin/other")])),
        [text(at("bin/other"))]
    );
    let wild = paths(&[&at("bin/*")]);
    assert_eq!(aliases(&running, &wild), [text(at("bin/rogue-1.2"))]);
    assert_eq!(
        aliases(&running, &paths(&[&at("usr/bin/rogue-1.2")])),
        [""; 0],
        "itself"
    );
}

#[test]
fn a_file_that_is_really_called_deleted_is_told_from_one_that_was() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().canonicalize().unwrap().join(path);
    let exe = |running: &Running| process_table::read(running.0.id()).unwrap().exe.unwrap();
    let gone = start(&at("gone"), &at("gone"));
    let linked = start(&at("linked"), &at("linked"));
    let named = start(&at("named (deleted)"), &at("named (deleted)"));
    fs::remove_file(at("gone")).unwrap();
    fs::hard_link(at("linked"), at("kept")).unwrap();
    fs::remove_file(at("linked")).unwrap();
    assert_eq!(exe(&gone), at("gone").to_str().unwrap());
    assert_eq!(exe(&linked), at("linked").to_str().unwrap());
    assert_eq!(exe(&named), at("named (deleted)").to_str().unwrap());
    fs::remove_file(at("named (deleted)")).unwrap();
    assert_eq!(exe(&named), at("named (deleted)").to_str().unwrap());
}

#[test]
fn only_roots_own_file_at_that_very_path_is_at_home() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().canonicalize().unwrap().join("program");
    let running = start(&program, &program);
    let (pid, path) = (running.0.id(), program.to_str().unwrap());
    assert!(is_at_home(pid, path));
    assert!(!is_at_home(pid, "/bin/sleep"), "another file");
    assert!(!is_at_home(pid, "/usr/lib/systemd/none"), "no file");
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o757);
    assert!(!is_at_home(pid, path), "others may write it");
    mode(0o775);
    assert!(is_at_home(pid, path), "root's group may");
    std::os::unix::fs::chown(&program, Some(65_534), None).unwrap();
    assert!(!is_at_home(pid, path), "another owner");
    std::os::unix::fs::chown(&program, Some(0), None).unwrap();
    fs::remove_file(&program).unwrap();
    assert!(is_at_home(pid, path), "an update removed it");
    fs::copy("/bin/true", &program).unwrap();
    assert!(is_at_home(pid, path), "an update put another one there");
}

/// A folder that others may look into.
fn folder_for_all() -> (tempfile::TempDir, PathBuf) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (dir, path)
}

const NOBODY: u32 = 65_534;

fn start_as(user: u32, program: &Path) -> Running {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    let child = command.arg("60").stdout(Stdio::null()).uid(user).spawn().unwrap();
    Running(child)
}

#[test]
fn a_link_of_somebody_else_leads_his_own_processes_and_nobody_elses() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (_dir, path) = folder_for_all();
    let at = |name: &str| path.join(name);
    let roots = start(&at("roots/zq-daemon"), &at("roots/zq-daemon"));
    let his = start_as(NOBODY, &at("roots/zq-daemon"));
    fs::create_dir(at("his")).unwrap();
    symlink(at("roots"), at("his/app")).unwrap();
    symlink(at("roots"), at("app")).unwrap();
    let text = |path: &str| at(path).to_str().unwrap().to_owned();
    let meant = |running: &Running, path: &str| !aliases(running, &paths(&[&at(path)])).is_empty();
    for link in ["his/app/*", "his/app/zq-daemon", "app/*", "app/zq-daemon"] {
        assert!(
            meant(&roots, link) && meant(&his, link),
            "control: {link} is root's"
        );
    }
    std::os::unix::fs::lchown(at("his/app"), Some(NOBODY), None).unwrap();
    std::os::unix::fs::chown(at("his"), Some(NOBODY), None).unwrap();
    for link in ["his/app/*", "his/app/zq-daemon"] {
        assert!(!meant(&roots, link) && meant(&his, link), "{link} is his");
    }
    // His own group is his; another's is anybody's.
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(at("his"), fs::Permissions::from_mode(0o775)).unwrap();
    for (group, is_his) in [(NOBODY, true), (1, false)] {
        std::os::unix::fs::chown(at("his"), Some(NOBODY), Some(group)).unwrap();
        assert_eq!(meant(&his, "his/app/*"), is_his, "group {group}");
        assert!(!meant(&roots, "his/app/*"), "group {group}");
    }
    // Where everybody may put a link, it leads nobody: also one of root's may be there under another name.
    fs::create_dir(at("all")).unwrap();
    symlink(at("roots"), at("all/app")).unwrap();
    for mode in [0o777, 0o1777] {
        fs::set_permissions(at("all"), fs::Permissions::from_mode(mode)).unwrap();
        for link in ["all/app/*", "all/app/zq-daemon"] {
            assert!(
                !meant(&roots, link) && !meant(&his, link),
                "{link} is anybody's: {mode:o}"
            );
        }
    }
    // Another file of the same content's inode is as good as a link.
    fs::hard_link(at("roots/zq-daemon"), at("his/zq-daemon")).unwrap();
    assert!(!meant(&roots, "his/zq-daemon"), "{}", text("his/zq-daemon"));
}

#[test]
fn a_way_of_many_links_and_folders_is_given_up_soon() {
    let (_dir, path) = folder_for_all();
    let mut deep = path.clone();
    for _ in 0..60 {
        deep.push("a");
    }
    fs::create_dir_all(&deep).unwrap();
    for at in 0..30 {
        symlink(deep.join(format!("l{}", at + 1)), deep.join(format!("l{at}"))).unwrap();
    }
    symlink("/usr/bin", deep.join("l30")).unwrap();
    symlink(deep.join("l0"), path.join("app")).unwrap();
    symlink("/usr/bin", path.join("plain")).unwrap();
    let began = clock::instant();
    let led = |name: &str| {
        let path = path.join(name);
        look_ups::here(&[path.to_str().unwrap()]).pop().flatten()
    };
    assert_eq!(led("plain").unwrap().real, "/usr/bin", "control");
    assert!(led("app").is_none());
    assert!(
        began.elapsed() < Duration::from_millis(150),
        "{:?}",
        began.elapsed()
    );
}
