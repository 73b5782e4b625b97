//! Black box: frames over a veth pair in a private network namespace, read through the ring.
//!
//! Frames are told from the kernel's own (neighbour discovery) by an Ethernet type for experiments and a number.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step of a test that fails is a failed test"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test runs programs, reads /proc and waits with a limit"
)]

mod support;

use edgewarden_lab::site::in_lab;
use packet_ring::{FrameKind, PacketRing, RingOptions, Vlan};
use pnet_datalink::DataLinkReceiver;

use support::{FAR, Pair, WAIT, index, ip, is_ours, numbers, open, read, receive};

#[test]
fn a_frame_is_seen_once_each_way_with_its_true_length() {
    in_lab("a_frame_is_seen_once_each_way_with_its_true_length", || {
        const LENGTHS: [(u16, usize); 4] = [(0, 60), (1, 128), (2, 129), (3, 1_514)];
        let mut pair = Pair::new();
        let mut ring = open(&[pair.near, pair.far]);
        for (number, length) in LENGTHS {
            pair.sender.send(number, length);
        }
        let seen = read(&mut ring, 8);
        for (number, length) in LENGTHS {
            let of_this: Vec<_> = seen.iter().filter(|frame| frame.number == number).collect();
            let ways: Vec<_> = of_this
                .iter()
                .map(|frame| (frame.interface, frame.kind))
                .collect();
            assert_eq!(
                ways,
                [(pair.near, FrameKind::Outgoing), (pair.far, FrameKind::Host)]
            );
            for frame in of_this {
                assert_eq!(frame.wire_length as usize, length);
                assert_eq!(frame.bytes.len(), length.min(128), "cut to the snap length");
                assert_eq!(frame.vlan, None);
                // ARPHRD_ETHER
                assert_eq!(frame.hardware_type, 1);
            }
        }
    });
}

#[test]
fn the_kind_tells_whom_a_received_frame_is_for() {
    in_lab("the_kind_tells_whom_a_received_frame_is_for", || {
        let mut pair = Pair::new();
        let mut ring = open(&[pair.far]);
        let stranger = [0x02, 0, 0, 0, 0, 0x77];
        for (number, to) in [[0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], stranger, FAR]
            .into_iter()
            .enumerate()
        {
            pair.sender.send_to(to, u16::try_from(number).unwrap(), 60);
        }
        let kinds: Vec<_> = read(&mut ring, 4).iter().map(|frame| frame.kind).collect();
        assert_eq!(
            kinds,
            [
                FrameKind::Broadcast,
                FrameKind::Multicast,
                FrameKind::OtherHost,
                FrameKind::Host
            ]
        );
    });
}

#[test]
fn a_vlan_tag_that_the_kernel_takes_off_is_told() {
    in_lab("a_vlan_tag_that_the_kernel_takes_off_is_told", || {
        let mut pair = Pair::new();
        let mut ring = open(&[pair.near, pair.far]);
        pair.sender.send_tagged(&[(0x8100, 0x2007)], 1, 100);
        pair.sender.send_tagged(&[(0x88a8, 9), (0x8100, 7)], 2, 100);
        let seen = read(&mut ring, 4);
        let told: Vec<_> = seen
            .iter()
            .map(|frame| (frame.interface, frame.number, frame.vlan))
            .collect();
        let tag = |tpid, tci| Some(Vlan { tpid, tci });
        assert_eq!(
            told,
            [
                // Sent as it was written.
                (pair.near, 1, None),
                (pair.far, 1, tag(0x8100, 0x2007)),
                (pair.near, 2, None),
                (pair.far, 2, tag(0x88a8, 9)),
            ]
        );
        assert_eq!(tag(0x8100, 0x2007).map(Vlan::id), Some(7), "without priority");
        let lengths: Vec<_> = seen.iter().map(|frame| frame.wire_length).collect();
        assert_eq!(lengths, [104, 100, 108, 104], "the tag taken off is not counted");
    });
}

#[test]
fn only_watched_interfaces_are_seen_and_the_choice_can_change() {
    in_lab(
        "only_watched_interfaces_are_seen_and_the_choice_can_change",
        || {
            let mut pair = Pair::new();
            let mut ring = open(&[]);
            let control = ring.control().clone();
            pair.sender.send(0, 60);
            control.watch(&[pair.far]).unwrap();
            pair.sender.send(1, 60);
            control.watch(&[pair.near]).unwrap();
            pair.sender.send(2, 60);
            control.watch(&[]).unwrap();
            pair.sender.send(3, 60);
            control.watch(&[pair.far]).unwrap();
            pair.sender.send(4, 60);
            let seen: Vec<_> = read(&mut ring, 3)
                .iter()
                .map(|frame| (frame.number, frame.interface))
                .collect();
            assert_eq!(seen, [(1, pair.far), (2, pair.near), (4, pair.far)]);
        },
    );
}

