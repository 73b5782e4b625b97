//! The load that stands by: it puts our tables back at the moment at which the kernel tells that somebody has touched them.
//!
//! In: from the thread that carries out orders, the whole load that was proven last; from the one that watches, that it is
//! needed. Out: that very load once more, in the kernel before the other program comes to its next step. That matters: a program
//! that ends holds the kernel's transactions up until the kernel has freed what it removed, ten milliseconds and more, and whoever
//! comes first does not wait for it. Absent: any decision. A load is used once, and each transaction of ours calls it off first, so
//! nothing comes back that was taken back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nf_tables::Batch;
use nf_tables::socket::Connection;

use crate::error_text;
use crate::lock;

/// Clones share what stands by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standby {
    /// Locked while it is used; only threads that may wait for the kernel lock it.
    ready: Arc<Mutex<Option<Batch>>>,
    has_stood_in: Arc<AtomicBool>,
}

impl Standby {
    /// This load stands by from now on.
    pub(super) fn set(&self, load: Batch) {
        *lock(&self.ready) = Some(load);
    }

    /// Nothing stands by any more; one that is being used is in the kernel then.
    pub(super) fn call_off(&self) {
        *lock(&self.ready) = None;
    }

    /// Hands the kernel what stands by, if anything does; gives whether the kernel has taken it.
    pub(super) fn stand_in(&self, kernel: &mut Connection) -> bool {
        let mut ready = lock(&self.ready);
        let Some(mut load) = ready.take() else {
            return false;
        };
        let taken = kernel.commit(&mut load);
        let has_taken = taken.is_ok();
        // Before anybody else looks at the tables.
        self.has_stood_in.fetch_or(has_taken, Ordering::AcqRel);
        drop(ready);
        if let Err(error) = taken {
            // What is found in the kernel tells the rest.
            tracing::debug!("what stood by was not taken: {}", error_text(&error));
        }
        has_taken
    }

    /// Whether it was used since the last call.
    pub(super) fn has_stood_in(&self) -> bool {
        self.has_stood_in.swap(false, Ordering::AcqRel)
    }
}
