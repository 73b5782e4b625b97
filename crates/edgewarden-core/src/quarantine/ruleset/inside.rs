//! What arrives by loopback: the device's own, and nobody's word for a lifeline.
//!
//! In: the plan. Out: the rules that come before all others of what arrives. Loopback is told by the interface, so whoever may make
//! packets by hand (`CAP_NET_RAW`) can put one there that says to come from the cloud, a resolver or a time server, and end or
//! forge a connection of the nucleus'. What really comes from there arrives by an uplink. Told by what the packet says and not by
//! its flow: a packet that connection tracking makes nothing of may still be believed by its socket. Absent: errors (ICMP) about
//! a lifeline's packets, which the kernel itself sends over loopback.

use super::Rule;
use super::conditions::{Conditions, End};
use super::rules::{DISGUISED, DNS, HookPath, RuleWriter, on};
use crate::quarantine::orders::order::Protocol;
use crate::quarantine::ruleset::Layer;

impl RuleWriter<'_> {
    /// All of it. A resolver on an address of ours is a stub of this host's, and what its owner has redirected to a program here
    /// is answered here in the name of whom it was meant for.
    pub(super) fn inside(&self) -> Vec<Rule> {
        let inside = || on(Layer::Inet).loopback(End::Source);
        let reason = self.unreadable().unwrap_or(DISGUISED);
        // Loopback comes second: nft takes an address behind it for one of another protocol.
        let claims = |what: &str, like: Conditions| {
            self.cut(
                &format!("claims-{what}"),
                like.loopback(End::Source).sent_by_others(),
                HookPath::In,
                reason,
            )
        };
        let mut rules = vec![inside().redirected().accept("redirected")];
        for (suffix, v4) in [('4', true), ('6', false)] {
            for (what, set) in [("endpoint", "endpoints"), ("uplink", "nucleus")] {
                let like = on(Layer::Inet).endpoint_in(v4, End::Source, &format!("{set}{suffix}"));
                rules.push(claims(&format!("{what}{suffix}"), like));
            }
        }
        let wide = self.wide_ports();
        if !wide.is_empty() {
            let endpoint = on(Layer::Inet).ports(Protocol::Tcp, End::Source, &wide);
            rules.push(claims("endpoint-wide", endpoint));
            let names = on(Layer::Inet).port(Protocol::Udp, End::Source, DNS);
            rules.push(claims("dns-wide", names));
        }
        rules.push(inside().accept("loopback"));
        rules
    }
}
