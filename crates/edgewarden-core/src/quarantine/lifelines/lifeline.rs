//! What isolation never cuts: which names must be reachable, for what, and at which ports.
//!
//! In: the configuration's switches, what the nucleus and the host say of their surroundings ([`Surroundings`]).
//! Out: [`LifelineTarget`]s to resolve; a target makes [`Endpoint`]s of addresses. Names and ports:
//! docs/reference/shadow.md#endpoints-and-ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::origin::{Origin, OriginKind};
use super::proxy::{Place, is_exempt};
use crate::Gather;
use crate::quarantine::orders::order::Protocol;

/// Which lifelines are on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the configuration"
)]
pub struct Lifelines {
    /// DHCPv4 and DHCPv6 client.
    pub dhcp: bool,
    /// DNS to the configured resolvers.
    pub dns: bool,
    /// NTP to the configured time servers.
    pub ntp: bool,
    /// The IoT data endpoint, or the proxy that leads there. Switching it off means that only a person at the device
    /// can release it.
    pub data_endpoint: bool,
    /// What a deployment needs: the Greengrass data plane, credentials and S3.
    pub deployments: bool,
    /// CloudWatch Logs.
    pub logs: bool,
    /// Secure tunnelling.
    pub tunnel: bool,
}

impl Default for Lifelines {
    fn default() -> Self {
        Self {
            dhcp: true,
            dns: true,
            ntp: true,
            data_endpoint: true,
            deployments: true,
            logs: false,
            tunnel: false,
        }
    }
}

impl Lifelines {
    /// Whether addresses of this purpose are wanted.
    pub fn wants(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::DataEndpoint => self.data_endpoint,
            Purpose::Dns => self.dns,
            Purpose::Ntp => self.ntp,
            Purpose::Deployments | Purpose::Storage => self.deployments,
            Purpose::Logs => self.logs,
            Purpose::Tunnel => self.tunnel,
        }
    }
}

/// What a lifeline address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// The control channel: MQTT and HTTPS of the IoT data endpoint, or the proxy that the nucleus reaches it through.
    DataEndpoint,
    Dns,
    /// A configured time server.
    Ntp,
    /// Deployments: the Greengrass data plane and credentials.
    Deployments,
    /// S3, for deployments. Apart from them, because any program can have any number of buckets' addresses looked up.
    Storage,
    /// CloudWatch Logs.
    Logs,
    /// Secure tunnelling.
    Tunnel,
}

impl Purpose {
    pub const ALL: [Self; 7] = [
        Self::DataEndpoint,
        Self::Dns,
        Self::Ntp,
        Self::Deployments,
        Self::Storage,
        Self::Logs,
        Self::Tunnel,
    ];

    /// What people call it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::DataEndpoint => "data endpoint",
            Self::Dns => "DNS",
            Self::Ntp => "NTP",
            Self::Deployments => "deployments",
            Self::Storage => "storage",
            Self::Logs => "logs",
            Self::Tunnel => "tunnel",
        }
    }
}

/// How much depends on a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The control channel: without it nobody can release the device from afar.
    Control,
    /// The device does not work for long without it.
    Needed,
    /// A convenience, or a name that may well not resolve here.
    Optional,
}

/// A name or address that must be reachable, with its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifelineTarget {
    pub purpose: Purpose,
    /// How much depends on it.
    pub weight: Weight,
    /// Host name or address literal.
    pub host: String,
    /// Whether names below it count too, when the device is seen to ask for them: the buckets of S3.
    pub below: bool,
    pub ports: Vec<(Protocol, u16)>,
    /// Who names it: a file of the host, a key of the configuration; empty for what the nucleus tells.
    pub source: String,
}

/// What somebody set, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting<T> {
    pub value: T,
    /// A file of the host, or a key of the configuration.
    pub source: String,
}

impl LifelineTarget {
    /// Who says that an address is this target's.
    pub fn origin(&self) -> Origin {
        let is_key = self.source.starts_with("isolation.");
        match (self.host.parse::<IpAddr>(), self.source.as_str()) {
            (_, "") => Origin::new(OriginKind::LookUp, &self.host),
            (Ok(_), key) if is_key => Origin::new(OriginKind::Configuration, key),
            (Ok(_), file) => Origin::new(OriginKind::Settings, file),
            (Err(_), source) => Origin::new(OriginKind::LookUp, &format!("{} ({source})", self.host)),
        }
    }

