//! The host's routes, as far as they may lead to some addresses.
//!
//! In: addresses. Out: [`Routing`]: every route of one next hop that leads out of this device, the tables that rules of
//! routing lead its own packets to, and what the kernel takes for each address at this moment, which a redirect may have
//! changed. Where what it takes is not said in words that are known here, that is an error: the way would be cut. Of others
//! that is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::links::stacked_from;
use super::netlink::{Netlink, NetlinkError, NetlinkRequest, attributes, push_attribute, word};
use super::tunnels::tunnels;
use crate::Gather;
use crate::error_text;
use crate::quarantine::lifelines::tunnels::Reached;
use crate::quarantine::lifelines::ways::{FoundWays, InterfaceName, Route, Routing};

/// Routes kept that lead to one of the addresses; a gateway has some, one whose routers announce themselves by the dozen some dozens.
const MAX_ROUTES: usize = 16_384;

/// Numbers of `linux/rtnetlink.h` and `linux/fib_rules.h`.
mod numbers {
    pub(super) const RTM_GETROUTE: u16 = 26;
    pub(super) const RTM_GETRULE: u16 = 34;
    pub(super) const AF_INET: u8 = 2;
    pub(super) const AF_INET6: u8 = 10;
    pub(super) const RTA_DST: u16 = 1;
    pub(super) const RTA_OIF: u16 = 4;
    pub(super) const RTA_GATEWAY: u16 = 5;
    pub(super) const RTA_MULTIPATH: u16 = 9;
    pub(super) const RTA_TABLE: u16 = 15;
    pub(super) const RTA_NH_ID: u16 = 30;
    pub(super) const RTN_UNICAST: u8 = 1;
    pub(super) const RTN_LOCAL: u8 = 2;
    pub(super) const FIB_RULE_INVERT: u32 = 2;
    pub(super) const FRA_IIFNAME: u16 = 3;
    pub(super) const FRA_FWMARK: u16 = 10;
    pub(super) const FRA_TABLE: u16 = 15;
    pub(super) const FRA_FWMASK: u16 = 16;
    pub(super) const FR_ACT_TO_TBL: u8 = 1;
    /// Main and default: where the kernel has no rules of routing there are no others.
    pub(super) const TABLES: [u32; 2] = [254, 253];
}

/// Bytes of an `rtmsg` and of a `fib_rule_hdr`.
const HEADER: usize = 12;

/// Where the host's own packets to an address go at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Towards {
    /// To this machine itself.
    Here,
    /// Out by the interface of this number.
    Interface(u32),
    /// Nowhere.
    Nowhere,
}

/// Where packets to `address` go; the socket is one of `NETLINK_ROUTE`.
///
/// # Errors
/// If the kernel does not answer.
pub(super) fn towards(netlink: &mut Netlink, address: IpAddr) -> Result<Towards, NetlinkError> {
    use numbers as n;
    let mut found = Towards::Nowhere;
    let payload = question_for(address);
    let question = NetlinkRequest {
        message_type: n::RTM_GETROUTE,
        dump: false,
        payload: &payload,
    };
    let asked = netlink.ask(question, &mut |message| {
        let mut attributes = attributes(message.get(HEADER..).unwrap_or_default());
        let interface = attributes.find(|(number, _)| *number == n::RTA_OIF);
        found = match (message.get(7), interface.and_then(|(_, value)| word(value, 0))) {
            (Some(&n::RTN_LOCAL), _) => Towards::Here,
            (Some(&n::RTN_UNICAST), Some(interface)) => Towards::Interface(interface),
            _ => Towards::Nowhere,
        };
        Ok(())
    });
    match asked {
        Err(error) if error.refusal().is_some() => Ok(Towards::Nowhere),
        asked => asked.map(|()| found),
    }
}

/// Every way to these addresses, and the tunnels that there are; the socket is one of `NETLINK_ROUTE`.
///
/// # Errors
/// Why the routes are not known, for people.
pub(crate) fn ways_from(netlink: &mut Netlink, addresses: &BTreeSet<IpAddr>) -> Result<Reached, String> {
    let links = stacked_from(netlink).map_err(|error| unread(&error))?;
    let tunnels = tunnels(&links);
    if addresses.is_empty() {
        let ways = FoundWays::default();
        return Ok(Reached { ways, tunnels });
    }
    let names = links.into_iter().map(|(index, link)| (index, link.name));
    let (routing, gaps) = routing(netlink, names.in_map(), addresses)?;
    let ways = FoundWays {
        gaps,
        ..routing.ways(addresses)
    };
    Ok(Reached { ways, tunnels })
}

fn unread(error: &NetlinkError) -> String {
    format!("the routes cannot be read: {}", error_text(error))
}

