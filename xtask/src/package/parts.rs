//! What a program is made of: its bill of materials (CycloneDX 1.5) and the licences that its parts want to be given with it.
//!
//! In: what cargo says it builds for a target, the lock file's digests, the licence files of each part. Out: JSON, text; the
//! same bytes whenever and wherever they are written.
//! Deliberately absent: what only the compiler runs (procedural macros, build scripts), and times and serial numbers, which
//! would differ from build to build. `cargo-cyclonedx` writes them, and a file into the folder of each member of the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cross::Target;
use crate::failure::Failure;
use crate::workspace::{self, file};
use crate::{package::AGENT, run};

/// How the names of files begin that hold a licence.
const LICENCE_FILES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];
/// What the linker adds and is no package of cargo's: name, licence.
const BESIDE: [(&str, &str); 2] = [
    // Arithmetic that a processor has not, and the unwinding of panics.
    (
        "LLVM compiler-rt and libunwind, as ziglang has them",
        "Apache-2.0 WITH LLVM-exception",
    ),
    // All that is linked into a program; the rest of the library is the device's own.
    (
        "glibc's start files",
        "LGPL-2.1-or-later, with leave to link them into anything",
    ),
];

/// A package that is in a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    pub name: String,
    pub version: String,
    /// SPDX expression.
    licence: String,
    /// SHA-256 of what crates.io gave; absent for our own.
    digest: Option<String>,
    /// Where its source is on this machine.
    folder: PathBuf,
}

impl Part {
    fn reference(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }
}

/// The packages that are linked into the program for this target, by name and version.
pub fn of(target: &Target) -> Result<Vec<Part>, Failure> {
    let lock = workspace::read(&workspace::root().join("Cargo.lock"))?;
    let digests = digests(&lock);
    let metadata = workspace::metadata(&["--filter-platform", target.triple])?;
    let linked = linked(&run::output(&mut tree(target))?);
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let mut parts: Vec<_> = packages
        .iter()
        .filter_map(|package| part(package, &linked, &digests))
        .collect();
    parts.sort();
    if parts.len() == linked.len() {
        return Ok(parts);
    }
    Err(Failure::Content {
        subject: "the output of `cargo metadata`".to_owned(),
        fault: format!(
            "expected a name, version, licence and folder for each of the {} packages that `cargo tree` names, found {}",
            linked.len(),
            parts.len()
        ),
    })
}

fn tree(target: &Target) -> Command {
    let mut tree = workspace::cargo(&[
        "tree",
        "--locked",
        "--package",
        AGENT,
        "--edges",
        "normal,no-proc-macro",
    ]);
    tree.args([
        "--target",
        target.triple,
        "--prefix",
        "none",
        "--no-dedupe",
        "--format",
        "{p}",
    ]);
    tree
}

/// Names and versions of `name v1.2.3 (more)`, one a line.
fn linked(tree: &str) -> BTreeSet<(String, String)> {
    let named = tree.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some((name.to_owned(), version.to_owned()))
    });
    named.collect()
}

/// The lock file's digest of each package that has one. Its format is the lock file's, version 4: a key a line.
fn digests(lock: &str) -> BTreeMap<(String, String), String> {
    let packages = lock.split("[[package]]").filter_map(|package| {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned())
        };
        Some(((value("name")?, value("version")?), value("checksum")?))
    });
    packages.collect()
}

fn part(
    package: &Value,
    linked: &BTreeSet<(String, String)>,
    digests: &BTreeMap<(String, String), String>,
) -> Option<Part> {
    let text = |key: &str| package[key].as_str().map(str::to_owned);
    let key = (text("name")?, text("version")?);
    let manifest = PathBuf::from(text("manifest_path")?);
    linked.contains(&key).then_some(())?;
    Some(Part {
        licence: text("license")?,
        digest: digests.get(&key).cloned(),
        folder: manifest.parent()?.to_owned(),
        name: key.0,
        version: key.1,
    })
}

