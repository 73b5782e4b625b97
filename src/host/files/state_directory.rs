//! The state directory: where it is, and whether what lies in it may be believed.
//!
//! In: its path. Out: a directory that only our own user can change, or the reason why it is none. Whoever can write
//! into it could remove the journal, and with it a quarantine; components of other users run on the same device.
//! Absent on purpose: the directories above it. `/var/lib` is root's; who names another place answers for the way
//! there.

use std::fmt::{self, Display};
use std::fs::{self, File, Metadata, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::host::files::{self, FileError};

/// Where the state is unless the command line says otherwise. The component's own work folder is no place for it: both
/// nuclei give that to the user that all components share.
pub(crate) const DEFAULT: &str = "/var/lib/edgewarden";

/// Name of the file in it that whoever enforces holds locked.
pub(crate) const LOCK: &str = "lock";

/// Write permission for group and others.
const OTHERS_WRITE: u32 = 0o022;
/// All permissions of group and others.
const OTHERS: u32 = 0o077;
/// Permissions of the directory we make.
const OWN: u32 = 0o700;
/// Permissions of a directory above it that is missing.
const ABOVE: u32 = 0o755;

/// Why a directory, or a file in it, is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distrust {
    /// It leads somewhere else.
    Link,
    /// Something else has its name.
    NoDirectory,
    /// Something else has the file's name.
    NoFile,
    /// Its owner can change it whenever he likes.
    Owner { uid: u32 },
    /// Group or others can change it.
    Writable {
        /// Permission bits, as `stat` has them.
        mode: u32,
    },
}

impl Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = own_uid();
        match self {
            Self::Link => write!(f, "it is a symbolic link"),
            Self::NoDirectory => write!(f, "it is no directory"),
            Self::NoFile => write!(f, "it is no regular file"),
            Self::Owner { uid } => write!(f, "it belongs to user {uid}, expected user {own}"),
            Self::Writable { mode } => {
                write!(
                    f,
                    "others may write to it (mode {mode:04o}, expected 0700 or stricter)"
                )
            }
        }
    }
}

/// Makes the directory, with its parents, for its owner alone. One that others could only look into is closed to them;
/// gives the permissions that it had then.
///
/// # Errors
/// [`FileError::Directory`]; [`FileError::Untrusted`] when others could have changed what is in it.
pub(crate) fn prepare(path: &Path) -> Result<Option<u32>, FileError> {
    if let Some(why) = distrust(path) {
        return Err(untrusted(path, why));
    }
    let failed = |source| FileError::Directory {
        path: path.to_owned(),
        source,
    };
    // On a frozen file system even the attempt would wait.
    if !path.is_dir() {
        make(path)?;
    }
    let directory = File::options()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed)?;
    let found = directory.metadata().map_err(failed)?;
    if let Some(why) = distrust_directory(&found) {
        return Err(untrusted(path, why));
    }
    let mode = found.mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(None);
    }
    directory
        .set_permissions(Permissions::from_mode(OWN))
        .map_err(failed)?;
    Ok(Some(mode))
}

fn make(path: &Path) -> Result<(), FileError> {
    if let Some(above) = path.parent() {
        // Not ours alone: others may have a place there too.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(ABOVE)
            .create(above)
            .map_err(|source| FileError::Directory {
                path: path.to_owned(),
                source,
            })?;
    }
    files::make_directory(path)
}

/// Refuses a directory that others could change. One that does not exist, or cannot be looked at, passes: what is done
/// with it next says so in its own words.
///
/// # Errors
/// [`FileError::Untrusted`].
pub(crate) fn check(path: &Path) -> Result<(), FileError> {
    distrust(path).map_or(Ok(()), |why| Err(untrusted(path, why)))
}

fn distrust(path: &Path) -> Option<Distrust> {
    distrust_directory(&fs::symlink_metadata(path).ok()?)
}

fn distrust_directory(found: &Metadata) -> Option<Distrust> {
    if found.is_symlink() {
        return Some(Distrust::Link);
    }
    if !found.is_dir() {
        return Some(Distrust::NoDirectory);
    }
    distrust_owner(found)
}

/// Why an open file is not believed.
pub(super) fn distrust_file(found: &Metadata) -> Option<Distrust> {
    if !found.is_file() {
        return Some(Distrust::NoFile);
    }
    distrust_owner(found)
}

fn distrust_owner(found: &Metadata) -> Option<Distrust> {
    let mode = found.mode() & 0o7777;
    distrust_user(found).or_else(|| (mode & OTHERS_WRITE != 0).then_some(Distrust::Writable { mode }))
}

/// Why the owner of a file is not believed, whatever its permissions are.
pub(super) fn distrust_user(found: &Metadata) -> Option<Distrust> {
    (found.uid() != own_uid()).then_some(Distrust::Owner { uid: found.uid() })
}

/// Refuses a link that is not our own user's; what it leads to is not looked at.
///
/// # Errors
/// [`FileError::Untrusted`].
pub(crate) fn check_link(path: &Path) -> Result<(), FileError> {
    let found = fs::symlink_metadata(path).ok();
    let why = found.and_then(|found| distrust_user(&found));
    why.map_or(Ok(()), |why| Err(untrusted(path, why)))
}

/// Whether we are root, who alone may read a state directory.
pub(crate) fn is_root() -> bool {
    own_uid() == 0
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn untrusted(path: &Path, why: Distrust) -> FileError {
    FileError::Untrusted {
        path: path.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "puts things in the way")]

    use super::*;

    fn with_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn why(path: &Path) -> Distrust {
        match prepare(path) {
            Err(FileError::Untrusted { why, .. }) => why,
            other => panic!("trusted: {other:?}"),
        }
    }

    #[test]
    fn a_new_directory_is_ours_alone_and_a_readable_one_is_closed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        assert_eq!(prepare(&path).unwrap(), None);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, OWN);
        let above = fs::metadata(place.path().join("a")).unwrap().mode();
        assert_eq!(above & 0o700, 0o700);
        assert_eq!(above & OTHERS_WRITE, 0);
        with_mode(&path, 0o755);
        assert_eq!(prepare(&path).unwrap(), Some(0o755));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, OWN);
        check(&path).unwrap();
        check(&place.path().join("none")).unwrap();
    }

    #[test]
    fn what_others_could_change_is_refused_by_name_and_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let open = place.path().join("open");
        fs::create_dir(&open).unwrap();
        for mode in [0o777, 0o770, 0o702, 0o1777] {
            with_mode(&open, mode);
            assert_eq!(why(&open), Distrust::Writable { mode });
            assert_eq!(fs::metadata(&open).unwrap().mode() & 0o7777, mode);
        }
        let text = crate::error_text(&check(&open).unwrap_err());
        assert!(
            text.contains("open") && text.contains("others may write"),
            "{text}"
        );
        with_mode(&open, 0o700);
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&open, &link).unwrap();
        assert_eq!(why(&link), Distrust::Link);
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(why(&file), Distrust::NoDirectory);
        // Root may look everywhere and owns nothing of nobody's.
        if own_uid() == 0 {
            std::os::unix::fs::chown(&open, Some(65_534), None).unwrap();
            assert_eq!(why(&open), Distrust::Owner { uid: 65_534 });
        } else {
            assert_eq!(why(Path::new("/proc")), Distrust::Owner { uid: 0 });
        }
    }
}
