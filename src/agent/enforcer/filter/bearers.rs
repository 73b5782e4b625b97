//! What the frames of ways leave by, and the hardware addresses that they are sent as.
//!
//! In: the interfaces of this namespace, those that lifelines are reached by. Out: for each of these every interface that its
//! frames leave by on their way to the link (a VLAN's carrier, a bond's members, a bridge's ports), with every sender that they may
//! have there: that of any interface on the way. What stands on one of them in another network namespace sends as somebody else.

use std::collections::{BTreeMap, BTreeSet};

use crate::Gather;
use crate::observe::link::Link;
use crate::observe::way::InterfaceKind;
use crate::quarantine::lifelines::ways::{Bearer, InterfaceName};

/// Interfaces below one another that are followed; a VLAN over a bridge over a bond has four.
pub(super) const MAX_DEPTH: usize = 8;

/// Of each of `uppers` that is among the interfaces.
pub(super) fn bearers(
    links: &[Link],
    uppers: &BTreeSet<InterfaceName>,
) -> BTreeMap<InterfaceName, BTreeSet<Bearer>> {
    if uppers.is_empty() {
        return BTreeMap::new();
    }
    let stack = Stack::of(links);
    let named = links
        .iter()
        .filter_map(|link| Some((InterfaceName::new(&link.name)?, link)));
    let wanted = named.filter(|(name, _)| uppers.contains(name));
    wanted
        .map(|(name, link)| {
            let mut found = BTreeSet::new();
            stack.descend(link, &mut found);
            (name, found)
        })
        .in_map()
}

/// Of all interfaces together, also of those whose names are not written into rules: what is below them may be.
pub(super) fn of_all<'a>(links: &'a [Link], stack: &Stack<'a>) -> BTreeSet<Bearer> {
    let mut found = BTreeSet::new();
    for link in links {
        stack.descend(link, &mut found);
        stack.gather(link, &mut found);
    }
    found
}

/// What belongs to something else than a bridge or a bond (a VRF, a switch of another kind) says itself where the other's addresses are.
fn stands_on(above: &Link, below: &Link) -> bool {
    below.master != Some(above.index) || gathers(above)
}

/// Whether what belongs to it sends its frames.
pub(super) fn gathers(link: &Link) -> bool {
    matches!(link.device, InterfaceKind::Bridge | InterfaceKind::Bond)
}

/// Interfaces, one upon another.
pub(super) struct Stack<'a> {
    pub(super) by_index: BTreeMap<u32, &'a Link>,
    members: BTreeMap<u32, Vec<&'a Link>>,
}

impl<'a> Stack<'a> {
    pub(super) fn of(links: &'a [Link]) -> Self {
        let mut members: BTreeMap<u32, Vec<&Link>> = BTreeMap::new();
        for link in links {
            if let Some(master) = link.master {
                members.entry(master).or_default().push(link);
            }
        }
        Self {
            by_index: links.iter().map(|link| (link.index, link)).in_map(),
            members,
        }
    }

    /// A bridge takes the address of one of its ports, and of any of them when one has gone; the members of a bond change theirs among
    /// each other. What is said of it may be sooner than this is read again.
    fn gather(&self, link: &Link, found: &mut BTreeSet<Bearer>) {
        let members = self.members.get(&link.index).into_iter().flatten();
        let hardware: Vec<[u8; 6]> = members.clone().filter_map(|member| member.hardware).collect();
        let as_any = match link.device {
            InterfaceKind::Bridge => vec![link],
            InterfaceKind::Bond => members.copied().chain([link]).collect(),
            _ => return,
        };
        for sender in as_any {
            let Some(interface) = InterfaceName::new(&sender.name) else {
                continue;
            };
            found.extend(hardware.iter().map(|hardware| Bearer {
                interface,
                hardware: *hardware,
            }));
        }
    }

    /// The hardware addresses that the members of a bond change among each other; of anything else none.
    pub(super) fn of_bond(&self, link: &Link) -> impl Iterator<Item = [u8; 6]> {
        let members = self.members.get(&link.index).into_iter().flatten();
        let members = members.filter(|_| link.device == InterfaceKind::Bond);
        members.filter_map(|member| member.hardware)
    }

