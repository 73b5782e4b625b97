//! What is taken for an answer, where connection tracking knows the flow and where somebody's rules keep it from there.
//!
//! In: conditions that a packet's address and port meet. Out: the rules that let its answers in. Others' `notrack` cuts no
//! lifeline: what they keep from connection tracking is told by address and port alone, because nothing else is left.

use std::collections::BTreeSet;

use super::Rule;
use super::conditions::{Bucket, Conditions, Rate, TimeUnit};
use super::rules::RuleWriter;
use crate::Gather;
use crate::quarantine::lifelines::ways::InterfaceName;
use crate::quarantine::orders::order::Posture;

/// Errors that somebody's rules keep from connection tracking belong to no flow that is known: as long as an honest host makes
/// them at most (RFC 4443; RFC 1812 has less), at the pace of a path that changes.
const ERROR_LENGTH: u32 = 1_280;
const ERROR_RATE: Rate = Rate {
    packets: 10,
    per: TimeUnit::Second,
    burst: 20,
};

/// Datagrams that answer ours.
pub(super) fn udp_answers(condition: &Conditions, what: &str) -> [Rule; 2] {
    with_untracked(condition, |tracked| tracked.established().reply(), what)
}

/// Segments of connections of ours.
pub(super) fn segments(condition: &Conditions, what: &str) -> [Rule; 2] {
    with_untracked(condition, Conditions::reply, what)
}

fn with_untracked(
    condition: &Conditions,
    known: impl FnOnce(Conditions) -> Conditions,
    what: &str,
) -> [Rule; 2] {
    let untracked = condition.clone().untracked();
    [
        known(condition.clone()).accept(what),
        untracked.accept(&format!("{what}-untracked")),
    ]
}

/// An error of which nobody can tell whose it is: small, and few.
pub(super) fn untracked_error(condition: Conditions, what: &str) -> Rule {
    let small = condition.untracked().at_most(ERROR_LENGTH);
    small.at_rate(Bucket::Arrival, what, ERROR_RATE).accept(what)
}

impl RuleWriter<'_> {
    /// Interfaces by which a lifeline's answers may arrive: all that are a way to one. What comes by others only says that it is
    /// from there. None where they may be any: where lifelines are not tied, or what does not go to them is not cut either.
    pub(super) fn uplinks(&self) -> Vec<InterfaceName> {
        let ways = self.elements.ways.iter();
        let isolated = ways.filter(|_| self.plan.posture == Posture::Isolate);
        let all: BTreeSet<_> = isolated.map(|way| way.interface).in_set();
        all.into_iter().collect()
    }
}
