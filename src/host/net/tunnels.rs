//! Interfaces that are tunnels, and whose packets go through them.
//!
//! In: what the kernel says of each interface (`RTM_GETLINK`). Out: [`Tunnel`]s. A tunnel whose own packets leave in another network
//! namespace is none: no rule of ours cuts them there. Absent: what the interface does not tell, the peers of WireGuard and
//! the connections of programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::links::Stacked;
use super::netlink::attributes;
use crate::Gather;
use crate::quarantine::lifelines::tunnels::{Tunnel, Wrapping};
use crate::quarantine::lifelines::ways::InterfaceName;

/// Tunnels looked at; a gateway has some.
const MAX_TUNNELS: usize = 64;
/// Longest kind of an interface that is told.
const MAX_KIND: usize = 16;
/// Where the kernel's default is meant.
const VXLAN_PORT: u16 = 4_789;
const GENEVE_PORT: u16 = 6_081;
/// What the port of a `bareudp`, which always says its own, most often is.
const MPLS_PORT: u16 = 6_635;

/// What a tunnel's own attributes are called: the other end, for both families, and the port.
struct Attributes {
    remote: [u16; 2],
    port: Option<(u16, u16)>,
}

/// Numbers of `linux/if_link.h` and `linux/if_tunnel.h`; none for what is no tunnel. Without names of attributes the interface does
/// not tell how it wraps.
fn attributes_of(kind: &str) -> Option<Option<Attributes>> {
    let other = |remote| {
        Some(Attributes {
            remote: [remote; 2],
            port: None,
        })
    };
    Some(match kind {
        "vxlan" => Some(Attributes {
            remote: [2, 16],
            port: Some((15, VXLAN_PORT)),
        }),
        "geneve" => Some(Attributes {
            remote: [2, 7],
            port: Some((5, GENEVE_PORT)),
        }),
        "gre" | "gretap" | "ip6gre" | "ip6gretap" | "erspan" | "ip6erspan" => other(7),
        "ipip" | "sit" | "ip6tnl" => other(3),
        "vti" | "vti6" => other(5),
        // Its other ends are those of IPsec's states.
        "xfrm" => other(0),
        "bareudp" => Some(Attributes {
            remote: [0; 2],
            port: Some((1, MPLS_PORT)),
        }),
        "wireguard" | "tun" | "ovpn" | "gtp" | "l2tpeth" | "amt" => None,
        _ => return None,
    })
}

/// What an interface tells of the tunnel that it is: kind, wrapping, other end.
pub(super) fn wrapped(kind: &str, data: &[u8]) -> Option<(String, Wrapping, Option<IpAddr>)> {
    let told = attributes_of(kind)?;
    let kind: String = kind.chars().take(MAX_KIND).collect();
    let Some(own) = told else {
        return Some((kind, Wrapping::Untold, None));
    };
    let find = |wanted| attributes(data).find_map(|(number, value)| (number == wanted).then_some(value));
    let remote = own
        .remote
        .into_iter()
        .filter(|number| *number != 0)
        .find_map(|number| {
            let address = super::links::ip(find(number)?)?;
            (!address.is_unspecified()).then_some(address)
        });
    let wrapping = own.port.map_or(Wrapping::Protocol, |(number, default)| {
        let bytes = find(number).and_then(|value| <[u8; 2]>::try_from(value).ok());
        // In the order of the network.
        Wrapping::Udp(bytes.map_or(default, u16::from_be_bytes))
    });
    Some((kind, wrapping, remote))
}

/// The tunnels among these interfaces.
pub(super) fn tunnels(links: &BTreeMap<u32, Stacked>) -> Vec<Tunnel> {
    let of = |(index, link): (&u32, &Stacked)| {
        let (kind, wrapping, remote) = link.tunnel.clone()?;
        Some(Tunnel {
            interface: InterfaceName::new(&link.name)?,
            kind,
            wrapping,
            remote,
            carries: above(*index, links),
        })
    };
    links.iter().filter_map(of).take(MAX_TUNNELS).collect()
}

/// The interface itself and those that send through it: its bridge or bond, and what is on them.
fn above(index: u32, links: &BTreeMap<u32, Stacked>) -> BTreeSet<InterfaceName> {
    let (mut found, mut left) = (BTreeSet::from([index]), vec![index]);
    while let Some(index) = left.pop() {
        let master = links.get(&index).and_then(|link| link.master);
        let on_it = links
            .iter()
            .filter(|(_, link)| link.lower == Some(index) && link.tunnel.is_none());
        for next in master.into_iter().chain(on_it.map(|(index, _)| *index)) {
            if found.insert(next) {
                left.push(next);
            }
        }
    }
    let names = found.iter().filter_map(|index| links.get(index));
    names.filter_map(|link| InterfaceName::new(&link.name)).in_set()
}

#[cfg(test)]
mod tests {
    use super::super::netlink::push_attribute;
    use super::*;

    fn link(name: &str, master: Option<u32>, lower: Option<u32>, tunnel: bool) -> Stacked {
        Stacked {
            name: name.into(),
            master,
            lower,
            tunnel: tunnel.then(|| ("gre".into(), Wrapping::Protocol, None)),
        }
    }

    #[test]
    fn what_an_interface_tells_of_its_other_end_is_read() {
        let mut data = Vec::new();
        push_attribute(&mut data, 2, false, &[192, 0, 2, 1]);
        push_attribute(&mut data, 15, false, &[0x12, 0xB6]);
        let remote = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(
            wrapped("vxlan", &data),
            Some(("vxlan".into(), Wrapping::Udp(4_790), remote))
        );
        assert_eq!(
            wrapped("vxlan", &[]),
            Some(("vxlan".into(), Wrapping::Udp(4_789), None))
        );
        let mut data = Vec::new();
        push_attribute(&mut data, 7, false, &[192, 0, 2, 1]);
        assert_eq!(
            wrapped("gre", &data),
            Some(("gre".into(), Wrapping::Protocol, remote))
        );
        assert_eq!(
            wrapped("wireguard", &[]),
            Some(("wireguard".into(), Wrapping::Untold, None))
        );
        let mut data = Vec::new();
        push_attribute(&mut data, 1, false, &[0x19, 0xEB]);
        assert_eq!(
            wrapped("bareudp", &data),
            Some(("bareudp".into(), Wrapping::Udp(6_635), None))
        );
        for other in ["veth", "bridge", "vlan", "dummy"] {
            assert_eq!(wrapped(other, &data), None, "{other}");
        }
    }

    #[test]
    fn whoever_sends_through_a_tunnel_is_named() {
        let links = BTreeMap::from([
            (1, link("wan0", None, None, false)),
            (2, link("gre1", Some(3), Some(1), true)),
            (3, link("br0", None, None, false)),
            (4, link("br0.7", None, Some(3), false)),
            (5, link("lan0", Some(3), None, false)),
        ]);
        let found = tunnels(&links);
        assert_eq!(found.len(), 1);
        let names: Vec<String> = found[0].carries.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["br0", "br0.7", "gre1"]);
    }
}
