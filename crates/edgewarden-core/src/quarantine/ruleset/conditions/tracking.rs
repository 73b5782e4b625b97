//! What connection tracking knows of a packet, and that it is to know nothing; and whose its source is.

use std::net::IpAddr;

use nf_tables::{
    Bitwise, Comparison, Conntrack, ConntrackKey, Expression, Fib, KeyType, Notrack, Operator, TypeOf,
};

use super::{Conditions, Rule, ip, octets};

/// What every IPv4 address begins with that never leaves its host.
const INSIDE4: u8 = 127;

impl Conditions {
    /// What is like that is not tracked.
    pub(in crate::quarantine::ruleset) fn notrack(self, what: &str) -> Rule {
        let kept = self.said("notrack").step(Notrack {});
        Rule::new(what, kept.text, kept.expressions, None)
    }

    /// Connection tracking knows it as part of another flow, as an error about it is.
    pub(in crate::quarantine::ruleset) fn related(self) -> Self {
        self.state("related", Conntrack::RELATED)
    }

    /// Connection tracking has seen its flow go both ways.
    pub(in crate::quarantine::ruleset) fn established(self) -> Self {
        self.state("established", Conntrack::ESTABLISHED)
    }

    /// Somebody's rule keeps it from connection tracking.
    pub(in crate::quarantine::ruleset) fn untracked(self) -> Self {
        self.state("untracked", Conntrack::UNTRACKED)
    }

    /// Somebody's rule leads its flow elsewhere than its first packet said.
    pub(in crate::quarantine::ruleset) fn redirected(self) -> Self {
        self.has(("status", ConntrackKey::Status), "dnat", Conntrack::REDIRECTED)
    }

    /// Whoever answers its flow has an IPv4 address that never leaves this host.
    pub(in crate::quarantine::ruleset) fn answered_inside4(self) -> Self {
        self.said(format_args!("ct reply ip saddr {INSIDE4}.0.0.0/8"))
            .step(Conntrack::answers_from(true))
            .step(Expression::equal([INSIDE4]))
    }

    /// Whoever answers its flow has one of these addresses, which are of one family.
    pub(in crate::quarantine::ruleset) fn answered_by(self, v4: bool, addresses: &[IpAddr]) -> Self {
        let names: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        let (key_type, key) = if v4 {
            (KeyType::IPV4, ConntrackKey::Source4)
        } else {
            (KeyType::IPV6, ConntrackKey::Source6)
        };
        let [reply] = Conntrack::REPLY;
        let type_of = TypeOf::Conntrack {
            key: key.number(),
            direction: reply.into(),
        };
        let values = addresses.iter().map(|address| octets(*address));
        self.said(format_args!(
            "ct reply {} saddr {{ {} }}",
            ip(v4),
            names.join(", ")
        ))
        .step(Conntrack::answers_from(v4))
        .one_of(key_type, type_of, values)
    }

    /// Its source is no address of this host's.
    pub(in crate::quarantine::ruleset) fn sent_by_others(self) -> Self {
        self.said("fib saddr type != local")
            .step(Fib::source_type())
            .step(Comparison::first(Operator::NotEqual, Fib::LOCAL.to_ne_bytes()))
    }

    /// Its source is an address of this host's.
    pub(in crate::quarantine::ruleset) fn sent_from_here(self) -> Self {
        self.said("fib saddr type local")
            .step(Fib::source_type())
            .step(Expression::equal(Fib::LOCAL.to_ne_bytes()))
    }

    /// Its destination is no other host's.
    pub(in crate::quarantine::ruleset) fn stays_here(self) -> Self {
        self.said("fib daddr type != unicast")
            .step(Fib::destination_type())
            .step(Comparison::first(Operator::NotEqual, Fib::UNICAST.to_ne_bytes()))
    }

    fn state(self, name: &str, bit: u32) -> Self {
        self.has(("state", ConntrackKey::State), name, bit)
    }

    fn has(self, (word, key): (&str, ConntrackKey), name: &str, bit: u32) -> Self {
        self.said(format_args!("ct {word} {name}"))
            .step(Conntrack::first(key))
            .step(Bitwise::mask(bit.to_ne_bytes()))
            .step(Comparison::first(Operator::NotEqual, [0; 4]))
    }

    /// It answers the flow's first packet.
    pub(in crate::quarantine::ruleset) fn reply(self) -> Self {
        self.said("ct direction reply")
            .step(Conntrack::first(ConntrackKey::Direction))
            .step(Expression::equal(Conntrack::REPLY))
    }
}
