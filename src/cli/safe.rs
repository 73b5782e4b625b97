//! Foreign text made fit for a terminal. In: names of programs, answers of others. Out: the same, with everything that
//! could steer the terminal or deceive its reader written as `\u{..}`. Pure.
//!
//! Whoever names a process names what the operator reads: escape sequences would rewrite the screen, bidirectional
//! marks would show another name.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::Serialize;

use crate::host::log::is_unsafe;

/// One line of foreign text, for a terminal.
pub(super) fn safe(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// A JSON line that is fit for a terminal and means the same: serde escapes less than a terminal obeys.
pub(super) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(value)?;
    let mut shown = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if is_unsafe(c) {
            // Such a character can only be inside a string, where JSON knows its UTF-16 units.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown.push('\n');
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json as value};

    const HOSTILE: &str = "a\x1b[2J\x07\r\n\x7f\u{9b}31m\u{202e}gnp\u{200b}\u{2028}\u{e0041}\u{feff}ö漢";

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        let shown = safe(HOSTILE);
        assert!(!shown.contains(is_unsafe), "{shown:?}");
        assert!(
            shown.starts_with("a\\u{1b}[2J\\u{7}\\u{d}\\u{a}\\u{7f}\\u{9b}31m\\u{202e}gnp"),
            "{shown}"
        );
        assert!(shown.ends_with("ö漢"), "what can be read stays: {shown}");
        assert!(matches!(safe("/usr/bin/python3"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_keeps_its_meaning() {
        let original = value!({ HOSTILE: [HOSTILE, 1] });
        let line = json(&original).unwrap();
        assert!(!line.trim_end_matches('\n').contains(is_unsafe), "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), original);
    }
}
