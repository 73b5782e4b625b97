//! Checks what no compiler checks in the Rust files.
//!
//! In: the files under [`FOLDERS`]. Out: one fault a line. [`faults`] is pure.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::workspace;

/// Where our Rust files are.
const FOLDERS: [&str; 8] = [
    "src", "crates", "xtask", "tests", "examples", "bench", "benches", "fuzz",
];

/// Longest file in lines. A file beyond it holds more than one thing.
const MAX_LINES: usize = 500;

/// Folders below [`FOLDERS`] that are walked into. Ours are six deep at most; this ends a walk gone astray.
const MAX_DEPTH: usize = 16;

/// Written in two halves so that this file does not accuse itself.
const IGNORE: &str = concat!("#[", "ignore");

/// Reads and judges every file.
pub fn check() -> Result<(), Failure> {
    let root = workspace::root();
    let mut files = Vec::new();
    for folder in FOLDERS
        .iter()
        .map(|folder| root.join(folder))
        .filter(|folder| folder.is_dir())
    {
        collect(&folder, MAX_DEPTH, &mut files)?;
    }
    files.sort();
    let mut faults = Vec::new();
    for path in &files {
        let name = path.strip_prefix(&root).unwrap_or(path).display().to_string();
        faults.extend(self::faults(&name, &workspace::read(path)?));
    }
    if !faults.is_empty() {
        return Err(Failure::Faults {
            check: "tidy",
            faults,
        });
    }
    println!("{} files are tidy", files.len());
    Ok(())
}

/// All `.rs` files below a folder; links are not followed and build output is left out.
fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    for entry in fs::read_dir(folder).map_err(workspace::file("list", folder))? {
        let entry = entry.map_err(workspace::file("list", folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(workspace::file("look at", &path))?;
        if kind.is_dir() && depth > 0 && entry.file_name() != "target" {
            collect(&path, depth - 1, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// What is untidy in one file.
pub fn faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!(
            "{name}:1: expected the file to begin with `//!`: what comes in, what goes out"
        ));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!(
            "{name}: {lines} lines, at most {MAX_LINES}; split it by what it does"
        ));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if line.contains(IGNORE) {
            faults.push(format!(
                "{name}:{number}: an ignored test; make it run, or return early with a printed reason"
            ));
        }
        if line.ends_with([' ', '\t', '\r']) {
            faults.push(format!("{name}:{number}: blanks at the end of the line"));
        }
        if line.trim_end().contains('\t') {
            faults.push(format!("{name}:{number}: a tab; write \\t or blanks"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tidy_file_has_no_faults() {
        assert_eq!(faults("a.rs", "//! In, out.\n\nfn main() {}\n"), [""; 0]);
    }

    #[test]
    fn each_fault_is_found_at_its_line() {
        let one = |text: &str, wanted: &str| {
            let faults = faults("a.rs", text);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with(wanted), "{faults:?}");
        };
        one("fn main() {}\n", "a.rs:1: expected the file to begin");
        one(&format!("//! x\n{IGNORE}]\n"), "a.rs:2: an ignored test");
        one("//! x\nfn a() {} \n", "a.rs:2: blanks");
        one("//! x\n\tfn a() {}\n", "a.rs:2: a tab");
        one(&"//! x\n".repeat(MAX_LINES + 1), "a.rs: 501 lines");
        assert_eq!(faults("a.rs", &"//! x\n".repeat(MAX_LINES)), [""; 0]);
    }

    #[test]
    fn build_output_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["target/a.rs", "b/c.rs", "b/d.txt"] {
            workspace::write(&folder.path().join(path), "x").unwrap();
        }
        let mut files = Vec::new();
        collect(folder.path(), MAX_DEPTH, &mut files).unwrap();
        assert_eq!(files, [folder.path().join("b/c.rs")]);
    }
}
