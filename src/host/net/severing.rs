//! Other programs' sockets as enforcement asks for them: [`Sockets`]. What a plan cuts is closed as well.
//!
//! In: a plan that the kernel was proven to enforce. Out: the connections whose sockets were closed; an attacker's program is told at once
//! instead of waiting for a time-out. All of it happens on a thread of its own: lists and walks take as long as others make
//! them. Absent: sockets of other network namespaces (containers), which only the rules reach.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wildmatch::WildMatch;

use super::forgetting::{Forgetting, Permit};
use super::links::links;
use super::netlink::NetlinkError;
use super::sock_diag::destroy::{DestroyOutcome, LiveSocket, MAX_FOUND, SocketFinder};
use crate::error_text;
use crate::host::clock;
use crate::host::processes::pace::thread_time;
use crate::host::processes::process_table;
use crate::host::processes::programs::{Places, serves_nucleus};
use crate::host::worker::Worker;
use crate::process::{Process, ProcessId};
use crate::quarantine::plan::Plan;
use crate::quarantine::plan::processes::PathsMeant;
use crate::quarantine::plan::severed::{is_cut, is_spared};
use crate::quarantine::ports::{Sockets, SocketsClosed, SparedSockets};
use crate::{Arrange, Gather};

/// A look lists every connection and, for those that are cut, every process: seconds on a machine with very many of both.
const LIMIT: Duration = Duration::from_secs(10);
/// Sockets of one look that the log names; the rest are a number.
const MAX_NAMED: usize = 32;
/// Processor time for finding who holds them, and what one process with very many files takes beyond it: meanwhile they
/// are open. A walk over 100 processes takes about 2 ms.
const NAMING_LIMIT: Duration = Duration::from_millis(50);

/// The sockets of our network namespace.
pub struct HostSockets {
    looks: Worker<SocketFinder>,
    /// Counts what was asked for: a look that is late goes on only while nothing else was.
    asked: Arc<AtomicU64>,
    forgetting: Forgetting,
}

impl Default for HostSockets {
    fn default() -> Self {
        Self {
            looks: Worker::new("sockets", LIMIT),
            asked: Arc::default(),
            forgetting: Forgetting::default(),
        }
    }
}

impl Sockets for HostSockets {
    async fn close_cut(&mut self, plan: &Plan, urgent: bool, spared: &SparedSockets) -> SocketsClosed {
        let failed = |why| SocketsClosed {
            fault: Some(why),
            ..SocketsClosed::default()
        };
        self.asked.fetch_add(1, Ordering::Relaxed);
        if !self.looks.is_idle() {
            return failed("the last look for them has not ended".to_owned());
        }
        let (plan, spared) = (plan.clone(), spared.clone());
        let permit = Permit::of(&self.asked);
        let look = move |looks: &mut SocketFinder| {
            let mut closed = SocketsClosed::default();
            let looked = close_cut(looks, &plan, urgent, &spared, &permit, &mut closed);
            if let Err(error) = looked {
                closed.fault = Some(error_text(&error));
            }
            closed
        };
        let closed = self.looks.ask(look).await;
        closed.unwrap_or_else(|error| failed(error_text(&error)))
    }

    fn forget_cut(&mut self, plan: &Plan, is_news: bool) {
        self.forgetting.begin(plan, is_news);
    }

    fn remembered(&self) -> Option<String> {
        self.forgetting.fault()
    }

    fn leave_alone(&mut self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.forgetting.end();
    }
}

fn close_cut(
    looks: &mut SocketFinder,
    plan: &Plan,
    urgent: bool,
    spared: &SparedSockets,
    permit: &Permit,
    closed: &mut SocketsClosed,
) -> Result<(), NetlinkError> {
    let cut = looks.look(clock::instant(), urgent, |connection| is_cut(plan, connection))?;
    let Some(mut cut) = cut.filter(|cut| !cut.is_empty()) else {
        closed.complete = true;
        return Ok(());
    };
    let is_all = cut.len() < MAX_FOUND;
    let own = links()?.into_iter().flat_map(|link| link.addresses).in_set();
    // Nobody is closed whose holder could not be looked for: it may be one of those who must live.
    let Ok(processes) = process_table::list() else {
        closed.fault = Some("/proc cannot be read, so nobody knows whose they are".to_owned());
        return Ok(());
    };
    let protected = protected_sockets(&processes, spared);
    cut.retain(|socket| !is_spared(&socket.connection, socket.inode, &own, &protected));
    // Before they are closed: a program that is told may be gone before it could be named. Later ones are told in the
    // details only: a program may connect a UDP socket again and again.
    let holders = if urgent {
        holders(&cut, &processes)
    } else {
        BTreeMap::new()
    };
    let outcome = close(looks, &cut, urgent, &holders, permit, closed);
    let count = closed.closed.len();
    if count > 0 && urgent {
        tracing::warn!("{count} sockets of cut connections were closed");
    } else if count > 0 {
        tracing::debug!("{count} sockets of cut connections were closed");
    }
    closed.complete = outcome.is_ok() && is_all && !closed.unsupported && permit.holds();
    outcome
}

