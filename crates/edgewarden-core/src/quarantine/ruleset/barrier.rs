//! What drops frames that never saw our rules, where the hook of interfaces takes none: filters of `tc`.
//!
//! In: the mark that [`marks`](super::marks) set, interfaces, what keeps links. Out: for each interface the filters at its egress, as
//! programs of classic BPF, which need neither a map nor bpf(2) nor BTF. The first one passes on to the owner's filters what has the mark
//! or keeps the link in this device's own name, and drops all else. The others bound, with `police`, what has no mark. Whatever their
//! order, the same passes. Absent: who of this device has made a frame, which is not told here; what goes round the queues of an
//! interface (`PACKET_QDISC_BYPASS`), which no filter of `tc` sees.

use super::exceptions::{ARP, LINK_KEYS, LLDP, PPPOE_DISCOVERY};
use super::rules::DHCP;

/// The first two thirds of the handles of our filters.
const OURS: u32 = 0xed6e_0000;
/// Set in the handle where the queueing discipline was made with it, and goes with it.
const MADE: u32 = 0x10;
/// Hardware addresses of this device that are told one by one; more, and senders are not asked for.
const MAX_HARDWARE: usize = 32;

/// The verdict of a filter or a bound: go on with the next filter (`TC_ACT_UNSPEC`).
pub const PASS: u32 = u32::MAX;
/// The other one: drop (`TC_ACT_SHOT`).
pub const DROP: u32 = 2;
/// What a program without a verdict says: matches, or does not.
const MATCHES: u32 = u32::MAX;
const NOT: u32 = 0;

/// Places of `linux/filter.h` behind the bytes of a frame (`SKF_AD_OFF`).
const PACKET_TYPE: u32 = 0xffff_f004;
const MARK: u32 = 0xffff_f014;

/// Ethernet types: 802.3 lengths end before them; IP and its envelopes, which are never a link's own.
const IP: u16 = 0x0800;
const OF_NETWORK: &[u16] = &[
    IP,
    0x86dd,
    ARP,
    0x8100,
    0x88a8,
    0x8847,
    0x8848,
    PPPOE_DISCOVERY,
    SESSION,
];
const SESSION: u16 = 0x8864;
/// Bytes of a header of Ethernet.
const HEADER: u32 = 14;

/// One step of a program (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub yes: u8,
    pub no: u8,
    pub value: u32,
}

impl Instruction {
    /// As the kernel has it.
    #[must_use]
    pub fn bytes(self) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = (self.code.to_ne_bytes(), self.value.to_ne_bytes());
        [a, b, self.yes, self.no, c, d, e, f]
    }
}

/// How much of what a filter matches passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    pub bytes_per_second: u32,
    /// What may come at once.
    pub burst: u32,
}

/// One of our filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameFilter {
    /// Which of them; [`handle`] makes its handle.
    pub number: u32,
    pub program: Vec<Instruction>,
    /// None: the program's word is the verdict.
    pub bound: Option<Bound>,
}

/// The handle of the filter of that number.
#[must_use]
pub const fn handle(number: u32, made: bool) -> u32 {
    OURS | number | if made { MADE } else { 0 }
}

/// Whether a filter with this handle is ours, and then whether its queueing discipline is.
#[must_use]
pub const fn of_handle(handle: u32) -> Option<bool> {
    if handle & 0xffff_ff00 == OURS {
        Some(handle & MADE != 0)
    } else {
        None
    }
}

/// An interface with a barrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarredDevice {
    pub name: String,
    pub index: u32,
    /// Its frames have headers of Ethernet.
    pub ethernet: bool,
    /// What a bridge passes on by it is left alone.
    pub passes_on: bool,
    /// What this device is called there; empty where that is not known.
    pub hardware: Vec<[u8; 6]>,
}

/// Which frames leave without having passed our rules, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    /// What the rules mark.
    pub mark: u32,
    pub devices: Vec<BarredDevice>,
    /// This kernel can bound what has no mark.
    pub bounds: bool,
    /// Leases are asked for by hand.
    pub leases: bool,
    /// Sessions of PPP leave in frames that cannot be looked into.
    pub sessions: bool,
}

