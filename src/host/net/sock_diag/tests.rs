//! Real sockets on loopback.

#![expect(
    clippy::disallowed_methods,
    reason = "the sockets to be found have to be opened"
)]

use std::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::observe::sockets::{HolderLookup, ProcessTable};
use edgewarden_lab::lab_test;

fn flow(protocol: IpProtocol, local: SocketAddr, remote: SocketAddr) -> LocalFlow {
    LocalFlow {
        protocol,
        local: local.ip(),
        local_port: local.port(),
        remote: remote.ip(),
        remote_port: remote.port(),
    }
}

/// This process, found through the inode index.
fn is_ours(owner: SocketOwner) -> bool {
    let mut index = crate::host::processes::procfs::ProcessIndex::default();
    index.look_again();
    match index.holder(owner.inode, crate::host::clock::instant()) {
        HolderLookup::Process(process) => process.identity.pid == std::process::id(),
        HolderLookup::Nobody | HolderLookup::AskLater => false,
    }
}

#[test]
fn tcp_flows_of_all_families_lead_to_this_process() {
    let mut diag = SockDiag::open().unwrap();
    for (bind, connect) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        ("[::]:0", "127.0.0.1"),
    ] {
        let listener = TcpListener::bind(bind).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((connect, port)).unwrap();
        let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let own = diag
            .find(&flow(IpProtocol::Tcp, local, remote), 0)
            .unwrap()
            .unwrap();
        assert!(is_ours(own) && !own.listening, "{bind}");
        // The server's end, before and after accept.
        let served = flow(IpProtocol::Tcp, remote, local);
        assert_eq!(
            diag.find(&served, 0).unwrap().map(|owner| owner.inode),
            Some(0),
            "{bind}"
        );
        let _accepted = listener.accept().unwrap();
        assert!(is_ours(diag.find(&served, 0).unwrap().unwrap()), "{bind}");
        let stranger = flow(IpProtocol::Tcp, remote, SocketAddr::new(remote.ip(), 1));
        assert!(diag.find(&stranger, 0).unwrap().unwrap().listening, "{bind}");
    }
}

#[test]
fn udp_flows_connected_and_not_lead_to_this_process() {
    let mut diag = SockDiag::open().unwrap();
    for (bind, peer) in [("127.0.0.1:0", "127.0.0.1:9"), ("[::1]:0", "[::1]:9")] {
        let peer: SocketAddr = peer.parse().unwrap();
        let socket = UdpSocket::bind(bind).unwrap();
        let question = flow(IpProtocol::Udp, socket.local_addr().unwrap(), peer);
        assert!(
            is_ours(diag.find(&question, 0).unwrap().unwrap()),
            "{bind} unconnected"
        );
        socket.connect(peer).unwrap();
        assert!(
            is_ours(diag.find(&question, 0).unwrap().unwrap()),
            "{bind} connected"
        );
        drop(socket);
        // A program that another test starts just now has a copy of it until it runs.
        let mut asks = 0..500;
        while diag.find(&question, 0).unwrap().is_some() {
            assert!(asks.next().is_some(), "{bind} closed");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let dual = UdpSocket::bind("[::]:0").unwrap();
    let local = SocketAddr::new("127.0.0.1".parse().unwrap(), dual.local_addr().unwrap().port());
    let question = flow(IpProtocol::Udp, local, "127.0.0.1:9".parse().unwrap());
    assert!(
        is_ours(diag.find(&question, 0).unwrap().unwrap()),
        "IPv4 at an IPv6 socket"
    );
}

#[test]
fn the_snapshot_has_connections_listeners_and_their_interfaces() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let client = TcpStream::connect(at).unwrap();
    let server = UdpSocket::bind("[::1]:0").unwrap();
    let udp_client = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp_client.connect("127.0.0.1:9").unwrap();
    let snapshot = SockDiag::open().unwrap().snapshot().unwrap();
    let local = client.local_addr().unwrap();
    assert!(
        snapshot
            .established
            .iter()
            .any(|socket| socket.local == local && socket.remote == Some(at))
    );
    assert_eq!(snapshot.established_total, snapshot.established.len() as u64);
    assert!(snapshot.listening_tcp.contains(&at));
    assert!(!snapshot.listening_tcp.contains(&local));
    assert!(snapshot.listening_udp.contains(&server.local_addr().unwrap()));
    assert!(
        !snapshot.listening_udp.contains(&udp_client.local_addr().unwrap()),
        "a client is no listener"
    );
    assert_eq!(snapshot.interface_of(at).as_deref(), Some("lo"));
    assert_eq!(
        snapshot.interface_of("[::]:0".parse().unwrap()).as_deref(),
        Some("::")
    );
    assert_eq!(snapshot.interface_of("203.0.113.9:0".parse().unwrap()), None);
}

fn ip(words: &str) {
    let done = std::process::Command::new("ip").args(words.split(' ')).status();
    assert!(done.unwrap().success(), "ip {words}");
}

lab_test!(a_link_local_connection_is_of_the_interface_of_its_scope, || {
    // Two pairs of interfaces, and the same address on one of each.
    let peers = [("one0", "one1"), ("two0", "two1")];
    for (ours, theirs) in peers {
        ip(&format!("link add {ours} type veth peer name {theirs}"));
        for name in [ours, theirs] {
            ip(&format!("link set {name} up"));
        }
        ip(&format!("addr add fe80::5/64 dev {ours} nodad"));
        ip(&format!("addr add fe80::9/64 dev {theirs} nodad"));
    }
    let links = crate::host::net::links::links().unwrap();
    let index = |name: &str| links.iter().find(|link| link.name == name).unwrap().index;
    let mut held = Vec::new();
    for (ours, theirs) in peers {
        let at = |address: &str, scope| std::net::SocketAddrV6::new(address.parse().unwrap(), 0, 0, scope);
        let listener = TcpListener::bind(at("fe80::5", index(ours))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut to = at("fe80::5", index(theirs));
        to.set_port(port);
        let client = TcpStream::connect(to).unwrap();
        held.push((ours, listener.accept().unwrap(), client, listener));
    }
    let snapshot = SockDiag::open().unwrap().snapshot().unwrap();
    for (ours, (accepted, _), _, listener) in &held {
        let (local, peer) = (accepted.local_addr().unwrap(), accepted.peer_addr().unwrap());
        let mut sockets = snapshot.established.iter();
        let socket = sockets
            .find(|socket| {
                socket.local.port() == local.port()
                    && socket.remote.is_some_and(|it| it.port() == peer.port())
            })
            .unwrap();
        assert_eq!(snapshot.interface_of(socket.local).as_deref(), Some(*ours));
        let port = listener.local_addr().unwrap().port();
        let listening = snapshot
            .listening_tcp
            .iter()
            .find(|end| end.port() == port)
            .unwrap();
        assert_eq!(snapshot.interface_of(*listening).as_deref(), Some(*ours));
    }
});
