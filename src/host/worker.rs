//! A place beside the thread that decides, for work that blocks: a file system that hangs, a dump that grows with what
//! others make, a walk of /proc.
//!
//! In: the work, as a closure. Out: what it gives, or that it took too long. Bounded: one piece of work at a time for each
//! worker, so what hangs costs one thread and no more; whoever asks waits for `limit` at most, for its turn and the work
//! together.
//!
//! Every piece gets a thread of its own, not one of the runtime's pool: a thread that cannot be made is then an answer
//! instead of a panic, and one that hangs does not keep the agent from stopping.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It may still come to an end; its result is dropped then.
    #[error("{name} took longer than {} s", limit.as_secs())]
    Late {
        /// The worker.
        name: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The machine is out of threads or memory.
    #[error("could not start a thread for {name}")]
    NoThread {
        /// The worker.
        name: &'static str,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// It panicked.
    #[error("{name} failed")]
    Failed {
        /// The worker.
        name: &'static str,
    },
}

/// One source of blocking work. Clones share its one place.
#[derive(Debug, Clone)]
pub struct Worker {
    name: &'static str,
    limit: Duration,
    place: Arc<Semaphore>,
}

impl Worker {
    /// `name` is the thread's, and stands in errors; the kernel shows 15 characters of it.
    #[must_use]
    pub fn new(name: &'static str, limit: Duration) -> Self {
        Self {
            name,
            limit,
            place: Arc::new(Semaphore::new(1)),
        }
    }

    /// Whether nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.place.available_permits() > 0
    }

    /// Has the work done. Dropping the future leaves the work running, and the place taken until it ends.
    ///
    /// # Errors
    /// When there is no answer within the limit.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkerError> {
        let (name, limit) = (self.name, self.limit);
        let done = tokio::time::timeout(limit, self.turn(work)).await;
        done.unwrap_or(Err(WorkerError::Late { name, limit }))
    }

    async fn turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkerError> {
        let name = self.name;
        let failed = || WorkerError::Failed { name };
        let turn = Arc::clone(&self.place).acquire_owned().await;
        // Never closed.
        let turn = turn.map_err(|_| failed())?;
        let (answer, answered) = oneshot::channel();
        let body = move || {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(work());
            drop(turn);
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        thread.map_err(|source| WorkerError::NoThread { name, source })?;
        answered.await.map_err(|_| failed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_hangs_takes_one_thread_and_ends_no_wait() {
        let worker = Worker::new("test", Duration::from_millis(50));
        let (go_on, wait) = mpsc::channel::<()>();
        let hangs = worker.run(move || wait.recv().is_ok()).await;
        assert!(matches!(hangs, Err(WorkerError::Late { .. })), "{hangs:?}");
        let (begun, beginning) = mpsc::channel::<()>();
        let next = worker.run(move || begun.send(()).is_ok()).await;
        assert!(matches!(next, Err(WorkerError::Late { .. })), "{next:?}");
        assert!(beginning.try_recv().is_err(), "a second thread was started");
        go_on.send(()).unwrap();
        let patient = Worker {
            limit: Duration::from_secs(30),
            ..worker
        };
        assert_eq!(patient.run(|| 7).await.unwrap(), 7, "the place is free again");
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_frees_the_place() {
        let worker = Worker::new("test", Duration::from_secs(30));
        let failed = worker.run(|| panic!("on purpose")).await;
        assert!(matches!(failed, Err(WorkerError::Failed { .. })), "{failed:?}");
        assert_eq!(worker.run(|| 7).await.unwrap(), 7);
    }
}
