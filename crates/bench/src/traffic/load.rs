//! The same work for each subject: datagrams of two sizes at three paces, and TCP as fast as it goes.
//!
//! Out: CPU per packet or gigabyte over all threads, frames or bytes missed against the sender's and the kernel's
//! count, memory. What nethogs and bandwhich missed is told from the sums they print.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use edgewarden_lab::site::{GATEWAY_WAN_V4, Ns};

use super::agent::{Interval, reader_cpu};
use super::site::{INTERFACE, PATIENCE, PORT, Testbed};
use super::subject::Subject;
use crate::error::{self, BenchError};
use crate::figure::{Aim, Figure};
use crate::report::Report;
use crate::usage::{Usage, megabytes};

/// How long one piece of work takes.
const WORK: Duration = Duration::from_secs(2);
/// bandwhich tells averages over five seconds: its sums are right if it was idle for as long before and after.
const BANDWHICH_MEMORY: Duration = Duration::from_millis(6_500);
/// nethogs tells its sums every second.
const NETHOGS_REFRESH: Duration = Duration::from_millis(1_500);

/// Whole agent against the bare reader.
const OF_FLOOR: Aim = Aim::AtMost(2.5);
/// Whole agent against bandwhich.
const OF_BANDWHICH: Aim = Aim::AtMost(0.1);
/// Whole agent against nethogs.
const OF_NETHOGS: Aim = Aim::AtMost(1.0);

struct Work {
    name: &'static str,
    /// `None`: TCP.
    datagrams: Option<(&'static str, Option<&'static str>)>,
    /// So fast that something may be lost.
    fast: bool,
}

const WORKS: [Work; 7] = [
    udp("64 B, 10 kpps", "64", Some("10000")),
    udp("64 B, 100 kpps", "64", Some("100000")),
    udp("64 B, max", "64", None),
    udp("1400 B, 10 kpps", "1400", Some("10000")),
    udp("1400 B, 100 kpps", "1400", Some("100000")),
    udp("1400 B, max", "1400", None),
    Work {
        name: "TCP, max",
        datagrams: None,
        fast: true,
    },
];

const fn udp(name: &'static str, size: &'static str, rate: Option<&'static str>) -> Work {
    Work {
        name,
        datagrams: Some((size, rate)),
        fast: rate.is_none(),
    }
}

/// What one piece of work was and cost.
struct Outcome {
    /// Datagrams sent; none for TCP.
    packets: u64,
    /// Bytes that passed the interface by the kernel's count.
    bytes: u64,
    seconds: f64,
    cpu: Duration,
    /// Of the agent's reading thread alone.
    reader_cpu: Option<Duration>,
    rss: u64,
    /// Share of the frames (or bytes) that the subject did not count, where it can be told.
    missed: Option<f64>,
}

pub(crate) fn measure(
    testbed: &Testbed,
    subjects: &[Subject],
    report: &mut Report,
) -> Result<(), BenchError> {
    for work in &WORKS {
        let mut outcomes = Vec::new();
        for subject in subjects {
            eprintln!("bench: {} with {}", work.name, subject.name());
            outcomes.push((*subject, one(testbed, *subject, work)?));
        }
        for (subject, outcome) in &outcomes {
            tell(report, work, *subject, outcome, &outcomes);
        }
    }
    Ok(())
}

