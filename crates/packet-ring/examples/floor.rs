//! The least that counting by flow can cost: the baseline of `cargo xtask bench traffic`.
//!
//! In: interface names as arguments, frames until SIGTERM. Out: `{"ready":true}` once frames are counted, at the end one
//! JSON line: packets, bytes on the wire, frames lost, flows, CPU time in microseconds. Deliberately absent: directions,
//! fragments, options of any kind, names, bounds, and whoever asks while it runs.
#![expect(clippy::print_stdout, reason = "the result goes to whoever measures")]

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use nix::net::if_::if_nametoindex;
use nix::sys::signal::{SigSet, Signal};
use nix::time::{ClockId, clock_gettime};
use packet_ring::{PacketRing, RingOptions};
use serde_json::json;

/// Looks for the signal this often while nothing comes.
const WAIT: Duration = Duration::from_millis(500);

/// Both addresses (IPv4 packed into the first), ports and protocol.
#[derive(PartialEq, Eq)]
struct Flow {
    first: u128,
    second: u128,
    rest: u64,
}

impl Hash for Flow {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.rest);
        state.write_u128(self.first);
        if self.second != 0 {
            state.write_u128(self.second);
        }
    }
}

#[derive(Default)]
struct Sum {
    packets: u64,
    bytes: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stopped = stop_on_term()?;
    let mut ring = PacketRing::open(&RingOptions::default())?;
    let indexes = std::env::args().skip(1).map(|name| if_nametoindex(name.as_str()));
    ring.control().watch(&indexes.collect::<Result<Vec<_>, _>>()?)?;
    println!("{}", json!({"ready": true}));
    let mut flows: HashMap<Flow, Sum, RandomState> = HashMap::default();
    while !stopped.load(Ordering::Relaxed) {
        ring.read_block(WAIT, |frame| {
            let sum = flows.entry(flow(frame.bytes)).or_default();
            sum.packets += 1;
            sum.bytes += u64::from(frame.wire_length);
        })?;
    }
    let cpu = Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?);
    println!(
        "{}",
        json!({
            "packets": flows.values().map(|sum| sum.packets).sum::<u64>(),
            "bytes": flows.values().map(|sum| sum.bytes).sum::<u64>(),
            "lost": ring.control().statistics()?.lost,
            "flows": flows.len(),
            "cpu_us": u64::try_from(cpu.as_micros())?,
        })
    );
    Ok(())
}

/// A flag that a thread raises when SIGTERM comes.
fn stop_on_term() -> nix::Result<Arc<AtomicBool>> {
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    term.thread_block()?;
    let stopped = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stopped);
    std::thread::spawn(move || {
        let _signal = term.wait();
        raised.store(true, Ordering::Relaxed);
    });
    Ok(stopped)
}

/// Reads the headers of an Ethernet frame; whatever is not TCP or UDP over IP is told apart by its type alone.
fn flow(frame: &[u8]) -> Flow {
    ip_flow(frame).unwrap_or(Flow {
        first: 0,
        second: 0,
        rest: word(frame, 12).map_or(0, u64::from),
    })
}

fn ip_flow(frame: &[u8]) -> Option<Flow> {
    const ETHERNET: usize = 14;
    match word(frame, 12)? {
        0x0800 => {
            let header = frame.get(ETHERNET..ETHERNET + 20)?;
            let transport = ETHERNET + usize::from(header[0] & 0x0f) * 4;
            Some(Flow {
                first: u128::from(u64::from_be_bytes(header.get(12..20)?.try_into().ok()?)),
                second: 0,
                rest: rest(frame, header[9], transport),
            })
        }
        0x86dd => {
            let header = frame.get(ETHERNET..ETHERNET + 40)?;
            Some(Flow {
                first: u128::from_be_bytes(header.get(8..24)?.try_into().ok()?),
                second: u128::from_be_bytes(header.get(24..40)?.try_into().ok()?),
                rest: rest(frame, header[6], ETHERNET + 40),
            })
        }
        _ => None,
    }
}

/// Ports and protocol in one word.
fn rest(frame: &[u8], protocol: u8, transport: usize) -> u64 {
    let ports = match protocol {
        6 | 17 => frame
            .get(transport..transport + 4)
            .and_then(|ports| ports.try_into().ok())
            .map_or(0, u32::from_be_bytes),
        _ => 0,
    };
    u64::from(ports) << 8 | u64::from(protocol)
}

fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?))
}
