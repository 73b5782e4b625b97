//! The life of one subscription: asked for, standing, lost, asked for again, until its consumer is gone.
//!
//! In: messages of its stream, `now`. Out: requests appended to a buffer, queued events. A first request that is
//! refused is the caller's to know; a renewal is repeated for ever, because lite refuses it for as long as it is
//! offline.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::{Route, Streams, terminate};
use crate::backoff;
use crate::connection::ReplySender;
use crate::error::IpcError;
use crate::frame::{Message, MessageKind};
use crate::queue::Queue;
use crate::refusal::service_error;

/// The wait for the answer to a renewal doubles at most this often, to about ten minutes with the default limit of a
/// call. An answer that comes late ends the wait at once; asking again helps only where the request was lost.
const MAX_DOUBLINGS: u32 = 4;

/// One subscription.
#[derive(Debug)]
pub(super) struct Entry {
    operation: String,
    request: Message,
    response_shape: String,
    queue: Arc<Queue>,
    phase: Phase,
    /// Renewals refused in a row.
    refusals: u32,
    /// Renewals without an answer in a row.
    unanswered: u32,
}

/// Where a subscription is in its life.
#[derive(Debug)]
pub(super) enum Phase {
    /// Asked for by a caller who waits for the answer.
    First { id: i32, reply: ReplySender },
    /// Standing.
    Live { id: i32 },
    /// Asked for again.
    Again { id: i32, deadline: Instant },
    /// To be asked for again.
    Resting { until: Instant },
}

impl Entry {
    pub(super) fn new(operation: String, request: Message, queue: Arc<Queue>, phase: Phase) -> Self {
        let response_shape = format!("{}Response", request.operation.as_deref().unwrap_or(&operation));
        Self {
            operation,
            request,
            response_shape,
            queue,
            phase,
            refusals: 0,
            unanswered: 0,
        }
    }