/// Spanning tree, 802.1X, aggregation, LLDP, dialling: some frames a second.
const LINK_BOUND: Bound = Bound {
    bytes_per_second: 16_384,
    burst: 32_768,
};
/// A client asks some times a minute.
const LEASE_BOUND: Bound = Bound {
    bytes_per_second: 1_024,
    burst: 8_192,
};

/// What a kernel has at the egress of interfaces, as it was tried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressMeans {
    /// Why the packet filter takes no rules there; none where it does, and nothing else is needed.
    pub refusal: Option<String>,
    /// Whether filters of `tc` can bound what they let pass without a mark, or why there are none.
    pub barrier: Result<bool, String>,
}

impl Default for EgressMeans {
    fn default() -> Self {
        Self {
            refusal: None,
            barrier: Err(String::new()),
        }
    }
}

/// What came of a barrier at the egress of interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Barred {
    /// Interfaces where something had to be put, by number and name.
    pub put_on: Vec<(u32, String)>,
    /// Where the kernel lists other filters of ours than it was given.
    pub differs: Vec<String>,
    /// Where it does not take them, each with the reason.
    pub refused: Vec<(String, String)>,
    /// What passes it all the same, each a sentence.
    pub uncovered: Vec<String>,
}

/// What a program says of each kind of frame.
#[derive(Clone, Copy)]
struct Says {
    marked: u32,
    passed_on: u32,
    session: u32,
    link: u32,
    lease: u32,
    rest: u32,
}

impl Barrier {
    /// The filters of an interface, by their numbers.
    #[must_use]
    pub fn filters(&self, device: &BarredDevice) -> Vec<FrameFilter> {
        let verdicts = Says {
            marked: PASS,
            passed_on: PASS,
            session: PASS,
            link: PASS,
            lease: PASS,
            rest: DROP,
        };
        let none = Says {
            marked: NOT,
            passed_on: NOT,
            session: NOT,
            link: NOT,
            lease: NOT,
            rest: NOT,
        };
        let filter = |number, says, bound| FrameFilter {
            number,
            program: self.program(device, says),
            bound,
        };
        let mut filters = vec![filter(1, verdicts, None)];
        if self.bounds && device.ethernet {
            let links = Says {
                link: MATCHES,
                ..none
            };
            filters.push(filter(2, links, Some(LINK_BOUND)));
            let leases = Says {
                lease: MATCHES,
                ..none
            };
            filters.extend(self.leases.then(|| filter(3, leases, Some(LEASE_BOUND))));
        }
        filters
    }

    fn program(&self, device: &BarredDevice, says: Says) -> Vec<Instruction> {
        let mut program = Program::default();
        program.block(&[If::word(MARK, self.mark)], says.marked);
        if device.passes_on {
            program.block(&[If::not(If::word(PACKET_TYPE, 0))], says.passed_on);
        }
        if device.ethernet {
            if self.sessions {
                program.block(&[If::half(12, SESSION)], says.session);
            }
            program.block(&[If::not(If::long(HEADER))], says.rest);
            program.only_from(&device.hardware, says.rest);
            for key in LINK_KEYS.iter().chain(&[LLDP, PPPOE_DISCOVERY]) {
                program.block(&[If::half(12, *key)], says.link);
            }
            // What keeps a session of PPP itself: protocols of its links, not of networks.
            let control = [If::half(12, SESSION), If::long(HEADER + 8), If::any_of(20, 0x80)];
            program.block(&control, says.link);
            // The groups that no bridge passes on.
            let group = [If::word(0, 0x0180_c200), If::under(4, 0xfff0, 0)];
            let own = OF_NETWORK.iter().map(|kind| If::not(If::half(12, *kind)));
            program.block(&group.into_iter().chain(own).collect::<Vec<_>>(), says.link);
            if self.leases {
                program.block(&asks_for_a_lease(), says.lease);
            }
        }
        program.ends(says.rest);
        program.0
    }
}

/// A whole datagram of IPv4 without options, to everybody, from a client's port to a server's.
fn asks_for_a_lease() -> [If; 8] {
    [
        If::half(12, IP),
        If::long(HEADER + 28),
        If::byte(14, 0x45),
        If::under(20, 0x3fff, 0),
        If::byte(23, 17),
        If::word(30, u32::MAX),
        If::half(34, DHCP.0),
        If::half(36, DHCP.1),
    ]
}

