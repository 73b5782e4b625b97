//! The nftables text of a plan, and what the kernel must list once it is loaded.
//!
//! In: [`Plan`], the [`Hooks`] that this device has, whether to cut or only to count. Out: [`Ruleset`]: the tables, the
//! elements of their sets, the transaction that loads them whole and the one that changes what differs. Facts about
//! the syntax: docs/reference/nftables.md#syntax.
//!
//! Invariants: only our own tables, `edgewarden` in the families inet, bridge, netdev and arp. `ct state established accept`
//! appears nowhere: a flow lives only while its lifeline or allowance says so, whatever conntrack remembers, so an
//! attacker's open connection dies with the load. TCP replies of lifelines are matched without conntrack (a non-SYN
//! from the endpoint), so a connection that was open before conntrack began to look survives. Lifelines come before
//! blocks: no order can cut them. No packet is marked where the kernel has the hook of interfaces; where it has not, what an isolation lets pass
//! is, behind all routing ([`marks`]).

mod answers;
mod barrier;
mod change;
mod conditions;
mod elements;
mod exceptions;
mod false_claims;
mod hooks;
mod inside;
mod kernel_form;
mod keys;
mod lacking;
mod lies;
mod link_control;
mod link_shares;
mod marks;
mod rules;
mod shares;
mod streams;
mod told_otherwise;
mod trials;
mod untracked;
pub mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use jiff::Timestamp;
use nf_tables::Expression;
use serde::{Deserialize, Serialize};

use super::plan::{Plan, PlannedLimit, Quota};
use crate::Gather;
pub use barrier::{
    Barred, BarredDevice, Barrier, Bound, DROP, EgressMeans, FrameFilter, Instruction, PASS, handle,
    of_handle,
};
pub use change::RuleHandles;
use conditions::FilledSet;
pub use elements::SetElements;
pub use hooks::{EgressDevice, Hooks};
pub use kernel_form::{is_own_table, own_table, removal};
pub use lacking::Lack;
use link_control::CONTROL;
use marks::MARKED;
pub use marks::egress_trials;
use rules::RuleWriter;
use streams::{LEAVING, UNSENT};
pub use trials::trials;
use untracked::{UNTRACKED_IN, UNTRACKED_OUT};

/// Our table's name in every family.
pub const TABLE: &str = "edgewarden";
/// The names that our chains have but for those of interfaces.
const CHAINS: [&str; 10] = [
    "input",
    "forward",
    "output",
    FRAMES,
    LEAVING,
    UNSENT,
    CONTROL,
    UNTRACKED_OUT,
    UNTRACKED_IN,
    MARKED,
];
/// The chain of what is said of frames, to which those of interfaces send them: it stays when interfaces come and go, with all
/// that its rates remember.
const FRAMES: &str = "frames";
/// Priority of our chains: behind destination NAT, so what is compared is where a packet really goes.
const PRIORITY: i32 = 0;
/// The names of the chains of interfaces. A kernel has at most 255 in one chain, and is not asked for half as many.
pub const EGRESS_CHAINS: [&str; 8] = [
    "egress", "egress2", "egress3", "egress4", "egress5", "egress6", "egress7", "egress8",
];
/// Interfaces of each of them.
const DEVICES_OF_A_CHAIN: usize = 128;
/// Interfaces whose egress can be filtered; a gateway with a container per service has some dozens.
pub const MAX_EGRESS_DEVICES: usize = EGRESS_CHAINS.len() * DEVICES_OF_A_CHAIN;

/// What the names of counters begin with where nothing is dropped. Other names, so that neither goes on from the other's
/// count when the mode changes.
pub const WOULD_CUT: &str = "would_";

/// A family in which we have a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// What the IP stack sends, receives and forwards.
    Inet,
    /// Frames that a bridge of this device passes on between others.
    Bridge,
    /// Every frame that leaves through an interface, also those that never saw the IP stack.
    Netdev,
    /// What the kernel says by ARP, which is marked where [`Layer::Netdev`] is refused.
    Arp,
}

/// Whether one of our chains has that name.
#[must_use]
pub fn is_own_chain(name: &str) -> bool {
    CHAINS.contains(&name) || EGRESS_CHAINS.contains(&name)
}

impl Layer {
    pub const ALL: [Self; 4] = [Self::Inet, Self::Bridge, Self::Netdev, Self::Arp];

    /// As nft writes it.
    pub fn family(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
            Self::Arp => "arp",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.family())
    }
}

/// What happens to what a plan cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutAction {
    /// It is dropped.
    Cut,
    /// It is counted and passes.
    Count,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// `ew:<what>:<digest of the statement>`; unique enough to name the rule and to notice another statement.
    pub comment: String,
    /// As nft reads it, without the comment.
    pub statement: String,
    /// The same as the kernel takes it.
    pub expressions: Vec<Expression>,
    /// The counter it counts in.
    counter: Option<String>,
    /// The set that it fills.
    fills: Option<FilledSet>,
}

