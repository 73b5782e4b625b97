//! Has connection tracking forget flows while its table is crowded.
//!
//! In: a plan that the kernel was proven to enforce. Out: entries of its table that are gone, one by one, each as the list had it:
//! never all of them, because some hosts drop what connection tracking has not seen from its beginning. All of it happens on a
//! thread of its own that nobody waits for: the list grows with what others make. Which flows is decided by
//! [`fate`]. Absent: tables of other network namespaces (containers), which are theirs to fill.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::conntrack::{self, DELETE, GET, HEADER, crowd_from};
use super::links::links;
use super::netlink::{Netlink, NetlinkError, NetlinkRequest};
use super::sock_diag::SockDiag;
use super::tracked_entry::Entry;
use crate::Gather;
use crate::host::clock;
use crate::host::processes::pace::thread_time;
use crate::host::worker::Worker;
use crate::quarantine::orders::order::Protocol;
use crate::quarantine::plan::Plan;
use crate::quarantine::plan::severed::{SocketEnds, is_cut};
use crate::quarantine::plan::tracked::{Fate, fate};
use crate::{error_text, lock};

/// A look at 262,144 flows that are all forgotten takes about a second.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a look forgets; the next one goes on.
const LOOK_LIMIT: Duration = Duration::from_secs(8);
/// From one look to the next at least.
const REST: Duration = Duration::from_secs(2);
/// Of a core's time at most one part in so many is spent on looks that come to their end.
const SHARE: u32 = 5;
/// Flows that are forgotten with one call.
const AT_ONCE: usize = 64;
/// Flows to lifelines that a look puts aside before it asks whose they are, 300 bytes each: a small gateway's whole table.
const MAX_ASIDE: usize = 16_384;

/// Whether a look may still do anything: nobody has asked for something else, or for an end.
#[derive(Debug)]
pub(super) struct Permit {
    number: u64,
    asked: Arc<AtomicU64>,
}

impl Permit {
    /// For what is asked for now.
    pub(super) fn of(asked: &Arc<AtomicU64>) -> Self {
        Self {
            number: asked.load(Ordering::Relaxed),
            asked: Arc::clone(asked),
        }
    }

    pub(super) fn holds(&self) -> bool {
        self.asked.load(Ordering::Relaxed) == self.number
    }
}

/// The connection tracking of our network namespace.
pub(super) struct Forgetting {
    looks: Worker<Looks>,
    asked: Arc<AtomicU64>,
    fault: Arc<Mutex<Option<String>>>,
}

impl Default for Forgetting {
    fn default() -> Self {
        Self {
            looks: Worker::new("tracked-flows", LIMIT),
            asked: Arc::default(),
            fault: Arc::default(),
        }
    }
}

impl Forgetting {
    /// As [`Sockets::forget_cut`](crate::quarantine::ports::Sockets::forget_cut).
    pub(super) fn begin(&self, plan: &Plan, is_news: bool) {
        if is_news {
            self.end();
        } else if !self.looks.is_idle() {
            return;
        }
        let (permit, plan, fault) = (Permit::of(&self.asked), plan.clone(), Arc::clone(&self.fault));
        let look = move |looks: &mut Looks| {
            let looked = looks.look(&plan, is_news, &permit);
            *lock(&fault) = looked.err().map(|error| error_text(&error));
        };
        if let Err(error) = self.looks.begin(look) {
            *lock(&self.fault) = Some(error_text(&error));
        }
    }

    /// Why the last look could not do what it should.
    pub(super) fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    /// Nothing further is forgotten.
    pub(super) fn end(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        *lock(&self.fault) = None;
    }
}

/// What the thread keeps: sockets, because at the next look there may be no descriptor left.
#[derive(Default)]
struct Looks {
    sockets: Option<Sockets>,
    /// No look that is no news before this.
    rests: Option<Instant>,
    /// The last one had no time for all.
    is_unfinished: bool,
}

struct Sockets {
    list: Netlink,
    orders: Netlink,
    diag: SockDiag,
}

impl Sockets {
    fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            list: Netlink::open(NETLINK_NETFILTER)?,
            orders: Netlink::open(NETLINK_NETFILTER)?,
            diag: SockDiag::open()?,
        })
    }
}

