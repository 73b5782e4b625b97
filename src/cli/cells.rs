//! Cells of tables: text cut to a width, units. Pure.

/// Shown instead of what was cut.
const CUT: char = '…';

/// Columns a character takes: two for East Asian and symbol blocks, which may be too much for some of them but never
/// too little.
const fn columns_of(c: char) -> usize {
    if c as u32 >= 0x1100 && !matches!(c, '\u{2000}'..='\u{2e7f}') {
        2
    } else {
        1
    }
}

/// Columns a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// The end of a text, in `width` columns at most; of a path the end says most.
pub(super) fn end_of(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut kept: Vec<char> = take(text.chars().rev(), width.saturating_sub(1));
    kept.reverse();
    with_mark(width, |out| {
        out.push(CUT);
        out.extend(&kept);
    })
}

/// The beginning of a text, in `width` columns at most.
pub(super) fn start_of(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let kept = take(text.chars(), width.saturating_sub(1));
    with_mark(width, |out| {
        out.extend(&kept);
        out.push(CUT);
    })
}

/// A text filled up with spaces to `width` columns.
pub(super) fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(columns(text));
    format!("{text}{}", " ".repeat(missing))
}

fn with_mark(width: usize, write: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    if width > 0 {
        write(&mut out);
    }
    out
}

fn take(characters: impl Iterator<Item = char>, width: usize) -> Vec<char> {
    let mut used = 0;
    characters
        .take_while(|c| {
            used += columns_of(*c);
            used <= width
        })
        .collect()
}

/// Bytes in a unit a person can compare.
pub(super) fn bytes(count: u64) -> String {
    scaled(count, ["B", "kB", "MB", "GB", "TB", "PB"])
}

/// A count, shortened from a million on.
pub(super) fn count(count: u64) -> String {
    if count < 1_000_000 {
        count.to_string()
    } else {
        scaled(count, ["", "k", "M", "G", "T", "P"])
    }
}

fn scaled(count: u64, units: [&str; 6]) -> String {
    if count < 1000 {
        return format!("{count} {}", units[0]);
    }
    let mut tenths = count / 100;
    let mut unit = 1;
    while tenths >= 10_000 && unit + 1 < units.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_counts_are_readable() {
        let shown = [0, 999, 1000, 35_000, 1_234_567, 5_000_000_000, u64::MAX].map(bytes);
        assert_eq!(
            shown,
            [
                "0 B",
                "999 B",
                "1.0 kB",
                "35.0 kB",
                "1.2 MB",
                "5.0 GB",
                "18446.7 PB"
            ]
        );
        assert_eq!([7, 999_999, 1_000_000].map(count), ["7", "999999", "1.0 M"]);
    }

    #[test]
    fn cut_text_never_takes_more_than_its_width() {
        assert_eq!(end_of("/usr/bin/python3", 8), "…python3");
        assert_eq!(start_of("component io.x", 5), "comp…");
        assert_eq!(start_of("short", 5), "short");
        for text in ["", "/usr/bin/python3", "漢字漢字漢字", "ö\u{301}漢a"] {
            for width in 0..20 {
                for cut in [end_of(text, width), start_of(text, width)] {
                    assert!(columns(&cut) <= width, "{cut:?} in {width}");
                }
                assert!(columns(&padded(&end_of(text, width), width)) == width);
            }
        }
    }
}
