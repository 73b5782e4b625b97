//! Entering the lab: a private mount and network namespace for a whole test or program.
//!
//! In: the name of a test, or a program's arguments. Out: the same code, run again where it may do as it likes.
//! The host's interfaces, rules, mounts, state and units are out of reach from there.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::{SiteError, tools};

/// Set (to 1) inside a lab.
pub const IN_LAB: &str = "EDGEWARDEN_IN_LAB";

/// Where the lab keeps a second mount of cgroup v2, for namespaces that mount a new `/sys` over the first.
pub(super) const CGROUP_COPY: &str = "/run/edgewarden-lab-cgroup";

/// Where components keep their state.
const VAR_LIB: &str = "/var/lib";

/// What `/var/lib` is outside.
const VAR_LIB_COPY: &str = "/run/edgewarden-lab-var-lib";

/// The administrator's units: a component's install step may write there.
const UNITS: &str = "/etc/systemd/system";

/// A test whose body runs in a lab: `lab_test!(name, || { … })`, or `lab_test!(name, enter, body)` where `enter` does
/// something of its own before it calls [`in_lab`]; it is given the test's full name and the body.
///
/// Every lab test has to repeat its own name, so that it can be run again by it; here it is written once.
#[macro_export]
macro_rules! lab_test {
    ($name:ident, $body:expr $(,)?) => {
        $crate::lab_test!($name, $crate::site::in_lab, $body);
    };
    ($name:ident, $enter:path, $body:expr $(,)?) => {
        #[test]
        fn $name() {
            $enter($crate::test_name!($name), $body);
        }
    };
}

/// The full name of a test of the calling module, as `--exact` wants it.
#[macro_export]
macro_rules! test_name {
    ($name:ident) => {
        $crate::site::name_in_program(concat!(module_path!(), "::", stringify!($name)))
    };
}

/// A test's path without the crate, which is the test program and no part of the names in it.
#[must_use]
pub fn name_in_program(path: &str) -> &str {
    path.split_once("::").map_or(path, |(_, name)| name)
}

/// Runs `body` in a lab; `test_name` is the full name of the calling test, as `--exact` wants it.
///
/// Without privilege it prints `SKIPPED` and returns, unless `CI` is set.
///
/// # Panics
/// When the test fails inside the lab (with its output), when no test has that name, and without privilege under CI.
pub fn in_lab(test_name: &str, body: impl FnOnce()) {
    if std::env::var_os(IN_LAB).is_some() {
        if let Err(error) = prepare() {
            panic!(
                "could not prepare the lab for {test_name}: {}",
                crate::error_text(&error)
            );
        }
        body();
        return;
    }
    let mut command = match unshare_command() {
        Ok(command) => command,
        Err(error) if std::env::var_os("CI").is_some() => {
            panic!("{test_name} must not be skipped under CI: {error}")
        }
        Err(error) => {
            println!("SKIPPED {test_name}: {error}");
            return;
        }
    };
    let own = std::env::current_exe().unwrap_or_else(|error| panic!("path of the test program: {error}"));
    let output = command
        .arg(own)
        .args(["--exact", test_name, "--nocapture"])
        .env(IN_LAB, "1")
        // It would push out what failed where only the end of an output is kept.
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap_or_else(|error| panic!("could not run {test_name} in a lab: {error}"));
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !output.status.success() {
        let what = text.find("panicked at").map_or("", |at| &text[at..]);
        println!(
            "{text}\n{test_name} failed in the lab ({}): {what}",
            output.status
        );
        // Without a backtrace: it ends here and not where it failed.
        std::panic::resume_unwind(Box::new(()));
    }
    assert!(
        text.contains("running 1 test"),
        "no test is called {test_name}; in_lab needs the exact name:\n{text}"
    );
    println!("{text}");
}

