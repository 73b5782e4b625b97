//! Runs the shadow session.
//!
//! In: shadow messages, the enforcement state, the configuration. Out: wishes of the shadow for the enforcer; whether
//! the control channel works; `get` and `reported` for the cloud. Every decision is [`ShadowSession`]'s; here are only the
//! effects. How far the shadow was heard outlives session, task and agent: the enforcer keeps it with the orders.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::context::Connected;
use super::enforcer::EnforcerCommand;
use super::nucleus_watch::{NucleusSigns, Reconnects};
use super::publishing::PublishError;
use crate::cloud::inbox::{Inbox, InboxEvent, InboxTopics};
use crate::cloud::link::LinkState;
use crate::cloud::shadow_message;
use crate::cloud::shadow_session::{SessionEffect, ShadowSession};
use crate::cloud::topics::ShadowTopics;
use crate::config::Config;
use crate::document::fault::Fault;
use crate::host::clock;
use crate::host::net::local_ports;
use crate::host::turns::timed;
use crate::quarantine::orders::document::{self, Wish};
use crate::quarantine::orders::leftover::leftover;
use crate::quarantine::orders::order::Authority;
use crate::quarantine::proof::journal::ShadowVersion;
use crate::quarantine::proof::state::State;

/// The enforcer is rebuilt in less, unless it fails again and again.
const ENFORCER_RETRY: Duration = Duration::from_secs(1);

/// From one look whether those before may be unsubscribed to the next.
const LOOK_FOR_QUIET: Duration = Duration::from_millis(500);
/// Shadows before this one that are still subscribed while it is not proven.
const SHADOWS_BEFORE: usize = 2;

/// Publishes under way; the session bounds its requests, so there are few. One that failed says whose
/// token it carried, and why.
type Publishes = JoinSet<Result<(), NotPublished>>;

/// A request that was not handed over.
struct NotPublished {
    topic: String,
    token: String,
    why: String,
    /// How long its topic is left alone, if that is the reason.
    left_alone: Option<Duration>,
}

/// Thing, and name of its shadow unless it is the classic one.
type ShadowName<'a> = (&'a str, Option<&'a str>);

/// What one shadow is talked of with.
struct Conversation<'a> {
    session: &'a mut ShadowSession,
    inbox: &'a mut Inbox,
    /// What is subscribed of the shadows before this one.
    before: &'a mut Vec<Inbox>,
    /// This one was proven.
    proven: bool,
    config: &'a mut watch::Receiver<Config>,
    topics: &'a ShadowTopics,
    of: ShadowName<'a>,
}

/// Why it ended.
enum Ended {
    /// A subscription has failed.
    Inbox,
    /// The configuration names another shadow.
    OtherShadow,
}

/// Runs the session for ever.
pub(super) struct ShadowTask {
    pub(super) connected: Connected,
    /// What is seen of the nucleus.
    pub(super) signs: watch::Receiver<NucleusSigns>,
}

impl ShadowTask {
    /// Begins anew when the configuration names another shadow; ends when a subscription has failed.
    pub(super) async fn run(self) {
        let thing = self.connected.thing().await;
        let mut config = self.connected.context.config.clone();
        // What is subscribed of the shadow before is given up when the one after it was proven: that may be the same again.
        let mut before = Vec::new();
        loop {
            let shadow = config.borrow_and_update().shadow.clone();
            let topics = ShadowTopics::new(&thing, shadow.name.as_deref());
            let seed = format!("ew-{:08x}", fastrand::u32(..));
            let name = shadow.name.as_deref();
            let heard = self.heard().await.filter(|heard| heard.is_of(&thing, name));
            let mut session = ShadowSession::new(topics.clone(), shadow.refresh, &seed)
                .on_lite(self.connected.nucleus.is_lite())
                .resume(heard.map(|heard| heard.version));
            let mut inbox = self.listen(&topics);
            before.drain(..before.len().saturating_sub(SHADOWS_BEFORE));
            let of = (thing.as_str(), name);
            let conversation = Conversation {
                session: &mut session,
                inbox: &mut inbox,
                before: &mut before,
                proven: false,
                config: &mut config,
                topics: &topics,
                of,
            };
            match self.converse(conversation).await {
                Ended::Inbox => return,
                Ended::OtherShadow => before.push(inbox),
            }
        }
    }

    fn listen(&self, topics: &ShadowTopics) -> Inbox {
        let nucleus = &self.connected.nucleus;
        // On lite two whole documents, which the wide filter brings, do not fit a packet.
        let listened = InboxTopics {
            wide: (!nucleus.is_lite()).then(|| topics.wide()),
            topics: topics.subscriptions(),
            required: ShadowTopics::REQUIRED,
        };
        Inbox::open(nucleus, listened)
    }

