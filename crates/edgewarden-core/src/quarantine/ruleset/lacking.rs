//! Rules without what a kernel was built without.
//!
//! In: a rule, what is missing ([`Lack`]). Out: the rule in the nearest form that this kernel takes, or nothing. What keeps a
//! link or a lifeline alive passes without its limit rather than not at all, because an owner who is locked out cannot help
//! himself; an exception that no way out needs, and a rule that cannot say whom it cuts, are left out. Without connection
//! tracking every packet is one that nobody tracks. Absent: the ways of lifelines, which their writer leaves out itself.

use nf_tables::{Conntrack, ConntrackKey, Expression, ExtensionPlace, MetaKey, ObjectKind};

use super::Rule;
use super::conditions::FilledSet;
use super::streams::OWN_SOCKET;

/// Something that kernels are built without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lack {
    /// Rates.
    Limit,
    /// Connection tracking.
    Conntrack,
    /// Quotas.
    Quota,
    /// Options of IPv4 and extension headers of IPv6.
    ExtensionHeader,
    /// The next hop of a packet.
    Route,
    /// A word that keeps packets from connection tracking.
    Notrack,
    /// Whose an address is.
    Fib,
    /// Of which network namespace a socket is whose program has gone (`CONFIG_CGROUP_NET_CLASSID`).
    Socket,
    /// Options of IPv4 (before Linux 5.3), where extension headers of IPv6 are read.
    IpOption,
    /// Who answers a flow, as connection tracking knows him (Linux 4.14).
    Answerer,
    /// Named sets that rules fill (Linux 4.14).
    FilledSet,
    /// Sets of blocks of addresses that end by themselves (Linux 4.14).
    EndingBlock,
}

impl Lack {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Limit,
        Self::Conntrack,
        Self::Quota,
        Self::ExtensionHeader,
        Self::Route,
        Self::Notrack,
        Self::Fib,
        Self::Socket,
        Self::IpOption,
        Self::Answerer,
        Self::FilledSet,
        Self::EndingBlock,
    ];

    /// What is missing where the kernel does not know an expression of that name.
    #[must_use]
    pub fn of_expression(name: &str) -> Option<Self> {
        match name {
            // Sets with a limit for each key are of every kernel; what one may lack is the limit in them.
            "limit" | "dynset" => Some(Self::Limit),
            "ct" => Some(Self::Conntrack),
            "quota" => Some(Self::Quota),
            "exthdr" => Some(Self::ExtensionHeader),
            "rt" => Some(Self::Route),
            "notrack" => Some(Self::Notrack),
            "fib" => Some(Self::Fib),
            _ => None,
        }
    }

    /// What is missing where the kernel does not take a rule with this comment, whose expressions it knows by name.
    #[must_use]
    pub fn of_rule(comment: &str) -> Option<Self> {
        let asks = comment.split(':').nth(1) == Some(OWN_SOCKET);
        asks.then_some(Self::Socket)
    }

    /// What is missing where the kernel does not take an object of ours of that name.
    #[must_use]
    pub fn of_object(name: &str) -> Option<Self> {
        let counts = ["out_", "in_", "forward_", "bridged_", "raw_", super::WOULD_CUT];
        if counts.iter().any(|begin| name.starts_with(begin)) {
            None
        } else if name.starts_with("rate") {
            Some(Self::Limit)
        } else {
            Some(Self::Quota)
        }
    }

    /// What that means, for people.
    #[must_use]
    pub const fn means(self) -> &'static str {
        match self {
            Self::Limit => {
                "this kernel has no rates: what the link and lifelines need passes without a bound and without shares, a router's \
                 announcements and long lists of groups do not, and orders' rates are not kept"
            }
            Self::Conntrack => {
                "this kernel has no connection tracking: answers of lifelines and allowances, and errors, are told by address, \
                 port and size alone"
            }
            Self::Quota => "this kernel has no quotas: orders' quotas are not kept",
            Self::ExtensionHeader => {
                "this kernel does not read options: packets that name other places to come by are not cut"
            }
            Self::Route => {
                "this kernel does not tell whom a packet is handed to: lifelines are reached by any interface and next hop"
            }
            Self::Notrack => {
                "this kernel tracks every flow: those inside of this device can fill the table of connection tracking"
            }
            Self::Fib => {
                "this kernel does not tell whose an address is: what a program puts on loopback in a lifeline's name passes"
            }
            Self::Socket => {
                "this kernel does not tell of which network namespace a socket is once its program has gone: what a program of \
                 root's had still to send to a lifeline when it ended is cut"
            }
            Self::IpOption => {
                "this kernel (before Linux 5.3) does not read options of IPv4: where remotes are judged every packet with options is \
                 cut, whatever they say, but for IGMP, which may be sent by other places"
            }
            Self::Answerer => {
                "this kernel (like Linux 4.14) does not tell who answers what was led to a program of this device: such answers \
                 are cut"
            }
            Self::FilledSet => {
                "this kernel (like Linux 4.14) has no sets that rules fill: rates of what the link needs are shared by all links, \
                 and whoever may make packets by hand can speak in a lifeline's stream"
            }
            Self::EndingBlock => {
                "this kernel (like Linux 4.14) does not end blocked networks by itself: they stay blocked while no agent runs"
            }
        }
    }

    fn is_in(self, expression: &Expression) -> bool {
        match (self, expression) {
            (Self::Limit, Expression::ObjectReference(object)) => object.kind == ObjectKind::Limit,
            (Self::Quota, Expression::ObjectReference(object)) => object.kind == ObjectKind::Quota,
            (Self::Socket, Expression::Meta(meta)) => meta.key == MetaKey::ControlGroup,
            (Self::IpOption, Expression::ExtensionHeader(header)) => header.place == ExtensionPlace::Ip,
            (Self::Answerer, Expression::Conntrack(tracked)) => {
                [ConntrackKey::Source4, ConntrackKey::Source6].contains(&tracked.key)
            }
            (Self::FilledSet, Expression::DynamicElement(_)) => true,
            _ => Self::of_expression(expression.name()) == Some(self),
        }
    }
}

