//! A directory into which other programs drop small files.
//!
//! In: its path. Out: the files' contents, and a sentence for each that is refused. Everything in it is hostile:
//! nothing is followed, nothing is waited for, nothing is read without a bound, and only files of the directory's
//! owner, of root or of ourselves count. What the bytes mean is not known here.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::foreign::{self, FinalLink};
use crate::Arrange;
use crate::report::custom::dropped::{MetricFile, printable};

/// Files looked at; as many metrics as an account has.
const MAX_FILES: usize = 100;
/// Directory entries listed before the rest is ignored.
const MAX_ENTRIES: usize = 1_000;
/// Largest file in bytes; a list of 1,000 addresses fits.
const MAX_BYTES: u64 = 65_536;
/// A clock that was set a little, or a file system with coarse times, does not make a file come from the future.
const SLACK: Duration = Duration::from_secs(60);
/// Write permission for everybody.
const WORLD_WRITABLE: u32 = 0o002;

/// What the directory holds.
#[derive(Debug, Default)]
pub(crate) struct MetricFiles {
    /// Files that may be looked into, by name.
    pub files: Vec<MetricFile>,
    /// What is wrong, one sentence each.
    pub faults: Vec<String>,
}

/// Reads the directory at `now`.
#[must_use]
pub(crate) fn read(path: &Path, now: Timestamp) -> MetricFiles {
    let mut found = MetricFiles::default();
    if let Err(why) = read_into(path, now, &mut found) {
        found.faults.push(format!("{}: {why}", path.display()));
    }
    found
}

fn read_into(path: &Path, now: Timestamp, found: &mut MetricFiles) -> Result<(), String> {
    let text = |error: nix::errno::Errno| error.desc().to_owned();
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = openat(nix::fcntl::AT_FDCWD, path, flags, Mode::empty()).map_err(text)?;
    let directory = File::from(directory);
    let metadata = directory.metadata().map_err(|error| error.to_string())?;
    if metadata.mode() & WORLD_WRITABLE != 0 {
        return Err("everybody may write into it, so nothing in it is believed".to_owned());
    }
    let (names, more) = names(&directory)?;
    if more {
        found.faults.push(format!(
            "{}: holds more than {MAX_FILES} metrics, the rest is left out",
            path.display()
        ));
    }
    for name in names {
        match read_file(&directory, &name, metadata.uid(), now) {
            Ok(dropped) => found.files.push(dropped),
            Err(why) => found.faults.push(format!("{}: {why}", printable(&name))),
        }
    }
    Ok(())
}

/// Names ending in `.json`, sorted, and whether there are more.
#[expect(
    clippy::disallowed_methods,
    reason = "host is a door: the open directory is listed, whatever its path means by now"
)]
fn names(directory: &File) -> Result<(Vec<String>, bool), String> {
    use std::os::fd::AsRawFd as _;
    let open = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let entries = std::fs::read_dir(open).map_err(|error| error.to_string())?;
    let mut names: Vec<String> = entries
        .take(MAX_ENTRIES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".json"))
        .collect();
    names.arrange();
    let more = names.len() > MAX_FILES;
    names.truncate(MAX_FILES);
    Ok((names, more))
}

fn read_file(directory: impl AsFd, name: &str, owner: u32, now: Timestamp) -> Result<MetricFile, String> {
    let opened = foreign::open(directory, Path::new(name), FinalLink::Refused);
    let opened = opened.map_err(|error| error.to_string())?;
    let (file, metadata) = opened.ok_or("it has gone")?;
    if ![0, nix::unistd::geteuid().as_raw(), owner].contains(&metadata.uid()) {
        return Err(format!(
            "it belongs to user {}, not to the directory's owner",
            metadata.uid()
        ));
    }
    if metadata.mode() & WORLD_WRITABLE != 0 {
        return Err("everybody may write it".to_owned());
    }
    if metadata.nlink() != 1 {
        return Err("it has another name elsewhere (a hard link)".to_owned());
    }
    let bytes = foreign::take(file, MAX_BYTES).map_err(|error| error.to_string())?;
    let written = metadata.modified().map_err(|error| error.to_string())?;
    let written = Timestamp::try_from(written).map_err(|error| error.to_string())?;
    let age = match Duration::try_from(now.duration_since(written)) {
        Ok(age) => Some(age),
        Err(_) => (written.duration_since(now).unsigned_abs() <= SLACK).then_some(Duration::ZERO),
    };
    Ok(MetricFile {
        file: name.to_owned(),
        age,
        bytes,
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes the files that are read")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use jiff::SignedDuration;

    use super::*;

    fn now() -> Timestamp {
        crate::host::clock::now().wall
    }

    fn write(directory: &Path, name: &str, bytes: &[u8]) {
        fs::write(directory.join(name), bytes).unwrap();
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_plain_small_files_are_read() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        write(path, "good.json", b"{}");
        write(path, "other.txt", b"{}");
        write(path, "large.json", &vec![b' '; 65_537]);
        write(path, "open.json", b"{}");
        mode(&path.join("open.json"), 0o666);
        symlink("/etc/passwd", path.join("link.json")).unwrap();
        write(path, "hidden", b"{}");
        fs::hard_link(path.join("hidden"), path.join("hard.json")).unwrap();
        fs::create_dir(path.join("directory.json")).unwrap();
        nix::unistd::mkfifo(&path.join("fifo.json"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        if nix::unistd::geteuid().is_root() {
            write(path, "nobody.json", b"{}");
            nix::unistd::chown(&path.join("nobody.json"), Some(65_534.into()), None).unwrap();
        }
        let found = read(path, now());
        let names: Vec<&str> = found.files.iter().map(|file| file.file.as_str()).collect();
        assert_eq!(names, ["good.json"]);
        assert!(found.files[0].age.unwrap() < Duration::from_secs(60));
        let faults = found.faults.join("\n");
        for text in [
            "large.json: it is larger",
            "open.json: everybody",
            "link.json: it is a symbolic link",
            "hard.json: it has another name",
            "directory.json: it is not a regular file",
            "fifo.json: it is not a regular file",
        ] {
            assert!(faults.contains(text), "{text} in {faults}");
        }
        if nix::unistd::geteuid().is_root() {
            assert!(
                faults.contains("nobody.json: it belongs to user 65534"),
                "{faults}"
            );
        }
    }

    #[test]
    fn a_directory_that_everybody_may_write_or_that_is_a_link_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        write(path, "good.json", b"{}");
        symlink(path, path.with_extension("link")).unwrap();
        for (path, permissions) in [(path.to_owned(), 0o777), (path.with_extension("link"), 0o755)] {
            mode(temporary.path(), permissions);
            let found = read(&path, now());
            assert!(found.files.is_empty() && found.faults.len() == 1, "{found:?}");
        }
        fs::remove_file(path.with_extension("link")).unwrap();
        assert_eq!(read(Path::new("/nonexistent/x"), now()).faults.len(), 1);
        let pipe = path.join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let found = read(&pipe, now());
        assert!(found.faults[0].ends_with("Not a directory"), "{found:?}");
    }

    #[test]
    fn a_file_from_the_future_has_no_age_and_many_are_bounded() {
        let temporary = tempfile::tempdir().unwrap();
        for number in 0..150 {
            write(temporary.path(), &format!("{number}.json"), b"{}");
        }
        let found = read(temporary.path(), now() - SignedDuration::from_hours(1));
        assert_eq!((found.files.len(), found.faults.len()), (MAX_FILES, 1));
        assert!(found.files.iter().all(|file| file.age.is_none()));
    }
}
