//! The enforcer's hands on other programs' sockets: what the rules cut is closed as well.
//!
//! In: a plan that the kernel was proven to enforce. Out: closed sockets, counted; an attacker's program is told at once
//! instead of waiting for a time-out. What goes wrong here is told and fails nothing: the rules cut all the same.
//! Absent: sockets of other network namespaces (containers), which only the rules reach.

use std::collections::BTreeSet;

use wildmatch::WildMatch;

use super::Enforcer;
use crate::host::clock;
use crate::host::links::links;
use crate::host::netlink::NetlinkError;
use crate::host::process_table;
use crate::host::procfs::ProcessIndex;
use crate::host::sock_diag::destroy::{LiveSocket, Looks, MAX_FOUND, Outcome};
use crate::observe::sockets::{Holder, ProcessTable as _};
use crate::process::Process;
use crate::quarantine::lifeline::Endpoint;
use crate::quarantine::plan::{Plan, PlanId, Scope};
use crate::quarantine::processes::is_nucleus_service;
use crate::quarantine::severed::{is_cut, is_spared};

/// Sockets of one look that the log names; the rest are a number.
const MAX_NAMED: usize = 32;
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
    looks: Looks,
    /// The rules whose cut connections were all looked for.
    done: Option<Rules>,
    unsupported: bool,
    /// Sockets closed since the agent started.
    pub(super) count: u64,
    /// What stands in the way.
    pub(super) fault: Option<String>,
}

impl Enforcer {
    /// Closes the sockets of connections that `plan` cuts: at once when its rules are new, else from time to time.
    pub(super) fn sever(&mut self, plan: &Plan) {
        if plan.is_normal() {
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
        let blocks = |address| plan.block.remotes.iter().any(|net| net.contains(&address));
        let looks = &mut self.severing.looks;
        let cut = looks.look(clock::instant(), news, |connection| {
            is_cut(plan, blocks, connection)
        })?;
        let Some(mut cut) = cut.filter(|cut| !cut.is_empty()) else {
            return Ok(true);
        };
        let complete = cut.len() < MAX_FOUND;
        let own = links()?.into_iter().flat_map(|link| link.addresses).collect();
        let protected = self.protected_sockets();
        cut.retain(|socket| !is_spared(&socket.connection, socket.inode, &own, &protected));
        self.close(&cut, news)?;
        Ok(complete)
    }

    /// Looks at the holders first: a program that is told may be gone before it could be named.
    fn close(&mut self, sockets: &[LiveSocket], news: bool) -> Result<(), NetlinkError> {
        let (mut index, now) = (ProcessIndex::default(), clock::instant());
        let named = sockets.iter().take(MAX_NAMED);
        let holders: Vec<_> = named.map(|socket| index.holder(socket.inode, now)).collect();
        let mut holders = holders.into_iter();
        let before = self.severing.count;
        for socket in sockets {
            let holder = holders.next();
            match self.severing.looks.destroy(socket)? {
                Outcome::Destroyed => self.severing.count += 1,
                Outcome::Gone => continue,
                Outcome::Unsupported => {
                    tracing::warn!("{UNSUPPORTED}");
                    self.severing.unsupported = true;
                    return Ok(());
                }
            }
            if let Some(holder) = holder {
                tell(socket, &holder, news);
            }
        }
        let closed = self.severing.count - before;
        if closed > 0 && news {
            tracing::warn!("{closed} sockets of cut connections were closed");
        }
        Ok(())
    }

    /// Sockets of those who must live: ourselves, the nucleus with its services, what the configuration protects. While
    /// the nucleus is not known, whoever started us may be it.
    fn protected_sockets(&self) -> BTreeSet<u32> {
        let list = process_table::list();
        let executables = &self.settings.isolation.protected;
        let executables: Vec<_> = executables.iter().map(|text| WildMatch::new(text)).collect();
        let mut pids = BTreeSet::from([std::process::id()]);
        match self.settings.nucleus_pid {
            Some(nucleus) => drop(pids.insert(nucleus)),
            None => pids.extend(ancestors(&list, std::process::id())),
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

/// Later ones are told in the details only: a program may connect a UDP socket again and again.
fn tell(socket: &LiveSocket, holder: &Holder, news: bool) {
    let connection = &socket.connection;
    let (pid, name) = match holder {
        Holder::Process(process) => (Some(process.identity.pid), Some(process.name.clone())),
        Holder::Nobody | Holder::AskLater => (None, None),
    };
    let (protocol, local, remote) = (connection.protocol, connection.local, connection.remote);
    if news {
        tracing::warn!(%protocol, %local, %remote, ?pid, ?name, "socket closed: the rules cut it");
    } else {
        tracing::debug!(%protocol, %local, %remote, ?pid, ?name, "socket closed: the rules cut it");
    }
}
