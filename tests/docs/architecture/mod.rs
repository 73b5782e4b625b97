//! The walls between the folders: who may know whom, and who may go through which door.
//!
//! In: [`tables`] and every `.rs` file of the product. Out: a fault for each import that points upward or past a
//! door. The tables are the code map of ARCHITECTURE.md; `UPDATE_DOCS=1 cargo test --test docs` writes it.

mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tables::{CORE, DOORS, Door, EXCEPTIONS, OTHER_WAYS, ROOMS, Room};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below `folder`, by its path from the root.
fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path.strip_prefix(root()).unwrap().display().to_string());
        }
    }
}

fn product() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(&root().join("src"), &mut found);
    files(&root().join(CORE), &mut found);
    found.sort();
    let read = |name: String| {
        let text = std::fs::read_to_string(root().join(&name)).unwrap();
        (name, text)
    };
    found.into_iter().map(read).collect()
}

/// The names that follow `crate::` or `edgewarden_core::` in code and in documentation, also within braces.
fn imported(text: &str) -> BTreeSet<&str> {
    let word = |text: &'static str| text;
    let mut names = BTreeSet::new();
    for prefix in [word("crate::"), word("edgewarden_core::")] {
        for (at, _) in text.match_indices(prefix) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':') {
                continue;
            }
            let rest = &text[at + prefix.len()..];
            let group = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
            let listed = group.map_or_else(|| vec![rest], |group| group.split(',').collect());
            for item in listed {
                let item = item.trim_start();
                let end = item.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
                names.insert(&item[..end.unwrap_or(item.len())]);
            }
        }
    }
    names
}

fn room_of(file: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| {
        file.strip_prefix(room.place)
            .is_some_and(|rest| rest.starts_with(['/', '.']))
    })
}

/// What is wrong with one file: one sentence for each import that it may not have.
fn faults(file: &str, text: &str) -> Vec<String> {
    let Some(room) = room_of(file) else {
        return Vec::new();
    };
    let allowed = |name: &str| {
        name == room.name
            || room.knows.contains(&name)
            || EXCEPTIONS
                .iter()
                .any(|(place, known, _)| *place == file && *known == name)
    };
    let known = |name: &&str| ROOMS.iter().any(|room| room.name == *name);
    imported(text)
        .into_iter()
        .filter(known)
        .filter(|name| !allowed(name))
        .map(|name| format!("{file}: `{}` may not know `{name}`", room.name))
        .collect()
}

/// Whether code names a crate: in a path, or in a `use` of the crate itself.
fn names_crate(text: &str, name: &str) -> bool {
    let word = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + name.len()..];
        let is_path = after.starts_with("::") || after.starts_with(';') || after.starts_with(" as ");
        is_path && before.is_none_or(|letter| !word(letter) && !matches!(letter, ':' | '-'))
    })
}

/// Every crate that a file names past its door, with the room it belongs to.
fn past_doors(file: &str, text: &str) -> Vec<(&'static str, &'static Door)> {
    let outside = |door: &&Door| room_of(file).is_none_or(|room| room.place != door.room);
    let doors = DOORS.iter().filter(outside);
    let pairs = doors.flat_map(|door| door.crates.iter().map(move |name| (*name, door)));
    pairs.filter(|(name, _)| names_crate(text, name)).collect()
}

fn door_faults(file: &str, text: &str) -> Vec<String> {
    let allowed = |name: &str| {
        OTHER_WAYS
            .iter()
            .any(|(place, known, _)| *place == file && *known == name)
    };
    past_doors(file, text)
        .into_iter()
        .filter(|(name, _)| !allowed(name))
        .map(|(name, door)| {
            format!(
                "{file}: `{name}` leads to {}; only {} may name it",
                door.what, door.room
            )
        })
        .collect()
}

