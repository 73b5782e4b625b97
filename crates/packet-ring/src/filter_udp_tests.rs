//! The program for one UDP port, run as the kernel would run it.

use super::*;

const PORT: u16 = 53;
const SNAP: u32 = 2_048;

/// What the kernel returns for a packet of this Ethernet type; a load beyond its end refuses it.
fn run(packet: &[u8], ethernet_type: u32) -> u32 {
    let program = udp_program(PORT, SNAP);
    let (mut at, mut a, mut x) = (0, 0_u32, 0_u32);
    let byte = |offset: u32| packet.get(offset as usize).copied().map(u32::from);
    loop {
        let step = program[at];
        at += 1;
        let loaded = match step.code {
            RETURN => return step.k,
            LOAD_WORD => Some(ethernet_type),
            LOAD_BYTE => byte(step.k),
            LOAD_HALF => byte(step.k).and_then(|high| Some(high << 8 | byte(step.k + 1)?)),
            LOAD_HALF_AFTER => byte(x + step.k).and_then(|high| Some(high << 8 | byte(x + step.k + 1)?)),
            LOAD_HEADER_LENGTH => {
                x = match byte(step.k) {
                    Some(first) => 4 * (first & 0xf),
                    None => return 0,
                };
                Some(a)
            }
            JUMP_IF_EQUAL | JUMP_IF_ANY_BIT => {
                let holds = if step.code == JUMP_IF_EQUAL {
                    a == step.k
                } else {
                    a & step.k != 0
                };
                at += usize::from(if holds { step.jt } else { step.jf });
                Some(a)
            }
            other => panic!("unknown instruction {other:#x}"),
        };
        match loaded {
            Some(value) => a = value,
            None => return 0,
        }
    }
}

/// An IPv4 packet with `options` words of options.
fn v4(protocol: u8, fragment: u16, options: usize, ports: [u16; 2]) -> Vec<u8> {
    let mut packet = vec![0; 20 + 4 * options];
    packet[0] = 0x45 + u8::try_from(options).unwrap();
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet[9] = protocol;
    packet.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    packet.extend([0; 4]);
    packet
}

fn v6(protocol: u8, ports: [u16; 2]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    packet[6] = protocol;
    packet.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
    packet.extend([0; 4]);
    packet
}

const V4: u32 = 0x0800;
const V6: u32 = 0x86dd;

#[test]
fn only_whole_datagrams_of_the_port_pass() {
    for ports in [[PORT, 40_000], [40_000, PORT]] {
        for options in [0, 1, 10] {
            assert_eq!(run(&v4(17, 0, options, ports), V4), SNAP, "{options} options");
        }
        assert_eq!(run(&v4(17, 0x4000, 0, ports), V4), SNAP, "may not be fragmented");
        assert_eq!(run(&v6(17, ports), V6), SNAP);
        let refused = [
            (v4(6, 0, 0, ports), V4, "TCP"),
            (v4(17, 0x2000, 0, ports), V4, "a first piece"),
            (v4(17, 1, 0, ports), V4, "a later piece"),
            (v6(6, ports), V6, "TCP over IPv6"),
            (v6(44, ports), V6, "a piece over IPv6"),
            (v4(17, 0, 0, ports), V6, "another type"),
            (v6(17, ports), V4, "another type"),
            (v4(17, 0, 0, ports), 0x0806, "ARP"),
        ];
        for (packet, kind, what) in refused {
            assert_eq!(run(&packet, kind), 0, "{what}");
        }
    }
    assert_eq!(run(&v4(17, 0, 0, [5_353, 40_000]), V4), 0);
    assert_eq!(run(&v6(17, [40_000, 54]), V6), 0);
}

#[test]
fn a_packet_that_ends_early_is_refused() {
    let (whole4, whole6) = (v4(17, 0, 2, [40_000, PORT]), v6(17, [40_000, PORT]));
    for length in 0..32 {
        assert_eq!(run(&whole4[..length], V4), 0, "{length} bytes of IPv4");
    }
    for length in 0..44 {
        assert_eq!(run(&whole6[..length], V6), 0, "{length} bytes of IPv6");
    }
    assert_eq!(run(&whole4[..32], V4), SNAP, "control");
    assert_eq!(run(&whole6[..44], V6), SNAP, "control");
}

#[test]
fn no_jump_leads_out_of_the_program() {
    let program = udp_program(PORT, SNAP);
    for (at, step) in program.iter().enumerate() {
        if matches!(step.code, JUMP_IF_EQUAL | JUMP_IF_ANY_BIT) {
            let farthest = at + 1 + usize::from(step.jt.max(step.jf));
            assert!(farthest < program.len(), "instruction {at}");
        }
    }
}