fn one(testbed: &Testbed, subject: Subject, work: &Work) -> Result<Outcome, BenchError> {
    let mut running = testbed.start(subject, &[INTERFACE])?;
    let lead = work.fast && subject == Subject::Bandwhich;
    if lead {
        std::thread::sleep(BANDWHICH_MEMORY);
    }
    let asked = match subject {
        Subject::Agent => Some(Interval::read(testbed)?),
        _ => None,
    };
    let reader = (subject == Subject::Agent).then(|| reader_cpu(running.pid()));
    let before = (Usage::of(running.pid())?, testbed.kernel_bytes()?);
    let begin = Instant::now();
    let packets = match work.datagrams {
        Some((size, rate)) => flood(testbed, size, rate)?,
        None => {
            stream(testbed)?;
            0
        }
    };
    let seconds = begin.elapsed().as_secs_f64();
    testbed.settle();
    let usage = Usage::of(running.pid())?;
    let mut outcome = Outcome {
        packets,
        bytes: testbed.kernel_bytes()? - before.1,
        seconds,
        cpu: usage.cpu_since(&before.0),
        reader_cpu: reader.map(|before| reader_cpu(running.pid()).saturating_sub(before)),
        rss: usage.rss,
        missed: None,
    };
    match subject {
        Subject::Agent => {
            let now = Interval::read(testbed)?.captured();
            let then = asked.map_or((0, 0), |interval| interval.captured());
            outcome.missed = Some(outcome.missed_of(now.0 - then.0, now.1 - then.1));
        }
        Subject::Floor => {
            running.terminate()?;
            running.wait_exit(PATIENCE)?;
            let line = running.wait_event(PATIENCE, |event| event["packets"].is_u64())?;
            let number = |name: &str| line[name].as_u64().unwrap_or(0);
            outcome.missed = Some(outcome.missed_of(number("packets"), number("bytes")));
        }
        Subject::Nethogs | Subject::Bandwhich if work.fast => {
            std::thread::sleep(if lead { BANDWHICH_MEMORY } else { NETHOGS_REFRESH });
            let log = std::fs::read_to_string(running.log()).unwrap_or_default();
            outcome.missed = Some(outcome.missed_bytes(printed_sum(subject, &log), subject));
        }
        Subject::Nethogs | Subject::Bandwhich => {}
    }
    Ok(outcome)
}

impl Outcome {
    /// Frames for datagrams, bytes for TCP, whose frames have any size. The kernel's own frames add a few.
    fn missed_of(&self, packets: u64, bytes: u64) -> f64 {
        if self.packets > 0 {
            share_missing(packets, self.packets)
        } else {
            share_missing(bytes, self.bytes)
        }
    }

    /// By bytes, without the link headers that bandwhich does not count.
    fn missed_bytes(&self, seen: u64, subject: Subject) -> f64 {
        let headers = if subject == Subject::Bandwhich { 14 } else { 0 };
        share_missing(seen, self.bytes.saturating_sub(self.packets * headers))
    }
}

fn share_missing(seen: u64, all: u64) -> f64 {
    (1.0 - seen as f64 / all.max(1) as f64).max(0.0)
}

/// Bytes of all traffic that a peer's text speaks of.
fn printed_sum(subject: Subject, log: &str) -> u64 {
    match subject {
        // "program/pid/uid<TAB>sent<TAB>received": sums since the start, again with each refresh, until it forgets them.
        Subject::Nethogs => {
            let of_line = |line: &str| {
                line.rsplit('\t')
                    .take(2)
                    .filter_map(|number| number.trim().parse::<f64>().ok())
                    .sum::<f64>()
            };
            log.split("Refreshing:")
                .map(|block| block.lines().map(of_line).sum::<f64>() as u64)
                .max()
                .unwrap_or(0)
        }
        // "connection: <time> ... up/down Bps: 1/2 process: ...": bytes of each second.
        _ => log
            .lines()
            .filter(|line| line.starts_with("connection:"))
            .filter_map(|line| line.split("Bps: ").nth(1)?.split_whitespace().next())
            .flat_map(|numbers| numbers.split('/'))
            .filter_map(|number| number.parse::<u64>().ok())
            .sum(),
    }
}

fn flood(testbed: &Testbed, size: &str, rate: Option<&str>) -> Result<u64, BenchError> {
    let millis = WORK.as_millis().to_string();
    let mut arguments = vec!["--size", size, "--millis", &millis];
    if let Some(rate) = rate {
        arguments.extend(["--rate", rate]);
    }
    let (_, line) = testbed.flood(Ns::Internet, GATEWAY_WAN_V4, &arguments)?;
    Ok(line["packets"].as_u64().unwrap_or(0))
}