#[test]
fn nobody_goes_past_a_door() {
    let found: Vec<String> = product()
        .iter()
        .flat_map(|(file, text)| door_faults(file, text))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_other_way_is_needed() {
    let product = product();
    for (place, name, _) in OTHER_WAYS {
        let used = product
            .iter()
            .filter(|(file, _)| file == place)
            .any(|(file, text)| past_doors(file, text).iter().any(|(found, _)| found == name));
        assert!(used, "{place} does not name {name}: its exception is to go");
    }
}

#[test]
fn a_way_past_a_door_is_found_however_it_is_written() {
    for (file, text) in [
        ("src/agent/shadow.rs", "use greengrass_ipc::{Client, Qos};"),
        ("src/agent/shadow.rs", "use greengrass_ipc as ipc;"),
        ("src/agent/shadow.rs", "fn f(client: &greengrass_ipc::Client) {}"),
        ("src/agent/shadow.rs", "pub use {std::io, netlink_sys::Socket};"),
        ("src/cloud/inbox.rs", "let me = nix::unistd::geteuid();"),
        ("src/host/clock.rs", "extern crate greengrass_ipc;"),
        ("src/cli/status.rs", "use rustix::termios::tcgetwinsize;"),
        ("crates/edgewarden-core/src/moment.rs", "use nix::time::ClockId;"),
    ] {
        assert_eq!(door_faults(file, text).len(), 1, "{file}: {text}");
    }
    for (file, text) in [
        ("src/cloud/link.rs", "use greengrass_ipc::Client;"),
        ("src/host/clock.rs", "use nix::time::ClockId;"),
        ("src/agent/shadow.rs", "use std::os::unix::fs::PermissionsExt;"),
        (
            "src/agent/shadow.rs",
            "//! What `greengrass-ipc` and pnet's receiver do.",
        ),
        ("src/agent/shadow.rs", "use crate::host::nix::time;"),
    ] {
        assert!(door_faults(file, text).is_empty(), "{file}: {text}");
    }
}

#[test]
fn no_import_points_upward_or_sideways() {
    let found: Vec<String> = product()
        .iter()
        .flat_map(|(file, text)| faults(file, text))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_import_through_a_wall_is_found_however_it_is_written() {
    for (file, text) in [
        (
            "crates/edgewarden-core/src/report/write.rs",
            "use crate::config::keys;",
        ),
        (
            "src/control/client.rs",
            "use crate::{error_text, agent::board::Board};",
        ),
        ("src/control/client.rs", "fn f() { crate::agent::run() }"),
        ("src/host/clock.rs", "use edgewarden_core::config::Mode;"),
        ("src/cli/status.rs", "use crate::agent::enforcer::Handle;"),
    ] {
        assert_eq!(faults(file, text).len(), 1, "{file}: {text}");
    }
    for (file, text) in [
        ("src/cli/run.rs", "use crate::agent::{self, Start};"),
        ("src/agent/mod.rs", "use crate::host::clock;"),
        ("src/host/clock.rs", "use some_crate::config::Mode;"),
    ] {
        assert!(faults(file, text).is_empty(), "{file}: {text}");
    }
}

#[test]
fn the_table_itself_points_only_upward() {
    for (index, room) in ROOMS.iter().enumerate() {
        for known in room.knows {
            let above = ROOMS[..index].iter().any(|other| other.name == *known);
            assert!(
                above,
                "{} knows {known}, which does not stand above it",
                room.name
            );
        }
    }
    for (place, _, _) in EXCEPTIONS {
        assert!(root().join(place).is_file(), "there is no {place}");
    }
}

#[test]
fn every_folder_has_its_room() {
    for (file, _) in product() {
        let is_root =
            ["src/main.rs", "src/lib.rs", "crates/edgewarden-core/src/lib.rs"].contains(&file.as_str());
        assert!(
            is_root || room_of(&file).is_some(),
            "{file} stands in no room of the table"
        );
    }
}

/// The files that stand beside a folder of their own name, where that folder's `mod.rs` should be.
fn beside_their_folder(files: &[String]) -> Vec<&String> {
    let folder = |file: &String| file.strip_suffix(".rs").map(|stem| format!("{stem}/"));
    let has_folder = |file: &&String| {
        folder(file).is_some_and(|folder| files.iter().any(|other| other.starts_with(&folder)))
    };
    files.iter().filter(has_folder).collect()
}

#[test]
fn a_folders_module_is_its_mod_rs() {
    let mut found = Vec::new();
    for place in ["src", "crates", "xtask/src"] {
        files(&root().join(place), &mut found);
    }
    assert_eq!(beside_their_folder(&found), Vec::<&String>::new());
    let wrong = [
        "a/b.rs".to_owned(),
        "a/b/c.rs".to_owned(),
        "a/bc/mod.rs".to_owned(),
    ];
    assert_eq!(
        beside_their_folder(&wrong),
        [&wrong[0]],
        "control: a wrong one is found"
    );
}

/// What stands between two marks of a page becomes `text`.
fn with_section(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}: written by tests/docs/architecture -->\n"),
        format!("<!-- end of {name} -->\n"),
    );
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{text}{end}{after}")
}

fn table_of_rooms() -> String {
    let mut table = String::from("| where | what | may know |\n|---|---|---|\n");
    for room in ROOMS {
        let file = format!("{}.rs", room.place);
        let place = if root().join(&file).is_file() {
            &file
        } else {
            room.place
        };
        let knows = if room.knows.is_empty() {
            "nobody".to_owned()
        } else {
            room.knows.join(", ")
        };
        table.push_str(&format!("| `{place}` | {} | {knows} |\n", room.what));
    }
    table
}

fn table_of_doors() -> String {
    let mut table = String::from("| crates | lead to | only in |\n|---|---|---|\n");
    for door in DOORS {
        let crates = door.crates.join("`, `");
        table.push_str(&format!("| `{crates}` | {} | `{}` |\n", door.what, door.room));
    }
    for (place, name, why) in OTHER_WAYS {
        table.push_str(&format!("| `{name}` | {why} | `{place}` |\n"));
    }
    table
}

#[test]
fn the_architecture_page_shows_these_tables() {
    let path = root().join("ARCHITECTURE.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let wanted = with_section(&page, "rooms", &table_of_rooms());
    let wanted = with_section(&wanted, "doors", &table_of_doors());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == wanted,
        "the code map of ARCHITECTURE.md is not these tables; run UPDATE_DOCS=1 cargo test --test docs"
    );
}
