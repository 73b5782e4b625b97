//! Processes: who runs, and whether somebody still does.
//!
//! In: a [`ProcessId`] (pid and start time). Out: the process list, and what `/proc` says of one. Absent: signals ([`super::signals`]).

#![expect(clippy::disallowed_methods, reason = "host is a door: /proc")]

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::io::Errno;
use rustix::process::Pid;

use super::descriptors;
use super::pinned;
use super::programs::without_deleted;
use crate::host::clock;
use crate::process::{Process, ProcessId, SeenFrom, Workload};
use crate::quarantine::plan::processes::{is_nucleus_service, unknown_service};

/// Processes listed at most; the kernel's default pid_max is 32,768 on small machines and 4 million on large ones.
const MAX_PROCESSES: usize = 65_536;

/// That there are more was said.
static CUT: AtomicBool = AtomicBool::new(false);

/// Open files of one process looked at.
const MAX_FILES: usize = 262_144;
/// What the kernel calls a clock tick, towards everybody.
const TICK_MILLIS: u64 = 10;
/// `/proc` files read here are lines; a longer one is cut.
const MAX_TEXT: u64 = 4_096;
/// The one that is no line: a process has up to 65,536 groups, each of eleven bytes, before what else there is to know.
const MAX_STATUS: u64 = 1 << 20;
/// Threads of one process looked at: as many as the kernel gives to all together on a machine of 8 GiB. Fewer would be a place
/// to hide behind: those that have ended are listed until somebody buries them.
const MAX_THREADS: usize = 65_536;
/// A look whether any of them is left ends after so long; then one may be.
const THREADS_LIMIT: Duration = Duration::from_millis(500);
/// Ancestors of a process that are followed: a chain is a handful long, and one that changes meanwhile must end.
const MAX_ANCESTORS: usize = 64;

/// All processes that could be read. Those that end meanwhile are left out.
///
/// # Errors
/// /proc cannot be read, or one of them for want of descriptors: that says nothing about who runs.
pub(crate) fn list() -> io::Result<Vec<Process>> {
    if !is_shown() {
        return Err(io::Error::other(
            "/proc does not show the processes of our own pid namespace",
        ));
    }
    let entries = fs::read_dir("/proc")?;
    let mut processes = Vec::new();
    let mut pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.by_ref().take(MAX_PROCESSES) {
        match try_read(pid) {
            Err(error) if is_want(&error) => return Err(error),
            read => processes.extend(read.ok().flatten()),
        }
    }
    if pids.next().is_some() && !CUT.swap(true, Ordering::Relaxed) {
        tracing::error!(
            "more than {MAX_PROCESSES} processes run: those beyond are not looked at, and no order stops them"
        );
    }
    Ok(processes)
}

/// Whether `/proc` shows the processes that our numbers mean: one that is not mounted shows nobody, that of another pid namespace
/// others. Nobody has ended because of that.
pub(super) fn is_shown() -> bool {
    let own = fs::read_link("/proc/self").ok();
    own.is_some_and(|own| own.to_str() == Some(&std::process::id().to_string()))
}

/// From where we see processes; none where `/proc` shows none, or those of others.
pub(crate) fn seen_from() -> Option<SeenFrom> {
    let namespace = |kind: &str| fs::metadata(format!("/proc/self/ns/{kind}")).map(|found| found.ino());
    is_shown().then_some(())?;
    Some(SeenFrom {
        boot: clock::boot(),
        pids: namespace("pid").ok()?,
        time: namespace("time").ok(),
    })
}

/// Whether the reason is our own: no descriptors, no memory. A process that is there looks then as if it were not.
fn is_want(error: &io::Error) -> bool {
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOMEM].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|errno| wants.contains(&errno))
}

/// One process, if it runs.
pub(crate) fn read(pid: u32) -> Option<Process> {
    try_read(pid).ok().flatten()
}