#[test]
fn what_a_sleeping_reader_loses_is_counted() {
    in_lab("what_a_sleeping_reader_loses_is_counted", || {
        const SENT: u16 = 2_000;
        let mut pair = Pair::new();
        let options = RingOptions {
            block_size: 4 << 10,
            blocks: 4,
            ..RingOptions::default()
        };
        let mut ring = PacketRing::open(&options).unwrap();
        ring.control().watch(&[pair.far]).unwrap();
        for number in 0..SENT {
            pair.sender.send(number, 60);
        }
        // The kernel's own frames may come at any time; from here on none is counted.
        ring.control().watch(&[]).unwrap();
        let statistics = ring.control().statistics().unwrap();
        assert!(statistics.lost > 0 && statistics.freezes > 0, "{statistics:?}");
        let mut read = 0;
        while ring.read_block(WAIT, |_| read += 1).unwrap() {}
        assert_eq!(read + statistics.lost, statistics.frames);
        assert!(statistics.frames >= u64::from(SENT), "{statistics:?}");

        ring.control().watch(&[pair.far]).unwrap();
        pair.sender.send(SENT, 60);
        let numbers = numbers(&support::read(&mut ring, 1));
        assert_eq!(numbers, [SENT], "the ring goes on after a loss");
    });
}

#[test]
fn an_interface_that_comes_again_is_watched_again() {
    in_lab("an_interface_that_comes_again_is_watched_again", || {
        let mut pair = Pair::new();
        let mut ring = open(&[pair.far]);
        pair.sender.send(1, 60);
        assert_eq!(numbers(&read(&mut ring, 1)), [1]);
        ip("link delete near0");
        read(&mut ring, 0);

        let mut pair = Pair::new();
        ring.control().watch(&[pair.far]).unwrap();
        pair.sender.send(2, 60);
        let seen = read(&mut ring, 1);
        assert_eq!((seen[0].number, seen[0].interface), (2, index("far0")));
    });
}

#[test]
fn a_closed_ring_leaves_nothing_behind() {
    in_lab("a_closed_ring_leaves_nothing_behind", || {
        let held = || {
            let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let mapped = maps.lines().filter(|line| line.contains("socket:")).count();
            (descriptors, mapped)
        };
        let before = held();
        let ring = PacketRing::open(&RingOptions::default()).unwrap();
        assert_eq!(held(), (before.0 + 1, before.1 + 1));
        drop(ring);
        for _ in 0..100 {
            drop(PacketRing::open(&RingOptions::default()).unwrap());
        }
        assert_eq!(held(), before);
    });
}

#[test]
fn the_receiver_of_pnet_yields_the_same_frames() {
    in_lab("the_receiver_of_pnet_yields_the_same_frames", || {
        let mut pair = Pair::new();
        let mut ring = open(&[pair.near, pair.far]);
        let mut receiver: Box<dyn DataLinkReceiver> = Box::new(open(&[pair.near, pair.far]));
        // Less than the ring holds, however few frames the kernel puts into a block before it hands it over.
        for number in 0..1_000 {
            pair.sender.send(number, 60 + usize::from(number));
        }
        let expected: Vec<_> = read(&mut ring, 2_000)
            .into_iter()
            .map(|frame| frame.bytes)
            .collect();
        let received = receive(receiver.as_mut(), 2_000);
        assert!(received == expected, "the same bytes in the same order");
        let error = loop {
            match receiver.next() {
                Ok(frame) => assert!(!is_ours(frame)),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_missing_capability_is_told_as_such() {
    const WITHOUT: &str = "PACKET_RING_WITHOUT_CAPABILITY";
    let name = "a_missing_capability_is_told_as_such";
    if std::env::var_os(WITHOUT).is_some() {
        let error = PacketRing::open(&RingOptions::default()).err().unwrap();
        assert!(error.is_permission(), "{error}");
        return;
    }
    in_lab(name, || {
        assert!(PacketRing::open(&RingOptions::default()).is_ok());
        let own = std::env::current_exe().unwrap();
        let output = std::process::Command::new("setpriv")
            .args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"])
            .arg(own)
            .args(["--exact", name])
            .env(WITHOUT, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("running 1 test"),
            "{text}"
        );
    });
}
