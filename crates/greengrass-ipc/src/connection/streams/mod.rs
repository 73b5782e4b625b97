//! Who waits for what: every stream of the connection and every subscription across connections.
//!
//! In: commands, messages of the nucleus, `now`. Out: frames appended to a buffer, answers, queued events. No socket,
//! no clock. Stream ids are allocated here, in the order in which frames are appended.
//!
//! A stream whose caller has given up stays in the table, so that a late answer is recognised and, when it is the
//! answer to a subscription, undone.

mod frame_limit;
mod subscriptions;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Command, ConnectionEnd, ReplySender};
use crate::error::IpcError;
use crate::frame::{FrameError, Message, MessageKind, TERMINATE_STREAM, append};
use crate::refusal::{service_error, text_of};
use frame_limit::FrameLimit;
use subscriptions::{Entry, Phase};

/// Streams of one connection at a time. Far above what an application needs; bounds memory when a nucleus accepts
/// requests and never answers.
const MAX_STREAMS: usize = 1024;

/// Subscriptions at a time. Lite has 100 for all components together.
const MAX_SUBSCRIPTIONS: usize = 256;

/// Subscriptions given up before they were answered, of one connection. Classic answers none while it is offline, and
/// each must be remembered to be ended when it does; a new connection ends all of them at once.
const MAX_ORPHANS: usize = 64;

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
    silence_limit: Duration,
    /// Calls among the routes.
    calls: usize,
    /// Subscriptions nobody wants among the routes.
    orphans: usize,
    /// When the nucleus was last heard, or the first of the open calls sent.
    quiet_since: Option<Instant>,
    frame_limit: FrameLimit,
}

/// Where messages of one stream go.
#[derive(Debug)]
enum Route {
    /// One answer ends it.
    Call { operation: String, reply: ReplySender },
    /// Key of the subscription.
    Subscription(u64),
    /// A subscription nobody wants, of which the nucleus has not said yet whether it stands.
    Orphan { response_shape: String },
}

impl Streams {
    /// A renewal without an answer is repeated after `reply_timeout`. Open calls and no message whatsoever for
    /// `silence_limit` end the connection.
    pub(super) fn new(reply_timeout: Duration, silence_limit: Duration) -> Self {
        Self {
            next_id: 1,
            routes: HashMap::new(),
            subscriptions: BTreeMap::new(),
            next_key: 0,
            reply_timeout,
            silence_limit,
            calls: 0,
            orphans: 0,
            quiet_since: None,
            frame_limit: FrameLimit::default(),
        }
    }

    /// Sends a request, unless its caller has given up already.
    pub(super) fn start(&mut self, mut command: Command, now: Instant, out: &mut BytesMut) {
        if command.reply.is_given_up() {
            return;
        }
        if let Some(limit) = self.limit_reached(&command) {
            let operation = command.operation;
            command.reply.answer(Err(IpcError::Busy { operation, limit }));
            return;
        }
        if !command.reply.take() {
            return;
        }
        match self.send(&mut command.message, out) {
            Ok(id) => self.register(id, command, now),
            Err(error) => {
                let operation = command.operation;
                let source = error.into();
                command.reply.answer(Err(IpcError::Encode { operation, source }));
            }
        }
    }

