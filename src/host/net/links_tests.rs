//! Messages written byte by byte, and the real loopback interface.

use super::*;
use crate::host::net::netlink::push_attribute;

fn message(flags: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 1, 0];
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 4]);
    for (number, value) in attributes {
        push_attribute(&mut bytes, *number, false, value);
    }
    bytes
}

#[test]
fn a_vlan_on_another_interface_is_told_and_counters_are_64_bits_wide() {
    let (mut data, mut info, mut counters) = (Vec::new(), Vec::new(), Vec::new());
    push_attribute(&mut data, 1, false, &10_u16.to_ne_bytes());
    push_attribute(&mut info, 1, false, b"vlan\0");
    push_attribute(&mut info, 2, true, &data);
    for number in [9_u64, 3, 4_730_000_000_000, 12, 0, 0] {
        counters.extend(number.to_ne_bytes());
    }
    let attributes: [(u16, &[u8]); 7] = [
        (3, b"eth0.10\0"),
        (1, &[2, 0, 0, 0, 0, 1]),
        (5, &3_u32.to_ne_bytes()),
        (10, &4_u32.to_ne_bytes()),
        (18, &info),
        (23, &counters),
        (9_999, b"from a newer kernel"),
    ];
    let link = link_of(&message(0x41, &attributes)).unwrap();
    assert_eq!((link.name.as_str(), link.index, link.up), ("eth0.10", 7, true));
    assert_eq!(
        (link.lower, link.master, link.device),
        (Some(3), Some(4), InterfaceKind::Vlan(10))
    );
    assert_eq!(
        link.counters,
        Counters {
            bytes_in: 4_730_000_000_000,
            bytes_out: 12,
            packets_in: 9,
            packets_out: 3,
        }
    );
    let elsewhere = [attributes[0], attributes[2], (37, &[0, 0, 0, 0])];
    assert_eq!(
        link_of(&message(0, &elsewhere)).unwrap().lower,
        None,
        "the other end of a veth"
    );
}

#[test]
fn cut_messages_are_passed_over() {
    let whole = message(1, &[(3, b"eth0000\0")]);
    assert!(link_of(&whole).is_some());
    for length in 0..whole.len() {
        // What is cut within the name has none.
        assert!(link_of(&whole[..length]).is_none(), "{length} bytes");
    }
}

#[test]
fn loopback_is_listed_but_not_counted() {
    let links = links().unwrap();
    let lo = links.iter().find(|link| link.loopback).unwrap();
    assert_eq!((lo.name.as_str(), lo.kind), ("lo", LinkKind::Ethernet));
    assert!(lo.addresses.contains(&"127.0.0.1".parse().unwrap()));
    assert!(lo.networks.contains(&"127.0.0.1/8".parse().unwrap()));
    assert!(counters().unwrap().iter().all(|counters| counters.name != "lo"));
}
