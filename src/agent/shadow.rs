//! Runs the shadow session.
//!
//! In: shadow messages, the enforcement state, the configuration. Out: wishes of the shadow and round trips for the
//! enforcer; `get` and `reported` for the cloud. Every decision is [`Session`]'s; here are only the effects.

use std::time::Duration;

use greengrass_ipc::{Client, ConnectionState, Qos};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::board::Board;
use super::enforcer::{Command, Handle};
use crate::cloud::inbox::{Inbox, InboxEvent};
use crate::cloud::shadow_message;
use crate::cloud::shadow_session::{Effect, Session};
use crate::cloud::topics::ShadowTopics;
use crate::config::Config;
use crate::document::fault::Fault;
use crate::host::clock;
use crate::host::net::uplinks::Uplink;
use crate::quarantine::orders::document::{self, Wish};
use crate::quarantine::orders::order::Authority;
use crate::quarantine::proof::state::State;

/// Publishes under way; the session has one request of each kind at most, so there are few.
type Publishes = JoinSet<Result<(), String>>;

/// Runs the session for ever.
pub struct ShadowTask {
    /// The nucleus.
    pub client: Client,
    /// The thing.
    pub thing: String,
    /// The configuration.
    pub config: watch::Receiver<Config>,
    /// Enforcement.
    pub enforcer: Handle,
    /// Told whether the control channel works.
    pub works: watch::Sender<bool>,
    /// Where the nucleus is connected.
    pub uplinks: watch::Receiver<Vec<Uplink>>,
    /// The board.
    pub board: Board,
}

impl ShadowTask {
    /// Runs until it is dropped; begins anew when the configuration names another shadow.
    pub async fn run(mut self) {
        loop {
            let shadow = self.config.borrow_and_update().shadow.clone();
            let topics = ShadowTopics::new(&self.thing, shadow.name.as_deref());
            let seed = format!("ew-{:08x}", fastrand::u32(..));
            let session = Session::new(topics.clone(), shadow.refresh, &seed);
            let mut config = self.config.clone();
            let changed = async {
                while config.changed().await.is_ok() {
                    if config.borrow_and_update().shadow != shadow {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = self.converse(session, topics) => {}
                () = changed => {}
            }
        }
    }

    async fn converse(&self, mut session: Session, topics: ShadowTopics) {
        let mut inbox = Inbox::open(&self.client, topics.subscriptions(), ShadowTopics::REQUIRED);
        let mut connection = self.client.connection();
        let mut states = self.enforcer.state();
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
                _ = connection.changed() => {
                    let lost = match &*connection.borrow_and_update() {
                        ConnectionState::Connecting { last_error, .. } => Some(last_error.clone()),
                        _ => None,
                    };
                    if let Some(why) = lost {
                        session.disconnected();
                        let why = why.unwrap_or_else(|| "the nucleus closed the connection".into());
                        self.broken(&format!("no connection to the nucleus: {why}")).await;
                    }
                }
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    async fn take(
        &self,
        event: InboxEvent,
        session: &mut Session,
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
                            .any(|effect| matches!(effect, Effect::RoundTrip(_)));
                        if let Some(time) = shadow_message::service_time(&payload).filter(|_| fresh) {
                            self.enforcer.send(Command::ServiceTime(time)).await;
                        }
                        self.carry_out(effects, publishes).await;
                    }
                    Err(problem) => self.refuse_message(problem).await,
                }
            }
        }
        self.board
            .update(|status| status.cloud.shadow_version = session.version());
    }

    /// A message that cannot be read may have been an order: it is reported as refused, and nothing changes.
    async fn refuse_message(&self, problem: String) {
        let faults = vec![Fault::new("shadow", problem)];
        self.enforcer
            .send(Command::Wish {
                authority: Authority::Shadow,
                wish: Err(faults),
            })
            .await;
    }

    async fn carry_out(&self, effects: Vec<Effect>, publishes: &mut Publishes) {
        for effect in effects {
            match effect {
                Effect::Publish { topic, payload } => self.publish(topic, &payload, publishes),
                Effect::Desired(desired) => self.obey(desired.as_ref()).await,
                Effect::RoundTrip(sent) => self.round_trip(sent).await,
                Effect::Broken(why) => self.broken(&why).await,
                Effect::Reconnect => self.client.reconnect("the shadow service has been silent"),
            }
        }
    }

    fn publish(&self, topic: String, payload: &Value, publishes: &mut Publishes) {
        let client = self.client.clone();
        let payload = payload.to_string();
        publishes.spawn(async move {
            // QoS 0: what is not delivered now must not arrive later from a spooler; the session asks again by itself.
            let outcome = client
                .publish_to_iot_core(&topic, Qos::AtMostOnce, payload.as_bytes())
                .await;
            outcome.map_err(|error| format!("could not publish to {topic}: {}", crate::error_text(&error)))
        });
    }

    async fn obey(&self, desired: Option<&Value>) {
        let wish = document::read(desired, Authority::Shadow, clock::now().wall);
        let spoken = wish.is_ok() && desired.is_some_and(|value| !value.is_null());
        self.enforcer
            .send(Command::Wish {
                authority: Authority::Shadow,
                wish,
            })
            .await;
        if spoken {
            // The cloud has said what it wants; its silence would not end what a damaged journal made us assume.
            let wish = Ok(Wish::Release);
            self.enforcer
                .send(Command::Wish {
                    authority: Authority::Recovery,
                    wish,
                })
                .await;
        }
    }

    async fn round_trip(&self, sent: Duration) {
        self.board.update(|status| {
            if !status.cloud.channel_works {
                tracing::info!("the control channel works");
            }
            status.cloud.channel_works = true;
            status.cloud.last_round_trip = Some(clock::now().wall);
            status.cloud.last_error = None;
        });
        self.works
            .send_if_modified(|works| !std::mem::replace(works, true));
        self.enforcer.send(Command::RoundTrip { sent }).await;
    }

    async fn broken(&self, why: &str) {
        let news = {
            let status = self.board.read().cloud;
            status.channel_works || status.last_error.as_deref() != Some(why)
        };
        if news {
            tracing::warn!("the control channel does not work: {why}");
        }
        self.board.update(|status| {
            status.cloud.channel_works = false;
            status.cloud.last_error = Some(why.to_owned());
        });
        self.works
            .send_if_modified(|works| std::mem::replace(works, false));
        self.enforcer.send(Command::Channel { works: false }).await;
    }
}
