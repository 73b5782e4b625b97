//! Whether a directory is forgotten by a restart of the machine, although every write to it succeeds and is synced.
//!
//! In: the directory. Out: what it lies on, for people, where that is memory: a file system of memory itself, an overlay
//! whose changes lie there, a disk made of memory, also below others as device-mapper makes them, or a loop device whose file lies
//! there. What is mounted is read from the kernel. An overlay that syncs nothing, and one whose changes cannot be seen from
//! here, are told as such. Absent: a virtual machine's disk, disks
//! that lie, and storage over a network. May hang where a file system does, so it is for a thread of its own.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: what is mounted, and on what"
)]

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};

/// `RAMFS_MAGIC` of `linux/magic.h`.
const RAMFS_MAGIC: i64 = 0x8584_58f6;
/// Bytes of the list of mounts looked at; a device with hundreds of containers has some hundred kilobytes.
const MAX_MOUNTS: u64 = 4 << 20;
/// Layers looked through: an overlay upon a loop device upon memory has three.
const MAX_LAYERS: usize = 4;
/// Names of block devices that are made of memory.
const MEMORY_DISKS: [&str; 2] = ["ram", "zram"];

/// Disks looked at below one: those of a large array.
const MAX_DISKS: usize = 64;
/// Where the kernel tells what disks are made of.
const BLOCK_DEVICES: &str = "/sys/class/block";

/// What does not last.
#[derive(Debug, PartialEq, Eq)]
enum Volatile {
    /// It is an overlay that takes a sync for done (`volatile`): after a power cut it is not mounted again.
    Unsynced,
    /// It lies in memory: in what.
    Memory(String),
    /// It lies where nobody here can look: an overlay's changes, which may be in memory.
    Unseen(PathBuf),
}

/// What it lies on, where that forgets or may; none where it lasts, or nobody can tell.
fn volatile(directory: &Path) -> Option<Volatile> {
    let mut is_unsynced = false;
    let forgets = forgets(existing(directory)?, &mut is_unsynced);
    forgets.or_else(|| is_unsynced.then_some(Volatile::Unsynced))
}

fn forgets(mut place: PathBuf, is_unsynced: &mut bool) -> Option<Volatile> {
    for _ in 0..MAX_LAYERS {
        let kind = statfs(&place).ok()?.filesystem_type();
        if kind == TMPFS_MAGIC {
            return Some(Volatile::Memory("tmpfs".to_owned()));
        }
        #[expect(
            clippy::useless_conversion,
            reason = "the number has another width on other machines"
        )]
        if i64::from(kind.0) & 0xffff_ffff == RAMFS_MAGIC {
            return Some(Volatile::Memory("ramfs".to_owned()));
        }
        let mount = mount_of(&place)?;
        if kind == OVERLAYFS_SUPER_MAGIC {
            *is_unsynced |= mount.is_unsynced;
            place = mount.upper?;
            // An image's first steps put it out of sight, and so does a container; both make it of memory where they like.
            if !place.exists() {
                return Some(Volatile::Unseen(place));
            }
            continue;
        }
        let disks = disks(&mount.source, Path::new(BLOCK_DEVICES));
        let is_memory = |disk: &&String| MEMORY_DISKS.iter().any(|name| is_numbered(disk, name));
        if let Some(disk) = disks.iter().find(is_memory) {
            return Some(Volatile::Memory(format!("/dev/{disk}, a disk in memory")));
        }
        let disk = disks.iter().find(|disk| is_numbered(disk, "loop"))?;
        let backing = fs::read_to_string(format!("/sys/block/{disk}/loop/backing_file")).ok()?;
        place = PathBuf::from(backing.trim_end());
    }
    None
}

/// The names of a disk and of those that it is made of.
fn disks(source: &str, devices: &Path) -> Vec<String> {
    let source = fs::canonicalize(source).unwrap_or_else(|_| PathBuf::from(source));
    let name = source.strip_prefix("/dev").ok().and_then(Path::to_str);
    let mut disks: Vec<String> = name.map(str::to_owned).into_iter().collect();
    let mut at = 0;
    while let Some(disk) = disks.get(at).filter(|_| disks.len() < MAX_DISKS) {
        let below = fs::read_dir(devices.join(disk).join("slaves"));
        let below = below.into_iter().flatten().flatten().take(MAX_DISKS);
        let below = below.filter_map(|entry| entry.file_name().into_string().ok());
        let new: Vec<String> = below.filter(|name| !disks.contains(name)).collect();
        disks.extend(new);
        at += 1;
    }
    disks
}

