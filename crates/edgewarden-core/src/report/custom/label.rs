//! Names of interfaces and processes as parts of metric names.
//!
//! In: any text. Out: letters, digits, `-` and `_` only. Two texts never get the same label: `_` is written `__`, every
//! other byte that is not allowed `_` and two hex digits. Always the same for the same text.

use std::fmt::Write as _;

/// Longest label; with a base name of at most 64 and the colon between them a name stays within 128.
pub(super) const MAX_LABEL: usize = 63;

/// The label, `None` if it would be too long or there is nothing to name.
#[must_use]
pub(super) fn label(text: &str) -> Option<String> {
    let mut label = String::new();
    for byte in text.bytes() {
        match byte {
            b'_' => label.push_str("__"),
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => label.push(char::from(byte)),
            byte => {
                let _ = write!(label, "_{byte:02x}");
            }
        }
        if label.len() > MAX_LABEL {
            return None;
        }
    }
    (!label.is_empty()).then_some(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::custom::is_name;

    #[test]
    fn ordinary_names_stay_readable() {
        for (text, expected) in [
            ("eth0", "eth0"),
            ("eth0.10", "eth0_2e10"),
            ("wlan_0", "wlan__0"),
            ("/usr/bin/curl", "_2fusr_2fbin_2fcurl"),
            ("eth*", "eth_2a"),
            ("größe", "gr_c3_b6_c3_9fe"),
        ] {
            assert_eq!(label(text).as_deref(), Some(expected));
        }
        assert_eq!(label(""), None);
        assert_eq!(label(&"x".repeat(64)), None);
    }

    proptest! {
        #[test]
        fn labels_are_valid_and_differ_as_their_texts_do(a in "[a_2f./:é ]{1,9}", b in "[a_2f./:é ]{1,9}") {
            let (first, second) = (label(&a), label(&b));
            if let Some(first) = &first {
                let name = "n".repeat(64) + ":" + first;
                prop_assert!(is_name(&name));
            }
            prop_assert_eq!(a == b, first == second);
        }
    }
}
