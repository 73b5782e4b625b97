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
/// Longest pause after failures that the nucleus itself, or the service, has told.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause after silence: each question costs somebody's link, and what ends a silence is noticed otherwise.
pub(super) const MAX_SILENT_PAUSE: Duration = Duration::from_secs(3_600);
/// Doublings after which the longest pause is reached for certain.
const MAX_DOUBLINGS: u32 = 13;
/// Copies of one question that are under way at a time; the service refuses more than ten.
const MAX_UNDER_WAY: usize = 9;
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

    fn number(&self, token: &str) -> Option<u64> {
        let number = token.strip_prefix(&self.seed)?.strip_prefix('-')?;
        number.parse().ok().filter(|number| *number <= self.counter)
    }

    /// Whether a request of ours carried this token, however long ago.
    pub(super) fn made(&self, token: &str) -> bool {
        self.number(token).is_some()
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

/// Requests of one kind, one after the other; of a question there may be several, of which any answer is as good.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// The oldest first.
    under_way: Vec<ShadowRequest>,
    /// Uptime until which none may be sent.
    held: Option<Duration>,
    /// Uptime at which another one may be sent.
    pub(super) next: Duration,
    /// Refused or lost since the last one that was answered as it should be.
    failures: u32,
    /// Uptime at which the pause after the last failure ends.
    paused: Duration,
    /// Uptime at which one was held back first, since the last one that was answered as it should be.
    held_back: Option<Duration>,
    /// Why the last of them failed, a sentence.
    trouble: Option<String>,
}

impl Requests {
    pub(super) const fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Uptime at which the oldest one under way was sent.
    pub(super) fn sent(&self) -> Option<Duration> {
        self.under_way.first().map(|request| request.sent)
    }

    /// None may be sent before `until`; why, a sentence.
    pub(super) fn hold(&mut self, until: Duration, why: String) {
        self.held = Some(until);
        self.trouble = Some(why);
    }

    /// Whether none may be sent.
    pub(super) fn is_held(&self, now: Duration) -> bool {
        self.held.is_some_and(|until| now < until)
    }

    /// Whether one may be sent: none is under way, none is held, and no failure pauses them.
    pub(super) fn may_be_sent(&self, now: Duration) -> bool {
        self.is_idle() && !self.is_held(now) && self.paused <= now
    }

    /// Whether the last one failed.
    pub(super) const fn fails(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn send(&mut self, request: ShadowRequest) {
        if self.under_way.len() >= MAX_UNDER_WAY {
            // The oldest says since when an answer is waited for.
            self.under_way.remove(1);
        }
        self.under_way.push(request);
    }

    /// Takes the request that carries this token, and forgets those asked beside it; an answer to another one, or to somebody
    /// else's, takes none.
    pub(super) fn take(&mut self, token: Option<&str>) -> Option<ShadowRequest> {
        let place = self.place(token)?;
        self.under_way.drain(..).nth(place)
    }

    /// Takes the oldest request under way if it is such a one, and forgets those beside it.
    pub(super) fn take_if(&mut self, is_it: impl Fn(&ShadowRequest) -> bool) -> Option<ShadowRequest> {
        self.under_way.first().filter(|request| is_it(request))?;
        self.under_way.drain(..).next()
    }

    /// Takes the request that carries this token if it is the last one under way; `None` if others may still be answered.
    pub(super) fn take_unsent(&mut self, token: &str) -> Option<ShadowRequest> {
        let place = self.place(Some(token))?;
        let request = self.under_way.remove(place);
        self.under_way.is_empty().then_some(request)
    }

    /// What the request under way says that carries this token.
    #[cfg(test)]
    pub(super) fn body(&self, token: &str) -> Option<&Value> {
        self.place(Some(token)).map(|place| &self.under_way[place].body)
    }

    fn place(&self, token: Option<&str>) -> Option<usize> {
        let token = token?;
        self.under_way.iter().position(|request| request.token == token)
    }

    /// Takes those that were not answered in time, and gives the oldest.
    pub(super) fn take_late(&mut self, now: Duration) -> Option<ShadowRequest> {
        self.late_at().filter(|at| *at <= now)?;
        self.under_way.drain(..).next()
    }

    /// Uptime at which what is under way counts as lost.
    pub(super) fn late_at(&self) -> Option<Duration> {
        self.sent().map(|sent| sent.saturating_add(ANSWER_LIMIT))
    }

    /// Uptime at which something is to be done by itself: what is under way counts as lost, or what was held may be sent.
    pub(super) fn wakes_at(&self, now: Duration) -> Option<Duration> {
        self.late_at().or_else(|| self.held.filter(|until| *until > now))
    }

    /// Forgets what is under way, and gives it: nobody hears its answer.
    pub(super) fn forget(&mut self) -> Vec<ShadowRequest> {
        std::mem::take(&mut self.under_way)
    }

    /// Another one may be sent at `at`, if not earlier.
    pub(super) fn hasten(&mut self, at: Duration) {
        self.next = self.next.min(at);
    }

    /// The same once the pause after the last failure is over.
    pub(super) fn hasten_behind_pause(&mut self, now: Duration) {
        self.hasten(now.max(self.paused));
    }

    /// One was due, and its topic is left alone: it stays owed, and is tried again when that ends; the longer nothing came of
    /// it, the later.
    pub(super) fn held_back(&mut self, now: Duration) {
        let first = *self.held_back.get_or_insert(now);
        let pause = now.saturating_sub(first).clamp(FIRST_PAUSE, MAX_SILENT_PAUSE);
        let held = self.held.unwrap_or_default();
        self.hasten(held.max(now.saturating_add(pause)));
    }

    /// One failed: the next waits, longer each time.
    pub(super) fn failed(&mut self, why: String, now: Duration) {
        self.failed_within(why, now, MAX_PAUSE);
    }

    /// The same of one that nobody answered.
    pub(super) fn unanswered(&mut self, why: String, now: Duration) {
        self.failed_within(why, now, MAX_SILENT_PAUSE);
    }

    fn failed_within(&mut self, why: String, now: Duration, longest: Duration) {
        self.paused = now.saturating_add(self.pause_within(longest));
        self.next = self.paused;
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(why);
    }

    /// What failed before says nothing of the next, which may be sent now.
    pub(super) fn begins_anew(&mut self, now: Duration) {
        self.failures = 0;
        self.paused = Duration::ZERO;
        self.hasten(now);
    }

    /// One was answered as it should be.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.paused = Duration::ZERO;
        (self.held, self.held_back) = (None, None);
        self.trouble = None;
    }

    /// One was refused for what it is: the same again would be, another one need not wait.
    pub(super) fn refused_for_good(&mut self, why: String) {
        self.failures = 0;
        self.paused = Duration::ZERO;
        self.trouble = Some(why);
    }

    /// How long to wait after a failure.
    pub(super) fn pause(&self) -> Duration {
        self.pause_within(MAX_PAUSE)
    }

    fn pause_within(&self, longest: Duration) -> Duration {
        let doubled = 2u32.saturating_pow(self.failures.min(MAX_DOUBLINGS));
        FIRST_PAUSE.saturating_mul(doubled).min(longest)
    }
}
