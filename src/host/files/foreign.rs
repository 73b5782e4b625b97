//! Files that belong to others: whatever stands at a path, it is not waited for, and only a regular file is opened.
//!
//! In: a path, below an open directory or not, and the most bytes it may have. Out: the bytes, nothing when there is no
//! such file, or why it is not read. A device is not even opened: that alone may start something (a watchdog, a tape). A
//! file system that hangs holds its caller up all the same, so callers are threads of `host::worker`.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// Why a file of others is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForeignError {
    /// A pipe, a device, a directory.
    #[error("it is not a regular file")]
    NotRegular,
    /// And those are not followed there.
    #[error("it is a symbolic link")]
    Link,
    /// More than it may have.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// The kernel's refusal.
    #[error("{}", text(.0))]
    Refused(io::Error),
}

/// What a symbolic link at the end of a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinalLink {
    /// Another name, as `/etc/resolv.conf` often is.
    Followed,
    /// Somebody's attempt to have another file read.
    Refused,
}

/// Opens it for reading, without waiting; `None`: there is none.
///
/// # Errors
/// [`ForeignError`], but for its size.
pub(crate) fn open(
    directory: impl AsFd,
    path: &Path,
    link: FinalLink,
) -> Result<Option<(File, Metadata)>, ForeignError> {
    // Only a place in the file system: nothing is opened by it.
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    if link == FinalLink::Refused {
        flags |= OFlag::O_NOFOLLOW;
    }
    let place = match openat(directory, path, flags, Mode::empty()) {
        Ok(place) => File::from(place),
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(ForeignError::Refused(errno.into())),
    };
    let found = place.metadata().map_err(ForeignError::Refused)?;
    if found.is_symlink() {
        return Err(ForeignError::Link);
    }
    if !found.is_file() {
        return Err(ForeignError::NotRegular);
    }
    // The same file, whatever the path means by now. What is a regular file may wait, too: for a lease that another
    // program has, or, in /proc, for the next message.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let same = format!("/proc/self/fd/{}", place.as_raw_fd());
    let opened = openat(nix::fcntl::AT_FDCWD, same.as_str(), flags, Mode::empty());
    let file = opened.map_err(|errno| ForeignError::Refused(errno.into()))?;
    Ok(Some((File::from(file), found)))
}

/// All that is in it, if that is no more than `limit` bytes.
///
/// # Errors
/// [`ForeignError::TooLarge`] and [`ForeignError::Refused`].
pub(crate) fn take(file: File, limit: u64) -> Result<Vec<u8>, ForeignError> {
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(ForeignError::Refused)?;
    if bytes.len() as u64 > limit {
        return Err(ForeignError::TooLarge(limit));
    }
    Ok(bytes)
}

/// Both at once, for a path of the machine whose links count; `None`: there is none.
///
/// # Errors
/// [`ForeignError`].
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ForeignError> {
    let found = open(nix::fcntl::AT_FDCWD, path, FinalLink::Followed)?;
    found.map(|(file, _)| take(file, limit)).transpose()
}

/// The kernel's reason in its own words, without the number that the library adds.
fn text(error: &io::Error) -> String {
    let number = error.raw_os_error().map(Errno::from_raw);
    number.map_or_else(|| error.to_string(), |errno| errno.desc().to_owned())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes the files that are read")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn why(path: &Path) -> String {
        read(path, 4).map_or_else(|error| error.to_string(), |found| format!("read: {found:?}"))
    }

    #[test]
    fn a_regular_file_is_read_through_links_and_nothing_else_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "four").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("nothing", path("dangling")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        symlink("fifo", path("link-to-fifo")).unwrap();
        fs::write(path("large"), "more than four").unwrap();
        for name in ["file", "link"] {
            assert_eq!(read(&path(name), 4).unwrap().unwrap(), b"four", "{name}");
        }
        for name in ["nothing", "dangling"] {
            assert!(read(&path(name), 4).unwrap().is_none(), "{name}");
        }
        for name in ["fifo", "link-to-fifo", "."] {
            assert_eq!(why(&path(name)), "it is not a regular file", "{name}");
        }
        assert_eq!(why(Path::new("/dev/zero")), "it is not a regular file");
        assert_eq!(why(&path("large")), "it is larger than 4 bytes");
        assert_eq!(why(&path("file/x")), "Not a directory");
        let here = File::open(directory.path()).unwrap();
        let linked = open(&here, Path::new("link"), FinalLink::Refused);
        assert!(matches!(linked, Err(ForeignError::Link)), "{linked:?}");
    }
}