    /// The endpoints that this target has at these addresses. Addresses that are no host's are left out: an answer with
    /// one must not open anything to a group or to everybody.
    pub fn endpoints(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Endpoint> {
        let of_a_host = |address: &IpAddr| match address {
            IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
            IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
        };
        let at = |address: IpAddr| {
            self.ports.iter().map(move |(protocol, port)| Endpoint {
                purpose: self.purpose,
                address,
                protocol: *protocol,
                port: *port,
            })
        };
        addresses
            .into_iter()
            .map(|address| address.to_canonical())
            .filter(of_a_host)
            .flat_map(at)
            .collect()
    }
}

/// One address of a lifeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    pub purpose: Purpose,
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

/// What a packet shows of it.
pub type EndpointKey = (IpAddr, Protocol, u16);

impl Endpoint {
    /// What a packet to it shows.
    pub const fn key(&self) -> EndpointKey {
        (self.address, self.protocol, self.port)
    }
}

/// What the host and the nucleus say about the surroundings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The IoT data endpoint's name.
    pub data_endpoint: Option<String>,
    /// Whether our configuration names it.
    pub configured_endpoint: bool,
    /// An MQTT port of the nucleus other than 8883, if it has one.
    pub mqtt_port: Option<u16>,
    /// Host and port of the HTTP proxy through which the nucleus reaches its cloud.
    pub proxy: Option<Place>,
    /// Hosts and domains that it reaches without the proxy.
    pub proxy_exceptions: Vec<String>,
    /// Whether the nucleus was seen to go through the proxy alone ([`super::proxy`]).
    pub proxy_alone: bool,
    /// The AWS Region, which is part of the other names.
    pub region: Option<String>,
    /// The credentials endpoint's name.
    pub credentials: Option<String>,
    /// Whether the Greengrass data plane is the IoT data endpoint.
    pub data_plane_is_iotdata: bool,
    /// A port of the Greengrass data plane other than 8443 and 443, if it has one.
    pub data_plane_port: Option<u16>,
    /// Resolvers of the host.
    pub resolvers: Vec<Setting<IpAddr>>,
    /// Whether they are, or may be, asked over TLS.
    pub dns_over_tls: bool,
    /// Time servers of the host.
    pub time_servers: Vec<Setting<String>>,
}

pub(crate) const DNS_PORT: u16 = 53;
/// Ports of the IoT data endpoint: MQTT, HTTPS, and both with ALPN (docs/reference/shadow.md#endpoints-and-ports).
pub(crate) const DATA_ENDPOINT_PORTS: [u16; 3] = [8883, 8443, 443];
/// Ports of the Greengrass data plane (docs/reference/shadow.md#endpoints-and-ports).
const DATA_PLANE_PORTS: [u16; 2] = [8443, 443];

fn tcp(ports: impl IntoIterator<Item = u16>) -> Vec<(Protocol, u16)> {
    let ports: BTreeSet<u16> = ports.into_iter().in_set();
    ports.into_iter().map(|port| (Protocol::Tcp, port)).collect()
}

/// The ports of the control channel: of the data endpoint, and of the proxy.
pub fn control_ports(around: &Surroundings) -> Vec<u16> {
    let proxy = around.proxy.as_ref().map(|(_, port)| *port);
    let ports: BTreeSet<u16> = DATA_ENDPOINT_PORTS
        .into_iter()
        .chain(around.mqtt_port)
        .chain(proxy)
        .in_set();
    ports.into_iter().collect()
}

