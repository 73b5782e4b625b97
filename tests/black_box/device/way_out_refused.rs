//! The way out where somebody answers and does not do it, and where the disk takes nothing.

use std::path::Path;
use std::process::Command;

use edgewarden_lab::lab_test;
use edgewarden_lab::stage::Stage;
use nix::sys::signal::Signal;

use super::guard::lives;
use super::way_out::{OVERRIDE, said};
use super::way_out_crowd::stranger;
use crate::common::{done, isolate, options, ready};

// whoever answers and refuses may be an agent without the state directory, which undoes it.
lab_test!(a_release_that_somebody_who_refused_may_undo_says_so, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stranger(&stage, "{\"protocol\":1,\"error\":\"the agent is stopping\"}\n");
    let (code, _, errors) = said(&stage, &OVERRIDE);
    assert!(!stage.has_table().unwrap(), "exit {code:?}: no way out");
    assert_eq!(code, Some(1), "{errors}");
    for part in [
        "released for the moment",
        "does not do it",
        "the agent is stopping",
    ] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
});

// the device is opened, and whoever may be an agent of another version is not ended for what this program does
// not understand.
lab_test!(a_release_beside_another_protocol_opens_and_ends_nobody, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
    let pid = stage.agent.as_ref().unwrap().pid();
    stranger(&stage, "{\"protocol\":7,\"ok\":{}}\n");
    let (code, _, errors) = said(&stage, &OVERRIDE);
    assert!(!stage.has_table().unwrap(), "exit {code:?}: no way out");
    assert!(lives(pid), "killed, although somebody answers in its place");
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.contains(&format!("process {pid}, is there and was not ended")),
        "{errors}"
    );
});

// the journal knows what the agent has written, and not what it holds.
lab_test!(what_the_operator_holds_is_not_known_where_nobody_says_it, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let (_, _, errors) = said(&stage, &["release"]);
    assert!(errors.contains("you hold no order"), "control: {errors}");
    let not_known = |stage: &Stage, why: &str| {
        let (code, _, errors) = said(stage, &["release"]);
        assert_eq!(code, Some(1), "{errors}");
        for part in [
            why,
            "whether you hold an order is not known",
            "release --override",
        ] {
            assert!(errors.contains(part), "{part}: {errors}");
        }
        assert!(!errors.contains("you hold no order"), "{errors}");
        assert!(stage.has_table().unwrap(), "nothing was done");
    };
    let journal = stage.state_directory().join("journal");
    let kept = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, "no journal").unwrap();
    not_known(&stage, "journal");
    std::fs::write(&journal, kept).unwrap();
    // It says that it is there, and what else it says means nothing here.
    stranger(&stage, "{\"protocol\":1,\"ok\":{}}\n");
    not_known(&stage, "the agent's answer cannot be read");
});

// A reason that cannot be kept is told, with an agent and without one, and nothing is done.
lab_test!(
    a_reason_that_cannot_be_kept_is_refused_before_anything_is_done,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        for alive in [true, false] {
            if !alive {
                stage.agent.as_mut().unwrap().kill9().unwrap();
            }
            for args in [
                &["release", "--override", "--reason", "a\nb"][..],
                &["release", "--reason", ""],
            ] {
                let (code, _, errors) = said(&stage, args);
                assert!(
                    code == Some(1) && errors.contains("printable characters"),
                    "{args:?}: {errors}"
                );
            }
            assert!(stage.has_table().unwrap());
        }
    }
);

fn run(program: &str, args: &[&Path]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

// with the journal goes what it says; that a full disk takes no other is no reason to stay.
lab_test!(an_uninstall_with_a_release_is_done_on_a_full_disk, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let state = stage.state_directory();
    // The directory above it: a mount point itself cannot be removed.
    let disk = state.parent().unwrap();
    let kept = stage.site.directory().join("kept");
    run("cp", &[Path::new("-a"), disk, &kept]);
    let small = Path::new("size=256k,mode=0755");
    let tmpfs = Path::new("tmpfs");
    run(
        "mount",
        &[Path::new("-t"), tmpfs, Path::new("-o"), small, tmpfs, disk],
    );
    run("cp", &[Path::new("-a"), &kept.join("."), disk]);
    let full = std::fs::write(disk.join("filler"), vec![0; 256 * 1024]);
    assert!(full.is_err(), "control: the disk is full");
    let next = std::fs::write(state.join("x"), "x");
    assert!(next.is_err(), "control: it takes no other journal");
    std::fs::remove_file(state.join("x")).unwrap();
    let text = done(&stage, &["uninstall", "--release", "--reason", "away with it"]);
    println!("{text}");
    assert!(!stage.has_table().unwrap(), "released");
    assert!(!state.join("journal").exists(), "removed");
});
