//! What connection tracking knows of a packet, and that it is to know nothing; and whose its source is.

use nf_tables::{Bitwise, Comparison, Conntrack, ConntrackKey, Expression, Fib, Notrack, Operator};

use super::{Conditions, Rule};

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

    /// Its source is no address of this host's.
    pub(in crate::quarantine::ruleset) fn sent_by_others(self) -> Self {
        self.said("fib saddr type != local")
            .step(Fib::source_type())
            .step(Comparison::first(Operator::NotEqual, Fib::LOCAL.to_ne_bytes()))
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
