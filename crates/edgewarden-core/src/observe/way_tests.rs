//! Every role an interface can have, told and untold.

use super::*;

const ETH: [u8; 6] = [2, 0, 0, 0, 0, 1];
const BRIDGE: [u8; 6] = [2, 0, 0, 0, 0, 2];
const MACVLAN: [u8; 6] = [2, 0, 0, 0, 0, 3];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 8];
const THIRD: [u8; 6] = [2, 0, 0, 0, 0, 9];
const GROUP: [u8; 6] = [0xff; 6];

fn link(source: [u8; 6], destination: [u8; 6]) -> Option<LinkAddresses> {
    Some(LinkAddresses { source, destination })
}

fn interface(index: u32, hardware: [u8; 6], kind: Kind) -> Interface {
    Interface {
        index,
        hardware: Some(hardware),
        captured: true,
        kind,
        ..Interface::default()
    }
}

/// 1: eth0 with VLAN 10 (2) and a macvlan (3); 4: bridge with port 5; 6: bond with slave 7; 8: VLAN that is not captured.
fn stack() -> Stack {
    Stack::new(&[
        interface(1, ETH, Kind::Other),
        Interface {
            lower: Some(1),
            ..interface(2, ETH, Kind::Vlan(10))
        },
        Interface {
            lower: Some(1),
            ..interface(3, MACVLAN, Kind::Macvlan)
        },
        interface(4, BRIDGE, Kind::Bridge),
        Interface {
            master: Some(4),
            ..interface(5, [0; 6], Kind::Other)
        },
        interface(6, ETH, Kind::Bond),
        Interface {
            master: Some(6),
            ..interface(7, ETH, Kind::Other)
        },
        Interface {
            lower: Some(1),
            captured: false,
            ..interface(8, ETH, Kind::Vlan(20))
        },
    ])
}

#[test]
fn the_capture_is_believed_and_hardware_decides_where_it_is_silent() {
    let stack = stack();
    let cases = [
        (Seen::Outgoing, link(ETH, THEIRS), Way::Out),
        (Seen::ForUs, link(THEIRS, ETH), Way::In),
        (Seen::ForOther, link(THEIRS, THIRD), Way::Overheard),
        (Seen::ForOther, link(THEIRS, BRIDGE), Way::In),
        (Seen::Untold, link(ETH, THEIRS), Way::Out),
        (Seen::Untold, link(THEIRS, ETH), Way::In),
        (Seen::Untold, link(THEIRS, GROUP), Way::In),
        (Seen::Untold, link(THEIRS, THIRD), Way::Overheard),
        (Seen::Untold, link([0; 6], THIRD), Way::Overheard),
        (Seen::Untold, None, Way::Unknown),
        (Seen::Outgoing, None, Way::Out),
    ];
    for (seen, addresses, expected) in cases {
        assert_eq!(
            stack.way(1, seen, None, addresses),
            expected,
            "{seen:?} {addresses:?}"
        );
    }
}

#[test]
fn frames_of_an_upper_interface_are_stacked_on_the_lower_one() {
    let stack = stack();
    let cases = [
        (1, Seen::ForUs, Some(10), link(THEIRS, ETH), Way::StackedIn),
        (1, Seen::Outgoing, Some(10), link(ETH, THEIRS), Way::StackedOut),
        (1, Seen::ForUs, Some(20), link(THEIRS, ETH), Way::In),
        (1, Seen::ForOther, None, link(THEIRS, MACVLAN), Way::StackedIn),
        (1, Seen::Outgoing, None, link(MACVLAN, THEIRS), Way::StackedOut),
        (2, Seen::ForUs, None, link(THEIRS, ETH), Way::In),
        (7, Seen::ForUs, None, link(THEIRS, ETH), Way::StackedIn),
        (7, Seen::Outgoing, None, link(ETH, THEIRS), Way::StackedOut),
    ];
    for (index, seen, vlan, addresses, expected) in cases {
        assert_eq!(
            stack.way(index, seen, vlan, addresses),
            expected,
            "{index} {seen:?} {vlan:?} {addresses:?}"
        );
    }
}

#[test]
fn a_bridge_port_carries_the_bridges_own_frames_and_those_of_other_ports() {
    let stack = stack();
    let cases = [
        (Seen::ForOther, link(THEIRS, BRIDGE), Way::StackedIn),
        (Seen::ForUs, link(THEIRS, GROUP), Way::StackedIn),
        (Seen::Outgoing, link(BRIDGE, THEIRS), Way::StackedOut),
        (Seen::ForOther, link(THEIRS, THIRD), Way::BridgedIn),
        (Seen::Outgoing, link(THEIRS, THIRD), Way::BridgedOut),
    ];
    for (seen, addresses, expected) in cases {
        assert_eq!(
            stack.way(5, seen, None, addresses),
            expected,
            "{seen:?} {addresses:?}"
        );
    }
}
