//! Who holds a file locked, in the kernel's own words: among the open files of the process that says so of itself, and else
//! in the machine's table (`/proc/locks`).
//!
//! In: a file, and who says that it holds it. Out: a process of our pid namespace. Invariant: whoever says so and does hold it
//! is found whatever other processes lock; any user can fill the table with locks, but nobody another process' open files.
//! Absent: whether that process is what it should be; locks that processes of other pid namespaces hold, which the kernel
//! does not show here.

#![expect(clippy::disallowed_methods, reason = "host is a door: /proc")]

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

/// Bytes of `/proc/locks` that are read: a line has some sixty, and a machine with databases some thousand lines. Beyond it
/// only a process that says nothing of itself stays unnamed.
const MAX_LOCKS: u64 = 1024 * 1024;
/// Open files of one process that are asked for their locks: an agent takes its lock among the first of some hundred.
const MAX_FILES: usize = 16_384;
/// Bytes read of what the kernel says about an open file: a hundred before its locks, of which a file of ours has one.
const MAX_FILE_TEXT: u64 = 4_096;

/// The process that holds `path` locked, as `flock` locks. `claimed` is who says so of itself: a file system that shows
/// files under other device numbers than the kernel's (overlayfs, btrfs) is believed when both agree.
pub(crate) fn find(path: &Path, claimed: Option<u32>) -> Option<u32> {
    let file = fs::symlink_metadata(path).ok()?;
    if let Some(pid) = claimed.filter(|pid| holds(*pid, &file)) {
        return Some(pid);
    }
    let locks = beginning("/proc/locks".as_ref(), MAX_LOCKS)?;
    let device = format!("{:02x}:{:02x}", major(file.dev()), minor(file.dev()));
    holder(&locks, &device, file.ino(), claimed)
}

/// Whether one of the process' open files is this one, and locked by that process. A child that inherits an open file is
/// shown its parent's lock, with the parent's number.
fn holds(pid: u32, file: &Metadata) -> bool {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let Ok(entries) = fs::read_dir(process.join("fdinfo")) else {
        return false;
    };
    entries.flatten().take(MAX_FILES).any(|entry| {
        // Only what is locked is looked at: any other file may be of a file system that does not answer.
        let is_locked = beginning(&entry.path(), MAX_FILE_TEXT).is_some_and(|text| is_locked_by(&text, pid));
        let open = || fs::metadata(process.join("fd").join(entry.file_name()));
        is_locked && open().is_ok_and(|open| (open.dev(), open.ino()) == (file.dev(), file.ino()))
    })
}

/// `lock:\t1: FLOCK  ADVISORY  WRITE 4242 fe:00:9977880 0 EOF` among other lines.
fn is_locked_by(description: &str, pid: u32) -> bool {
    let mut locks = description.lines().filter_map(|line| line.strip_prefix("lock:"));
    locks.any(|line| held(line).is_some_and(|(holder, _)| holder == pid))
}

fn beginning(path: &Path, limit: u64) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn holder(locks: &str, device: &str, inode: u64, claimed: Option<u32>) -> Option<u32> {
    let inode = inode.to_string();
    let mut second = None;
    for line in locks.lines() {
        let Some((pid, place)) = held(line) else { continue };
        match place.rsplit_once(':') {
            Some((on, number)) if number == inode => {
                if on == device {
                    return Some(pid);
                }
                if claimed == Some(pid) {
                    second = claimed;
                }
            }
            _ => {}
        }
    }
    second
}

/// `1: FLOCK  ADVISORY  WRITE 4242 fe:00:9977880 0 EOF`; who waits for a lock has an arrow behind the number.
fn held(line: &str) -> Option<(u32, &str)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let is_lock = words.next() == Some("FLOCK") && words.next() == Some("ADVISORY");
    let is_alone = words.next() == Some("WRITE");
    if !(is_lock && is_alone) {
        return None;
    }
    Some((words.next()?.parse().ok()?, words.next()?))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::fcntl::{FcntlArg, fcntl};
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;
    use crate::host::files;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 11 fe:00:70 0 EOF
