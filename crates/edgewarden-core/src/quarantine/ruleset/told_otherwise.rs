//! Frames of which their sender says what their bytes do not.
//!
//! In: whether interfaces here put tags of their own between addresses and type. Out: conditions of frames to be cut,
//! whatever they seem to be to. A rule about addresses reads where the sender says that an IP header begins; so what he
//! says must be what a receiver reads: the frame's own type, or the type behind one VLAN tag.
//!
//! What the IP stack sends says the truth. A VLAN's frames leave the interface below with a tag that is not among their
//! bytes yet; the kernel shows it in its place, so that what they say is the type behind it. Tags of stacked VLANs are among
//! the bytes, and only such frames with a route are the stack's. A bridge to another kind of link (an access point of IEEE 802.11)
//! makes of LLC and SNAP what it would have been on Ethernet. Absent: what is inside of other envelopes (PPPoE, MPLS).

use super::conditions::{Conditions, IP, IP6, Sender, TypePlace};
use super::exceptions::ARP;
use super::false_claims::SENDERS;
use super::rules::{DISGUISED, HookPath, RuleWriter, on};
use super::{Layer, Rule};
use crate::quarantine::orders::order::Posture;

/// Types that say that a VLAN tag follows (IEEE 802.1Q, 802.1ad, and what was used before).
pub(super) const VLAN: &[u16] = &[0x8100, 0x88a8, 0x9100];
/// Multicast groups of IPv4, as IP headers number it.
pub(super) const IGMP: u8 = 2;
/// Upper half of the first byte of an IP header: its version.
const VERSION: u8 = 0xf0;

/// What the IP stack never sends.
pub(super) fn never_sent(interfaces_tag: bool) -> Vec<(&'static str, Conditions)> {
    let ethernet = || Conditions::of(Layer::Netdev).leaves_by_ethernet();
    let on_any = || Conditions::of(Layer::Netdev);
    let mut all = Vec::new();
    for (kind, version) in [(IP, 0x40), (IP6, 0x60)] {
        all.push((
            "called-otherwise",
            ethernet()
                .frame_type(TypePlace::First, &[kind])
                .declared_other(&[kind]),
        ));
        if !interfaces_tag {
            let others = [&[kind], VLAN].concat();
            all.push((
                "not-what-it-says",
                ethernet()
                    .declared(&[kind])
                    .frame_type_other(TypePlace::First, &others),
            ));
            all.push((
                "tagged-not-what-it-says",
                ethernet()
                    .declared(&[kind])
                    .frame_type(TypePlace::First, VLAN)
                    .frame_type_other(TypePlace::BehindTag, &[kind]),
            ));
        }
        // A tag among the bytes that is taken for the beginning of an IP header, which has the type behind it then.
        all.push((
            "tag-for-header",
            ethernet()
                .frame_type(TypePlace::First, VLAN)
                .tag_begins_with(VERSION, version)
                .declared(&[kind])
                .behind_first_word(kind),
        ));
        all.push((
            "other-version",
            on_any().declared(&[kind]).begins_without(VERSION, version),
        ));
    }
    all.push(("snap", snap(Layer::Netdev, &[ARP]).leaves_by_ethernet()));
    // Where frames have no header it is the first half byte that tells IP; envelopes of modems begin otherwise.
    for version in [0x40, 0x60] {
        let other = on_any().leaves_by_others().declared_other(&[IP, IP6]);
        all.push(("no-version", other.begins_under(VERSION, version)));
    }
    all
}

/// IP, or a tag before it, or one of these types, as links other than Ethernet carry it.
pub(super) fn snap(layer: Layer, types: &[u16]) -> Conditions {
    Conditions::of(layer).snap(&[&[IP, IP6], VLAN, types].concat())
}

/// Tagged, or sent by other places, by hand.
pub(super) fn by_hand(interfaces_tag: bool) -> Vec<(&'static str, Conditions)> {
    let tagged = || {
        let ethernet = Conditions::of(Layer::Netdev).leaves_by_ethernet();
        ethernet.frame_type(TypePlace::First, VLAN)
    };
    let mut all: Vec<(&str, _)> = [IP, IP6]
        .map(|kind| {
            let behind = tagged().frame_type(TypePlace::BehindTag, &[kind]);
            ("tagged-by-hand", behind.declared_other(&[kind]))
        })
        .into();
    // A host behind a bridge reports its groups with an option.
    let options = Conditions::of(Layer::Netdev).options().not_of(IGMP);
    all.push(("options-by-hand", options));
    if !interfaces_tag {
        let more = tagged().frame_type(TypePlace::BehindTag, VLAN);
        let hides = [&[IP, IP6], VLAN].concat();
        all.push(("tagged-twice", more.frame_type(TypePlace::BehindTwo, &hides)));
    }
    all
}

impl RuleWriter<'_> {
    /// Frames that no rule can judge, because what is said of them is not what they are.
    pub(super) fn told_otherwise(&self) -> Vec<Rule> {
        let Some(reason) = self.guarded() else {
            return Vec::new();
        };
        let all = never_sent(self.hooks.tags).into_iter();
        all.map(|(what, condition)| self.cut(what, condition, HookPath::Raw, reason))
            .collect()
    }

    /// The same of frames whose tags are among their bytes, and of options. In isolation none of them is anything that passes.
    pub(super) fn by_hand(&self) -> Vec<Rule> {
        if self.plan.posture == Posture::Isolate || self.guarded().is_none() || self.hooks.unrouted {
            return Vec::new();
        }
        let shapes = by_hand(self.hooks.tags).into_iter();
        let all = shapes.chain(self.answers_by_hand());
        let cut = all.map(|(what, condition)| self.cut(what, condition, HookPath::Raw, DISGUISED));
        // The IP stack's own hooks have judged it: it has a route and a socket here. What an interface of another network namespace
        // sends by one of ours has a route of that one's.
        let sent = on(Layer::Netdev).routed().of_sender(Sender::Socket);
        let sent = [sent.accept("sent")].into_iter().chain(self.passed_on_in_tags());
        let of_length = self.of_false_length(HookPath::Raw);
        sent.chain(cut).chain(of_length).collect()
    }

    /// What the IP stack has passed on by a VLAN that stands on another of ours: the second tag is among the bytes.
    fn passed_on_in_tags(&self) -> Option<Rule> {
        let knows = self.knows_senders() && !self.elements.tags.is_empty();
        let stacked = on(Layer::Netdev).leaves_by_ethernet().routed();
        let stacked = stacked.frame_type(TypePlace::First, VLAN).tagged_as("tags");
        let stacked = stacked.frame_type(TypePlace::BehindTag, VLAN);
        knows.then(|| stacked.called_one_of(SENDERS).accept("passed-on-in-tags"))
    }

    /// A length that is not its own hides a packet's port, until the kernel cuts it into packets whose lengths are right.
    pub(super) fn of_false_length(&self, way: HookPath) -> [Rule; 2] {
        let readable = on(way.layer()).has_transport().accept("readable");
        let other = on(way.layer()).declared(&[IP, IP6]);
        [readable, self.cut("unreadable", other, way, DISGUISED)]
    }
}
