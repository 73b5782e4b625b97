//! A place beside the thread that decides, for work that blocks: a file system that hangs, a dump that grows with what
//! others make, a walk of /proc.
//!
//! In: the work, as a closure. Out: what it gives, or that it took too long. Bounded: one thread for each source, which does
//! one piece of work after the other in the order they were given; what hangs costs that thread and no more, and whoever
//! asks meanwhile waits for the limit at most, or is told at once that the thread is busy. A thread that panicked, could not
//! be made, or ended because there was nothing to do, is made at the next piece of work; one that hangs does not keep the
//! agent from stopping. The thread of what an order waits for stays: at the moment of an order there may be no room for
//! another one.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::priority::Priority;
use crate::lock;

/// Pieces of work that may wait behind the one that is under way. Whoever asks waits for the answer, so there is seldom another
/// one; where many ask, as many of them have a turn (`agent::control::aside`).
pub(crate) const WAITING: usize = 8;

/// How long a thread that keeps nothing waits for more: each one that waits costs some hundred kilobytes.
const REST: Duration = Duration::from_secs(3);

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// It may still come to an end; its result is dropped then.
    #[error("{name} took longer than {} s", limit.as_secs_f32())]
    Late {
        name: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// What was asked before hangs.
    #[error("{name} still has no answer to what was asked before")]
    Busy { name: &'static str },
    /// The machine is out of threads or memory.
    #[error("could not start a thread for {name}")]
    NoThread {
        name: &'static str,
        /// The kernel's refusal.
        source: io::Error,
    },
    /// It panicked.
    #[error("{name} failed")]
    Failed { name: &'static str },
}

/// One source of blocking work, with things of its own that its thread makes and keeps. Clones share its thread.
#[derive(Debug)]
pub(crate) struct Worker<S = ()> {
    name: &'static str,
    limit: Duration,
    priority: Priority,
    jobs: Arc<Mutex<Option<SyncSender<Job<S>>>>>,
    /// Pieces of work that were given and have not come to an end.
    under_way: Arc<AtomicUsize>,
}

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            limit: self.limit,
            priority: self.priority,
            jobs: Arc::clone(&self.jobs),
            under_way: Arc::clone(&self.under_way),
        }
    }
}

/// Counts a piece of work until it ends, however it ends.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: Default + 'static> Worker<S> {
    /// `name` is the thread's, and stands in errors; the kernel shows 15 characters of it. The thread belongs to the network
    /// namespace of whoever asks first.
    pub(crate) fn new(name: &'static str, limit: Duration) -> Self {
        Self {
            name,
            limit,
            priority: Priority::Ordinary,
            jobs: Arc::default(),
            under_way: Arc::default(),
        }
    }

    /// As [`Worker::new`], for what an order waits for: it runs before everything but the thread that decides, and its
    /// thread stays.
    pub(crate) fn urgent(name: &'static str, limit: Duration) -> Self {
        Self {
            priority: Priority::Serving,
            ..Self::new(name, limit)
        }
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) == 0
    }

    /// Has work done with the thread's own things: it begins at once, and dropping the future leaves it running.
    ///
    /// # Errors
    /// When there is no answer within the limit.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, WorkerError>> {
        self.ask_within(self.limit, work)
    }

    /// The same with a limit of its own.
    ///
    /// # Errors
    /// As [`Worker::ask`].
    pub(crate) fn ask_within<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, WorkerError>> {
        wait(self.begin(work), self.name, limit)
    }

    /// Has work begun, and gives where its answer will come: for whoever wants it also when it is late.
    ///
    /// # Errors
    /// When it cannot be begun.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, WorkerError> {
        let (reply, answer) = oneshot::channel();
        let under_way = UnderWay::begin(&self.under_way);
        self.send(Box::new(move |own| {
            let answer = work(own);
            drop(under_way);
            // Whoever asked may have stopped waiting.
            let _ = reply.send(answer);
        }))?;
        Ok(answer)
    }

    fn send(&self, mut job: Job<S>) -> Result<(), WorkerError> {
        let name = self.name;
        let mut jobs = lock(&self.jobs);
        if let Some(sender) = &*jobs {
            match sender.try_send(job) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => return Err(WorkerError::Busy { name }),
                Err(TrySendError::Disconnected(returned)) => job = returned,
            }
        }
        let (sender, received) = sync_channel::<Job<S>>(WAITING);
        // Weak: the thread must end when nobody can give work any more.
        let home = Arc::downgrade(&self.jobs);
        let priority = self.priority;
        let work = move || {
            // Whoever asked first may have another.
            priority.take();
            let mut own = S::default();
            let stays = size_of::<S>() > 0 || priority == Priority::Serving;
            while let Some(job) = next_job(&received, &home, stays) {
                job(&mut own);
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        thread.map_err(|source| WorkerError::NoThread { name, source })?;
        sender.try_send(job).map_err(|_| WorkerError::Failed { name })?;
        *jobs = Some(sender);
        Ok(())
    }
}

