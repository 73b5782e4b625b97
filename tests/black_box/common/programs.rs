//! Programs of the lab under names of their own, and what the kernel says of a process.

use std::path::{Path, PathBuf};
use std::process::Command;

use edgewarden_lab::site::{Ns, Running, lab_program, wait_until};
use edgewarden_lab::stage::{Stage, copy_program};

use super::LIMIT;

/// Starts the lab's program with `args` as `opt/<name>`. Labs share the machine's processes, so each test's has another
/// name.
pub(crate) fn start_named(stage: &Stage, ns: Ns, name: &str, args: &[&str]) -> Running {
    let program = stage.site.directory().join("opt").join(name);
    if !program.exists() {
        copy_program(&lab_program().unwrap(), &program).unwrap();
    }
    let log = stage.site.directory().join("programs.log");
    stage.site.spawn(ns, &program, args, &[], log).unwrap()
}

/// Starts a program in the gateway, as root.
pub(crate) fn run(stage: &Stage, program: &Path, args: &[&str]) -> Running {
    let log = stage.site.directory().join("programs.log");
    stage.site.spawn(Ns::Gateway, program, args, &[], log).unwrap()
}

/// A program of that name in the gateway that sends for ever.
pub(crate) fn sender(stage: &Stage, name: &str) -> Running {
    let args = ["sensor", "--remote", "198.51.100.1:9000", "--udp"];
    start_named(stage, Ns::Gateway, name, &args)
}

/// A program of that name in C, in the stage's own folder.
pub(crate) fn build(stage: &Stage, name: &str, text: &str) -> PathBuf {
    let program = stage.site.directory().join(name);
    build_as(&program, text, &["-pthread"]);
    program
}

/// Builds a program in C with these options of the compiler's; its source stands beside it.
pub(crate) fn build_as(program: &Path, text: &str, options: &[&str]) {
    let source = program.with_extension("c");
    std::fs::write(&source, text).unwrap();
    let mut compiler = Command::new("cc");
    compiler
        .arg("-w")
        .arg(&source)
        .args(options)
        .arg("-o")
        .arg(program);
    let built = compiler.status().unwrap();
    assert!(built.success(), "cc {}: {built}", source.display());
}

/// The letter of a process' state, as in `/proc/<pid>/stat`; none when it is gone.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits until the process is in one of these states.
pub(crate) fn wait_state(running: &Running, states: &str) {
    let pid = running.pid();
    wait_until(LIMIT, states, || {
        state_of(pid).is_some_and(|state| states.contains(state))
    })
    .unwrap();
}