/// TCP from the internet into the gateway, as fast as it goes.
fn stream(testbed: &Testbed) -> Result<(), BenchError> {
    let failed = || error::start("a TCP stream");
    let listener = testbed
        .site
        .run_in(Ns::Gateway, || TcpListener::bind((GATEWAY_WAN_V4, PORT)))?
        .map_err(failed())?;
    let taker = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; 256 * 1024];
        while stream.read(&mut buffer)? > 0 {}
        Ok(())
    });
    let mut stream = testbed
        .site
        .run_in(Ns::Internet, || TcpStream::connect((GATEWAY_WAN_V4, PORT)))?
        .map_err(failed())?;
    let end = Instant::now() + WORK;
    let chunk = vec![b't'; 256 * 1024];
    while Instant::now() < end {
        stream.write_all(&chunk).map_err(failed())?;
    }
    drop(stream);
    match taker.join() {
        Ok(taken) => taken.map_err(failed()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn tell(report: &mut Report, work: &Work, subject: Subject, outcome: &Outcome, all: &[(Subject, Outcome)]) {
    let case = format!("{}, {}", work.name, subject.name());
    let cost = |outcome: &Outcome| {
        let nanos = outcome.cpu.as_nanos() as f64;
        if outcome.packets > 0 {
            // Lost packets cost their reader nothing, so they do not count.
            nanos / (outcome.packets as f64 * (1.0 - outcome.missed.unwrap_or(0.0))).max(1.0)
        } else {
            nanos / 1e6 / (outcome.bytes as f64 / 1e9)
        }
    };
    let (metric, unit) = if outcome.packets > 0 {
        ("cpu_per_packet", "ns")
    } else {
        ("cpu_per_gigabyte", "ms")
    };
    let figure = Figure::new(&case, metric, cost(outcome), unit);
    let aims = [
        (Subject::Floor, OF_FLOOR),
        (Subject::Nethogs, OF_NETHOGS),
        (Subject::Bandwhich, OF_BANDWHICH),
    ];
    let mut compared = false;
    for (baseline, theirs) in all.iter().filter(|_| subject == Subject::Agent) {
        if let Some((_, aim)) = aims.iter().find(|(name, _)| name == baseline) {
            // At 10 kpps there is little to do: what the agent does beside counting shows, and has its own aim.
            let aim = (*baseline != Subject::Floor || !work.name.contains(" 10 kpps")).then_some(*aim);
            report.add(figure.against(baseline.name(), cost(theirs), aim));
            compared = true;
        }
    }
    if !compared {
        report.add(figure);
    }
    if let Some(reader) = outcome.reader_cpu.filter(|_| outcome.packets > 0) {
        let nanos = reader.as_nanos() as f64 / outcome.packets as f64;
        report.add(Figure::new(&case, "of_it_reading", nanos, "ns"));
    }
    if let Some(missed) = outcome.missed {
        report.add(Figure::new(&case, "missed", missed * 100.0, "%"));
    }
    let (rate, unit) = if outcome.packets > 0 {
        (outcome.packets as f64 / outcome.seconds / 1e3, "kpps")
    } else {
        (outcome.bytes as f64 * 8.0 / outcome.seconds / 1e9, "Gbit/s")
    };
    let rate_metric = if unit == "kpps" { "rate" } else { "throughput" };
    report.add(Figure::new(&case, rate_metric, rate, unit));
    report.add(Figure::new(&case, "rss", megabytes(outcome.rss), "MB"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nethogs_largest_sums_count() {
        let log =
            "Refreshing:\n/usr/bin/a/1/0\t10\t20\nunknown UDP/0/0\t1\t300.5\n\nRefreshing:\na/1/0\t5\t5\n";
        assert_eq!(printed_sum(Subject::Nethogs, log), 331);
    }

    #[test]
    fn bandwhichs_seconds_are_added_up() {
        let log = "process: <1> \"x\" up/down Bps: 9/9 connections: 1\n\
            connection: <1> <wan0>:1 => 2:3 (udp) up/down Bps: 10/20 process: \"x\"\n\
            connection: <2> <wan0>:1 => 2:3 (udp) up/down Bps: 1/2 process: \"x\"\n";
        assert_eq!(printed_sum(Subject::Bandwhich, log), 33);
    }
}