impl Rule {
    fn new(what: &str, statement: String, expressions: Vec<Expression>, counter: Option<String>) -> Self {
        Self {
            comment: format!("ew:{what}:{:08x}", crc32fast::hash(statement.as_bytes())),
            statement,
            expressions,
            counter,
            fills: None,
        }
    }

    /// Every packet is sent to that chain.
    fn jump(chain: &str) -> Self {
        let jump = nf_tables::SetVerdict::of(nf_tables::Verdict::jump(chain));
        Self::new("jump", format!("jump {chain}"), vec![jump.into()], None)
    }

    /// The same in other words.
    fn said_otherwise(&self, statement: String, expressions: Vec<Expression>) -> Self {
        Self {
            fills: self.fills.clone(),
            ..Self::new(self.what(), statement, expressions, self.counter.clone())
        }
    }

    /// What it is for.
    fn what(&self) -> &str {
        self.comment.split(':').nth(1).unwrap_or_default()
    }

    /// Whether it ends in accept, drop or neither.
    pub fn verdict(&self) -> Option<&'static str> {
        ["accept", "drop"]
            .into_iter()
            .find(|verdict| self.statement.ends_with(verdict))
    }
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its hook's name, with a number where there are several.
    pub name: &'static str,
    /// `input`, `output`, `forward`, `prerouting` or `egress`; empty where only other chains send packets to it.
    pub hook: &'static str,
    /// Where among the hook's chains: lower ones come first.
    pub priority: i32,
    /// Interfaces, of the egress hook only.
    pub devices: Vec<EgressDevice>,
    /// `drop` or `accept`; of chains with a hook only.
    pub policy: &'static str,
    /// Its rules in order.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// The same rules in a chain to which only others send packets.
    fn without_hook(self, name: &'static str) -> Self {
        let (hook, policy) = ("", "");
        Self {
            name,
            hook,
            policy,
            ..self
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub layer: Layer,
    /// Whether its rules ask for lifeline addresses.
    pub has_endpoints: bool,
    pub chains: Vec<Chain>,
}

/// What the kernel has counted, carried over into a table that replaces another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CarriedCounters {
    /// Packets and bytes by table and counter.
    pub counters: BTreeMap<(Layer, String), (u64, u64)>,
    /// Bytes used by table and quota.
    pub quotas: BTreeMap<(Layer, String), u64>,
}

/// Tables, and what their sets hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Tables; none for a normal plan.
    pub tables: Vec<Table>,
    /// What their sets hold; all tables hold the same.
    pub elements: SetElements,
    limits: Vec<PlannedLimit>,
}

/// The tables that make the kernel obey `plan`.
pub fn render(plan: &Plan, hooks: &Hooks, effect: CutAction) -> Ruleset {
    let mut tables = Vec::new();
    let elements = SetElements::of(plan, hooks);
    if !plan.is_normal() {
        let rules = RuleWriter {
            plan,
            hooks,
            effect,
            elements: &elements,
        };
        tables.push(Table {
            layer: Layer::Inet,
            has_endpoints: true,
            chains: rules.inet(),
        });
        if hooks.bridge {
            tables.push(Table {
                layer: Layer::Bridge,
                has_endpoints: false,
                chains: rules.bridge(),
            });
        }
        if !hooks.egress.is_empty() {
            tables.push(Table {
                layer: Layer::Netdev,
                has_endpoints: true,
                chains: rules.netdev(),
            });
        }
        tables.extend(rules.mark().map(marks::arp_table));
    }
    let lacks: Vec<Lack> = hooks.lacks.iter().copied().collect();
    for chain in tables.iter_mut().flat_map(|table| &mut table.chains) {
        let rules = std::mem::take(&mut chain.rules).into_iter();
        chain.rules = rules.filter_map(|rule| lacking::without(rule, &lacks)).collect();
    }
    let kept = |limit: &PlannedLimit| PlannedLimit {
        bytes_per_second: limit.bytes_per_second.filter(|_| !lacks.contains(&Lack::Limit)),
        quota: limit.quota.filter(|_| !lacks.contains(&Lack::Quota)),
        ..limit.clone()
    };
    Ruleset {
        tables,
        elements,
        limits: plan.limits.iter().map(kept).collect(),
    }
}

impl Ruleset {
    /// Everything but elements and what was counted: as long as it is the same, the elements can be changed alone.
    pub fn same_structure(&self, other: &Self) -> bool {
        self.tables == other.tables
            && self.limits == other.limits
            && self.elements.declared_as(&other.elements)
    }

    /// What it is made of, for people.
    pub fn summary(&self) -> String {
        if self.tables.is_empty() {
            return "our tables are removed".into();
        }
        let layers: Vec<&str> = self.tables.iter().map(|table| table.layer.family()).collect();
        let rules = self.tables.iter().flat_map(|table| &table.chains);
        let SetElements {
            endpoints,
            nucleus,
            ways: _,
            bearers: _,
            senders: _,
            hardware: _,
            homes: _,
            called: _,
            tags: _,
            hosts,
            nets,
            lasting_nets: _,
        } = &self.elements;
        format!(
            "{} rules in {}, {} lifeline addresses, {} blocked remotes",
            rules.map(|chain| chain.rules.len()).sum::<usize>(),
            layers.join(", "),
            endpoints.len() + nucleus.len(),
            hosts.len() + nets.len()
        )
    }

