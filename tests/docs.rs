//! Documents that cannot go stale: generated pages equal their source, named files exist, links resolve, promises
//! have tests. `UPDATE_DOCS=1 cargo test --test docs` writes the generated pages.

#![expect(clippy::disallowed_methods, reason = "reads the repository's own files")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "docs/report_page.rs"]
mod report_page;

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn generated(name: &str, text: &str) {
    let path = root().join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/{name} is not what the code says; run UPDATE_DOCS=1 cargo test --test docs"
    );
}

#[test]
fn the_configuration_page_is_the_table_of_keys() {
    generated("configuration.md", &edgewarden::config::keys::markdown());
}

#[test]
fn the_command_line_page_is_the_help() {
    generated("cli.md", &edgewarden::cli::markdown());
}

/// Adds every file below `folder` whose name ends so.
fn collect(folder: &Path, ending: &str, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, ending, files);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            files.push(path);
        }
    }
}

/// The repository's own pages; build output and what other tools put beside the sources is left out.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for folder in ["artifacts", "docs", "crates", "src", "tests", "xtask", "recipes"] {
        collect(&root().join(folder), "md", &mut pages);
    }
    let top = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    pages.extend(top.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    assert!(
        pages.len() > 8,
        "the pages are not where this test looks: {pages:?}"
    );
    pages
}

#[test]
fn every_relative_link_resolves() {
    for page in pages() {
        for target in read(&page)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let file = page.parent().unwrap().join(path);
            assert!(
                file.exists(),
                "{} links to {target}, which does not exist",
                page.display()
            );
        }
    }
}

/// Whether a word in backticks means a file or folder of this repository.
fn is_path(word: &str) -> bool {
    const FOLDERS: [&str; 6] = ["src/", "crates/", "docs/", "tests/", "xtask/", "recipes/"];
    const FILES: [&str; 4] = [".rs", ".toml", ".md", ".yaml"];
    let plain = word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    plain
        && (FOLDERS.iter().any(|folder| word.starts_with(folder))
            || FILES.iter().any(|ending| word.ends_with(ending)))
}

#[test]
fn the_architecture_page_names_what_exists_and_every_module() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let named: Vec<&str> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| is_path(word))
        .collect();
    assert!(named.len() > 20, "the page names files in backticks: {named:?}");
    for path in named {
        assert!(
            root().join(path).exists(),
            "ARCHITECTURE.md names {path}, which does not exist"
        );
    }
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".rs") && name != "process.rs" {
            continue;
        }
        assert!(
            text.contains(&format!("src/{name}")),
            "ARCHITECTURE.md does not mention src/{name}"
        );
    }
}

/// Whether a test of that name is in the source, as a function or as a [`lab_test!`](edgewarden_lab::lab_test).
fn is_test(source: &str, name: &str) -> bool {
    let function = format!("#[test]\nfn {name}()");
    let in_lab = [
        format!("\nlab_test!({name},"),
        format!("\nlab_test!(\n    {name},"),
    ];
    source.contains(&function) || in_lab.iter().any(|text| source.contains(text))
}

#[test]
fn every_promise_has_its_tests() {
    let promises = read(&root().join("docs/security.md"));
    let mut files = Vec::new();
    collect(&root().join("tests"), "rs", &mut files);
    let tests: String = files.iter().map(|file| read(file)).collect();
    let lines: Vec<&str> = promises.lines().filter(|line| line.starts_with("| Q-")).collect();
    assert!(
        lines.len() > 10,
        "promises are table rows that begin with their id"
    );
    for (number, line) in (1..).zip(lines) {
        assert!(
            line.starts_with(&format!("| Q-{number} |")),
            "promises are numbered in order, Q-{number} is missing: {line}"
        );
        let shown = line.rsplit('|').nth(1).unwrap_or_default();
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test is named: {line}");
        for name in names {
            assert!(is_test(&tests, name), "there is no test {name}: {line}");
        }
    }
}
