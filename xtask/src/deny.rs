//! Reads the lists of deny.toml that `cargo xtask test` enforces itself.
//!
//! In: the file's text. Out: [`Rules`]. It reads the part of TOML that our own file uses (a section, a key, a list of
//! strings or of `{ crate = ".." }`) and refuses the rest; cargo-deny reads the whole file.

use crate::failure::Failure;

/// What we enforce without cargo-deny.
#[derive(Debug, PartialEq, Eq)]
pub struct Rules {
    /// Target triples whose dependencies are judged.
    pub targets: Vec<String>,
    /// Licences that may be relied on.
    pub allowed: Vec<String>,
    /// Crates that must not be in the tree.
    pub banned: Vec<String>,
}

/// The rules in the text of `subject`.
pub fn read(subject: &str, text: &str) -> Result<Rules, Failure> {
    let list = |section, key| {
        list(text, section, key).map_err(|fault| Failure::Content {
            subject: subject.to_owned(),
            fault: format!("[{section}] {key}: {fault}"),
        })
    };
    Ok(Rules {
        targets: list("graph", "targets")?,
        allowed: list("licenses", "allow")?,
        banned: list("bans", "deny")?,
    })
}

fn list(text: &str, section: &str, key: &str) -> Result<Vec<String>, String> {
    let header = format!("[{section}]");
    let lines = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != header)
        .skip(1);
    let body: Vec<&str> = lines
        .take_while(|line| !is_header(line))
        .filter(|line| !line.starts_with('#'))
        .collect();
    let opening = |line: &&str| {
        line.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    let start = body
        .iter()
        .position(opening)
        .ok_or("expected a list; the key or its section is not there")?;
    let first = body[start].split_once('=').map_or("", |(_, rest)| rest.trim());
    let inline = first
        .strip_prefix('[')
        .ok_or("expected a list that begins with `[` on the key's line")?;
    let mut items = Vec::new();
    for line in std::iter::once(inline).chain(body[start + 1..].iter().copied()) {
        let (content, ended) = line
            .strip_suffix(']')
            .map_or((line, false), |content| (content, true));
        items.extend(items_of(content.trim())?);
        if ended {
            return if items.is_empty() {
                Err("the list is empty".to_owned())
            } else {
                Ok(items)
            };
        }
    }
    Err("the list is not closed by a `]` at the end of a line".to_owned())
}

/// `[name]` and nothing else; the last line of a list of lists is none.
fn is_header(line: &str) -> bool {
    line.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|name| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        })
}

/// The strings of one line: a table gives its `crate`, plain strings give themselves.
fn items_of(line: &str) -> Result<Vec<String>, String> {
    if line.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(table) = line.strip_prefix('{') {
        let value = table
            .trim_start()
            .strip_prefix("crate = \"")
            .and_then(|rest| rest.split_once('"'));
        return value
            .map(|(name, _)| vec![name.to_owned()])
            .ok_or_else(|| format!("expected `{{ crate = \"..\", .. }}` instead of `{line}`"));
    }
    let words = line.trim_end_matches(',').split(',').map(str::trim);
    words
        .map(|word| {
            word.strip_prefix('"')
                .and_then(|word| word.strip_suffix('"'))
                .map(str::to_owned)
                .ok_or_else(|| format!("expected strings in double quotes instead of `{line}`"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    const TEXT: &str = r#"
[graph]
targets = ["a", "b"]
[licenses]
# MIT = no
allow = [
  "MIT",
  # why
  "Apache-2.0 WITH LLVM-exception",
]
allowance = "x"
[bans]
deny = [
  { crate = "openssl-sys", reason = "because, [of] it" },
]
"#;

    #[test]
    fn lists_are_read_inline_and_over_lines() {
        let rules = read("deny.toml", TEXT).unwrap();
        assert_eq!(rules.targets, ["a", "b"]);
        assert_eq!(rules.allowed, ["MIT", "Apache-2.0 WITH LLVM-exception"]);
        assert_eq!(rules.banned, ["openssl-sys"]);
    }

    #[test]
    fn what_is_not_understood_is_refused_not_skipped() {
        let fault = |from: &str, to: &str| {
            read("deny.toml", &TEXT.replace(from, to))
                .unwrap_err()
                .to_string()
        };
        assert!(
            fault("[licenses]", "[licences]").starts_with("deny.toml: [licenses] allow: expected a list")
        );
        assert!(fault("\"MIT\"", "MIT").contains("double quotes"));
        assert!(fault("crate =", "name =").contains("expected `{ crate"));
        assert!(fault("[\"a\", \"b\"]", "[\"a\",").contains("not closed"));
        assert!(fault("[\"a\", \"b\"]", "[]").contains("empty"));
    }

    #[test]
    fn our_own_file_bans_openssl() {
        let text = workspace::read(&workspace::root().join("deny.toml")).unwrap();
        let rules = read("deny.toml", &text).unwrap();
        assert!(rules.banned.contains(&"openssl-sys".to_owned()));
        assert!(rules.allowed.contains(&"MIT".to_owned()));
        assert_eq!(rules.targets.len(), 3);
    }
}
