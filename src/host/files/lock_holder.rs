//! Who holds a file locked, in the kernel's own words (`/proc/locks`).
//!
//! In: a file, and who says that it holds it. Out: a process of our pid namespace. Absent: whether that process is what
//! it should be; locks that processes of other pid namespaces hold, which the kernel does not show here.

#![expect(clippy::disallowed_methods, reason = "host is a door: /proc/locks")]

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::stat::{major, minor};

/// Bytes of `/proc/locks` that are read: a line has some sixty, and a machine with databases some thousand lines.
const MAX_LOCKS: u64 = 1024 * 1024;

/// The process that holds `path` locked, as `flock` locks. `claimed` is who says so of itself: a file system that shows
/// files under other device numbers than the kernel's (overlayfs, btrfs) is believed when both agree.
pub(crate) fn find(path: &Path, claimed: Option<u32>) -> Option<u32> {
    let file = fs::symlink_metadata(path).ok()?;
    let mut text = Vec::new();
    let locks = File::open("/proc/locks").ok()?;
    locks.take(MAX_LOCKS).read_to_end(&mut text).ok()?;
    let device = format!("{:02x}:{:02x}", major(file.dev()), minor(file.dev()));
    holder(&String::from_utf8_lossy(&text), &device, file.ino(), claimed)
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
}