    /// Takes one message of the nucleus.
    pub(super) fn receive(
        &mut self,
        message: Message,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<(), ConnectionEnd> {
        let kind = message.kind;
        self.quiet_since = Some(now);
        self.frame_limit.heard(message.stream_id);
        match kind {
            MessageKind::ApplicationMessage | MessageKind::ApplicationError => {
                self.dispatch(message, now, out);
                Ok(())
            }
            // Nobody asked for one, and answering would be a message lite does not expect.
            MessageKind::Ping | MessageKind::PingResponse => Ok(()),
            MessageKind::ProtocolError | MessageKind::InternalError => Err(ConnectionEnd::Reported {
                kind,
                text: text_of(&message.payload),
            }),
            MessageKind::Connect | MessageKind::ConnectAck => Err(ConnectionEnd::OutOfPlace { kind }),
        }
    }

    /// Fails what was in flight and marks subscriptions for renewal.
    pub(super) fn connection_lost(&mut self, reason: &str, now: Instant) {
        for (_, route) in self.routes.drain() {
            if let Route::Call { operation, reply } = route {
                let reason = reason.to_owned();
                reply.answer(Err(IpcError::ConnectionLost { operation, reason }));
            }
        }
        self.next_id = 1;
        (self.calls, self.orphans) = (0, 0);
        self.suspend_subscriptions(reason, now);
    }

    /// To be told before [`Streams::connection_lost`]. True when frames beyond lite's limit have to be refused from now
    /// on: the nucleus has closed connections over them.
    pub(super) fn learn_frame_limit(&mut self, closed_by_nucleus: bool) -> bool {
        self.frame_limit.ended(closed_by_nucleus)
    }

    /// What this connection has used up.
    pub(super) fn exhausted(&self) -> Option<ConnectionEnd> {
        if self.next_id > i32::MAX - RESERVED_IDS {
            return Some(ConnectionEnd::OutOfIds);
        }
        let count = self.orphans;
        (count > MAX_ORPHANS).then_some(ConnectionEnd::Unanswered { count })
    }

    /// Set when the nucleus has been silent for too long.
    pub(super) fn silence(&self, now: Instant) -> Option<ConnectionEnd> {
        let silent = self.silent_at().is_some_and(|deadline| deadline <= now);
        silent.then_some(ConnectionEnd::Silent {
            after: self.silence_limit,
        })
    }

    /// When the nucleus has been silent for too long. Only calls count: classic answers a subscription when it is
    /// online again, which may be tomorrow.
    fn silent_at(&self) -> Option<Instant> {
        let since = self.quiet_since.filter(|_| self.calls > 0)?;
        Some(since + self.silence_limit)
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
                    self.orphans = self.orphans.saturating_sub(1);
                }
                if stands && !ended {
                    terminate(id, out);
                }
            }
            Some(Route::Call { .. }) => {
                if let Some(Route::Call { operation, reply }) = self.routes.remove(&id) {
                    self.calls = self.calls.saturating_sub(1);
                    reply.answer(outcome(&operation, message));
                }
            }
            None => tracing::debug!(stream_id = id, "message for a stream nobody waits for"),
        }
    }

    fn register(&mut self, id: i32, command: Command, now: Instant) {
        let Command {
            operation,
            message,
            queue,
            reply,
        } = command;
        let route = match queue {
            None => {
                if self.calls == 0 {
                    self.quiet_since = Some(now);
                }
                self.calls += 1;
                Route::Call { operation, reply }
            }
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

    /// The limit that forbids another stream, after forgetting calls nobody waits for. Subscriptions nobody waits for
    /// are kept: once answered they must be ended.
    fn limit_reached(&mut self, command: &Command) -> Option<usize> {
        if self.routes.len() >= MAX_STREAMS {
            self.routes.retain(|_, route| match route {
                Route::Call { reply, .. } => !reply.is_given_up(),
                Route::Subscription(_) | Route::Orphan { .. } => true,
            });
            let calls = |route: &&Route| matches!(route, Route::Call { .. });
            self.calls = self.routes.values().filter(calls).count();
        }
        let subscriptions_full = command.queue.is_some() && self.subscriptions.len() >= MAX_SUBSCRIPTIONS;
        if subscriptions_full {
            Some(MAX_SUBSCRIPTIONS)
        } else {
            (self.routes.len() >= MAX_STREAMS).then_some(MAX_STREAMS)
        }
    }

    /// Appends a request under the next id. An id is used only if the request can be encoded: classic tolerates no gap.
    fn send(&mut self, request: &mut Message, out: &mut BytesMut) -> Result<i32, FrameError> {
        let id = self.next_id;
        request.stream_id = id;
        let before = out.len();
        append(request, out)?;
        self.frame_limit.sent(id, out.len() - before);
        self.next_id = id.saturating_add(1);
        Ok(id)
    }
}

/// Ends a stream. There is no answer to it. Never for calls, whose streams the answer has ended.
fn terminate(id: i32, out: &mut BytesMut) {
    let message = Message::new(MessageKind::ApplicationMessage, id).with_flags(TERMINATE_STREAM);
    // A message without text headers always fits a frame.
    let _ = append(&message, out);
}

fn outcome(operation: &str, message: Message) -> Result<Bytes, IpcError> {
    match message.kind {
        MessageKind::ApplicationError => Err(service_error(operation, &message)),
        _ => Ok(message.payload),
    }
}

#[cfg(test)]
mod tests;
