//! What rules are made of: each expression does one step with a packet.
//!
//! In: structures, one for each kind of expression. Out: the bytes the kernel wants, and back. The table at `expressions!`
//! is the only place that says which name in the kernel is which structure.
//!
//! Invariant: what cannot be read exactly is [`Expression::Unknown`], with its bytes. It equals nothing that this crate
//! can make.

mod act;
mod compare;
mod load;
mod lookup;

pub use act::{
    Counter, DynamicElement, DynamicFlags, DynamicOperation, Limit, LimitFlags, LimitKind, Notrack,
    ObjectReference, Quota, QuotaFlags, SetMeta, SetVerdict,
};
pub use compare::{
    Bitwise, BitwiseOperation, ByteOrder, ByteOrderOperation, Comparison, Operator, Range, RangeOperator,
};
pub use load::{
    Conntrack, ConntrackKey, ExtensionFlags, ExtensionHeader, ExtensionPlace, Fib, FibFlags, FibResult, Meta,
    MetaKey, Octet, Payload, PayloadBase, Route, RouteKey,
};
pub use lookup::{Lookup, LookupFlags, SetReference};

use crate::value::{Data, Register, Value, Verdict};
use crate::wire::{Attribute, Attributes, DecodeError, Encoder, attributes_of, decode_text};

/// `NFTA_EXPR_NAME`.
const NAME: u16 = 1;
/// `NFTA_EXPR_DATA`.
const DATA: u16 = 2;

macro_rules! expressions {
    ($( $(#[$doc:meta])* $variant:ident($kind:ty) = $name:literal, )*) => {
        /// One step of a rule.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Expression {
            $( $(#[$doc])* $variant($kind), )*
            /// One that is none of these, or not as this crate would write it.
            Unknown(UnknownExpression),
        }

        $(
            impl From<$kind> for Expression {
                fn from(expression: $kind) -> Self {
                    Self::$variant(expression)
                }
            }
        )*

        impl Expression {
            /// What the kernel calls this kind.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $( Self::$variant(_) => $name, )*
                    Self::Unknown(unknown) => &unknown.name,
                }
            }

            fn put_data(&self, out: &mut Encoder) {
                match self {
                    $( Self::$variant(expression) => out.nest(DATA, |out| expression.put_all(out)), )*
                    Self::Unknown(unknown) => out.attribute(DATA, &unknown.data),
                }
            }

            fn decode(name: &str, data: &[u8]) -> Self {
                // Two kinds may have one name: what is read exactly is what it is.
                let mut known = None;
                $( if known.is_none() && name == $name {
                    known = <$kind>::get_all(data).map(Self::$variant).ok();
                } )*
                known.unwrap_or_else(|| {
                    Self::Unknown(UnknownExpression { name: name.to_owned(), data: data.to_vec() })
                })
            }
        }
    };
}

expressions! {
    /// Something about the packet that is not in its bytes.
    Meta(Meta) = "meta",
    /// Sets such a thing.
    SetMeta(SetMeta) = "meta",
    /// Bytes of the packet.
    Payload(Payload) = "payload",
    /// What connection tracking knows.
    Conntrack(Conntrack) = "ct",
    /// Something about the packet's route.
    Route(Route) = "rt",
    /// What the host's routing says of an address.
    Fib(Fib) = "fib",
    /// Bytes of options and extension headers, or whether there are such.
    ExtensionHeader(ExtensionHeader) = "exthdr",
    /// Ends the rule unless a register compares as wanted.
    Comparison(Comparison) = "cmp",
    /// Ends the rule unless a register is within, or without, two bounds.
    Range(Range) = "range",
    /// Masks a register.
    Bitwise(Bitwise) = "bitwise",
    /// Turns the bytes of a register's numbers round.
    ByteOrder(ByteOrder) = "byteorder",
    /// Ends the rule unless a set has, or has not, what is in a register.
    Lookup(Lookup) = "lookup",
    /// Puts a value or verdict into a register.
    SetVerdict(SetVerdict) = "immediate",
    /// Ends the rule for what is above, or below, a rate.
    Limit(Limit) = "limit",
    /// Counts in the rule itself.
    Counter(Counter) = "counter",
    /// Ends the rule until, or from, so many bytes.
    Quota(Quota) = "quota",
    /// Keeps the packet from connection tracking.
    Notrack(Notrack) = "notrack",
    /// Counts or limits in an object of the table.
    ObjectReference(ObjectReference) = "objref",
    /// Counts or limits in an element of a set, one for each key.
    DynamicElement(DynamicElement) = "dynset",
}

/// An expression that is kept as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownExpression {
    /// What the kernel calls its kind.
    pub name: String,
    /// Its attributes.
    pub data: Vec<u8>,
}

impl Expression {
    /// The packet passes this hook.
    #[must_use]
    pub fn accept() -> Self {
        SetVerdict::of(Verdict::ACCEPT).into()
    }

    /// The packet is dropped.
    #[must_use]
    pub fn drop() -> Self {
        SetVerdict::of(Verdict::DROP).into()
    }

    /// Goes on if the first register is `value`.
    #[must_use]
    pub fn equal(value: impl Into<Value>) -> Self {
        Comparison::first(Operator::Equal, value).into()
    }

    /// Its verdict, if it gives one.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        match self {
            Self::SetVerdict(SetVerdict {
                destination: Register::VERDICT,
                data: Data::Verdict(verdict),
            }) => Some(verdict),
            _ => None,
        }
    }
}

impl Attribute for Expression {
    fn put(&self, number: u16, out: &mut Encoder) {
        out.nest(number, |out| {
            out.text(NAME, self.name());
            self.put_data(out);
        });
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        let what = "an expression";
        let (mut name, mut data) = (None, None);
        for attribute in attributes_of(value) {
            let attribute = attribute?;
            let place = match attribute.number {
                NAME => &mut name,
                DATA => &mut data,
                number => return Err(DecodeError::Unknown { what, number }),
            };
            if place.replace(attribute.value).is_some() {
                let number = attribute.number;
                return Err(DecodeError::Twice { what, number });
            }
        }
        let name = name.ok_or(DecodeError::Missing { what, number: NAME })?;
        Ok(Self::decode(decode_text(name)?, data.unwrap_or_default()))
    }
}
