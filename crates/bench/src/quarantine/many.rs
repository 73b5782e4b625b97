//! A hundred thousand blocked remotes by the operator's order file, and one more by the shadow.

use std::time::Duration;

use serde_json::{Value, json};
use xtask::workspace;

use super::delays::{Delays, now};
use super::lab::{Lab, PATIENCE};
use super::recorder::Recorder;
use super::watch::Transaction;
use crate::error::{BenchError, content};
use crate::figure::{Aim, Figure};
use crate::report::Report;
use crate::usage::{Usage, megabytes};

/// Remotes of the order.
const REMOTES: u32 = 100_000;
/// The first: the shared space of RFC 6598. Nothing is sent there; every other address, so that none join to blocks.
const FIRST: u32 = 0x6440_0000;
/// Loads of each kind.
const RUNS: usize = 5;
/// What `nft -f` alone needs, at most so many times.
const TIMES_NFT: f64 = 0.3;
/// One more, p99 in milliseconds.
const ONE_MORE: [Option<f64>; 2] = [None, Some(10.0)];
/// Megabytes that the agent may have in memory with them.
const RSS: f64 = 40.0;
/// For a load of that size on a busy machine, proof included.
const LONG: Duration = Duration::from_secs(120);
/// Between two orders, and between the end of a table and the next.
const REST: Duration = Duration::from_millis(1_500);

/// The order's file.
fn order() -> Value {
    let remotes = (0..REMOTES).map(|number| std::net::Ipv4Addr::from(FIRST + 2 * number).to_string());
    json!({"id": "bench-many", "posture": "restrict", "reason": "bench", "block": {"remotes": remotes.collect::<Vec<_>>()}})
}

/// The operator gives the order or takes it back.
fn operator(lab: &Lab, arguments: &[&str]) -> Result<(), BenchError> {
    match lab.stage.edgewarden(arguments)? {
        (Some(0), ..) => Ok(()),
        (_, _, errors) => Err(content(format!("edgewarden {}", arguments[0]), errors.trim())),
    }
}

pub(crate) fn measure(lab: &mut Lab, report: &mut Report) -> Result<(), BenchError> {
    let file = lab.stage.site.directory().join("many.json");
    workspace::write(&file, &order().to_string())?;
    let name = file.to_string_lossy().into_owned();
    let give = ["quarantine", "--order", &name];
    let (raw, alone) = baselines(lab, &give)?;
    lab.start_agent()?;
    let (mut applied, mut answered) = (Delays::default(), Delays::default());
    for number in 0..RUNS {
        if number > 0 {
            operator(lab, &["release"])?;
            lab.wait_free()?;
            std::thread::sleep(REST);
        }
        let start = now();
        operator(lab, &give)?;
        answered.push(now() - start);
        let seen = lab.watch.first(start, LONG, Transaction::loads)?;
        applied.push(seen.at - start);
        lab.stage.wait_phase(LONG, "enforced")?;
    }
    raw.add(report, "100,000 remotes: raw transaction", [None; 2]);
    alone.add(report, "100,000 remotes: nft -f alone", [None; 2]);
    let case = "100,000 remotes: order to kernel";
    applied.add(report, case, [None; 2]);
    let times = Figure::new(
        case,
        "times_nft",
        applied.percentile(50) / alone.percentile(50),
        "times",
    );
    report.add(times.against("what it may be", TIMES_NFT, Some(Aim::AtMost(1.0))));
    answered.add(report, "100,000 remotes: order to answer", [None; 2]);
    one_more(lab)?.add(report, "100,000 remotes: one more", ONE_MORE);
    let usage = Usage::of(lab.agent()?)?;
    let rss = Figure::new(case, "rss", megabytes(usage.rss), "MB");
    report.add(rss.against("the aim", RSS, Some(Aim::AtMost(1.0))));
    report.add(Figure::new(case, "peak_rss", megabytes(usage.peak_rss), "MB"));
    operator(lab, &["release"])?;
    lab.kill_agent()
}

/// The same byte for byte, and the same text by nft alone.
fn baselines(lab: &mut Lab, give: &[&str]) -> Result<(Delays, Delays), BenchError> {
    let recorded = {
        let recorder = Recorder::start(lab)?;
        operator(lab, give)?;
        lab.stage.wait_phase(LONG, "enforced")?;
        let recorded = recorder.keep(lab, "many", false)?;
        operator(lab, &["release"])?;
        recorded
    };
    lab.wait_free()?;
    lab.kill_agent()?;
    let raw = baseline(lab, |lab| lab.replay(&recorded.bytes))?;
    Ok((raw, baseline(lab, |lab| lab.load(&recorded.text))?))
}

fn baseline(
    lab: &mut Lab,
    load: impl Fn(&Lab) -> Result<Duration, BenchError>,
) -> Result<Delays, BenchError> {
    let mut alone = Delays::default();
    for _ in 0..RUNS {
        lab.clean()?;
        // The kernel frees what was removed after the commit, and would do so during the next load.
        std::thread::sleep(REST);
        let start = load(lab)?;
        let seen = lab.watch.first(start, LONG, Transaction::loads)?;
        alone.push(seen.at - start);
    }
    lab.clean()?;
    Ok(alone)
}

/// The shadow blocks one remote more beside the operator's order.
fn one_more(lab: &mut Lab) -> Result<Delays, BenchError> {
    let mut delays = Delays::default();
    for number in 0..RUNS {
        std::thread::sleep(REST);
        let wish = json!({
            "id": format!("bench-more-{number}"), "posture": "restrict",
            "block": {"remotes": [format!("203.0.113.{}", number + 1)]},
        });
        let received = lab.desire(&wish)?;
        let seen = lab.watch.first(received, LONG, |_| true)?;
        delays.push(seen.at - received);
        lab.reported(&wish, received)?;
    }
    let wish = json!(false);
    let since = lab.desire(&wish)?;
    let _ = lab.watch.first(since, PATIENCE, |_| true)?;
    lab.reported(&wish, since)?;
    Ok(delays)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remotes_differ_and_do_not_join() {
        let order = order();
        let remotes = order["block"]["remotes"].as_array().unwrap();
        assert_eq!(remotes.len(), 100_000);
        assert_eq!(
            (&remotes[0], &remotes[1]),
            (&json!("100.64.0.0"), &json!("100.64.0.2"))
        );
        assert_eq!(remotes[99_999], "100.67.13.62");
    }
}
