//! What one packet costs in the stages it passes: `cargo bench --bench observe`.
//!
//! Times, not verdicts: the whole agent is measured by `cargo xtask bench traffic`.
#![expect(clippy::unwrap_used, reason = "a benchmark fails loudly")]

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use edgewarden::observe::Counters;
use edgewarden::observe::decode::{LinkKind, decode};
use edgewarden::observe::flow::{IpProtocol, LocalFlow};
use edgewarden::observe::ledger::{Account, Ledger, LedgerEntry, LedgerLimits};
use edgewarden::observe::meter::{CapturedFrame, Meter};
use edgewarden::observe::way::PacketType;
use edgewarden::process::{Process, ProcessId};

fn main() {
    divan::main();
}

/// An Ethernet frame with a UDP datagram; `flow` goes into the source port.
fn udp4(flow: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0];
    frame.extend([
        0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
    ]);
    frame.extend(flow.to_be_bytes());
    frame.extend([0, 53, 0, 26, 0, 0]);
    frame.resize(64, 0);
    frame
}

/// An Ethernet frame with a VLAN tag and a TCP segment over IPv6.
fn tcp6() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 10, 0x86, 0xdd];
    frame.extend([0x60, 0, 0, 0, 0, 20, 6, 64]);
    frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    frame.extend([
        0x9c, 0x40, 1, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0,
    ]);
    frame
}

#[divan::bench(args = ["udp over IPv4", "tcp over IPv6 in a VLAN"])]
fn decode_frame(bencher: Bencher<'_, '_>, kind: &str) {
    let frame = if kind.starts_with("udp") {
        udp4(4_096)
    } else {
        tcp6()
    };
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench(|| decode(black_box(&frame), Some(frame.len()), LinkKind::Ethernet));
}

#[divan::bench(args = [1, 100, 10_000])]
fn meter_packet(bencher: Bencher<'_, '_>, flows: u16) {
    const PACKETS: usize = 1_000;
    let frames: Vec<Vec<u8>> = (0..flows).map(udp4).collect();
    let mut meter = Meter::default();
    let mut next = 0;
    bencher.counter(ItemsCount::new(PACKETS)).bench_local(|| {
        for _ in 0..PACKETS {
            next = (next + 1) % frames.len();
            meter.count(&CapturedFrame {
                interface: 2,
                bytes: &frames[next],
                wire_length: Some(64),
                link: LinkKind::Ethernet,
                seen: PacketType::Outgoing,
                vlan: None,
            });
        }
    });
}

#[divan::bench(args = [1, 1_000])]
fn drain_flow(bencher: Bencher<'_, '_>, flows: u16) {
    let frames: Vec<Vec<u8>> = (0..flows).map(udp4).collect();
    let mut meter = Meter::default();
    let mut sums = Vec::new();
    bencher.counter(ItemsCount::new(flows)).bench_local(|| {
        for bytes in &frames {
            meter.count(&CapturedFrame {
                interface: 2,
                bytes,
                wire_length: Some(64),
                link: LinkKind::Ethernet,
                seen: PacketType::Outgoing,
                vlan: None,
            });
        }
        sums.clear();
        meter.drain(&mut sums);
        sums.len()
    });
}

#[divan::bench]
fn ledger_entry(bencher: Bencher<'_, '_>) {
    let process = Arc::new(Process {
        identity: ProcessId {
            pid: 7,
            start_ticks: 1,
        },
        parent: 1,
        name: "sensor".into(),
        exe: None,
        cgroup: None,
        workload: None,
    });
    let flow = LocalFlow {
        protocol: IpProtocol::Udp,
        local: "192.0.2.1".parse().unwrap(),
        local_port: 4_096,
        remote: "192.0.2.2".parse().unwrap(),
        remote_port: 53,
    };
    let entry = LedgerEntry {
        interface: 2,
        counters: Counters::traffic(true, 64, 1),
        account: Account::Process(process, flow),
    };
    let mut ledger = Ledger::new(LedgerLimits::default());
    bencher
        .counter(ItemsCount::new(1_u32))
        .bench_local(|| ledger.record(black_box(&entry)));
}
