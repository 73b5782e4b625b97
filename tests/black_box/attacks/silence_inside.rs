//! What a program with the right to make packets by hand puts on loopback in the name of whoever is outside (the cloud's resets, a
//! resolver's answers), and sends out in the nucleus' name.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{
    BROKER_PORT, GATEWAY_WAN_V4, GATEWAY_WAN_V6, INTERNET_V4, INTERNET_V6, Ns, wait_until,
};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::socket::{MsgFlags, recv};
use serde_json::json;

use crate::common::gateway::run;
use crate::common::packet::{TCP, UDP, ip as packet, udp};
use crate::common::{LIMIT, done, isolate, options, order, ready, release};
use crate::layers::wire::{NOBODY, Port, emit, hand_over, packets_of};

/// How long the channel may be silent behind new rules, in seconds.
const WINDOW: u64 = 10;
/// The operator's.
pub(super) const ISOLATE: [&str; 3] = ["quarantine", "--reason", "reset"];
/// Of time servers.
pub(super) const NTP: u16 = 123;
const RST: u8 = 0x04;
const SYN: u8 = 0x02;
/// Ethernet and IPv4 without options.
const HEADERS: usize = 34;
/// How long an answer may be under way within the device.
const FLIGHT: Duration = Duration::from_millis(300);

/// A transport's checksum at `place`, over what an IP header says besides.
fn summed((from, to): (IpAddr, IpAddr), protocol: u8, mut body: Vec<u8>, place: usize) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    let besides = [0, protocol, length[0], length[1]];
    let mut all = [octets(from), octets(to), besides.to_vec(), body.clone()].concat();
    all.resize(all.len().next_multiple_of(2), 0);
    let words = all
        .chunks_exact(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    body[place..place + 2].copy_from_slice(&[high, low]);
    body
}

/// On loopback, as some program may have: what it sends there arrives as if the device had sent it to itself.
pub(super) fn loopback() -> OwnedFd {
    Port::of("gateway", "lo").sender_as(0x0800, NOBODY)
}

pub(super) fn send(lies: &OwnedFd, kind: [u8; 2], datagram: &[u8]) {
    emit(lies, &[[0_u8; 12].as_slice(), &kind, datagram].concat());
}

/// The segment in a frame to the broker, unless it resets.
fn segment_to_broker(frame: &[u8]) -> Option<&[u8]> {
    let is_segment = frame.len() >= HEADERS + 20 && frame[12..14] == [8, 0] && frame[23] == TCP;
    let segment = frame.get(HEADERS..).filter(|_| is_segment)?;
    let is_ours = segment[2..4] == BROKER_PORT.to_be_bytes() && segment[13] & RST == 0;
    is_ours.then_some(segment)
}

/// The reset that answers a frame to the broker.
fn reset(frame: &[u8]) -> Option<Vec<u8>> {
    let segment = segment_to_broker(frame)?;
    let opens = segment[13] & SYN != 0;
    let numbers = if opens {
        let next = u32::from_be_bytes(segment[4..8].try_into().unwrap()).wrapping_add(1);
        [[0; 4], next.to_be_bytes()].concat()
    } else {
        [&segment[8..12], &[0; 4]].concat()
    };
    let flags = if opens { RST | 0x10 } else { RST };
    let ports = [&segment[2..4], &segment[..2]].concat();
    let reset = [ports, numbers, vec![0x50, flags, 0, 0, 0, 0, 0, 0]].concat();
    let ends = (INTERNET_V4, GATEWAY_WAN_V4);
    Some(packet(ends.0, ends.1, TCP, 0, &summed(ends, TCP, reset, 16)))
}

/// Somebody who hears what leaves by the uplink, and resets connections.
pub(super) struct Resets {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Resets {
    /// `answer` is given each frame, and says whether it has reset its connection.
    pub(super) fn begin(answer: impl Fn(&[u8]) -> bool + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let hears = Port::of("gateway", "wan0").sender_as(0x0003, NOBODY);
            let (mut buffer, mut sent) = ([0; 2_048], 0);
            while !told.load(Ordering::Relaxed) {
                while let Ok(length) = recv(hears.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    sent += usize::from(answer(&buffer[..length]));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            sent
        });
        Self { stop, thread }
    }

    /// Resets in the name of whoever has a connection, given to the IP stack behind this socket.
    pub(super) fn by_packets(lies: OwnedFd) -> Self {
        Self::begin(move |frame| {
            let reset = reset_behind(frame);
            reset.iter().for_each(|reset| hand_over(&lies, reset));
            reset.is_some()
        })
    }

    /// The same by hand, with the hardware addresses of what was heard.
    pub(super) fn by_frames(lies: OwnedFd) -> Self {
        Self::by_tagged_frames(lies, &[])
    }

