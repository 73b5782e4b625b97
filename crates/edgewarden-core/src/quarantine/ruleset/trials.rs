//! Rules that show what a kernel lacks, before an order needs it.
//!
//! In: a table that nobody has. Out: its contents, a rule for each [`Lack`], in a chain that no packet comes by: whoever has the kernel
//! try them takes all of it back, and a refusal tells the lack. Kernels before 5.10 do not say which step of a rule they refuse, so
//! each rule has what it tries alone. Absent: hooks; what begins to track connections is tried only where something is to be cut
//! anyway ([`Lack::is_quiet`]).

use nf_tables::{
    Chain, ChainContents, Conntrack, ConntrackKey, DynamicElement, Expression, ExtensionHeader, Fib, KeyType,
    Limit, LimitFlags, LimitKind, Lookup, Meta, MetaKey, Notrack, Payload, PayloadBase, Quota, QuotaFlags,
    Register, Route, RouteKey, Rule, Set, SetDescription, SetFlags, Table, TableContents,
};

use super::Lack;

/// The set that a rule fills.
const FILLED: &str = "filled";
/// The set of blocks that end.
const BLOCKS: &str = "blocks";
/// How the comment of a trial begins.
const COMMENT: &str = "try:";

impl Lack {
    /// Whether a trial leaves no trace in what passes the device: no flow is tracked for it.
    #[must_use]
    pub const fn is_quiet(self) -> bool {
        !matches!(self, Self::Conntrack | Self::Notrack | Self::Answerer)
    }

    /// What a refused rule of [`trials`] shows.
    #[must_use]
    pub fn of_trial(comment: &str) -> Option<Self> {
        let number: usize = comment.strip_prefix(COMMENT)?.parse().ok()?;
        Self::ALL.get(number).copied()
    }

    /// What a refused set of [`trials`] shows.
    #[must_use]
    pub fn of_trial_set(name: &str) -> Option<Self> {
        match name {
            FILLED => Some(Self::FilledSet),
            BLOCKS => Some(Self::EndingBlock),
            _ => None,
        }
    }

    fn trial(self) -> Vec<Expression> {
        match self {
            Self::Limit => vec![
                Limit {
                    rate: 1,
                    seconds: 1,
                    burst: 5,
                    kind: LimitKind::Packets,
                    flags: LimitFlags::NONE,
                }
                .into(),
            ],
            Self::Conntrack => vec![Conntrack::first(ConntrackKey::State).into()],
            Self::Quota => vec![
                Quota {
                    bytes: 1,
                    flags: QuotaFlags::NONE,
                    used: 0,
                }
                .into(),
            ],
            Self::ExtensionHeader => vec![ExtensionHeader::presence(false, 43).into()],
            Self::Route => vec![
                Route {
                    destination: Register::FIRST,
                    key: RouteKey::NextHop4,
                }
                .into(),
            ],
            Self::Notrack => vec![Notrack {}.into()],
            Self::Fib => vec![Fib::source_type().into()],
            Self::Socket => vec![Meta::first(MetaKey::ControlGroup).into()],
            Self::IpOption => vec![ExtensionHeader::presence(true, 131).into()],
            Self::Answerer => vec![Conntrack::answers_from(true).into()],
            Self::FilledSet => vec![
                Meta::first(MetaKey::InputInterface).into(),
                DynamicElement::noted(FILLED).into(),
            ],
            Self::EndingBlock => vec![
                Payload::first(PayloadBase::Network, 12, 4).into(),
                Lookup::named(BLOCKS).into(),
            ],
        }
    }
}

/// What is to be tried; `loudly`: also what begins to track connections.
#[must_use]
pub fn trials(table: Table, loudly: bool) -> TableContents {
    let mut contents = TableContents::new(table);
    let flags = SetFlags::TIMEOUT.with(SetFlags::EVALUATED);
    contents.sets.push(Set {
        description: SetDescription {
            size: Some(16),
            ..SetDescription::default()
        },
        timeout: Some(1_000),
        ..Set::new(FILLED, KeyType::INTERFACE_INDEX, 4, flags)
    });
    let all = Lack::ALL.into_iter().enumerate();
    let rules = all.filter(|(_, lack)| loudly || lack.is_quiet());
    let flags = SetFlags::INTERVAL.with(SetFlags::TIMEOUT);
    contents.sets.push(Set::new(BLOCKS, KeyType::IPV4, 4, flags));
    contents.chains.push(ChainContents {
        chain: Chain::regular("tried"),
        rules: rules
            .map(|(number, lack)| Rule::new(lack.trial(), &format!("{COMMENT}{number}")))
            .collect(),
    });
    contents
}

#[cfg(test)]
mod tests {
    use nf_tables::Family;

    use super::*;

    #[test]
    fn each_lack_has_a_rule_that_tells_it() {
        for loudly in [false, true] {
            let contents = trials(Table::new(Family::Inet, "nobodys"), loudly);
            let rules = &contents.chains[0].rules;
            let told: Vec<Lack> = rules
                .iter()
                .filter_map(|rule| Lack::of_trial(rule.comment()?))
                .collect();
            let all = Lack::ALL.into_iter().filter(|lack| loudly || lack.is_quiet());
            assert_eq!(told, all.collect::<Vec<_>>());
            assert!(contents.chains[0].chain.hook.is_none(), "no packet comes by");
        }
        for comment in ["", "try:", "try:99", "ew:own-socket:1"] {
            assert_eq!(Lack::of_trial(comment), None, "{comment}");
        }
    }
}
