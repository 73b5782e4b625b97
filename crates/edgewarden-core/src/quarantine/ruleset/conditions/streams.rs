//! Streams of TCP that are known, told by both of their ends, and whom they are handed to on their link.
//!
//! In: an IP version. Out: what notes a stream in a set that the kernel fills itself ([`FilledSet`]), and the condition that it is noted
//! there. A stream of which nothing was sent for as long as an element lives is forgotten.

use nf_tables::{
    Bitwise, ByteOrder, Comparison, DynamicElement, Lookup, Meta, MetaKey, Operator, Payload, PayloadBase,
    Register,
};

use super::claims::LinkPlace;
use super::filled_sets::{FilledKey, FilledSet, LIFE_SECONDS};
use super::{ACK, Conditions, End, NAME, SYN, address_field, behind, port_offset};
use crate::quarantine::ruleset::Rule;

/// How long the rest of a stream is waited for behind its end: longer than the kernel says it again for a program that has gone, and
/// little longer than it lets nobody have the same ports again.
const ENDED_SECONDS: u64 = 120;
/// Flags of a TCP header that end a stream: one way, or both.
const ENDS: u8 = 0x01 | 0x04;

/// Which streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Streams {
    /// Of which something was sent.
    Known,
    /// Which their sender has ended.
    Ended,
}

impl Streams {
    fn set(self, v4: bool) -> FilledSet {
        let (name, life) = match self {
            Self::Known => ("streams", LIFE_SECONDS),
            Self::Ended => ("ended", ENDED_SECONDS),
        };
        FilledSet {
            name: format!("{name}{}", if v4 { '4' } else { '6' }),
            key: FilledKey::Stream { v4 },
            life,
        }
    }
}

/// Whom frames of known streams are handed to.
fn hops() -> FilledSet {
    FilledSet {
        name: "hops".into(),
        key: FilledKey::Neighbour,
        life: LIFE_SECONDS,
    }
}

impl Conditions {
    /// Its stream is one of these from now on; it is judged by what comes behind. Asked of TCP of that IP version only.
    pub(in super::super) fn note_stream(self, streams: Streams, v4: bool, what: &str) -> Rule {
        self.note(streams.set(v4), what, |noted| noted.load_stream(v4))
    }

    /// Its stream is none of these from now on; it is judged by what comes behind. Asked of TCP of that IP version only.
    pub(in super::super) fn forget_stream(self, streams: Streams, v4: bool, what: &str) -> Rule {
        let set = streams.set(v4);
        let step = DynamicElement::forgotten(set.name.clone());
        let key = set.key.text();
        self.changes(set, ("delete", step), key, what, |noted| noted.load_stream(v4))
    }

    /// Its stream is one of these. Asked of TCP only.
    pub(in super::super) fn of_stream(self, streams: Streams, v4: bool) -> Self {
        let set = streams.set(v4);
        self.said(format_args!("{} @{}", set.key.text(), set.name))
            .load_stream(v4)
            .step(Lookup::named(&set.name))
    }

    /// It ends its stream, one way or both. Asked of TCP only.
    pub(in super::super) fn ends_stream(self) -> Self {
        self.said("tcp flags & (fin | rst) != 0x0")
            .flags(ENDS, Operator::NotEqual, 0)
    }

    /// It asks for a new stream. Asked of TCP only.
    pub(in super::super) fn opens_stream(self) -> Self {
        self.said("tcp flags & (syn | ack) == syn")
            .flags(SYN | ACK, Operator::Equal, SYN)
    }

    /// Compares these flags of a TCP header.
    pub(super) fn flags(self, mask: u8, operator: Operator, flags: u8) -> Self {
        self.step(Payload::first(PayloadBase::Transport, 13, 1))
            .step(Bitwise::mask([mask]))
            .step(Comparison::first(operator, [flags]))
    }

    /// A socket of this namespace has sent it, also where its program has gone since.
    pub(in super::super) fn of_own_socket(self) -> Self {
        self.said("meta cgroup >= 0")
            .step(Meta::first(MetaKey::ControlGroup))
            .step(ByteOrder::to_network())
            .step(Comparison::first(Operator::GreaterOrEqual, [0; 4]))
    }

    /// Whom it is handed to by the interface that it leaves by is known from now on, for so many seconds.
    pub(in super::super) fn note_hop(self, seconds: u64, what: &str) -> Rule {
        let set = hops();
        let step = DynamicElement {
            timeout: seconds * 1_000,
            ..DynamicElement::noted(set.name.clone())
        };
        let key = format!("{} timeout {seconds}s", set.key.text());
        self.leaves_by_ethernet()
            .changes(set, ("update", step), &key, what, |noted| {
                noted.step(Meta::first(MetaKey::OutputName)).step(Payload {
                    destination: behind(Register::FIRST, NAME),
                    ..Payload::first(PayloadBase::Link, 0, 6)
                })
            })
    }

    /// It is handed to somebody to whom streams are handed by the interface that it leaves by.
    pub(in super::super) fn handed_to_hop(self) -> Self {
        self.leaves_by_ethernet()
            .listed(LinkPlace::RECEIVER, &hops().name, true)
    }

    /// It is sent in the name of somebody to whom streams are handed by the interface that it leaves by, and who is none of those in
    /// the set of that name.
    pub(in super::super) fn sent_as_hop(self, own: &str) -> Self {
        let others = self.sent_as_none_of(own);
        others.listed(LinkPlace::SENDER, &hops().name, true)
    }

    /// The rest of this chain is not asked.
    pub(in super::super) fn go_back(self, what: &str) -> Rule {
        let back = self
            .said("return")
            .step(nf_tables::SetVerdict::of(nf_tables::Verdict::RETURN));
        Rule::new(what, back.text, back.expressions, None)
    }

    /// It is asked what that chain says.
    pub(in super::super) fn jump(self, chain: &str) -> Rule {
        let there = self
            .said(format_args!("jump {chain}"))
            .step(nf_tables::SetVerdict::of(nf_tables::Verdict::jump(chain)));
        Rule::new("jump", there.text, there.expressions, None)
    }

    fn note(self, set: FilledSet, what: &str, load: impl FnOnce(Self) -> Self) -> Rule {
        let step = DynamicElement::noted(set.name.clone());
        let key = set.key.text();
        self.changes(set, ("update", step), key, what, load)
    }

    fn changes(
        self,
        set: FilledSet,
        (word, step): (&str, DynamicElement),
        key: &str,
        what: &str,
        load: impl FnOnce(Self) -> Self,
    ) -> Rule {
        let changed = load(self.said(format_args!("{word} @{} {{ {key} }}", set.name))).step(step);
        Rule {
            fills: Some(set),
            ..Rule::new(what, changed.text, changed.expressions, None)
        }
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