    /// The same with these tags.
    pub(super) fn by_tagged_frames(lies: OwnedFd, tags: &'static [u8]) -> Self {
        Self::begin(move |frame| {
            let reset = reset_behind(frame);
            let header = |frame: &[u8]| [&frame[..12], tags, &frame[12..14]].concat();
            let behind = |reset: &Vec<u8>| emit(&lies, &[&header(frame), reset.as_slice()].concat());
            reset.iter().for_each(behind);
            reset.is_some()
        })
    }

    /// How often it has reset one.
    pub(super) fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

pub(super) fn short_windows() -> StageOptions {
    StageOptions {
        configuration: json!({
            "isolation": {"confirmSeconds": WINDOW},
            "shadow": {"refreshSeconds": 30},
        }),
        ..options()
    }
}

/// What the operator orders is not given up at any time, and not widened in the end.
pub(super) fn in_force_all_the_time(stage: &Stage, order: &[&str]) {
    done(stage, order);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4 * WINDOW) {
        let status = stage.status();
        let enforcement = &status["enforcement"];
        assert!(enforcement["rolledBack"].is_null(), "{status}");
        std::thread::sleep(Duration::from_millis(300));
    }
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
    assert_eq!(status["cloud"]["channelWorks"], true, "{status}");
}

lab_test!(
    what_is_put_on_loopback_in_the_clouds_name_ends_no_isolation,
    || {
        let stage = ready(short_windows());
        let lies = loopback();
        let attacker = Resets::begin(move |frame| {
            let reset = reset(frame);
            reset.iter().for_each(|reset| send(&lies, [8, 0], reset));
            reset.is_some()
        });
        let silent = |s: &serde_json::Value| s["cloud"]["channelWorks"] == false;
        stage
            .wait_status(LIMIT * 2, "control: it silences the free device", silent)
            .unwrap();
        in_force_all_the_time(&stage, &ISOLATE);
        assert!(attacker.end() > 0, "control");
    }
);

/// The reset in the same one's name behind a frame to the broker.
fn reset_behind(frame: &[u8]) -> Option<Vec<u8>> {
    let segment = segment_to_broker(frame)?;
    let length = usize::from(u16::from_be_bytes([frame[16], frame[17]])) - 20;
    let data = length - usize::from(segment[12] >> 4) * 4;
    let opens = segment[13] & SYN != 0;
    let sent = u32::try_from(data).unwrap() + u32::from(opens);
    let next = u32::from_be_bytes(segment[4..8].try_into().unwrap()).wrapping_add(sent);
    let numbers = [next.to_be_bytes(), [0; 4]].concat();
    let reset = [&segment[..4], &numbers, &[0x50, RST, 0, 0, 0, 0, 0, 0]].concat();
    let ends = (GATEWAY_WAN_V4, INTERNET_V4);
    Some(packet(ends.0, ends.1, TCP, 0, &summed(ends, TCP, reset, 16)))
}

/// Resets in the nucleus' name by whoever begins so silence the free device, and end or widen no order that comes among them.
pub(super) fn silences_the_free_device_only(stage: &Stage, begin: impl Fn() -> Resets, order: &[&str]) {
    let first = begin();
    let works = |does: bool| move |s: &serde_json::Value| s["cloud"]["channelWorks"] == does;
    stage
        .wait_status(LIMIT * 2, "control: it silences the free device", works(false))
        .unwrap();
    assert!(first.end() > 0, "control");
    stage
        .wait_status(LIMIT * 2, "control: it is heard again", works(true))
        .unwrap();
    let second = begin();
    in_force_all_the_time(stage, order);
    assert!(second.end() > 0, "control");
}

lab_test!(what_is_sent_in_the_nucleus_name_ends_no_isolation, || {
    let by_the_stack = || Resets::by_packets(packets_of("gateway", NOBODY));
    silences_the_free_device_only(&ready(short_windows()), by_the_stack, &ISOLATE);
});

/// A file with an order that cuts off an address which nobody uses.
pub(super) fn restriction(stage: &Stage) -> String {
    let file = stage.site.directory().join("order.json");
    let block = json!({"posture": "restrict", "block": {"remotes": ["203.0.113.77"]}, "reason": "reset"});
    std::fs::write(&file, block.to_string()).unwrap();
    file.into_os_string().into_string().unwrap()
}

lab_test!(
    what_is_made_by_hand_in_the_nucleus_name_ends_no_restriction,
    || {
        let stage = ready(short_windows());
        let uplink = Port::of("gateway", "wan0");
        let past_the_stack = || Resets::by_frames(uplink.sender_as(0x0800, NOBODY));
        let file = restriction(&stage);
        let order = ["quarantine", "--order", &file];
        silences_the_free_device_only(&stage, past_the_stack, &order);
    }
);

/// An answer of a time server's that is not its own.
pub(super) fn forged((from, to): (IpAddr, IpAddr), port: u16) -> Vec<u8> {
    let answer = summed((from, to), UDP, udp(NTP, port, b"forged"), 6);
    packet(from, to, UDP, 0, &answer)
}

/// Whether an answer on loopback in the name of `from` reaches a program that asks there.
fn believes(stage: &Stage, ends: (IpAddr, IpAddr)) -> bool {
    let lies = loopback();
    let kind = if ends.0.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
    takes(stage, ends, |port| send(&lies, kind, &forged(ends, port)))
}

/// Whether a program of the device, with the address `to`, that asks the time server `from` takes for its answer what is said to its
/// port meanwhile.
pub(super) fn takes(stage: &Stage, (from, to): (IpAddr, IpAddr), say: impl FnOnce(u16) + Send) -> bool {
    let asks = || {
        let asker = UdpSocket::bind(SocketAddr::new(to, 0)).unwrap();
        asker.connect(SocketAddr::new(from, NTP)).unwrap();
        asker.set_read_timeout(Some(FLIGHT)).unwrap();
        asker.send(b"question").unwrap();
        say(asker.local_addr().unwrap().port());
        let begun = Instant::now();
        let mut buffer = [0; 512];
        while begun.elapsed() < FLIGHT {
            if asker
                .recv(&mut buffer)
                .is_ok_and(|length| &buffer[..length] == b"forged")
            {
                return true;
            }
        }
        false
    };
    stage.site.run_in(Ns::Gateway, asks).unwrap()
}

/// Whether a program of this device answers at `remote` whoever asks there.
pub(super) fn answers(stage: &Stage, own: SocketAddr, remote: SocketAddr) -> bool {
    let exchange = || {
        let server = UdpSocket::bind(own).unwrap();
        let asker = UdpSocket::bind("0.0.0.0:0").unwrap();
        asker.connect(remote).unwrap();
        for socket in [&server, &asker] {
            socket.set_read_timeout(Some(FLIGHT)).unwrap();
        }
        asker.send(b"question").unwrap();
        let mut buffer = [0; 512];
        let Ok((_, from)) = server.recv_from(&mut buffer) else {
            return false;
        };
        server.send_to(b"answer", from).unwrap();
        asker
            .recv(&mut buffer)
            .is_ok_and(|length| &buffer[..length] == b"answer")
    };
    stage.site.run_in(Ns::Gateway, exchange).unwrap()
}

lab_test!(
    nobody_answers_for_a_lifeline_on_loopback_and_the_devices_own_programs_do,
    || {
        let servers = [GATEWAY_WAN_V4, INTERNET_V4, INTERNET_V6];
        let stage = ready(StageOptions {
            configuration: json!({"isolation": {"timeServers": servers.map(|server| server.to_string())}}),
            ..options()
        });
        let both = [(INTERNET_V4, GATEWAY_WAN_V4), (INTERNET_V6, GATEWAY_WAN_V6)];
        assert_eq!(both.map(|ends| believes(&stage, ends)), [true, true], "control");
        isolate(&stage);
        let passes = |server: IpAddr| {
            let set = if server.is_ipv4() {
                "endpoints4"
            } else {
                "endpoints6"
            };
            let listed = stage.nft(&["list", "set", "inet", "edgewarden", set]).unwrap().1;
            listed.contains(&format!("{server} . udp . {NTP}"))
        };
        wait_until(LIMIT, "control: all of them are lifelines", || {
            servers.iter().all(|server| passes(*server))
        })
        .unwrap();
        assert_eq!(both.map(|ends| believes(&stage, ends)), [false, false]);

        // A lifeline on an address of our own.
        let own = SocketAddr::new(GATEWAY_WAN_V4, NTP);
        assert!(answers(&stage, own, own), "our own time server");

        // In a restriction all passes that it does not name, so also what the owner has redirected to a program here.
        release(&stage);
        order(
            &stage,
            &json!({"posture": "restrict", "block": {"remotes": ["203.0.113.77"]}}),
        );
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(
            both.map(|ends| believes(&stage, ends)),
            [false, false],
            "restricted"
        );
        assert!(answers(&stage, own, own), "our own time server, restricted");
        let redirect = format!(
            "add table ip own; add chain ip own out {{ type nat hook output priority -100; }}; \
             add rule ip own out ip daddr {INTERNET_V4} udp dport {NTP} redirect to :5353"
        );
        run(&stage, Ns::Gateway, "/usr/sbin/nft", &[&redirect]);
        let remote = SocketAddr::new(INTERNET_V4, NTP);
        assert!(
            answers(&stage, SocketAddr::from(([127, 0, 0, 1], 5353)), remote),
            "a redirected lifeline"
        );
    }
);