    /// What it belongs to, if that is among them.
    pub(super) fn master(&self, link: &Link) -> Option<&'a Link> {
        self.by_index.get(&link.master?).copied()
    }

    /// Whether it belongs to what sends by it, and not by itself.
    pub(super) fn sends_for_another(&self, link: &Link) -> bool {
        self.master(link).is_some_and(gathers)
    }

    /// Itself, and all that its frames leave by as what it says.
    pub(super) fn below(&self, link: &'a Link) -> Vec<&'a Link> {
        let mut below = Vec::new();
        self.walk(link, &mut Vec::new(), &mut |path| {
            let stands = path.windows(2).all(|pair| stands_on(pair[0], pair[1]));
            below.extend(path.last().copied().filter(|_| stands));
        });
        below
    }

    fn descend(&self, link: &'a Link, found: &mut BTreeSet<Bearer>) {
        self.walk(link, &mut Vec::new(), &mut |path| {
            let Some(interface) = path.last().and_then(|lowest| InterfaceName::new(&lowest.name)) else {
                return;
            };
            found.extend(path.iter().map(|above| Bearer {
                interface,
                // What has no address of its own sends as nobody.
                hardware: above.hardware.unwrap_or_default(),
            }));
        });
    }

    /// Visits an interface and all that its frames leave by, each with those above it before it in the path.
    pub(super) fn walk(&self, link: &'a Link, path: &mut Vec<&'a Link>, visit: &mut impl FnMut(&[&'a Link])) {
        if path.len() >= MAX_DEPTH || path.iter().any(|above| above.index == link.index) {
            return;
        }
        path.push(link);
        visit(path);
        let lower = link.lower.and_then(|lower| self.by_index.get(&lower));
        // The other end of a pair is not below, and the host's end of a container's pair is nobody's way.
        let lower = lower.filter(|lower| lower.lower != Some(link.index));
        let members = self.members.get(&link.index).into_iter().flatten();
        for below in lower.into_iter().chain(members) {
            self.walk(below, path, visit);
        }
        path.pop();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::observe::decode::LinkKind;
    use crate::observe::interval::Counters;

    pub(in super::super) fn link(index: u32, name: &str, lower: Option<u32>, master: Option<u32>) -> Link {
        Link {
            name: name.to_owned(),
            index,
            kind: LinkKind::Ethernet,
            hardware: Some([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]),
            loopback: false,
            up: true,
            running: true,
            addresses: Vec::new(),
            broadcasts: Vec::new(),
            networks: Vec::new(),
            master,
            lower,
            device: InterfaceKind::Other,
            counters: Counters::default(),
        }
    }

    fn shown(links: &[Link], upper: &str) -> Vec<String> {
        let name = InterfaceName::new(upper).unwrap();
        let found = bearers(links, &BTreeSet::from([name]));
        let all = found.get(&name).into_iter().flatten();
        all.map(|bearer| format!("{} {}", bearer.interface, bearer.hardware[5]))
            .collect()
    }

    #[test]
    fn a_bridge_whose_name_no_rule_has_sends_by_its_port_all_the_same() {
        let links = [link(1, "eth0", None, Some(2)), link(2, "br+0", None, None)];
        assert_eq!(InterfaceName::new("br+0"), None, "control");
        let all = of_all(&links, &Stack::of(&links)).into_iter();
        let shown: Vec<String> = all
            .map(|bearer| format!("{} {}", bearer.interface, bearer.hardware[5]))
            .collect();
        assert_eq!(shown, ["eth0 1", "eth0 2"]);
    }

    #[test]
    fn a_vlan_over_a_bond_leaves_by_its_members_as_any_of_them() {
        let links = [
            link(1, "eth0", None, Some(3)),
            link(2, "eth1", None, Some(3)),
            link(3, "bond0", None, None),
            link(4, "bond0.7", Some(3), None),
            link(5, "lan0", None, None),
        ];
        assert_eq!(
            shown(&links, "bond0.7"),
            [
                "bond0 3",
                "bond0 4",
                "bond0.7 4",
                "eth0 1",
                "eth0 3",
                "eth0 4",
                "eth1 2",
                "eth1 3",
                "eth1 4"
            ]
        );
        assert_eq!(shown(&links, "lan0"), ["lan0 5"], "control");
        assert_eq!(shown(&links, "gone"), [""; 0]);
    }

    #[test]
    fn what_belongs_to_a_bond_may_be_called_as_its_siblings_and_a_bridge_as_its_ports() {
        let stack = |device| {
            let mut links = [
                link(1, "a", None, Some(3)),
                link(2, "b", None, Some(3)),
                link(3, "m", None, None),
            ];
            links[2].device = device;
            let all = of_all(&links, &Stack::of(&links)).into_iter();
            all.map(|bearer| format!("{}{}", bearer.interface, bearer.hardware[5]))
                .collect::<Vec<_>>()
        };
        let bond = stack(InterfaceKind::Bond);
        assert_eq!(bond, ["a1", "a2", "a3", "b1", "b2", "b3", "m1", "m2", "m3"]);
        let bridge = stack(InterfaceKind::Bridge);
        assert_eq!(bridge, ["a1", "a3", "b2", "b3", "m1", "m2", "m3"]);
        assert_eq!(stack(InterfaceKind::Other), ["a1", "a3", "b2", "b3", "m3"]);
    }

    #[test]
    fn the_other_end_of_a_pair_is_not_below_and_circles_end() {
        let pair = [link(1, "veth0", Some(2), None), link(2, "veth1", Some(1), None)];
        assert_eq!(shown(&pair, "veth0"), ["veth0 1"]);
        let circle = [
            link(1, "a", Some(2), None),
            link(2, "b", Some(3), None),
            link(3, "c", Some(1), None),
        ];
        assert_eq!(shown(&circle, "a").len(), 6);
    }
}