/// A rule without what is missing; none where it is left out.
pub(super) fn without(mut rule: Rule, lacks: &[Lack]) -> Option<Rule> {
    for lack in lacks {
        if !rule.expressions.iter().any(|expression| lack.is_in(expression)) {
            continue;
        }
        rule = match lack {
            // What counts is what is cut: without its rate it would cut everything.
            Lack::Limit if rule.counter.is_none() && is_needed(&rule) => without_rate(&rule)?,
            Lack::Conntrack => without_state(&rule)?,
            Lack::FilledSet => without_buckets(&rule)?,
            _ => return None,
        };
    }
    Some(rule)
}

/// Whether the owner could be locked out without it. A router's announcements are for others, long lists of groups are rare,
/// and the kernel speaks ARP and asks for neighbours whatever its users do.
fn is_needed(rule: &Rule) -> bool {
    if rule.statement.contains("@senders") {
        return false;
    }
    let not_needed = ["router", "multicast-listener-all", "multicast-answer"];
    !not_needed.contains(&rule.what())
}

/// `limit rate <rate> burst <burst> <unit>`, or the same in braces, for each of a set's keys.
fn without_rate(rule: &Rule) -> Option<Rule> {
    if let Some(parts) = Bucketed::of(rule) {
        return Some(parts.said(rule, "", None));
    }
    let (before, rest) = rule.statement.split_once("limit rate ")?;
    let (_, rest) = rest.split_once(" burst ")?;
    let behind = rest.splitn(3, ' ').nth(2)?;
    let steps = rule.expressions.iter();
    let kept = steps
        .filter(|step| !matches!(step, Expression::Limit(_)))
        .cloned();
    Some(rule.said_otherwise(format!("{before}{behind}"), kept.collect()))
}

/// One rate for all links, in place of a bucket for each. What a rule notes in a set has no other form.
fn without_buckets(rule: &Rule) -> Option<Rule> {
    let parts = Bucketed::of(rule)?;
    let (_, rate) = parts.bucket.split_once("limit rate ")?;
    let shared = parts.limit.clone()?;
    let words = format!("limit rate {rate}");
    Some(parts.said(rule, &words, Some(shared)))
}

