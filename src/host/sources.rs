//! Sources that others own, read one after the other on one thread: one that hangs keeps that thread, and is left alone
//! until it comes back, while the others are read on the next.
//!
//! In: which source, and how it is read. Out: what that gives, or why nothing. Bounded: a source holds one thread and one
//! wait, however often it is asked for; so many sources may hang at a time. Absent: what a source said before.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error_text;
use crate::host::worker::{Worker, WorkerError};

/// Sources that may hang at a time: more than there are. A configuration that names one after the other that hangs must
/// not add a thread with each.
const MAX_HUNG: usize = 24;
/// What is told of a source as long as it hangs.
const HANGS: &str = "it does not answer";

/// Their reader.
#[derive(Debug)]
pub(crate) struct ForeignSources<K> {
    name: &'static str,
    limit: Duration,
    worker: Worker,
    /// Those that have not come back, each with the thread that it holds.
    hung: BTreeMap<K, Worker>,
}

impl<K: Ord> ForeignSources<K> {
    /// `name` is the thread's; a source may take as long as `limit`.
    pub(crate) fn new(name: &'static str, limit: Duration) -> Self {
        Self {
            name,
            limit,
            worker: Worker::new(name, limit),
            hung: BTreeMap::new(),
        }
    }

    /// Reads a source, unless it hangs from before.
    ///
    /// # Errors
    /// A sentence for the operator, the same as long as the source hangs.
    pub(crate) async fn read<T: Send + 'static>(
        &mut self,
        source: K,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        self.hung.retain(|_, worker| !worker.is_idle());
        if self.hung.contains_key(&source) || self.hung.len() >= MAX_HUNG {
            return Err(HANGS.to_owned());
        }
        let found = self.worker.run(read).await;
        if !self.worker.is_idle() {
            let next = Worker::new(self.name, self.limit);
            self.hung
                .insert(source, std::mem::replace(&mut self.worker, next));
        }
        found.map_err(|error| match error {
            WorkerError::Late { .. } | WorkerError::Busy { .. } => HANGS.to_owned(),
            WorkerError::NoThread { .. } | WorkerError::Failed { .. } => error_text(&error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    /// Something that hangs until the other end goes.
    fn hangs() -> (Sender<()>, impl FnOnce() -> u32 + Send) {
        let (go_on, wait) = channel::<()>();
        let read = move || {
            let _gone = wait.recv();
            1
        };
        (go_on, read)
    }

    #[tokio::test]
    async fn one_that_hangs_is_left_alone_until_it_comes_back_and_holds_up_no_other() {
        let mut sources = ForeignSources::new("test", SHORT);
        let (go_on, hanging) = hangs();
        assert_eq!(sources.read("a", || 1).await, Ok(1), "control");
        assert_eq!(sources.read("a", hanging).await, Err(HANGS.to_owned()));
        for _ in 0..100 {
            let never = || panic!("nobody asks it again");
            assert_eq!(sources.read::<u32>("a", never).await, Err(HANGS.to_owned()));
            assert_eq!(sources.read("b", || 2).await, Ok(2));
        }
        drop(go_on);
        let mut last = sources.read("a", || 3).await;
        while last.is_err() {
            tokio::task::yield_now().await;
            last = sources.read("a", || 3).await;
        }
        assert_eq!(last, Ok(3));
    }

    #[tokio::test]
    async fn only_so_many_hang_at_a_time() {
        let mut sources = ForeignSources::new("test", Duration::from_millis(1));
        let mut ends = Vec::new();
        for source in 0..2 * MAX_HUNG {
            let (go_on, hanging) = hangs();
            ends.push(go_on);
            assert!(sources.read(source, hanging).await.is_err());
        }
        assert_eq!(sources.hung.len(), MAX_HUNG);
    }
}
