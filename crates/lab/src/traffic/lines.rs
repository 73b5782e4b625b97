//! One JSON object per line on standard output, flushed, for whoever started the program.
//!
//! Deliberately absent: logging; these lines are the program's result.

use std::io::{self, Write};
use std::sync::Arc;

use serde_json::Value;

/// The reader of the lines is gone.
#[derive(Debug, thiserror::Error)]
#[error("could not write a line of JSON to {to}")]
pub struct LinesError {
    /// Where the line was to go.
    pub to: &'static str,
    /// What went wrong.
    #[source]
    pub source: io::Error,
}

/// Takes one JSON object; a program prints it, a test collects it. An error ends the program.
pub type Tell = Arc<dyn Fn(&Value) -> Result<(), LinesError> + Send + Sync>;

/// Prints every object with [`print()`].
pub fn printer() -> Tell {
    Arc::new(print)
}

/// Prints one object as one line.
pub fn print(line: &Value) -> Result<(), LinesError> {
    write_to(&mut io::stdout().lock(), line).map_err(|source| LinesError {
        to: "standard output",
        source,
    })
}

fn write_to(out: &mut impl Write, line: &Value) -> io::Result<()> {
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_object_is_one_line() -> io::Result<()> {
        let mut out = Vec::new();
        write_to(&mut out, &json!({"text": "two\nlines"}))?;
        assert_eq!(out, b"{\"text\":\"two\\nlines\"}\n");
        Ok(())
    }
}
