//! The shadow session: when to ask, what to believe, what to report (docs/reference/shadow.md#catching-up).
//!
//! In: [`ShadowMessage`]s, the enforcement [`State`], `now` (uptime). Out: [`SessionEffect`]s. Pure.
//!
//! Invariants: silence never means "not quarantined"; a message older than the newest one seen changes nothing, also over
//! a restart, except an answer to our own `get`, which is the truth of that moment (versions restart when a shadow is
//! deleted); while anything may have been missed, a message lets nobody go before that answer; `desired` is never written;
//! one request of each kind is under way at most.
//!
//! Only a question tells whether the control channel works, because nothing but the channel stands in its way:
//!
//! | what happens | what it proves |
//! |---|---|
//! | an answer with a token of ours, of any kind and code | the channel works: the service had the request, and we its answer |
//! | a `get` is not answered, or not taken by the nucleus | it does not: nobody can order through it |
//! | no nucleus, or answers cannot be subscribed and so nothing is asked | the same |
//! | a report is not answered, or not taken | nothing: it may be too large, forbidden, or lost alone. So a question follows |
//! | a topic is refused while others are heard | nothing: the next question tells |

use std::time::Duration;

use serde_json::{Value, json};

use super::shadow_message::ShadowMessage;
use super::shadow_request::{ANSWER_LIMIT, MAX_PAUSE, Requests, ShadowRequest, Tokens};
use super::topics::ShadowTopics;
use crate::quarantine::proof::reported::{reported, same_news, with_removals};
use crate::quarantine::proof::state::{Phase, State};

/// Unanswered questions in a row after which the IPC connection is made anew: on nucleus lite subscriptions die
/// without a word when a core service restarts.
const RECONNECT_AFTER: u32 = 3;
/// From one `get` to the next while a plan waits for its confirmation.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// From a report that the service had no time for to the next one, at least.
const BUSY_PAUSE: Duration = Duration::from_secs(2);

/// What the session wants done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SessionEffect {
    Publish {
        topic: String,
        /// Whose fate is asked for, in [`ShadowSession::publish_failed`].
        token: String,
        payload: Value,
    },
    /// `desired.quarantine` is this (`None`: absent), and nothing newer can have been missed.
    Desired(Option<Value>),
    /// A message says that `desired.quarantine` is this. It may be an old one: it may close, and let nobody go.
    Heard(Value),
    /// A request sent at this uptime was answered: the control channel works.
    RoundTrip(Duration),
    /// The control channel does not work; why.
    Broken(String),
    /// Connect to the nucleus anew and subscribe again.
    Reconnect,
}

/// The session's memory.
#[derive(Debug)]
pub(crate) struct ShadowSession {
    topics: ShadowTopics,
    refresh: Duration,
    tokens: Tokens,
    ready: bool,
    version: Option<u64>,
    /// `desired.quarantine` as last heard; the outer `None` means never heard.
    desired: Option<Option<Value>>,
    /// Uptime at which a message last told the version.
    told: Option<Duration>,
    get: Requests,
    update: Requests,
    last_get: Duration,
    /// Questions without an answer in a row.
    silent: u32,
    /// Which topic is not heard and why, although it was.
    unheard: Option<String>,
    /// The last answer was older than what is known.
    doubted: bool,
    accepted: Option<Value>,
    /// The service's `reported.quarantine` is known to be no object.
    plain_reported: bool,
    /// Something was not heard since the last whole document.
    missed: bool,
}

impl ShadowSession {
    /// A session for these topics. `seed` makes tokens unique over restarts.
    pub(crate) fn new(topics: ShadowTopics, refresh: Duration, seed: &str) -> Self {
        Self {
            topics,
            refresh,
            tokens: Tokens::new(seed),
            ready: false,
            version: None,
            desired: None,
            told: None,
            get: Requests::default(),
            update: Requests::default(),
            last_get: Duration::ZERO,
            silent: 0,
            unheard: None,
            doubted: false,
            accepted: None,
            plain_reported: false,
            missed: true,
        }
    }

    /// The same, with the version that was heard before: older messages are not new because nobody remembers them.
    pub(crate) fn resume(mut self, version: Option<u64>) -> Self {
        self.version = version;
        self
    }

    /// Every topic is subscribed, for the first time or anew, or messages were lost: ask for the document. What is under way
    /// is asked again, because its answer may be among what nobody heard.
    pub(crate) fn subscribed(&mut self, now: Duration) {
        self.ready = true;
        self.missed = true;
        self.unheard = None;
        for requests in [&mut self.get, &mut self.update] {
            requests.forget();
            requests.next = now;
        }
    }

