//! A veth pair, frames of our own through it, and what a ring says about them.

use std::process::Command;
use std::time::{Duration, Instant};

use edgewarden_lab::site::wait_until;
use nix::net::if_::if_nametoindex;
use packet_ring::{FrameKind, PacketRing, RingOptions, Vlan};
use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender, interfaces};

/// How long one look at the ring takes at most.
pub(crate) const WAIT: Duration = Duration::from_millis(200);
/// Longest wait for all frames.
const LIMIT: Duration = Duration::from_secs(10);
/// Hardware address of `near0`.
const NEAR: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Hardware address of `far0`.
pub(crate) const FAR: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// IEEE 802, local experimental Ethernet type 1.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];

pub(crate) fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn index(name: &str) -> u32 {
    if_nametoindex(name).unwrap()
}

/// `near0` and `far0`, joined.
pub(crate) struct Pair {
    pub(crate) near: u32,
    pub(crate) far: u32,
    pub(crate) sender: Sender,
}

impl Pair {
    pub(crate) fn new() -> Self {
        ip("link add near0 address 02:00:00:00:00:01 type veth peer name far0 address 02:00:00:00:00:02");
        ip("link set near0 up");
        ip("link set far0 up");
        // The kernel throws frames away until it has noticed that both ends are up, which may take a second.
        wait_until(LIMIT, "both ends are up", || {
            ["near0", "far0"]
                .iter()
                .all(|name| ip(&format!("link show {name}")).contains("state UP"))
        })
        .unwrap();
        Self {
            near: index("near0"),
            far: index("far0"),
            sender: Sender::on("near0"),
        }
    }
}

/// A ring of the usual shape.
pub(crate) fn open(interfaces: &[u32]) -> PacketRing {
    let ring = PacketRing::open(&RingOptions::default()).unwrap();
    ring.control().watch(interfaces).unwrap();
    ring
}

/// Sends frames of ours out of one interface.
pub(crate) struct Sender(Box<dyn DataLinkSender>);

impl Sender {
    pub(crate) fn on(interface: &str) -> Self {
        let interface = interfaces()
            .into_iter()
            .find(|candidate| candidate.name == interface)
            .unwrap();
        let config = Config {
            promiscuous: false,
            ..Config::default()
        };
        match pnet_datalink::channel(&interface, config).unwrap() {
            Channel::Ethernet(sender, _) => Self(sender),
            _ => panic!("a channel of another kind"),
        }
    }

    /// Sends one frame to the far end, `length` bytes long.
    pub(crate) fn send(&mut self, number: u16, length: usize) {
        self.send_frame(FAR, &[], number, length);
    }

    pub(crate) fn send_to(&mut self, to: [u8; 6], number: u16, length: usize) {
        self.send_frame(to, &[], number, length);
    }

    /// The same with VLAN tags (protocol, control), outermost first, which the length does not include.
    pub(crate) fn send_tagged(&mut self, tags: &[(u16, u16)], number: u16, length: usize) {
        self.send_frame(FAR, tags, number, length);
    }

    fn send_frame(&mut self, to: [u8; 6], tags: &[(u16, u16)], number: u16, length: usize) {
        let mut frame = [to, NEAR].concat();
        for (protocol, control) in tags {
            frame.extend(protocol.to_be_bytes());
            frame.extend(control.to_be_bytes());
        }
        frame.extend(EXPERIMENT);
        frame.extend(number.to_be_bytes());
        frame.resize(length + tags.len() * 4, 0);
        self.0.send_to(&frame, None).unwrap().unwrap();
    }
}

/// A frame of ours and what the ring said.
pub(crate) struct Seen {
    pub(crate) number: u16,
    pub(crate) bytes: Vec<u8>,
    pub(crate) wire_length: u32,
    pub(crate) vlan: Option<Vlan>,
    pub(crate) kind: FrameKind,
    pub(crate) interface: u32,
    pub(crate) hardware_type: u16,
}

pub(crate) fn numbers(seen: &[Seen]) -> Vec<u16> {
    seen.iter().map(|frame| frame.number).collect()
}

pub(crate) fn is_ours(frame: &[u8]) -> bool {
    number(frame).is_some()
}

/// The number of a frame of ours, whatever tags are left in it.
fn number(frame: &[u8]) -> Option<u16> {
    let mut rest = frame.get(12..)?;
    while let [0x81, 0, _, _, inner @ ..] | [0x88, 0xa8, _, _, inner @ ..] = rest {
        rest = inner;
    }
    let number = rest.strip_prefix(&EXPERIMENT)?.get(..2)?;
    Some(u16::from_be_bytes(number.try_into().unwrap()))
}

/// Reads until `count` frames of ours came, and until no more do.
pub(crate) fn read(ring: &mut PacketRing, count: usize) -> Vec<Seen> {
    let end = Instant::now() + LIMIT;
    let mut seen = Vec::new();
    loop {
        let more = ring
            .read_block(WAIT, |frame| {
                if let Some(number) = number(frame.bytes) {
                    seen.push(Seen {
                        number,
                        bytes: frame.bytes.to_vec(),
                        wire_length: frame.wire_length,
                        vlan: frame.vlan,
                        kind: frame.kind,
                        interface: frame.interface,
                        hardware_type: frame.hardware_type,
                    });
                }
            })
            .unwrap();
        if !more && (seen.len() >= count || Instant::now() > end) {
            assert_eq!(seen.len(), count, "frames of ours");
            return seen;
        }
    }
}

/// Receives `count` frames of ours.
pub(crate) fn receive(receiver: &mut dyn DataLinkReceiver, count: usize) -> Vec<Vec<u8>> {
    let end = Instant::now() + LIMIT;
    let mut received = Vec::new();
    while received.len() < count {
        assert!(Instant::now() < end, "{} of {count} frames", received.len());
        if let Ok(frame) = receiver.next()
            && is_ours(frame)
        {
            received.push(frame.to_vec());
        }
    }
    received
}
