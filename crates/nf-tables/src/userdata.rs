//! What nft keeps in the kernel for itself, so that it lists what was written: comments, types of keys.
//!
//! In: comments, [`TypeOf`]. Out: [`UserData`], the bytes as nft 1.0 and 1.1 write them (`enum nftnl_udata_*` of libnftnl):
//! a type, a length, a value, one behind the other; numbers in the order of this machine. The kernel neither reads nor
//! changes them.

use crate::wire::{Attribute, DecodeError, Encoder};

/// A rule's comment (`NFTNL_UDATA_RULE_COMMENT`).
const RULE_COMMENT: u8 = 0;
/// Of sets (`enum nftnl_udata_set_types`).
const KEY_BYTE_ORDER: u8 = 0;
const MERGE_ELEMENTS: u8 = 2;
const KEY_TYPE_OF: u8 = 3;
/// Of a type (`enum nftnl_udata_set_typeof_types`).
const TYPE_OF_EXPRESSION: u8 = 0;
const TYPE_OF_DATA: u8 = 1;
/// Kinds of expressions as nft numbers them (`enum expr_types`).
const PAYLOAD: u32 = 7;
const META: u32 = 9;
const CONNTRACK: u32 = 12;
const CONCATENATION: u32 = 13;
/// Of an element (`NFTNL_UDATA_SET_ELEM_FLAGS`): a number of bits.
const ELEMENT_FLAGS: u8 = 1;
/// The interval that begins here has no end (`NFTNL_SET_ELEM_F_INTERVAL_OPEN`).
const INTERVAL_OPEN: u32 = 1;

/// Bytes that the kernel keeps beside a rule, set or element.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserData(Vec<u8>);

impl UserData {
    /// Longest comment in bytes that a rule can have, its zero byte not counted.
    pub const MAX_COMMENT: usize = 254;

    /// No bytes.
    pub const NONE: Self = Self(Vec::new());

    /// These bytes as they are.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Of a rule that nft lists with this comment; what is longer than [`UserData::MAX_COMMENT`] is left out.
    #[must_use]
    pub fn rule_comment(comment: &str) -> Self {
        let mut end = comment.len().min(Self::MAX_COMMENT);
        while !comment.is_char_boundary(end) {
            end -= 1;
        }
        let mut text = comment.as_bytes().get(..end).unwrap_or_default().to_vec();
        text.push(0);
        let mut data = Self::NONE;
        data.push(RULE_COMMENT, &text);
        data
    }

    /// The comment of a rule.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        let (_, value) = self.values().find(|(kind, _)| *kind == RULE_COMMENT)?;
        std::str::from_utf8(value.strip_suffix(&[0])?).ok()
    }

    /// Of a set: the order of its keys' bytes, and what they are where the type alone does not say it.
    #[must_use]
    pub fn of_set(order: KeyOrder, merges: bool, type_of: Option<TypeOf>) -> Self {
        let mut data = Self::NONE;
        data.push_number(KEY_BYTE_ORDER, order.number());
        if merges {
            data.push_number(MERGE_ELEMENTS, 1);
        }
        if let Some(type_of) = type_of {
            data.push(KEY_TYPE_OF, &type_of.encode().0);
        }
        data
    }

    /// Of the element with which an interval begins that has no end.
    #[must_use]
    pub fn open_interval() -> Self {
        let mut data = Self::NONE;
        data.push_number(ELEMENT_FLAGS, INTERVAL_OPEN);
        data
    }

    fn of_expression(kind: u32, inner: &Self) -> Self {
        let mut data = Self::NONE;
        data.push_number(TYPE_OF_EXPRESSION, kind);
        data.push(TYPE_OF_DATA, &inner.0);
        data
    }

    fn push(&mut self, kind: u8, value: &[u8]) {
        // Whatever is written here is far shorter; a comment is cut before.
        let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
        self.0.extend([kind, length]);
        self.0.extend(value.iter().take(length.into()));
    }

    fn push_number(&mut self, kind: u8, number: u32) {
        self.push(kind, &number.to_ne_bytes());
    }

    fn values(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let [kind, length, tail @ ..] = rest else {
                return None;
            };
            let value = tail.get(..usize::from(*length))?;
            rest = tail.get(usize::from(*length)..)?;
            Some((*kind, value))
        })
    }
}

impl Attribute for UserData {
    fn put(&self, number: u16, out: &mut Encoder) {
        out.attribute(number, &self.0);
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(value.to_vec()))
    }
}

/// The order of the bytes of a set's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrder {
    /// A concatenation has none.
    None,
    /// That of this machine.
    Host,
    /// That of the network.
    Network,
}

impl KeyOrder {
    fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Host => 1,
            Self::Network => 2,
        }
    }
}

/// What a key is made of, as nft needs it to list an anonymous set. Numbers are those of nft's own tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeOf {
    /// A field of a header that nft knows.
    Field {
        /// The header (`enum proto_desc_id`).
        header: Header,
        /// The field's place in nft's description of it.
        field: u32,
    },
    /// Bits of a header, by their place.
    Bits {
        /// 1 for the link-layer header, 2 for the network's, 3 for the transport's.
        base: u32,
        /// The first bit.
        offset: u32,
        /// How many.
        length: u32,
    },
    /// A key of `meta`, as the kernel numbers it.
    Meta(u32),
    /// A key of `ct`, as the kernel numbers it, and of packets of which direction.
    Conntrack {
        /// The key.
        key: u32,
        /// The direction.
        direction: u32,
    },
    /// Several keys, whose types the set's type says.
    Concatenation,
    /// Several keys, of which the set's type does not say all.
    Parts(&'static [TypeOf]),
}

/// Headers as nft numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// ICMP; its type is field 1.
    Icmp,
    /// UDP; source port is field 1, destination port field 2.
    Udp,
    /// TCP; source port is field 1, destination port field 2.
    Tcp,
    /// IPv4; source address is field 11, destination address field 12.
    Ip,
    /// IPv6; source address is field 8, destination address field 9.
    Ip6,
    /// ICMPv6; its type is field 1.
    Icmp6,
}

impl Header {
    fn number(self) -> u32 {
        match self {
            Self::Icmp => 4,
            Self::Udp => 6,
            Self::Tcp => 8,
            Self::Ip => 12,
            Self::Ip6 => 13,
            Self::Icmp6 => 14,
        }
    }
}

impl TypeOf {
    fn encode(self) -> UserData {
        if let Self::Parts(parts) = self {
            let mut inner = UserData::NONE;
            for (place, part) in (0_u8..).zip(parts) {
                inner.push(place, &part.encode().0);
            }
            return UserData::of_expression(CONCATENATION, &inner);
        }
        let (kind, numbers): (u32, &[u32]) = match self {
            Self::Field { header, field } => (PAYLOAD, &[header.number(), field]),
            Self::Bits { base, offset, length } => (PAYLOAD, &[0, 0, base, offset, length]),
            Self::Meta(key) => (META, &[key]),
            Self::Conntrack { key, direction } => (CONNTRACK, &[key, direction]),
            Self::Concatenation | Self::Parts(_) => (CONCATENATION, &[]),
        };
        let mut inner = UserData::NONE;
        for (place, number) in (0_u8..).zip(numbers) {
            inner.push_number(place, *number);
        }
        UserData::of_expression(kind, &inner)
    }
}
