//! Documents that cannot go stale: generated pages equal their source, named files exist, links resolve, promises
//! have tests. `UPDATE_DOCS=1 cargo test --test docs` writes the generated pages.

#![expect(clippy::disallowed_methods, reason = "reads the repository's own files")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "docs/architecture/mod.rs"]
mod architecture;
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

/// Adds every source and manifest below `folder`; build output is left out.
fn collect_sources(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect_sources(&path, sources);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "toml") {
            sources.push(path);
        }
    }
}

/// The pages that comments of `text` cite, `page.md` or `page.md#heading`.
fn citations(text: &str) -> Vec<&str> {
    let comments = text
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("//") || line.starts_with("# "));
    let part = |c: char| c.is_ascii_alphanumeric() || "/._#-".contains(c);
    comments
        .flat_map(|line| line.split(|c| !part(c)))
        .map(|word| word.trim_end_matches(['.', '-']))
        .filter(|word| {
            word.split_once(".md")
                .is_some_and(|(page, rest)| !page.is_empty() && (rest.is_empty() || rest.starts_with('#')))
        })
        .collect()
}

/// A heading as links name it: small letters, `-` for spaces, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Why `citation` in `file` leads nowhere. Pages are named from the root or from a folder that the file stands in.
fn dead_citation(file: &Path, citation: &str) -> Option<String> {
    let (page, heading) = citation.split_once('#').unwrap_or((citation, ""));
    let within = |folder: &&Path| folder.starts_with(root());
    let found = file
        .ancestors()
        .skip(1)
        .take_while(within)
        .map(|folder| folder.join(page))
        .find(|path| path.is_file());
    let Some(path) = found else {
        return Some(format!("{}: there is no page {page}", file.display()));
    };
    let text = read(&path);
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    let exists = headings.any(|line| anchor(line.trim_start_matches('#').trim()) == heading);
    (!heading.is_empty() && !exists).then(|| format!("{}: {page} has no heading {heading}", file.display()))
}

#[test]
fn every_page_that_a_comment_cites_is_in_the_repository() {
    let mut sources = Vec::new();
    for folder in [
        "src", "crates", "tests", "benches", "examples", "xtask", "bench", "fuzz",
    ] {
        let folder = root().join(folder);
        if folder.is_dir() {
            collect_sources(&folder, &mut sources);
        }
    }
    let mut count = 0;
    let mut dead = Vec::new();
    // This file cites pages that are not there on purpose.
    for source in sources.iter().filter(|source| !source.ends_with(file!())) {
        let text = read(source);
        for citation in citations(&text) {
            count += 1;
            dead.extend(dead_citation(source, citation));
        }
    }
    assert!(
        count > 15,
        "the citations are not where this test looks: {count} in {sources:?}"
    );
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn a_citation_that_leads_nowhere_is_found() {
    let file = root().join("src/host/clock.rs");
    let text = "//! Shapes: wire-notes.md 3, (docs/reference/shadow.md#catching-up).\nlet x = \"no.md\"; // not alone\n  \
                /// docs/reference/nftables.md#no-such-heading; docs/reference/shadow.md\n";
    let cited = citations(text);
    assert_eq!(
        cited,
        [
            "wire-notes.md",
            "docs/reference/shadow.md#catching-up",
            "docs/reference/nftables.md#no-such-heading",
            "docs/reference/shadow.md",
        ]
    );
    let dead = cited
        .iter()
        .map(|citation| dead_citation(&file, citation).is_some());
    assert_eq!(dead.collect::<Vec<_>>(), [true, false, true, false]);
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
    let functions = [
        format!("#[test]\nfn {name}()"),
        format!("    #[test]\n    fn {name}()"),
        format!("#[tokio::test]\nasync fn {name}()"),
    ];
    let in_lab = [
        format!("\nlab_test!({name},"),
        format!("\nlab_test!(\n    {name},"),
    ];
    functions.iter().chain(&in_lab).any(|text| source.contains(text))
}

#[test]
fn every_promise_has_its_tests() {
    let promises = read(&root().join("docs/security.md"));
    let mut files = Vec::new();
    for place in ["tests", "src"] {
        collect(&root().join(place), "rs", &mut files);
    }
    let tests: String = files.iter().map(|file| read(file)).collect();
    let lines: Vec<&str> = promises.lines().filter(|line| line.starts_with("| Q-")).collect();
    assert!(
        lines.len() > 10,
        "promises are table rows that begin with their id"
    );
    let mut last = 0;
    for line in lines {
        let number = line
            .strip_prefix("| Q-")
            .and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
        assert!(
            number.is_some_and(|number| number > last),
            "promises are numbered in order, after Q-{last}: {line}"
        );
        last = number.unwrap_or(last);
        let shown = line.rsplit('|').nth(1).unwrap_or_default();
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test is named: {line}");
        for name in names {
            assert!(is_test(&tests, name), "there is no test {name}: {line}");
        }
    }
}
