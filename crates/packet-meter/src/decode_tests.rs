//! Frames written byte by byte: well-formed, stacked, fragmented, cut and hostile.

use super::*;

const A: [u8; 6] = [0x42, 0, 0, 0, 0, 1];
const B: [u8; 6] = [0x62, 0, 0, 0, 0, 2];

fn ethernet_frame(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(B);
    frame.extend(A);
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

fn ipv4_packet(protocol: u8, options: usize, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options;
    let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
    packet.extend(u16::try_from(header + payload.len()).unwrap().to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend([192, 0, 2, 1]);
    packet.extend([198, 51, 100, 7]);
    packet.extend(vec![1; options]);
    packet.extend(payload);
    packet
}

fn ipv6_packet(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets());
    packet.extend(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).octets());
    packet.extend(payload);
    packet
}

fn udp_segment(payload: usize) -> Vec<u8> {
    let mut segment = vec![0x10, 0x00, 0x00, 0x35];
    segment.extend(u16::try_from(8 + payload).unwrap().to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(vec![0; payload]);
    segment
}

fn tcp_segment(flags: u8) -> Vec<u8> {
    let mut segment = vec![0x10, 0x00, 0x01, 0xbb];
    segment.extend([0; 8]);
    segment.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    segment
}

fn flow_of(frame: &[u8], link: LinkKind) -> (FlowKey, bool) {
    match decode(frame, Some(frame.len()), link).content {
        FrameContent::Ip { flow, opens, .. } => (flow, opens),
        other => panic!("expected an IP packet, got {other:?}"),
    }
}

const DNS: Option<PortPair> = Some(PortPair {
    source: 0x1000,
    destination: 53,
});
const HTTPS: Option<PortPair> = Some(PortPair {
    source: 0x1000,
    destination: 443,
});

#[test]
fn ipv4_udp_with_a_mac_that_begins_like_an_ip_version() {
    let frame = ethernet_frame(0x0800, &ipv4_packet(17, 0, 0, &udp_segment(10)));
    let summary = decode(&frame, Some(frame.len()), LinkKind::Ethernet);
    assert_eq!(summary.bytes, 14 + 20 + 8 + 10);
    assert_eq!(
        summary.link,
        Some(LinkAddresses {
            source: A,
            destination: B
        })
    );
    let (flow, opens) = flow_of(&frame, LinkKind::Ethernet);
    assert_eq!((flow.protocol, flow.ports, opens), (IpProtocol::Udp, DNS, false));
    assert_eq!(flow.source.to_string(), "192.0.2.1");
    assert_eq!(flow.destination.to_string(), "198.51.100.7");
}

#[test]
fn options_vlan_stacks_and_raw_ip_lead_to_the_same_flow() {
    let plain = ipv4_packet(6, 0, 0, &tcp_segment(2));
    let with_options = ipv4_packet(6, 40, 0, &tcp_segment(2));
    let mut tagged = vec![0x00, 0x05, 0x81, 0x00, 0x00, 0x07, 0x08, 0x00];
    tagged.extend(&plain);
    let expected = flow_of(&ethernet_frame(0x0800, &plain), LinkKind::Ethernet);
    assert_eq!((expected.0.ports, expected.1), (HTTPS, true));
    assert_eq!(
        flow_of(&ethernet_frame(0x0800, &with_options), LinkKind::Ethernet),
        expected
    );
    assert_eq!(
        flow_of(&ethernet_frame(0x88a8, &tagged), LinkKind::Ethernet),
        expected
    );
    assert_eq!(flow_of(&plain, LinkKind::RawIp), expected);
}

#[test]
fn ipv6_extension_headers_are_walked() {
    let mut chain = vec![60, 0, 0, 0, 0, 0, 0, 0]; // hop-by-hop, then destination options
    chain.extend([44, 1]); // destination options of 16 bytes, then fragment
    chain.extend([0; 14]);
    chain.extend([17, 0, 0, 1, 0, 0, 0, 9]); // first fragment, then UDP
    chain.extend(udp_segment(3));
    let (flow, _) = flow_of(
        &ethernet_frame(0x86dd, &ipv6_packet(0, &chain)),
        LinkKind::Ethernet,
    );
    assert_eq!((flow.protocol, flow.ports), (IpProtocol::Udp, DNS));
    assert_eq!(flow.source.to_string(), "2001:db8::1");
}

#[test]
fn later_fragments_count_without_ports() {
    let v4 = ipv4_packet(17, 0, 0x0010, &udp_segment(8));
    let v6 = ipv6_packet(44, &[17, 0, 0x05, 0xa8, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]);
    for (ether_type, packet) in [(0x0800, v4), (0x86dd, v6)] {
        let (flow, _) = flow_of(&ethernet_frame(ether_type, &packet), LinkKind::Ethernet);
        assert_eq!(
            (flow.protocol, flow.ports),
            (IpProtocol::Udp, None),
            "{ether_type:#x}"
        );
    }
}

#[test]
fn a_super_packet_cut_by_the_buffer_keeps_its_true_length() {
    let mut frame = ethernet_frame(0x0800, &ipv4_packet(6, 0, 0, &[0; 60_000]));
    let full = frame.len() as u64;
    frame.truncate(100);
    assert_eq!(decode(&frame, None, LinkKind::Ethernet).bytes, full);
    assert_eq!(
        decode(&frame, Some(100), LinkKind::Ethernet).bytes,
        100,
        "a whole frame is not believed to be longer"
    );
}

#[test]
fn other_protocols_and_padding() {
    let arp = ethernet_frame(0x0806, &[0; 46]);
    let summary = decode(&arp, Some(arp.len()), LinkKind::Ethernet);
    assert_eq!((summary.bytes, summary.content), (60, FrameContent::NotIp));
    let (flow, _) = flow_of(
        &ethernet_frame(0x0800, &ipv4_packet(47, 0, 0, &[0; 8])),
        LinkKind::Ethernet,
    );
    assert_eq!((flow.protocol, flow.ports), (IpProtocol::Other(47), None));
}

#[test]
fn malformed_frames_are_unparsed() {
    let mut short_header = ipv4_packet(17, 0, 0, &udp_segment(0));
    short_header[0] = 0x44;
    let mut wrong_version = ipv6_packet(17, &udp_segment(0));
    wrong_version[0] = 0x50;
    let cases: [(&str, Vec<u8>, LinkKind); 6] = [
        ("empty", vec![], LinkKind::Ethernet),
        ("half an Ethernet header", vec![1; 13], LinkKind::Ethernet),
        (
            "IPv4 header length below five words",
            ethernet_frame(0x0800, &short_header),
            LinkKind::Ethernet,
        ),
        (
            "IPv6 type, version 5",
            ethernet_frame(0x86dd, &wrong_version),
            LinkKind::Ethernet,
        ),
        ("raw IP of version 0", vec![0; 40], LinkKind::RawIp),
        ("unsupported link", vec![0x45; 40], LinkKind::Unsupported(801)),
    ];
    for (name, frame, link) in cases {
        let summary = decode(&frame, Some(frame.len()), link);
        assert_eq!(summary.content, FrameContent::Unparsed, "{name}");
        assert_eq!(summary.bytes, frame.len() as u64, "{name}");
    }
}

#[test]
fn every_cut_and_many_mutations_survive() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut chain = vec![
        60, 0, 0, 0, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 9,
    ];
    chain.extend(tcp_segment(16));
    let seeds = [
        ethernet_frame(0x0800, &ipv4_packet(6, 12, 0, &tcp_segment(2))),
        ethernet_frame(0x86dd, &ipv6_packet(0, &chain)),
        ethernet_frame(0x8100, &[0, 5, 0x88, 0xa8, 0, 6, 0x08, 0x00]),
    ];
    for seed in &seeds {
        for length in 0..=seed.len() {
            let cut = &seed[..length];
            assert_eq!(
                decode(cut, Some(seed.len()), LinkKind::Ethernet).bytes,
                seed.len() as u64
            );
            let _ = decode(cut, None, LinkKind::RawIp);
        }
        for _ in 0..20_000 {
            let mut frame = seed.clone();
            for _ in 0..random.usize(1..6) {
                let place = random.usize(0..frame.len());
                frame[place] = random.u8(..);
            }
            let summary = decode(&frame, Some(frame.len()), LinkKind::Ethernet);
            assert_eq!(summary.bytes, frame.len() as u64);
        }
    }
}
