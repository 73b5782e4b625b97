//! The consumer's end of a subscription.
//!
//! In: queued payloads. Out: [`SubscriptionEvent`]s of a type. Dropping it unsubscribes. It lives across
//! reconnects, and keeps the connection alive like a [`Client`] does.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::client::Client;
use crate::queue::{Delivery, Queue};

/// What a subscription has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriptionEvent<T> {
    /// The next event.
    Message(T),
    /// Events were lost at this point: the consumer was too slow and the oldest were dropped, or an event could not
    /// be understood.
    Missed {
        /// How many.
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
        poll_fn(|context| self.poll_event(context)).await
    }

    fn poll_event(&self, context: &mut Context<'_>) -> Poll<Option<SubscriptionEvent<T>>> {
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

/// The same events as [`Subscription::next`], for combinators.
impl<T> Stream for Subscription<T> {
    type Item = SubscriptionEvent<T>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_event(context)
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.queue.close();
        self.client.look_again();
    }
}
