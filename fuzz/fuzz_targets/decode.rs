//! Frames of any bytes through decode, way, fragments and tally: nothing panics, and every byte that goes in comes out.
#![no_main]

use edgewarden_core::observe::decode::LinkKind;
use edgewarden_core::observe::meter::{CapturedFrame, Meter};
use edgewarden_core::observe::way::{StackInterface, InterfaceKind, PacketType, InterfaceStack};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut meter = Meter::default();
    meter.set_stack(InterfaceStack::new(&[
        StackInterface { index: 1, hardware: Some([2, 0, 0, 0, 0, 1]), captured: true, kind: InterfaceKind::Bridge, ..StackInterface::default() },
        StackInterface { index: 2, master: Some(1), captured: true, ..StackInterface::default() },
        StackInterface { index: 3, lower: Some(2), captured: true, kind: InterfaceKind::Vlan(10), ..StackInterface::default() },
    ]));
    // Frames of one input: a byte that says how it was seen, a length, the bytes.
    let (mut rest, mut bytes_in, mut frames_in) = (data, 0_u64, 0_u64);
    while let [how, length, tail @ ..] = rest {
        let (frame, next) = tail.split_at(usize::from(*length).min(tail.len()));
        let wire = if how & 0x10 == 0 { Some(frame.len() + usize::from(*how)) } else { None };
        meter.count(&CapturedFrame {
            interface: u32::from(how & 3),
            bytes: frame,
            wire_length: wire,
            link: if how & 4 == 0 { LinkKind::Ethernet } else { LinkKind::RawIp },
            seen: [PacketType::Outgoing, PacketType::ForUs, PacketType::ForOther, PacketType::Untold][usize::from(how >> 6)],
            vlan: (how & 8 != 0).then_some(10),
        });
        if let Some(wire) = wire {
            bytes_in += wire as u64;
        }
        frames_in += 1;
        rest = next;
    }
    let mut sums = Vec::new();
    meter.drain(&mut sums);
    assert_eq!(sums.iter().map(|(_, sum)| sum.packets).sum::<u64>(), frames_in);
    assert!(sums.iter().map(|(_, sum)| sum.bytes).sum::<u64>() >= bytes_in);
});