    /// A topic was refused; it is tried again.
    pub(crate) fn refused(&mut self, topic: &str, why: &str, now: Duration) -> Vec<SessionEffect> {
        let why = format!("the subscription to {topic} was refused: {why}");
        if !self.topics.requires(topic) {
            tracing::warn!("{why}");
            return Vec::new();
        }
        if !self.ready {
            // Nothing can be asked, and no order can be heard.
            return vec![SessionEffect::Broken(why)];
        }
        self.unheard = Some(why);
        self.look_into_it(now);
        Vec::new()
    }

    /// The nucleus is connected to the cloud anew: what was said meanwhile was missed.
    pub(crate) fn reconnected(&mut self, now: Duration) {
        self.missed = true;
        self.get.hasten(now);
    }

    /// There is no connection to the nucleus; nothing is asked until [`ShadowSession::subscribed`]. The way from the nucleus
    /// to the cloud may be as good as ever, but no order comes through, and rules did not do that: the nucleus is reached
    /// over a Unix socket.
    pub(crate) fn disconnected(&mut self, why: &str) -> Vec<SessionEffect> {
        self.ready = false;
        self.missed = true;
        self.get.forget();
        self.update.forget();
        vec![SessionEffect::Broken(format!(
            "no connection to the nucleus: {why}"
        ))]
    }

    /// The request with this token could not be handed to the nucleus. The other one under way is none of its business.
    pub(crate) fn publish_failed(&mut self, token: &str, why: String, now: Duration) -> Vec<SessionEffect> {
        if self.get.take(Some(token)).is_some() {
            self.get.failed(why.clone(), now);
            return vec![SessionEffect::Broken(why)];
        }
        if self.update.take(Some(token)).is_some() {
            self.update.failed(why, now);
            self.look_into_it(now);
        }
        Vec::new()
    }

    /// Something failed that proves nothing of the channel: a question tells, unless questions fail as well.
    fn look_into_it(&mut self, now: Duration) {
        if !self.get.fails() {
            self.get.hasten(now);
        }
    }

    /// What is wrong besides the channel, or although it works.
    pub(crate) fn trouble(&self) -> Option<&str> {
        let of_requests = || self.get.trouble().or_else(|| self.update.trouble());
        self.unheard.as_deref().or_else(of_requests)
    }

    /// The shadow's version as last heard.
    pub(crate) fn version(&self) -> Option<u64> {
        self.version
    }

    /// Takes one message.
    pub(crate) fn receive(&mut self, message: ShadowMessage, now: Duration) -> Vec<SessionEffect> {
        match message {
            ShadowMessage::Got {
                token,
                version,
                desired,
                reported,
            } => self.got(token.as_deref(), version, desired, reported, now),
            ShadowMessage::GetRejected { token, code } => self.get_rejected(token.as_deref(), code, now),
            ShadowMessage::Delta { version, quarantine } if self.is_whole(version, quarantine.as_ref()) => {
                let mut effects = self
                    .news(version, quarantine.clone().map(Some), now)
                    .unwrap_or_default();
                effects.extend(self.learn(quarantine));
                effects
            }
            ShadowMessage::Delta { version, quarantine } => {
                self.news(version, quarantine.map(Some), now).unwrap_or_default()
            }
            ShadowMessage::Updated {
                token,
                version,
                desired,
            } => self.updated(token.as_deref(), version, desired, now),
            ShadowMessage::UpdateRejected { token, code, message } => {
                self.update_rejected(token.as_deref(), code, &message, now)
            }
            ShadowMessage::Deleted => {
                self.accepted = None;
                self.missed = true;
                // The message may be late, so the version stays: a shadow that is gone or made anew says so to the next
                // questions.
                self.get.next = now;
                Vec::new()
            }
        }
    }

    /// Whether a delta carries an order whole: it names what differs from what is reported, and as long as that is no
    /// object, everything in the order differs. The order is asked for all the same; this only saves a round trip.
    fn is_whole(&self, version: u64, quarantine: Option<&Value>) -> bool {
        let nothing_missed = !self.missed
            && self
                .version
                .is_some_and(|known| known <= version && follows(known, version));
        let says_posture = quarantine.is_some_and(|value| value.get("posture").is_some());
        self.plain_reported && nothing_missed && says_posture
    }

