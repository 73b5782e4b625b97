//! Events of one subscription on their way from the socket to the consumer.
//!
//! In: [`Queue::push`], which never waits. Out: [`Queue::poll_next`]. Bounded in events and bytes: what does not fit
//! drops the oldest, and the number dropped is told in the place where they would have been.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// What the consumer is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Event(Bytes),
    Missed(u64),
    Resubscribed,
}

#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    max_events: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Inner {
    /// `None` marks a re-subscription.
    entries: VecDeque<Option<Bytes>>,
    bytes: usize,
    missed: u64,
    /// A re-subscription mark was among the dropped; it must not get lost.
    owes_resubscribed: bool,
    ended: bool,
    closed: bool,
    /// The consumer, when it found nothing.
    waiting: Option<Waker>,
}

impl Queue {
    pub(crate) fn new(max_events: usize, max_bytes: usize) -> Self {
        Self {
            inner: Mutex::default(),
            max_events: max_events.max(1),
            max_bytes,
        }
    }

    /// Adds an event, dropping the oldest ones when there is no room.
    pub(crate) fn push(&self, event: Bytes) {
        let mut inner = self.lock();
        inner.bytes += event.len();
        inner.entries.push_back(Some(event));
        while inner.entries.len() > self.max_events
            || (inner.bytes > self.max_bytes && inner.entries.len() > 1)
        {
            inner.drop_oldest();
        }
        wake(inner);
    }

    /// Tells the consumer that the subscription was made anew.
    pub(crate) fn push_resubscribed(&self) {
        let mut inner = self.lock();
        if inner.entries.back() != Some(&None) {
            inner.entries.push_back(None);
        }
        while inner.entries.len() > self.max_events {
            inner.drop_oldest();
        }
        wake(inner);
    }

    /// The producer is gone: what is queued is still delivered, then `None`.
    pub(crate) fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        wake(inner);
    }

    /// The consumer is gone.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.entries.clear();
        inner.bytes = 0;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The next thing to tell, or the promise to wake the caller when there is one. For one consumer.
    pub(crate) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let mut inner = self.lock();
        match inner.take() {
            None if !inner.ended => {
                inner.waiting = Some(context.waker().clone());
                Poll::Pending
            }
            told => Poll::Ready(told),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the consumer, after the lock is released: it may look at once.
fn wake(mut inner: MutexGuard<'_, Inner>) {
    let waiting = inner.waiting.take();
    drop(inner);
    if let Some(consumer) = waiting {
        consumer.wake();
    }
}

impl Inner {
    fn drop_oldest(&mut self) {
        match self.entries.pop_front() {
            Some(Some(event)) => {
                self.bytes -= event.len();
                self.missed = self.missed.saturating_add(1);
            }
            Some(None) => self.owes_resubscribed = true,
            None => {}
        }
    }

    fn take(&mut self) -> Option<Delivery> {
        if self.missed > 0 {
            return Some(Delivery::Missed(std::mem::take(&mut self.missed)));
        }
        if std::mem::take(&mut self.owes_resubscribed) {
            return Some(Delivery::Resubscribed);
        }
        Some(match self.entries.pop_front()? {
            Some(event) => {
                self.bytes -= event.len();
                Delivery::Event(event)
            }
            None => Delivery::Resubscribed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    async fn next(queue: &Queue) -> Option<Delivery> {
        std::future::poll_fn(|context| queue.poll_next(context)).await
    }

    async fn drain(queue: &Queue) -> Vec<Delivery> {
        queue.end();
        let mut told = Vec::new();
        while let Some(delivery) = next(queue).await {
            told.push(delivery);
        }
        told
    }

    #[tokio::test]
    async fn the_oldest_go_and_are_counted_first() {
        let queue = Queue::new(2, 1000);
        ["a", "b", "c", "d", "e"]
            .into_iter()
            .for_each(|text| queue.push(event(text)));
        let expected = [
            Delivery::Missed(3),
            Delivery::Event(event("d")),
            Delivery::Event(event("e")),
        ];
        assert_eq!(drain(&queue).await, expected);
    }

    #[tokio::test]
    async fn bytes_are_bounded_but_the_newest_stays() {
        let queue = Queue::new(10, 4);
        queue.push(event("abc"));
        queue.push(event("de"));
        queue.push(event("too long for it"));
        assert_eq!(
            drain(&queue).await,
            [Delivery::Missed(2), Delivery::Event(event("too long for it"))]
        );
    }

    #[tokio::test]
    async fn a_resubscription_survives_dropping_and_is_told_once() {
        let queue = Queue::new(2, 1000);
        queue.push_resubscribed();
        queue.push_resubscribed();
        ["a", "b", "c"]
            .into_iter()
            .for_each(|text| queue.push(event(text)));
        let expected = [
            Delivery::Missed(1),
            Delivery::Resubscribed,
            Delivery::Event(event("b")),
            Delivery::Event(event("c")),
        ];
        assert_eq!(drain(&queue).await, expected);
    }
}
