//! What goes and arrives by loopback: the device's own, and nobody's word for a lifeline.
//!
//! In: the plan. Out: the rules that come before all others of what arrives, and what of packets that leave stays inside. Loopback is told by the interface, so whoever may make
//! packets by hand (`CAP_NET_RAW`) can put one there that says to come from the cloud, a resolver or a time server, and end or
//! forge a connection of the nucleus'. What really comes from there arrives by an uplink. Told by what the packet says and not by
//! its flow: a packet that connection tracking makes nothing of may still be believed by its socket. A tunnel of this device
//! unwraps what anybody here sends to its port, and what was inside arrives by the tunnel or leaves by its bridge: nobody honest
//! wraps for himself. Absent: errors (ICMP) about a lifeline's packets, which the kernel itself sends over loopback.

use std::net::{IpAddr, Ipv6Addr};

use super::conditions::{Conditions, End};
use super::rules::{DISGUISED, DNS, HookPath, RuleWriter, on};
use super::shares::FIRST_OTHER;
use super::{Lack, Rule};
use crate::quarantine::orders::order::Protocol;
use crate::quarantine::ruleset::Layer;

/// IP protocols that carry packets or frames: IP in IP, IPv6 in IP, GRE, Ethernet in IP, L2TP.
const WRAPPING: [u8; 5] = [4, 41, 47, 97, 115];

impl RuleWriter<'_> {
    /// All of it. A resolver on an address of ours is a stub of this host's.
    pub(super) fn inside(&self) -> Vec<Rule> {
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
        let mut rules = self.wrapped(reason);
        rules.extend(self.redirected());
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

    /// What the device sends to itself. Where somebody's rule leads to another host what was meant for an address of ours, the
    /// hook still says that it leaves by loopback.
    pub(super) fn to_itself(&self) -> Conditions {
        let inside = on(Layer::Inet).loopback(End::Destination);
        if self.hooks.lacks.contains(&Lack::Fib) {
            inside
        } else {
            inside.stays_here()
        }
    }

    /// What somebody here has wrapped for a tunnel of this device. Of what he sends to all hosts of a link our own copy comes by that
    /// link.
    fn wrapped(&self, reason: &str) -> Vec<Rule> {
        let cut = |like: Conditions| self.cut("wrapped", like, HookPath::In, reason);
        let ports: Vec<u16> = self.hooks.unwrapping.iter().copied().collect();
        let wrapping = || on(Layer::Inet).of_protocols(&WRAPPING);
        let mut like = vec![wrapping().loopback(End::Source), wrapping().sent_from_here()];
        if !ports.is_empty() {
            let datagrams = on(Layer::Inet).ports(Protocol::Udp, End::Destination, &ports);
            like.push(datagrams.clone().loopback(End::Source));
            like.push(datagrams.sent_from_here());
        }
        like.into_iter().map(cut).collect()
    }

    /// The same where it leaves, in the name of an address that is none of ours: the copy that comes back of what goes to all hosts of a
    /// link says no more who has made it.
    pub(super) fn wrapped_in_others_names(&self) -> Vec<Rule> {
        let Some(reason) = self.guarded() else {
            return Vec::new();
        };
        let ports: Vec<u16> = self.hooks.unwrapping.iter().copied().collect();
        let datagrams = on(Layer::Inet).ports(Protocol::Udp, End::Destination, &ports);
        let datagrams = (!ports.is_empty()).then_some(datagrams);
        let like = datagrams
            .into_iter()
            .chain([on(Layer::Inet).of_protocols(&WRAPPING)]);
        like.map(|like| self.cut("wrapped-as-others", like.sent_by_others(), HookPath::Out, reason))
            .collect()
    }

    /// What is made by hand as if it came from a lifeline: who gets it on another link may hand it back.
    pub(super) fn answers_by_hand(&self) -> Vec<(&'static str, Conditions)> {
        let ends = [
            ("endpoints4", true),
            ("nucleus4", true),
            ("endpoints6", false),
            ("nucleus6", false),
        ];
        ends.map(|(set, v4)| {
            let made = on(Layer::Netdev).sent_from(FIRST_OTHER).made_here();
            ("answer-by-hand", made.endpoint_in(v4, End::Source, set))
        })
        .into()
    }

    /// What the owner has redirected to a program here is answered here in the name of whom it was meant for. Where he leads it to
    /// another place outside, nothing here answers it.
    fn redirected(&self) -> Vec<Rule> {
        let answers = || inside().redirected().reply();
        let mut rules = vec![answers().answered_inside4().accept("redirected")];
        let inside6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let (own4, own6): (Vec<IpAddr>, Vec<_>) = (self.hooks.own.iter().copied()).partition(IpAddr::is_ipv4);
        let own6 = [vec![inside6], own6].concat();
        for (v4, own) in [(true, own4), (false, own6)] {
            if !own.is_empty() {
                rules.push(answers().answered_by(v4, &own).accept("redirected-own"));
            }
        }
        rules
    }
}

fn inside() -> Conditions {
    on(Layer::Inet).loopback(End::Source)
}