    /// Sends what is due.
    pub(crate) fn tick(&mut self, state: &State, now: Duration, jitter: f64) -> Vec<SessionEffect> {
        let mut effects = self.expire_requests(now);
        if !self.ready {
            return effects;
        }
        let due = match state.phase {
            Phase::Provisional => self.get.next.min(self.last_get + CONFIRM_EVERY),
            _ => self.get.next,
        };
        if self.get.is_idle() && due <= now {
            self.get.next = now + self.refresh.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0));
            self.last_get = now;
            let request = self.tokens.request(now, json!({}));
            effects.push(request.publish(self.topics.get()));
            self.get.send(request);
        }
        effects.extend(self.report(state, now));
        effects
    }

    /// How long nothing is due.
    pub(crate) fn next_wake(&self, state: &State, now: Duration) -> Duration {
        let asked = [&self.get, &self.update];
        let mut due: Vec<Duration> = asked.into_iter().filter_map(Requests::late_at).collect();
        if self.ready && self.get.is_idle() {
            due.push(self.get.next);
            if state.phase == Phase::Provisional {
                due.push(self.last_get + CONFIRM_EVERY);
            }
        }
        if self.ready && self.update.is_idle() && self.update.next > now {
            due.push(self.update.next);
        }
        due.into_iter()
            .min()
            .map_or(MAX_PAUSE, |at| at.saturating_sub(now))
    }

    fn got(
        &mut self,
        token: Option<&str>,
        version: u64,
        desired: Option<Value>,
        reported: Value,
        now: Duration,
    ) -> Vec<SessionEffect> {
        let Some(ShadowRequest { sent, .. }) = self.get.take(token) else {
            // Somebody else's question. Its answer is as whole as ours would be, but ours says when it was asked.
            if self.version.is_none_or(|known| version > known) {
                self.get.hasten(now);
            }
            return Vec::new();
        };
        self.answered(now);
        // Topics have no order between them: an answer may be older than a delta that came before it. Versions also
        // fall when a shadow is deleted and made anew; then the next answer says the same.
        if self.version.is_some_and(|known| version < known) && !self.doubted {
            return self.doubt(sent, now);
        }
        self.doubted = false;
        self.version = Some(version);
        self.plain_reported = !reported["quarantine"].is_object();
        self.missed = false;
        self.accepted = Some(reported);
        let mut effects = vec![SessionEffect::RoundTrip(sent)];
        effects.extend(self.learn(desired));
        effects
    }

    /// An answer may be older than what is known: it proves the channel, and the next one is believed.
    fn doubt(&mut self, sent: Duration, now: Duration) -> Vec<SessionEffect> {
        self.doubted = true;
        self.get.next = now;
        vec![SessionEffect::RoundTrip(sent)]
    }

    /// The service is heard again: what was to be reported need not wait for the end of its pause.
    fn answered(&mut self, now: Duration) {
        if self.get.fails() {
            self.update.hasten(now);
        }
        self.get.succeeded();
        self.silent = 0;
    }

    fn get_rejected(&mut self, token: Option<&str>, code: u64, now: Duration) -> Vec<SessionEffect> {
        let Some(ShadowRequest { sent, .. }) = self.get.take(token) else {
            return Vec::new();
        };
        if code == 404 {
            self.answered(now);
            // Formed before a message that came meanwhile and spoke of a shadow?
            if self.told.is_some_and(|told| told >= sent) && !self.doubted {
                return self.doubt(sent, now);
            }
            self.doubted = false;
            self.version = None;
            self.told = None;
            self.accepted = None;
            // Whatever is heard next may be of the shadow that is gone, until an answer tells.
            self.missed = true;
            let mut effects = vec![SessionEffect::RoundTrip(sent)];
            effects.extend(self.learn(None));
            return effects;
        }
        // Busy, broken or not allowed to: the service says so itself, so the channel works. What is ordered is not known.
        self.silent = 0;
        self.get.failed(
            format!("the shadow service refused to give the shadow (code {code})"),
            now,
        );
        vec![SessionEffect::RoundTrip(sent)]
    }

    fn updated(
        &mut self,
        token: Option<&str>,
        version: u64,
        desired: Option<Option<Value>>,
        now: Duration,
    ) -> Vec<SessionEffect> {
        let mut effects = Vec::new();
        if let Some(request) = self.update.take(token) {
            let reported = &request.body["state"]["reported"];
            if let Some(quarantine) = reported.get("quarantine") {
                self.plain_reported = !quarantine.is_object();
            }
            self.accepted = Some(reported.clone());
            self.update.succeeded();
            effects.push(SessionEffect::RoundTrip(request.sent));
        }
        effects.extend(self.news(version, desired, now).unwrap_or_default());
        effects
    }

    fn update_rejected(
        &mut self,
        token: Option<&str>,
        code: u64,
        message: &str,
        now: Duration,
    ) -> Vec<SessionEffect> {
        let Some(request) = self.update.take(token) else {
            return Vec::new();
        };
        let why = format!("the shadow service refused our report (code {code}): {message}");
        if matches!(code, 409 | 429 | 500..) {
            self.update.failed(why, now);
            self.update.next = self.update.next.max(now + BUSY_PAUSE);
        } else {
            // A document that was refused is refused again; the next change is another document.
            self.update.refused_for_good(why);
            self.accepted = Some(request.body["state"]["reported"].clone());
        }
        vec![SessionEffect::RoundTrip(request.sent)]
    }

    /// Takes what somebody wrote, unless it is older than what is known; `None` when it is.
    fn news(
        &mut self,
        version: u64,
        desired: Option<Option<Value>>,
        now: Duration,
    ) -> Option<Vec<SessionEffect>> {
        if self.version.is_some_and(|known| version < known) {
            // Late, or of a shadow that was made anew unseen: the answer to a question of our own tells.
            self.get.hasten(now + self.get.pause());
            return None;
        }
        if self.version.is_some_and(|known| !follows(known, version)) {
            // Something in between was lost, or it is of a shadow that was deleted and had counted further.
            self.missed = true;
            self.get.hasten(now);
        }
        self.version = Some(version);
        self.told = Some(now);
        match desired {
            // Deltas and updates carry only what differs or was written: a piece of an order is no order.
            Some(Some(Value::Object(_))) => {
                self.get.hasten(now);
                Some(Vec::new())
            }
            Some(desired) if self.missed => {
                // The answer to a question under way is enough: if it is older than this, another one follows.
                if self.get.is_idle() {
                    self.look_into_it(now);
                }
                Some(desired.map(SessionEffect::Heard).into_iter().collect())
            }
            Some(desired) => Some(self.learn(desired)),
            None => Some(Vec::new()),
        }
    }

    fn learn(&mut self, desired: Option<Value>) -> Vec<SessionEffect> {
        self.desired = Some(desired.clone());
        vec![SessionEffect::Desired(desired)]
    }

    fn report(&mut self, state: &State, now: Duration) -> Option<SessionEffect> {
        let desired = self.desired.clone()?;
        if !self.update.is_idle() || self.update.next > now || state.phase == Phase::Starting {
            return None;
        }
        let body = reported(state, desired.as_ref());
        if self
            .accepted
            .as_ref()
            .is_some_and(|accepted| same_news(accepted, &body))
        {
            return None;
        }
        // Only the echoed order can leave something behind; the status names every key of its own.
        let mut body = body;
        if let (Some(own), Some(known)) = (
            body.get("quarantine"),
            self.accepted.as_ref().and_then(|a| a.get("quarantine")),
        ) {
            body["quarantine"] = with_removals(own.clone(), known);
        }
        let request = self.tokens.request(now, json!({ "state": { "reported": body } }));
        let effect = request.publish(self.topics.update());
        self.update.send(request);
        Some(effect)
    }

    fn expire_requests(&mut self, now: Duration) -> Vec<SessionEffect> {
        let seconds = ANSWER_LIMIT.as_secs();
        if self.update.take_late(now).is_some() {
            let why = format!("the shadow service did not answer to our report within {seconds} s");
            self.update.failed(why, now);
            self.look_into_it(now);
        }
        if self.get.take_late(now).is_none() {
            return Vec::new();
        }
        let why = format!("the shadow service did not answer within {seconds} s");
        self.get.failed(why.clone(), now);
        self.silent = self.silent.saturating_add(1);
        let mut effects = vec![SessionEffect::Broken(why)];
        if self.silent.is_multiple_of(RECONNECT_AFTER) {
            effects.push(SessionEffect::Reconnect);
        }
        effects
    }
}

/// Whether nothing can have been said between two versions, the second not older than the first.
const fn follows(known: u64, version: u64) -> bool {
    // The service counts, and what it sends may be any number.
    version <= known.saturating_add(1)
}

#[cfg(test)]
#[path = "shadow_session_tests.rs"]
mod tests;