fn try_read(pid: u32) -> io::Result<Option<Process>> {
    let text = try_read_text(&format!("/proc/{pid}/stat"))?;
    let Some(stat) = parse_stat(&text) else {
        return Ok(None);
    };
    let exe = program(pid, &stat).map(|path| {
        // A program that deleted its own file is still that program.
        without_deleted(pid, &path.to_string_lossy()).to_owned()
    });
    let cgroups = match try_read_text(&format!("/proc/{pid}/cgroup")) {
        Err(error) if is_want(&error) => return Err(error),
        cgroups => cgroups.unwrap_or_default(),
    };
    // The pid may have changed hands between the reads above.
    let again = parse_stat(&try_read_text(&format!("/proc/{pid}/stat"))?);
    let is_same = again.is_some_and(|again| again.start_ticks == stat.start_ticks);
    Ok(is_same.then(|| Process {
        identity: ProcessId {
            pid,
            start_ticks: stat.start_ticks,
        },
        parent: stat.parent,
        name: stat.name,
        exe,
        cgroup: cgroup(&cgroups).map(str::to_owned),
        workload: Workload::of_cgroups(&cgroups),
    }))
}

/// From the text of `/proc/<pid>/cgroup`: the path in cgroup v2, or where that says nothing of a service of the nucleus and a
/// named hierarchy of v1 does, as systemd has it on older hosts, that one. Only root can make those.
fn cgroup(text: &str) -> Option<&str> {
    let named = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next().filter(|names| names.starts_with("name="))?;
        parts.next()
    });
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    let services = unified.into_iter().chain(named);
    let mut services = services.filter(|path| is_nucleus_service(path) || unknown_service(path).is_some());
    services.next().or(unified)
}

/// Who started a process, and who started them, nearest first, without pid 1.
pub(crate) fn ancestors(pid: u32) -> Vec<ProcessId> {
    let parent = |pid: u32| stat(pid).map(|stat| stat.parent).filter(|parent| *parent > 1);
    let above = std::iter::successors(parent(pid), |pid| parent(*pid)).take(MAX_ANCESTORS);
    above
        .filter_map(|pid| {
            Some(ProcessId {
                pid,
                start_ticks: start_ticks(pid)?,
            })
        })
        .collect()
}

/// Who listens at the other end of a Unix socket; none when that is not known in this pid namespace.
pub(crate) fn peer(stream: &UnixStream) -> Option<u32> {
    let credentials = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    u32::try_from(credentials.pid()).ok().filter(|pid| *pid > 0)
}

/// The program's file. A process whose first thread has ended goes on with the others: they know it still.
fn program(pid: u32, stat: &ProcessStat) -> Option<PathBuf> {
    let own = fs::read_link(format!("/proc/{pid}/exe")).ok();
    own.or_else(|| {
        let mut threads = stat.outlived_by_threads().then(|| newest_threads(pid))?;
        threads.find_map(|thread| fs::read_link(thread.join("exe")).ok())
    })
}

/// The threads of a process, as folders of `/proc`.
pub(super) fn threads(pid: u32) -> impl Iterator<Item = PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    threads
        .flatten()
        .flatten()
        .take(MAX_THREADS)
        .map(|thread| thread.path())
}

/// The same, newest first: whoever goes from thread to thread is in the newest, before all that are left of him.
fn newest_threads(pid: u32) -> impl Iterator<Item = PathBuf> {
    let mut threads: Vec<PathBuf> = threads(pid).collect();
    threads.reverse();
    threads.into_iter()
}

/// How long that very process has been there; none when it has ended.
pub(crate) fn age(id: ProcessId) -> Option<Duration> {
    let began = Duration::from_millis(id.start_ticks.saturating_mul(TICK_MILLIS));
    (!has_ended(id)).then(|| clock::now().uptime.saturating_sub(began))
}

/// Start time of a living process in clock ticks after boot.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

