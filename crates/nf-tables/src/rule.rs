//! Rules: expressions in order, and a comment.

use crate::expression::{Counter, Expression, Quota, QuotaFlags, SetReference};
use crate::set::AnonymousSet;
use crate::userdata::UserData;
use crate::value::Verdict;
use crate::wire::attributes;

/// `NFTA_RULE_CHAIN`.
pub(crate) const RULE_CHAIN: u16 = 2;
/// `NFTA_RULE_HANDLE`.
pub(crate) const RULE_HANDLE: u16 = 3;
/// `NFTA_RULE_USERDATA`.
pub(crate) const RULE_USERDATA: u16 = 7;

attributes! {
    /// A rule. Left out of a listing: table, chain, handle and the rule before it, all of which its place says.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Rule as "a rule" ignore 1 | 2 | 3 | 6 | 8 | 9 keep unknown {
        /// What it does, step by step.
        pub expressions: Vec<Expression> = 4,
        /// What nft keeps for itself: the comment.
        pub userdata: UserData = 7 or UserData::NONE,
    }
}

impl Rule {
    /// A rule that nft lists with this comment.
    #[must_use]
    pub fn new(expressions: Vec<Expression>, comment: &str) -> Self {
        Self {
            expressions,
            userdata: UserData::rule_comment(comment),
            unknown: Vec::new(),
        }
    }

    /// Its comment.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        self.userdata.comment()
    }

    /// The verdict it ends with.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.expressions.last().and_then(Expression::verdict)
    }

    /// It without what traffic has changed of it.
    #[must_use]
    pub fn uncounted(mut self) -> Self {
        for expression in &mut self.expressions {
            match expression {
                Expression::Counter(counter) => *counter = Counter::default(),
                Expression::Quota(Quota { used, flags, .. }) => {
                    *used = 0;
                    *flags = flags.without(QuotaFlags::DEPLETED);
                }
                _ => {}
            }
        }
        self
    }

    /// The sets of its own constants, in order.
    pub(crate) fn anonymous_sets(&self) -> impl Iterator<Item = &AnonymousSet> {
        self.expressions.iter().filter_map(|expression| match expression {
            Expression::Lookup(lookup) => match &lookup.set {
                SetReference::Anonymous(set) => Some(set.as_ref()),
                SetReference::Named(_) => None,
            },
            _ => None,
        })
    }
}
