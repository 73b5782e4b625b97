//! Streams of TCP that are known, told by both of their ends.
//!
//! In: an IP version. Out: what notes a stream in a set that the kernel fills itself ([`FilledSet`]), and the condition that it is noted
//! there. A stream of which nothing was sent for as long as an element lives is forgotten.

use nf_tables::{DynamicElement, Lookup, Payload, PayloadBase, Register};

use super::filled_sets::{FilledKey, FilledSet};
use super::{Conditions, End, address_field, behind, port_offset};
use crate::quarantine::ruleset::Rule;

/// The set of them.
fn known(v4: bool) -> FilledSet {
    FilledSet {
        name: format!("streams{}", if v4 { '4' } else { '6' }),
        key: FilledKey::Stream { v4 },
    }
}

impl Conditions {
    /// Its stream is known from now on; it is judged by what comes behind. Asked of TCP of that IP version only.
    pub(in super::super) fn note_stream(self, v4: bool, what: &str) -> Rule {
        let set = known(v4);
        let noted = self
            .said(format_args!("update @{} {{ {} }}", set.name, set.key.text()))
            .load_stream(v4)
            .step(DynamicElement::noted(set.name.clone()));
        Rule {
            fills: Some(set),
            ..Rule::new(what, noted.text, noted.expressions, None)
        }
    }

    /// Its stream is known. Asked of TCP only.
    pub(in super::super) fn of_known_stream(self, v4: bool) -> Self {
        let set = known(v4);
        self.said(format_args!("{} @{}", set.key.text(), set.name))
            .load_stream(v4)
            .step(Lookup::named(&set.name))
    }

    /// Both of its ends, source first, each an address and a port.
    fn load_stream(self, v4: bool) -> Self {
        let mut loaded = self.network(v4);
        let mut place = Register::FIRST;
        for end in [End::Source, End::Destination] {
            let (offset, length) = address_field(v4, end);
            loaded = loaded.step(Payload {
                destination: place,
                ..Payload::first(PayloadBase::Network, offset, length)
            });
            place = behind(place, if v4 { 4 } else { 16 });
            loaded = loaded.step(Payload {
                destination: place,
                ..Payload::first(PayloadBase::Transport, port_offset(end), 2)
            });
            place = behind(place, 4);
        }
        loaded
    }
}