impl Looks {
    fn look(&mut self, plan: &Plan, is_news: bool, permit: &Permit) -> Result<(), NetlinkError> {
        let began = clock::instant();
        if !is_news && self.rests.is_some_and(|rests| began < rests) {
            return Ok(());
        }
        let mut sockets = match self.sockets.take() {
            Some(sockets) => sockets,
            None => Sockets::open()?,
        };
        let (until, worked) = (began + LOOK_LIMIT, thread_time());
        if is_news || self.is_unfinished || crowd_from(&mut sockets.list)?.is_half_full() {
            let count = sockets.forget(plan, &|| permit.holds() && clock::instant() < until)?;
            self.is_unfinished = clock::instant() >= until;
            if count > 0 {
                tracing::warn!("connection tracking is crowded: {count} flows were taken out of it");
            }
        }
        let ended = clock::instant();
        let cost = thread_time().saturating_sub(worked);
        let rest = if self.is_unfinished {
            REST
        } else {
            REST.max(cost.saturating_mul(SHARE))
        };
        self.rests = Some(ended + rest);
        self.sockets = Some(sockets);
        Ok(())
    }
}

impl Sockets {
    /// Forgets while `may` says so; gives how many.
    fn forget(&mut self, plan: &Plan, may: &dyn Fn() -> bool) -> Result<usize, NetlinkError> {
        let own: BTreeSet<IpAddr> = links()?.into_iter().flat_map(|link| link.addresses).in_set();
        let mut look = Look {
            plan,
            own,
            may,
            orders: Vec::new(),
            aside: Vec::new(),
            done: 0,
            kernel: &mut self.orders,
            diag: &mut self.diag,
        };
        let question = NetlinkRequest {
            message_type: GET,
            dump: true,
            payload: &[0; HEADER],
        };
        // Where the look has ended the rest of the list is thrown away: the next question needs an answer of its own.
        self.list.ask(question, &mut |answer| look.take(answer))?;
        look.sort_out_aside()?;
        look.carry_out()?;
        Ok(look.done)
    }
}

/// One look, while the table is listed.
struct Look<'a> {
    plan: &'a Plan,
    own: BTreeSet<IpAddr>,
    may: &'a dyn Fn() -> bool,
    /// Given together.
    orders: Vec<Vec<u8>>,
    /// Flows to lifelines, each with those who may have it.
    aside: Vec<(Vec<u8>, [SocketEnds; 2])>,
    done: usize,
    kernel: &'a mut Netlink,
    diag: &'a mut SockDiag,
}

impl Look<'_> {
    fn take(&mut self, message: &[u8]) -> Result<(), NetlinkError> {
        let Some(entry) = Entry::of(message) else {
            return Ok(());
        };
        match fate(self.plan, &entry.flow, &self.own) {
            Fate::Kept => Ok(()),
            Fate::Forgotten => self.forget(entry.order()),
            Fate::ForgottenUnlessOf(ends) => {
                self.aside.push((entry.order(), ends));
                if self.aside.len() < MAX_ASIDE {
                    return Ok(());
                }
                self.sort_out_aside()
            }
        }
    }

    /// Who has these is asked after they were listed, so that nobody's new connection is taken for nobody's.
    fn sort_out_aside(&mut self) -> Result<(), NetlinkError> {
        if self.aside.is_empty() || !(self.may)() {
            self.aside.clear();
            return Ok(());
        }
        let kept = connections_of_trusted(self.diag, self.plan)?;
        for (order, ends) in std::mem::take(&mut self.aside) {
            if !ends.iter().any(|ends| kept.contains(&(ends.local, ends.remote))) {
                self.forget(order)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, order: Vec<u8>) -> Result<(), NetlinkError> {
        self.orders.push(order);
        if self.orders.len() < AT_ONCE {
            return Ok(());
        }
        self.carry_out()
    }

    fn carry_out(&mut self) -> Result<(), NetlinkError> {
        let orders = std::mem::take(&mut self.orders);
        if !(self.may)() {
            return Ok(());
        }
        self.done += orders.len();
        match self.kernel.instruct_all(DELETE, &orders) {
            // It has ended by itself, another one has taken its place, or hardware carries it.
            Err(error) if conntrack::is_gone(&error) => Ok(()),
            done => done,
        }
    }
}

type Pair = (SocketAddr, SocketAddr);

/// The TCP connections of whoever may use a lifeline as he likes: root, and the nucleus' own users. A remainder without a socket
/// is nobody's.
fn connections_of_trusted(diag: &mut SockDiag, plan: &Plan) -> Result<BTreeSet<Pair>, NetlinkError> {
    let users: BTreeSet<u32> = std::iter::once(0).chain(plan.nucleus_users.iter()).in_set();
    let mut found = BTreeSet::new();
    diag.connections(&mut |socket, _| {
        let owner = socket.owner;
        if owner.inode == 0 || !users.contains(&owner.uid) {
            return;
        }
        // What the plan cuts is not asked for.
        let lasting = socket.remote.filter(|remote| {
            let ends = SocketEnds {
                protocol: Protocol::Tcp,
                local: socket.local,
                remote: *remote,
            };
            !is_cut(plan, &ends)
        });
        found.extend(lasting.map(|remote| (socket.local, remote)));
    })?;
    Ok(found)
}
