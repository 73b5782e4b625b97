//! The kernel's own words about a message that it refuses.
//!
//! In: an error message, and the transaction it answers. Out: which step is refused, the error number, the text of the
//! kernel's extended acknowledgement and the attribute that it points at, where there are such.

use super::protocol::{CAPPED, EXTENDED};
use crate::batch::Batch;
use crate::wire::message::{HEADER, Message, word};
use crate::wire::{attributes_of, decode_text};

/// Attributes of an error message (`enum nlmsgerr_attrs`).
const TEXT: u16 = 1;
const OFFSET: u16 = 2;
/// `NFTA_RULE_EXPRESSIONS`, and `NFTA_EXPR_NAME`.
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_NAME: u16 = 1;
/// Bytes of the error number.
const CODE: usize = 4;
/// Longest text that is kept; the kernel's are a line.
const MAX_TEXT: usize = 256;
/// Attributes within attributes that are followed; the deepest place of ours has seven.
const MAX_DEPTH: usize = 16;

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The step it is about, among those of the transaction; none where the transaction as a whole was refused.
    pub step: Option<usize>,
    /// The kernel's error number, positive.
    pub errno: i32,
    /// Its own words.
    pub text: Option<String>,
    /// The attribute that it does not like, from the outermost in.
    pub place: Vec<AttributePlace>,
    /// The name of the expression of a rule that it does not like.
    pub expression: Option<String>,
}

/// An attribute among its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributePlace {
    /// Its number.
    pub number: u16,
    /// How many attributes come before it: for an expression of a rule, its place in the rule.
    pub position: usize,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let error = std::io::Error::from_raw_os_error(self.errno);
        match &self.text {
            Some(text) => write!(f, "{text} ({error})"),
            None => write!(f, "{error}"),
        }
    }
}

/// The error number of an error message or of the end of a list, positive; zero for none, and none where it is cut.
pub(super) fn errno_of(message: &Message<'_>) -> Option<i32> {
    Some(word(message.payload, 0)?.cast_signed().saturating_neg())
}

impl Refusal {
    /// What an error message says, without the step.
    pub(super) fn of(message: &Message<'_>, errno: i32) -> (Self, Option<u32>) {
        let mut refusal = Self {
            step: None,
            errno,
            text: None,
            place: Vec::new(),
            expression: None,
        };
        let mut offset = None;
        for attribute in extended(message).flat_map(attributes_of).map_while(Result::ok) {
            match attribute.number {
                TEXT => {
                    let text = decode_text(attribute.value).ok();
                    refusal.text = text.map(|text| text.chars().take(MAX_TEXT).collect());
                }
                OFFSET => offset = word(attribute.value, 0),
                _ => {}
            }
        }
        (refusal, offset)
    }

    /// What an error message says of one of a transaction's messages.
    pub(super) fn within(message: &Message<'_>, errno: i32, batch: &Batch, place: usize) -> Self {
        let (refusal, offset) = Self::of(message, errno);
        let place_of = |offset: u32| attribute_at(batch.message(place)?, offset as usize);
        let places = offset.and_then(place_of).unwrap_or_default();
        // The list of a rule, and one in it.
        let is_expression = matches!(places.as_slice(), [list, _] if list.number == RULE_EXPRESSIONS);
        let name_of = |offset: u32| name_at(batch.message(place)?, offset as usize);
        Self {
            step: batch.step_of(place),
            expression: offset.filter(|_| is_expression).and_then(name_of),
            place: places,
            ..refusal
        }
    }
}

/// The attributes behind the number, and behind what is repeated of the refused message.
fn extended<'a>(message: &Message<'a>) -> impl Iterator<Item = &'a [u8]> {
    let repeated = if message.flags & CAPPED == 0 {
        word(message.payload, CODE).map_or(HEADER, |length| (length as usize).next_multiple_of(4))
    } else {
        HEADER
    };
    let attributes = message.payload.get(CODE.saturating_add(repeated)..);
    attributes.filter(|_| message.flags & EXTENDED != 0).into_iter()
}

/// The name in the attribute at an offset in a message.
fn name_at(message: &[u8], offset: usize) -> Option<String> {
    let attribute = attributes_of(message.get(offset..)?).next()?.ok()?;
    let mut parts = attributes_of(attribute.value).map_while(Result::ok);
    let name = parts.find(|part| part.number == EXPRESSION_NAME)?;
    decode_text(name.value).ok().map(str::to_owned)
}

/// The attributes around and at an offset in a message.
fn attribute_at(message: &[u8], offset: usize) -> Option<Vec<AttributePlace>> {
    /// Of `struct nfgenmsg`.
    const FAMILY_HEADER: usize = 4;
    let mut start = HEADER + FAMILY_HEADER;
    let mut bytes = message.get(start..)?;
    let mut places = Vec::new();
    'deeper: while places.len() < MAX_DEPTH {
        for (position, attribute) in attributes_of(bytes).map_while(Result::ok).enumerate() {
            let length = crate::wire::ATTRIBUTE_HEADER + attribute.value.len();
            let place = AttributePlace {
                number: attribute.number,
                position,
            };
            if offset == start {
                places.push(place);
                return Some(places);
            }
            if offset < start + length {
                places.push(place);
                start += crate::wire::ATTRIBUTE_HEADER;
                bytes = attribute.value;
                continue 'deeper;
            }
            start += length.next_multiple_of(4);
        }
        return None;
    }
    None
}
