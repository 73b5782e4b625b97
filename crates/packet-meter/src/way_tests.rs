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

fn interface(index: u32, hardware: [u8; 6], kind: InterfaceKind) -> StackInterface {
    StackInterface {
        index,
        hardware: Some(hardware),
        captured: true,
        kind,
        ..StackInterface::default()
    }
}

/// 1: eth0 with VLAN 10 (2) and a macvlan (3); 4: bridge with port 5; 6: bond with slave 7; 8: VLAN that is not
/// captured.
fn stack() -> InterfaceStack {
    InterfaceStack::new(&[
        interface(1, ETH, InterfaceKind::Other),
        StackInterface {
            lower: Some(1),
            ..interface(2, ETH, InterfaceKind::Vlan(10))
        },
        StackInterface {
            lower: Some(1),
            ..interface(3, MACVLAN, InterfaceKind::Macvlan)
        },
        interface(4, BRIDGE, InterfaceKind::Bridge),
        StackInterface {
            master: Some(4),
            ..interface(5, [0; 6], InterfaceKind::Other)
        },
        interface(6, ETH, InterfaceKind::Bond),
        StackInterface {
            master: Some(6),
            ..interface(7, ETH, InterfaceKind::Other)
        },
        StackInterface {
            lower: Some(1),
            captured: false,
            ..interface(8, ETH, InterfaceKind::Vlan(20))
        },
    ])
}

#[test]
fn the_capture_is_believed_and_hardware_decides_where_it_is_silent() {
    let stack = stack();
    let cases = [
        (PacketType::Outgoing, link(ETH, THEIRS), FrameCrossing::Out),
        (PacketType::ForUs, link(THEIRS, ETH), FrameCrossing::In),
        (
            PacketType::ForOther,
            link(THEIRS, THIRD),
            FrameCrossing::Overheard,
        ),
        (PacketType::ForOther, link(THEIRS, BRIDGE), FrameCrossing::In),
        (PacketType::Untold, link(ETH, THEIRS), FrameCrossing::Out),
        (PacketType::Untold, link(THEIRS, ETH), FrameCrossing::In),
        (PacketType::Untold, link(THEIRS, GROUP), FrameCrossing::In),
        (PacketType::Untold, link(THEIRS, THIRD), FrameCrossing::Overheard),
        (PacketType::Untold, link([0; 6], THIRD), FrameCrossing::Overheard),
        (PacketType::Untold, None, FrameCrossing::Unknown),
        (PacketType::Outgoing, None, FrameCrossing::Out),
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
    use FrameCrossing::{In, StackedIn, StackedOut};
    use PacketType::{ForOther, ForUs, Outgoing};
    let stack = stack();
    let cases = [
        (1, ForUs, Some(10), link(THEIRS, ETH), StackedIn),
        (1, Outgoing, Some(10), link(ETH, THEIRS), StackedOut),
        (1, ForUs, Some(20), link(THEIRS, ETH), In),
        (1, ForOther, None, link(THEIRS, MACVLAN), StackedIn),
        (1, Outgoing, None, link(MACVLAN, THEIRS), StackedOut),
        (2, ForUs, None, link(THEIRS, ETH), In),
        (7, ForUs, None, link(THEIRS, ETH), StackedIn),
        (7, Outgoing, None, link(ETH, THEIRS), StackedOut),
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
        (
            PacketType::ForOther,
            link(THEIRS, BRIDGE),
            FrameCrossing::StackedIn,
        ),
        (PacketType::ForUs, link(THEIRS, GROUP), FrameCrossing::StackedIn),
        (
            PacketType::Outgoing,
            link(BRIDGE, THEIRS),
            FrameCrossing::StackedOut,
        ),
        (
            PacketType::ForOther,
            link(THEIRS, THIRD),
            FrameCrossing::BridgedIn,
        ),
        (
            PacketType::Outgoing,
            link(THEIRS, THIRD),
            FrameCrossing::BridgedOut,
        ),
    ];
    for (seen, addresses, expected) in cases {
        assert_eq!(
            stack.way(5, seen, None, addresses),
            expected,
            "{seen:?} {addresses:?}"
        );
    }
}
