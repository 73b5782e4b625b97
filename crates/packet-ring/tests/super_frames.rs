//! Black box: what TCP hands to the interface in one piece counts in full, though only its headers are kept.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is a failed test")]
#![expect(clippy::disallowed_methods, reason = "the kernel's count is in /proc")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use edgewarden_lab::site::{GATEWAY_WAN_V4, INTERNET_V4, Ns, Site, in_lab};
use nix::net::if_::if_nametoindex;
use packet_ring::{FrameKind, PacketRing, RingOptions};

const PORT: u16 = 7_000;
const SENT: u64 = 5_000_000;

#[test]
fn a_super_frame_counts_with_its_true_length() {
    in_lab("a_super_frame_counts_with_its_true_length", || {
        let site = Site::new().unwrap();
        let mut ring = site
            .run_in(Ns::Gateway, || PacketRing::open(&RingOptions::default()))
            .unwrap()
            .unwrap();
        let wan = site
            .run_in(Ns::Gateway, || if_nametoindex("wan0"))
            .unwrap()
            .unwrap();
        ring.control().watch(&[wan]).unwrap();
        let listener = site
            .run_in(Ns::Internet, || TcpListener::bind((INTERNET_V4, PORT)))
            .unwrap()
            .unwrap();
        let taker = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let taken = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
            stream.write_all(b"!").unwrap();
            taken
        });
        let mut stream = site
            .run_in(Ns::Gateway, || TcpStream::connect((INTERNET_V4, PORT)))
            .unwrap()
            .unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), GATEWAY_WAN_V4);
        let mut meter = Meter::default();
        let before = meter.settle(&site, &mut ring);
        let chunk = vec![7; 100_000];
        for _ in 0..SENT / 100_000 {
            stream.write_all(&chunk).unwrap();
            meter.read(&mut ring);
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        drop(stream);
        assert_eq!(taker.join().unwrap(), SENT);
        let after = meter.settle(&site, &mut ring);
        let lost = ring.control().statistics().unwrap().lost;
        assert_eq!(
            (after.captured - before.captured, lost),
            (after.kernel - before.kernel, 0)
        );
        assert!(meter.longest > 1_514, "no super-frame came: {}", meter.longest);
        assert_eq!(meter.kept, 128);
    });
}

/// What the ring said about frames that were sent.
#[derive(Default)]
struct Meter {
    captured: u64,
    longest: u32,
    kept: usize,
}

/// Bytes sent so far, by both accounts.
struct Sent {
    captured: u64,
    kernel: u64,
}

impl Meter {
    /// False if nothing came for a while.
    fn read(&mut self, ring: &mut PacketRing) -> bool {
        ring.read_block(Duration::from_millis(100), |frame| {
            if frame.kind == FrameKind::Outgoing {
                self.captured += u64::from(frame.wire_length);
                self.longest = self.longest.max(frame.wire_length);
                self.kept = self.kept.max(frame.bytes.len());
            }
        })
        .unwrap()
    }

    /// Both accounts at a moment when nothing is under way: the kernel sends frames of its own at any time.
    fn settle(&mut self, site: &Site, ring: &mut PacketRing) -> Sent {
        loop {
            while self.read(ring) {}
            let kernel = site.run_in(Ns::Gateway, sent_by_interface).unwrap();
            if !self.read(ring) {
                return Sent {
                    captured: self.captured,
                    kernel,
                };
            }
        }
    }
}

/// What the kernel counted as sent on `wan0`; the namespace's own text, whatever `/sys` shows.
fn sent_by_interface() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("wan0:"))
        .unwrap();
    line.split_whitespace().nth(8).unwrap().parse().unwrap()
}