/// With what of the tables could not be kept, each a sentence.
fn routing(
    netlink: &mut Netlink,
    names: BTreeMap<u32, String>,
    addresses: &BTreeSet<IpAddr>,
) -> Result<(Routing, Vec<String>), String> {
    use numbers as n;
    let mut reader = Reader {
        names,
        addresses,
        routes: Vec::new(),
        fault: None,
        unread: BTreeMap::new(),
    };
    for family in [n::AF_INET, n::AF_INET6] {
        let payload = header(family, 0);
        let question = NetlinkRequest {
            message_type: n::RTM_GETROUTE,
            dump: true,
            payload: &payload,
        };
        let listed = netlink.ask(question, &mut |message| {
            reader.take(message, None);
            Ok(())
        });
        match listed {
            // A kernel without that family routes nothing of it.
            Err(error) if error.refusal().is_some() => {}
            listed => listed.map_err(|error| unread(&error))?,
        }
    }
    let (tables, by_mark) = tables(netlink).map_err(|error| unread(&error))?;
    for address in addresses {
        let payload = question_for(*address);
        let question = NetlinkRequest {
            message_type: n::RTM_GETROUTE,
            dump: false,
            payload: &payload,
        };
        let asked = netlink.ask(question, &mut |message| {
            reader.take(message, Some(*address));
            Ok(())
        });
        match asked {
            // Nothing leads there.
            Err(error) if error.refusal().is_some() => {}
            asked => asked.map_err(|error| unread(&error))?,
        }
    }
    match reader.fault {
        Some(why) => Err(why.to_owned()),
        None => {
            let unread = reader.unread.into_iter();
            let gaps =
                unread.map(|(why, count)| format!("{count} routes to lifelines are no ways to them: {why}"));
            let routing = Routing {
                routes: reader.routes,
                tables,
                by_mark,
            };
            Ok((routing, gaps.collect()))
        }
    }
}

fn header(family: u8, bits: u8) -> Vec<u8> {
    let mut header = vec![0; HEADER];
    header
        .iter_mut()
        .zip([family, bits])
        .for_each(|(byte, value)| *byte = value);
    header
}

fn question_for(address: IpAddr) -> Vec<u8> {
    let (family, bits) = match address {
        IpAddr::V4(_) => (numbers::AF_INET, 32),
        IpAddr::V6(_) => (numbers::AF_INET6, 128),
    };
    let mut payload = header(family, bits);
    match address {
        IpAddr::V4(v4) => push_attribute(&mut payload, numbers::RTA_DST, false, &v4.octets()),
        IpAddr::V6(v6) => push_attribute(&mut payload, numbers::RTA_DST, false, &v6.octets()),
    }
    payload
}

/// The tables that rules lead packets of this device itself to, and whether one of the rules goes by marks.
fn tables(netlink: &mut Netlink) -> Result<(BTreeSet<u32>, bool), NetlinkError> {
    let (mut tables, mut by_mark) = (BTreeSet::new(), false);
    let question = NetlinkRequest {
        message_type: numbers::RTM_GETRULE,
        dump: true,
        payload: &[0; HEADER],
    };
    let listed = netlink.ask(question, &mut |message| {
        tables.extend(table_of_rule(message));
        by_mark |= goes_by_mark(message);
        Ok(())
    });
    match listed {
        Err(error) if error.refusal().is_some() => Ok((numbers::TABLES.into(), false)),
        Err(error) => Err(error),
        Ok(()) => Ok((tables, by_mark)),
    }
}

/// Whether a rule asks for a mark, whatever follows from it.
fn goes_by_mark(message: &[u8]) -> bool {
    let marks = [numbers::FRA_FWMARK, numbers::FRA_FWMASK];
    let is_routed = message
        .first()
        .is_some_and(|family| [numbers::AF_INET, numbers::AF_INET6].contains(family));
    let mut named = attributes(message.get(HEADER..).unwrap_or_default());
    is_routed && named.any(|(number, _)| marks.contains(&number))
}

fn table_of_rule(message: &[u8]) -> Option<u32> {
    use numbers as n;
    let (family, table, action) = (message.first()?, message.get(4)?, message.get(7)?);
    if ![n::AF_INET, n::AF_INET6].contains(family) || *action != n::FR_ACT_TO_TBL {
        return None;
    }
    let mut table = u32::from(*table);
    let is_inverted = word(message, 8)? & n::FIB_RULE_INVERT != 0;
    for (number, value) in attributes(message.get(HEADER..)?) {
        match number {
            n::FRA_TABLE => table = word(value, 0)?,
            // Of what comes by another interface only, and is forwarded.
            n::FRA_IIFNAME if value != b"lo\0" && !is_inverted => return None,
            _ => {}
        }
    }
    Some(table)
}

