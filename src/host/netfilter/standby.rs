//! The load that stands by: it puts our tables back at the moment at which the kernel tells that somebody has touched them.
//!
//! In: from the thread that carries out orders, the whole load that was proven last; from the one that watches, that it is
//! needed. Out: that very load once more, in the kernel before the other program comes to its next step. That matters: a program
//! that ends holds the kernel's transactions up until the kernel has freed what it removed, ten milliseconds and more, and whoever
//! comes first does not wait for it. Absent: any decision. A load is used once; each transaction of ours, and the wish that nothing
//! be cut, withdraw it first, so nothing comes back that was taken back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nf_tables::Batch;
use nf_tables::socket::Connection;

use crate::error_text;
use crate::host::clock;
use crate::lock;
use crate::moment::Now;
use crate::quarantine::ports::{FilterChange, StoodIn};
use crate::quarantine::ruleset::{CarriedCounters, Ruleset};

/// Clones share what stands by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standby {
    /// Locked while it is used; only threads that may wait for the kernel lock it.
    ready: Arc<Mutex<Option<Ready>>>,
    withdrawals: Arc<AtomicU64>,
    /// Never locked for longer than it takes to look.
    stood_in: Arc<Mutex<Option<StoodIn>>>,
}

#[derive(Debug)]
struct Ready {
    ruleset: Arc<Ruleset>,
    /// Made before it is needed; none where elements end, whose time is that of the moment.
    load: Option<Batch>,
    then: Now,
    /// What its tables count on from.
    counted: CarriedCounters,
    /// It is worth nothing after another withdrawal.
    ticket: Ticket,
}

/// How much was withdrawn when a load was to stand by: whoever makes it ready may be late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Standby {
    /// What a load needs that is to stand by.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.withdrawals.load(Ordering::Acquire))
    }

    /// These tables stand by from now on, unless it was withdrawn since there was a ticket for it.
    pub(super) fn set(&self, ruleset: Arc<Ruleset>, counted: CarriedCounters, then: Now, ticket: Ticket) {
        let lasts = !ruleset.elements.ends();
        let load = lasts.then(|| ruleset.reload_batch(&counted, clock::since(then)));
        *lock(&self.ready) = Some(Ready {
            ruleset,
            load,
            then,
            counted,
            ticket,
        });
    }

    /// Nothing stands by any more; waits for nobody.
    pub(super) fn withdraw(&self) {
        self.withdrawals.fetch_add(1, Ordering::AcqRel);
    }

    /// Waits until what is being used at this moment is in the kernel.
    pub(super) fn settle(&self) {
        *lock(&self.ready) = None;
    }

    /// Hands the kernel what stands by, if anything does, because of a change by somebody; gives whether the kernel has taken it.
    pub(super) fn stand_in(&self, kernel: &mut Connection, change: &FilterChange) -> bool {
        let mut ready = lock(&self.ready);
        let Some(Ready {
            ruleset,
            load,
            then,
            counted,
            ticket,
        }) = ready.take()
        else {
            return false;
        };
        if ticket != self.ticket() {
            return false;
        }
        let mut load = load.unwrap_or_else(|| ruleset.reload_batch(&counted, clock::since(then)));
        let taken = kernel.commit(&mut load);
        match &taken {
            // Before another transaction of ours.
            Ok(()) => {
                let after = change.clone();
                *lock(&self.stood_in) = Some(StoodIn { after, counted });
            }
            // What is found in the kernel tells the rest.
            Err(error) => tracing::debug!("what stood by was not taken: {}", error_text(error)),
        }
        drop(ready);
        taken.is_ok()
    }

    /// How it was used since the last call.
    pub(super) fn stood_in(&self) -> Option<StoodIn> {
        lock(&self.stood_in).take()
    }
}
