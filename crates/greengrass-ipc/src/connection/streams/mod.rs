//! Who waits for what: every stream of the connection and every subscription across connections.
//!
//! In: commands, messages of the nucleus, `now`. Out: frames appended to a buffer, answers, queued events. No socket,
//! no clock. Stream ids are allocated here, in the order in which frames are appended.
//!
//! A stream whose caller has given up stays in the table, so that a late answer is recognised and, when it is the
//! answer to a subscription, undone.

mod subscriptions;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Command, Lost, Reply};
use crate::error::IpcError;
use crate::frame::{FrameError, Message, MessageKind, TERMINATE_STREAM, encode};
use crate::refusal::{service_error, text_of};
use subscriptions::{Entry, Phase};

/// Streams of one connection at a time. Far above what an application needs; bounds memory when a nucleus accepts
/// requests and never answers.
const MAX_STREAMS: usize = 1024;

/// Subscriptions at a time. Lite has 100 for all components together.
const MAX_SUBSCRIPTIONS: usize = 256;

/// The connection is renewed when fewer ids than this are left, which is more than one turn can use.
const RESERVED_IDS: i32 = 1024;

/// Table of streams and subscriptions.
#[derive(Debug)]
pub(super) struct Streams {
    next_id: i32,
    routes: HashMap<i32, Route>,
    subscriptions: BTreeMap<u64, Entry>,
    next_key: u64,
    reply_timeout: Duration,
}

/// Where messages of one stream go.
#[derive(Debug)]
enum Route {
    /// One answer ends it.
    Call { operation: String, reply: Reply },
    /// Key of the subscription.
    Subscription(u64),
    /// A subscription nobody wants, of which the nucleus has not said yet whether it stands.
    Orphan { response_shape: String },
}

impl Streams {
    pub(super) fn new(reply_timeout: Duration) -> Self {
        Self {
            next_id: 1,
            routes: HashMap::new(),
            subscriptions: BTreeMap::new(),
            next_key: 0,
            reply_timeout,
        }
    }

    /// Sends a request, unless its caller has given up already.
    pub(super) fn start(&mut self, command: Command, out: &mut BytesMut) {
        if command.reply.is_closed() {
            return;
        }
        if let Some(limit) = self.limit_reached(&command) {
            answer(
                command.reply,
                Err(IpcError::Busy {
                    operation: command.operation,
                    limit,
                }),
            );
            return;
        }
        match self.send(&command.message, out) {
            Ok(id) => self.register(id, command),
            Err(source) => {
                answer(
                    command.reply,
                    Err(IpcError::Encode {
                        operation: command.operation,
                        source,
                    }),
                );
            }
        }
    }

    /// Takes one message of the nucleus.
    pub(super) fn receive(&mut self, message: Message, now: Instant, out: &mut BytesMut) -> Result<(), Lost> {
        let kind = message.kind;
        match kind {
            MessageKind::ApplicationMessage | MessageKind::ApplicationError => {
                self.dispatch(message, now, out);
                Ok(())
            }
            // Nobody asked for one, and answering would be a message lite does not expect.
            MessageKind::Ping | MessageKind::PingResponse => Ok(()),
            MessageKind::ProtocolError | MessageKind::InternalError => Err(Lost::Reported {
                kind,
                text: text_of(&message.payload),
            }),
            MessageKind::Connect | MessageKind::ConnectAck => Err(Lost::OutOfPlace { kind }),
        }
    }

    /// Fails what was in flight and marks subscriptions for renewal.
    pub(super) fn connection_lost(&mut self, reason: &str, now: Instant) {
        for (_, route) in self.routes.drain() {
            if let Route::Call { operation, reply } = route {
                let reason = reason.to_owned();
                answer(reply, Err(IpcError::ConnectionLost { operation, reason }));
            }
        }
        self.next_id = 1;
        self.suspend_subscriptions(reason, now);
    }

    /// True when the connection has used up its stream ids.
    pub(super) fn out_of_ids(&self) -> bool {
        self.next_id > i32::MAX - RESERVED_IDS
    }

    fn dispatch(&mut self, message: Message, now: Instant, out: &mut BytesMut) {
        let id = message.stream_id;
        match self.routes.get(&id) {
            Some(&Route::Subscription(key)) => self.subscription_message(key, message, now, out),
            Some(Route::Orphan { response_shape }) => {
                let ended = message.kind == MessageKind::ApplicationError || message.terminates();
                let stands = message
                    .service_model_type
                    .is_none_or(|shape| shape == *response_shape);
                if ended || stands {
                    self.routes.remove(&id);
                }
                if stands && !ended {
                    terminate(id, out);
                }
            }
            Some(Route::Call { .. }) => {
                if let Some(Route::Call { operation, reply }) = self.routes.remove(&id) {
                    answer(reply, outcome(&operation, message));
                }
            }
            None => tracing::debug!(stream_id = id, "message for a stream nobody waits for"),
        }
    }

    fn register(&mut self, id: i32, command: Command) {
        let Command {
            operation,
            message,
            queue,
            reply,
        } = command;
        let route = match queue {
            None => Route::Call { operation, reply },
            Some(queue) => {
                let key = self.next_key;
                self.next_key += 1;
                let phase = Phase::First { id, reply };
                self.subscriptions
                    .insert(key, Entry::new(operation, message, queue, phase));
                Route::Subscription(key)
            }
        };
        self.routes.insert(id, route);
    }

    /// The limit that forbids another stream, after forgetting those nobody waits for.
    fn limit_reached(&mut self, command: &Command) -> Option<usize> {
        if self.routes.len() >= MAX_STREAMS {
            self.routes.retain(|_, route| match route {
                Route::Call { reply, .. } => !reply.is_closed(),
                Route::Subscription(_) => true,
                Route::Orphan { .. } => false,
            });
        }
        let subscriptions_full = command.queue.is_some() && self.subscriptions.len() >= MAX_SUBSCRIPTIONS;
        if subscriptions_full {
            Some(MAX_SUBSCRIPTIONS)
        } else {
            (self.routes.len() >= MAX_STREAMS).then_some(MAX_STREAMS)
        }
    }

    /// Appends a request under the next id. An id is used only if the request can be encoded: classic tolerates no gap.
    fn send(&mut self, message: &Message, out: &mut BytesMut) -> Result<i32, FrameError> {
        let id = self.next_id;
        let frame = encode(&Message {
            stream_id: id,
            ..message.clone()
        })?;
        out.extend_from_slice(&frame);
        self.next_id = id.saturating_add(1);
        Ok(id)
    }
}

/// Ends a stream. There is no answer to it. Never for calls, whose streams the answer has ended.
fn terminate(id: i32, out: &mut BytesMut) {
    let message = Message::new(MessageKind::ApplicationMessage, id).with_flags(TERMINATE_STREAM);
    // A message without text headers always fits a frame.
    if let Ok(frame) = encode(&message) {
        out.extend_from_slice(&frame);
    }
}

/// Answers a caller; one that has given up is nobody's loss.
fn answer(reply: Reply, result: Result<Bytes, IpcError>) {
    drop(reply.send(result));
}

fn outcome(operation: &str, message: Message) -> Result<Bytes, IpcError> {
    match message.kind {
        MessageKind::ApplicationError => Err(service_error(operation, &message)),
        _ => Ok(message.payload),
    }
}

#[cfg(test)]
mod tests;
