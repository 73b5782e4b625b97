//! Runs the shadow session.
//!
//! In: shadow messages, the enforcement state, the configuration. Out: wishes of the shadow for the enforcer; whether
//! the control channel works; `get` and `reported` for the cloud. Every decision is [`ShadowSession`]'s; here are only the effects.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::context::Connected;
use super::enforcer::EnforcerCommand;
use crate::cloud::inbox::{Inbox, InboxEvent};
use crate::cloud::link::LinkState;
use crate::cloud::shadow_message;
use crate::cloud::shadow_session::{SessionEffect, ShadowSession};
use crate::cloud::topics::ShadowTopics;
use crate::document::fault::Fault;
use crate::host::clock;
use crate::host::turns::timed;
use crate::host::net::uplinks::Uplink;
use crate::quarantine::orders::document::{self, Wish};
use crate::quarantine::orders::order::Authority;
use crate::quarantine::proof::state::State;

/// Publishes under way; the session has one request of each kind at most, so there are few.
type Publishes = JoinSet<Result<(), String>>;

/// Runs the session for ever.
pub(super) struct ShadowTask {
    pub(super) connected: Connected,
    /// Where the nucleus is connected.
    pub(super) uplinks: watch::Receiver<Vec<Uplink>>,
}

impl ShadowTask {
    /// Begins anew when the configuration names another shadow; ends when a subscription has failed.
    pub(super) async fn run(self) {
        let thing = self.connected.thing().await;
        let mut config = self.connected.context.config.clone();
        loop {
            let shadow = config.borrow_and_update().shadow.clone();
            let topics = ShadowTopics::new(&thing, shadow.name.as_deref());
            let seed = format!("ew-{:08x}", fastrand::u32(..));
            let session = ShadowSession::new(topics.clone(), shadow.refresh, &seed);
            let changed = async {
                while config.changed().await.is_ok() {
                    if config.borrow_and_update().shadow != shadow {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = self.converse(session, topics) => return,
                () = changed => {}
            }
        }
    }

    async fn converse(&self, mut session: ShadowSession, topics: ShadowTopics) {
        let mut inbox = Inbox::open(
            &self.connected.nucleus,
            topics.subscriptions(),
            ShadowTopics::REQUIRED,
        );
        let mut link = self.connected.nucleus.link();
        let mut states = self.connected.context.enforcer.state();
        let mut uplinks = self.uplinks.clone();
        uplinks.mark_unchanged();
        // Publishes run beside the loop: a nucleus that stalls must not delay an order that arrives meanwhile.
        let mut publishes = JoinSet::new();
        loop {
            let now = clock::now().uptime;
            let state: State = states.borrow_and_update().clone();
            let effects = session.tick(&state, now, fastrand::f64());
            self.carry_out(effects, &mut publishes).await;
            let wake = session
                .next_wake(&state, clock::now().uptime)
                .max(Duration::from_millis(5));
            tokio::select! {
                event = inbox.next() => match event {
                    None => return,
                    Some(event) => self.take(event, &mut session, &topics, &mut publishes).await,
                },
                Some(Ok(Err(why))) = publishes.join_next() => {
                    session.publish_failed(clock::now().uptime);
                    self.broken(&why).await;
                }
                _ = states.changed() => {}
                Ok(()) = uplinks.changed() => {
                    if !uplinks.borrow_and_update().is_empty() {
                        session.reconnected(clock::now().uptime);
                    }
                }
                _ = link.changed() => if let LinkState::Away { why } = link.state() {
                    session.disconnected();
                    let why = why.unwrap_or_else(|| "the nucleus closed the connection".into());
                    self.broken(&format!("no connection to the nucleus: {why}")).await;
                },
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    async fn take(
        &self,
        event: InboxEvent,
        session: &mut ShadowSession,
        topics: &ShadowTopics,
        publishes: &mut Publishes,
    ) {
        let now = clock::now().uptime;
        match event {
            InboxEvent::Ready => session.subscribed(now),
            InboxEvent::Refused { topic, why } => {
                self.broken(&format!("the subscription to {topic} was refused: {why}"))
                    .await;
            }
            InboxEvent::Message { topic, payload } => {
                let Some(suffix) = topics.suffix(&topic) else {
                    return;
                };
                match shadow_message::read(suffix, &payload) {
                    Ok(message) => {
                        let effects = session.receive(message, now);
                        // Only an answer to a question of our own is known to be fresh.
                        let fresh = effects
                            .iter()
                            .any(|effect| matches!(effect, SessionEffect::RoundTrip(_)));
                        if let Some(time) = shadow_message::service_time(&payload).filter(|_| fresh) {
                            self.tell(EnforcerCommand::ServiceTime(time)).await;
                        }
                        self.carry_out(effects, publishes).await;
                    }
                    Err(problem) => self.refuse_message(problem).await,
                }
            }
        }
        let board = &self.connected.context.board;
        board.update(|status| status.cloud.shadow_version = session.version());
    }

    /// A message that cannot be read may have been an order: it is reported as refused, and nothing changes.
    async fn refuse_message(&self, problem: String) {
        let faults = vec![Fault::new("shadow", problem)];
        self.tell(EnforcerCommand::Wish {
            authority: Authority::Shadow,
            wish: Err(faults),
        })
        .await;
    }

    async fn carry_out(&self, effects: Vec<SessionEffect>, publishes: &mut Publishes) {
        for effect in effects {
            match effect {
                SessionEffect::Publish { topic, payload } => self.publish(topic, &payload, publishes),
                SessionEffect::Desired(desired) => self.obey(desired.as_ref()).await,
                SessionEffect::RoundTrip(sent) => self.connected.context.channel.round_trip(sent).await,
                SessionEffect::Broken(why) => self.broken(&why).await,
                SessionEffect::Reconnect => self
                    .connected
                    .nucleus
                    .reconnect("the shadow service has been silent"),
            }
        }
    }

    fn publish(&self, topic: String, payload: &Value, publishes: &mut Publishes) {
        let nucleus = self.connected.nucleus.clone();
        let payload = payload.to_string();
        let publish = async move {
            let handed = nucleus.publish(&topic, payload.as_bytes()).await;
            handed.map_err(|error| format!("could not publish to {topic}: {}", crate::error_text(&error)))
        };
        publishes.spawn(timed("a shadow publish", Box::pin(publish)));
    }

    async fn obey(&self, desired: Option<&Value>) {
        let wish = document::read(desired, Authority::Shadow, clock::now().wall);
        let spoken = wish.is_ok() && desired.is_some_and(|value| !value.is_null());
        self.tell(EnforcerCommand::Wish {
            authority: Authority::Shadow,
            wish,
        })
        .await;
        if spoken {
            // The cloud has said what it wants; its silence would not end what a damaged journal made us assume.
            let wish = Ok(Wish::Release);
            self.tell(EnforcerCommand::Wish {
                authority: Authority::Recovery,
                wish,
            })
            .await;
        }
    }

    async fn broken(&self, why: &str) {
        self.connected.context.channel.broken(why).await;
    }

    async fn tell(&self, command: EnforcerCommand) {
        self.connected.context.enforcer.send(command).await;
    }
}
