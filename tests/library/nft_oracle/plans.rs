//! Plans at random, over the types that orders are made of, as the kernel is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use edgewarden::quarantine::lifelines::lifeline::{Endpoint, Purpose};
use edgewarden::quarantine::lifelines::nucleus_users::NucleusUsers;
use edgewarden::quarantine::lifelines::ways::{Bearer, InterfaceName, Way, Ways};
use edgewarden::quarantine::orders::order::{
    Allowance, Authority, Block, BlockedPort, BlockedRemote, Direction, Limit, Order, Posture, Protocol,
};
use edgewarden::quarantine::plan::{IsolationSettings, Scope, fold};
use edgewarden::quarantine::ruleset::{CutAction, EgressDevice, Hooks, Lack, Ruleset, render};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| Ipv4Addr::from(octets).into()),
        any::<[u8; 16]>().prop_map(|octets| Ipv6Addr::from(octets).into()),
    ]
}

fn block() -> impl Strategy<Value = IpNet> {
    (address(), 0..=128_u8).prop_map(|(address, bits)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        IpNet::new(address, bits.min(most)).unwrap().trunc()
    })
}

/// What interfaces of these names may be.
const NAMES: [&str; 3] = ["wan0", "wwan0.7@x", "fifteen-letters"];

fn way() -> impl Strategy<Value = Way> {
    let name = proptest::sample::select(&NAMES[..]);
    (address(), name, any::<bool>()).prop_map(|(address, name, is_on_link)| Way {
        address,
        interface: InterfaceName::new(name).unwrap(),
        next_hop: match address {
            address if is_on_link => address,
            IpAddr::V4(_) => Ipv4Addr::new(198, 51, 100, 1).into(),
            IpAddr::V6(_) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
        },
    })
}

/// When a block ends, in seconds from now on; never within the test.
fn end() -> impl Strategy<Value = Option<i64>> {
    proptest::option::of(1_000..99_000_000_i64)
}

fn allowance() -> impl Strategy<Value = Allowance> {
    let ports = proptest::collection::btree_set(any::<u16>(), 1..5);
    (block(), protocol(), ports, any::<bool>()).prop_map(|(remote, protocol, ports, out)| Allowance {
        remote,
        protocol,
        ports: ports.into_iter().collect(),
        direction: if out { Direction::Out } else { Direction::In },
    })
}

fn limit() -> impl Strategy<Value = Option<Limit>> {
    let limit = (
        proptest::option::of(1..4_000_000_000_u64),
        proptest::option::of(1..1_u64 << 40),
    );
    limit.prop_map(|(rate, quota)| {
        (rate.is_some() || quota.is_some()).then_some(Limit {
            egress_bytes_per_second: rate,
            quota_bytes: quota,
            quota_period_seconds: quota.map(|_| 3_600),
        })
    })
}

/// Without a limit.
fn order(posture: Posture, now: Timestamp) -> impl Strategy<Value = Order> {
    let remotes = proptest::collection::vec((block(), end()), 0..12);
    let ports = proptest::collection::btree_set((protocol(), any::<u16>()), 0..5);
    let allow = proptest::collection::vec(allowance(), 0..4);
    (remotes, ports, allow).prop_map(move |(remotes, ports, allow)| {
        let expires = |seconds: Option<i64>| Some(now + SignedDuration::from_secs(seconds?));
        let remotes = remotes.into_iter().map(|(remote, ends)| BlockedRemote {
            remote,
            expires: expires(ends),
        });
        let block = Block {
            remotes: remotes.collect(),
            ports: ports
                .into_iter()
                .map(|(protocol, port)| BlockedPort { protocol, port })
                .collect(),
            omitted: 0,
        };
        Order {
            posture,
            allow,
            block,
            ..Order::isolate(Authority::Shadow, "oracle", None, now)
        }
    })
}

/// What cannot be changed rule by rule.
#[derive(Debug, Clone)]
struct Frame {
    posture: Posture,
    limits: Vec<Option<Limit>>,
    hooks: Hooks,
    effect: CutAction,
    now: Timestamp,
}

/// Members of others, VLANs' numbers by what their frames leave by, and hardware addresses.
type Told = (Vec<&'static str>, BTreeMap<&'static str, u16>, BTreeSet<[u8; 6]>);

fn passing() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(NAMES.to_vec(), 0..=2)
}

fn told_of_frames() -> impl Strategy<Value = Told> {
    let members = passing();
    let of = proptest::sample::select(&NAMES[..]);
    let numbers = proptest::collection::btree_map(of, 1..4_095_u16, 1..3);
    (
        members,
        numbers,
        proptest::collection::btree_set(any::<[u8; 6]>(), 0..3),
    )
}

/// Ports of tunnels, and addresses of the device's own.
fn inside() -> impl Strategy<Value = (BTreeSet<u16>, BTreeSet<IpAddr>)> {
    let ports = proptest::collection::btree_set(any::<u16>(), 0..3);
    (ports, proptest::collection::btree_set(address(), 0..4))
}