    /// True for the answer to the request itself. An answer without a shape is one only while one is awaited: nothing
    /// stops lite from sending the first event before it.
    fn is_response(&self, message: &Message) -> bool {
        match &message.service_model_type {
            Some(shape) => *shape == self.response_shape,
            None => !matches!(self.phase, Phase::Live { .. }),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Again { deadline, .. } => Some(deadline),
            Phase::Resting { until } => Some(until),
            Phase::First { .. } | Phase::Live { .. } => None,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.queue.is_closed() || self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// How long an answer to a renewal is awaited.
    fn patience(&self, reply_timeout: Duration) -> Duration {
        reply_timeout.saturating_mul(1 << self.unanswered.min(MAX_DOUBLINGS))
    }

    /// Sets the time of the next attempt.
    fn rest(&mut self, now: Instant) {
        let until = now + backoff::delay(self.refusals, fastrand::f64());
        self.refusals = self.refusals.saturating_add(1);
        self.phase = Phase::Resting { until };
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.queue.end();
    }
}

impl Streams {
    /// Forgets subscriptions whose consumer is gone and renews those that are due.
    pub(in crate::connection) fn settle(&mut self, now: Instant, out: &mut BytesMut) {
        let due = self.subscriptions.iter().filter(|(_, entry)| entry.is_due(now));
        let due: Vec<u64> = due.map(|(key, _)| *key).collect();
        for key in due {
            let Some(mut entry) = self.subscriptions.remove(&key) else {
                continue;
            };
            if entry.queue.is_closed() {
                self.forget(&entry, out);
                continue;
            }
            match entry.phase {
                Phase::Resting { .. } => self.renew(key, &mut entry, now, out),
                Phase::Again { id, .. } => {
                    self.orphan(id, &entry);
                    entry.unanswered = entry.unanswered.saturating_add(1);
                    entry.rest(now);
                }
                Phase::First { .. } | Phase::Live { .. } => {}
            }
            self.subscriptions.insert(key, entry);
        }
    }

    /// When [`Streams::settle`] has something to do without being woken.
    pub(in crate::connection) fn deadline(&self) -> Option<Instant> {
        let renewals = self.subscriptions.values().filter_map(Entry::deadline);
        renewals.chain(self.silent_at()).min()
    }

    /// Takes one message of a subscription's stream.
    pub(super) fn subscription_message(
        &mut self,
        key: u64,
        message: Message,
        now: Instant,
        out: &mut BytesMut,
    ) {
        let Some(mut entry) = self.subscriptions.remove(&key) else {
            return;
        };
        let (id, last) = (message.stream_id, message.terminates());
        let mut stays = true;
        if message.kind == MessageKind::ApplicationError {
            self.routes.remove(&id);
            let error = service_error(&entry.operation, &message);
            stays = ended(&mut entry, error, now);
        } else {
            if entry.is_response(&message) {
                stays = self.answered(id, &mut entry, message, out);
            } else {
                entry.queue.push(message.payload);
            }
            if last && stays {
                self.routes.remove(&id);
                let reason = "the nucleus ended the subscription".to_owned();
                let error = IpcError::ConnectionLost {
                    operation: entry.operation.clone(),
                    reason,
                };
                stays = ended(&mut entry, error, now);
            }
        }
        if stays {
            self.subscriptions.insert(key, entry);
        }
    }

    /// Every subscription of a lost connection is due for renewal, except those whose caller still waited.
    pub(super) fn suspend_subscriptions(&mut self, reason: &str, now: Instant) {
        let all = std::mem::take(&mut self.subscriptions);
        for (key, mut entry) in all {
            (entry.refusals, entry.unanswered) = (0, 0);
            if let Phase::First { reply, .. } =
                std::mem::replace(&mut entry.phase, Phase::Resting { until: now })
            {
                let (operation, reason) = (entry.operation.clone(), reason.to_owned());
                reply.answer(Err(IpcError::ConnectionLost { operation, reason }));
            } else {
                self.subscriptions.insert(key, entry);
            }
        }
    }

    /// The nucleus says that the subscription stands. True when it stays in the table.
    fn answered(&mut self, id: i32, entry: &mut Entry, message: Message, out: &mut BytesMut) -> bool {
        match std::mem::replace(&mut entry.phase, Phase::Live { id }) {
            Phase::First { reply, .. } => {
                let last = message.terminates();
                let wanted = reply.answer(Ok(message.payload));
                if !wanted {
                    self.routes.remove(&id);
                }
                if !wanted && !last {
                    terminate(id, out);
                }
                wanted
            }
            Phase::Again { .. } => {
                // One that is answered and ended in one breath must not be asked for in a tight loop.
                if !message.terminates() {
                    entry.refusals = 0;
                }
                entry.unanswered = 0;
                entry.queue.push_resubscribed();
                tracing::info!(operation = entry.operation, "subscribed again");
                true
            }
            Phase::Live { .. } | Phase::Resting { .. } => true,
        }
    }

    fn renew(&mut self, key: u64, entry: &mut Entry, now: Instant, out: &mut BytesMut) {
        match self.send(&mut entry.request, out) {
            Ok(id) => {
                self.routes.insert(id, Route::Subscription(key));
                entry.phase = Phase::Again {
                    id,
                    deadline: now + entry.patience(self.reply_timeout),
                };
            }
            // It could be encoded before; should it ever not, the next attempt comes with a wait.
            Err(_) => entry.rest(now),
        }
    }

    /// Nobody wants the events: ends a standing stream at once, and one in doubt when the nucleus has answered.
    fn forget(&mut self, entry: &Entry, out: &mut BytesMut) {
        match entry.phase {
            Phase::Live { id } => {
                self.routes.remove(&id);
                terminate(id, out);
            }
            Phase::First { id, .. } | Phase::Again { id, .. } => self.orphan(id, entry),
            Phase::Resting { .. } => {}
        }
    }

    fn orphan(&mut self, id: i32, entry: &Entry) {
        let response_shape = entry.response_shape.clone();
        self.routes.insert(id, Route::Orphan { response_shape });
        self.orphans += 1;
    }
}

/// The nucleus refused or ended the subscription. True when it stays in the table, to be renewed.
fn ended(entry: &mut Entry, error: IpcError, now: Instant) -> bool {
    let refusals = entry.refusals;
    let before = std::mem::replace(&mut entry.phase, Phase::Resting { until: now });
    if let Phase::First { reply, .. } = before {
        reply.answer(Err(error));
        return false;
    }
    if refusals == 0 {
        tracing::info!(%error, "a subscription ended or was not renewed; trying for ever");
    } else {
        tracing::debug!(%error, refusals, "a subscription was not renewed");
    }
    entry.rest(now);
    true
}
