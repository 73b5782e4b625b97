//! Rulesets at random, as quarantines make them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nf_tables::Interval;
use proptest::prelude::*;

use crate::rulesets::Shape;
use crate::writer::{TCP, UDP, octets};

fn any_protocol() -> impl Strategy<Value = u8> {
    prop_oneof![Just(TCP), Just(UDP)]
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ]
}

fn any_time() -> impl Strategy<Value = Option<u64>> {
    // Long enough not to end in the test; nft takes eight digits of seconds.
    prop::option::of(600..99_999_999_u64)
}

/// A block without bits behind its prefix.
fn any_block() -> impl Strategy<Value = (IpAddr, usize)> {
    (any_address(), 0..=128_usize).prop_map(|(address, bits)| {
        let length = octets(address).len();
        let bits = bits.min(length * 8);
        let first = match address {
            IpAddr::V4(address) => Interval::prefix(address.octets(), bits).first,
            IpAddr::V6(address) => Interval::prefix(address.octets(), bits).first,
        };
        let address = match length {
            4 => IpAddr::from(<[u8; 4]>::try_from(first.bytes()).unwrap()),
            _ => IpAddr::from(<[u8; 16]>::try_from(first.bytes()).unwrap()),
        };
        (address, bits)
    })
}

/// Blocks wider than a host, disjoint and ascending.
fn any_nets() -> impl Strategy<Value = Vec<(IpAddr, usize, Option<u64>)>> {
    let net = (any_block(), any_time()).prop_map(|((address, bits), time)| (address, bits, time));
    prop::collection::vec(net, 0..12).prop_map(|mut nets| {
        nets.retain(|(address, bits, _)| *bits > 0 && *bits < octets(*address).len() * 8);
        nets.sort_unstable();
        let mut kept: Vec<(IpAddr, usize, Option<u64>)> = Vec::new();
        for net in nets {
            let overlaps = kept.iter().any(|other| {
                other.0.is_ipv4() == net.0.is_ipv4() && {
                    let bits = other.1.min(net.1);
                    prefix(other.0, bits) == prefix(net.0, bits)
                }
            });
            if !overlaps {
                kept.push(net);
            }
        }
        kept
    })
}

fn prefix(address: IpAddr, bits: usize) -> Vec<u8> {
    let key = nf_tables::Value::new(&octets(address)).unwrap();
    Interval::prefix(key, bits).first.bytes().to_vec()
}

fn any_ports() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::btree_set(any::<u16>(), 1..6).prop_map(|ports| ports.into_iter().collect())
}

pub(crate) fn any_shape() -> impl Strategy<Value = Shape> {
    let switches = any::<[bool; 5]>();
    let rate = prop::option::of(1..4_000_000_000_u64);
    let quota =
        prop::option::of(any::<(u32, u16)>().prop_map(|(bytes, used)| (u64::from(bytes) + 1, used.into())));
    let limits = prop::collection::vec((rate, quota), 0..3);
    let ports = prop::collection::btree_set((any_protocol(), any::<u16>()), 0..6);
    let endpoints = prop::collection::btree_set((any_address(), any_protocol(), any::<u16>()), 0..8);
    let hosts = prop::collection::vec((any_address(), any_time()), 0..12);
    let allowed = (any_block(), any_protocol(), any_ports(), any::<bool>())
        .prop_map(|((address, bits), protocol, ports, out)| (address, bits, protocol, ports, out));
    let allow = prop::collection::vec(allowed, 0..6);
    let counted = any::<(u32, u32)>().prop_map(|(packets, bytes)| (packets.into(), bytes.into()));
    (
        switches,
        limits,
        ports,
        endpoints,
        hosts,
        any_nets(),
        allow,
        counted,
    )
        .prop_map(
            |(switches, limits, ports, endpoints, hosts, nets, allow, counted)| {
                let [isolates, counts_only, wide, dhcp, pppoe] = switches;
                // An address once.
                let hosts: BTreeMap<IpAddr, Option<u64>> = hosts.into_iter().collect();
                Shape {
                    isolates,
                    counts_only,
                    wide,
                    dhcp,
                    pppoe,
                    limits,
                    ports: ports.into_iter().collect(),
                    endpoints: endpoints.into_iter().collect(),
                    hosts: hosts.into_iter().collect(),
                    nets,
                    allow,
                    counted,
                }
            },
        )
}