/// The bill of materials of one program, as CycloneDX has it. Source: <https://cyclonedx.org/docs/1.5/json/>.
pub fn bill(program: &str, digest: &str, version: &str, rust: &str, parts: &[Part]) -> String {
    let hash = |digest: &str| json!([{ "alg": "SHA-256", "content": digest }]);
    let mut components: Vec<_> = parts
        .iter()
        .filter(|part| part.name != AGENT)
        .map(|part| {
            let mut component = json!({
                "type": "library", "bom-ref": part.reference(), "name": part.name, "version": part.version,
                "purl": part.reference(), "licenses": [{ "expression": part.licence }],
            });
            if let Some(digest) = &part.digest {
                component["hashes"] = hash(digest);
            }
            component
        })
        .collect();
    components.push(json!({
        "type": "library", "bom-ref": "rust-std", "name": "Rust's standard library", "version": rust,
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }));
    components.extend(BESIDE.iter().map(|(name, licence)| {
        json!({ "type": "library", "bom-ref": name, "name": name, "licenses": [{ "license": { "name": licence } }] })
    }));
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": { "component": {
            "type": "application", "bom-ref": program, "name": program, "version": version, "hashes": hash(digest),
            "licenses": [{ "expression": "Apache-2.0" }],
        }},
        "components": components,
    });
    format!("{bill:#}\n")
}

/// The licences of these parts: who wants which, then each text once with those who gave it.
pub fn licences(parts: &BTreeSet<Part>) -> Result<String, Failure> {
    let mut text = String::from("What the programs here contain, and under which licence it is given:\n\n");
    let mut texts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for part in parts {
        text.push_str(&format!("  {} {}: {}\n", part.name, part.version, part.licence));
        for licence in licence_files(&part.folder)? {
            let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().replace('\r', "");
            let found = lossy(fs::read(&licence).map_err(file("read", &licence))?);
            texts.entry(found).or_default().push(&part.name);
        }
    }
    text.push_str("  Rust's standard library: MIT OR Apache-2.0\n");
    for (name, licence) in BESIDE {
        text.push_str(&format!("  {name}: {licence}\n"));
    }
    let mut texts: Vec<_> = texts.into_iter().collect();
    texts.sort_by(|(one, from), (other, others)| from.cmp(others).then(one.cmp(other)));
    for (licence, mut from) in texts {
        from.dedup();
        text.push_str(&format!(
            "\n{}\n{}\n\n{licence}\n",
            "=".repeat(80),
            from.join(", ")
        ));
    }
    Ok(text)
}

/// The licence files of a part, sorted; those of a part of ours are the workspace's.
fn licence_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(folder).map_err(file("list", folder))?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(file("list", folder))?;
    paths.retain(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_uppercase());
        path.is_file() && name.is_some_and(|name| LICENCE_FILES.iter().any(|start| name.starts_with(start)))
    });
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_made_of_what_cargo_links_and_of_no_tool() {
        let parts = of(&crate::cross::TARGETS[0]).unwrap();
        let named = |name: &str| parts.iter().any(|part| part.name == name);
        assert!(named("edgewarden-core") && named("tokio") && named("serde_json"));
        assert!(!named("serde_derive") && !named("proptest") && !named("edgewarden-lab"));
        for part in &parts {
            let ours = part.folder.starts_with(workspace::root());
            assert_eq!(part.digest.is_none(), ours, "{part:?}");
        }
    }

    #[test]
    fn a_bill_names_each_part_once_with_its_digest() {
        let parts = of(&crate::cross::TARGETS[0]).unwrap();
        let bill: Value =
            serde_json::from_str(&bill("edgewarden-amd64", "00", "0.1.0", "1.95.0", &parts)).unwrap();
        let components = bill["components"].as_array().unwrap();
        let references: BTreeSet<_> = components
            .iter()
            .map(|part| part["bom-ref"].as_str().unwrap())
            .collect();
        assert_eq!(references.len(), components.len());
        let tokio = components.iter().find(|part| part["name"] == "tokio").unwrap();
        assert_eq!(tokio["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert_eq!(bill["metadata"]["component"]["hashes"][0]["content"], "00");
    }

    #[test]
    fn a_licence_text_stands_once_below_all_who_gave_it() {
        let folder = tempfile::tempdir().unwrap();
        let parts = ["one", "two"].map(|name| {
            let folder = folder.path().join(name);
            workspace::write(&folder.join("LICENSE-MIT"), "Do what you like.\r\n").unwrap();
            let (name, version, licence) = (name.to_owned(), "1.0.0".to_owned(), "MIT".to_owned());
            Part {
                name,
                version,
                licence,
                digest: None,
                folder,
            }
        });
        let text = licences(&BTreeSet::from(parts)).unwrap();
        assert!(text.contains("\n  one 1.0.0: MIT\n  two 1.0.0: MIT\n"), "{text}");
        assert_eq!(text.matches("Do what you like.").count(), 1);
        assert!(text.contains("\none, two\n\nDo what you like.\n"), "{text}");
    }
}
