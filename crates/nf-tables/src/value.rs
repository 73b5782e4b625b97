//! What rules work with: values, registers, verdicts.
//!
//! Normal form: a register is told by its place in words. The kernel has two numbers for some of them (four registers of
//! 16 bytes, or sixteen of 4 bytes, over the same memory) and lists the larger one where it can.

use std::fmt;

use crate::wire::{Attribute, DecodeError, Encoder, attributes};

/// Up to 64 bytes as they lie in registers: a key of a set, a mask, what is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value {
    // The bytes first, so that values of one length are ordered as the kernel orders them.
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Value {
    /// Most bytes of a value (`NFT_DATA_VALUE_MAXLEN`).
    pub const MAX: usize = 64;

    /// These bytes; none where there are more than [`Value::MAX`].
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut value = Self {
            bytes: [0; Self::MAX],
            length: u8::try_from(bytes.len()).ok()?,
        };
        value.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(value)
    }

    /// `length` zero bytes, at most [`Value::MAX`].
    #[must_use]
    pub fn zero(length: usize) -> Self {
        let length = length.min(Self::MAX);
        Self {
            bytes: [0; Self::MAX],
            length: u8::try_from(length).unwrap_or_default(),
        }
    }

    /// These parts one behind the other, each filled up to a multiple of four bytes, as keys of concatenations are; none
    /// where they are more than [`Value::MAX`] bytes.
    #[must_use]
    pub fn concatenation(parts: &[&[u8]]) -> Option<Self> {
        let mut value = Self::zero(0);
        for part in parts {
            let start = usize::from(value.length);
            value
                .bytes
                .get_mut(start..start + part.len())?
                .copy_from_slice(part);
            value.length = u8::try_from(start + part.len().next_multiple_of(4)).ok()?;
        }
        (usize::from(value.length) <= Self::MAX).then_some(value)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length.into()
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether all of its bytes are zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.bytes().iter().all(|byte| *byte == 0)
    }

    /// The next value of the same length as a number in network order; none after the last one.
    #[must_use]
    pub fn successor(mut self) -> Option<Self> {
        let bytes = self.bytes.get_mut(..usize::from(self.length))?;
        for byte in bytes.iter_mut().rev() {
            let (next, overflowed) = byte.overflowing_add(1);
            *byte = next;
            if !overflowed {
                return Some(self);
            }
        }
        None
    }
}

macro_rules! from_array {
    ($($length:literal)*) => {$(
        impl From<[u8; $length]> for Value {
            fn from(bytes: [u8; $length]) -> Self {
                let mut value = Self::zero($length);
                value.bytes[..$length].copy_from_slice(&bytes);
                value
            }
        }
    )*};
}

from_array!(1 2 3 4 5 6 7 8 12 16 20 24);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// `NFTA_DATA_VALUE`.
const VALUE: u16 = 1;
/// `NFTA_DATA_VERDICT`.
const VERDICT: u16 = 2;

impl Attribute for Value {
    fn put(&self, number: u16, out: &mut Encoder) {
        out.nest(number, |out| out.attribute(VALUE, self.bytes()));
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        match Data::get(value)? {
            Data::Value(value) => Ok(value),
            Data::Verdict(_) => Err(DecodeError::Unknown {
                what: "a value",
                number: VERDICT,
            }),
        }
    }
}

/// What can be put into a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Bytes.
    Value(Value),
    /// What becomes of the packet.
    Verdict(Verdict),
}

attributes! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    /// What becomes of a packet.
    pub struct Verdict as "a verdict" {
        /// The kernel's number: 0 drops, 1 accepts, negative ones go elsewhere in the ruleset.
        pub code: i32 = 1,
        /// The chain that a jump goes to.
        pub chain: Option<String> = 2,
    }
}

impl Verdict {
    /// The packet is dropped, whatever other chains say.
    pub const DROP: Self = Self { code: 0, chain: None };
    /// The packet passes this chain's hook.
    pub const ACCEPT: Self = Self { code: 1, chain: None };

    /// The rest of this chain is not asked: the one that has sent it here goes on.
    pub const RETURN: Self = Self {
        code: RETURN,
        chain: None,
    };

    /// The rules of another chain are asked, and then the rest of this one's.
    #[must_use]
    pub fn jump(chain: impl Into<String>) -> Self {
        Self {
            code: JUMP,
            chain: Some(chain.into()),
        }
    }
}

/// `NFT_JUMP`.
const JUMP: i32 = -3;
/// `NFT_RETURN`.
const RETURN: i32 = -5;

attributes! {
    /// How [`Data`] lies in an attribute.
    struct DataAttributes as "a value" {
        value: Option<ValueBytes> = 1,
        verdict: Option<Verdict> = 2,
    }
}

/// The bytes of a value without anything around them.
struct ValueBytes(Value);

impl Attribute for ValueBytes {
    fn put(&self, number: u16, out: &mut Encoder) {
        out.attribute(number, self.0.bytes());
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        Value::new(value).map(Self).ok_or(DecodeError::Length {
            found: value.len(),
            expected: "a value has 64 at most",
        })
    }
}

impl Attribute for Data {
    fn put(&self, number: u16, out: &mut Encoder) {
        match self {
            Self::Value(value) => value.put(number, out),
            Self::Verdict(verdict) => out.nest(number, |out| verdict.put(VERDICT, out)),
        }
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        let attributes = <DataAttributes as crate::wire::Attributes>::get_all(value)?;
        match (attributes.value, attributes.verdict) {
            (Some(ValueBytes(value)), None) => Ok(Self::Value(value)),
            (None, Some(verdict)) => Ok(Self::Verdict(verdict)),
            _ => Err(DecodeError::Missing {
                what: "a value",
                number: VALUE,
            }),
        }
    }
}

/// A place that expressions write to and read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register(Place);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    Verdict,
    Word(u8),
}

impl Register {
    /// Where verdicts go.
    pub const VERDICT: Self = Self(Place::Verdict);
    /// The first word; where whatever needs only one value has it.
    pub const FIRST: Self = Self(Place::Word(0));
    /// Words of four bytes that there are.
    pub const WORDS: u8 = 16;

    /// The register that begins at this word of four bytes; none beyond the last one.
    #[must_use]
    pub const fn word(word: u8) -> Option<Self> {
        if word < Self::WORDS {
            Some(Self(Place::Word(word)))
        } else {
            None
        }
    }

    /// The register behind `bytes` bytes that begin at this one, as a concatenation's next part is; none beyond the last.
    #[must_use]
    pub fn behind(self, bytes: usize) -> Option<Self> {
        match self.0 {
            Place::Verdict => None,
            Place::Word(word) => Self::word(word.checked_add(u8::try_from(bytes.div_ceil(4)).ok()?)?),
        }
    }
}

impl Attribute for Register {
    fn put(&self, number: u16, out: &mut Encoder) {
        let register = match self.0 {
            Place::Verdict => 0,
            Place::Word(word) if word % 4 == 0 => u32::from(word / 4) + 1,
            Place::Word(word) => u32::from(word) + 8,
        };
        register.put(number, out);
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        let number = u32::get(value)?;
        let word = match number {
            0 => return Ok(Self::VERDICT),
            1..=4 => (number - 1) * 4,
            _ => number.wrapping_sub(8),
        };
        let register = u8::try_from(word).ok().and_then(Self::word);
        register.ok_or(DecodeError::Number {
            what: "a register",
            number: number.into(),
        })
    }
}
