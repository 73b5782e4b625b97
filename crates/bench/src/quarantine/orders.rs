//! From the shadow's word to rules in the kernel, and to the report that they are proven.

use std::fs::File;
use std::time::Duration;

use edgewarden_lab::site::{ATTACKER_V4, ATTACKER_V6};
use serde_json::{Value, json};
use xtask::workspace;

use super::delays::{Delays, now};
use super::lab::{Lab, PATIENCE};
use super::recorder::{Recorded, Recorder};
use super::watch::Transaction;
use crate::error::BenchError;
use crate::figure::Figure;
use crate::report::Report;

/// The three orders, in the order of their turns.
const KINDS: [&str; 3] = ["isolate", "restrict", "release"];
/// Turns of the baseline.
const BASELINE_ROUNDS: usize = 20;
/// Between a report and the next order: the agent asks the shadow once a second at most, and orders come rarely.
const REST: Duration = Duration::from_millis(1_500);
/// From the delta to the kernel, p50: so many times the raw transaction, and the journal's way to the disk besides.
const TIMES_RAW: f64 = 1.5;
/// Milliseconds, p99: from the delta to the kernel, and to the report.
const KERNEL: f64 = 10.0;
const REPORTED: [Option<f64>; 2] = [None, Some(60.0)];
/// Bytes of a journal with one order.
const JOURNAL: usize = 1_500;

/// What is wished in turn `number`; a restriction has another id each time, as orders do.
fn wish(number: usize) -> Value {
    match number % KINDS.len() {
        0 => json!(true),
        1 => json!({
            "id": format!("bench-{number}"), "posture": "restrict",
            "block": {
                "remotes": [ATTACKER_V4.to_string(), ATTACKER_V6.to_string()],
                "ports": [{"protocol": "tcp", "port": 2323}],
            },
        }),
        _ => json!(false),
    }
}

/// Whether a transaction carries out the wish of turn `number`.
fn carries_out(number: usize, seen: &Transaction) -> bool {
    match number % KINDS.len() {
        2 => seen.removed && !seen.made || seen.lost,
        _ => seen.loads(),
    }
}

/// The transactions of the three orders, from a run of the agent that is not measured. No agent runs afterwards.
pub(crate) fn record(lab: &mut Lab) -> Result<Vec<Recorded>, BenchError> {
    let recorder = Recorder::start(lab)?;
    let mut all: Vec<Recorded> = Vec::new();
    for (number, kind) in KINDS.iter().enumerate() {
        let wish = wish(number);
        let since = lab.desire(&wish)?;
        lab.reported(&wish, since)?;
        let recorded = match (number, all.last()) {
            (2, Some(before)) => recorder.keep_removal(kind, before)?,
            _ => recorder.keep(lab, kind, number > 0)?,
        };
        all.push(recorded);
    }
    lab.kill_agent()?;
    Ok(all)
}

/// How long the three orders take in one of their forms.
fn baseline(
    lab: &mut Lab,
    load: impl Fn(&Lab, usize) -> Result<Duration, BenchError>,
) -> Result<([Delays; 3], Delays), BenchError> {
    let (mut each, mut all) = (<[Delays; 3]>::default(), Delays::default());
    for number in 0..BASELINE_ROUNDS * KINDS.len() {
        let kind = number % KINDS.len();
        let start = load(lab, kind)?;
        let seen = lab
            .watch
            .first(start, PATIENCE, |seen| carries_out(number, seen))?;
        each[kind].push(seen.at - start);
        all.push(seen.at - start);
    }
    Ok((each, all))
}

/// As the agent replaces its journal: written, renamed, each on disk.
fn disk(lab: &Lab) -> Result<Delays, BenchError> {
    let directory = lab.stage.state_directory();
    let (old, new) = (directory.join("bench"), directory.join("bench.new"));
    let mut delays = Delays::default();
    let replace = || {
        std::fs::write(&new, [b'x'; JOURNAL])?;
        File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &old)?;
        File::open(&directory)?.sync_all()
    };
    for _ in 0..BASELINE_ROUNDS {
        let start = now();
        replace().map_err(workspace::file("replace", &old))?;
        delays.push(now() - start);
    }
    std::fs::remove_file(&old).map_err(workspace::file("remove", &old))?;
    Ok(delays)
}

/// Measures `orders` orders and the baselines.
pub(crate) fn measure(lab: &mut Lab, orders: usize, report: &mut Report) -> Result<(), BenchError> {
    let recorded = record(lab)?;
    let (raw, all_raw) = baseline(lab, |lab, kind| lab.replay(&recorded[kind].bytes))?;
    let (alone, all_alone) = baseline(lab, |lab, kind| lab.load(&recorded[kind].text))?;
    lab.start_agent()?;
    let mut kernel = <[Delays; 3]>::default();
    let mut reported = <[Delays; 3]>::default();
    let (mut all_kernel, mut all_reported) = (Delays::default(), Delays::default());
    // The first turns only warm up: pages, caches, the shadow's session.
    for number in 0..KINDS.len() + orders {
        std::thread::sleep(REST);
        let wish = wish(number);
        let received = lab.desire(&wish)?;
        let seen = lab
            .watch
            .first(received, PATIENCE, |seen| carries_out(number, seen))?;
        let told = lab.reported(&wish, received)?;
        if number < KINDS.len() {
            continue;
        }
        kernel[number % KINDS.len()].push(seen.at - received);
        reported[number % KINDS.len()].push(told - received);
        all_kernel.push(seen.at - received);
        all_reported.push(told - received);
    }
    let disk = disk(lab)?;
    disk.add(report, "journal's way to the disk", [None; 2]);
    let aim = TIMES_RAW * all_raw.percentile(50) + disk.percentile(50);
    all_raw.add(report, "raw transaction", [None; 2]);
    all_alone.add(report, "nft -f alone", [None; 2]);
    all_kernel.add(report, "delta to kernel", [Some(aim), Some(KERNEL)]);
    all_reported.add(report, "delta to reported", REPORTED);
    for (kind, name) in KINDS.iter().enumerate() {
        raw[kind].add(report, &format!("{name}: raw transaction"), [None; 2]);
        let case = format!("{name}: nft -f alone");
        alone[kind].add(report, &case, [None; 2]);
        let case = format!("{name}: delta to kernel");
        kernel[kind].add(report, &case, [None; 2]);
        for (unit, base) in [("times_raw", &raw[kind]), ("times_nft", &alone[kind])] {
            let times = kernel[kind].percentile(50) / base.percentile(50);
            report.add(Figure::new(case.clone(), unit, times, "times"));
        }
        reported[kind].add(report, &format!("{name}: delta to reported"), [None; 2]);
    }
    lab.kill_agent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_alternate_and_restrictions_differ() {
        assert_eq!((wish(0), wish(2)), (json!(true), json!(false)));
        assert_ne!(wish(1), wish(4));
        assert_eq!(wish(4)["posture"], "restrict");
    }

    #[test]
    fn only_removal_carries_out_a_release() {
        let made = Transaction {
            made: true,
            removed: true,
            ..Transaction::default()
        };
        let removed = Transaction {
            removed: true,
            ..Transaction::default()
        };
        assert!(carries_out(0, &made) && carries_out(1, &made) && !carries_out(2, &made));
        assert!(carries_out(5, &removed) && !carries_out(3, &removed));
    }
}
