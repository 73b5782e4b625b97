//! Runs another program: one that only root or we could have put there, in an environment of its own, within limits.
//!
//! In: a name, arguments. Out: what it complained of and how it ended. Blocks, so it is called on a worker
//! thread. Nothing of our environment is handed on: it holds the nucleus' credential. Absent: what the words mean.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: this is the one place that runs a program"
)]

use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::clock;
use super::processes::pinned;

/// Where system programs live besides PATH: services often run without the sbin directories.
pub(crate) const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Longest complaint that is read, in bytes.
const MAX_COMPLAINT: usize = 64 * 1024;
/// How long a killed program may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// From one look to the next where the kernel does not tell an end.
const LOOK: Duration = Duration::from_millis(5);
/// Write permission for group and others.
const OTHERS_WRITE: u32 = 0o022;
/// Names belong to whoever made them.
const STICKY: u32 = 0o1000;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ended {
    /// What it said on its standard error, cut at [`MAX_COMPLAINT`].
    pub(crate) complaint: Vec<u8>,
    pub(crate) status: ExitStatus,
}

/// The program of that name in PATH or [`DIRECTORIES`]. Elements of PATH that are no absolute path, or where others than
/// root and we could put a program, are passed over; so is a program that others could write.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_in(std::env::split_paths(&path), name)
}

fn find_in(path: impl Iterator<Item = PathBuf>, name: &str) -> Option<PathBuf> {
    // The well-known ones are root's wherever there is one; who that is cannot be seen from inside a user namespace.
    let known = || DIRECTORIES.iter().map(PathBuf::from);
    let chosen = path
        .filter(|directory| directory.is_absolute())
        .filter_map(|directory| {
            if known().any(|known| known == directory) {
                return Some(directory.join(name)).filter(|program| is_program(program, |_| true));
            }
            // Where it is, not how it was written: a link on the way could lead elsewhere a moment later. The program keeps
            // its name, which some of them go by.
            let directory = directory.canonicalize().ok()?;
            let program = directory.join(name);
            let file = program.canonicalize().ok()?;
            let is_safe = only_ours(&directory) && only_ours(file.parent()?) && is_program(&file, is_ours);
            is_safe.then_some(program)
        });
    let known = known().map(|directory| directory.join(name));
    chosen
        .chain(known.filter(|program| is_program(program, |_| true)))
        .next()
}

fn is_program(path: &Path, owner: impl Fn(&Metadata) -> bool) -> bool {
    path.metadata().is_ok_and(|found| {
        found.is_file() && found.mode() & 0o111 != 0 && found.mode() & OTHERS_WRITE == 0 && owner(&found)
    })
}

/// Root's or our own user's; or whoever's the root directory is, as root is seen from inside a user namespace.
fn is_ours(found: &Metadata) -> bool {
    let above_all = Path::new("/").metadata().map(|root| root.uid());
    let own = nix::unistd::geteuid().as_raw();
    [0, own].contains(&found.uid()) || above_all.is_ok_and(|uid| uid == found.uid())
}

/// Whether nobody but root and we can change what is in a directory, or put another in its place; without links in it.
fn only_ours(directory: &Path) -> bool {
    directory.ancestors().enumerate().all(|(above, directory)| {
        directory.metadata().is_ok_and(|found| {
            // In a directory like /tmp everybody has names of his own, and none of anybody else's.
            let is_shared = above > 0 && found.mode() & STICKY != 0;
            is_ours(&found) && (found.mode() & OTHERS_WRITE == 0 || is_shared)
        })
    })
}

/// Runs a program that reads nothing, and whose output nobody wants; `None` when it took longer than `limit` and was killed.
///
/// # Errors
/// It cannot be started or talked to.
pub(crate) fn run(program: &Path, arguments: &[&str], limit: Duration) -> io::Result<Option<Ended>> {
    let end = clock::instant() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = listen(&mut child, end).and_then(|said| {
        let ended = said.is_some() && has_ended(&child, end)?;
        Ok(said.filter(|_| ended))
    });
    // Whatever else happened, it is not left to itself.
    let Ok(Some(complaint)) = said else {
        let killed = child.kill().is_ok();
        if killed && has_ended(&child, clock::instant() + KILL_LIMIT).unwrap_or(false) {
            // It is dead: this does not wait.
            let _status = child.wait();
        }
        return said.map(|_| None);
    };
    let status = child.wait()?;
    Ok(Some(Ended { complaint, status }))
}

