//! Which flows connection tracking is to forget while its table is crowded.
//!
//! In: a plan, a flow as the table has it, our own addresses. Out: [`Fate`]. A crowded table drops what begins anew before any rule
//! of ours sees it, the control channel too. What the plan cuts takes room for nothing, for five days where it was an open
//! connection; what stays inside of the device is not tracked meanwhile ([`Hooks::crowded`]). Flows that may pass are left alone:
//! some hosts drop what connection tracking has not seen from its beginning. Where this could differ from the rules it keeps.
//!
//! [`Hooks::crowded`]: crate::quarantine::ruleset::Hooks::crowded

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::Plan;
use super::severed::{SocketEnds, is_blocked_port, is_cut, is_lifeline};
use crate::quarantine::orders::order::{Posture, Protocol};

/// From so many quarters of the table on it is crowded: what is left is for the time until that is seen.
const CROWDED_QUARTERS: u64 = 3;

/// How full the table of connection tracking is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// Flows in it.
    pub flows: u32,
    /// Flows that it takes; 0 for one without a bound.
    pub most: u32,
}

impl Crowd {
    /// Whether there is little room left.
    #[must_use]
    pub fn is_crowded(self) -> bool {
        self.most > 0 && u64::from(self.flows) * 4 >= u64::from(self.most) * CROWDED_QUARTERS
    }

    /// Whether it is half full at least: something goes on to fill it.
    #[must_use]
    pub fn is_half_full(self) -> bool {
        self.most > 0 && u64::from(self.flows) * 2 >= u64::from(self.most)
    }
}

/// What is told of a table that was crowded.
impl fmt::Display for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flows, most } = self;
        write!(
            f,
            "connection tracking was crowded, {flows} of {most} flows: until nothing is cut any more it does not track what stays \
             inside of this device, and cut flows are taken out of it"
        )
    }
}

/// The protocol of a flow, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowKind {
    /// Of ports.
    Ports(Protocol),
    /// Questions and errors of ICMP: they are gone in half a minute, and make room when it is needed.
    Icmp,
    /// Anything else, which no lifeline and no allowance has.
    Other,
}

/// A flow as connection tracking has it: two directions, which differ where addresses are translated. Ports are 0 where it has
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackedFlow {
    pub kind: FlowKind,
    /// From where to where its first packet went.
    pub began: (SocketAddr, SocketAddr),
    /// The same of answers.
    pub answers: (SocketAddr, SocketAddr),
}

/// What becomes of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Kept,
    Forgotten,
    /// One of TCP to a lifeline. Anybody may have opened it, and it would stay for days: it is forgotten unless one of these is the
    /// connection of somebody who may use the lifeline as he likes.
    ForgottenUnlessOf([SocketEnds; 2]),
}

/// What becomes of a flow under `plan`; `own` are the addresses of this device.
#[must_use]
pub fn fate(plan: &Plan, flow: &TrackedFlow, own: &BTreeSet<IpAddr>) -> Fate {
    let is_own = |end: SocketAddr| end.ip().is_loopback() || own.contains(&end.ip());
    let ((from, to), (answering, answered)) = (flow.began, flow.answers);
    let (begins_here, ends_here) = (is_own(from), is_own(to) || is_own(answering));
    if plan.is_normal() || flow.kind == FlowKind::Icmp {
        return Fate::Kept;
    }
    if begins_here && is_own(to) && is_own(answering) {
        return Fate::Forgotten;
    }
    let FlowKind::Ports(protocol) = flow.kind else {
        let remotes = [from, to, answering].map(|end| end.ip());
        let blocked = remotes.into_iter().any(|remote| plan.blocks_remote(remote));
        return forgotten_if(plan.posture == Posture::Isolate || blocked);
    };
    let ends = |local, remote| SocketEnds {
        protocol,
        local,
        remote,
    };
    let views = match (begins_here, ends_here) {
        (true, _) => [ends(from, to), ends(from, answering)],
        (false, true) => [ends(to, from), ends(answering, from)],
        // Nothing is forwarded in isolation. An address of ours that was not listed looks alike.
        (false, false) => [ends(from, answering), ends(answering, from)],
    };
    let is_through = !begins_here && !ends_here;
    if protocol == Protocol::Tcp && views.iter().any(|view| is_lifeline(plan, view)) {
        let opened = [ends(from, to), ends(answering, answered)];
        return if plan.posture == Posture::Isolate {
            Fate::ForgottenUnlessOf(opened)
        } else {
            Fate::Kept
        };
    }
    let cut = if is_through {
        let by_name = |view: &SocketEnds| plan.blocks_remote(view.remote.ip()) || is_blocked_port(plan, view);
        plan.posture == Posture::Isolate || views.iter().any(by_name)
    } else {
        views.iter().all(|view| is_cut(plan, view))
    };
    forgotten_if(cut)
}

const fn forgotten_if(cut: bool) -> Fate {
    if cut { Fate::Forgotten } else { Fate::Kept }
}

#[cfg(test)]
#[path = "tracked_tests.rs"]
mod tests;
