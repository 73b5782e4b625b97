//! The documents against the code they speak of.
//!
//! In: the tree. Out: a failure that says which document is stale, where, and how to mend it.
//! `UPDATE_DOCS=1 cargo test -p edgewarden --test docs` rewrites the generated pages.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test: it reads and writes the tree and fails loudly"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Pages written from the code, and what writes them.
const GENERATED: [(&str, fn() -> String); 2] = [
    ("docs/cli.md", edgewarden::cli::markdown),
    ("docs/configuration.md", edgewarden::config::keys::markdown),
];
/// Pages whose code spans that look like paths must name something that exists.
const MAPS: [&str; 2] = ["ARCHITECTURE.md", "docs/security.md"];
/// Folders that hold no documents of ours.
const SKIPPED: [&str; 4] = ["target", "artifacts", ".git", "node_modules"];
/// How deep documents are looked for; this ends a walk gone astray.
const MAX_DEPTH: usize = 8;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All documents of the tree, relative to its root.
fn documents() -> Vec<PathBuf> {
    fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            let skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
            if kind.is_dir() && depth > 0 && !skipped {
                collect(&path, depth - 1, found);
            } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    collect(root(), MAX_DEPTH, &mut found);
    found.sort();
    found
}

/// The lines of a document outside fenced blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    })
}

/// The code spans of one line.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Whether a code span is meant as a path of this tree: a folder (`src/host/`) or a file (`src/lib.rs`).
fn looks_like_a_path(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let known = [".rs", ".md", ".toml", ".yaml", ".json", ".yml"];
    let file = known.iter().any(|end| span.len() > end.len() && span.ends_with(end));
    !span.starts_with(['/', '.']) && span.chars().all(plain) && (span.ends_with('/') || file && span.contains('/'))
}

/// Targets of the inline links of one line, `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    let mut without_code = line.split('`').step_by(2);
    let mut found = Vec::new();
    let pieces: Vec<&str> = without_code.by_ref().collect();
    for piece in pieces {
        for after in piece.split("](").skip(1) {
            found.extend(after.split_once(')').map(|(target, _)| target));
        }
    }
    found
}

/// The anchors a document offers: its headings as GitHub writes them.
fn anchors(text: &str) -> Vec<String> {
    prose(text)
        .filter_map(|(_, line)| line.strip_prefix('#'))
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// What is wrong with one link of `document`; nothing for links that leave the tree.
fn broken(document: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = root().join(document.parent().unwrap_or(Path::new("")));
    let meant = if path.is_empty() { root().join(document) } else { folder.join(path) };
    if !meant.exists() {
        return Some(format!("{target}: there is no {}", meant.display()));
    }
    let missing = !anchor.is_empty() && !anchors(&fs::read_to_string(&meant).unwrap()).contains(&anchor.to_owned());
    missing.then(|| format!("{target}: no heading there makes the anchor #{anchor}"))
}

#[test]
fn generated_pages_are_as_the_code_writes_them() {
    let update = std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1");
    let mut stale = Vec::new();
    for (path, write) in GENERATED {
        let fresh = write();
        if update {
            fs::write(root().join(path), &fresh).unwrap();
        } else if fs::read_to_string(root().join(path)).ok().as_deref() != Some(fresh.as_str()) {
            stale.push(path);
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} differ from what the code says; run: UPDATE_DOCS=1 cargo test -p edgewarden --test docs"
    );
}

#[test]
fn the_map_names_every_part_of_the_source() {
    let map = text("ARCHITECTURE.md");
    let parts = fs::read_dir(root().join("src")).unwrap().map(Result::unwrap);
    let missing: Vec<String> = parts
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let folder = entry.file_type().unwrap().is_dir();
            format!("`src/{name}{}`", if folder { "/" } else { "" })
        })
        .filter(|name| !map.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:?}");
}

#[test]
fn every_path_a_map_names_exists() {
    let mut faults = Vec::new();
    let mut named = 0;
    for map in MAPS {
        let text = text(map);
        for (number, line) in prose(&text) {
            for span in code_spans(line).filter(|span| looks_like_a_path(span)) {
                named += 1;
                let meant = root().join(span);
                let there = if span.ends_with('/') { meant.is_dir() } else { meant.is_file() };
                if !there {
                    faults.push(format!("{map}:{number}: there is no {span}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(named > 50, "control: only {named} paths were recognised");
}

#[test]
fn every_relative_link_resolves() {
    let mut faults = Vec::new();
    let mut seen = 0;
    for document in documents() {
        let text = text(document.to_str().unwrap());
        for (number, line) in prose(&text) {
            for target in links(line) {
                seen += 1;
                faults.extend(
                    broken(&document, target).map(|fault| format!("{}:{number}: {fault}", document.display())),
                );
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(seen > 5, "control: only {seen} links were found");
}

#[test]
fn what_is_a_path_and_what_a_link_is_recognised() {
    for span in ["src/host/", "src/lib.rs", "crates/lab/Cargo.toml"] {
        assert!(looks_like_a_path(span), "{span}");
    }
    for span in ["/etc/resolv.conf", "lib.rs", "nft -f", "a::b", "desired.quarantine", "192.0.2.0/24"] {
        assert!(!looks_like_a_path(span), "{span}");
    }
    assert_eq!(links("[a](b.md) and [c](d.md#e), not `[f](g.md)`"), ["b.md", "d.md#e"]);
    assert_eq!(anchors("# A b\n```\n# no\n```\n## It's `c_d`\n"), ["a-b", "its-c_d"]);
    let page = Path::new("CONTRIBUTING.md");
    assert_eq!(broken(page, "https://example.com/x"), None);
    assert_eq!(broken(page, "LICENSE"), None);
    assert!(broken(page, "no-such-file.md").is_some());
    assert!(broken(page, "CONTRIBUTING.md#no-such-heading").is_some());
}
