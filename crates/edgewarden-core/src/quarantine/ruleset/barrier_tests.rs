//! What the programs of the barrier say of frames, by a reader of classic BPF; not what a kernel does with them.

use super::*;

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const MINE: u32 = 0x1234_5678;

fn barrier(bounds: bool) -> (Barrier, BarredDevice) {
    let device = BarredDevice {
        name: "eth0".to_owned(),
        index: 2,
        ethernet: true,
        passes_on: false,
        hardware: vec![[2, 0, 0, 0, 0, 9], OWN],
    };
    let barrier = Barrier {
        mark: MINE,
        devices: vec![device.clone()],
        bounds,
        leases: true,
        sessions: false,
    };
    (barrier, device)
}

/// As the kernel runs it: a program that reads behind the end of a frame ends with 0.
fn run(program: &[Instruction], frame: &[u8], (mark, kind): (u32, u32)) -> u32 {
    let (mut at, mut loaded) = (0, 0_u32);
    loop {
        let Instruction { code, yes, no, value } = program[at];
        at += 1;
        let from = value as usize;
        let read = |length: usize| {
            let bytes = frame.get(from..from + length)?;
            Some(bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte)))
        };
        let jump = |is: bool| usize::from(if is { yes } else { no });
        match code {
            LOAD_WORD if value == MARK => loaded = mark,
            LOAD_WORD if value == PACKET_TYPE => loaded = kind,
            LOAD_WORD | LOAD_HALF | LOAD_BYTE => {
                let length = [(LOAD_WORD, 4), (LOAD_HALF, 2), (LOAD_BYTE, 1)];
                let length = length.iter().find(|(load, _)| *load == code).unwrap().1;
                match read(length) {
                    Some(word) => loaded = word,
                    None => return 0,
                }
            }
            LOAD_LENGTH => loaded = u32::try_from(frame.len()).unwrap(),
            AND => loaded &= value,
            EQUAL => at += jump(loaded == value),
            ANY_BIT => at += jump(loaded & value != 0),
            AT_LEAST => at += jump(loaded >= value),
            JUMP => at += from,
            RETURN => return value,
            _ => panic!("{code:#x}"),
        }
    }
}

fn frame(to: [u8; 6], from: [u8; 6], kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), rest].concat()
}

fn lease(to: [u8; 4], ports: (u16, u16), fragment: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 1, 0, 0, 0];
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, 17, 0, 0, 0, 0, 0, 0]);
    packet.extend(to);
    packet.extend(ports.0.to_be_bytes());
    packet.extend(ports.1.to_be_bytes());
    packet.extend([0; 240]);
    packet
}

const ALL: [u8; 6] = [0xff; 6];
const STP: [u8; 6] = [1, 0x80, 0xc2, 0, 0, 0];

/// Frames, each with what the three filters say of it while it has no mark.
type Case = (&'static str, Vec<u8>, [u32; 3]);

fn check(cases: &[Case]) {
    let (barrier, device) = barrier(true);
    let filters = barrier.filters(&device);
    let numbers: Vec<u32> = filters.iter().map(|filter| filter.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for (what, frame, says) in cases {
        let run = |mark| {
            filters
                .iter()
                .map(move |filter| run(&filter.program, frame, (mark, 0)))
        };
        let said = |mark| run(mark).collect::<Vec<u32>>();
        assert_eq!(said(0), says, "{what}");
        assert_eq!(said(MINE.swap_bytes()), says, "{what}");
        assert_eq!(said(MINE), [PASS, NOT, NOT], "{what}, marked");
    }
}

const CUT: [u32; 3] = [DROP, NOT, NOT];
const OF_LINK: [u32; 3] = [PASS, MATCHES, NOT];

#[test]
fn frames_of_links_pass_without_a_mark_and_no_others() {
    let session = |protocol: [u8; 2]| [&[0x11, 0, 0, 1, 0, 9][..], &protocol].concat();
    check(&[
        ("unknown", frame(ALL, OWN, 0x88b5, &[7; 46]), CUT),
        ("ARP by hand", frame(ALL, OWN, ARP, &[0; 28]), CUT),
        ("keys", frame(OTHER, OWN, 0x888e, &[1, 1, 0, 0]), OF_LINK),
        ("another's", frame(OTHER, OTHER, 0x888e, &[1, 1, 0, 0]), CUT),
        ("spanning tree", frame(STP, OWN, 38, &[0x42, 0x42, 3]), OF_LINK),
        ("no frame", vec![1; 9], CUT),
        (
            "PPP's",
            frame(OTHER, OWN, SESSION, &session([0xc0, 0x21])),
            OF_LINK,
        ),
        (
            "in a session",
            frame(OTHER, OWN, SESSION, &session([0, 0x21])),
            CUT,
        ),
        ("short session", frame(OTHER, OWN, SESSION, &[0x11]), CUT),
    ]);
}

#[test]
fn of_packets_only_a_question_for_a_lease_passes_without_a_mark() {
    let all = [255; 4];
    check(&[
        (
            "to one",
            frame(OTHER, OWN, IP, &lease([10, 0, 0, 1], (68, 67), 0)),
            CUT,
        ),
        ("to a group", frame(STP, OWN, IP, &lease([1; 4], (1, 1), 0)), CUT),
        (
            "lease",
            frame(ALL, OWN, IP, &lease(all, (68, 67), 0)),
            [PASS, NOT, MATCHES],
        ),
        ("a piece", frame(ALL, OWN, IP, &lease(all, (68, 67), 0x2000)), CUT),
        ("other ports", frame(ALL, OWN, IP, &lease(all, (68, 53), 0)), CUT),
        ("short", frame(ALL, OWN, IP, &[0x45]), CUT),
    ]);
}

#[test]
fn what_a_bridge_passes_on_is_left_alone_where_that_is_wanted() {
    let (barrier, mut device) = barrier(false);
    let unknown = frame(ALL, OTHER, 0x88b5, &[7; 46]);
    let says = |device: &BarredDevice, kind| {
        let filters = barrier.filters(device);
        assert_eq!(filters.len(), 1, "nothing is bounded");
        run(&filters[0].program, &unknown, (0, kind))
    };
    assert_eq!(says(&device, 3), DROP);
    device.passes_on = true;
    assert_eq!((says(&device, 3), says(&device, 0)), (PASS, DROP));
    device.ethernet = false;
    let short = barrier.filters(&device);
    assert_eq!(run(&short[0].program, &[0x45], (0, 0)), DROP, "without a header");
}

#[test]
fn our_filters_are_known_by_their_handles() {
    for made in [false, true] {
        assert_eq!(of_handle(handle(3, made)), Some(made));
    }
    assert_eq!(of_handle(1), None);
}
