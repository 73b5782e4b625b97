//! The consumer's end of a subscription.
//!
//! In: queued payloads. Out: [`SubscriptionEvent`]s of a type. Dropping it unsubscribes. It lives across
//! reconnects, and keeps the connection alive like a [`Client`] does.
//!
//! Deliberately absent: `Stream`, whose crate has no version 1 yet. [`Subscription::poll_next`] makes one in a line.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::client::Client;
use crate::queue::{Delivery, Queue};

/// What a subscription has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionEvent<T> {
    /// An event of the nucleus, in the order in which it sent them.
    Message(T),
    /// Events were lost at this point: the consumer was too slow and the oldest were dropped, or an event could not
    /// be understood.
    Missed {
        /// Number of events lost at this point, at least 1.
        count: u64,
    },
    /// The subscription had ended (the connection was lost, or the nucleus ended it) and stands again. Any number of
    /// events may have been missed in between.
    Resubscribed,
}

/// Events of one subscription, in the order the nucleus sent them.
#[derive(Debug)]
pub struct Subscription<T> {
    queue: Arc<Queue>,
    decode: fn(&[u8]) -> Option<T>,
    client: Client,
}

impl<T> Subscription<T> {
    pub(crate) fn new(queue: Arc<Queue>, decode: fn(&[u8]) -> Option<T>, client: Client) -> Self {
        Self {
            queue,
            decode,
            client,
        }
    }

    /// Waits for the next event. Cancel-safe. `None` only when the runtime of the client shuts down.
    pub async fn next(&mut self) -> Option<SubscriptionEvent<T>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// [`Subscription::next`] for code that polls: the task of the last call is woken when there is something to tell.
    /// It makes a `Stream` of a subscription:
    ///
    /// ```
    /// use futures_util::{Stream, stream};
    /// use greengrass_ipc::{Subscription, SubscriptionEvent};
    ///
    /// fn stream_of<T>(mut events: Subscription<T>) -> impl Stream<Item = SubscriptionEvent<T>> {
    ///     stream::poll_fn(move |context| events.poll_next(context))
    /// }
    /// ```
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<SubscriptionEvent<T>>> {
        self.queue
            .poll_next(context)
            .map(|delivery| delivery.map(|delivery| self.event(delivery)))
    }

    fn event(&self, delivery: Delivery) -> SubscriptionEvent<T> {
        match delivery {
            Delivery::Resubscribed => SubscriptionEvent::Resubscribed,
            Delivery::Missed(count) => SubscriptionEvent::Missed { count },
            Delivery::Event(payload) => match (self.decode)(&payload) {
                Some(message) => SubscriptionEvent::Message(message),
                None => {
                    tracing::debug!(
                        bytes = payload.len(),
                        "an event of the nucleus could not be understood"
                    );
                    SubscriptionEvent::Missed { count: 1 }
                }
            },
        }
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.queue.close();
        self.client.look_again();
    }
}
