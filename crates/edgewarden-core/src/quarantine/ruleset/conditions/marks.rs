//! The mark by which frames that have passed our rules are told below from those that have not.

use nf_tables::{MetaKey, SetMeta, SetVerdict};

use super::{Conditions, Rule};

impl Conditions {
    /// What is like that gets this mark, in place of any other.
    pub(in super::super) fn marked(self, what: &str, mark: u32) -> Rule {
        let marked = self
            .said(format_args!("meta mark set 0x{mark:08x}"))
            .step(SetVerdict::value(mark.to_ne_bytes()))
            .step(SetMeta::first(MetaKey::Mark));
        Rule::new(what, marked.text, marked.expressions, None)
    }
}