/// Whether that very process has ended: it is gone, is not buried yet, or its number is another's. Whoever traces its threads
/// may leave them unburied for ever: one of which all are dead has ended. Not where it cannot be looked at for want of
/// descriptors or of a `/proc`.
pub(crate) fn has_ended(id: ProcessId) -> bool {
    let text = match try_read_text(&format!("/proc/{}/stat", id.pid)) {
        Err(error) if is_want(&error) => return false,
        text => text.ok(),
    };
    let stat = text.and_then(|text| parse_stat(&text));
    let seems_so = stat.is_none_or(|stat| stat.start_ticks != id.start_ticks || is_over(id.pid, &stat));
    seems_so && is_shown()
}

/// Whether nothing of it is left that runs.
pub(super) fn is_over(pid: u32, stat: &ProcessStat) -> bool {
    stat.is_dead() && (stat.threads <= 1 || are_all_dead(pid))
}

/// Whether all threads of a process are dead; not when that takes too long. One that ends in the middle of a look may have
/// started another one behind its back: that one shows at a second look, and the dead stay as they are.
fn are_all_dead(pid: u32) -> bool {
    let end = clock::instant() + THREADS_LIMIT;
    let all_dead = || -> Option<Vec<PathBuf>> {
        let dead = |thread: PathBuf| {
            let is_dead = stat_at(&thread).is_some_and(|stat| stat.is_dead());
            (is_dead && clock::instant() < end).then_some(thread)
        };
        newest_threads(pid).map(dead).collect()
    };
    // An end at the limit is none of the list.
    let first = all_dead().filter(|dead| (1..MAX_THREADS).contains(&dead.len()));
    first.is_some() && all_dead() == first
}

/// The number that a process has in its own pid namespace, where that is another one than ours.
pub(crate) fn inner_pid(pid: u32) -> Option<u32> {
    let status = read_status(pid)?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_ascii_whitespace().last()?.parse().ok()
}

/// A path of a process' own, as it is found from here: in a container it has other mounts.
pub(crate) fn path_of(pid: u32, path: &Path) -> PathBuf {
    let mounts = |process: &str| fs::metadata(format!("/proc/{process}/ns/mnt")).map(|mounts| mounts.ino());
    match (mounts("self"), mounts(&pid.to_string())) {
        (Ok(own), Ok(theirs)) if own != theirs => {
            let inside = path.strip_prefix("/").unwrap_or(path);
            Path::new(&format!("/proc/{pid}/root")).join(inside)
        }
        _ => path.to_owned(),
    }
}

/// The network namespace of a process, as a number that names it until the next boot.
pub(crate) fn network_namespace(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net"))
        .ok()
        .map(|namespace| namespace.ino())
}

/// The number given last in this pid namespace, to a process or a thread.
pub(crate) fn newest() -> Option<u32> {
    read_text("/proc/loadavg")?
        .split_ascii_whitespace()
        .last()?
        .parse()
        .ok()
}

/// True if the number is a process's own: not a thread's other than its first, and not free. Costs one system call
/// where `/proc` takes several, and `/proc` shows a thread as if it were a process.
pub(crate) fn is_process(pid: u32) -> bool {
    // `/proc` says of each number whose thread it is, where that call is missing.
    let leads = || {
        let status = read_status(pid)?;
        let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
        Some(leader.trim().parse() == Ok(pid))
    };
    number(pid).is_some_and(|number| pinned::is_process(number).unwrap_or_else(|| leads() == Some(true)))
}

pub(super) fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Inodes of the sockets a process holds, piece by piece: whoever counts the time may stop between two. None when it may
/// not be looked into, or has ended: then its number may be another's.
pub(crate) fn sockets_of(id: ProcessId) -> impl Iterator<Item = Vec<u32>> {
    let pieces = descriptors::pieces(id.pid, MAX_FILES);
    let inodes = pieces.map(|sockets| sockets.into_iter().map(|(_, inode)| inode).collect());
    // Compared after each was read: nobody had the number before who has it still.
    inodes.take_while(move |_| start_ticks(id.pid) == Some(id.start_ticks))
}

