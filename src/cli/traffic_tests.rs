//! Words of the page are those of `--json`.

use super::*;

#[test]
fn names_of_reasons_are_those_of_the_agent() {
    for reason in [
        UnattributedReason::NotIp,
        UnattributedReason::Unparsed,
        UnattributedReason::NoPorts,
        UnattributedReason::NoSocket,
        UnattributedReason::NotAccepted,
        UnattributedReason::NoProcess,
        UnattributedReason::LookupFailed,
        UnattributedReason::Foreign,
    ] {
        let (name, meaning) = in_words(reason);
        assert_eq!(serde_json::to_value(reason).unwrap(), name);
        assert_ne!(meaning, "", "{name}");
    }
}

#[test]
fn names_of_protocols_are_those_of_the_agent() {
    let address = "192.0.2.1".parse().unwrap();
    for protocol in [
        IpProtocol::Tcp,
        IpProtocol::Udp,
        IpProtocol::Icmp,
        IpProtocol::Icmpv6,
    ] {
        let name = serde_json::to_value(protocol).unwrap();
        assert_eq!(
            end(protocol, address, 0),
            format!("{} 192.0.2.1", name.as_str().unwrap())
        );
    }
    assert_eq!(end(IpProtocol::Other(47), address, 0), "protocol 47 192.0.2.1");
}
