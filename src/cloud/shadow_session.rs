//! The shadow session: when to ask, what to believe, what to report (docs/reference/shadow.md#catching-up).
//!
//! In: [`ShadowMessage`]s, the enforcement [`State`], `now` (uptime). Out: [`SessionEffect`]s. Pure.
//!
//! Invariants: silence never means "not quarantined"; a message older than the newest one seen changes nothing, except
//! an answer to our own `get`, which is the truth of that moment (versions restart when a shadow is deleted);
//! `desired` is never written; one request of each kind is under way at most.

use std::time::Duration;

use serde_json::{Value, json};

use super::shadow_message::ShadowMessage;
use super::topics::ShadowTopics;
use crate::quarantine::proof::reported::{reported, same_news, with_removals};
use crate::quarantine::proof::state::{Phase, State};

/// How long an answer may take before the control channel counts as broken.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Unanswered requests in a row after which the IPC connection is made anew: on nucleus lite subscriptions die
/// without a word when a core service restarts.
const RECONNECT_AFTER: u32 = 3;
/// From one `get` to the next while a plan waits for its confirmation.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// Longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What the session wants done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SessionEffect {
    Publish {
        topic: String,
        payload: Value,
    },
    /// `desired.quarantine` is this (`None`: absent).
    Desired(Option<Value>),
    /// A request sent at this uptime was answered: the control channel works.
    RoundTrip(Duration),
    /// The control channel does not work; why.
    Broken(String),
    /// Connect to the nucleus anew and subscribe again.
    Reconnect,
}

#[derive(Debug, Clone)]
struct ShadowRequest {
    token: String,
    sent: Duration,
    body: Value,
}

/// The session's memory.
#[derive(Debug)]
pub(crate) struct ShadowSession {
    topics: ShadowTopics,
    refresh: Duration,
    /// Distinguishes our tokens from those of an earlier life and of other clients.
    seed: String,
    counter: u64,
    ready: bool,
    version: Option<u64>,
    /// `desired.quarantine` as last heard; the outer `None` means never heard.
    desired: Option<Option<Value>>,
    get: Option<ShadowRequest>,
    update: Option<ShadowRequest>,
    next_get: Duration,
    next_update: Duration,
    last_get: Duration,
    unanswered: u32,
    /// The last answer was older than what is known.
    doubted: bool,
    accepted: Option<Value>,
    /// The service's `reported.quarantine` is known to be no object.
    plain_reported: bool,
    /// Something was not heard since the last whole document.
    missed: bool,
}

impl ShadowSession {
    /// A session for these topics. `seed` makes tokens unique over restarts, at most 40 characters.
    pub(crate) fn new(topics: ShadowTopics, refresh: Duration, seed: &str) -> Self {
        Self {
            topics,
            refresh,
            seed: seed.chars().take(40).collect(),
            counter: 0,
            ready: false,
            version: None,
            desired: None,
            get: None,
            update: None,
            next_get: Duration::ZERO,
            next_update: Duration::ZERO,
            last_get: Duration::ZERO,
            unanswered: 0,
            doubted: false,
            accepted: None,
            plain_reported: false,
            missed: true,
        }
    }

    /// Every topic is subscribed, for the first time or anew: ask for the document.
    pub(crate) fn subscribed(&mut self, now: Duration) {
        self.ready = true;
        self.get = None;
        self.update = None;
        self.next_get = now;
        self.next_update = now;
    }

    /// The nucleus is connected to the cloud anew: what was said meanwhile was missed.
    pub(crate) fn reconnected(&mut self, now: Duration) {
        self.missed = true;
        self.next_get = self.next_get.min(now);
    }

    /// The connection is gone; nothing is asked until [`ShadowSession::subscribed`].
    pub(crate) fn disconnected(&mut self) {
        self.ready = false;
        self.missed = true;
        self.get = None;
        self.update = None;
    }