2: FLOCK  ADVISORY  READ 12 fe:00:70 0 EOF
3: FLOCK  ADVISORY  WRITE 13 fe:00:71 0 EOF
3: -> FLOCK  ADVISORY  WRITE 14 fe:00:71 0 EOF
4: FLOCK  ADVISORY  WRITE 15 00:2a:72 0 EOF
nonsense
5: FLOCK  ADVISORY  WRITE -1 fe:00:73 0 EOF";

    #[test]
    fn only_who_holds_this_very_file_alone_is_found() {
        let found = |device, inode, claimed| holder(LOCKS, device, inode, claimed);
        assert_eq!(found("fe:00", 71, None), Some(13));
        assert_eq!(found("fe:00", 70, None), None, "locked otherwise");
        assert_eq!(found("fe:01", 71, None), None, "on another device");
        assert_eq!(found("fe:00", 73, None), None, "a process that is not shown here");
    }

    #[test]
    fn behind_an_overlay_the_process_itself_must_say_the_same() {
        let found = |claimed| holder(LOCKS, "00:31", 72, claimed);
        assert_eq!(found(None), None);
        assert_eq!(found(Some(16)), None);
        assert_eq!(found(Some(15)), Some(15));
    }

    #[test]
    fn the_kernel_names_us() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = files::lock(&path).unwrap().unwrap();
        let own = std::process::id();
        assert_eq!(find(&path, Some(own)), Some(own));
        drop(lock);
        assert_eq!(find(&path, Some(own)), None);
    }

    #[test]
    fn an_open_file_names_who_locked_it_alone() {
        let text =
            "pos:\t0\nflags:\t02100001\nino:\t71\nlock:\t1: FLOCK  ADVISORY  WRITE 13 fe:00:71 0 EOF\n";
        assert!(is_locked_by(text, 13));
        assert!(!is_locked_by(text, 14), "a child that has the file of its parent");
        assert!(!is_locked_by(&text.replace("WRITE", "READ"), 13), "not alone");
        assert!(!is_locked_by(&text.replace("FLOCK", "POSIX"), 13));
        assert!(!is_locked_by("pos:\t13\n", 13));
    }

    #[test]
    fn a_lock_of_another_file_names_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let own = std::process::id();
        let (held, free) = (directory.path().join("held"), directory.path().join("free"));
        let _lock = files::lock(&held).unwrap().unwrap();
        drop(files::lock(&free).unwrap().unwrap());
        assert!(holds(own, &fs::metadata(&held).unwrap()));
        assert!(!holds(own, &fs::metadata(&free).unwrap()));
        assert!(!holds(1, &fs::metadata(&held).unwrap()));
    }

    /// Any user may take that many. They are shown before ours: by the processor they were taken on, the latest first.
    #[test]
    fn a_table_full_of_others_locks_hides_nobody() {
        const FILES: usize = 60;
        const LOCKS_EACH: nix::libc::off_t = 500;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let _lock = files::lock(&path).unwrap().unwrap();
        let own = std::process::id();
        assert_eq!(find(&path, Some(own)), Some(own), "control");
        let flood = || -> Vec<File> {
            let mut first = CpuSet::new();
            first.set(0).unwrap();
            sched_setaffinity(Pid::from_raw(0), &first).unwrap();
            let many = std::iter::repeat_with(|| tempfile::tempfile().unwrap()).take(FILES);
            many.inspect(|file| {
                for begin in 0..LOCKS_EACH {
                    let range = nix::libc::flock {
                        l_type: i16::try_from(nix::libc::F_WRLCK).unwrap(),
                        l_whence: 0,
                        l_start: begin * 2,
                        l_len: 1,
                        l_pid: 0,
                    };
                    fcntl(file, FcntlArg::F_SETLK(&range)).unwrap();
                }
            })
            .collect()
        };
        let locked = thread::spawn(flood).join().unwrap();
        let table = fs::read("/proc/locks").unwrap();
        assert!(table.len() as u64 > MAX_LOCKS, "control: {} bytes", table.len());
        assert_eq!(
            find(&path, Some(own)),
            Some(own),
            "the holder is not seen any more"
        );
        drop(locked);
    }
}