    /// The transaction that replaces the tables that are `present` by these, as `nft -f` reads it.
    pub fn text(&self, present: &BTreeSet<Layer>, counted: &CarriedCounters, now: Timestamp) -> String {
        let mut text = String::new();
        for layer in present {
            let _ = writeln!(text, "delete table {layer} {TABLE}");
        }
        for table in &self.tables {
            let _ = writeln!(text, "table {} {TABLE} {{", table.layer);
            self.write_objects(&mut text, table, counted);
            self.elements.declare(&mut text, table, now);
            table.filled_sets().iter().for_each(|set| set.declare(&mut text));
            table
                .chains
                .iter()
                .for_each(|chain| write_chain(&mut text, chain));
            text.push_str("}\n");
        }
        text
    }

    fn write_objects(&self, text: &mut String, table: &Table, counted: &CarriedCounters) {
        for name in table.counters() {
            let (packets, bytes) = counted
                .counters
                .get(&(table.layer, name.to_owned()))
                .copied()
                .unwrap_or_default();
            let _ = writeln!(
                text,
                "  counter {name} {{\n    packets {packets} bytes {bytes}\n  }}"
            );
        }
        if table.layer != Layer::Inet {
            return;
        }
        for (index, limit) in self.limits.iter().enumerate() {
            if let Some(rate) = limit.bytes_per_second {
                let burst = burst_of(rate);
                let _ = writeln!(
                    text,
                    "  limit rate{index} {{\n    rate over {rate} bytes/second burst {burst} bytes\n  }}"
                );
            }
            if let Some(Quota { bytes, since, .. }) = limit.quota {
                let name = quota_name(&limit.order, since);
                let used = counted
                    .quotas
                    .get(&(table.layer, name.clone()))
                    .copied()
                    .unwrap_or_default();
                let _ = writeln!(
                    text,
                    "  quota {name} {{\n    over {bytes} bytes used {used} bytes\n  }}"
                );
            }
        }
    }
}

impl Table {
    /// Whether its rules may ask for the ways of lifelines.
    fn has_ways(&self) -> bool {
        self.layer == Layer::Inet
    }

    /// Whether its rules may ask what frames of lifelines leave by and are sent as.
    fn has_bearers(&self) -> bool {
        self.layer == Layer::Netdev
    }

    /// The sets that its rules fill, each once.
    fn filled_sets(&self) -> BTreeSet<&FilledSet> {
        let rules = self.chains.iter().flat_map(|chain| &chain.rules);
        rules.filter_map(|rule| rule.fills.as_ref()).in_set()
    }

    /// Its counters, `<way>_<reason>`, behind [`WOULD_CUT`] where they only count; each once.
    pub fn counters(&self) -> BTreeSet<&str> {
        let rules = self.chains.iter().flat_map(|chain| &chain.rules);
        rules.filter_map(|rule| rule.counter.as_deref()).in_set()
    }
}

/// Smallest bucket of a rate in bytes: the kernel hands packets of up to 64 KiB to the hooks, and one that is larger
/// than the bucket would never pass.
const MIN_BUCKET: u64 = 65_536;
/// Smallest burst in bytes: one packet.
const MIN_BURST: u64 = 1_500;

/// What may come at once above a rate: the kernel's bucket holds rate and burst together.
fn burst_of(rate: u64) -> u64 {
    MIN_BUCKET.saturating_sub(rate).max(MIN_BURST)
}

/// The name tells whose quota it is, `authority:id`, and which period: a new period is a new quota, which begins at nothing
/// used, and what another order does changes no name. At most 30 characters; of two live orders the authorities differ.
pub fn quota_name(order: &str, since: Timestamp) -> String {
    let authority = order.split(':').next().unwrap_or_default();
    let mut sum = crc32fast::Hasher::new();
    sum.update(order.as_bytes());
    // Of one order that replaces another within a second.
    sum.update(&since.as_nanosecond().to_le_bytes());
    format!("{authority}_{:08x}_{:x}", sum.finalize(), since.as_second())
}

fn write_chain(text: &mut String, chain: &Chain) {
    let Chain {
        name,
        hook,
        priority,
        devices,
        policy,
        rules,
    } = chain;
    let devices = if devices.is_empty() {
        String::new()
    } else {
        let names: Vec<String> = devices
            .iter()
            .map(|device| format!("\"{}\"", device.name))
            .collect();
        format!(" devices = {{ {} }}", names.join(", "))
    };
    let _ = writeln!(text, "  chain {name} {{");
    if !hook.is_empty() {
        let _ = writeln!(
            text,
            "    type filter hook {hook}{devices} priority {priority}\n    policy {policy}"
        );
    }
    for Rule {
        comment, statement, ..
    } in rules
    {
        let _ = writeln!(text, "    {statement} comment \"{comment}\"");
    }
    text.push_str("  }\n");
}

#[cfg(test)]
mod tests;