/// Waits for an answer. Apart from what begins the work, because there are fewer types of answers than of work.
async fn wait<T>(
    begun: Result<oneshot::Receiver<T>, WorkerError>,
    name: &'static str,
    limit: Duration,
) -> Result<T, WorkerError> {
    match tokio::time::timeout(limit, begun?).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(WorkerError::Failed { name }),
        Err(_) => Err(WorkerError::Late { name, limit }),
    }
}

/// The next piece of work; none when nobody can give any more, or the thread has rested long enough and need not stay.
fn next_job<S>(
    received: &Receiver<Job<S>>,
    home: &Weak<Mutex<Option<SyncSender<Job<S>>>>>,
    stays: bool,
) -> Option<Job<S>> {
    if stays {
        return received.recv().ok();
    }
    match received.recv_timeout(REST) {
        Ok(job) => Some(job),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            // Whoever gives work holds the same lock, so none is given between the last look and the end.
            let home = home.upgrade()?;
            let mut home = lock(&home);
            let last = received.try_recv().ok();
            if last.is_none() {
                *home = None;
            }
            last
        }
    }
}

impl Worker {
    /// Has work done that needs nothing of the thread's own.
    ///
    /// # Errors
    /// As [`Worker::ask`].
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, WorkerError>> {
        self.ask(|()| work())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "looks at its own threads")]

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn what_hangs_takes_one_thread_and_ends_no_wait() {
        let worker = Worker::<u32>::new("test", LONG);
        let count = |own: &mut u32| {
            *own += 1;
            *own
        };
        assert_eq!(worker.ask(count).await.unwrap(), 1);
        assert_eq!(worker.ask(count).await.unwrap(), 2, "the thread keeps its things");
        assert!(worker.is_idle());
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let hangs = worker.ask_within(SHORT, move |_| wait.recv().is_ok()).await;
        assert!(matches!(hangs, Err(WorkerError::Late { .. })), "{hangs:?}");
        assert!(!worker.is_idle());
        for _ in 0..WAITING {
            let next = worker.ask_within(SHORT, count).await;
            assert!(matches!(next, Err(WorkerError::Late { .. })), "{next:?}");
        }
        let surplus = worker.ask_within(SHORT, count).await;
        assert!(matches!(surplus, Err(WorkerError::Busy { .. })), "{surplus:?}");
        go_on.send(()).unwrap();
        let mut last = worker.ask(count).await;
        while last.is_err() {
            last = worker.ask(count).await;
        }
        let all = u32::try_from(2 + WAITING + 1).unwrap();
        assert_eq!(last.unwrap(), all, "what was late was done all the same");
    }

    fn threads(name: &str) -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|found| found.trim() == name).count()
    }

    async fn wait_for_none(name: &str) {
        let began = tokio::time::Instant::now();
        while threads(name) > 0 {
            assert!(began.elapsed() < LONG, "{name} stays for ever");
            tokio::time::sleep(SHORT).await;
        }
    }

    #[tokio::test]
    async fn a_thread_ends_with_the_last_of_its_worker() {
        let worker = Worker::<u32>::new("ending", LONG);
        assert_eq!(worker.ask(|own| *own).await.unwrap(), 0);
        let other = worker.clone();
        drop(worker);
        tokio::time::sleep(REST).await;
        assert_eq!(
            threads("ending"),
            1,
            "control: it keeps its things while somebody may ask"
        );
        drop(other);
        wait_for_none("ending").await;
    }

    #[tokio::test]
    async fn a_thread_that_keeps_nothing_ends_when_it_has_rested_and_loses_no_work() {
        let worker = Worker::<()>::new("resting", LONG);
        for _ in 0..2 {
            assert_eq!(worker.run(|| 7).await.unwrap(), 7);
            assert_eq!(threads("resting"), 1, "control: it is there");
            wait_for_none("resting").await;
        }
    }

    #[tokio::test]
    async fn a_thread_that_orders_wait_for_stays_as_long_as_its_worker() {
        let worker = Worker::<()>::urgent("urgent", LONG);
        worker.run(|| ()).await.unwrap();
        tokio::time::sleep(REST + Duration::from_millis(500)).await;
        assert_eq!(threads("urgent"), 1);
        drop(worker);
        wait_for_none("urgent").await;
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_the_thread_is_made_anew() {
        let worker = Worker::<()>::new("test", LONG);
        let failed = worker.run(|| panic!("on purpose")).await;
        assert!(matches!(failed, Err(WorkerError::Failed { .. })), "{failed:?}");
        let mut answer = worker.run(|| 7).await;
        // The thread that panicked may still be on its way out.
        while answer.is_err() {
            answer = worker.run(|| 7).await;
        }
        assert_eq!(answer.unwrap(), 7);
        assert!(worker.is_idle());
    }
}