/// The same as a sentence.
pub(crate) fn told(directory: &Path) -> Option<String> {
    let (lies_on, forgets) = match volatile(directory)? {
        Volatile::Memory(what) => (what, "forgets"),
        Volatile::Unsynced => (
            "an overlay that is mounted volatile, so that nothing is synced".to_owned(),
            "may forget",
        ),
        Volatile::Unseen(upper) => (
            format!(
                "an overlay whose changes lie at {}, which is not to be seen from here",
                upper.display()
            ),
            "may forget",
        ),
    };
    Some(format!(
        "{} lies on {lies_on}: a restart of the machine {forgets} what is ordered; give --state-dir a place on a disk",
        directory.display()
    ))
}

/// Whether it is the name of a device and a number, or a partition of it.
fn is_numbered(disk: &str, name: &str) -> bool {
    let rest = disk.strip_prefix(name);
    rest.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// The nearest place of the way there that exists.
fn existing(directory: &Path) -> Option<PathBuf> {
    directory
        .ancestors()
        .find_map(|place| fs::canonicalize(place).ok())
}

/// What is mounted at a place.
struct Mount {
    source: String,
    /// Where an overlay's changes lie.
    upper: Option<PathBuf>,
    /// It is an overlay that syncs nothing.
    is_unsynced: bool,
}

/// The mount that a place lies on: the last one of its device whose mount point leads there.
fn mount_of(place: &Path) -> Option<Mount> {
    let device = fs::metadata(place).ok()?.dev();
    let device = format!(
        "{}:{}",
        nix::sys::stat::major(device),
        nix::sys::stat::minor(device)
    );
    let mut text = Vec::new();
    let mounts = File::open("/proc/self/mountinfo").ok()?;
    mounts.take(MAX_MOUNTS).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let of_device = |line: &&str| line.split(' ').nth(2) == Some(device.as_str());
    text.lines().filter(of_device).filter_map(mount).next_back()
}

/// `36 35 98:0 /root /mount/point options optional - type source super-options`.
fn mount(line: &str) -> Option<Mount> {
    let (_, after) = line.split_once(" - ")?;
    let mut words = after.split(' ').skip(1);
    let source = words.next()?.to_owned();
    let options = words.next()?;
    let upper = options
        .split(',')
        .find_map(|option| option.strip_prefix("upperdir="));
    Some(Mount {
        source,
        upper: upper.map(unescaped),
        is_unsynced: options
            .split(',')
            .any(|option| ["volatile", "fsync=volatile"].contains(&option)),
    })
}

/// The kernel writes blanks and the like as a backslash and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_says_where_its_changes_lie() {
        let line =
            r"41 2 0:38 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/run/up\040per,workdir=/w";
        let mount = mount(line).unwrap();
        assert_eq!(mount.source, "overlay");
        assert_eq!(mount.upper, Some(PathBuf::from("/run/up per")));
        assert_eq!(unescaped(r"/a\04"), PathBuf::from(r"/a\04"), "cut");
        assert!(!mount.is_unsynced);
        let unsynced = super::mount(&format!("{line},volatile")).unwrap();
        assert!(unsynced.is_unsynced, "it is said, not guessed");
    }

    #[test]
    fn a_disk_is_made_of_those_below_it() {
        let devices = tempfile::tempdir().unwrap();
        let below = |disk: &str, others: &[&str]| {
            for other in others {
                fs::create_dir_all(devices.path().join(disk).join("slaves").join(other)).unwrap();
            }
        };
        below("dm-90", &["dm-91", "sda1"]);
        below("dm-91", &["zram3"]);
        below("zram3", &["dm-90"]);
        let mut all = disks("/dev/dm-90", devices.path());
        all.sort();
        assert_eq!(all, ["dm-90", "dm-91", "sda1", "zram3"]);
        assert_eq!(disks("/dev/sdz9", devices.path()), ["sdz9"]);
        assert_eq!(disks("overlay", devices.path()), [""; 0]);
    }

    #[test]
    fn disks_in_memory_are_known_by_name() {
        assert!(is_numbered("zram0", "zram") && is_numbered("ram1", "ram"));
        assert!(!is_numbered("ramdisk", "ram") && !is_numbered("sda1", "ram"));
    }

    #[test]
    fn what_does_not_exist_lies_where_it_would_be_made() {
        assert_eq!(
            existing(Path::new("/proc/none/of/these")),
            Some(PathBuf::from("/proc"))
        );
        let shared = Path::new("/dev/shm/edgewarden-none");
        // Where the machine has it.
        if statfs("/dev/shm").is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC) {
            assert_eq!(volatile(shared), Some(Volatile::Memory("tmpfs".to_owned())));
        }
    }
}
