//! Whoever of a guard and its agent is killed, stopped, or can start nobody: the other sees to it.

use std::process::Command;

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::{Ns, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::guard::{Guarded, lives, signal};
use crate::common::{LIMIT, done, isolate, release};

lab_test!(each_of_guard_and_stand_in_is_followed_by_another, || {
    let mut guarded = Guarded::start(Personality::Classic);
    isolate(&guarded.stage);
    guarded.break_the_component();
    guarded.wait_stand_in();
    let (agent, guard) = (guarded.agent().unwrap(), guarded.guard().unwrap());
    signal(guard, Signal::SIGKILL);
    let second = guarded.wait_another_guard(guard);
    assert_eq!(guarded.agent(), Some(agent), "who enforces lives on");
    assert!(guarded.stage.has_table().unwrap());
    // The other one knows what to do.
    signal(agent, Signal::SIGKILL);
    guarded.stays_closed_until("another stand-in", || {
        guarded.agent().is_some_and(|pid| pid != agent)
    });
    guarded.wait_stand_in();
    let hears = |s: &Value| s["cloud"]["channelWorks"] == true;
    guarded.stage.wait_status(LIMIT, "it hears", hears).unwrap();

    // A stopped one would start nobody.
    signal(second, Signal::SIGSTOP);
    let third = guarded.wait_another_guard(second);
    wait_until(LIMIT, "the stopped one is gone", || !lives(second)).unwrap();
    release(&guarded.stage);

    // Uninstall ends both, whoever was started by whom.
    let last = guarded.agent().unwrap();
    done(&guarded.stage, &["uninstall", "--purge"]);
    wait_until(LIMIT, "nobody is left", || !lives(third) && !lives(last)).unwrap();
    assert!(!guarded.state.exists());
});

/// In the mounts of that process, which has them for itself.
fn remount_for(pid: u32, option: &str, file: &str) {
    let (pid, options) = (pid.to_string(), format!("remount,bind,{option}"));
    let output = Command::new("nsenter")
        .args(["--mount", "--target", &pid, "mount", "-o", &options, file])
        .output()
        .unwrap();
    assert!(output.status.success(), "{options}: {output:?}");
}

lab_test!(a_guard_that_cannot_start_an_agent_tries_again, || {
    let mut guarded = Guarded::start(Personality::Classic);
    isolate(&guarded.stage);
    let first = guarded.guard().unwrap();
    let program = std::fs::read_link(format!("/proc/{first}/exe")).unwrap();
    let program = program.to_str().unwrap();
    signal(first, Signal::SIGKILL);
    wait_until(LIMIT, "it has left its post", || guarded.guard().is_none()).unwrap();
    // Another one of the same file, whose words are kept, and for whom alone nothing can be run for a while.
    let begin = format!("mount --bind {program} {program} && exec {program} guard");
    let log = guarded.stage.site.directory().join("guard.log");
    let arguments = ["--mount", "sh", "-c", &begin];
    let guard = guarded
        .stage
        .site
        .spawn(Ns::Gateway, "unshare", &arguments, &[], &log)
        .unwrap();
    wait_until(LIMIT, "it stands by", || guarded.guard() == Some(guard.pid())).unwrap();
    remount_for(guard.pid(), "noexec", program);
    guarded.break_the_component();
    guarded.stays_closed_until("it has tried", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("could not start an agent"))
    });
    assert!(guarded.agent().is_none(), "control: nobody could be started");
    remount_for(guard.pid(), "exec", program);
    guarded.wait_stand_in();
    assert_eq!(guarded.guard(), Some(guard.pid()));
    done(&guarded.stage, &["release", "--override", "--reason", "by hand"]);
});
