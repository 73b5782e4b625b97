//! Other hands on the gateway: its administrator's tools, and traffic that makes it known to its neighbours.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use edgewarden_lab::site::{Ns, Running, SpawnSpec, lab_program, wait_until};
use edgewarden_lab::stage::Stage;

use super::LIMIT;

/// An ordinary user, as text.
pub(crate) const NOBODY: &str = "65534";

/// Runs a program in a namespace; it must succeed.
pub(crate) fn run(stage: &Stage, ns: Ns, program: &str, arguments: &[&str]) {
    let run = || Command::new(program).args(arguments).output();
    let output = stage.site.run_in(ns, run).unwrap().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
}

/// Starts a program in the gateway as that user, in no group besides his own, with these further options of `setpriv`.
pub(crate) fn by_user(
    stage: &Stage,
    user: &str,
    options: &[&str],
    program: &Path,
    words: &[&str],
) -> Running {
    let name = program.file_name().unwrap().display();
    let mut spec = SpawnSpec::new(
        "setpriv",
        stage.site.directory().join(format!("{name}-{user}.log")),
    );
    let identity = ["--reuid", user, "--regid", user, "--clear-groups"];
    spec.args = identity.iter().chain(options).map(Into::into).collect();
    spec.args.push(program.into());
    spec.args.extend(words.iter().map(Into::into));
    stage.site.spawn_with(Ns::Gateway, spec).unwrap()
}

/// Starts a program of the lab's in the gateway as a user who owns nothing and may do nothing.
pub(crate) fn by_nobody(stage: &Stage, words: &[&str]) -> Running {
    let lab = lab_program().unwrap();
    by_user(stage, NOBODY, &["--bounding-set=-all"], &lab, words)
}

/// Runs `ip` in the gateway, a command a line.
pub(crate) fn ip(stage: &Stage, commands: &str) {
    for command in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = command.split_whitespace().collect();
        run(stage, Ns::Gateway, "ip", &words);
    }
}

/// Has nft read a text in the gateway; gives what it says when it refuses.
pub(crate) fn nft_takes(stage: &Stage, text: &str, options: &[&str]) -> Result<(), String> {
    let file = stage.site.directory().join("by-hand.nft");
    std::fs::write(&file, text).unwrap();
    let words = [options, &["-f", file.to_str().unwrap()]].concat();
    let (code, _, errors) = stage.nft(&words).unwrap();
    if code == Some(0) { Ok(()) } else { Err(errors) }
}

/// Waits until each of these pings arrives: a packet of a control case must not wait for its neighbour's address.
pub(crate) fn know_neighbours(stage: &Stage, ways: &[(Ns, IpAddr)]) {
    for (from, to) in ways {
        wait_until(LIMIT, "neighbours are known", || {
            stage.site.ping(*from, *to).unwrap()
        })
        .unwrap();
    }
}
