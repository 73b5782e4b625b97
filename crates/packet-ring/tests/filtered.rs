//! Datagrams of one port, on loopback and between namespaces, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "sends the datagrams that are to be seen"
)]

use std::net::UdpSocket;
use std::time::Duration;

use edgewarden_lab::site::{GATEWAY_WAN_V4, INTERNET_V4, INTERNET_V6, Ns, Site, in_lab, wait_until};
use packet_ring::{FilteredSocket, FrameKind};

const PORT: u16 = 53;
const LIMIT: Duration = Duration::from_secs(10);

/// Text, kind and hardware type of everything that comes until all of `awaited` was seen.
fn until(socket: &FilteredSocket, awaited: &[&str]) -> Vec<(String, FrameKind, u16)> {
    let mut all = Vec::new();
    wait_until(LIMIT, "all datagrams", || {
        let mut buffer = [0; 512];
        while let Ok(seen) = socket.receive(&mut buffer) {
            let header = if buffer[0] >> 4 == 4 { 20 } else { 40 };
            let text = String::from_utf8_lossy(&buffer[header + 8..seen.length]).into_owned();
            all.push((text, seen.kind, seen.hardware_type));
        }
        awaited
            .iter()
            .all(|wanted| all.iter().any(|(text, ..)| text == wanted))
    })
    .unwrap();
    all
}

#[test]
fn datagrams_of_the_port_are_seen_both_ways_and_others_are_not() {
    in_lab(
        "datagrams_of_the_port_are_seen_both_ways_and_others_are_not",
        || {
            let site = Site::new().unwrap();
            // A link that has just come up loses packets, IPv6 for a second and more.
            wait_until(LIMIT, "the link works", || {
                site.ping(Ns::Gateway, INTERNET_V6).unwrap()
            })
            .unwrap();
            let tap = site
                .run_in(Ns::Gateway, || FilteredSocket::udp(PORT, 512))
                .unwrap()
                .unwrap();
            let send = |ns, local: &str, to: (std::net::IpAddr, u16), text: &str| {
                let socket = site.run_in(ns, || UdpSocket::bind(local)).unwrap().unwrap();
                let _ = socket.send_to(text.as_bytes(), to).unwrap();
            };
            send(Ns::Gateway, "0.0.0.0:0", (INTERNET_V4, 54), "another port");
            send(Ns::Gateway, "0.0.0.0:0", (INTERNET_V4, PORT), "query");
            send(Ns::Gateway, "[::]:0", (INTERNET_V6, PORT), "query6");
            send(Ns::Gateway, "127.0.0.1:0", ([127, 0, 0, 1].into(), PORT), "stub");
            send(Ns::Internet, "0.0.0.0:53", (GATEWAY_WAN_V4, 40_000), "answer");
            let all = until(&tap, &["query", "query6", "stub", "answer"]);
            let of = |wanted: &str| -> Vec<_> {
                let found = all.iter().filter(|(text, ..)| text == wanted);
                found.map(|(_, kind, hardware)| (*kind, *hardware)).collect()
            };
            assert_eq!(of("another port"), []);
            assert_eq!(of("query"), [(FrameKind::Outgoing, 1)]);
            assert_eq!(of("query6"), [(FrameKind::Outgoing, 1)]);
            assert_eq!(of("stub"), [(FrameKind::Outgoing, 772), (FrameKind::Host, 772)]);
            assert_eq!(of("answer"), [(FrameKind::Host, 1)]);
        },
    );
}
