//! A thread for what may block, so that the thread that decides never does.
//!
//! In: jobs, one at a time, each with a limit. Out: what the job gave, or that it was too late. A job that hangs keeps its
//! thread; whoever asks meanwhile is told at once that the thread is busy, and nothing piles up. A thread that panicked, or
//! could not be made, is made at the next job.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::lock;

/// Jobs that may wait behind the one that runs: whoever asks waits for the answer, so there is seldom more than one.
const WAITING: usize = 2;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// Why a job gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// It runs, and its answer will be dropped.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// An earlier job still hangs.
    #[error("what was asked before still has no answer")]
    Busy,
    /// No thread can be made, or the job panicked.
    #[error("its thread ended")]
    Ended,
}

/// A thread with things of its own, made when they are first needed.
pub(crate) struct Worker<S> {
    name: &'static str,
    jobs: Arc<Mutex<Option<SyncSender<Job<S>>>>>,
}

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            jobs: Arc::clone(&self.jobs),
        }
    }
}

impl<S: Default + 'static> Worker<S> {
    /// `name` is shown by `ps -T`, 15 bytes at most. The thread belongs to the network namespace of whoever asks first.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            jobs: Arc::default(),
        }
    }

    /// Has `job` done within `limit`.
    ///
    /// # Errors
    /// [`NoAnswer`]; a job that is late is done all the same.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |own| {
            // Whoever asked may have given up.
            let _ = reply.send(job(own));
        }))?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(NoAnswer::Ended),
            Err(_) => Err(NoAnswer::Late(limit)),
        }
    }

    /// Has a last job done and waits for it, on this thread, at most that long.
    pub(crate) fn finish(&self, limit: Duration, job: impl FnOnce(&mut S) + Send + 'static) {
        let (reply, done) = sync_channel(1);
        let last = move |own: &mut S| {
            job(own);
            // Whoever waits may have given up.
            let _ = reply.send(());
        };
        if self.send(Box::new(last)).is_ok() {
            // Late or not: there is nothing more to do.
            let _ = done.recv_timeout(limit);
        }
    }

    fn send(&self, mut job: Job<S>) -> Result<(), NoAnswer> {
        let mut jobs = lock(&self.jobs);
        if let Some(sender) = &*jobs {
            match sender.try_send(job) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(_)) => return Err(NoAnswer::Busy),
                Err(TrySendError::Disconnected(returned)) => job = returned,
            }
        }
        let (sender, received) = sync_channel::<Job<S>>(WAITING);
        let thread = std::thread::Builder::new().name(self.name.to_owned());
        let work = move || {
            let mut own = S::default();
            while let Ok(job) = received.recv() {
                job(&mut own);
            }
        };
        thread.spawn(work).map_err(|_| NoAnswer::Ended)?;
        sender.try_send(job).map_err(|_| NoAnswer::Ended)?;
        *jobs = Some(sender);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test(flavor = "current_thread")]
    async fn jobs_share_what_the_thread_owns_and_a_hanging_one_holds_nobody_up() {
        let worker = Worker::<u32>::new("test");
        let count = |own: &mut u32| {
            *own += 1;
            *own
        };
        assert_eq!(worker.ask(LIMIT, count).await, Ok(1));
        assert_eq!(worker.ask(LIMIT, count).await, Ok(2));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hang = move |_: &mut u32| held.recv().is_err();
        assert_eq!(worker.ask(LIMIT, hang).await, Err(NoAnswer::Late(LIMIT)));
        for _ in 0..WAITING {
            assert_eq!(worker.ask(LIMIT, count).await, Err(NoAnswer::Late(LIMIT)));
        }
        assert_eq!(worker.ask(LIMIT, count).await, Err(NoAnswer::Busy));
        drop(release);
        while worker.ask(LONG, |_| ()).await.is_err() {}
        assert_eq!(
            worker.ask(LONG, count).await,
            Ok(5),
            "what was late was done all the same"
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_thread_that_panicked_is_made_anew() {
        let worker = Worker::<u32>::new("test");
        assert_eq!(
            worker.ask::<()>(LONG, |_| panic!("on purpose")).await,
            Err(NoAnswer::Ended)
        );
        let mut answer = worker.ask(LONG, |own| *own).await;
        // The thread that panicked may still be on its way out.
        while answer.is_err() {
            answer = worker.ask(LONG, |own| *own).await;
        }
        assert_eq!(answer, Ok(0));
    }
}
