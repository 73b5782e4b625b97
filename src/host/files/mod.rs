//! Files of the agent's state directory: bounded reads, atomic durable replacement.
//!
//! In: paths and bytes. Out: bytes or an error that names the path. Files of others are `foreign`'s. Nothing here knows what the bytes mean. A file that
//! somebody else could have written is not read, and nothing is written beside it (`state_directory`).

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: file access with the path in every error"
)]

pub(crate) mod append_file;
pub(crate) mod drop_directory;
pub(crate) mod foreign;
pub(crate) mod journal_file;
pub(crate) mod journal_lists;
pub(crate) mod lock_holder;
pub(crate) mod shelter;
pub(crate) mod state_directory;
pub(crate) mod volatile;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use state_directory::Distrust;

/// Largest state file that is read, in bytes: a journal with as many blocked remotes as an order may have, with ends, is 12 MB.
pub(super) const MAX_FILE: u64 = 16 * 1024 * 1024;

/// What could not be done, with which file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// Reading failed for another reason than absence.
    #[error("could not read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is larger than any that is read, or would be.
    #[error("{path} is larger than {MAX_FILE} bytes")]
    TooLarge { path: PathBuf },
    /// Somebody else could have changed it.
    #[error("{path} is not trusted: {why}")]
    Untrusted {
        path: PathBuf,
        /// What is wrong with it.
        why: Distrust,
    },
    /// Writing, syncing or renaming failed; the old content is untouched.
    #[error("could not write {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A directory could not be made.
    #[error("could not make the directory {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The content of one of our own files, or `None` when there is no such file.
///
/// # Errors
/// [`FileError::TooLarge`], and as [`open`].
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    open(path)?.map(|file| take(file, path)).transpose()
}

/// One of our own files, to be read, or `None` when there is no such file. A link, a pipe or a file of somebody else is
/// none of ours; no kind of file is waited for.
///
/// # Errors
/// [`FileError::Read`] and [`FileError::Untrusted`].
pub(crate) fn open(path: &Path) -> Result<Option<File>, FileError> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
            return Err(untrusted(path, Distrust::Link));
        }
        Err(error) => return Err(unread(path)(error)),
    };
    state_directory::check(directory_of(path))?;
    let found = file.metadata().map_err(unread(path))?;
    if let Some(why) = state_directory::distrust_file(&found) {
        return Err(untrusted(path, why));
    }
    Ok(Some(file))
}

