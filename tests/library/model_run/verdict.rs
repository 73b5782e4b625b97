//! What one of our rules means for a probe: its statement is read here anew, and one that is not understood fails the run.

use std::net::SocketAddr;

use edgewarden::quarantine::ruleset::SetElements;

use crate::reference::{PORTS, REMOTES, address};

/// Where nothing leads that any order allows.
pub(super) fn canary() -> SocketAddr {
    "203.0.113.254:9".parse().unwrap()
}

/// Every remote and port that orders are about.
pub(super) fn probes() -> impl Iterator<Item = SocketAddr> {
    (0..REMOTES.len())
        .flat_map(|remote| PORTS.map(|port| SocketAddr::new(address(remote).parse().unwrap(), port)))
}

/// The verdict of one rule for a UDP datagram that leaves by an Ethernet interface from port 50,000; none when it does not
/// match.
pub(super) fn verdict(rule: &str, to: SocketAddr, elements: &SetElements) -> Option<bool> {
    let accepts = match rule.rsplit(' ').next() {
        Some("accept") => true,
        Some("drop") => false,
        // It is known no less where it goes.
        Some("notrack") => return None,
        // A stream of TCP is noted.
        Some("}") if rule.contains(" update @streams") => return None,
        _ => panic!("a rule without verdict: {rule}"),
    };
    let (conditions, _) = rule.rsplit_once(' ').unwrap_or(("", rule));
    let conditions = conditions.split(" counter name ").next().unwrap_or_default();
    let conditions = conditions
        .strip_prefix("counter name ")
        .map_or(conditions, |_| "");
    // The probes are root's, and no share of others is ever used up.
    let by_others = conditions.starts_with("meta skuid <") || conditions.starts_with("meta skuid >");
    let is_long = conditions.contains("meta length > ");
    if by_others || is_long || conditions.contains("limit rate over") {
        return None;
    }
    let conditions = conditions.trim_start_matches("meta skuid 0 ");
    let v4 = to.is_ipv4();
    let listed = |text: &str| -> Vec<u16> {
        let each = text.trim_matches(['{', '}', ' ']).split(',');
        each.map(|port| port.trim().parse().unwrap()).collect()
    };
    let matches = match conditions {
        "" => true,
        text if text.starts_with("meta oiftype loopback") => false,
        "ip daddr @hosts4" | "ip6 daddr @hosts6" => elements.hosts.iter().any(|(host, _)| *host == to.ip()),
        "ip daddr @nets4" | "ip6 daddr @nets6" => elements.nets.iter().any(|(net, _)| net.contains(&to.ip())),
        // It leaves as it is routed.
        text if text.contains("daddr . meta l4proto . th dport @") => {
            let is_tied = text.contains(" @ways");
            let keys = if text.contains("dport @nucleus") {
                &elements.nucleus
            } else {
                &elements.endpoints
            };
            let known = keys.iter().any(|(address, protocol, port)| {
                (*address, protocol.to_string().as_str(), *port) == (to.ip(), "udp", to.port())
            });
            known && (!is_tied || elements.ways.iter().any(|way| way.address == to.ip()))
        }
        // Probes have no options.
        text if text.starts_with("ip hdrlength") => false,
        // Answers, addresses of ours, other protocols.
        text if text.contains(" saddr ") || text.contains("sport") || text.contains("tcp ") => false,
        text if text.starts_with("tcp") || text.contains("icmp") || text.ends_with(" exists") => false,
        text if text.starts_with("udp dport") => {
            listed(text.trim_start_matches("udp dport")).contains(&to.port())
        }
        text => {
            let words: Vec<&str> = text.splitn(6, ' ').collect();
            let [family, "daddr", remote, protocol, "dport", ports] = words.as_slice() else {
                panic!("what does `{text}` mean?");
            };
            let net: ipnet::IpNet = remote.parse().unwrap();
            (*family == "ip") == v4
                && *protocol == "udp"
                && net.contains(&to.ip())
                && listed(ports).contains(&to.port())
        }
    };
    matches.then_some(accepts)
}
