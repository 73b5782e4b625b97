//! Why bytes are not what they should be.

/// Bytes that do not say what their description expects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A message or attribute claims more bytes than there are.
    #[error("a message or an attribute is cut")]
    Cut,
    /// A number of another size, a key or name that is too long.
    #[error("a value has {found} bytes where {expected}")]
    Length {
        /// Bytes that there are.
        found: usize,
        /// What would have been right.
        expected: &'static str,
    },
    /// A number that stands for nothing that is known.
    #[error("{number} is no {what} that is known")]
    Number {
        /// What it should have been.
        what: &'static str,
        /// What was there.
        number: u64,
    },
    /// A name that is no text, or has a zero byte inside.
    #[error("a name is no text")]
    Text,
    /// A necessary attribute is not there.
    #[error("{what} has no attribute {number}")]
    Missing {
        /// The structure.
        what: &'static str,
        /// The attribute's number.
        number: u16,
    },
    /// An attribute comes twice.
    #[error("{what} has attribute {number} twice")]
    Twice {
        /// The structure.
        what: &'static str,
        /// The attribute's number.
        number: u16,
    },
    /// An attribute that the structure is not known to have.
    #[error("{what} has attribute {number}, which is not known")]
    Unknown {
        /// The structure.
        what: &'static str,
        /// The attribute's number.
        number: u16,
    },
    /// A message that does not belong where it came.
    #[error("a message of type {kind:#x} is not expected here")]
    Message {
        /// Its type.
        kind: u16,
    },
}