    /// A publish could not be handed to the nucleus.
    pub(crate) fn publish_failed(&mut self, now: Duration) {
        let pause = self.pause();
        self.unanswered = self.unanswered.saturating_add(1);
        self.get = None;
        self.update = None;
        self.next_get = now + pause;
        self.next_update = now + pause;
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
                self.version = None;
                self.accepted = None;
                self.missed = true;
                // The message may be late; a shadow that is gone says so to the next question.
                self.next_get = now;
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
                .is_some_and(|known| (known..=known + 1).contains(&version));
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
            Phase::Provisional => self.next_get.min(self.last_get + CONFIRM_EVERY),
            _ => self.next_get,
        };
        if self.get.is_none() && due <= now {
            self.next_get = now + self.refresh.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0));
            self.last_get = now;
            let request = self.request(now, json!({}));
            effects.push(SessionEffect::Publish {
                topic: self.topics.get(),
                payload: request.body.clone(),
            });
            self.get = Some(request);
        }
        effects.extend(self.report(state, now));
        effects
    }

    /// How long nothing is due.
    pub(crate) fn next_wake(&self, state: &State, now: Duration) -> Duration {
        let asked = [&self.get, &self.update]
            .into_iter()
            .flatten()
            .map(|request| request.sent + ANSWER_LIMIT);
        let mut due: Vec<Duration> = asked.collect();
        if self.ready && self.get.is_none() {
            due.push(self.next_get);
            if state.phase == Phase::Provisional {
                due.push(self.last_get + CONFIRM_EVERY);
            }
        }
        if self.ready && self.update.is_none() && self.next_update > now {
            due.push(self.next_update);
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
        let Some(sent) = take(&mut self.get, token) else {
            // Somebody else's question. Its answer is as whole as ours would be, but ours says when it was asked.
            if self.version.is_none_or(|known| version > known) {
                self.next_get = self.next_get.min(now);
            }
            return Vec::new();
        };
        self.answered(now);
        // Topics have no order between them: an answer may be older than a delta that came before it. Versions also
        // fall when a shadow is deleted and made anew; then the next answer says the same.
        if self.version.is_some_and(|known| version < known) && !self.doubted {
            self.doubted = true;
            self.next_get = now;
            return vec![SessionEffect::RoundTrip(sent)];
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

    /// The service is heard again: what was to be reported need not wait for the end of its pause.
    fn answered(&mut self, now: Duration) {
        if self.unanswered > 0 {
            self.next_update = self.next_update.min(now);
        }
        self.unanswered = 0;
    }

    fn get_rejected(&mut self, token: Option<&str>, code: u64, now: Duration) -> Vec<SessionEffect> {
        let Some(sent) = take(&mut self.get, token) else {
            return Vec::new();
        };
        if code == 404 {
            self.answered(now);
            self.version = None;
            self.accepted = None;
            let mut effects = vec![SessionEffect::RoundTrip(sent)];
            effects.extend(self.learn(None));
            return effects;
        }
        self.next_get = now + self.pause();
        self.unanswered = self.unanswered.saturating_add(1);
        vec![SessionEffect::Broken(format!(
            "the shadow service refused to give the shadow (code {code})"
        ))]
    }

    fn updated(
        &mut self,
        token: Option<&str>,
        version: u64,
        desired: Option<Option<Value>>,
        now: Duration,
    ) -> Vec<SessionEffect> {
        let mut effects = Vec::new();
        if let Some(request) = self
            .update
            .take_if(|request| token == Some(request.token.as_str()))
        {
            let reported = &request.body["state"]["reported"];
            if let Some(quarantine) = reported.get("quarantine") {
                self.plain_reported = !quarantine.is_object();
            }
            self.accepted = Some(reported.clone());
            self.unanswered = 0;
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
        let Some(request) = self
            .update
            .take_if(|request| token == Some(request.token.as_str()))
        else {
            return Vec::new();
        };
        let again = matches!(code, 409 | 429 | 500..);
        if again {
            self.next_update = now + self.pause().max(Duration::from_secs(2));
        } else {
            // A document that was refused is refused again; the next change is another document.
            self.accepted = Some(request.body["state"]["reported"].clone());
        }
        tracing::warn!(code, again, "the shadow service refused our report: {message}");
        Vec::new()
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
            self.next_get = self.next_get.min(now + self.pause());
            return None;
        }
        if self.version.is_some_and(|known| version > known + 1) {
            // Something in between was lost.
            self.missed = true;
            self.next_get = self.next_get.min(now);
        }
        self.version = Some(version);
        match desired {
            // Deltas and updates carry only what differs or was written: a piece of an order is no order.
            Some(Some(Value::Object(_))) => {
                self.next_get = self.next_get.min(now);
                Some(Vec::new())
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
        if self.update.is_some() || self.next_update > now || state.phase == Phase::Starting {
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
        let request = self.request(now, json!({ "state": { "reported": body } }));
        let payload = request.body.clone();
        self.update = Some(request);
        Some(SessionEffect::Publish {
            topic: self.topics.update(),
            payload,
        })
    }

    fn expire_requests(&mut self, now: Duration) -> Vec<SessionEffect> {
        let late = |request: &mut ShadowRequest| now.saturating_sub(request.sent) >= ANSWER_LIMIT;
        let lost_get = self.get.take_if(late).is_some();
        let lost_update = self.update.take_if(late).is_some();
        if !lost_get && !lost_update {
            return Vec::new();
        }
        let pause = self.pause();
        self.unanswered = self.unanswered.saturating_add(1);
        if lost_get {
            self.next_get = now + pause;
        }
        if lost_update {
            self.next_update = now + pause;
        }
        let seconds = ANSWER_LIMIT.as_secs();
        let mut effects = vec![SessionEffect::Broken(format!(
            "the shadow service did not answer within {seconds} s"
        ))];
        if self.unanswered.is_multiple_of(RECONNECT_AFTER) {
            effects.push(SessionEffect::Reconnect);
        }
        effects
    }

    fn pause(&self) -> Duration {
        (Duration::from_millis(500) * 2u32.saturating_pow(self.unanswered.min(10))).min(MAX_PAUSE)
    }

    fn request(&mut self, now: Duration, mut body: Value) -> ShadowRequest {
        self.counter += 1;
        let token = format!("{}-{}", self.seed, self.counter);
        body["clientToken"] = json!(token);
        ShadowRequest {
            token,
            sent: now,
            body,
        }
    }
}

fn take(request: &mut Option<ShadowRequest>, token: Option<&str>) -> Option<Duration> {
    request
        .take_if(|request| token == Some(request.token.as_str()))
        .map(|request| request.sent)
}

#[cfg(test)]
#[path = "shadow_session_tests.rs"]
mod tests;
