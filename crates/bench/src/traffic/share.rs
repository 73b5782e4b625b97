//! Whose bytes the agent tells right: of programs that stay, and of programs that live for 20 ms.
//!
//! Out: shares of the bytes that the kernel counted on the interface meanwhile, and how far the agent's own totals of
//! the interface are from the kernel's.

use edgewarden_lab::site::{GATEWAY_WAN_V4, INTERNET_V4, Ns, Running};

use super::agent::Interval;
use super::site::{INTERFACE, PATIENCE, Testbed};
use super::subject::Subject;
use crate::error::BenchError;
use crate::figure::Figure;
use crate::report::Report;

/// Programs that connect, send and exit.
const BURSTS: usize = 50;
/// Where a program of the lab takes what is sent to it.
const SINK_PORT: u16 = 7_001;
/// Two seconds of datagrams.
const DATAGRAMS: &[&str] = &["flood", "--size", "1000", "--rate", "5000", "--millis", "2000"];
/// 100 MB over one connection.
const MESSAGES: &[&str] = &[
    "rogue",
    "--size",
    "1000000",
    "--messages",
    "100",
    "--every-millis",
    "10",
];
/// 100 kB, over 20 ms after its start.
const BURST: &[&str] = &["burst"];

pub(crate) fn measure(testbed: &Testbed, report: &mut Report) -> Result<(), BenchError> {
    let _agent = testbed.start(Subject::Agent, &[])?;
    let inside = sink(testbed, Ns::Gateway)?;
    let _outside = sink(testbed, Ns::Internet)?;
    let begin = Look::now(testbed)?;
    for (name, from, arguments, times) in [
        ("UDP out", Ns::Gateway, DATAGRAMS, 1),
        ("UDP in", Ns::Internet, DATAGRAMS, 1),
        ("TCP out", Ns::Gateway, MESSAGES, 1),
        ("TCP in", Ns::Internet, MESSAGES, 1),
        ("50 processes of 20 ms", Ns::Gateway, BURST, BURSTS),
    ] {
        eprintln!("bench: whose bytes, {name}");
        let before = Look::now(testbed)?;
        let mut owners = Vec::new();
        for _ in 0..times {
            owners.push(send(testbed, from, arguments)?);
        }
        if from == Ns::Internet {
            owners = vec![inside.pid()];
        }
        let after = Look::now(testbed)?;
        let told = after.agent.of_processes(&owners) - before.agent.of_processes(&owners);
        let percent = |bytes: u64| bytes as f64 * 100.0 / (after.kernel - before.kernel).max(1) as f64;
        let case = format!("{name}, {}", Subject::Agent.name());
        report.add(Figure::new(&case, "attributed", percent(told), "%"));
        for (metric, reason) in [("no_socket", "noSocket"), ("no_process", "noProcess")] {
            let bytes = after.agent.unattributed(reason) - before.agent.unattributed(reason);
            report.add(Figure::new(&case, metric, percent(bytes), "%"));
        }
    }
    let end = Look::now(testbed)?;
    let kernel = end.kernel - begin.kernel;
    let off = |told: u64| told as f64 - kernel as f64;
    let interface = end.agent.interface(INTERFACE) - begin.agent.interface(INTERFACE);
    let captured = end.agent.captured().1 - begin.agent.captured().1;
    let case = format!("all of these, {}", Subject::Agent.name());
    report.add(Figure::new(&case, "kernel_bytes", kernel as f64, "B"));
    report.add(Figure::new(&case, "interface_total_off", off(interface), "B"));
    report.add(Figure::new(&case, "captured_total_off", off(captured), "B"));
    report.add(Figure::new(
        &case,
        "frames_lost",
        end.agent.lost() as f64,
        "frames",
    ));
    Ok(())
}

/// What agent and kernel say at one moment, when nothing is under way.
struct Look {
    agent: Interval,
    kernel: u64,
}

impl Look {
    fn now(testbed: &Testbed) -> Result<Self, BenchError> {
        loop {
            // What is under way comes out of the ring first.
            testbed.settle();
            let kernel = testbed.kernel_bytes()?;
            let agent = Interval::read(testbed)?;
            // The kernel sends frames of its own at any time; then both are asked again.
            if testbed.kernel_bytes()? == kernel {
                return Ok(Self { agent, kernel });
            }
        }
    }
}

fn sink(testbed: &Testbed, ns: Ns) -> Result<Running, BenchError> {
    let mut sink = testbed.lab(ns, &["sink", "--listen", &format!("0.0.0.0:{SINK_PORT}")])?;
    sink.wait_event(PATIENCE, |event| event["event"] == "listening")?;
    Ok(sink)
}

/// Runs a program of the lab to its end; its pid.
fn send(testbed: &Testbed, from: Ns, arguments: &[&str]) -> Result<u32, BenchError> {
    let to = if from == Ns::Gateway {
        INTERNET_V4
    } else {
        GATEWAY_WAN_V4
    };
    let remote = format!("{to}:{SINK_PORT}");
    let mut all = arguments.to_vec();
    all.extend(["--remote", &remote]);
    let mut running = testbed.lab(from, &all)?;
    running.wait_exit(PATIENCE)?;
    Ok(running.pid())
}