/// A condition: what is loaded, under which mask, and what it must be, or must not be.
#[derive(Clone, Copy)]
struct If {
    load: u16,
    at: u32,
    mask: Option<u32>,
    test: u16,
    value: u32,
    wanted: bool,
}

/// `BPF_LD | BPF_ABS` of so many bytes; `BPF_ALU | BPF_AND`; `BPF_JMP` with `BPF_JEQ`, `BPF_JSET`, `BPF_JA`; `BPF_RET`.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_LENGTH: u16 = 0x80;
const AND: u16 = 0x54;
const EQUAL: u16 = 0x15;
const ANY_BIT: u16 = 0x45;
const AT_LEAST: u16 = 0x35;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

impl If {
    const fn loaded(load: u16, at: u32, value: u32) -> Self {
        Self {
            load,
            at,
            mask: None,
            test: EQUAL,
            value,
            wanted: true,
        }
    }

    const fn word(at: u32, value: u32) -> Self {
        Self::loaded(LOAD_WORD, at, value)
    }

    const fn half(at: u32, value: u16) -> Self {
        Self::loaded(LOAD_HALF, at, value as u32)
    }

    /// The frame has so many bytes at least.
    const fn long(bytes: u32) -> Self {
        Self {
            test: AT_LEAST,
            ..Self::loaded(LOAD_LENGTH, 0, bytes)
        }
    }

    const fn byte(at: u32, value: u8) -> Self {
        Self::loaded(LOAD_BYTE, at, value as u32)
    }

    /// Two bytes, under a mask.
    const fn under(at: u32, mask: u32, value: u16) -> Self {
        Self {
            mask: Some(mask),
            ..Self::half(at, value)
        }
    }

    /// One of these bits of a byte is set.
    const fn any_of(at: u32, bits: u8) -> Self {
        Self {
            test: ANY_BIT,
            ..Self::byte(at, bits)
        }
    }

    const fn not(condition: Self) -> Self {
        Self {
            wanted: !condition.wanted,
            ..condition
        }
    }

    const fn steps(self) -> usize {
        2 + self.mask.is_some() as usize
    }
}

#[derive(Default)]
struct Program(Vec<Instruction>);

impl Program {
    fn step(&mut self, code: u16, value: u32) {
        self.jumps(code, value, (0, 0));
    }

    fn jumps(&mut self, code: u16, value: u32, (yes, no): (u8, u8)) {
        self.0.push(Instruction { code, yes, no, value });
    }

    /// Says that of frames that are like all of these, and goes on with others. The kernel ends a program that reads behind the end of a
    /// frame with the word 0, which lets it pass: whoever reads further than the header asks for the length first.
    fn block(&mut self, all: &[If], says: u32) {
        let mut left: usize = all.iter().map(|condition| condition.steps()).sum();
        for condition in all {
            left -= condition.steps();
            // Over the rest of the conditions and the word.
            let over = u8::try_from(left + 1).unwrap_or(u8::MAX);
            self.step(condition.load, condition.at);
            if let Some(mask) = condition.mask {
                self.step(AND, mask);
            }
            let (yes, no) = if condition.wanted { (0, over) } else { (over, 0) };
            self.jumps(condition.test, condition.value, (yes, no));
        }
        self.ends(says);
    }

    /// Says that of all that is sent as somebody else than one of these.
    fn only_from(&mut self, hardware: &[[u8; 6]], says: u32) {
        if hardware.is_empty() || hardware.len() > MAX_HARDWARE {
            return;
        }
        let mut behind = u32::try_from(hardware.len() * 5 + 1).unwrap_or_default();
        for [a, b, c, d, e, f] in hardware {
            behind -= 5;
            self.step(LOAD_WORD, 6);
            self.jumps(EQUAL, u32::from_be_bytes([*a, *b, *c, *d]), (0, 3));
            self.step(LOAD_HALF, 10);
            self.jumps(EQUAL, u16::from_be_bytes([*e, *f]).into(), (0, 1));
            self.step(JUMP, behind);
        }
        self.ends(says);
    }

    fn ends(&mut self, says: u32) {
        self.step(RETURN, says);
    }
}

#[cfg(test)]
#[path = "barrier_tests.rs"]
mod tests;