fn close(
    looks: &mut SocketFinder,
    sockets: &[LiveSocket],
    urgent: bool,
    holders: &BTreeMap<u32, &Process>,
    permit: &Permit,
    closed: &mut SocketsClosed,
) -> Result<(), NetlinkError> {
    for (index, socket) in sockets.iter().enumerate() {
        if !permit.holds() {
            return Ok(());
        }
        match looks.destroy(socket)? {
            DestroyOutcome::Destroyed => closed.closed.push(socket.connection),
            DestroyOutcome::Gone => continue,
            DestroyOutcome::Unsupported => {
                closed.unsupported = true;
                return Ok(());
            }
        }
        if urgent && index < MAX_NAMED {
            tell(socket, holders.get(&socket.inode).copied());
        }
    }
    Ok(())
}

/// Sockets of those who must live: ourselves, the nucleus with its services, what the configuration protects. While the
/// nucleus is not known or has ended, whoever started us may be it.
fn protected_sockets(list: &[Process], spared: &SparedSockets) -> BTreeSet<u32> {
    let executables: Vec<_> = spared
        .executables
        .iter()
        .map(|text| WildMatch::new(text))
        .collect();
    // Our own number is no one else's while we run.
    let mut pids = BTreeSet::from([std::process::id()]);
    let runs = |nucleus: &ProcessId| list.iter().any(|process| process.identity == *nucleus);
    match spared.nucleus.filter(runs) {
        Some(nucleus) => drop(pids.insert(nucleus.pid)),
        None => pids.extend(ancestors(list, std::process::id())),
    }
    let places = Places::look_up(&PathsMeant {
        protected: spared.executables.clone(),
        ..PathsMeant::default()
    });
    let is_protected = |process: &Process| {
        let candidate = places.candidate(process.clone());
        candidate.at_home && executables.iter().any(|pattern| candidate.is_at(pattern))
    };
    let must_live = |process: &Process| {
        pids.contains(&process.identity.pid) || serves_nucleus(process) || is_protected(process)
    };
    list.iter()
        .filter(|process| must_live(process))
        .flat_map(|process| process_table::sockets_of(process.identity).flatten())
        .in_set()
}

fn ancestors(list: &[Process], pid: u32) -> BTreeSet<u32> {
    let parent = |pid: u32| {
        let process = list.iter().find(|process| process.identity.pid == pid)?;
        Some(process.parent).filter(|parent| *parent > 0)
    };
    let mut all = BTreeSet::new();
    let mut next = parent(pid);
    while let Some(pid) = next.filter(|pid| all.insert(*pid)) {
        next = parent(pid);
    }
    all
}

/// Who holds the first of these, as far as that is found in time. Newest processes first: whoever inherits a socket
/// does the work with it.
fn holders<'a>(sockets: &[LiveSocket], processes: &'a [Process]) -> BTreeMap<u32, &'a Process> {
    let named = sockets.iter().take(MAX_NAMED).map(|socket| socket.inode);
    let mut wanted: BTreeSet<u32> = named.filter(|inode| *inode != 0).in_set();
    let mut newest: Vec<&Process> = processes.iter().collect();
    newest.arrange_by_key(|process| std::cmp::Reverse(process.identity.start_ticks));
    let (mut found, began) = (BTreeMap::new(), thread_time());
    let sockets = |process: &'a Process| {
        let pieces = process_table::sockets_of(process.identity);
        pieces.map(move |inodes| (process, inodes))
    };
    for (process, inodes) in newest.into_iter().flat_map(sockets) {
        for inode in inodes {
            if wanted.remove(&inode) {
                found.insert(inode, process);
            }
        }
        if wanted.is_empty() || thread_time().saturating_sub(began) >= NAMING_LIMIT {
            break;
        }
    }
    found
}

fn tell(socket: &LiveSocket, holder: Option<&Process>) {
    let connection = &socket.connection;
    let (protocol, local, remote) = (connection.protocol, connection.local, connection.remote);
    let pid = holder.map(|process| process.identity.pid);
    let exe = holder.and_then(|process| process.exe.as_deref());
    tracing::warn!(%protocol, %local, %remote, ?pid, ?exe, "socket closed: the rules cut it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a program that holds a socket and nothing else"
    )]
    fn sockets_of_a_program_that_got_the_nucleus_number_are_not_spared() {
        let (held, _ours) = UnixStream::pair().unwrap();
        let mut program = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::from(OwnedFd::from(held)))
            .spawn()
            .unwrap();
        let process = process_table::read(program.id()).unwrap();
        let inodes: Vec<u32> = process_table::sockets_of(process.identity).flatten().collect();
        assert!(!inodes.is_empty(), "control: it holds the socket");
        let spared = |start_ticks| {
            let nucleus = ProcessId {
                start_ticks,
                ..process.identity
            };
            let spared = SparedSockets {
                nucleus: Some(nucleus),
                executables: Vec::new(),
            };
            let protected = protected_sockets(std::slice::from_ref(&process), &spared);
            inodes.iter().any(|inode| protected.contains(inode))
        };
        let started = process.identity.start_ticks;
        let as_seen = [spared(started), spared(started - 1)];
        program.kill().unwrap();
        program.wait().unwrap();
        assert_eq!(as_seen, [true, false]);
    }
}
