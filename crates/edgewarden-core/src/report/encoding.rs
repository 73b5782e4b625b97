//! The two encodings of the report format, and what things cost in them.
//!
//! In: anything that serializes. Out: bytes, or how many they would be. Deliberately knows nothing of what a report
//! holds.

use std::io;

use serde::Serialize;

use super::document::BuildError;
use super::names::NameLength;

/// How the bytes are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    /// CBOR, RFC 8949: definite lengths, whole numbers as integers.
    Cbor,
}

impl Format {
    /// The last part of the reserved topic.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
        }
    }
}

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoding {
    pub format: Format,
    pub names: NameLength,
}

impl Encoding {
    /// JSON with long names, as AWS' own agents write.
    pub const PLAIN: Self = Self {
        format: Format::Json,
        names: NameLength::Long,
    };

    pub(super) fn write(self, value: &impl Serialize, into: impl io::Write) -> Result<(), BuildError> {
        let outcome = match self.format {
            Format::Json => serde_json::to_writer(into, value).map_err(|error| error.to_string()),
            Format::Cbor => ciborium::into_writer(value, into).map_err(|error| error.to_string()),
        };
        outcome.map_err(|message| BuildError::Serialize { message })
    }

    /// How many bytes the value takes.
    pub(super) fn size(self, value: &impl Serialize) -> Result<usize, BuildError> {
        let mut counted = ByteCounter(0);
        self.write(value, &mut counted)?;
        Ok(counted.0)
    }

    /// Bytes of a member's name with what stands around it.
    pub(super) fn member(self, name: &str) -> Result<usize, BuildError> {
        let around = match self.format {
            Format::Json => ",:".len(),
            Format::Cbor => 0,
        };
        Ok(self.size(&name)? + around)
    }

    /// Bytes of a list or an object of many members without its content. CBOR's grows with the count; the largest is
    /// taken from the start, so that a list is never paid twice.
    pub(super) const fn frame(self) -> usize {
        match self.format {
            Format::Json => "[]".len(),
            Format::Cbor => 3,
        }
    }

    /// Bytes between two elements.
    pub(super) const fn separator(self) -> usize {
        match self.format {
            Format::Json => ",".len(),
            Format::Cbor => 0,
        }
    }
}

/// Counts what is written.
struct ByteCounter(usize);

impl io::Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
