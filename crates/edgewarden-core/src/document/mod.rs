//! Reads hostile JSON: every fault at once, each with its path. Knows no domain.
//!
//! In: a JSON value of somebody else. Out: what its fields say, and [`Fault`]s with the path, what was found and what
//! was expected. Deliberately absent: what a field means, and where the document came from.

mod doubled;
pub mod fault;
pub(crate) mod fields;
mod time;

pub use doubled::{is_doubled, read_json};
pub use fault::Fault;
pub use fields::read_port;
pub use time::read_time;

/// What some editors put before a text, and RFC 8259 (section 8.1) lets a reader pass over.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The JSON text of a file that a person or another program wrote, without a byte order mark.
#[must_use]
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}