/// What must be resolved, given the switches and the surroundings.
pub fn targets(lifelines: &Lifelines, around: &Surroundings) -> Vec<LifelineTarget> {
    let mut targets = control(around);
    targets.extend(around.resolvers.iter().map(|resolver| LifelineTarget {
        purpose: Purpose::Dns,
        weight: Weight::Needed,
        host: resolver.value.to_string(),
        below: false,
        ports: if around.dns_over_tls {
            vec![(Protocol::Udp, 53), (Protocol::Tcp, 53), (Protocol::Tcp, 853)]
        } else {
            vec![(Protocol::Udp, 53), (Protocol::Tcp, 53)]
        },
        source: resolver.source.clone(),
    }));
    targets.extend(around.time_servers.iter().map(|server| LifelineTarget {
        purpose: Purpose::Ntp,
        weight: Weight::Needed,
        host: server.value.clone(),
        below: false,
        ports: vec![(Protocol::Udp, 123)],
        source: server.source.clone(),
    }));
    targets.extend(deployments(around));
    if let Some(region) = &around.region {
        let domain = domain(around);
        let of = |purpose, host| optional(purpose, host, [443]);
        targets.push(of(Purpose::Logs, format!("logs.{region}.{domain}")));
        targets.push(of(
            Purpose::Tunnel,
            format!("data.tunneling.iot.{region}.{domain}"),
        ));
    }
    targets.retain(|target| lifelines.wants(target.purpose));
    targets
}

fn optional(purpose: Purpose, host: String, ports: impl IntoIterator<Item = u16>) -> LifelineTarget {
    LifelineTarget {
        purpose,
        weight: Weight::Optional,
        host,
        below: false,
        ports: tcp(ports),
        source: String::new(),
    }
}

impl Surroundings {
    /// Whether the nucleus reaches `host` by itself.
    fn is_direct(&self, host: &str) -> bool {
        let behind = self.proxy.is_some() && self.proxy_alone;
        !behind || is_exempt(host, &self.proxy_exceptions)
    }
}

/// The proxy, or the data endpoint; both until the nucleus was seen at the proxy, and where the endpoint is an exception.
fn control(around: &Surroundings) -> Vec<LifelineTarget> {
    let mut targets = Vec::new();
    if let Some((host, port)) = &around.proxy {
        targets.push(LifelineTarget {
            weight: Weight::Control,
            ..optional(Purpose::DataEndpoint, host.clone(), [*port])
        });
    }
    if let Some(host) = around
        .data_endpoint
        .as_ref()
        .filter(|host| around.is_direct(host))
    {
        let ports = DATA_ENDPOINT_PORTS.into_iter().chain(around.mqtt_port);
        targets.push(LifelineTarget {
            // Behind a proxy it is the proxy that resolves names; the device often cannot.
            weight: if around.proxy.is_some() {
                Weight::Optional
            } else {
                Weight::Control
            },
            source: if around.configured_endpoint {
                "isolation.dataEndpoint".to_owned()
            } else {
                String::new()
            },
            ..optional(Purpose::DataEndpoint, host.clone(), ports)
        });
    }
    targets
}

fn deployments(around: &Surroundings) -> Vec<LifelineTarget> {
    let of = |host, ports: Vec<u16>| optional(Purpose::Deployments, host, ports);
    let plane = || {
        DATA_PLANE_PORTS
            .into_iter()
            .chain(around.data_plane_port)
            .collect()
    };
    let mut targets = Vec::new();
    if around.data_plane_is_iotdata
        && let Some(host) = &around.data_endpoint
    {
        targets.push(of(host.clone(), plane()));
    }
    if let Some(host) = &around.credentials {
        targets.push(of(host.clone(), vec![443]));
    }
    if let Some(region) = &around.region {
        let domain = domain(around);
        if !around.data_plane_is_iotdata {
            targets.push(of(format!("greengrass-ats.iot.{region}.{domain}"), plane()));
        }
        for host in [format!("s3.{region}.{domain}"), format!("s3.{domain}")] {
            targets.push(LifelineTarget {
                below: true,
                ..optional(Purpose::Storage, host, [443])
            });
        }
    }
    targets.retain(|target| around.is_direct(&target.host));
    // What is behind the proxy is reached there.
    targets.extend(
        around
            .proxy
            .as_ref()
            .map(|(host, port)| of(host.clone(), vec![*port])),
    );
    targets
}

/// Where AWS' names are: China has a domain of its own, as the data endpoint's name shows.
fn domain(around: &Surroundings) -> &'static str {
    let china = around
        .data_endpoint
        .as_ref()
        .is_some_and(|name| name.ends_with(".amazonaws.com.cn"));
    if china {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    }
}

#[cfg(test)]
#[path = "lifeline_tests.rs"]
mod tests;