struct Reader<'a> {
    names: BTreeMap<u32, String>,
    addresses: &'a BTreeSet<IpAddr>,
    routes: Vec<Route>,
    /// What of that which the kernel takes could not be understood.
    fault: Option<&'static str>,
    /// What of other routes could not be kept, and how often.
    unread: BTreeMap<&'static str, usize>,
}

impl Reader<'_> {
    /// Takes an `rtmsg` with its attributes; `asked`: it is what is taken at this moment for that address.
    fn take(&mut self, message: &[u8], asked: Option<IpAddr>) {
        if self.fault.is_some() || message.get(7) != Some(&numbers::RTN_UNICAST) {
            return;
        }
        match self.read(message, asked) {
            Ok(()) => {}
            // It leads there now, and by nothing else.
            Err(why) if asked.is_some() => self.fault = Some(why),
            Err(why) => *self.unread.entry(why).or_default() += 1,
        }
    }

    fn read(&mut self, message: &[u8], asked: Option<IpAddr>) -> Result<(), &'static str> {
        use numbers as n;
        let cut = "a route is cut short";
        let [family, bits, _, _, table, ..] = *message else {
            return Err(cut);
        };
        let mut to = if family == n::AF_INET {
            IpAddr::from([0_u8; 4])
        } else {
            IpAddr::from([0_u8; 16])
        };
        let mut table = u32::from(table);
        let (mut interface, mut gateway, mut several, mut is_named) = (None, None, None, false);
        for (number, value) in attributes(message.get(HEADER..).ok_or(cut)?) {
            match number {
                n::RTA_DST => to = address(value).ok_or(cut)?,
                n::RTA_OIF => interface = word(value, 0),
                n::RTA_GATEWAY => gateway = address(value),
                n::RTA_MULTIPATH => several = Some(value),
                n::RTA_TABLE => table = word(value, 0).ok_or(cut)?,
                n::RTA_NH_ID => is_named = true,
                _ => {}
            }
        }
        let (to, table) = match asked {
            Some(address) => (IpNet::from(address), Route::TAKEN),
            None => (IpNet::new(to, bits).map_err(|_| cut)?, table),
        };
        if !self.addresses.iter().any(|address| to.contains(address)) {
            return Ok(());
        }
        let hops = match (several, interface) {
            (Some(several), _) => next_hops(several).ok_or(cut)?,
            (None, Some(interface)) => vec![(interface, gateway)],
            (None, None) if is_named => return Err("a route names its next hops by number only"),
            // It leads nowhere.
            (None, None) => Vec::new(),
        };
        for (interface, gateway) in hops {
            let Some(name) = self.names.get(&interface) else {
                // It went away meanwhile, and its routes with it.
                continue;
            };
            if self.routes.len() >= MAX_ROUTES && asked.is_none() {
                return Err("there are too many");
            }
            self.routes.push(Route {
                table,
                to,
                interface: InterfaceName::new(name)
                    .ok_or("a route leads to an interface with an unusual name")?,
                gateway,
            });
        }
        Ok(())
    }
}

/// The interfaces and gateways of several next hops: each a `rtnexthop` with its attributes.
fn next_hops(mut bytes: &[u8]) -> Option<Vec<(u32, Option<IpAddr>)>> {
    const OWN: usize = 8;
    let mut hops = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let hop = bytes.get(..length.max(OWN))?;
        let gateway = attributes(hop.get(OWN..)?).find(|(number, _)| *number == numbers::RTA_GATEWAY);
        hops.push((word(hop, 4)?, gateway.and_then(|(_, value)| address(value))));
        bytes = bytes.get(hop.len().next_multiple_of(4)..).unwrap_or_default();
    }
    Some(hops)
}

fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    fn reader() -> Reader<'static> {
        static ASKED: LazyLock<BTreeSet<IpAddr>> =
            LazyLock::new(|| BTreeSet::from([IpAddr::from([8, 8, 8, 8])]));
        Reader {
            addresses: &ASKED,
            unread: BTreeMap::new(),
            names: BTreeMap::from([
                (2, "wan0".to_owned()),
                (3, "wan1".to_owned()),
                (4, "a b".to_owned()),
            ]),
            routes: Vec::new(),
            fault: None,
        }
    }

    fn default_route(table: u8) -> Vec<u8> {
        let mut message = header(numbers::AF_INET, 0);
        message[4] = table;
        message[7] = numbers::RTN_UNICAST;
        message
    }

    fn shown(reader: &Reader) -> Vec<String> {
        let show = |route: &Route| {
            let gateway = route
                .gateway
                .map_or("link".to_owned(), |gateway| gateway.to_string());
            format!("{} {} {} {gateway}", route.table, route.to, route.interface)
        };
        reader.routes.iter().map(show).collect()
    }

    #[test]
    fn each_next_hop_is_a_route_and_a_large_table_is_told_by_its_attribute() {
        let mut reader = reader();
        let mut single = default_route(252);
        push_attribute(&mut single, numbers::RTA_TABLE, false, &1_000_u32.to_ne_bytes());
        push_attribute(&mut single, numbers::RTA_OIF, false, &2_u32.to_ne_bytes());
        reader.take(&single, None);
        let mut hops = Vec::new();
        for (interface, last) in [(2_u32, 1), (3, 2), (9, 3)] {
            hops.extend(16_u16.to_ne_bytes());
            hops.extend([0, 0]);
            hops.extend(interface.to_ne_bytes());
            push_attribute(&mut hops, numbers::RTA_GATEWAY, false, &[198, 51, 100, last]);
        }
        let mut several = default_route(254);
        push_attribute(&mut several, numbers::RTA_MULTIPATH, false, &hops);
        reader.take(&several, None);
        assert_eq!(reader.fault, None);
        assert_eq!(
            shown(&reader),
            [
                "1000 0.0.0.0/0 wan0 link",
                "254 0.0.0.0/0 wan0 198.51.100.1",
                "254 0.0.0.0/0 wan1 198.51.100.2"
            ],
            "an interface that went away has none"
        );
    }

    #[test]
    fn what_is_not_understood_is_told_and_what_leads_nowhere_is_no_route() {
        let mut quiet = reader();
        quiet.take(&default_route(254), None);
        let mut blackhole = default_route(254);
        blackhole[7] = 6;
        quiet.take(&blackhole, None);
        assert_eq!((shown(&quiet), quiet.fault), (Vec::new(), None));
        let told = |number, value: &[u8]| {
            let of = |asked| {
                let (mut reader, mut message) = (reader(), default_route(254));
                push_attribute(&mut message, number, false, value);
                reader.take(&message, asked);
                (reader.fault.is_some(), reader.unread.len())
            };
            (of(None), of(Some([8, 8, 8, 8].into()))) == ((false, 1), (true, 0))
        };
        assert!(told(numbers::RTA_NH_ID, &7_u32.to_ne_bytes()));
        assert!(told(numbers::RTA_OIF, &4_u32.to_ne_bytes()), "an unusual name");
        assert!(told(numbers::RTA_MULTIPATH, &[1, 2, 3]));
        assert!(told(numbers::RTA_DST, &[1, 2, 3]));
    }

    #[test]
    fn routes_to_elsewhere_take_no_room() {
        let mut reader = reader();
        for first in 1..=20 {
            let mut route = default_route(254);
            route[1] = 8;
            push_attribute(&mut route, numbers::RTA_DST, false, &[first, 0, 0, 0]);
            push_attribute(&mut route, numbers::RTA_OIF, false, &2_u32.to_ne_bytes());
            reader.take(&route, None);
        }
        assert_eq!(shown(&reader), ["254 8.0.0.0/8 wan0 link"]);
    }

    #[test]
    fn rules_of_what_is_forwarded_lead_no_packet_of_this_device() {
        let rule = |family, attribute: Option<(u16, &[u8])>| {
            let mut message = header(family, 0);
            message[4] = 100;
            message[7] = numbers::FR_ACT_TO_TBL;
            if let Some((number, value)) = attribute {
                push_attribute(&mut message, number, false, value);
            }
            table_of_rule(&message)
        };
        assert_eq!(rule(2, None), Some(100));
        assert_eq!(
            rule(2, Some((numbers::FRA_TABLE, &500_u32.to_ne_bytes()))),
            Some(500)
        );
        assert_eq!(rule(10, Some((numbers::FRA_IIFNAME, b"lan0\0"))), None);
        let mut all_but = header(numbers::AF_INET, 0);
        (all_but[4], all_but[7]) = (100, numbers::FR_ACT_TO_TBL);
        all_but[8..12].copy_from_slice(&numbers::FIB_RULE_INVERT.to_ne_bytes());
        push_attribute(&mut all_but, numbers::FRA_IIFNAME, false, b"lan0\0");
        assert_eq!(table_of_rule(&all_but), Some(100), "of all that comes by others");
        assert_eq!(rule(10, Some((numbers::FRA_IIFNAME, b"lo\0"))), Some(100));
        assert_eq!(rule(128, None), None, "of multicast routing");
        let mut marked = header(numbers::AF_INET, 0);
        assert!(!goes_by_mark(&marked));
        push_attribute(&mut marked, numbers::FRA_FWMARK, false, &7_u32.to_ne_bytes());
        assert!(goes_by_mark(&marked));
    }
}
