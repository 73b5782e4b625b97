//! Rules: expressions in order, and a comment.

use crate::expression::{Counter, Expression, Quota, QuotaFlags, SetReference};
use crate::set::AnonymousSet;
use crate::userdata::UserData;
use crate::value::Verdict;
use crate::wire::{Attribute as _, DecodeError, attributes, decode_text, find};

/// `NFTA_RULE_CHAIN`.
pub(crate) const RULE_CHAIN: u16 = 2;
/// `NFTA_RULE_HANDLE`.
pub(crate) const RULE_HANDLE: u16 = 3;
/// `NFTA_RULE_POSITION`.
pub(crate) const RULE_POSITION: u16 = 6;
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

/// The chain and the handle of a rule that is listed.
pub(crate) fn place_of(attributes: &[u8]) -> Result<(String, u64), DecodeError> {
    let needed = |number| {
        let missing = DecodeError::Missing {
            what: "a rule",
            number,
        };
        find(attributes, number).ok_or(missing)
    };
    let chain = decode_text(needed(RULE_CHAIN)?)?.to_owned();
    Ok((chain, u64::get(needed(RULE_HANDLE)?)?))
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