/// One of our own files if it is as [`replace_with`] leaves it: with these permissions, and under this name alone.
///
/// # Errors
/// [`FileError::Read`].
pub(crate) fn open_as_written(path: &Path, mode: u32) -> Result<Option<File>, FileError> {
    let file = match open(path) {
        Ok(Some(file)) => file,
        Ok(None) | Err(FileError::Untrusted { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = file.metadata().map_err(unread(path))?;
    Ok((found.mode() & 0o7777 == mode && found.nlink() == 1).then_some(file))
}

fn take(file: File, path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let mut start = file.take(MAX_FILE + 1);
    start.read_to_end(&mut bytes).map_err(unread(path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// Replaces `path` by `bytes` so that after a crash or a power cut it holds either the old or the new content.
///
/// # Errors
/// [`FileError::Write`] and [`FileError::Untrusted`]; the old content is then still there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    replace_with(path, 0o600, |file| file.write_all(bytes))
}

/// Replaces `path` by `bytes`, for as long as the machine runs: whole at any moment, and not waited for on a disk.
///
/// # Errors
/// As [`replace`].
pub(crate) fn replace_in_memory(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    state_directory::check(directory_of(path))?;
    let temporary = temporary(path);
    let _left_behind = fs::remove_file(&temporary);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary);
    let written = file
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(unwritten(path))
}

/// Replaces `path` by what `write` writes, with these permissions; otherwise as [`replace`].
///
/// # Errors
/// As [`replace`].
pub(crate) fn replace_with(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), FileError> {
    let directory = directory_of(path);
    state_directory::check(directory)?;
    let temporary = temporary(path);
    // Never what is there already: what stands in the way is told by the next step.
    let _left_behind = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(unwritten(path))?;
    let written = write(&mut file)
        .and_then(|()| file.set_permissions(fs::Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // On a full disk the half of it would be in the way of everybody else.
        let _half = fs::remove_file(&temporary);
        return Err(unwritten(path)(error));
    }
    sync_directory_of(path).map_err(unwritten(path))
}

/// Makes new and changed names durable: a rename is on disk only when the directory is.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// What [`replace`] writes before it renames; a crash in between leaves it behind.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}

pub(super) fn directory_of(path: &Path) -> &Path {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

fn unread(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Read { path, source }
}

fn unwritten(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Write { path, source }
}

fn untrusted(path: &Path, why: Distrust) -> FileError {
    FileError::Untrusted {
        path: path.to_owned(),
        why,
    }
}

/// Removes a file; a missing one is no error.
///
/// # Errors
/// [`FileError::Write`].
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritten(path)(error)),
        _ => Ok(()),
    }
}

/// Removes an empty directory; a missing one is no error. Gives false when something is in it.
///
/// # Errors
/// [`FileError::Write`].
pub(crate) fn remove_directory(path: &Path) -> Result<bool, FileError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(unwritten(path)(error)),
    }
}

/// Keeps a file as it is under another name (`journal` as `journal.damaged`) so that it can be looked at later. A
/// regular file stays in its place until it is replaced: a crash in between must not make it look as if there had been
/// none.
///
/// # Errors
/// [`FileError::Write`] and [`FileError::Untrusted`].
pub(crate) fn set_aside(path: &Path) -> Result<PathBuf, FileError> {
    state_directory::check(directory_of(path))?;
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    let aside = PathBuf::from(aside);
    let regular = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    if regular {
        let _older = fs::remove_file(&aside);
        if fs::hard_link(path, &aside).is_ok() {
            return Ok(aside);
        }
    }
    fs::rename(path, &aside).map_err(unwritten(path))?;
    Ok(aside)
}

/// A file lock; gone when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct FileLock(#[expect(dead_code, reason = "held, not used")] nix::fcntl::Flock<File>);

/// Locks a file; `None` when another process holds it.
///
/// # Errors
/// [`FileError::Write`] and [`FileError::Untrusted`].
pub(crate) fn lock(path: &Path) -> Result<Option<FileLock>, FileError> {
    let file = open_lock(path, true)?;
    match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(FileLock(lock))),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(unwritten(path)(error.into())),
    }
}

/// Waits until nobody holds a file locked, for as long as that takes. Nothing is made where there is none.
///
/// # Errors
/// [`FileError::Write`] and [`FileError::Untrusted`].
pub(crate) fn wait_for_lock(path: &Path) -> Result<(), FileError> {
    let mut file = open_lock(path, false)?;
    loop {
        match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive) {
            Ok(_free) => return Ok(()),
            Err((again, nix::errno::Errno::EINTR)) => file = again,
            Err((_, error)) => return Err(unwritten(path)(error.into())),
        }
    }
}

/// Whether both are the same file, under whatever names.
pub(crate) fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

fn open_lock(path: &Path, make: bool) -> Result<File, FileError> {
    state_directory::check(directory_of(path))?;
    let mut options = OpenOptions::new();
    options
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    let opened = match options.open(path) {
        // Only then: on a frozen file system the word alone would wait.
        Err(error) if make && error.kind() == io::ErrorKind::NotFound => {
            options.create(true).truncate(false).open(path)
        }
        opened => opened,
    };
    let file = opened.map_err(unwritten(path))?;
    // Whoever else can open it can hold it.
    let found = file.metadata().map_err(unwritten(path))?;
    if let Some(why) = state_directory::distrust_file(&found) {
        return Err(untrusted(path, why));
    }
    Ok(file)
}

/// Writes over what stands in a file that is there. A note for as long as the machine runs: neither whole after a crash nor
/// synced.
///
/// # Errors
/// [`FileError::Write`] and [`FileError::Untrusted`].
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    state_directory::check(directory_of(path))?;
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(unwritten(path))?;
    file.write_all(bytes).map_err(unwritten(path))
}

