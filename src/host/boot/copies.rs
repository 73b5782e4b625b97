//! The copies of the program that the recipe's install step makes: `<state>/bin/<SHA-256>/edgewarden-<processor>`.
//!
//! In: the state directory; which copy runs. Out: that one and the one before it, to which a rollback goes; the others are
//! removed. Which one was before is written down, so that no clock decides it. Absent on purpose: making and proving a copy,
//! which is the recipe's, because until then there is nothing that root may run.

#![expect(clippy::disallowed_methods, reason = "host is a door: the folder of programs")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::host::files::{self, FileError, state_directory};

/// Folder of the copies in the state directory, as the recipe names it.
const FOLDER: &str = "bin";
/// File in it: digests of the programs that were installed, the newest first.
const RECORD: &str = "installed";
/// Beginning of a program's name; what else lies in a copy's folder is none of ours.
const PROGRAM: &str = "edgewarden-";
/// The one that runs and the one before it.
const KEPT: usize = 2;
/// Characters of a SHA-256.
const DIGEST: usize = 64;
/// Entries that are looked at; there are as many copies as were installed since somebody removed them.
const MAX_ENTRIES: usize = 1_000;

/// Keeps the copy at `program` and the one before it. A program that is none of the copies changes nothing.
///
/// # Errors
/// The first thing that could not be written or removed.
pub(super) fn keep(state: &Path, program: &Path) -> Result<(), FileError> {
    let folder = state.join(FOLDER);
    let Some(own) = digest_of(&folder, program) else {
        return Ok(());
    };
    let record = folder.join(RECORD);
    let found = files::read(&record)?.unwrap_or_default();
    let found = String::from_utf8_lossy(&found);
    let before = found.lines().filter(|digest| is_digest(digest) && *digest != own);
    let kept: Vec<&str> = [own.as_str()].into_iter().chain(before).take(KEPT).collect();
    let text = kept.join("\n");
    if text != found {
        files::replace(&record, text.as_bytes())?;
    }
    for (digest, copy) in copies(&folder) {
        if !kept.contains(&digest.as_str()) {
            remove_copy(&copy)?;
        }
    }
    Ok(())
}

/// Removes all copies, also the one that runs, and their folder if nothing else is in it.
///
/// # Errors
/// Everything that could not be removed.
pub(super) fn remove(state: &Path) -> Result<(), Vec<FileError>> {
    let folder = state.join(FOLDER);
    if folder.symlink_metadata().is_err() {
        return Ok(());
    }
    // Behind a link there are somebody else's files.
    state_directory::check(&folder).map_err(|error| vec![error])?;
    let record = folder.join(RECORD);
    let removed = copies(&folder).into_iter().map(|(_, copy)| remove_copy(&copy));
    let others = [files::remove(&files::temporary(&record)), files::remove(&record)];
    let removed = removed.chain(others).filter_map(Result::err);
    let mut failures: Vec<FileError> = removed.collect();
    failures.extend(files::remove_directory(&folder).err());
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures)
    }
}

/// The digest that names the copy's folder.
fn digest_of(folder: &Path, program: &Path) -> Option<String> {
    let copy = program.parent()?;
    let digest = copy.file_name()?.to_str()?;
    (copy.parent()? == folder && is_digest(digest)).then(|| digest.to_owned())
}

fn is_digest(name: &str) -> bool {
    name.len() == DIGEST && name.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Every copy's folder, by its digest.
fn copies(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_ENTRIES);
    let copies = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        (is_folder && is_digest(&name)).then(|| (name, entry.path()))
    });
    copies.collect()
}

/// Removes a copy's programs, also halves of them; its folder stays if anything else is in it.
fn remove_copy(copy: &Path) -> Result<(), FileError> {
    let entries = fs::read_dir(copy).into_iter().flatten().take(MAX_ENTRIES);
    for entry in entries.filter_map(Result::ok) {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PROGRAM.as_bytes())
        {
            files::remove(&entry.path())?;
        }
    }
    files::remove_directory(copy).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct State(tempfile::TempDir);

    impl State {
        fn copy(&self, digit: char) -> PathBuf {
            let name: String = std::iter::repeat_n(digit, DIGEST).collect();
            self.0.path().join(FOLDER).join(name).join("edgewarden-arm")
        }

        fn install(&self, digit: char) {
            let copy = self.copy(digit);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::write(&copy, "program").unwrap();
            keep(self.0.path(), &copy).unwrap();
        }

        fn there(&self) -> String {
            let digits = ('a'..='f').filter(|digit| self.copy(*digit).exists());
            digits.collect()
        }
    }

    #[test]
    fn the_one_that_runs_and_the_one_before_it_stay_whatever_the_clock_says() {
        let state = State(tempfile::tempdir().unwrap());
        for (digit, there) in [
            ('c', "c"),
            ('a', "ac"),
            ('b', "ab"),
            ('b', "ab"),
            ('a', "ab"),
            ('d', "ad"),
        ] {
            state.install(digit);
            assert_eq!(state.there(), there, "after {digit}");
        }
        // Half a copy that was never installed.
        let half = state.copy('f').with_extension("17");
        fs::create_dir_all(half.parent().unwrap()).unwrap();
        fs::write(&half, "half").unwrap();
        state.install('d');
        assert!(!half.parent().unwrap().exists());
        let elsewhere = state.0.path().join("edgewarden");
        keep(state.0.path(), &elsewhere).unwrap();
        assert_eq!(
            state.there(),
            "ad",
            "a program that is no copy says nothing of them"
        );

        remove(state.0.path()).unwrap();
        assert!(!state.0.path().join(FOLDER).exists());
        remove(state.0.path()).unwrap();
    }

    #[test]
    fn what_is_not_ours_stays() {
        let state = State(tempfile::tempdir().unwrap());
        state.install('a');
        let (notes, more) = (
            state.copy('a').with_file_name("notes"),
            state.0.path().join("bin/more"),
        );
        fs::write(&notes, "").unwrap();
        fs::create_dir(&more).unwrap();
        remove(state.0.path()).unwrap();
        assert!(notes.exists() && more.exists() && !state.copy('a').exists());

        let other = State(tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(state.0.path().join(FOLDER), other.0.path().join(FOLDER)).unwrap();
        assert!(remove(other.0.path()).is_err(), "behind a link");
        assert!(notes.exists());
    }
}
