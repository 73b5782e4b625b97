//! Netlink attributes: how they are written and read.
//!
//! In: typed values. Out: bytes, and back. A structure's attributes are described once, by `attributes!` ([`macros`]),
//! and both directions follow from that description.
//!
//! Reading is strict where writing is exact: an attribute that is cut, comes twice, is missing or has the wrong length is
//! an error. One that the description does not know is an error too, or is kept in a field for such ([`Unknown`]), so
//! that nothing foreign ever looks like something of ours.

mod attribute;
mod error;
mod macros;
pub(crate) mod message;

pub(crate) use attribute::{Attribute, Attributes, decode_text};
pub use error::DecodeError;
pub(crate) use macros::{attributes, flags, numbers};

/// Bytes of an attribute's header.
pub(crate) const ATTRIBUTE_HEADER: usize = 4;
/// Flag of attributes that hold attributes.
const NESTED: u16 = 1 << 15;
/// Flag of attributes in network order; the number is what is left without both.
const NETWORK_ORDER: u16 = 1 << 14;

/// An attribute that the description of its structure does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Its number, with the two flags that netlink has above it.
    pub number: u16,
    /// Its bytes.
    pub value: Vec<u8>,
}

/// Writes messages and their attributes one behind the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    /// What could not be written as it is: the batch is spoilt then.
    fault: Option<EncodeFault>,
    /// The id that the next set has in this batch.
    pub(crate) next_set: u32,
}

/// Why something cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeFault {
    /// The length of an attribute is a number of 16 bits.
    #[error("an attribute is longer than 64 KiB")]
    TooLong,
    /// The kernel's names end with a zero byte.
    #[error("a name has a zero byte in it")]
    ZeroByte,
}

impl Encoder {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn take_fault(&mut self) -> Option<EncodeFault> {
        self.fault.take()
    }

    pub(crate) fn fail(&mut self, fault: EncodeFault) {
        self.fault.get_or_insert(fault);
    }

    pub(crate) fn attribute(&mut self, number: u16, value: &[u8]) {
        let start = self.open(number);
        self.bytes.extend_from_slice(value);
        self.close(start);
    }

    pub(crate) fn text(&mut self, number: u16, text: &str) {
        if text.bytes().any(|byte| byte == 0) {
            self.fail(EncodeFault::ZeroByte);
        }
        let start = self.open(number);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.close(start);
    }

    /// Writes what `inside` writes as one attribute.
    pub(crate) fn nest(&mut self, number: u16, inside: impl FnOnce(&mut Self)) {
        let start = self.open(number | NESTED);
        inside(self);
        self.close(start);
    }

    /// Begins an attribute; [`Encoder::close`] with what this returns ends it.
    pub(crate) fn open(&mut self, number: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&number.to_ne_bytes());
        start
    }

    /// Begins an attribute that holds attributes.
    pub(crate) fn open_nest(&mut self, number: u16) -> usize {
        self.open(number | NESTED)
    }

    pub(crate) fn close(&mut self, start: usize) {
        let Ok(length) = u16::try_from(self.bytes.len() - start) else {
            self.fail(EncodeFault::TooLong);
            return;
        };
        if let Some(place) = self.bytes.get_mut(start..start + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }
}

/// One attribute as it lies in a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawAttribute<'a> {
    /// Its number without flags.
    pub(crate) number: u16,
    /// Its number with flags.
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

/// The attributes in `bytes`; the last one is an error where they are cut.
pub(crate) fn attributes_of(bytes: &[u8]) -> impl Iterator<Item = Result<RawAttribute<'_>, DecodeError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let attribute = first_attribute(rest);
        rest = match attribute {
            Some((_, rest)) => rest,
            None => &[],
        };
        Some(attribute.map(|(attribute, _)| attribute).ok_or(DecodeError::Cut))
    })
}

/// The first attribute, and what follows it.
fn first_attribute(bytes: &[u8]) -> Option<(RawAttribute<'_>, &[u8])> {
    let [a, b, c, d, ..] = *bytes else { return None };
    let length = usize::from(u16::from_ne_bytes([a, b]));
    let kind = u16::from_ne_bytes([c, d]);
    let value = bytes.get(ATTRIBUTE_HEADER..length)?;
    // The last one's padding may be missing.
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    let number = kind & !(NESTED | NETWORK_ORDER);
    Some((RawAttribute { number, kind, value }, rest))
}

/// The value of the first attribute of that number.
pub(crate) fn find(bytes: &[u8], number: u16) -> Option<&[u8]> {
    attributes_of(bytes)
        .map_while(Result::ok)
        .find(|attribute| attribute.number == number)
        .map(|attribute| attribute.value)
}

#[cfg(test)]
mod tests;