/// A rule with a bucket for each link: `add @rates-<what> { <key> limit rate <rate> }`, taken apart.
struct Bucketed<'a> {
    before: &'a str,
    bucket: &'a str,
    behind: &'a str,
    /// What it does besides.
    steps: Vec<Expression>,
    /// Where among that it asks the bucket.
    place: usize,
    limit: Option<Expression>,
}

impl<'a> Bucketed<'a> {
    fn of(rule: &'a Rule) -> Option<Self> {
        let loads = rule.fills.as_ref().and_then(FilledSet::rate_loads)?;
        let (before, rest) = rule.statement.split_once("add @rates-")?;
        let (bucket, behind) = rest.split_once("} ")?;
        let makes = |step: &Expression| matches!(step, Expression::DynamicElement(_));
        let last = rule.expressions.iter().position(makes)?;
        let place = last.checked_sub(loads)?;
        let mut steps = rule.expressions.clone();
        let limit = match steps.drain(place..=last).next_back() {
            Some(Expression::DynamicElement(element)) => element.expression.map(|limit| *limit),
            _ => None,
        };
        Some(Self {
            before,
            bucket,
            behind,
            steps,
            place,
            limit,
        })
    }

    /// The rule with these words and this step in place of the bucket.
    fn said(self, rule: &Rule, words: &str, step: Option<Expression>) -> Rule {
        let Self {
            before,
            behind,
            mut steps,
            place,
            ..
        } = self;
        steps.splice(place..place, step);
        Rule {
            fills: None,
            ..rule.said_otherwise(format!("{before}{words}{behind}"), steps)
        }
    }
}

/// The state of a flow is loaded, masked and compared.
const STEPS_OF_STATE: usize = 3;

/// What nobody tracks is told by its other conditions; a rule of what somebody does would never match.
fn without_state(rule: &Rule) -> Option<Rule> {
    let (before, behind) = rule.statement.split_once("ct state untracked ")?;
    let loads = Expression::from(Conntrack::first(ConntrackKey::State));
    let first = rule.expressions.iter().position(|step| *step == loads)?;
    let mut kept = rule.expressions.clone();
    kept.drain(first..kept.len().min(first + STEPS_OF_STATE));
    Some(rule.said_otherwise(format!("{before}{behind}"), kept))
}

#[cfg(test)]
mod tests {
    use super::super::{CutAction, EgressDevice, Hooks, render};
    use super::*;
    use crate::quarantine::orders::order::{Authority, Order};
    use crate::quarantine::plan::{IsolationSettings, Scope, fold};

    /// The rules of an isolation whose lifelines are wide.
    fn rules(lacks: &[Lack]) -> Vec<Rule> {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let order = Order::isolate(Authority::Shadow, "lacking", None, now);
        let settings = IsolationSettings::default();
        let plan = fold(&[order], &settings, Vec::new(), Scope::Wide, now);
        let hooks = Hooks {
            egress: vec![EgressDevice {
                name: "eth0".into(),
                index: 1,
            }],
            crowded: true,
            lacks: lacks.iter().copied().collect(),
            ..Hooks::default()
        };
        let tables = render(&plan, &hooks, CutAction::Cut).tables;
        let chains = tables.into_iter().flat_map(|table| table.chains);
        chains.flat_map(|chain| chain.rules).collect()
    }

