//! The enforcer's hands on other programs' sockets: what the rules cut is closed as well.
//!
//! In: a plan that the kernel was proven to enforce. Out: closed sockets, counted; an attacker's program is told at once
//! instead of waiting for a time-out. What goes wrong here is told and fails nothing: the rules cut all the same.
//! Absent: sockets of other network namespaces (containers), which only the rules reach.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wildmatch::WildMatch;

use super::Enforcer;
use super::kernel::Target;
use crate::host::clock;
use crate::host::net::links::links;
use crate::host::net::netlink::NetlinkError;
use crate::host::net::sock_diag::destroy::{DestroyOutcome, LiveSocket, MAX_FOUND, SocketFinder};
use crate::host::processes::pace::thread_time;
use crate::host::processes::process_table;
use crate::process::Process;
use crate::quarantine::lifelines::lifeline::Endpoint;
use crate::quarantine::plan::processes::is_nucleus_service;
use crate::quarantine::plan::severed::{is_cut, is_spared};
use crate::quarantine::plan::{Plan, PlanId, Scope};

/// Sockets of one look that the log names; the rest are a number.
const MAX_NAMED: usize = 32;
/// Processor time for finding who holds them, and what one process with very many files takes beyond it: meanwhile they
/// are open. A walk over 100 processes takes about 2 ms.
const NAMING_LIMIT: Duration = Duration::from_millis(50);
/// What is told of a kernel that cannot close sockets.
const UNSUPPORTED: &str = "unsupported: this kernel cannot close the sockets of cut connections \
                           (CONFIG_INET_DIAG_DESTROY); they stay until they time out";

/// What the rules in the kernel follow from.
#[derive(Debug, PartialEq, Eq)]
struct Rules {
    plan: PlanId,
    scope: Scope,
    endpoints: Vec<Endpoint>,
    /// How often they were put back: meanwhile anything may have been opened.
    reasserted: u64,
}

/// What the enforcer keeps about it.
#[derive(Default)]
pub(super) struct Severing {
    looks: SocketFinder,
    /// The rules whose cut connections were all looked for.
    done: Option<Rules>,
    unsupported: bool,
    /// Sockets closed since the agent started.
    pub(super) count: u64,
    /// What stands in the way.
    pub(super) fault: Option<String>,
}

impl Enforcer {
    /// Closes the sockets of connections that the rules cut: at once when these are new, else from time to time.
    pub(super) fn sever(&mut self, target: &Target) {
        let plan = &target.plan;
        if !target.cuts() {
            self.severing.done = None;
            return;
        }
        if self.severing.unsupported {
            return;
        }
        let rules = Rules {
            plan: plan.id(),
            scope: plan.scope,
            endpoints: plan.endpoints.clone(),
            reasserted: self.reasserted,
        };
        let news = self.severing.done.as_ref() != Some(&rules);
        match self.close_cut(plan, news) {
            Ok(complete) => {
                self.severing.fault = self.severing.unsupported.then(|| UNSUPPORTED.to_owned());
                if news && complete {
                    self.severing.done = Some(rules);
                }
            }
            Err(error) => {
                let fault = crate::error_text(&error);
                if self.severing.fault.as_ref() != Some(&fault) {
                    tracing::warn!("the sockets of cut connections stay open: {fault}");
                }
                self.severing.fault = Some(fault);
            }
        }
    }

    /// Gives whether all of them were looked at.
    fn close_cut(&mut self, plan: &Plan, news: bool) -> Result<bool, NetlinkError> {
        let looks = &mut self.severing.looks;
        let cut = looks.look(clock::instant(), news, |connection| is_cut(plan, connection))?;
        let Some(mut cut) = cut.filter(|cut| !cut.is_empty()) else {
            return Ok(true);
        };
        let complete = cut.len() < MAX_FOUND;
        let own = links()?.into_iter().flat_map(|link| link.addresses).collect();
        let processes = process_table::list();
        let protected = self.protected_sockets(&processes);
        cut.retain(|socket| !is_spared(&socket.connection, socket.inode, &own, &protected));
        // Before they are closed: a program that is told may be gone before it could be named. Later ones are told in
        // the details only: a program may connect a UDP socket again and again.
        let holders = if news {
            holders(&cut, &processes)
        } else {
            BTreeMap::new()
        };
        self.close(&cut, news, &holders)?;
        Ok(complete)
    }

    fn close(
        &mut self,
        sockets: &[LiveSocket],
        news: bool,
        holders: &BTreeMap<u32, &Process>,
    ) -> Result<(), NetlinkError> {
        let before = self.severing.count;
        for (index, socket) in sockets.iter().enumerate() {
            match self.severing.looks.destroy(socket)? {
                DestroyOutcome::Destroyed => self.severing.count += 1,
                DestroyOutcome::Gone => continue,
                DestroyOutcome::Unsupported => {
                    tracing::warn!("{UNSUPPORTED}");
                    self.severing.unsupported = true;
                    return Ok(());
                }
            }
            if news && index < MAX_NAMED {
                tell(socket, holders.get(&socket.inode).copied());
            }
        }
        let closed = self.severing.count - before;
        if closed > 0 && news {
            tracing::warn!("{closed} sockets of cut connections were closed");
        } else if closed > 0 {
            tracing::debug!("{closed} sockets of cut connections were closed");
        }
        Ok(())
    }

    /// Sockets of those who must live: ourselves, the nucleus with its services, what the configuration protects. While
    /// the nucleus is not known, whoever started us may be it.
    fn protected_sockets(&self, list: &[Process]) -> BTreeSet<u32> {
        let executables = &self.settings.isolation.protected;
        let executables: Vec<_> = executables.iter().map(|text| WildMatch::new(text)).collect();
        let mut pids = BTreeSet::from([std::process::id()]);
        match self.settings.nucleus_pid {
            Some(nucleus) => drop(pids.insert(nucleus)),
            None => pids.extend(ancestors(list, std::process::id())),
        }
        let must_live = |process: &Process| {
            let exe = process.exe.as_deref().unwrap_or_default();
            pids.contains(&process.identity.pid)
                || process.cgroup.as_deref().is_some_and(is_nucleus_service)
                || executables.iter().any(|pattern| pattern.matches(exe))
        };
        list.iter()
            .filter(|process| must_live(process))
            .flat_map(|process| process_table::sockets_of(process.identity.pid))
            .collect()
    }
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
    let mut wanted: BTreeSet<u32> = named.filter(|inode| *inode != 0).collect();
    let mut newest: Vec<&Process> = processes.iter().collect();
    newest.sort_unstable_by_key(|process| std::cmp::Reverse(process.identity.start_ticks));
    let (mut found, began) = (BTreeMap::new(), thread_time());
    for process in newest {
        if wanted.is_empty() || thread_time().saturating_sub(began) >= NAMING_LIMIT {
            break;
        }
        for inode in process_table::sockets_of(process.identity.pid) {
            if wanted.remove(&inode) {
                found.insert(inode, process);
            }
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
