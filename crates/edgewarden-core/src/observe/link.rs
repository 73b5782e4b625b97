//! What an interface is, for accounting and for the rules alike.
//!
//! Read by `host::net::links`. Plain values; nothing is read here.

use std::net::IpAddr;

use ipnet::IpNet;

use super::decode::LinkKind;
use super::interval::Counters;
use super::way::InterfaceKind;

/// What the kernel tells of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    /// Index; a replaced interface gets another one.
    pub index: u32,
    /// How its frames begin.
    pub kind: LinkKind,
    /// Hardware address, absent if it has none.
    pub hardware: Option<[u8; 6]>,
    /// True for `lo`.
    pub loopback: bool,
    pub up: bool,
    /// Switched on and with carrier.
    pub running: bool,
    /// Addresses of both families.
    pub addresses: Vec<IpAddr>,
    /// IPv4 broadcast addresses.
    pub broadcasts: Vec<IpAddr>,
    /// Networks reached without a router.
    pub networks: Vec<IpNet>,
    /// Index of the bridge or bond it belongs to.
    pub master: Option<u32>,
    /// Index of the interface it is built upon, if that is in this namespace.
    pub lower: Option<u32>,
    /// What it is in a stack of interfaces.
    pub device: InterfaceKind,
    /// What the kernel counted since the interface exists.
    pub counters: Counters,
}