    /// How far a shadow was heard in this life or an earlier one.
    async fn heard(&self) -> Option<ShadowVersion> {
        loop {
            match self.connected.context.enforcer.shadow_heard().await {
                Ok(heard) => return heard,
                // The enforcer failed with the question and is rebuilt; or the agent is stopping.
                Err(_) => tokio::time::sleep(ENFORCER_RETRY).await,
            }
        }
    }

    async fn converse(&self, mut talk: Conversation<'_>) -> Ended {
        let of = talk.of;
        let mut link = self.connected.nucleus.link();
        let mut states = self.connected.context.enforcer.state();
        let mut connections = Reconnects::after(&self.signs);
        // Publishes run beside the loop: a nucleus that stalls must not delay an order that arrives meanwhile.
        let mut publishes = JoinSet::new();
        loop {
            let state: State = states.borrow_and_update().clone();
            let wake = self.attend(&mut talk, &state, &mut publishes).await;
            let session = &mut *talk.session;
            tokio::select! {
                event = talk.inbox.next() => match event {
                    None => return Ended::Inbox,
                    Some(event) => {
                        let effects = self.take(event, session, talk.topics).await;
                        self.carry_out(effects, session, of, &mut publishes).await;
                    }
                },
                Some(Ok(Err(request))) = publishes.join_next() => {
                    let NotPublished { topic, token, why, left_alone } = request;
                    let now = clock::now().uptime;
                    let effects = match left_alone {
                        Some(wait) => session.left_alone(&token, &topic, wait, why, now),
                        None => session.publish_failed(&token, why, now),
                    };
                    self.carry_out(effects, session, of, &mut publishes).await;
                }
                _ = states.changed() => {}
                Ok(()) = talk.config.changed() => {
                    let shadow = talk.config.borrow_and_update().shadow.clone();
                    if shadow.name.as_deref() != of.1 {
                        return Ended::OtherShadow;
                    }
                    // A number that changes is no reason to subscribe anew.
                    session.refresh_every(shadow.refresh, clock::now().uptime);
                }
                () = connections.next() => {
                    talk.inbox.hasten();
                    session.reconnected(clock::now().uptime);
                }
                _ = link.changed() => if let LinkState::Away { why } = link.state() {
                    let why = why.unwrap_or_else(|| "the nucleus closed the connection".into());
                    let effects = session.disconnected(&why);
                    self.carry_out(effects, session, of, &mut publishes).await;
                },
                () = tokio::time::sleep(wake) => {}
            }
        }
    }

    /// Does what is due; how long nothing else is.
    async fn attend(
        &self,
        talk: &mut Conversation<'_>,
        state: &State,
        publishes: &mut Publishes,
    ) -> Duration {
        if talk.session.take_proof() {
            talk.inbox.settle();
            talk.proven = true;
        }
        if talk.proven && talk.inbox.is_quiet() {
            talk.before.clear();
        }
        let effects = talk.session.tick(state, clock::now().uptime, fastrand::f64());
        if effects.contains(&SessionEffect::Resubscribe) {
            talk.inbox.renew();
        }
        self.carry_out(effects, talk.session, talk.of, publishes).await;
        let mut wake = talk.session.next_wake(state, clock::now().uptime);
        if talk.proven && !talk.before.is_empty() {
            wake = wake.min(LOOK_FOR_QUIET);
        }
        wake.max(Duration::from_millis(5))
    }

    async fn take(
        &self,
        event: InboxEvent,
        session: &mut ShadowSession,
        topics: &ShadowTopics,
    ) -> Vec<SessionEffect> {
        let now = clock::now().uptime;
        let (topic, payload) = match event {
            InboxEvent::Ready { took } => {
                session.subscribed(took, now);
                return Vec::new();
            }
            InboxEvent::Renewed { by_topics } => {
                session.renewed(by_topics, now);
                return Vec::new();
            }
            InboxEvent::Lost => {
                session.lost(now);
                return Vec::new();
            }
            InboxEvent::Narrowed { why } => {
                session.narrowed(&topics.wide(), &why);
                return Vec::new();
            }
            InboxEvent::Refused { topic, why } => return session.refused(&topic, &why, now),
            InboxEvent::Message { topic, payload } => (topic, payload),
        };
        let Some(suffix) = topics.suffix(&topic) else {
            return Vec::new();
        };
        let message = match shadow_message::read(suffix, &payload) {
            Ok(message) => message,
            Err(problem) => {
                self.refuse_message(problem).await;
                return Vec::new();
            }
        };
        if session.is_ours(&message) {
            self.connected.publishing.answered(&topic);
        }
        let effects = session.receive(message, now);
        // Only an answer to a question of our own is known to be fresh.
        let fresh = effects
            .iter()
            .any(|effect| matches!(effect, SessionEffect::RoundTrip(_)));
        if let Some(time) = shadow_message::service_time(&payload).filter(|_| fresh) {
            self.tell(EnforcerCommand::ServiceTime(time)).await;
        }
        effects
    }

