//! The program that decides in the kernel what gets into the ring (classic BPF).
//!
//! In: interface indexes or a UDP port, the snap length. Out: instructions: frames of these interfaces, or datagrams of
//! that port, cut to that length; nothing else. Pure. A load beyond the packet's end makes the kernel refuse the packet.

use libc::sock_filter;

use crate::error::RingError;

/// Interfaces that one ring can watch: a conditional jump of classic BPF reaches 255 instructions far, and each
/// interface costs every frame one comparison.
pub const MAX_INTERFACES: usize = 128;

/// `ld [interface index of the frame]`: a word at a place that means the frame's own data.
const LOAD_WORD: u16 = 0x20;
/// `ldh [k]`
const LOAD_HALF: u16 = 0x28;
/// `ldb [k]`
const LOAD_BYTE: u16 = 0x30;
/// `ldh [x + k]`
const LOAD_HALF_AFTER: u16 = 0x48;
/// `ldxb 4 * ([k] & 0xf)`: the length of an IPv4 header, into X.
const LOAD_HEADER_LENGTH: u16 = 0xb1;
/// `jset #k, true, false`: whether any of these bits is set.
const JUMP_IF_ANY_BIT: u16 = 0x45;
/// `jeq #k, true, false`
const JUMP_IF_EQUAL: u16 = 0x15;
/// `ret #k`: keep so many bytes, none means no frame at all.
const RETURN: u16 = 0x06;

/// The filter for these interfaces.
pub(crate) fn program(interfaces: &[u32], snap_length: u32) -> Result<Vec<sock_filter>, RingError> {
    let too_many = RingError::TooManyInterfaces {
        wanted: interfaces.len(),
    };
    if interfaces.len() > MAX_INTERFACES {
        return Err(too_many);
    }
    let instruction = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    let place = libc::SKF_AD_OFF.wrapping_add(libc::SKF_AD_IFINDEX);
    let mut program = vec![instruction(LOAD_WORD, 0, place.cast_unsigned())];
    for (position, index) in interfaces.iter().enumerate() {
        // Over the comparisons that follow and the refusal.
        let Ok(distance) = u8::try_from(interfaces.len() - position) else {
            return Err(too_many);
        };
        program.push(instruction(JUMP_IF_EQUAL, distance, *index));
    }
    program.push(instruction(RETURN, 0, 0));
    program.push(instruction(RETURN, 0, snap_length));
    Ok(program)
}

/// UDP's number in IPv4 and IPv6.
const UDP: u32 = 17;
/// "More fragments" and the fragment's offset: any of them set means a piece of a datagram.
const FRAGMENT: u32 = 0x3fff;

/// The filter for whole UDP datagrams from or to `port`, of packets that begin with their network header. IPv6 extension
/// headers are not looked through.
pub(crate) fn udp_program(port: u16, snap_length: u32) -> Vec<sock_filter> {
    let port = u32::from(port);
    let network = u32::try_from(libc::ETH_P_IP).unwrap_or_default();
    let network6 = u32::try_from(libc::ETH_P_IPV6).unwrap_or_default();
    let protocol = libc::SKF_AD_OFF
        .wrapping_add(libc::SKF_AD_PROTOCOL)
        .cast_unsigned();
    // Jumps count the instructions to pass over; refusal is the last but one, acceptance the last.
    let steps = [
        (LOAD_WORD, 0, 0, protocol),
        (JUMP_IF_EQUAL, 0, 9, network),
        (LOAD_BYTE, 0, 0, 9),
        (JUMP_IF_EQUAL, 0, 14, UDP),
        (LOAD_HALF, 0, 0, 6),
        (JUMP_IF_ANY_BIT, 12, 0, FRAGMENT),
        (LOAD_HEADER_LENGTH, 0, 0, 0),
        (LOAD_HALF_AFTER, 0, 0, 0),
        (JUMP_IF_EQUAL, 10, 0, port),
        (LOAD_HALF_AFTER, 0, 0, 2),
        (JUMP_IF_EQUAL, 8, 7, port),
        (JUMP_IF_EQUAL, 0, 6, network6),
        (LOAD_BYTE, 0, 0, 6),
        (JUMP_IF_EQUAL, 0, 4, UDP),
        (LOAD_HALF, 0, 0, 40),
        (JUMP_IF_EQUAL, 3, 0, port),
        (LOAD_HALF, 0, 0, 42),
        (JUMP_IF_EQUAL, 1, 0, port),
        (RETURN, 0, 0, 0),
        (RETURN, 0, 0, snap_length),
    ];
    steps
        .map(|(code, jt, jf, k)| sock_filter { code, jt, jf, k })
        .to_vec()
}

#[cfg(test)]
#[path = "filter_udp_tests.rs"]
mod udp_tests;

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program returns for a frame of this interface.
    fn run(program: &[sock_filter], interface: u32) -> u32 {
        let mut at = 1;
        loop {
            let instruction = &program[at];
            match instruction.code {
                RETURN => return instruction.k,
                JUMP_IF_EQUAL if instruction.k == interface => at += 1 + usize::from(instruction.jt),
                _ => at += 1,
            }
        }
    }

    #[test]
    fn only_the_interfaces_named_pass() {
        for count in [0, 1, 2, MAX_INTERFACES] {
            let watched: Vec<u32> = (10..).take(count).collect();
            let program = program(&watched, 128).unwrap();
            for index in 0..300 {
                let expected = if watched.contains(&index) { 128 } else { 0 };
                assert_eq!(run(&program, index), expected, "interface {index} of {count}");
            }
        }
    }

    #[test]
    fn more_interfaces_than_a_jump_can_pass_over_are_refused() {
        let watched: Vec<u32> = (0..).take(MAX_INTERFACES + 1).collect();
        assert!(matches!(
            program(&watched, 128),
            Err(RingError::TooManyInterfaces { wanted: 129 })
        ));
    }
}
