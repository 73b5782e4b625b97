//! Files of programs, by what does not depend on their paths, and who could put others in their place.
//!
//! In: descriptors, paths, pids. Out: [`File`]s. What is looked up here is in memory: no file system is asked that somebody
//! else may keep silent. Paths that ask file systems are [`super::look_ups`]'. Absent: judging.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, getxattr_query, openat2, statx,
};
use rustix::io::Errno;

use super::process_table;

/// A look-up in memory is given up when somebody mounts or renames anything meanwhile; then it is tried again.
const TRIES: usize = 16;
/// What the kernel puts after the path of a program whose file was removed.
pub(super) const DELETED: &str = " (deleted)";
/// Write permission of the group, of others; nobody but an owner moves what is in a folder with the last one.
const GROUP_WRITES: u16 = 0o020;
const OTHERS_WRITE: u16 = 0o002;
const STICKY: u16 = 0o1000;
/// Where a file system keeps who else may write.
const ACL: &str = "system.posix_acl_access";

/// A file, by what does not depend on its path.
#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    pub(super) device: (u32, u32),
    inode: u64,
    pub(super) links: u32,
    pub(super) user: u32,
    group: u32,
    mode: u16,
    /// Others than its owner and its group may be named besides; asked only where that matters.
    has_list: bool,
}

/// Who can change what is in a folder, or have a path lead elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hands {
    /// Root alone.
    Roots,
    /// This user, and root.
    One(u32),
    /// Nobody can tell.
    Anybodys,
}

impl Hands {
    const fn of(user: u32) -> Self {
        if user == 0 { Self::Roots } else { Self::One(user) }
    }

    /// Both.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Roots, hands) | (hands, Self::Roots) => hands,
            (Self::One(one), Self::One(same)) if one == same => self,
            _ => Self::Anybodys,
        }
    }
}

/// What a look-up in memory gives besides a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotKnown {
    /// There is none.
    Absent,
    /// It is not in memory, or this kernel (before 5.12) cannot look there only.
    Unsure,
}

impl File {
    /// The file that the process runs; without asking its file system anything.
    pub(super) fn of_program(pid: u32) -> Option<Self> {
        let own = Self::read(CWD, &format!("/proc/{pid}/exe"), AtFlags::empty()).ok();
        // One whose first thread has ended goes on with the others.
        own.or_else(|| {
            let mut exes = process_table::threads(pid).map(|thread| thread.join("exe"));
            exes.find_map(|exe| Self::read(CWD, exe.to_str()?, AtFlags::empty()).ok())
        })
    }

    /// What an open descriptor leads to.
    pub(super) fn opened(descriptor: &OwnedFd) -> Option<Self> {
        let mut file = Self::read(descriptor, "", AtFlags::EMPTY_PATH).ok()?;
        if file.mode & GROUP_WRITES != 0 && file.group == file.user && !file.is_link() {
            // What looks like the owner's own group may be whoever a list names.
            let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
            let none = [Errno::NODATA, Errno::OPNOTSUPP, Errno::NOSYS];
            file.has_list = !matches!(getxattr_query(path, ACL), Err(why) if none.contains(&why));
        }
        Some(file)
    }

    fn read(folder: impl AsFd, path: &str, flags: AtFlags) -> Result<Self, Errno> {
        let seen = statx(
            folder,
            path,
            flags | AtFlags::STATX_DONT_SYNC,
            StatxFlags::BASIC_STATS,
        )?;
        Ok(Self {
            device: (seen.stx_dev_major, seen.stx_dev_minor),
            inode: seen.stx_ino,
            links: seen.stx_nlink,
            user: seen.stx_uid,
            group: seen.stx_gid,
            mode: seen.stx_mode,
            has_list: false,
        })
    }

    /// The file at that path here, where it is in memory.
    pub(super) fn known(path: &str) -> Result<Self, NotKnown> {
        Self::look_up(CWD, path, ResolveFlags::CACHED)
    }

    /// The file at that path as the process sees it, where it is in memory and no link is on the way.
    pub(super) fn known_inside(pid: u32, path: &str) -> Result<Self, NotKnown> {
        let root = root_of(pid).ok_or(NotKnown::Unsure)?;
        let how = ResolveFlags::CACHED | ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        Self::look_up(root, path, how)
    }

    fn look_up(folder: impl AsFd, path: &str, how: ResolveFlags) -> Result<Self, NotKnown> {
        let file = open_known(folder, path, OFlags::PATH, how)?;
        Self::read(file, "", AtFlags::EMPTY_PATH).map_err(|_| NotKnown::Unsure)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode.into())
    }

    pub(super) fn is_link(&self) -> bool {
        self.kind() == FileType::Symlink
    }

    pub(super) fn is_folder(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Nobody but root can change it.
    pub(super) const fn is_roots(&self) -> bool {
        self.user == 0 && !self.others_write()
    }

    const fn others_write(&self) -> bool {
        // Root's group is root's, and a group that has its user's number is his alone.
        let group_may = self.mode & GROUP_WRITES != 0 && (self.group != self.user || self.has_list);
        group_may || self.mode & OTHERS_WRITE != 0
    }

    /// Who can put something else in the place of a folder in it. Where everybody may write and nobody but an owner moves
    /// what is there, that is whoever owns it.
    pub(super) fn hands(&self) -> Hands {
        if self.others_write() && self.mode & STICKY == 0 {
            Hands::Anybodys
        } else {
            Hands::of(self.user)
        }
    }

    /// Who can put another link in the place of one in it: where everybody may write, whoever finds one of root's to give it
    /// that name too.
    pub(super) fn hands_of_links(&self) -> Hands {
        if self.others_write() {
            Hands::Anybodys
        } else {
            Hands::of(self.user)
        }
    }
}

/// Opens what is in memory.
pub(super) fn open_known(
    folder: impl AsFd,
    path: &str,
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, NotKnown> {
    let folder = folder.as_fd();
    for _ in 0..TRIES {
        match openat2(folder, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Ok(file) => return Ok(file),
            Err(Errno::AGAIN) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(NotKnown::Absent),
            Err(_) => return Err(NotKnown::Unsure),
        }
    }
    Err(NotKnown::Unsure)
}

/// The folder that a process takes for `/`.
pub(super) fn root_of(pid: u32) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok()
}

/// Whether the process has other mounts than we have.
pub(super) fn has_other_mounts(pid: u32) -> bool {
    matches!((mounts("self"), mounts(&pid.to_string())), (Some(own), Some(theirs)) if own != theirs)
}

/// Whether the process sees the system as the agent or the first process does, beside which the agent may run in a container:
/// their mounts, or as its `/` the same folder, as a service has it with mounts of its own. A container has another.
pub(super) fn sees_the_system(pid: u32) -> bool {
    let (own, of) = (mounts(&pid.to_string()), ["self", "1"]);
    if own.is_some() && of.iter().any(|system| mounts(system) == own) {
        return true;
    }
    let root = |of: &str| File::read(CWD, &format!("/proc/{of}/root/"), AtFlags::empty()).ok();
    let Some(own) = root(&pid.to_string()) else {
        return false;
    };
    of.iter()
        .any(|system| root(system).is_some_and(|root| root.is(&own)))
}

fn mounts(process: &str) -> Option<u64> {
    let seen = fs::metadata(format!("/proc/{process}/ns/mnt")).ok();
    seen.map(|mounts| mounts.ino())
}