    /// A message that cannot be read may have been an order: it is reported as refused, and nothing changes.
    async fn refuse_message(&self, problem: String) {
        self.refuse(vec![Fault::new("shadow", problem)]).await;
    }

    async fn refuse(&self, faults: Vec<Fault>) {
        self.tell(EnforcerCommand::Wish {
            authority: Authority::Shadow,
            wish: Err(faults),
        })
        .await;
    }

    /// Carries out what the session wants, which is of the version that it has heard last.
    async fn carry_out(
        &self,
        effects: Vec<SessionEffect>,
        session: &ShadowSession,
        (thing, name): ShadowName<'_>,
        publishes: &mut Publishes,
    ) {
        let heard = || {
            session.version().map(|version| ShadowVersion {
                thing: thing.to_owned(),
                name: name.map(str::to_owned),
                version,
            })
        };
        let channel = &self.connected.context.channel;
        for effect in effects {
            match effect {
                SessionEffect::Publish {
                    topic,
                    token,
                    payload,
                } => self.publish(topic, token, &payload, publishes),
                SessionEffect::Desired(desired) => self.obey(desired.as_ref(), heard(), true).await,
                SessionEffect::Heard(desired) => self.obey(Some(&desired), heard(), false).await,
                SessionEffect::RoundTrip(sent) => channel.round_trip(sent).await,
                SessionEffect::Broken(why) => {
                    let without_ports = self.is_without_ports();
                    channel.without_ports(without_ports);
                    let nucleus = self.connected.nucleus_is_there() && !without_ports;
                    channel.broken(&why, nucleus).await;
                }
                // Done by whoever holds the inbox, before anything is published.
                SessionEffect::Resubscribe => {}
                SessionEffect::Reconnect => self
                    .connected
                    .nucleus
                    .reconnect("the shadow service has been silent"),
            }
        }
        channel.trouble(session.trouble().as_deref());
        channel.doubted(session.doubt());
        let board = &self.connected.context.board;
        board.update(|status| status.cloud.shadow_version = session.version());
    }

    /// Whether the nucleus has no connection, and the kernel has no port left for another: nobody can ask then either.
    fn is_without_ports(&self) -> bool {
        let channel = self.connected.context.channel.watch();
        let is_away = channel.borrow().away.is_some();
        let remote = self.signs.borrow().remote.filter(|_| is_away);
        remote.is_some_and(local_ports::are_used_up)
    }

    fn publish(&self, topic: String, token: String, payload: &Value, publishes: &mut Publishes) {
        let publishing = self.connected.publishing.clone();
        let payload = payload.to_string();
        let publish = async move {
            let handed = publishing.publish(&topic, payload.as_bytes()).await;
            handed.map_err(|error| {
                let (why, left_alone) = match &error {
                    PublishError::Held(hold) => (hold.to_string(), Some(hold.wait())),
                    PublishError::Nucleus(_) => (
                        format!("could not publish to {topic}: {}", crate::error_text(&error)),
                        None,
                    ),
                };
                NotPublished {
                    topic,
                    token,
                    why,
                    left_alone,
                }
            })
        };
        publishes.spawn(timed("a shadow publish", Box::pin(publish)));
    }

    async fn obey(&self, desired: Option<&Value>, heard: Option<ShadowVersion>, settled: bool) {
        let wish = match document::read(desired, Authority::Shadow, clock::now().wall) {
            Ok(wish) => wish,
            Err(mut faults) => {
                faults.extend(desired.and_then(|desired| leftover(desired, &faults)));
                self.refuse(faults).await;
                return;
            }
        };
        self.tell(EnforcerCommand::ShadowWish { wish, heard, settled })
            .await;
        if settled && desired.is_some_and(|value| !value.is_null()) {
            // The cloud has said what it wants; its silence would not end what a damaged journal made us assume.
            let wish = Ok(Wish::Release);
            self.tell(EnforcerCommand::Wish {
                authority: Authority::Recovery,
                wish,
            })
            .await;
        }
    }

    async fn tell(&self, command: EnforcerCommand) {
        self.connected.context.enforcer.send(command).await;
    }
}
