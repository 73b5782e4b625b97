//! Conditions of what exceptions are like: which sender's, how long, without headers that lead it elsewhere.

use nf_tables::{
    AnonymousSet, Bitwise, ByteOrder, Comparison, Expression, ExtensionHeader, KeyType, Lookup, Meta,
    MetaKey, Operator, Payload, PayloadBase, TypeOf,
};

use super::Conditions;

/// The last account of a service: distributions give people, and nobody, higher numbers.
const LAST_SERVICE: u32 = 999;

/// The extension header of pieces of a packet.
const FRAGMENT: u8 = 44;

/// Who sent a packet. What the kernel has made itself has no sender: it answers and asks for everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Sender {
    /// A socket of root's.
    Root,
    /// A socket of a service's account.
    Service,
    /// A socket of any other account.
    User,
    /// Any socket.
    Socket,
}

/// A header that names other places for its packet to come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Detour {
    /// IPv4: loose source route.
    Loose,
    /// IPv4: strict source route.
    Strict,
    /// IPv6: routing header.
    Routing,
}

impl Detour {
    pub(in super::super) const ALL: [Self; 3] = [Self::Loose, Self::Strict, Self::Routing];

    /// Whether it is one of IPv4; its number; what nft calls it.
    const fn told(self) -> (bool, u8, &'static str) {
        match self {
            Self::Loose => (true, 131, "ip option lsrr exists"),
            Self::Strict => (true, 137, "ip option ssrr exists"),
            Self::Routing => (false, 43, "exthdr rt exists"),
        }
    }
}

/// An option of IPv4 that leads no packet anywhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum HarmlessOption {
    /// Whoever passes it on is to look at it.
    Alert,
    /// Whoever passes it on writes his address down.
    Record,
}

impl Conditions {
    /// A socket of that sender's has sent it.
    pub(in super::super) fn of_sender(self, sender: Sender) -> Self {
        let user = |conditions: Self, words: &str| conditions.said(words).step(Meta::first(MetaKey::User));
        let bound = |conditions: Self, operator, number: u32| {
            conditions.step(Comparison::first(operator, number.to_be_bytes()))
        };
        match sender {
            Sender::Root => user(self, "meta skuid 0").step(Expression::equal([0; 4])),
            Sender::Service => {
                let number =
                    user(self, &format!("meta skuid 1-{LAST_SERVICE}")).step(ByteOrder::to_network());
                let number = bound(number, Operator::GreaterOrEqual, 1);
                bound(number, Operator::LessOrEqual, LAST_SERVICE)
            }
            Sender::User => {
                let first = LAST_SERVICE + 1;
                let number = user(self, &format!("meta skuid >= {first}")).step(ByteOrder::to_network());
                bound(number, Operator::GreaterOrEqual, first)
            }
            Sender::Socket => {
                let number = user(self, "meta skuid >= 0").step(ByteOrder::to_network());
                bound(number, Operator::GreaterOrEqual, 0)
            }
        }
    }

    pub(in super::super) fn longer_than(self, length: u32) -> Self {
        self.said(format_args!("meta length > {length}"))
            .step(Meta::first(MetaKey::Length))
            .step(ByteOrder::to_network())
            .step(Comparison::first(Operator::Greater, length.to_be_bytes()))
    }

    /// A listener's report that answers a question: its first record says what is, not what has changed. Behind the IPv6 header
    /// there is a router alert.
    pub(in super::super) fn answers_listener_query(self) -> Self {
        const RECORD: u32 = 40 + 8 + 8;
        let bits = TypeOf::Bits {
            base: 2,
            offset: RECORD * 8,
            length: 8,
        };
        let modes = AnonymousSet::of_values(KeyType::INTEGER, bits, [[1], [2]]);
        self.said(format_args!("@nh,{},8 {{ 1, 2 }}", RECORD * 8))
            .step(Payload::first(PayloadBase::Network, RECORD, 1))
            .step(Lookup::one_of(modes))
    }

    /// The kernel can tell its transport protocol.
    pub(in super::super) fn has_transport(self) -> Self {
        self.said("meta l4proto >= 0")
            .step(Meta::first(MetaKey::TransportProtocol))
            .step(Comparison::first(Operator::GreaterOrEqual, [0]))
    }

    /// A piece of a packet that was cut up, but for the first.
    pub(in super::super) fn later_piece(self, v4: bool) -> Self {
        let (words, offset, mask) = if v4 {
            ("ip frag-off & 0x1fff != 0", 6, [0x1f, 0xff])
        } else {
            ("@nh,48,8 44 @nh,336,16 & 0xfff8 != 0", 42, [0xff, 0xf8])
        };
        let mut piece = self.said(words).network(v4);
        if !v4 {
            let next = Payload::first(PayloadBase::Network, 6, 1);
            piece = piece.step(next).step(Expression::equal([FRAGMENT]));
        }
        piece
            .step(Payload::first(PayloadBase::Network, offset, 2))
            .step(Bitwise::mask(mask))
            .step(Comparison::first(Operator::NotEqual, [0; 2]))
    }

    /// A packet of IPv4 that was cut up, of which more is to come.
    pub(in super::super) fn more_is_to_come(self) -> Self {
        self.said("ip frag-off & 0x2000 != 0")
            .network(true)
            .step(Payload::first(PayloadBase::Network, 6, 2))
            .step(Bitwise::mask([0x20, 0]))
            .step(Comparison::first(Operator::NotEqual, [0; 2]))
    }

    /// An IPv4 packet with options.
    pub(in super::super) fn options(self) -> Self {
        let without: u8 = 5;
        self.said(format_args!("ip hdrlength > {without}"))
            .network(true)
            .step(Payload::first(PayloadBase::Network, 0, 1))
            .step(Bitwise::mask([0x0f]))
            .step(Comparison::first(Operator::Greater, [without]))
    }

    /// An IPv4 packet of another protocol.
    pub(in super::super) fn not_of(self, protocol: u8) -> Self {
        self.said(format_args!("ip protocol != {protocol}"))
            .network(true)
            .step(Payload::first(PayloadBase::Network, 9, 1))
            .step(Comparison::first(Operator::NotEqual, [protocol]))
    }

    /// The kernel finds no such option in it.
    pub(in super::super) fn without(self, option: HarmlessOption) -> Self {
        let (number, word) = match option {
            HarmlessOption::Alert => (148, "ra"),
            HarmlessOption::Record => (7, "rr"),
        };
        self.said(format_args!("ip option {word} missing"))
            .network(true)
            .step(ExtensionHeader::presence(true, number))
            .step(Expression::equal([0]))
    }

    /// It has such a header.
    pub(in super::super) fn leads_elsewhere(self, detour: Detour) -> Self {
        let (v4, number, words) = detour.told();
        self.said(words)
            .network(v4)
            .step(ExtensionHeader::presence(v4, number))
            .step(Expression::equal([1]))
    }
}
