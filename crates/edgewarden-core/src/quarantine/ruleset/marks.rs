//! What has passed our rules is marked, for kernels whose hook of interfaces takes no rules (before Linux 5.16).
//!
//! In: the mark, a number that nobody can guess. Out: the chains that set it, behind all others of the IP stack and where this
//! namespace's own ARP leaves. What goes by an interface without it has passed neither, and [`Barrier`](super::Barrier) drops it there. What
//! stays on loopback has none. Other namespaces do not learn it, but by a macvlan of the host's own; in this one the kernel tells
//! it to anybody who lists filters, and who may give it to a frame may also send round every filter. Absent: restrictions, in
//! which the owner's own marks
//! must stay; and the marks that isolated packets had before, which nothing behind routing gets to see.

use nf_tables::{Batch, Hook};

use super::conditions::Conditions;
use super::rules::{RuleWriter, on};
use super::{CarriedCounters, Chain, CutAction, Layer, Ruleset, SetElements, Table};
use crate::quarantine::lifelines::ways::InterfaceName;
use crate::quarantine::orders::order::Posture;

/// The name of both chains.
pub(super) const MARKED: &str = "marked";
/// Behind all others: nobody changes it any more.
const LAST: i32 = i32::MAX;
/// The number of the hook by which ARP leaves (`NF_ARP_OUT`).
pub(super) const ARP_OUTPUT: u32 = Hook::INPUT;

/// The chain behind the IP stack's others.
pub(super) fn stack_chain(mark: u32) -> Chain {
    let inside = InterfaceName::new("lo").into_iter().collect::<Vec<_>>();
    let leaves = on(Layer::Inet).leaves_by_none_of(&inside);
    chain("postrouting", leaves.marked(MARKED, mark))
}

/// The table of what the kernel says by ARP.
pub(super) fn arp_table(mark: u32) -> Table {
    Table {
        layer: Layer::Arp,
        has_endpoints: false,
        chains: vec![chain("output", Conditions::of(Layer::Arp).marked(MARKED, mark))],
    }
}

fn chain(hook: &'static str, rule: super::Rule) -> Chain {
    Chain {
        name: MARKED,
        hook,
        priority: LAST,
        devices: Vec::new(),
        policy: "accept",
        rules: vec![rule],
    }
}

impl RuleWriter<'_> {
    /// The mark that what passes gets; none where nothing asks for it.
    pub(super) fn mark(&self) -> Option<u32> {
        let isolates = self.plan.posture == Posture::Isolate && self.effect == CutAction::Cut;
        self.hooks.mark.filter(|_| isolates)
    }
}

/// Transactions that try out in a namespace of their own what a kernel takes: a hook of interfaces, of that of loopback; and marks.
#[must_use]
pub fn egress_trials() -> [Batch; 2] {
    let batch = |tables| {
        let ruleset = Ruleset {
            tables,
            elements: SetElements::default(),
            limits: Vec::new(),
        };
        ruleset.load_batch(
            &Default::default(),
            &CarriedCounters::default(),
            jiff::Timestamp::UNIX_EPOCH,
        )
    };
    let table = |layer, chain| Table {
        layer,
        has_endpoints: false,
        chains: vec![chain],
    };
    let egress = Chain {
        name: super::EGRESS_CHAINS[0],
        hook: "egress",
        priority: super::PRIORITY,
        devices: vec![super::EgressDevice {
            name: "lo".to_owned(),
            index: 1,
        }],
        policy: "accept",
        rules: Vec::new(),
    };
    [
        batch(vec![table(Layer::Netdev, egress)]),
        batch(vec![table(Layer::Inet, stack_chain(1)), arp_table(1)]),
    ]
}
