//! What each sender may use of a lifeline, so that none of them starves the control channel.
//!
//! In: the conditions of a lifeline's way out. Out: the rules that divide it among its senders, and then let it pass. Root and
//! the nucleus' own user take what they need; services have one small share, so that no user takes it from the resolver of this
//! host; what everybody else sends, and what no sender is known of, has another. Below the IP stack what no socket of this namespace
//! has sent has a small share of its own. Absent: what arrives, which the device cannot make less.

use nf_tables::LimitKind;

use super::conditions::{Conditions, Sender};
use super::exceptions::FRAME_HEADER;
use super::rules::{HookPath, RuleWriter};
use super::{CutAction, Layer, Rule};
use crate::quarantine::lifelines::ways::InterfaceName;
use crate::quarantine::orders::order::{Posture, Protocol};

/// The number of root.
pub(super) const ROOT: u32 = 0;
/// The first of all others.
pub(super) const FIRST_OTHER: u32 = 1;
/// Users below this are root and services; people and what they start are not (`UID_MIN` of every distribution's login.defs).
pub(super) const FIRST_USER: u32 = 1_000;
/// Bytes of questions for names and time, a second, of either IP version, that services have: fourteen questions of 72 bytes, and at
/// once twice as many. An uplink of 128 kbit/s carries 16,000, and most must be left for the control channel.
const QUESTIONS: Share = bytes_per_second(1_024, 1_024);
/// Longest question of anybody's but root's and the nucleus': a name of 200 letters, with what is asked besides. The kernel cuts one
/// datagram into as many packets as it has bytes, 128 at most, where its program wants that (`UDP_SEGMENT`), and no hook can see it
/// before.
const QUESTION_LENGTH: u32 = 256;
/// So many questions users have, of either IP version: were each cut into 128 packets of 84 bytes on the wire, these would be 3,600
/// bytes a second.
const USERS_QUESTIONS: Share = Share {
    kind: LimitKind::Packets,
    rate: 20,
    seconds: 60,
    burst: 6,
};
/// Bytes of TCP a second, of either IP version, that services and everybody else have each: acknowledgements of a download of
/// 100 kB a second. All shares together leave a quarter of an uplink of 128 kbit/s. The bucket must hold one packet as the
/// kernel hands it to the hooks.
const STREAMS: Share = bytes_per_second(2_048, 65_536);

/// Bytes of TCP a second, of either IP version, that pass below the IP stack though no socket of this namespace has sent them. What our
/// own stack sends without one is the rest of streams whose programs have closed them, which its own hooks have counted among what
/// users have; all else is of another namespace that writes our hardware address into its frames.
const UNSENT_STREAMS: Share = bytes_per_second(1_024, 65_536);
/// Segments of them that carry no more than options: the kernel refuses and ends connections with such after their programs are gone,
/// which is how a new one to the same port comes about after a restart. So many that a busy device's are among them.
const UNSENT_CLOSINGS: Share = Share {
    kind: LimitKind::Packets,
    rate: 5,
    seconds: 1,
    burst: 20,
};
/// Longest of them: the headers of IPv6 and TCP, and options.
const CLOSING_LENGTH: u32 = 40 + 20 + 40;
/// Questions by UDP of them: our own stack sends none but of programs that end while their first neighbour is looked for.
const UNSENT_QUESTIONS: Share = Share {
    kind: LimitKind::Packets,
    rate: 6,
    seconds: 60,
    burst: 2,
};

/// A rate, of a sender over all links.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) kind: LimitKind,
    pub(super) rate: u64,
    pub(super) seconds: u64,
    pub(super) burst: u32,
}

const fn bytes_per_second(rate: u64, burst: u32) -> Share {
    Share {
        kind: LimitKind::Bytes,
        rate,
        seconds: 1,
        burst,
    }
}

const fn share_of_services(protocol: Protocol) -> Share {
    match protocol {
        Protocol::Tcp => STREAMS,
        Protocol::Udp => QUESTIONS,
    }
}

const fn share_of_users(protocol: Protocol) -> Share {
    match protocol {
        Protocol::Tcp => STREAMS,
        Protocol::Udp => USERS_QUESTIONS,
    }
}

