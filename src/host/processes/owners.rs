//! Whose a process is, by what an ordinary user cannot give himself.
//!
//! In: a pid. Out: whether it is root's, and whether a program that protection names counts in it. A program alone counts
//! nothing: anybody can start one of the system's with a library of his own, and in a user namespace of his own give himself
//! its name in `/proc`. Everything here is read of the few processes that protection names.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::process_table::{read_status, read_text, stat};

/// What the kernel says of whose a process is.
pub(super) struct Owner {
    /// Root is one of its users, in our own user namespace.
    pub(super) is_roots: bool,
    /// It holds a capability in our own user namespace: root gave it, as to systemd's own services.
    is_capable: bool,
    /// The number of its real user.
    pub(super) user: u32,
}

impl Owner {
    /// None where it cannot be seen.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let namespace = |process: &str| fs::metadata(format!("/proc/{process}/ns/user")).map(|it| it.ino());
        if namespace("self").ok()? != namespace(&pid.to_string()).ok()? {
            let there = Self::by_status(pid)?;
            let (is_roots, is_capable) = (false, false);
            return Some(Self {
                is_roots,
                is_capable,
                ..there
            });
        }
        Self::by_status(pid)
    }

    /// The same where its user namespace cannot be seen: as if it were ours.
    pub(super) fn by_status(pid: u32) -> Option<Self> {
        Self::parse(&read_status(pid)?)
    }

    fn parse(status: &str) -> Option<Self> {
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        let held = u64::from_str_radix(line("CapPrm:")?.trim(), 16).ok()?;
        let users = users(status)?;
        Some(Self {
            user: *users.first()?,
            is_roots: users.contains(&0),
            is_capable: held != 0,
        })
    }

    /// No ordinary user can have started it so.
    pub(super) const fn is_privileged(&self) -> bool {
        self.is_roots || self.is_capable
    }
}

/// The numbers of its users: real, effective, saved, and of files.
fn users(status: &str) -> Option<Vec<u32>> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let numbers = line.split_ascii_whitespace().map(str::parse);
    numbers.collect::<Result<_, _>>().ok()
}

/// Whether that process is this user's alone, or in a user namespace of his own.
pub(super) fn is_of(pid: u32, user: u32) -> bool {
    let status = read_status(pid).unwrap_or_default();
    if users(&status).is_some_and(|users| users.iter().all(|own| *own == user)) {
        return true;
    }
    // `inside outside count`: who is root there. Nobody else can be led into it.
    let map = read_text(&format!("/proc/{pid}/uid_map")).unwrap_or_default();
    let root = map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace();
        (numbers.next()? == "0").then(|| numbers.next()?.parse().ok())?
    });
    root == Some(user) && user != 0
}

/// Who started that process and is of the same session: a program of root's that has made itself a user's, as `sshd` does for
/// each login. A shell that it starts for him has a session of its own. The first process takes in whoever lost his parent.
pub(super) fn same_session_parent(pid: u32) -> Option<u32> {
    let own = stat(pid)?;
    let parent = Some(own.parent).filter(|parent| *parent > 1)?;
    (stat(parent)?.session == own.session).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_its_capabilities_are_read_and_nothing_else_counts() {
        let of = |user: &str, held: &str| {
            let text = format!("Name:\troot\nUid:\t{user}\nGid:\t0\t0\t0\t0\nCapPrm:\t{held}\n");
            let owner = Owner::parse(&text).unwrap();
            (owner.is_roots, owner.is_privileged())
        };
        assert_eq!(of("0\t0\t0\t0", "000001ffffffffff"), (true, true));
        assert_eq!(of("1000\t0\t0\t0", "0000000000000000"), (true, true));
        assert_eq!(of("991\t991\t991\t991", "0000000000003000"), (false, true));
        assert_eq!(of("1000\t1000\t1000\t1000", "0000000000000000"), (false, false));
        assert!(Owner::parse("garbage").is_none());
    }
}
