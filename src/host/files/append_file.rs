//! A file that only grows, and is rotated.
//!
//! In: bytes to append. Out: the file's end, its rotated predecessors, and whether somebody else changed it. All of an
//! append is in the file or nothing of it; it is on disk when [`AppendFile::append`] returns. Nothing here knows what
//! the bytes mean.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: file access with the path in every error"
)]

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::state_directory;
use super::{FileError, directory_of, sync_directory_of};

/// For root alone.
const MODE: u32 = 0o600;

#[derive(Debug)]
pub(crate) struct AppendFile {
    path: PathBuf,
    file: File,
    /// How long it was after our last write.
    length: u64,
}

/// Opens a file at its end, and makes it where there is none: a note for as long as the machine runs, neither whole after a crash
/// nor synced.
///
/// # Errors
/// [`FileError::Write`] and [`FileError::Untrusted`].
pub(crate) fn open_note(path: &Path) -> Result<File, FileError> {
    state_directory::check(directory_of(path))?;
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE);
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    options.open(path).map_err(|source| write_error(path, source))
}

impl AppendFile {
    /// Opens the file, makes it when it is missing. Neither a symbolic link nor anything but a regular file with one
    /// name is taken: whatever else is there was not made by us.
    ///
    /// # Errors
    /// [`FileError::Write`], and [`FileError::Untrusted`] in a directory that others could change.
    pub(crate) fn open(path: &Path) -> Result<Self, FileError> {
        state_directory::check(directory_of(path))?;
        let open = || {
            let file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(MODE)
                .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
                .open(path)?;
            let found = file.metadata()?;
            if !found.is_file() || found.nlink() != 1 {
                return Err(io::Error::other("it is no regular file with this name alone"));
            }
            if let Some(why) = state_directory::distrust_user(&found) {
                return Err(io::Error::other(why.to_string()));
            }
            if found.mode() & 0o777 != MODE {
                file.set_permissions(fs::Permissions::from_mode(MODE))?;
            }
            if found.len() == 0 {
                sync_directory_of(path)?;
            }
            Ok((file, found.len()))
        };
        let (file, length) = open().map_err(|source| write_error(path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// At most `most` bytes of its end.
    ///
    /// # Errors
    /// [`FileError::Read`].
    pub(crate) fn tail(&mut self, most: u64) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(self.length.saturating_sub(most)))
            .and_then(|_| (&self.file).take(most).read_to_end(&mut bytes))
            .map_err(|source| FileError::Read {
                path: self.path.clone(),
                source,
            })?;
        Ok(bytes)
    }

    /// Cuts bytes off its end.
    ///
    /// # Errors
    /// [`FileError::Write`].
    pub(crate) fn cut(&mut self, bytes: u64) -> Result<(), FileError> {
        let length = self.length.saturating_sub(bytes);
        let cut = self.file.set_len(length);
        cut.map_err(|source| write_error(&self.path, source))?;
        self.length = length;
        Ok(())
    }

    /// Appends bytes and waits until they are on disk.
    ///
    /// # Errors
    /// [`FileError::Write`]; the file then holds nothing of the bytes, as far as the disk let us take them back.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        written.map_err(|source| {
            // The first error is what is told. What cannot be cut off is found at the next opening.
            let _left_behind = self.file.set_len(self.length);
            write_error(&self.path, source)
        })?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// What somebody did to the file since our last write, if anything.
    pub(crate) fn change(&self) -> Option<&'static str> {
        let Ok(ours) = self.file.metadata() else {
            return Some("it cannot be looked at");
        };
        let there = match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Some("it was removed"),
            Err(_) => return Some("it cannot be looked at"),
            Ok(there) => there,
        };
        if identity(&there) != identity(&ours) {
            Some("it was replaced by another file")
        } else if ours.len() < self.length {
            Some("its end was cut off")
        } else if ours.len() > self.length {
            Some("something was written to it")
        } else {
            None
        }
    }
}

/// Makes room: `path` becomes `path.1`, that one `path.2`, and so on; `path.<kept>` is lost.
///
/// # Errors
/// [`FileError::Write`]; a later try goes on where this one stopped.
pub(crate) fn rotate(path: &Path, kept: usize) -> Result<(), FileError> {
    for age in (0..kept).rev() {
        let (from, to) = (aged(path, age), aged(path, age + 1));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(write_error(&from, source)),
            Ok(()) => {}
        }
    }
    sync_directory_of(path).map_err(|source| write_error(path, source))
}

/// The name of a file that was rotated `age` times.
pub(crate) fn aged(path: &Path, age: usize) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

/// At most `most` bytes of the end of a file that was rotated, and whether that is all of it; `None` when there is
/// none.
///
/// # Errors
/// [`FileError::Read`].
pub(crate) fn end_of(path: &Path, most: u64) -> Result<Option<(Vec<u8>, bool)>, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let read = || {
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let from = found.len().saturating_sub(most);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        file.take(most).read_to_end(&mut bytes)?;
        Ok((bytes, from == 0))
    };
    read().map(Some).map_err(failed)
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn write_error(path: &Path, source: io::Error) -> FileError {
    FileError::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_says_what_others_did() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = AppendFile::open(&path).unwrap();
        file.append(b"one\n").unwrap();
        file.append(b"two\n").unwrap();
        assert_eq!((file.len(), file.change()), (8, None));
        assert_eq!(file.tail(5).unwrap(), b"\ntwo\n");
        assert_eq!(file.tail(100).unwrap(), b"one\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        file.cut(2).unwrap();
        file.append(b"\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one\ntw\n");
        fs::write(&path, "one\ntw\nthree\n").unwrap();
        assert_eq!(file.change(), Some("something was written to it"));
        fs::write(&path, "o").unwrap();
        assert_eq!(file.change(), Some("its end was cut off"));
        fs::remove_file(&path).unwrap();
        assert_eq!(file.change(), Some("it was removed"));
        fs::write(&path, "").unwrap();
        assert_eq!(file.change(), Some("it was replaced by another file"));
    }

    #[test]
    fn links_and_what_is_no_file_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (real, path) = (directory.path().join("real"), directory.path().join("log"));
        fs::write(&real, "precious").unwrap();
        std::os::unix::fs::symlink(&real, &path).unwrap();
        assert!(AppendFile::open(&path).is_err());
        assert!(end_of(&path, 10).is_err());
        fs::remove_file(&path).unwrap();
        fs::hard_link(&real, &path).unwrap();
        assert!(AppendFile::open(&path).is_err());
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(AppendFile::open(&path).is_err());
        assert!(end_of(&path, 10).is_err());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = AppendFile::open(&path).unwrap_err();
        assert!(error.to_string().contains("log"), "{error}");
        assert_eq!(fs::read(&real).unwrap(), b"precious");
    }

    #[test]
    fn rotation_keeps_so_many_and_survives_gaps() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let read = |age| fs::read_to_string(aged(&path, age)).ok();
        for round in 0..5 {
            fs::write(&path, round.to_string()).unwrap();
            rotate(&path, 2).unwrap();
        }
        assert_eq!(
            [read(0), read(1), read(2), read(3)],
            [None, Some("4".into()), Some("3".into()), None]
        );
        fs::remove_file(aged(&path, 1)).unwrap();
        fs::write(&path, "5").unwrap();
        rotate(&path, 2).unwrap();
        assert_eq!(
            [read(0), read(1), read(2)],
            [None, Some("5".into()), Some("3".into())]
        );
        assert_eq!(end_of(&aged(&path, 1), 10).unwrap(), Some((b"5".to_vec(), true)));
        assert_eq!(end_of(&path, 10).unwrap(), None);
    }
}
