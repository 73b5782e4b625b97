//! One kind of request to the shadow service: what is under way, when the next is due, and how often it failed in a row.
//!
//! In: the session's questions and reports, their answers, `now` (uptime). Out: which request an answer belongs to. Pure.
//! Absent: what a failure means; that is the session's to say, because it differs from kind to kind.

use std::time::Duration;

use serde_json::{Value, json};

use super::shadow_session::SessionEffect;

/// How long an answer may take.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Pause after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause after failures.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Doublings after which the longest pause is reached for certain.
const MAX_DOUBLINGS: u32 = 10;
/// Longest seed in characters; the service takes tokens of 64 bytes, a counter has 20 of them.
const MAX_SEED: usize = 40;

/// A request that was published.
#[derive(Debug, Clone)]
pub(super) struct ShadowRequest {
    /// Comes back in the answer.
    pub(super) token: String,
    /// Uptime.
    pub(super) sent: Duration,
    pub(super) body: Value,
}

impl ShadowRequest {
    pub(super) fn publish(&self, topic: String) -> SessionEffect {
        SessionEffect::Publish {
            topic,
            token: self.token.clone(),
            payload: self.body.clone(),
        }
    }
}

/// Makes requests whose answers can be told from those to an earlier life and to other clients.
#[derive(Debug)]
pub(super) struct Tokens {
    seed: String,
    counter: u64,
}

impl Tokens {
    pub(super) fn new(seed: &str) -> Self {
        Self {
            seed: seed.chars().take(MAX_SEED).collect(),
            counter: 0,
        }
    }

    /// `body` with the next token.
    pub(super) fn request(&mut self, now: Duration, mut body: Value) -> ShadowRequest {
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

/// Requests of one kind, one after the other.
#[derive(Debug, Default)]
pub(super) struct Requests {
    under_way: Option<ShadowRequest>,
    /// Uptime at which another one may be sent.
    pub(super) next: Duration,
    /// Refused or lost since the last one that was answered as it should be.
    failures: u32,
    /// Why the last of them failed, a sentence.
    trouble: Option<String>,
}

impl Requests {
    pub(super) const fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }

    /// Whether the last one failed.
    pub(super) const fn fails(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn send(&mut self, request: ShadowRequest) {
        self.under_way = Some(request);
    }

    /// Takes the request that carries this token; an answer to another one, or to somebody else's, takes none.
    pub(super) fn take(&mut self, token: Option<&str>) -> Option<ShadowRequest> {
        self.under_way
            .take_if(|request| token == Some(request.token.as_str()))
    }

    /// Takes a request that was not answered in time.
    pub(super) fn take_late(&mut self, now: Duration) -> Option<ShadowRequest> {
        self.under_way
            .take_if(|request| now.saturating_sub(request.sent) >= ANSWER_LIMIT)
    }

    /// Uptime at which the one under way counts as lost.
    pub(super) fn late_at(&self) -> Option<Duration> {
        self.under_way
            .as_ref()
            .map(|request| request.sent.saturating_add(ANSWER_LIMIT))
    }

    /// Forgets the one under way: nobody hears its answer.
    pub(super) fn forget(&mut self) {
        self.under_way = None;
    }

    /// Another one may be sent at `at`, if not earlier.
    pub(super) fn hasten(&mut self, at: Duration) {
        self.next = self.next.min(at);
    }

    /// One failed: the next waits, longer each time.
    pub(super) fn failed(&mut self, why: String, now: Duration) {
        self.next = now.saturating_add(self.pause());
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(why);
    }

    /// One was answered as it should be.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.trouble = None;
    }

    /// One was refused for what it is: the same again would be, another one need not wait.
    pub(super) fn refused_for_good(&mut self, why: String) {
        self.failures = 0;
        self.trouble = Some(why);
    }

    /// How long to wait after a failure.
    pub(super) fn pause(&self) -> Duration {
        let doubled = 2u32.saturating_pow(self.failures.min(MAX_DOUBLINGS));
        FIRST_PAUSE.saturating_mul(doubled).min(MAX_PAUSE)
    }
}
