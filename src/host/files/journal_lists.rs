//! The long lists of blocked remotes beside the journal: a file for each, named by the digest of its content.
//!
//! In: the lists that a journal names. Out: files that are on disk before it and go after it, and a journal in one piece when
//! it is read. Bounded: the lists of two journals, the one on disk and the one being written. Absent: what a list says, which
//! the journal's own reading holds against the name.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: file access with the path in every error"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{FileError, directory_of, open_as_written, read, remove, replace, set_aside};
use crate::error_text;
use crate::lock;
use crate::quarantine::orders::remotes::RemoteList;
use crate::quarantine::proof::journal::Written;

/// How the names begin; the digest follows.
const PREFIX: &str = "remotes-";
/// Looks at a journal whose lists go away under the reader: each means that an agent has written another one meanwhile.
const LOOKS: usize = 5;

/// The lists that this process has written. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct KeptLists(Arc<Mutex<BTreeSet<String>>>);

impl KeptLists {
    /// Has these lists on disk. One that lies there from another process is written anew: who knows what it holds.
    ///
    /// # Errors
    /// As [`replace`]; the journal that names them must not be written then.
    pub(super) fn keep(&self, journal: &Path, named: &[RemoteList]) -> Result<(), FileError> {
        for list in named {
            let path = place(journal, list.digest());
            let is_ours = lock(&self.0).contains(list.digest());
            if is_ours && open_as_written(&path, 0o600)?.is_some() {
                continue;
            }
            replace(&path, &list.written())?;
            lock(&self.0).insert(list.digest().to_owned());
        }
        Ok(())
    }

    /// Removes the lists that no journal names: those of the journal on disk are `named`.
    pub(super) fn sweep(&self, journal: &Path, named: &[RemoteList]) {
        lock(&self.0).retain(|known| named.iter().any(|list| list.digest() == known));
        let keep: Vec<PathBuf> = named.iter().map(|list| place(journal, list.digest())).collect();
        for path in found(directory_of(journal)) {
            if keep.contains(&path) {
                continue;
            }
            // It is in nobody's way; the next write tries again.
            if let Err(error) = remove(&path) {
                tracing::debug!("{}", error_text(&error));
            }
        }
    }
}

/// A journal in one piece: its file, and behind it each list that it names and that is there.
///
/// # Errors
/// [`FileError`]: the journal's own file is there and cannot be read.
pub(crate) fn read_whole(journal: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let mut looks = 0;
    loop {
        looks += 1;
        let Some(file) = read(journal)? else {
            return Ok(None);
        };
        let mut whole = file.clone();
        let mut is_whole = true;
        for digest in Written::named(&file) {
            match read(&place(journal, &digest)) {
                Ok(Some(list)) => {
                    whole.extend(list);
                    whole.push(b'\n');
                }
                Ok(None) => is_whole = false,
                Err(error) => {
                    tracing::error!("{}", error_text(&error));
                    is_whole = false;
                }
            }
        }
        // Who only looks may read a journal that is replaced at this moment.
        if is_whole || looks == LOOKS || read(journal)?.as_ref() == Some(&file) {
            return Ok(Some(whole));
        }
    }
}

/// Keeps a journal that cannot be read under another name, in one piece: its lists go with the next journal.
///
/// # Errors
/// As [`set_aside`].
pub(super) fn set_aside_whole(journal: &Path) -> Result<PathBuf, FileError> {
    let whole = read_whole(journal);
    let aside = set_aside(journal)?;
    if let Ok(Some(whole)) = whole
        && !Written::named(&whole).is_empty()
        && let Err(error) = replace(&aside, &whole)
    {
        // The file alone is there.
        tracing::warn!("{}", error_text(&error));
    }
    Ok(aside)
}

/// The lists beside a journal, and what a crash has left of them.
pub(crate) fn found(state_directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names
        .filter(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
        .map(|name| state_directory.join(name))
        .collect()
}

fn place(journal: &Path, digest: &str) -> PathBuf {
    journal.with_file_name(format!("{PREFIX}{digest}"))
}

#[cfg(test)]
#[path = "journal_lists_tests.rs"]
mod tests;
