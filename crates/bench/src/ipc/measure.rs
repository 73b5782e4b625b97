//! One measurement of one client, and what several of them say together.
//!
//! In: a running lab, a client, a case. Out: a [`Sample`]; the median of many. Client and nucleus are looked at while
//! the client rests, before and after its calls.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::clients::Client;
use super::lab::Lab;
use crate::error::{BenchError, content};
use crate::program::Program;
use crate::usage::megabytes;

/// Most calls of one measurement.
const CALLS: u64 = 100_000;
/// Most seconds of one measurement. With 72 measurements and their warm-ups the run stays below four minutes.
const SECONDS: u64 = 2;
/// How long a client may take beyond [`SECONDS`] to start, to warm up, or to get its last answers.
const SLACK: Duration = Duration::from_secs(20);

/// What is called, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    /// `get` or `publish`, as the clients understand it.
    pub(crate) operation: &'static str,
    /// Calls in flight.
    pub(crate) in_flight: u64,
}

impl Case {
    /// Every one.
    pub(crate) const ALL: [Self; 4] = [
        Self::new("get", 1),
        Self::new("get", 16),
        Self::new("publish", 1),
        Self::new("publish", 16),
    ];

    const fn new(operation: &'static str, in_flight: u64) -> Self {
        Self { operation, in_flight }
    }
}

/// Quantities of a sample, with their units, in the order of [`Sample`].
pub(crate) const METRICS: [(&str, &str); 7] = [
    ("calls_per_second", "1/s"),
    ("latency_p50", "us"),
    ("latency_p99", "us"),
    ("cpu_per_call", "us"),
    ("nucleus_cpu_per_call", "us"),
    ("peak_rss", "MB"),
    ("failed_calls", "calls"),
];

/// The numbers of one measurement. Where no call succeeded there is nothing but the failures.
pub(crate) type Sample = [Option<f64>; METRICS.len()];

/// Runs one client once.
pub(crate) fn measure(lab: &Lab, client: Client, case: Case, log: PathBuf) -> Result<Sample, BenchError> {
    let mut command = client.command();
    command
        .args([case.operation.to_owned(), case.in_flight.to_string()])
        .args([CALLS.to_string(), SECONDS.to_string()])
        .envs(lab.variables()?)
        .current_dir(lab.work_folder());
    let mut program = Program::start(client.name(), &mut command, log)?;
    program.expect("ready", SLACK)?;
    let before = (program.usage()?, lab.usage()?);
    program.go()?;
    let done = program.expect("done", SLACK + Duration::from_secs(SECONDS))?;
    let after = (program.usage()?, lab.usage()?);
    let calls = number(client, &done, "calls")?;
    let failed = number(client, &done, "failed")?;
    if failed > 0.0 {
        let (name, first) = (client.name(), &done["first_error"]);
        eprintln!("bench: {name}: {failed} calls failed, the first with {first}");
    }
    if calls < 1.0 {
        return Ok([None, None, None, None, None, None, Some(failed)]);
    }
    let per_call = |cpu: Duration| cpu.as_secs_f64() * 1e6 / calls;
    Ok([
        calls / number(client, &done, "seconds")?.max(f64::MIN_POSITIVE),
        number(client, &done, "p50_us")?,
        number(client, &done, "p99_us")?,
        per_call(after.0.cpu_since(&before.0)),
        per_call(after.1.cpu_since(&before.1)),
        megabytes(after.0.peak_rss),
        failed,
    ]
    .map(Some))
}

fn number(client: Client, event: &Value, name: &str) -> Result<f64, BenchError> {
    let fault = || format!("expected a number `{name}` in {event}");
    event[name]
        .as_f64()
        .ok_or_else(|| content(client.name(), fault()))
}

/// The median of each quantity. Failures are summed: none may hide behind a median.
pub(crate) fn together(samples: &[Sample]) -> Sample {
    std::array::from_fn(|index| {
        let values = samples.iter().filter_map(|sample| sample[index]);
        if METRICS[index].0 == "failed_calls" {
            return Some(values.sum());
        }
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_and_failures_add_up() {
        let sample = |value: f64| [Some(value); METRICS.len()];
        let all = together(&[sample(9.0), sample(1.0), sample(2.0)]);
        assert_eq!(all[0], Some(2.0));
        assert_eq!(all[METRICS.len() - 1], Some(12.0));
        let nothing = together(&[[None; METRICS.len()]]);
        assert_eq!((nothing[0], nothing[METRICS.len() - 1]), (None, Some(0.0)));
    }
}
