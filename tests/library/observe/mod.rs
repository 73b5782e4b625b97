//! The observer in real network namespaces: a gateway between two neighbours, real processes, known byte counts.
//!
//! The gateway's namespace is this test's own (it runs itself again under `unshare`); each neighbour is a process in a
//! namespace of its own, joined by a veth pair. Expected counts come from the sender, never from the observer.

mod attribution;
mod brief;
mod hoards;
mod measure;
mod receivers;
mod site;
mod stacks;

use std::path::Path;

use edgewarden::observe::Counters;
use edgewarden::observe::flow::IpProtocol;
use edgewarden_lab::lab_test;
use measure::{
    begin, check_conservation, check_share, close, downstream, neighbour, of, remote, start, upstream,
};
use site::{Program, UDP_DATAGRAMS, UDP_PAYLOAD, in_own_namespace, now, wait_until};

/// Ethernet, IPv4 and UDP header.
const UDP4: u64 = 14 + 20 + 8;
/// Ethernet, IPv6 and UDP header.
const UDP6: u64 = 14 + 40 + 8;

lab_test!(
    bytes_of_a_process_are_counted_once_and_under_its_name,
    in_own_namespace,
    || {
        let peer = neighbour("up0");
        let _sink = Program::sink(Some(&peer));
        let mut sender = Program::sender(None, &["192.0.2.2", "2001:db8::2"]);
        let observer = start(&["up0"]);
        begin(&observer);

        let sent = sender.run();
        let interval = close(&observer);
        check_conservation(&interval);
        let process = of(&interval, sender.pid());
        let own = std::env::current_exe().unwrap();
        assert_eq!(
            remote(process, IpProtocol::Udp, "192.0.2.2"),
            Counters {
                bytes_out: UDP_DATAGRAMS * (UDP_PAYLOAD + UDP4),
                packets_out: UDP_DATAGRAMS,
                ..Counters::default()
            }
        );
        assert_eq!(
            remote(process, IpProtocol::Udp, "2001:db8::2"),
            Counters {
                bytes_out: UDP_DATAGRAMS * (UDP_PAYLOAD + UDP6),
                packets_out: UDP_DATAGRAMS,
                ..Counters::default()
            }
        );
        for address in ["192.0.2.2", "2001:db8::2"] {
            let tcp = remote(process, IpProtocol::Tcp, address).bytes_out;
            assert!(
                tcp > sent.tcp && tcp < sent.tcp + sent.tcp / 10,
                "{tcp} bytes for {} of payload",
                sent.tcp
            );
        }
        assert!(
            process.exe.as_ref().is_some_and(|exe| Path::new(exe) == own),
            "{process:?}"
        );
        check_share(process, &interval);

        let empty = observer.take_interval(now());
        assert!(empty.captured_total.bytes() < 10_000, "counted again: {empty:#?}");
    }
);

lab_test!(
    what_comes_in_belongs_to_the_process_that_listens,
    in_own_namespace,
    || {
        let peer = neighbour("up0");
        let sink = Program::sink(None);
        let mut sender = Program::sender(Some(&peer), &["192.0.2.1", "2001:db8::1"]);
        let observer = start(&["up0"]);
        begin(&observer);

        let sent = sender.run();
        let interval = close(&observer);
        check_conservation(&interval);
        let process = of(&interval, sink.pid());
        assert_eq!(
            remote(process, IpProtocol::Udp, "192.0.2.2").bytes_in,
            UDP_DATAGRAMS * (UDP_PAYLOAD + UDP4)
        );
        assert_eq!(
            remote(process, IpProtocol::Udp, "2001:db8::2").bytes_in,
            UDP_DATAGRAMS * (UDP_PAYLOAD + UDP6)
        );
        for address in ["192.0.2.2", "2001:db8::2"] {
            assert!(
                remote(process, IpProtocol::Tcp, address).bytes_in > sent.tcp,
                "{interval:#?}"
            );
        }
        check_share(process, &interval);
        assert!(
            interval
                .processes
                .iter()
                .all(|item| item.identity.pid == sink.pid()),
            "{:#?}",
            interval.processes
        );

        let sockets = observer.sockets().unwrap();
        for list in [&sockets.listening_tcp, &sockets.listening_udp] {
            assert!(list.iter().any(|end| end.port() == site::PORT), "{list:?}");
        }
        assert_eq!(
            sockets
                .interface_of("[2001:db8::1]:0".parse().unwrap())
                .as_deref(),
            Some("up0")
        );
    }
);

lab_test!(
    routed_traffic_is_forwarded_once_each_way_and_nobodys,
    in_own_namespace,
    || {
        let up = upstream();
        let down = downstream();
        up.default_route("192.0.2.1", "2001:db8:1::1");
        let _sink = Program::sink(Some(&up));
        let mut sender = Program::sender(Some(&down), &["192.0.2.2", "2001:db8:1::2"]);
        let observer = start(&["up0", "down0"]);
        begin(&observer);

        let sent = sender.run();
        let interval = close(&observer);
        check_conservation(&interval);
        assert!(interval.processes.is_empty(), "{:#?}", interval.processes);
        let forwarded = interval.forwarded;
        assert_eq!(
            forwarded.bytes_in, forwarded.bytes_out,
            "everything that entered left"
        );
        assert_eq!(forwarded.packets_in, forwarded.packets_out);
        let least = 2 * (sent.tcp + UDP_DATAGRAMS * UDP_PAYLOAD);
        assert!(
            forwarded.bytes_out > least && forwarded.bytes_out < least + least / 5,
            "{forwarded:?} for {least}"
        );
        let interface = |name: &str| {
            interval
                .interfaces
                .iter()
                .find(|item| item.name == name)
                .unwrap()
                .captured
        };
        assert!(
            interface("down0").bytes_in > least && interface("up0").bytes_out > least,
            "{:?}",
            interval.interfaces
        );
    }
);

lab_test!(interfaces_come_and_go_while_observing, in_own_namespace, || {
    let observer = start(&[]);
    {
        let _late = neighbour("late0");
        wait_until("late0 is captured", || {
            observer.status().interfaces.contains_key("late0")
        });
        site::run("ip", &["link", "del", "late0"]);
    }
    wait_until("late0 is forgotten", || observer.status().interfaces.is_empty());
    let interval = observer.take_interval(now());
    check_conservation(&interval);
    assert_eq!(interval.capture_faults, Vec::<String>::new());
});

lab_test!(
    without_the_right_to_capture_the_reason_is_told_and_the_rest_works,
    in_own_namespace,
    || {
        let peer = neighbour("up0");
        let told = Program::observe_without_rights();
        assert_eq!(
            told.faults,
            [
                "interface up0: could not open a packet socket: the capability CAP_NET_RAW is missing; next attempt in 30 s"
            ]
        );
        assert!(told.kernel_interfaces.contains(&"up0".to_owned()), "{told:?}");
        drop(peer);
    }
);
