//! Isolation that comes back: after the end of the agent, after somebody's hand in the rules. And what it costs to hold.

use std::time::Duration;

use serde_json::json;

use super::delays::{Delays, now};
use super::lab::{Lab, PATIENCE};
use crate::error::BenchError;
use crate::figure::{Aim, Figure};
use crate::report::Report;
use crate::usage::{Usage, children, megabytes};

/// Milliseconds, p99: from the start to restored, and from a change by another to back.
const RESTORED: [Option<f64>; 2] = [None, Some(15.0)];
const BACK: [Option<f64>; 2] = [None, Some(10.0)];
/// How long the isolated agent is left alone.
const IDLE: Duration = Duration::from_secs(60);
/// Share of a core it may use then, children included, in percent.
const IDLE_CPU: f64 = 0.1;
/// Megabytes that it may have in memory then.
const IDLE_RSS: f64 = 10.0;
/// After the last order or change, until the agent has nothing left to do at once.
const SETTLE: Duration = Duration::from_secs(5);
/// Between two changes by another: a change while the last one is still being proven is another measurement.
const REST: Duration = Duration::from_millis(500);

/// Isolates the device and waits until that is proven.
fn isolate(lab: &mut Lab) -> Result<(), BenchError> {
    lab.start_agent()?;
    let wish = json!(true);
    let since = lab.desire(&wish)?;
    lab.reported(&wish, since)?;
    Ok(())
}

/// Releases the device and ends the agent.
fn release(lab: &mut Lab) -> Result<(), BenchError> {
    let wish = json!(false);
    let since = lab.desire(&wish)?;
    lab.reported(&wish, since)?;
    lab.kill_agent()
}

/// From the start of the process to its rules, after SIGKILL and the loss of all tables; and from a change by another
/// to the rules being back.
pub(crate) fn measure_ways_back(lab: &mut Lab, runs: usize, report: &mut Report) -> Result<(), BenchError> {
    isolate(lab)?;
    let mut restored = Delays::default();
    for _ in 0..runs {
        lab.kill_agent()?;
        lab.clean()?;
        let start = now();
        lab.stage.start_agent()?;
        let seen = lab.watch.first(start, PATIENCE, |seen| seen.made)?;
        restored.push(seen.at - start);
        lab.stage.wait_phase(PATIENCE, "enforced")?;
    }
    restored.add(report, "start to restored", RESTORED);
    let mut back = Delays::default();
    for number in 0..runs {
        std::thread::sleep(REST);
        let start = now();
        let what = if number % 2 == 0 { "flush" } else { "delete" };
        lab.stage.nft(&[what, "table", "inet", "edgewarden"])?;
        let gone = lab.watch.first(start, PATIENCE, |_| true)?;
        let seen = lab
            .watch
            .first(gone.at, PATIENCE, |seen| seen.made && seen.pid != gone.pid)?;
        back.push(seen.at - gone.at);
        lab.stage.wait_phase(PATIENCE, "enforced")?;
    }
    back.add(report, "flush or delete to back", BACK);
    release(lab)
}

/// CPU and memory of the isolated agent while nothing happens.
pub(crate) fn measure_idle(lab: &mut Lab, report: &mut Report) -> Result<(), BenchError> {
    isolate(lab)?;
    let pid = lab.agent()?;
    std::thread::sleep(SETTLE);
    let (before, children_before) = (Usage::of(pid)?, children(pid)?);
    std::thread::sleep(IDLE);
    let (after, children_after) = (Usage::of(pid)?, children(pid)?);
    let of_children = children_after.saturating_sub(children_before);
    let cpu = after.cpu_since(&before) + of_children;
    let percent = |cpu: Duration| cpu.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    let case = "isolated and idle";
    let cpu = Figure::new(case, "cpu_of_a_core", percent(cpu), "%");
    report.add(cpu.against("the aim", IDLE_CPU, Some(Aim::AtMost(1.0))));
    report.add(Figure::new(case, "of_it_children", percent(of_children), "%"));
    let rss = Figure::new(case, "rss", megabytes(after.rss), "MB");
    report.add(rss.against("the aim", IDLE_RSS, Some(Aim::AtMost(1.0))));
    release(lab)
}
