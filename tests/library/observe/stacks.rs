//! Interfaces that are stacked, packets that come in pieces, intervals that are closed under load: every byte once.
//!
//! The kernel these tests were written on has bridges, but no VLANs, bonds and macvlans: those are tested as data, in
//! `crates/packet-meter/src/way_tests.rs`.

use edgewarden::observe::Counters;
use edgewarden::observe::flow::IpProtocol;
use edgewarden_lab::lab_test;

use super::measure::{
    begin, check_conservation, check_share, close, close_stacked, neighbour, of, remote, start,
};
use super::site::{Neighbour, Program, UDP_DATAGRAMS, UDP_PAYLOAD, in_own_namespace, now, run};
use super::{UDP4, UDP6};

lab_test!(every_fragment_belongs_to_its_flow, in_own_namespace, || {
    /// Three fragments each: 4,008 bytes with the UDP header.
    const LARGE: u64 = 4_000;
    const IPV4: u64 = LARGE + 8 + 3 * (14 + 20);
    const IPV6: u64 = LARGE + 8 + 3 * (14 + 40 + 8);
    let peer = neighbour("up0");
    let sink = Program::sink(None);
    let far_sink = Program::sink(Some(&peer));
    let mut out = Program::sender_of(None, &["192.0.2.2", "2001:db8::2"], LARGE);
    let mut back = Program::sender_of(Some(&peer), &["192.0.2.1", "2001:db8::1"], LARGE);
    let observer = start(&["up0"]);
    begin(&observer);

    out.run();
    back.run();
    let interval = close(&observer);
    check_conservation(&interval);
    for (address, length) in [("192.0.2.2", IPV4), ("2001:db8::2", IPV6)] {
        let sent = remote(of(&interval, out.pid()), IpProtocol::Udp, address);
        assert_eq!(
            (sent.bytes_out, sent.packets_out),
            (UDP_DATAGRAMS * length, UDP_DATAGRAMS * 3),
            "to {address}"
        );
        let received = remote(of(&interval, sink.pid()), IpProtocol::Udp, address);
        assert_eq!(received.bytes_in, UDP_DATAGRAMS * length, "from {address}");
    }
    drop(far_sink);
});

/// Two neighbours on ports of our bridge, as containers are.
fn bridged() -> [Neighbour; 2] {
    let make = |port: &str, number: u8| {
        let host = format!("198.51.100.{number}/24");
        let host6 = format!("2001:db8:2::{number}/64");
        // The port's own address is moved to the bridge.
        let neighbour = Neighbour::new(port, "192.0.2.254/32", "2001:db8:9::1/128", &host, &host6);
        run("ip", &["addr", "flush", "dev", port]);
        run("ip", &["link", "set", port, "master", "br0"]);
        neighbour
    };
    run("ip", &["link", "add", "br0", "type", "bridge"]);
    run("ip", &["addr", "add", "198.51.100.1/24", "dev", "br0"]);
    run("ip", &["addr", "add", "2001:db8:2::1/64", "dev", "br0", "nodad"]);
    run("ip", &["link", "set", "br0", "up"]);
    [make("port2", 2), make("port3", 3)]
}

lab_test!(
    a_bridge_counts_for_its_processes_once_and_between_its_ports_as_forwarded,
    in_own_namespace,
    || {
        let [left, right] = bridged();
        let sink = Program::sink(None);
        let _far_sink = Program::sink(Some(&right));
        let mut to_us = Program::sender(Some(&left), &["198.51.100.1", "2001:db8:2::1"]);
        let mut between = Program::sender(Some(&left), &["198.51.100.3"]);
        let observer = start(&["br0", "port2", "port3"]);
        begin(&observer);

        to_us.run();
        let interval = close_stacked(&observer);
        check_conservation(&interval);
        let process = of(&interval, sink.pid());
        for (address, header) in [("198.51.100.2", UDP4), ("2001:db8:2::2", UDP6)] {
            assert_eq!(
                remote(process, IpProtocol::Udp, address).bytes_in,
                UDP_DATAGRAMS * (UDP_PAYLOAD + header)
            );
        }
        assert!(
            process.remotes.iter().all(|item| item.interface == "br0"),
            "{process:#?}"
        );

        begin(&observer);
        let sent = between.run();
        let interval = close_stacked(&observer);
        check_conservation(&interval);
        assert!(interval.processes.is_empty(), "{:#?}", interval.processes);
        let forwarded = interval.forwarded;
        let least = sent.tcp + UDP_DATAGRAMS * UDP_PAYLOAD;
        assert!(
            forwarded.bytes_in > least && forwarded.bytes_in < least + least / 5,
            "{forwarded:?}"
        );
        // A frame for everybody goes up to the bridge and is forwarded only where it is flooded: some ARP here.
        let flooded = forwarded.bytes_out - forwarded.bytes_in;
        assert!(
            flooded < 1_000,
            "what came in at one port left at the other: {forwarded:?}"
        );
    }
);

lab_test!(
    intervals_closed_under_load_lose_and_double_nothing,
    in_own_namespace,
    || {
        let peer = neighbour("up0");
        let _sink = Program::sink(Some(&peer));
        let mut sender = Program::sender(None, &["192.0.2.2", "2001:db8::2"]);
        let pid = sender.pid();
        let observer = start(&["up0"]);
        begin(&observer);

        let (mut total, mut intervals) = (Counters::default(), 0);
        let mut add = |interval: &edgewarden::observe::Interval| {
            check_conservation(interval);
            let found = interval.processes.iter().find(|item| item.identity.pid == pid);
            total += found
                .iter()
                .flat_map(|process| &process.remotes)
                .filter(|item| item.protocol == IpProtocol::Udp)
                .map(|item| item.counters)
                .sum();
        };
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| sender.run());
            while !sending.is_finished() {
                add(&observer.take_interval(now()));
                intervals += 1;
            }
        });
        let last = close_rest(&observer);
        add(&last);
        assert!(intervals > 3, "{intervals} intervals were closed while sending");
        assert_eq!(total.packets_out, 2 * UDP_DATAGRAMS);
        assert_eq!(total.bytes_out, UDP_DATAGRAMS * (2 * UDP_PAYLOAD + UDP4 + UDP6));
    }
);

/// The rest of what was under way when the sender had finished: capture is quiet.
fn close_rest(observer: &edgewarden::agent::observer::Observer) -> edgewarden::observe::Interval {
    let mut before = observer.peek(now()).captured_total;
    super::site::wait_until("capture is quiet", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let total = observer.peek(now()).captured_total;
        std::mem::replace(&mut before, total) == total
    });
    observer.take_interval(now())
}

lab_test!(
    a_long_lived_process_gets_its_share_whatever_it_speaks,
    in_own_namespace,
    || {
        let peer = neighbour("up0");
        let _sink = Program::sink(Some(&peer));
        let mut sender = Program::sender(None, &["192.0.2.2", "2001:db8::2"]);
        let observer = start(&["up0"]);
        begin(&observer);
        sender.run();
        let interval = close(&observer);
        check_share(of(&interval, sender.pid()), &interval);
        assert_eq!(interval.lost_frames, Some(0));
    }
);
