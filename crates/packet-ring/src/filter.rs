//! The program that decides in the kernel what gets into the ring (classic BPF).
//!
//! In: interface indexes, the snap length. Out: instructions: frames of these interfaces, cut to that length; nothing
//! else. Pure.

use libc::sock_filter;

use crate::error::RingError;

/// Interfaces that one ring can watch: a conditional jump of classic BPF reaches 255 instructions far, and each
/// interface costs every frame one comparison.
pub const MAX_INTERFACES: usize = 128;

/// `ld [interface index of the frame]`: a word at a place that means the frame's own data.
const LOAD_WORD: u16 = 0x20;
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