/// What it says until it closes its standard error; `None` when it took too long.
fn listen(child: &mut Child, end: Instant) -> io::Result<Option<Vec<u8>>> {
    let missing = || io::Error::other("it has no standard error");
    let mut stderr = child.stderr.take().ok_or_else(missing)?;
    let (mut complaint, mut chunk) = (Vec::new(), vec![0; CHUNK]);
    loop {
        let Some(left) = left(end) else {
            return Ok(None);
        };
        match poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        if !take(&mut stderr, &mut chunk, &mut complaint, MAX_COMPLAINT)? {
            return Ok(Some(complaint));
        }
    }
}

/// Reads what is there, and keeps of it what fits; `false` at the end.
fn take(stream: &mut impl io::Read, chunk: &mut [u8], kept: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let length = match stream.read(chunk) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        Err(error) => return Err(error),
    };
    let room = most.saturating_sub(kept.len()).min(length);
    kept.extend_from_slice(chunk.get(..room).unwrap_or_default());
    Ok(length > 0)
}

fn has_ended(child: &Child, end: Instant) -> io::Result<bool> {
    let Some(handle) = pinned::end_of(Pid::from_child(child))? else {
        return is_found_ended(child, end);
    };
    loop {
        let Some(left) = left(end) else {
            return Ok(false);
        };
        match poll(&mut [PollFd::new(handle.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The same where the kernel does not tell it: it is left unburied for whoever wants to know how it ended.
fn is_found_ended(child: &Child, end: Instant) -> io::Result<bool> {
    let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(WaitId::Pid(Pid::from_child(child)), how)?.is_none() {
        if clock::instant() >= end {
            return Ok(false);
        }
        clock::pause(LOOK);
    }
    Ok(true)
}

/// The time that is left, rounded up to the next millisecond; none when it is over.
fn left(end: Instant) -> Option<PollTimeout> {
    let left = end.checked_duration_since(clock::instant())?;
    Some(PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn sh(script: &str, limit: Duration) -> Option<Ended> {
        run(Path::new("/bin/sh"), &["-c", script], limit).unwrap()
    }

    #[test]
    fn a_complaint_is_read_to_its_bound_and_nothing_of_ours_is_handed_on() {
        let ended = sh("env >&2; head -c 300000 /dev/zero >&2; exit 3", LIMIT).unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(ended.complaint.len(), MAX_COMPLAINT);
        let environment = String::from_utf8(ended.complaint).unwrap();
        let environment = environment.trim_end_matches('\0');
        assert!(environment.contains("LC_ALL=C"), "{environment}");
        let ours = |line: &str| {
            std::env::vars().any(|(name, _)| name != "PWD" && line.starts_with(&format!("{name}=")))
        };
        let handed: Vec<&str> = environment
            .lines()
            .filter(|line| ours(line) && !line.starts_with("LC_ALL="))
            .collect();
        assert!(
            handed
                .iter()
                .all(|line| line.starts_with("SHLVL=") || line.starts_with("_=")),
            "{handed:?}"
        );
    }

    #[test]
    fn what_hangs_is_killed_in_time_whether_or_not_it_closed_its_streams() {
        for script in ["exec sleep 60", "exec sleep 60 >&- 2>&-"] {
            let begun = clock::instant();
            assert!(sh(script, Duration::from_millis(200)).is_none(), "{script}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{script}");
        }
    }

    #[test]
    fn only_places_that_others_cannot_write_to_are_looked_at() {
        let place = tempfile::tempdir().unwrap();
        let program = place.path().join("edgewarden-test-program");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let found = |element: &Path| find_in([element.to_owned()].into_iter(), "edgewarden-test-program");
        assert_eq!(found(place.path()), Some(program.clone()));
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(found(place.path()), None, "everybody may write there");
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o775)).unwrap();
        assert_eq!(found(place.path()), None, "the group may write it");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let above = place.path().join("above");
        let inner = above.join("bin");
        fs::create_dir_all(&inner).unwrap();
        let moved = inner.join("edgewarden-test-program");
        fs::rename(&program, &moved).unwrap();
        assert_eq!(found(&inner), Some(moved.clone()), "control");
        fs::set_permissions(&above, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(found(&inner), None, "another directory may be put in its place");
        fs::set_permissions(&above, fs::Permissions::from_mode(0o755)).unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&inner, &link).unwrap();
        assert_eq!(
            found(&link),
            Some(moved.clone()),
            "what a link leads to, not the link"
        );
        // Without real root there is nobody else to give it to.
        if nix::unistd::geteuid().is_root() && std::os::unix::fs::chown(&moved, Some(65_534), None).is_ok() {
            assert_eq!(found(&inner), None, "its owner may write it");
        }
        for element in ["", ".", "bin"] {
            assert_eq!(found(Path::new(element)), None, "{element:?}");
        }
        assert!(
            find_in(std::iter::empty(), "sh").is_some(),
            "control: without any PATH"
        );
    }
}