pub(super) fn stat(pid: u32) -> Option<ProcessStat> {
    stat_at(Path::new(&format!("/proc/{pid}")))
}

pub(super) fn stat_at(place: &Path) -> Option<ProcessStat> {
    parse_stat(&read_text(place.join("stat").to_str()?)?)
}

pub(super) fn read_text(path: &str) -> Option<String> {
    try_read_text(path).ok()
}

/// The text of `/proc/<pid>/status`, whole.
pub(super) fn read_status(pid: u32) -> Option<String> {
    read_status_at(Path::new(&format!("/proc/{pid}")))
}

/// The same of a thread, in its folder.
pub(super) fn read_status_at(place: &Path) -> Option<String> {
    read_up_to(place.join("status").to_str()?, MAX_STATUS).ok()
}

fn try_read_text(path: &str) -> io::Result<String> {
    read_up_to(path, MAX_TEXT)
}

fn read_up_to(path: &str, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Threads of the kernel have this flag, which nobody can give himself (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;
/// A thread that ends, or writes its process' memory to a file first, has one of these (`PF_EXITING`, `PF_POSTCOREDUMP`, `PF_DUMPCORE`).
const ENDING: u64 = 0x4 | 0x8 | 0x200;

pub(super) struct ProcessStat {
    name: String,
    /// The letter of its state; of its first thread, where it has several.
    state: char,
    pub(super) parent: u32,
    pub(super) session: i64,
    flags: u64,
    pub(super) threads: u32,
    pub(super) start_ticks: u64,
    /// What all its threads had of a processor, in ticks; of a thread, what it had itself.
    pub(super) processor_ticks: u64,
}

impl ProcessStat {
    pub(super) fn is_stopped(&self) -> bool {
        "Tt".contains(self.state)
    }

    /// By a debugger, and not by a signal.
    pub(super) const fn is_traced(&self) -> bool {
        self.state == 't'
    }

    /// It waits in the kernel and hears no signal: for a disk, or for another process.
    pub(super) const fn is_waiting(&self) -> bool {
        self.state == 'D'
    }

    /// It has a processor or wants one, or waits in the kernel for a moment.
    pub(super) const fn is_at_work(&self) -> bool {
        self.state == 'R' || self.is_waiting()
    }

    /// Its first thread has ended.
    fn is_dead(&self) -> bool {
        "ZXx".contains(self.state)
    }

    /// It may go on with the others, unless these are dead too.
    pub(super) fn outlived_by_threads(&self) -> bool {
        self.is_dead() && self.threads > 1
    }

    pub(super) fn is_awake(&self) -> bool {
        !self.is_stopped() && !self.is_dead()
    }

    /// What it had of a processor; of a process, also what its threads had that have ended.
    pub(super) const fn processor_time(&self) -> Duration {
        Duration::from_millis(self.processor_ticks.saturating_mul(TICK_MILLIS))
    }

    /// All of it is about to end, and stops no more: it was killed or has crashed, and gives back what it had.
    pub(super) fn is_ending(&self) -> bool {
        self.flags & ENDING != 0 && !self.outlived_by_threads()
    }

    pub(super) const fn is_kernels(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }
}

/// Reads `/proc/<pid>/stat`. The name may hold spaces and parentheses, so it ends at the last one.
fn parse_stat(text: &str) -> Option<ProcessStat> {
    let (before, after) = text.rsplit_once(')')?;
    let name = before
        .split_once('(')?
        .1
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(ProcessStat {
        name,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        flags: number(6)?,
        threads: fields.get(17)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
        processor_ticks: number(11)?.saturating_add(number(12)?),
    })
}

#[cfg(test)]
#[path = "process_table_tests.rs"]
mod tests;