/// For programs: returns inside the lab; outside, replaces this process by itself in a lab, with `args`.
///
/// # Errors
/// Without privilege, or when the lab cannot be prepared.
pub fn enter_or_reexec(args: impl IntoIterator<Item = OsString>) -> Result<(), SiteError> {
    if std::env::var_os(IN_LAB).is_some() {
        return prepare();
    }
    let own = std::env::current_exe().map_err(|source| SiteError::File {
        path: "/proc/self/exe".into(),
        source,
    })?;
    let source = unshare_command()?.arg(own).args(args).env(IN_LAB, "1").exec();
    Err(SiteError::Start {
        program: "unshare".into(),
        source,
    })
}

/// `unshare` with the flags that work for this user, tried once.
fn unshare_command() -> Result<Command, SiteError> {
    let program = tools::require("unshare")?;
    let flags: &[&str] = if nix::unistd::geteuid().is_root() {
        &["--mount", "--net", "--propagation", "private"]
    } else {
        &[
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--propagation",
            "private",
        ]
    };
    let attempt = Command::new(&program)
        .args(flags)
        .arg("true")
        .output()
        .map_err(|source| SiteError::Start {
            program: program.clone(),
            source,
        })?;
    if !attempt.status.success() {
        let reason = String::from_utf8_lossy(&attempt.stderr).trim().to_owned();
        return Err(SiteError::NoPrivilege { reason });
    }
    let mut command = Command::new(program);
    command.args(flags);
    Ok(command)
}

/// Once per process: own `/run`, `/var/lib` and systemd units, loopback up, cgroup v2 where programs look for it.
fn prepare() -> Result<(), SiteError> {
    static PREPARED: OnceLock<()> = OnceLock::new();
    if PREPARED.get().is_some() {
        return Ok(());
    }
    tools::run("mount", &["-t", "tmpfs", "tmpfs", "/run"], "")?;
    own_var_lib()?;
    if Path::new(UNITS).is_dir() {
        tools::run("mount", &["-t", "tmpfs", "-o", "mode=0755", "tmpfs", UNITS], "")?;
    }
    tools::run("ip", &["link", "set", "lo", "up"], "")?;
    if has_cgroup2() || tools::run("mount", &["-t", "cgroup2", "none", "/sys/fs/cgroup"], "").is_ok() {
        keep_cgroup_copy()?;
    } else if let Some(existing) = mounted_cgroup2() {
        tools::run("mount", &["--bind", &existing, "/sys/fs/cgroup"], "")?;
        keep_cgroup_copy()?;
    }
    PREPARED.get_or_init(|| ());
    Ok(())
}

/// An empty directory with links to everything that was in `/var/lib`: components make their own folders there, in each
/// lab others, and without privilege no folder could be made for a mount.
fn own_var_lib() -> Result<(), SiteError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SiteError::File { path, source }
    };
    let (own, copy) = (Path::new(VAR_LIB), Path::new(VAR_LIB_COPY));
    std::fs::create_dir_all(copy).map_err(failed(copy))?;
    tools::run("mount", &["--rbind", VAR_LIB, VAR_LIB_COPY], "")?;
    tools::run("mount", &["-t", "tmpfs", "-o", "mode=0755", "tmpfs", VAR_LIB], "")?;
    for entry in std::fs::read_dir(copy).map_err(failed(copy))? {
        let name = entry.map_err(failed(copy))?.file_name();
        // Installed on this very machine, it is nobody's business here.
        if name != "edgewarden" {
            let link = own.join(&name);
            std::os::unix::fs::symlink(copy.join(&name), &link).map_err(failed(&link))?;
        }
    }
    Ok(())
}

fn has_cgroup2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.procs").exists()
}

fn keep_cgroup_copy() -> Result<(), SiteError> {
    std::fs::create_dir_all(CGROUP_COPY).map_err(|source| SiteError::File {
        path: CGROUP_COPY.into(),
        source,
    })?;
    tools::run("mount", &["--bind", "/sys/fs/cgroup", CGROUP_COPY], "")
}

/// A user namespace may not mount cgroup v2 anew, but may bind the mount it was born with.
fn mounted_cgroup2() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, folder, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| folder.to_owned())
    })
}
