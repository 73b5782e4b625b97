//! Every way ordinary traffic takes through the gateway, tried from outside the agent.
//!
//! In: a [`Site`]. Out: for each way whether something gets through. The probes run side by side: a blocked one takes
//! its whole patience.

use crate::site::{
    ATTACKER_V4, ATTACKER_V6, DEVICE_V4, DEVICE_V6, EchoServer, GATEWAY_LAN_V4, GATEWAY_LAN_V6,
    GATEWAY_WAN_V4, GATEWAY_WAN_V6, Ns, OpenConnection, Site, SiteError,
};

/// Where the attacker listens.
pub const ATTACKER_PORT: u16 = 4444;
/// Where the gateway and the device behind it listen.
const SERVICE_PORT: u16 = 8080;
const UDP_PORT: u16 = 5555;

type Probe = fn(&Site) -> Result<bool, SiteError>;

/// The ways, by name.
const WAYS: [(&str, Probe); 18] = [
    ("out, TCP over IPv4", |s| {
        s.tcp_connects(Ns::Gateway, ATTACKER_V4, ATTACKER_PORT)
    }),
    ("out, TCP over IPv6", |s| {
        s.tcp_connects(Ns::Gateway, ATTACKER_V6, ATTACKER_PORT)
    }),
    ("out, UDP over IPv4", |s| {
        s.udp_reaches(Ns::Gateway, Ns::Internet, ATTACKER_V4, UDP_PORT)
    }),
    ("out, UDP over IPv6", |s| {
        s.udp_reaches(Ns::Gateway, Ns::Internet, ATTACKER_V6, UDP_PORT)
    }),
    ("out, ping over IPv4", |s| s.ping(Ns::Gateway, ATTACKER_V4)),
    ("out, ping over IPv6", |s| s.ping(Ns::Gateway, ATTACKER_V6)),
    ("in, TCP over IPv4", |s| {
        s.tcp_connects(Ns::Internet, GATEWAY_WAN_V4, SERVICE_PORT)
    }),
    ("in, TCP over IPv6", |s| {
        s.tcp_connects(Ns::Internet, GATEWAY_WAN_V6, SERVICE_PORT)
    }),
    ("in, UDP over IPv4", |s| {
        s.udp_reaches(Ns::Internet, Ns::Gateway, GATEWAY_WAN_V4, UDP_PORT)
    }),
    ("in, UDP over IPv6", |s| {
        s.udp_reaches(Ns::Internet, Ns::Gateway, GATEWAY_WAN_V6, UDP_PORT)
    }),
    ("in from the LAN, TCP over IPv4", |s| {
        s.tcp_connects(Ns::Lan, GATEWAY_LAN_V4, SERVICE_PORT)
    }),
    ("in from the LAN, TCP over IPv6", |s| {
        s.tcp_connects(Ns::Lan, GATEWAY_LAN_V6, SERVICE_PORT)
    }),
    ("forwarded out, TCP over IPv4", |s| {
        s.tcp_connects(Ns::Lan, ATTACKER_V4, ATTACKER_PORT)
    }),
    ("forwarded out, TCP over IPv6", |s| {
        s.tcp_connects(Ns::Lan, ATTACKER_V6, ATTACKER_PORT)
    }),
    ("forwarded in, TCP over IPv4", |s| {
        s.tcp_connects(Ns::Internet, DEVICE_V4, SERVICE_PORT)
    }),
    ("forwarded in, TCP over IPv6", |s| {
        s.tcp_connects(Ns::Internet, DEVICE_V6, SERVICE_PORT)
    }),
    ("forwarded in, ping over IPv4", |s| {
        s.ping(Ns::Internet, DEVICE_V4)
    }),
    ("forwarded in, ping over IPv6", |s| {
        s.ping(Ns::Internet, DEVICE_V6)
    }),
];

/// Servers at the ends of the ways, and connections an attacker opened while they were free.
#[derive(Debug)]
pub struct Paths {
    /// From the gateway to the attacker, from the attacker to the gateway, from the LAN device to the attacker.
    held: Vec<(&'static str, OpenConnection)>,
    _servers: Vec<EchoServer>,
}

impl Paths {
    /// Starts the servers and opens the attacker's connections.
    ///
    /// # Errors
    /// When the lab fails, or a connection cannot be opened.
    pub fn open(site: &Site) -> Result<Self, SiteError> {
        let servers = vec![
            site.echo_server(Ns::Internet, ATTACKER_PORT)?,
            site.echo_server(Ns::Gateway, SERVICE_PORT)?,
            site.echo_server(Ns::Lan, SERVICE_PORT)?,
        ];
        let held = vec![
            (
                "opened from the gateway",
                site.open_connection(Ns::Gateway, ATTACKER_V4, ATTACKER_PORT)?,
            ),
            (
                "opened from the gateway over IPv6",
                site.open_connection(Ns::Gateway, ATTACKER_V6, ATTACKER_PORT)?,
            ),
            (
                "opened to the gateway",
                site.open_connection(Ns::Internet, GATEWAY_WAN_V4, SERVICE_PORT)?,
            ),
            (
                "forwarded for the LAN",
                site.open_connection(Ns::Lan, ATTACKER_V4, ATTACKER_PORT)?,
            ),
        ];
        Ok(Self {
            held,
            _servers: servers,
        })
    }

    /// Tries every way: the names of those that are free, and of those that are cut.
    ///
    /// # Errors
    /// When the lab fails, never for the network's answer.
    pub fn look(site: &Site) -> Result<Look, SiteError> {
        let results: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = WAYS
                .iter()
                .map(|(name, probe)| (*name, scope.spawn(|| probe(site))))
                .collect();
            running
                .into_iter()
                .map(|(name, thread)| (name, thread.join()))
                .collect()
        });
        let mut look = Look::default();
        for (name, result) in results {
            let free = result.map_err(|_| SiteError::Stage {
                what: name.to_owned(),
                detail: "the probe panicked".to_owned(),
            })??;
            if free {
                look.free.push(name)
            } else {
                look.cut.push(name)
            }
        }
        Ok(look)
    }

    /// Uses every connection that was opened before: the names of those that still carry data, and of dead ones.
    pub fn use_held(&mut self) -> Look {
        let mut look = Look::default();
        std::thread::scope(|scope| {
            let running: Vec<_> = self
                .held
                .iter_mut()
                .map(|(name, connection)| (*name, scope.spawn(|| connection.exchange())))
                .collect();
            for (name, thread) in running {
                if thread.join().unwrap_or(false) {
                    look.free.push(name)
                } else {
                    look.cut.push(name)
                }
            }
        });
        look
    }
}

/// What got through and what did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Ways that carry traffic.
    pub free: Vec<&'static str>,
    /// Ways that do not.
    pub cut: Vec<&'static str>,
}
