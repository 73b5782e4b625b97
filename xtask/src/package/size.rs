//! The size of the shipped programs: a limit for all of them, and which crate has broken it.
//!
//! In: the size of a program; the symbols of one that was built with them, as `nm` lists them; the sizes that were
//! recorded when it was last within its limit. Out: success, or a failure that names the crates which have grown.
//! Deliberately absent: the size of what has no symbol (tables of unwinding, constants), which grows with the code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cross::{TARGETS, Target};
use crate::failure::Failure;
use crate::run;
use crate::workspace::{file, read, root, write};

/// Bytes that each program may have: devices have little flash, and a deployment is paid by the megabyte. The aim is 4 MB;
/// until it is reached this is what holds, and docs/footprint.md says what stands in its way.
const LIMIT: u64 = 6_600_000;
/// The sizes by crate when somebody last looked, in bytes.
const RECORD: &str = "xtask/sizes.json";
/// Crates that a failure names.
const NAMED: usize = 5;
/// Whose symbols are nobody else's: what the compiler brings.
const RUST: &str = "rust";

/// Bytes of code by crate.
type Sizes = BTreeMap<String, u64>;

/// Fails where a program is larger than it may be, and names the crates that have grown since the record.
pub fn expect_small(target: &Target, program: &Path) -> Result<(), Failure> {
    let size = fs::metadata(program).map_err(file("look at", program))?.len();
    if size <= LIMIT {
        return Ok(());
    }
    let grown = grown(&recorded()?, &measured()?);
    Err(Failure::Content {
        subject: target.file(),
        fault: format!(
            "{size} bytes, expected {LIMIT} at most; grown for amd64 since {RECORD} was written: {grown}"
        ),
    })
}

/// What was recorded; where nothing was, all of a crate counts as grown.
fn recorded() -> Result<Sizes, Failure> {
    let path = root().join(RECORD);
    if !path.exists() {
        return Ok(Sizes::new());
    }
    serde_json::from_str(&read(&path)?).map_err(|source| Failure::Parse {
        subject: RECORD.to_owned(),
        format: "JSON, bytes by crate",
        source: Box::new(source),
    })
}

/// Writes the record.
pub fn record() -> Result<(), Failure> {
    let sizes = serde_json::json!(measured()?);
    write(&root().join(RECORD), &format!("{sizes:#}\n"))
}

/// Builds the program for amd64 with its symbols and adds them up.
fn measured() -> Result<Sizes, Failure> {
    let target = &TARGETS[0];
    let mut command = super::command(&root(), target)?;
    let program = super::built_by(command.env("CARGO_PROFILE_RELEASE_STRIP", "none"))?;
    let parts = super::parts::of(target)?;
    let names: Vec<_> = parts.iter().map(|part| part.name.replace('-', "_")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    by_crate(&program, &names)
}

/// The sizes by crate of a program with symbols. A function made from a generic one counts for the crate that is named
/// first in it; one of Rust's own for [`RUST`].
fn by_crate(program: &Path, crates: &[&str]) -> Result<Sizes, Failure> {
    let mut nm = Command::new("nm");
    nm.args(["--demangle", "--print-size", "--radix=d"]).arg(program);
    Ok(sum(&run::output(&mut nm)?, crates))
}

/// Lines of nm: address, size, kind, name.
fn sum(listed: &str, crates: &[&str]) -> Sizes {
    let mut sizes = Sizes::new();
    for line in listed.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some(_), Some(size), Some("t" | "T"), Some(name)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let crates = identifiers(name).find(|word| crates.contains(word));
        *sizes.entry(crates.unwrap_or(RUST).to_owned()).or_default() += size.parse::<u64>().unwrap_or(0);
    }
    sizes
}

/// The identifiers of a symbol in the order in which they stand.
fn identifiers(name: &str) -> impl Iterator<Item = &str> {
    name.split(|character: char| !character.is_alphanumeric() && character != '_')
        .filter(|word| !word.is_empty())
}

/// The crates that have grown most since the record, in words.
fn grown(recorded: &Sizes, found: &Sizes) -> String {
    let before = |name: &str| recorded.get(name).copied().unwrap_or(0);
    let mut grown: Vec<_> = found
        .iter()
        .filter(|(name, size)| **size > before(name))
        .collect();
    grown.sort_by_key(|(name, size)| std::cmp::Reverse(**size - before(name)));
    let words = grown
        .iter()
        .take(NAMED)
        .map(|(name, size)| format!("{name} {} -> {size}", before(name)));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_counts_for_the_crate_that_is_named_first() {
        let listed = "0001 0000000100 t tokio::runtime::Runtime::new\n\
            0002 0000000020 T <alloc::vec::Vec<T> as serde::Deserialize>::deserialize\n\
            0003 0000000003 t core::fmt::write\n\
            0004 0000000009 r tokio::TABLE\n\
            0005 t without_size\n";
        let sizes = sum(listed, &["tokio", "serde"]);
        let expected = [("tokio", 100), ("serde", 20), (RUST, 3)].map(|(name, size)| (name.to_owned(), size));
        assert_eq!(sizes, Sizes::from(expected));
    }

    #[test]
    fn who_has_grown_most_is_named_first() {
        let sizes = |pairs: &[(&str, u64)]| {
            pairs
                .iter()
                .map(|(name, size)| ((*name).to_owned(), *size))
                .collect()
        };
        let (recorded, found) = (
            sizes(&[("a", 10), ("b", 10), ("c", 10)]),
            sizes(&[("a", 11), ("b", 30), ("c", 9), ("d", 5)]),
        );
        assert_eq!(grown(&recorded, &found), "b 10 -> 30, d 0 -> 5, a 10 -> 11");
    }
}
