//! What can be the value of an attribute.
//!
//! In: numbers, texts, structures, lists. Out: one attribute for each, and back. Numbers are in network order, texts end
//! with a zero byte, structures and lists are attributes inside an attribute, as nf_tables wants them.

use super::{DecodeError, Encoder, attributes_of};

/// The number that every entry of a list has (`NFTA_LIST_ELEM`).
const LIST_ELEMENT: u16 = 1;

/// A value that is one attribute, or none where it says nothing.
pub(crate) trait Attribute: Sized {
    fn put(&self, number: u16, out: &mut Encoder);

    fn get(value: &[u8]) -> Result<Self, DecodeError>;

    /// What it means that the attribute is not there.
    fn absent() -> Option<Self> {
        None
    }
}

/// A structure: attributes with numbers of their own. Implemented by `attributes!`.
pub(crate) trait Attributes: Sized {
    fn put_all(&self, out: &mut Encoder);

    fn get_all(bytes: &[u8]) -> Result<Self, DecodeError>;
}

impl<T: Attributes> Attribute for T {
    fn put(&self, number: u16, out: &mut Encoder) {
        out.nest(number, |out| self.put_all(out));
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        Self::get_all(value)
    }
}

impl<T: Attribute> Attribute for Option<T> {
    fn put(&self, number: u16, out: &mut Encoder) {
        if let Some(value) = self {
            value.put(number, out);
        }
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        T::get(value).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A list whose entries all have the number of a list's element.
impl<T: Attribute> Attribute for Vec<T> {
    fn put(&self, number: u16, out: &mut Encoder) {
        if !self.is_empty() {
            out.nest(number, |out| {
                self.iter().for_each(|entry| entry.put(LIST_ELEMENT, out));
            });
        }
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        attributes_of(value)
            .map(|attribute| {
                let attribute = attribute?;
                match attribute.number {
                    LIST_ELEMENT => T::get(attribute.value),
                    number => Err(DecodeError::Unknown {
                        what: "a list",
                        number,
                    }),
                }
            })
            .collect()
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

macro_rules! network_order {
    ($($number:ty, $expected:literal);*) => {$(
        impl Attribute for $number {
            fn put(&self, number: u16, out: &mut Encoder) {
                out.attribute(number, &self.to_be_bytes());
            }

            fn get(value: &[u8]) -> Result<Self, DecodeError> {
                let wrong = |_| DecodeError::Length { found: value.len(), expected: $expected };
                value.try_into().map(Self::from_be_bytes).map_err(wrong)
            }
        }
    )*};
}

network_order!(u32, "a number has 4"; i32, "a number has 4"; u64, "a number has 8");

impl Attribute for String {
    fn put(&self, number: u16, out: &mut Encoder) {
        out.text(number, self);
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        decode_text(value).map(str::to_owned)
    }
}

/// A name; the zero byte at its end may be missing, as nft sends some.
pub(crate) fn decode_text(value: &[u8]) -> Result<&str, DecodeError> {
    match std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(DecodeError::Text),
    }
}
