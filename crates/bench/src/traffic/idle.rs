//! What it costs to be there while nothing happens: four interfaces, a hundred processes.
//!
//! All subjects wait at the same time; each one's CPU time is its own.

use std::process::Command;
use std::time::Duration;

use edgewarden_lab::site::{Ns, Running};
use xtask::run::run_aside;

use super::site::Testbed;
use super::subject::Subject;
use crate::error::BenchError;
use crate::figure::{Aim, Figure};
use crate::report::Report;
use crate::usage::{Usage, megabytes};

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(30);
/// Processes that sleep in the gateway.
const PROCESSES: usize = 100;
/// Further links of the gateway, as `ip` arguments; with the site's two they are four.
const LINKS: [&str; 2] = ["idle0", "idle1"];
/// nethogs wants them named.
const INTERFACES: [&str; 4] = ["wan0", "lan0", "idle0", "idle1"];
/// Whole agent, CPU per second of idling: 0.2 % of a core, in milliseconds.
const CPU: f64 = 2.0;
/// Whole agent, resident memory in MB.
const RSS: f64 = 12.0;

pub(crate) fn measure(
    testbed: &Testbed,
    subjects: &[Subject],
    report: &mut Report,
) -> Result<(), BenchError> {
    eprintln!("bench: idle for {} s", IDLE.as_secs());
    links()?;
    let log = testbed.site.directory().join("sleepers.log");
    let sleepers = (0..PROCESSES).map(|_| testbed.site.spawn(Ns::Gateway, "sleep", &["600"], &[], &log));
    let _sleepers = sleepers.collect::<Result<Vec<Running>, _>>()?;
    let mut running = Vec::new();
    for subject in subjects {
        running.push((*subject, testbed.start(*subject, &INTERFACES)?));
    }
    // What follows a start (looking at processes, at interfaces) is not idling.
    std::thread::sleep(Duration::from_secs(3));
    let usages = |running: &[(Subject, Running)]| {
        running
            .iter()
            .map(|(_, running)| Usage::of(running.pid()))
            .collect::<Result<Vec<_>, _>>()
    };
    let before = usages(&running)?;
    std::thread::sleep(IDLE);
    let after = usages(&running)?;
    for ((subject, _), (before, after)) in running.iter().zip(before.iter().zip(&after)) {
        let case = format!("idle, {}", subject.name());
        let cpu = after.cpu_since(before).as_secs_f64() * 1e3 / IDLE.as_secs_f64();
        let cpu = Figure::new(&case, "cpu_per_second", cpu, "ms");
        let rss = Figure::new(&case, "rss", megabytes(after.rss), "MB");
        if *subject == Subject::Agent {
            report.add(cpu.against("aim", CPU, Some(Aim::AtMost(1.0))));
            report.add(rss.against("aim", RSS, Some(Aim::AtMost(1.0))));
        } else {
            report.add(cpu);
            report.add(rss);
        }
    }
    Ok(())
}

fn links() -> Result<(), BenchError> {
    for name in LINKS {
        let peer = format!("{name}p");
        let (gateway, internet) = (Ns::Gateway.name(), Ns::Internet.name());
        for arguments in [
            vec![
                "-n", gateway, "link", "add", name, "type", "veth", "peer", "name", &peer, "netns", internet,
            ],
            vec!["-n", gateway, "link", "set", name, "up"],
            vec!["-n", internet, "link", "set", &peer, "up"],
        ] {
            run_aside(Command::new("ip").args(arguments))?;
        }
    }
    Ok(())
}
