//! Sockets of every kind that the two agents could see differently, in a namespace of their own.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::time::Duration;

use edgewarden_lab::site::wait_until;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket, sockopt,
};

/// For the kernel to notice a link.
const LIMIT: Duration = Duration::from_secs(10);
/// A port with this many sockets listening.
pub(super) const TWICE: (u16, u16) = (7_000, 3);
/// Our port of a UDP client that connected.
pub(super) const CONNECTED_UDP: u16 = 6_001;

/// Sockets that are open as long as this lives.
pub(super) struct Scene {
    _listeners: Vec<TcpListener>,
    _twins: Vec<OwnedFd>,
    _streams: Vec<TcpStream>,
    _datagrams: Vec<UdpSocket>,
    sender: UdpSocket,
}

impl Scene {
    /// Both ends of every connection are here.
    pub(super) const ESTABLISHED: u64 = 2 * 5;

    pub(super) fn build() -> Self {
        for line in [
            "link add ew0 type veth peer name ew1",
            "addr add 192.0.2.1/24 dev ew0",
            "addr add 2001:db8::1/64 dev ew0 nodad",
            "link set ew0 up",
            "link set ew1 up",
            // Nobody is there to answer for it.
            "neigh add 192.0.2.99 lladdr 02:00:00:00:00:63 dev ew0",
        ] {
            let status = Command::new("ip").args(line.split(' ')).status().unwrap();
            assert!(status.success(), "ip {line}");
        }
        wait_until(LIMIT, "our IPv6 address is local", own_v6_is_local).unwrap();
        let listeners = [
            "0.0.0.0:5001",
            "192.0.2.1:5002",
            "[2001:db8::1]:5003",
            "127.0.0.1:5004",
            "[::]:5005",
        ];
        let listeners = listeners.map(|end| TcpListener::bind(end).unwrap()).into();
        // The last: an IPv4 client of a dual-stack listener.
        let remotes = [
            "192.0.2.1:5001",
            "192.0.2.1:5002",
            "[2001:db8::1]:5003",
            "127.0.0.1:5004",
            "192.0.2.1:5005",
        ];
        let connected = UdpSocket::bind(("192.0.2.1", CONNECTED_UDP)).unwrap();
        connected.connect("192.0.2.99:53").unwrap();
        let mut datagrams: Vec<_> = [
            "0.0.0.0:6002",
            "192.0.2.1:6003",
            "[::]:6004",
            "[2001:db8::1]:6005",
        ]
        .map(|end| UdpSocket::bind(end).unwrap())
        .into();
        datagrams.push(connected);
        Self {
            _listeners: listeners,
            _twins: (0..TWICE.1).map(|_| twin()).collect(),
            _streams: remotes.map(|remote| TcpStream::connect(remote).unwrap()).into(),
            _datagrams: datagrams,
            sender: UdpSocket::bind("192.0.2.1:6006").unwrap(),
        }
    }

    /// Some packets over the interface and some over loopback.
    pub(super) fn traffic(&self) {
        for remote in ["192.0.2.99:9", "192.0.2.1:6002"] {
            let remote: SocketAddr = remote.parse().unwrap();
            for _ in 0..10 {
                self.sender.send_to(&[0; 100], remote).unwrap();
            }
        }
    }
}

/// Until the kernel has noticed that the link is up, it looks for our own IPv6 address on the wire.
fn own_v6_is_local() -> bool {
    let routes = Command::new("ip")
        .args(["-6", "route", "show", "table", "local"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&routes.stdout).contains("local 2001:db8::1 dev ew0")
}

/// One of several listeners of the same port.
fn twin() -> OwnedFd {
    let fd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    setsockopt(&fd, sockopt::ReusePort, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::new(192, 0, 2, 1, TWICE.0)).unwrap();
    listen(&fd, Backlog::new(1).unwrap()).unwrap();
    fd
}
