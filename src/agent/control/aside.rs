//! A thread beside the one that decides, and whose turn it is.
//!
//! In: work of many who ask at once. Out: what it gives, in the order in which it was asked for. Who comes behind others waits,
//! and is not told that the thread is busy: as many are let in as the thread takes, and none more.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::server::LIMIT;
use crate::error_text;
use crate::host::worker::{WAITING, Worker};

/// One thread for whoever asks at the control socket. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Aside {
    worker: Worker,
    turns: Arc<Semaphore>,
}

impl Aside {
    /// `name` is the thread's.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            worker: Worker::new(name, LIMIT),
            turns: Arc::new(Semaphore::new(WAITING)),
        }
    }

    /// Work that may take a while, off the thread that decides.
    ///
    /// # Errors
    /// That of the work, or why there is no thread for it, for people.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let turn = self.turns.acquire().await;
        let done = self.worker.run(work).await;
        drop(turn);
        done.unwrap_or_else(|error| Err(format!("no answer could be made: {}", error_text(&error))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn many_at_once_all_have_their_turn() {
        let aside = Aside::new("test-aside");
        let many = WAITING * 4;
        let all: Vec<_> = (0..many)
            .map(|number| {
                let aside = aside.clone();
                tokio::spawn(async move {
                    let (_never, wait) = std::sync::mpsc::channel::<()>();
                    let work = move || {
                        // A while.
                        let _over = wait.recv_timeout(Duration::from_millis(5));
                        Ok(number)
                    };
                    aside.run(work).await
                })
            })
            .collect();
        for (number, one) in all.into_iter().enumerate() {
            assert_eq!(one.await.unwrap(), Ok(number));
        }
    }
}