impl RuleWriter<'_> {
    /// What goes `to` a lifeline passes, in isolation each sender's share of it. The rules are called `what`; `protocols` are
    /// those that the lifeline may have.
    pub(super) fn lifeline(
        &self,
        (layer, what): (Layer, &str),
        protocols: &[Protocol],
        to: impl Fn(Conditions) -> Conditions,
    ) -> Vec<Rule> {
        let mut rules = match (self.plan.posture, self.effect, layer) {
            (Posture::Isolate, CutAction::Cut, Layer::Netdev) => self.frame_shares(what, protocols, &to),
            (Posture::Isolate, CutAction::Cut, _) => self.packet_shares((layer, what), protocols, &to),
            // Where the device is not isolated nobody is kept from sending as much elsewhere.
            _ => Vec::new(),
        };
        // Otherwise what is left of it is judged by what comes behind.
        if !self.tells_sockets(layer) {
            rules.push(to(Conditions::of(layer)).accept(what));
        }
        rules
    }

    /// Whether what no socket of this namespace has sent is told from the rest, and bounded. Where it is not known what has a route
    /// it is not known either what keeps its socket on the way.
    fn tells_sockets(&self, layer: Layer) -> bool {
        let cuts = (self.plan.posture, self.effect) == (Posture::Isolate, CutAction::Cut);
        layer == Layer::Netdev && cuts && self.asks_for_routes()
    }

    /// What has no sender counts as everybody's: the rest of a stream whose program has closed it.
    fn packet_shares(
        &self,
        (layer, what): (Layer, &str),
        protocols: &[Protocol],
        to: &impl Fn(Conditions) -> Conditions,
    ) -> Vec<Rule> {
        let on = || Conditions::of(layer);
        let mut rules = vec![to(on().sent_by(ROOT)).accept(&format!("root-{what}"))];
        rules.extend(self.nucleus_share((layer, what), to));
        for protocol in protocols {
            let by_services = to(on().sent_below(FIRST_USER)).carries(*protocol);
            let own = match protocol {
                Protocol::Tcp => by_services.within(STREAMS),
                Protocol::Udp => by_services.at_most(QUESTION_LENGTH).within(QUESTIONS),
            };
            rules.push(own.accept(&format!("services-{what}")));
            rules.extend(self.beyond_shares(what, *protocol, HookPath::Out, || to(on())));
        }
        rules
    }

    /// What of the packets that are `like` those is more than users have.
    fn beyond_shares(
        &self,
        what: &str,
        protocol: Protocol,
        way: HookPath,
        like: impl Fn() -> Conditions,
    ) -> Vec<Rule> {
        let header = if way == HookPath::Raw { FRAME_HEADER } else { 0 };
        let what = format!("share-{what}");
        let cut = |beyond| self.cut(&what, beyond, way, "isolated");
        let long = (protocol == Protocol::Udp)
            .then(|| cut(like().carries(protocol).longer_than(QUESTION_LENGTH + header)));
        let often = cut(like().carries(protocol).beyond(share_of_users(protocol)));
        long.into_iter().chain([often]).collect()
    }

    /// What goes `to` where nobody but the nucleus is known to go passes only as its users and root send it. Below the IP stack,
    /// whose own hooks have judged it, it has lost its sender.
    pub(super) fn nucleus_lifeline(
        &self,
        (layer, what): (Layer, &str),
        to: impl Fn(Conditions) -> Conditions,
    ) -> Vec<Rule> {
        if layer == Layer::Netdev && !self.tells_sockets(layer) {
            return vec![to(Conditions::of(layer)).accept(what)];
        }
        let mut rules = vec![to(Conditions::of(layer).sent_by(ROOT)).accept(&format!("root-{what}"))];
        rules.extend(self.nucleus_share((layer, what), &to));
        if layer == Layer::Netdev {
            rules.extend(self.copies(what, &to));
            rules.extend(self.few_unsent(what, &to));
        }
        rules
    }

    /// What of frames goes `to` a lifeline as copies of what was judged above: no other namespace's can leave there, because what
    /// belongs to a bridge or a bond has no interfaces of others on it.
    fn copies(&self, what: &str, to: &impl Fn(Conditions) -> Conditions) -> Option<Rule> {
        let bearers = &self.elements.bearers;
        let bears = |name: &&InterfaceName| {
            bearers.is_empty() || bearers.iter().any(|(_, bearer)| bearer.interface == **name)
        };
        let members: Vec<_> = self.hooks.members.iter().filter(bears).copied().collect();
        let copied = |members: &[InterfaceName]| to(Conditions::of(Layer::Netdev).leaves_by(members));
        (!members.is_empty()).then(|| copied(&members).accept(&format!("copied-{what}")))
    }

    /// TCP that no socket of this namespace has sent, as much as may be the kernel's own; it follows what sockets may send.
    fn few_unsent(&self, what: &str, to: &impl Fn(Conditions) -> Conditions) -> [Rule; 2] {
        let stream = || to(Conditions::of(Layer::Netdev)).carries(Protocol::Tcp);
        let short = stream().at_most(CLOSING_LENGTH + FRAME_HEADER);
        [
            short.within(UNSENT_CLOSINGS).accept(&format!("closing-{what}")),
            stream().within(UNSENT_STREAMS).accept(&format!("unsent-{what}")),
        ]
    }

    /// What goes `to` a lifeline and no socket of this namespace has sent, where it is told from the rest: whatever sockets send
    /// passes first.
    fn unsent_shares(
        &self,
        what: &str,
        protocols: &[Protocol],
        to: &impl Fn(Conditions) -> Conditions,
    ) -> Vec<Rule> {
        let on = || Conditions::of(Layer::Netdev);
        let mut rules = vec![to(on().of_sender(Sender::Socket)).accept(&format!("sent-{what}"))];
        rules.extend(self.copies(what, to));
        if protocols.contains(&Protocol::Tcp) {
            rules.extend(self.few_unsent(what, to));
        }
        if protocols.contains(&Protocol::Udp) {
            let question = to(on())
                .carries(Protocol::Udp)
                .at_most(QUESTION_LENGTH + FRAME_HEADER);
            rules.push(
                question
                    .within(UNSENT_QUESTIONS)
                    .accept(&format!("unsent-{what}")),
            );
        }
        rules
    }

    /// Whatever its users send, so that nobody takes the control channel's room.
    fn nucleus_share(
        &self,
        (layer, what): (Layer, &str),
        to: &impl Fn(Conditions) -> Conditions,
    ) -> Vec<Rule> {
        let users = self.plan.nucleus_users.iter();
        let own = |user| to(Conditions::of(layer).sent_by(user)).accept(&format!("nucleus-{what}"));
        users.map(own).collect()
    }

    /// Below the IP stack all of its packets come by again, some of which have lost their sender on the way: there only what
    /// people's programs send is counted, which may be frames made by hand; and what services send where such frames need no route.
    fn frame_shares(
        &self,
        what: &str,
        protocols: &[Protocol],
        to: &impl Fn(Conditions) -> Conditions,
    ) -> Vec<Rule> {
        let by_users = || to(Conditions::of(Layer::Netdev).sent_from(FIRST_USER));
        let mut rules = self.nucleus_share((Layer::Netdev, what), to);
        let beyond = |protocol: &Protocol| self.beyond_shares(what, *protocol, HookPath::Raw, by_users);
        rules.extend(protocols.iter().flat_map(beyond));
        if !self.asks_for_routes() {
            rules.push(to(Conditions::of(Layer::Netdev).sent_by(ROOT)).accept(&format!("root-{what}")));
            let by_services = || to(Conditions::of(Layer::Netdev).sent_below(FIRST_USER));
            rules.extend(protocols.iter().map(|protocol| {
                let share = share_of_services(*protocol);
                let beyond = by_services().carries(*protocol).beyond(share);
                self.cut(
                    &format!("services-share-{what}"),
                    beyond,
                    HookPath::Raw,
                    "isolated",
                )
            }));
        }
        if self.tells_sockets(Layer::Netdev) {
            rules.extend(self.unsent_shares(what, protocols, to));
        }
        rules
    }
}