    fn of<'a>(rules: &'a [Rule], what: &str) -> Vec<&'a str> {
        let alike = rules.iter().filter(|rule| rule.what() == what);
        alike.map(|rule| rule.statement.as_str()).collect()
    }

    #[test]
    fn what_a_kernel_lacks_is_in_no_rule() {
        for lack in Lack::ALL {
            let left = rules(&[lack]);
            let mut steps = left.iter().flat_map(|rule| &rule.expressions);
            assert!(!steps.any(|step| lack.is_in(step)), "{lack:?}");
            let cuts = of(&left, "rest").len();
            assert_eq!(cuts, 4, "{lack:?}: each chain still cuts the rest");
        }
        let untracked = rules(&[Lack::Conntrack]);
        let fills = ["add @rates-", "update @", "delete @"];
        let fills = |rule: &Rule| fills.iter().any(|words| rule.statement.contains(words));
        let kept = |rule: &&Rule| fills(rule) == rule.fills.is_some();
        assert!(untracked.iter().all(|rule| kept(&rule)), "no set is missing");
        let least = rules(&Lack::ALL);
        let words = ["limit rate", "ct state", "exists"];
        let says = |rule: &Rule| words.iter().any(|word| rule.statement.contains(word));
        assert!(!least.iter().any(says));
    }

    #[test]
    fn without_sets_that_rules_fill_a_rate_is_shared() {
        let (whole, left) = (rules(&[]), rules(&[Lack::FilledSet]));
        let rate = "limit rate 100/second burst 200 packets";
        let errors = of(&whole, "errors");
        assert!(errors[0].contains("{ meta iif limit rate"), "control: {errors:?}");
        let shared = of(&left, "errors");
        assert!(
            shared[0].ends_with(&format!("meta length <= 1280 {rate} accept")),
            "{shared:?}"
        );
        for what in ["errors", "dhcp", "router", "arp", "neighbours"] {
            assert_eq!(of(&left, what).len(), of(&whole, what).len(), "{what}");
        }
        let named = left
            .iter()
            .any(|rule| rule.statement.contains("@streams") || rule.fills.is_some());
        assert!(!named, "nobody asks what nobody notes");
    }

    #[test]
    fn where_no_option_is_read_all_are_cut() {
        let (whole, left) = (rules(&[]), rules(&[Lack::IpOption]));
        let others = "ip hdrlength > 5 ip protocol != 2";
        for (rules, read) in [(&whole, true), (&left, false)] {
            let detours = of(rules, "detour");
            assert_eq!(
                detours.iter().any(|rule| rule.contains("ip option")),
                read,
                "{detours:?}"
            );
            assert!(detours.iter().any(|rule| rule.starts_with(others)), "{detours:?}");
            assert!(
                detours.iter().any(|rule| rule.starts_with("exthdr rt exists")),
                "{detours:?}"
            );
        }
    }

    #[test]
    fn without_rates_the_link_and_lifelines_pass_unbounded_and_others_do_not() {
        let (whole, left) = (rules(&[]), rules(&[Lack::Limit]));
        for what in [
            "dhcp",
            "dhcp6",
            "dhcp-renewal",
            "link-keys",
            "link-groups",
            "errors",
            "neighbour-unicast",
        ] {
            assert_eq!(of(&left, what).len(), of(&whole, what).len(), "{what}");
        }
        assert_eq!(
            of(&left, "services-dns-wide"),
            ["meta skuid < 1000 udp dport 53 meta l4proto udp meta length <= 256 accept"]
        );
        assert_eq!(of(&left, "arp").len(), of(&whole, "arp").len(), "users have none");
        assert!(!of(&whole, "share-dns-wide").is_empty(), "control");
        assert!(
            !of(&left, "share-dns-wide")
                .iter()
                .any(|rule| rule.contains("limit"))
        );
        let accepts = |rules: &[Rule], what: &str| {
            of(rules, what)
                .iter()
                .filter(|rule| rule.ends_with("accept"))
                .count()
        };
        for what in ["router", "multicast-listener-all"] {
            assert!(accepts(&whole, what) > 0, "control: {what}");
            assert_eq!(accepts(&left, what), 0, "{what}");
        }
    }

    #[test]
    fn without_connection_tracking_nobody_tracks_anything() {
        let (whole, left) = (rules(&[]), rules(&[Lack::Conntrack]));
        assert_eq!(
            of(&left, "udp4-untracked"),
            ["ip saddr . meta l4proto . th sport @endpoints4 meta l4proto udp accept"]
        );
        assert!(
            of(&left, "errors-untracked")[0]
                .contains("meta length <= 1280 add @rates-errors-untracked { meta iif limit rate 10/second")
        );
        assert!(!of(&whole, "udp4").is_empty(), "control");
        assert_eq!(of(&left, "udp4"), [""; 0]);
        let steps = |rules: &[Rule]| -> usize {
            let alike = rules.iter().filter(|rule| rule.what() == "errors-untracked");
            alike.map(|rule| rule.expressions.len()).sum()
        };
        assert_eq!(steps(&left) + STEPS_OF_STATE, steps(&whole));
    }
}
