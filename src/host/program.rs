//! Runs another program: one that only root or we could have put there, in an environment of its own, within limits.
//!
//! In: a name, arguments, what the program reads. Out: what it said and how it ended. Blocks, so it is called on a worker
//! thread. Nothing of our environment is handed on: it holds the nucleus' credential. Absent: what the words mean.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: this is the one place that runs a program"
)]

use std::fs::{File, Metadata};
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::clock;

/// Where system programs live besides PATH: services often run without the sbin directories.
pub(crate) const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Longest complaint that is read, in bytes.
const MAX_COMPLAINT: usize = 64 * 1024;
/// How long a killed program may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// Write permission for group and others.
const OTHERS_WRITE: u32 = 0o022;
/// Names belong to whoever made them.
const STICKY: u32 = 0o1000;

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) output: Vec<u8>,
    pub(crate) complaint: Vec<u8>,
    pub(crate) status: ExitStatus,
}

/// How long it may take, and how much it may say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProgramLimits {
    pub(crate) time: Duration,
    /// Bytes; what is beyond is cut.
    pub(crate) output: usize,
}

/// A program that was started, and when it must have ended.
pub(crate) struct Running {
    child: Child,
    end: Instant,
    output: usize,
}

/// Starts programs. One that could not even be killed keeps others from being started, or a device whose disk hangs would
/// fill up with them.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    stuck: Vec<Child>,
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

/// Input that is there whole before anybody reads it: of a pipe whose writer is killed a program would take what has come
/// so far for all of it.
///
/// # Errors
/// Without memory or descriptors.
pub(crate) fn whole(input: &str) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("edgewarden.input", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(input.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

impl Programs {
    /// Starts a program.
    ///
    /// # Errors
    /// It cannot be started, or an earlier one can neither be waited for nor killed.
    pub(crate) fn start(
        &mut self,
        program: &Path,
        arguments: &[&str],
        input: Stdio,
        limits: ProgramLimits,
    ) -> io::Result<Running> {
        self.stuck
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if let Some(stuck) = self.stuck.first() {
            let pid = stuck.id();
            return Err(io::Error::other(format!(
                "an earlier one (process {pid}) hangs and cannot be killed"
            )));
        }
        let end = clock::instant() + limits.time;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Running {
            child,
            end,
            output: limits.output,
        })
    }

    /// Waits until the program has ended; `None` when it took too long and was killed.
    ///
    /// # Errors
    /// It cannot be talked to.
    pub(crate) fn finish(&mut self, mut running: Running) -> io::Result<Option<Ended>> {
        let said = listen(&mut running).and_then(|said| {
            let ended = said.is_some() && has_ended(&running.child, running.end)?;
            Ok(said.filter(|_| ended))
        });
        // Whatever else happened, it is not left to itself.
        let Ok(Some((output, complaint))) = said else {
            self.kill(running.child);
            return said.map(|_| None);
        };
        let status = running.child.wait()?;
        Ok(Some(Ended {
            output,
            complaint,
            status,
        }))
    }

    fn kill(&mut self, mut child: Child) {
        let killed =
            child.kill().is_ok() && has_ended(&child, clock::instant() + KILL_LIMIT).unwrap_or(false);
        if killed {
            // It is dead: this does not wait.
            let _status = child.wait();
        } else {
            self.stuck.push(child);
        }
    }
}

/// What it says until it closes both streams; `None` when it took too long.
fn listen(running: &mut Running) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let missing = || io::Error::other("it has no output");
    let mut stdout = running.child.stdout.take().ok_or_else(missing)?;
    let mut stderr = running.child.stderr.take().ok_or_else(missing)?;
    let (mut output, mut complaint) = (Vec::new(), Vec::new());
    let mut open = [true, true];
    let mut chunk = vec![0; CHUNK];
    while open.contains(&true) {
        let Some(left) = left(running.end) else {
            return Ok(None);
        };
        let asked = |open| {
            if open {
                PollFlags::POLLIN
            } else {
                PollFlags::empty()
            }
        };
        let mut polled = [
            PollFd::new(stdout.as_fd(), asked(open[0])),
            PollFd::new(stderr.as_fd(), asked(open[1])),
        ];
        match poll(&mut polled, left) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = polled.map(|one| one.any().unwrap_or(false));
        if ready[0] && open[0] {
            open[0] = take(&mut stdout, &mut chunk, &mut output, running.output)?;
        }
        if ready[1] && open[1] {
            open[1] = take(&mut stderr, &mut chunk, &mut complaint, MAX_COMPLAINT)?;
        }
    }
    Ok(Some((output, complaint)))
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
    let handle = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
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

    const LIMITS: ProgramLimits = ProgramLimits {
        time: Duration::from_secs(20),
        output: 1_000,
    };

    fn sh(script: &str, limits: ProgramLimits) -> Option<Ended> {
        let mut programs = Programs::default();
        let input = whole("input").unwrap();
        let running = programs
            .start(Path::new("/bin/sh"), &["-c", script], input, limits)
            .unwrap();
        programs.finish(running).unwrap()
    }

    #[test]
    fn both_streams_are_read_to_their_bound_and_nothing_of_ours_is_handed_on() {
        let ended = sh("cat; env >&2; head -c 300000 /dev/zero; exit 3", LIMITS).unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert!(ended.output.starts_with(b"input"));
        assert_eq!(ended.output.len(), LIMITS.output);
        let environment = String::from_utf8(ended.complaint).unwrap();
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
        let short = ProgramLimits {
            time: Duration::from_millis(200),
            ..LIMITS
        };
        for script in ["exec sleep 60", "exec sleep 60 >&- 2>&-"] {
            let begun = clock::instant();
            assert!(sh(script, short).is_none(), "{script}");
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