fn frame() -> impl Strategy<Value = Frame> {
    (frame_of_links(), inside()).prop_map(|(mut frame, (unwrapping, own))| {
        let bearers = frame.hooks.hardware.iter();
        let places = bearers.flat_map(|bearer| own.iter().map(move |address| (bearer, *address)));
        (frame.hooks.homes, frame.hooks.called) = places
            .map(|(bearer, address)| ((bearer.interface, address), (address, bearer.hardware)))
            .unzip();
        frame.hooks.unwrapping = unwrapping;
        frame.hooks.own = own;
        frame
    })
}

/// Some of them on each link.
fn called(senders: &BTreeSet<[u8; 6]>) -> BTreeSet<Bearer> {
    let named = senders.iter().zip(NAMES);
    let bearer = |(hardware, of): (&[u8; 6], &str)| Bearer {
        interface: InterfaceName::new(of).unwrap(),
        hardware: *hardware,
    };
    named.map(bearer).collect()
}

fn devices() -> [EgressDevice; 2] {
    ["eth0", "eth1"].map(|name| EgressDevice {
        name: name.to_owned(),
        index: 0,
    })
}

fn frame_of_links() -> impl Strategy<Value = Frame> {
    let limits = proptest::collection::vec(limit(), 1..3);
    let hardware = proptest::option::of(any::<[u8; 6]>());
    let parts = (limits, any::<[bool; 10]>(), hardware, passing(), told_of_frames());
    parts.prop_map(
        |(limits, switches, hardware, passing, (members, numbers, senders))| {
            let [
                isolates,
                counts,
                bridge,
                egress,
                pppoe,
                tags,
                crowded,
                lacking,
                bare,
                vlans,
            ] = switches;
            let name = |name| InterfaceName::new(name).unwrap();
            let bearer = |hardware, of| {
                let interface = name(of);
                (interface, [Bearer { interface, hardware }].into())
            };
            let bearers = hardware
                .into_iter()
                .flat_map(|hardware| NAMES.map(|of| bearer(hardware, of)));
            Frame {
                posture: if isolates {
                    Posture::Isolate
                } else {
                    Posture::Restrict
                },
                limits,
                hooks: Hooks {
                    bridge,
                    egress: devices().into_iter().filter(|_| egress).collect(),
                    mark: (!egress).then_some(0x1234_5678),
                    pppoe,
                    tags,
                    crowded,
                    lacks: Lack::ALL.into_iter().filter(|_| lacking).collect(),
                    bearers: bearers.collect(),
                    bare,
                    vlans: numbers
                        .into_iter()
                        .filter(|_| vlans)
                        .map(|(of, number)| (name(of), number))
                        .collect(),
                    hardware: called(&senders),
                    senders,
                    members: members.into_iter().map(name).collect(),
                    passing: passing.into_iter().map(name).collect(),
                    ..Hooks::default()
                },
                effect: if counts { CutAction::Count } else { CutAction::Cut },
                now: Timestamp::now(),
            }
        },
    )
}

fn ruleset_in(frame: Frame) -> impl Strategy<Value = Ruleset> {
    let endpoints = proptest::collection::vec((address(), protocol(), any::<u16>()), 0..8);
    let orders: Vec<_> = frame
        .limits
        .iter()
        .map(|_| order(frame.posture, frame.now))
        .collect();
    let ways = proptest::option::of(proptest::collection::vec(way(), 0..6));
    let users = proptest::collection::vec(any::<u32>(), 0..3);
    let parts = (orders, endpoints, ways, users, any::<bool>());
    parts.prop_map(move |(mut orders, endpoints, ways, users, wide)| {
        for ((index, order), limit) in orders.iter_mut().enumerate().zip(&frame.limits) {
            order.id = format!("oracle{index}");
            order.limit = *limit;
        }
        let endpoints = endpoints.into_iter().map(|(address, protocol, port)| Endpoint {
            purpose: Purpose::DataEndpoint,
            address,
            protocol,
            port,
        });
        let scope = if wide { Scope::Wide } else { Scope::Pinned };
        let settings = IsolationSettings::default();
        let mut plan = fold(&orders, &settings, endpoints.collect(), scope, frame.now);
        if let Some(ways) = ways {
            plan.ways = Ways::Tied(ways);
        }
        plan.nucleus_users = NucleusUsers::of(users);
        plan.nucleus_alone = plan.endpoints.iter().step_by(2).map(Endpoint::key).collect();
        render(&plan, &frame.hooks, frame.effect)
    })
}

/// Any.
pub(super) fn ruleset() -> impl Strategy<Value = Ruleset> {
    frame().prop_flat_map(ruleset_in)
}

/// Two of the same limits, posture and effect; often of the same hooks.
pub(super) fn two_alike() -> impl Strategy<Value = [Ruleset; 2]> {
    (frame(), frame(), 0..4_u8, any::<bool>()).prop_flat_map(|(frame, other, devices, same)| {
        let mut hooks = if same { frame.hooks.clone() } else { other.hooks };
        // Interfaces come and go.
        for (number, device) in hooks.egress.iter_mut().enumerate() {
            device.index += u32::from(devices >> number & 1);
        }
        let after = Frame {
            hooks,
            ..frame.clone()
        };
        [ruleset_in(frame), ruleset_in(after)]
    })
}
