//! Connection to the lab's MQTT broker, shared by the service and the console.
//!
//! In: `HOST:PORT` and a client id. Out: a `rumqttc` client (MQTT 3.1.1, plain TCP, clean session).
//! Deliberately absent: TLS and sessions that outlive the connection.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rumqttc::{AsyncClient, EventLoop, MqttOptions, NetworkOptions};

/// Largest packet sent or received, in bytes. Above the 128 KB of AWS IoT, so that oversized requests can
/// be sent and are refused by the services in words instead of by a closed connection.
pub const MAX_PACKET_BYTES: usize = 1024 * 1024;

/// Requests waiting for the connection.
const REQUEST_QUEUE: usize = 64;

/// Seconds to wait for a TCP connection and for a flush.
const CONNECT_SECONDS: u64 = 5;

/// Keep alive; a broker behind a dead link is noticed after at most twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Host name, IPv4 address, or IPv6 address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Text that is no broker address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not HOST:PORT (an IPv6 address in brackets)")]
pub struct BadBrokerAddress {
    /// What was given.
    pub text: String,
}

impl FromStr for BrokerAddress {
    type Err = BadBrokerAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadBrokerAddress {
            text: text.to_owned(),
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let well_formed = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && !host.contains(':'),
        };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?;
        if well_formed {
            Ok(Self {
                host: host.to_owned(),
                port,
            })
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// A client and the loop that drives it; nothing is connected before the loop is polled.
pub(super) fn client(broker: &BrokerAddress, client_id: &str) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(client_id, broker.host.clone(), broker.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_session(true)
        .set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
    let (client, mut event_loop) = AsyncClient::new(options, REQUEST_QUEUE);
    let mut network = NetworkOptions::new();
    network.set_connection_timeout(CONNECT_SECONDS);
    network.set_tcp_nodelay(true);
    event_loop.set_network_options(network);
    (client, event_loop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("192.0.2.1:8883", "192.0.2.1", 8883),
            ("[2001:db8::1]:1883", "[2001:db8::1]", 1883),
            ("broker:1", "broker", 1),
        ] {
            assert_eq!(
                text.parse(),
                Ok(BrokerAddress {
                    host: host.to_owned(),
                    port
                }),
                "{text}"
            );
        }
        for text in [
            "",
            "host",
            ":1",
            "host:0",
            "host:x",
            "host:65536",
            "2001:db8::1:1883",
            "[host]:1",
        ] {
            assert!(text.parse::<BrokerAddress>().is_err(), "{text}");
        }
    }
}
