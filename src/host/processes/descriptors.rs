//! The sockets among a process' open files, in pieces: a process may have as many files as it likes.
//!
//! In: a pid, where a piece begins and how many files it has. Out: descriptors with their sockets' inodes, and where the
//! next piece begins. A piece costs as much as it has files, wherever it begins. Absent: whose number the pid is by then.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, RawDir, SeekFrom, openat, readlinkat_raw, seek};

/// Entries are read from the kernel in portions of this many bytes, some 170 of them: whoever wants few pays for few.
const PORTION: usize = 4_096;
/// Room for the first entry alone.
const ONE_ENTRY: usize = 64;
/// What the link to a socket says fits; a longer one is the path of a file, and cut.
const LONGEST_LINK: usize = 32;
/// Files in a piece of [`pieces`]: some milliseconds, after which whoever counts the time may stop.
const PIECE: usize = 1_024;

/// A part of a process' files.
#[derive(Debug)]
pub(super) struct SocketPiece {
    /// Belongs to the process, not to whoever has its number later.
    directory: OwnedFd,
    /// Descriptor and inode of each socket in it.
    pub(super) sockets: Vec<(u32, u32)>,
    /// Files in it, of whatever kind.
    pub(super) files: usize,
    /// Where the next piece begins; none: that was all.
    pub(super) next: Option<u64>,
}

impl SocketPiece {
    /// Whether the process has not been forgotten: as long as that is so, nobody else has its number.
    pub(super) fn is_of_living(&self) -> bool {
        let mut portion = [MaybeUninit::uninit(); ONE_ENTRY];
        seek(&self.directory, SeekFrom::Start(0)).is_ok()
            && matches!(RawDir::new(&self.directory, &mut portion).next(), Some(Ok(_)))
    }
}

/// The piece that begins `from` there (0: the first file) and has at most `limit` files; none when the process may not
/// be looked into.
pub(super) fn piece(pid: u32, from: u64, limit: usize) -> Option<SocketPiece> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, format!("/proc/{pid}/fd"), flags, Mode::empty()).ok()?;
    if from > 0 {
        seek(&directory, SeekFrom::Start(from)).ok()?;
    }
    let mut portion = [MaybeUninit::uninit(); PORTION];
    let mut entries = RawDir::new(&directory, &mut portion);
    let (mut files, mut sockets, mut next) = (0, Vec::new(), None);
    let mut place = from;
    while let Some(Ok(entry)) = entries.next() {
        // The position of the entry before is where this one begins.
        if files >= limit {
            next = Some(place);
            break;
        }
        place = entry.next_entry_cookie();
        let name = entry.file_name().to_str().ok();
        let Some(descriptor) = name.and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        files += 1;
        if let Some(inode) = socket_of(&directory, &descriptor.to_string()) {
            sockets.push((descriptor, inode));
        }
    }
    Some(SocketPiece {
        directory,
        sockets,
        files,
        next,
    })
}

/// The sockets of a process, piece by piece, at most those of `limit` files.
pub(super) fn pieces(pid: u32, limit: usize) -> impl Iterator<Item = Vec<(u32, u32)>> {
    let (mut from, mut left) = (Some(0), limit);
    std::iter::from_fn(move || {
        let found = piece(pid, from?, PIECE.min(left))?;
        left -= found.files.min(left);
        from = found.next.filter(|_| left > 0);
        Some(found.sockets)
    })
}

/// The socket behind one descriptor of a process, if there is one and it may be looked into.
pub(super) fn socket_at(pid: u32, descriptor: u32) -> Option<u32> {
    socket_of(CWD, &format!("/proc/{pid}/fd/{descriptor}"))
}

fn socket_of(directory: impl AsFd, link: &str) -> Option<u32> {
    let mut space = [MaybeUninit::uninit(); LONGEST_LINK];
    let (target, _) = readlinkat_raw(directory, link, &mut space).ok()?;
    let text = std::str::from_utf8(target).ok()?;
    text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::TcpListener;
    use std::os::fd::{AsFd as _, AsRawFd as _};

    use super::*;

    #[test]
    fn pieces_have_every_socket_once_however_small_they_are() {
        let own = std::process::id();
        let many: Vec<(File, TcpListener)> = (0..40)
            .map(|_| {
                let file = File::from(nix::unistd::pipe().unwrap().0);
                (file, TcpListener::bind("127.0.0.1:0").unwrap())
            })
            .collect();
        let inode = |socket: &TcpListener| {
            let inode = nix::sys::stat::fstat(socket.as_fd()).unwrap().st_ino;
            u32::try_from(inode).unwrap()
        };
        for limit in [1, 7, 10_000] {
            let (mut from, mut found, mut looks) = (Some(0), Vec::new(), 0);
            while let Some(place) = from {
                let piece = piece(own, place, limit).unwrap();
                assert!(piece.files <= limit);
                found.extend(piece.sockets);
                from = piece.next;
                looks += 1;
            }
            assert!(looks > 80 / limit, "{looks} looks at {limit} files each");
            for (_, socket) in &many {
                let wanted = (socket.as_raw_fd().cast_unsigned(), inode(socket));
                let times = found.iter().filter(|one| **one == wanted).count();
                assert_eq!(times, 1, "{wanted:?} by {limit}");
                assert_eq!(socket_at(own, wanted.0), Some(wanted.1));
            }
        }
        let (pipe, _) = &many[0];
        assert_eq!(socket_at(own, pipe.as_raw_fd().cast_unsigned()), None);
        assert!(piece(u32::MAX, 0, 1).is_none());
        let few: usize = pieces(own, 3).map(|sockets| sockets.len()).sum();
        assert!(few <= 3);
    }
}