/// Makes a directory for root alone, with its parents; an existing one is fine.
///
/// # Errors
/// [`FileError::Directory`].
pub(crate) fn make_directory(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| FileError::Directory {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_reads_back_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        assert!(read(&path).unwrap().is_none());
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(read(&path).unwrap().is_none());
    }

    #[test]
    fn errors_carry_the_path() {
        let error = replace(Path::new("/nonexistent/dir/file"), b"x").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/dir/file"), "{error}");
    }

    #[test]
    fn what_is_no_file_of_ours_is_refused_at_once_and_can_be_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "x").unwrap();
        let refused = |why| {
            assert!(
                matches!(read(&path), Err(FileError::Untrusted { why: found, .. }) if found == why),
                "{why:?}: {:?}",
                read(&path)
            );
            let aside = set_aside(&path).unwrap();
            assert!(aside.symlink_metadata().is_ok());
            // A regular file stays until something of ours takes its place.
            let stays = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
            assert_eq!(stays, matches!(why, Distrust::Writable { .. }), "{why:?}");
            replace(&path, b"ours").unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), b"ours");
            fs::remove_file(&path).unwrap();
        };
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        refused(Distrust::Link);
        fs::remove_file(dir.path().join("journal.damaged")).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused(Distrust::NoFile);
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        refused(Distrust::Writable { mode: 0o666 });
        fs::remove_file(dir.path().join("journal.damaged")).unwrap();
        fs::create_dir(&path).unwrap();
        refused(Distrust::NoFile);
    }

    /// Makes a file into one that is not as it was written.
    type Spoil = fn(&Path) -> io::Result<()>;

    const SPOILED: [Spoil; 6] = [
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)),
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o4700)),
        |path| fs::hard_link(path, path.with_extension("other")),
        |path| std::os::unix::fs::chown(path, Some(65_534), None),
        |path| {
            fs::rename(path, path.with_extension("elsewhere"))?;
            std::os::unix::fs::symlink(path.with_extension("elsewhere"), path)
        },
        |path| {
            fs::remove_file(path)?;
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).map_err(io::Error::from)
        },
    ];

    #[test]
    fn only_a_file_that_nobody_touched_is_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        assert!(open_as_written(&path, 0o700).unwrap().is_none());
        for (number, spoil) in SPOILED.iter().enumerate() {
            replace_with(&path, 0o700, |file| file.write_all(b"same")).unwrap();
            assert!(open_as_written(&path, 0o700).unwrap().is_some(), "control");
            if let Err(error) = spoil(&path) {
                // Without real root there is nobody else to give it to.
                println!("SKIPPED {number}: {error}");
                continue;
            }
            assert!(open_as_written(&path, 0o700).unwrap().is_none(), "{number}");
        }
    }

    #[test]
    fn a_lock_that_others_could_hold_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        drop(lock(&path).unwrap().unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
        assert!(matches!(lock(&path), Err(FileError::Untrusted { .. })));
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _reader = open_pipe(&path);
        assert!(matches!(lock(&path), Err(FileError::Untrusted { .. })));
    }

    /// So that it can be opened to be written.
    fn open_pipe(path: &Path) -> File {
        let flags = nix::libc::O_NONBLOCK;
        File::options().read(true).custom_flags(flags).open(path).unwrap()
    }

    #[test]
    fn nothing_is_believed_or_written_where_others_may_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        replace(&path, b"one").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let why =
            |outcome: Result<(), FileError>| assert!(matches!(outcome, Err(FileError::Untrusted { .. })));
        why(read(&path).map(drop));
        why(replace(&path, b"two"));
        why(set_aside(&path).map(drop));
        why(lock(&dir.path().join("lock")).map(drop));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        // What was never written there says nothing.
        assert!(read(&dir.path().join("none")).unwrap().is_none());
    }

    #[test]
    fn a_planted_link_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("journal"), dir.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, temporary(&path)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(read(&path).unwrap().unwrap(), b"new");
        assert!(!temporary(&path).exists());
    }

    #[test]
    fn a_huge_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(read(&path), Err(FileError::TooLarge { .. })));
    }
}
