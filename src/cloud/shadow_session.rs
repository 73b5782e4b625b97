//! The shadow session: when to ask, what to believe, what to report (docs/reference/shadow.md#catching-up).
//!
//! In: [`ShadowMessage`]s, the enforcement [`State`], `now` (uptime). Out: [`SessionEffect`]s. Pure.
//!
//! Invariants: silence never means "not quarantined"; a message older than the newest one seen changes nothing, also over
//! a restart, except an answer to our own `get`, and a report of our own that was counted lower, which are the truth of that moment
//! (versions restart when a shadow is deleted); while anything may have been missed, a message lets nobody go before that answer; `desired` is never written;
//! one report is under way at most, and of a question a few copies.
//!
//! What each message means is in [`super::shadow_answers`], when to subscribe anew in [`super::shadow_liveness`], how a report
//! asks in [`super::shadow_echo`], which updates are our reports in [`super::shadow_own`], what is done while a topic is left alone in
//! [`super::shadow_held`], and how much a report says in [`super::shadow_room`].
//!
//! Only a question tells whether the control channel works, because nothing but the channel stands in its way:
//!
//! | what happens | what it proves |
//! |---|---|
//! | an answer with a token of ours, of any kind and code | the channel works: the service had the request, and we its answer |
//! | a `get` is not answered, or not taken by the nucleus | it does not: nobody can order through it |
//! | a `get` is not taken again, and a report since the last time was answered | the channel works by reports |
//! | a `get` is not answered, and a report that was sent later is | the channel works, and the shadow does not fit through it |
//! | a subscription or connection was made anew | nothing that was proven before holds |
//! | no nucleus, or answers cannot be subscribed and so nothing is asked | the same |
//! | a report is not answered, or not taken | nothing: it may be too large, forbidden, or lost alone. So a question follows |
//! | a topic is refused while others are heard | nothing: the next question tells |

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Value, json};

use super::shadow_echo::Echo;
use super::shadow_held::AskingReports;
use super::shadow_liveness::{Due, Liveness};
use super::shadow_own::OwnReports;
use super::shadow_request::{ANSWER_LIMIT, MAX_PAUSE, Requests, Tokens};
use super::shadow_room::{Extent, Room};
use super::topics::ShadowTopics;
use crate::quarantine::orders::order::Posture;
use crate::quarantine::proof::reported::{reported, same_news, with_removals};
use crate::quarantine::proof::state::{Phase, State};

/// Unanswered questions in a row after which the IPC connection is made anew: on nucleus lite subscriptions die
/// without a word when a core service restarts.
const RECONNECT_AFTER: u32 = 3;
/// From one `get` to the next while a plan waits for its confirmation.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// A question that is not answered for this long, or for two round trips, is followed by a report that asks the same.
const REPORT_ASKS_AFTER: Duration = Duration::from_secs(2);
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
    /// Subscribe beside what there is, which may be dead.
    Resubscribe,
    /// Connect to the nucleus anew and subscribe again.
    Reconnect,
}

/// The session's memory.
#[derive(Debug)]
pub(crate) struct ShadowSession {
    pub(super) topics: ShadowTopics,
    pub(super) refresh: Duration,
    pub(super) tokens: Tokens,
    pub(super) ready: bool,
    pub(super) version: Option<u64>,
    /// Uptime since which this version is known.
    pub(super) known_since: Duration,
    /// `desired.quarantine` as last heard; the outer `None` means never heard.
    pub(super) desired: Option<Option<Value>>,
    /// What was heard to be desired that is not known to be so, as `desired`.
    pub(super) unsettled: Option<Option<Value>>,
    /// Uptime at which a message last told the version.
    pub(super) told: Option<Duration>,
    pub(super) get: Requests,
    pub(super) update: Requests,
    pub(super) own: OwnReports,
    pub(super) last_get: Duration,
    /// Questions without an answer in a row.
    pub(super) silent: u32,
    /// Which topic is not heard and why, although it was.
    pub(super) unheard: Option<String>,
    /// The last answer was older than what is known.
    pub(super) doubted: bool,
    pub(super) accepted: Option<Value>,
    /// The version by which somebody else wrote over it last.
    pub(super) overwritten: Option<u64>,
    /// What the shadow has room for.
    pub(super) room: Room,
    /// The service's `reported.quarantine` is known to be no object.
    pub(super) plain_reported: bool,
    /// Something was not heard since the last whole document.
    pub(super) missed: bool,
    pub(super) liveness: Liveness,
    pub(super) echo: Echo,
    pub(super) asking: AskingReports,
    /// Uptime of the question under way for which a report asks as well.
    pub(super) reported_for: Option<Duration>,
    /// Uptime of the report under way that a question was asked about.
    pub(super) asked_for: Option<Duration>,
    /// Uptime of the last report that was answered.
    pub(super) last_answered_report: Option<Duration>,
    /// Uptime at which the nucleus last did not take a question.
    pub(super) question_refused: Option<Duration>,
    /// Questions in a row that were not answered although later reports were.
    pub(super) lost_answers: u32,
    /// Which versions did not reach us, where no question tells.
    pub(super) unheard_versions: Option<String>,
    /// Which right is missing that would make one subscription stand for all.
    pub(super) narrowed: Option<String>,
    pub(super) lite: bool,
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
            known_since: Duration::ZERO,
            desired: None,
            unsettled: None,
            told: None,
            get: Requests::default(),
            update: Requests::default(),
            own: OwnReports::default(),
            last_get: Duration::ZERO,
            silent: 0,
            unheard: None,
            doubted: false,
            accepted: None,
            overwritten: None,
            room: Room::default(),
            plain_reported: false,
            missed: true,
            liveness: Liveness::new(false),
            echo: Echo::default(),
            asking: AskingReports::default(),
            reported_for: None,
            asked_for: None,
            last_answered_report: None,
            question_refused: None,
            lost_answers: 0,
            unheard_versions: None,
            narrowed: None,
            lite: false,
        }
    }

    /// The same on nucleus lite.
    pub(crate) fn on_lite(mut self, lite: bool) -> Self {
        self.lite = lite;
        self.liveness = Liveness::new(lite);
        self
    }

    /// The same, with the version that was heard before: older messages are not new because nobody remembers them.
    pub(crate) fn resume(mut self, version: Option<u64>) -> Self {
        self.version = version;
        self
    }

    /// The shadow is asked for this often when nothing else gives reason to.
    pub(crate) fn refresh_every(&mut self, refresh: Duration, now: Duration) {
        self.refresh = refresh;
        self.get.hasten(now + refresh);
    }

    /// Every topic is subscribed, for the first time or anew: ask for the document. What is under way is asked again, because
    /// its answer may be among what nobody heard. The nucleus took `took` to say so.
    pub(crate) fn subscribed(&mut self, took: Duration, now: Duration) {
        self.ready = true;
        self.heard_not_all();
        self.room = Room::default();
        self.unheard = None;
        self.asking.begin_anew();
        self.liveness.subscribed_after(took);
        self.liveness.changed(now, false);
        self.forget_under_way();
        (self.get.next, self.update.next) = (now, now);
    }

    /// What was subscribed beside the rest stands, all of it; one subscription for each topic where it is `by_topics`.
    pub(crate) fn renewed(&mut self, by_topics: bool, now: Duration) {
        self.unheard = None;
        if by_topics && !self.liveness.is_doubted() {
            // The proof came by some of the topics. What was said on others before they stood was not heard.
            self.heard_not_all();
            self.look_into_it(now);
        }
        self.liveness.renewed(now);
    }

    /// Messages were lost on the way to us: ask for the document.
    pub(crate) fn lost(&mut self, now: Duration) {
        self.heard_not_all();
        self.get.hasten(now);
    }

    /// One subscription for all answers is refused; single ones stand instead.
    pub(crate) fn narrowed(&mut self, wide: &str, why: &str) {
        self.liveness.narrow();
        self.narrowed = Some(format!(
            "one subscription for all answers was refused, single ones stand instead ({why}); it needs \
             aws.greengrass#SubscribeToIoTCore on {wide} in accessControl, and iot:Subscribe on topicfilter/{wide} in the core \
             device's IoT policy"
        ));
    }

    /// Whether anything was proven since the last call.
    pub(crate) fn take_proof(&mut self) -> bool {
        self.liveness.take_proof()
    }

    /// Why what was proven before does not hold, until it is proven again.
    pub(crate) fn doubt(&self) -> Option<&'static str> {
        let doubted = self.ready && self.liveness.is_doubted();
        doubted.then_some("subscribed or connected anew; the shadow service has not answered since")
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

    /// The nucleus is connected to the cloud anew: what was said meanwhile was missed, and what was subscribed may be dead.
    pub(crate) fn reconnected(&mut self, now: Duration) {
        self.heard_not_all();
        self.asking.begin_anew();
        self.liveness.changed(now, true);
    }

    /// There is no connection to the nucleus; nothing is asked until [`ShadowSession::subscribed`]. The way from the nucleus
    /// to the cloud may be as good as ever, but no order comes through, and rules did not do that: the nucleus is reached
    /// over a Unix socket.
    pub(crate) fn disconnected(&mut self, why: &str) -> Vec<SessionEffect> {
        self.ready = false;
        self.heard_not_all();
        self.liveness.nothing_to_ask();
        self.forget_under_way();
        vec![SessionEffect::Broken(format!(
            "no connection to the nucleus: {why}"
        ))]
    }

    /// The request with this token could not be handed to the nucleus. The other one under way is none of its business.
    pub(crate) fn publish_failed(&mut self, token: &str, why: String, now: Duration) -> Vec<SessionEffect> {
        if self.get.take_unsent(token).is_some() {
            self.get.failed(why.clone(), now);
            self.asking.want();
            let refused_before = self.question_refused.replace(now);
            let answered = |before| self.last_answered_report.is_some_and(|sent| sent >= before);
            if refused_before.is_some_and(answered) {
                // The report that asked instead was answered.
                return Vec::new();
            }
            return vec![SessionEffect::Broken(why)];
        }
        if let Some(report) = self.update.take_unsent(token) {
            // It may have been handed on all the same, where the nucleus has not answered in time.
            self.own.left_unanswered(report);
            self.update.failed(why, now);
            self.look_into_it(now);
        }
        Vec::new()
    }

    /// Something failed that proves nothing of the channel, or was said that may be old: a question tells. Where questions fail
    /// as well, it waits for the end of their pause.
    pub(super) fn look_into_it(&mut self, now: Duration) {
        self.get.hasten_behind_pause(now);
    }

    /// What is wrong besides the channel, or although it works.
    pub(crate) fn trouble(&self) -> Option<Cow<'_, str>> {
        let of_requests = || self.get.trouble().or_else(|| self.update.trouble());
        let of_others = || self.unheard_versions.as_deref().or(self.narrowed.as_deref());
        let first = self.unheard.as_deref().or_else(of_requests);
        if let Some(unsettled) = self
            .echo
            .unsettled()
            .filter(|_| self.missed && self.lost_answers > 0)
        {
            let more = first.map_or_else(String::new, |first| format!("; {first}"));
            return Some(Cow::Owned(unsettled + &more));
        }
        match (first, self.room.extent.tells()) {
            // What is not said in the shadow is told besides why.
            (Some(first), Some(no_room)) => Some(Cow::Owned(format!("{no_room}; {first}"))),
            (first, no_room) => first.or(no_room).or_else(of_others).map(Cow::Borrowed),
        }
    }

    /// The shadow's version as last heard.
    pub(crate) fn version(&self) -> Option<u64> {
        self.version
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
        let mut asks = self.get.is_idle() && due <= now;
        while let Some(due) = self.liveness.due(now) {
            asks |= due != Due::Subscribe;
            if due != Due::Ask {
                effects.push(SessionEffect::Resubscribe);
            }
        }
        if asks {
            effects.extend(self.ask(now, jitter));
        }
        self.look_after_late(now);
        effects.extend(self.report(state, now));
        effects
    }

    fn ask(&mut self, now: Duration, jitter: f64) -> Option<SessionEffect> {
        self.get.next = now + self.refresh.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0));
        self.last_get = now;
        if self.get.is_held(now) {
            self.asking.want();
            self.get.held_back(now);
            return None;
        }
        let request = self.tokens.request(now, json!({}));
        let effect = request.publish(self.topics.get());
        self.get.send(request);
        Some(effect)
    }

    /// A question that is not answered soon is asked by a report as well, and behind other subscriptions; a report that is not
    /// is followed by a question. None of them counts as lost yet.
    fn look_after_late(&mut self, now: Duration) {
        if let Some((sent, _)) = self
            .late(&self.get, self.reported_for)
            .filter(|(_, at)| *at <= now)
        {
            self.reported_for = Some(sent);
            self.asking.want();
            if !self.liveness.is_doubted() {
                self.liveness.changed(now, true);
            }
        }
        if let Some((sent, _)) = self
            .late(&self.update, self.asked_for)
            .filter(|(_, at)| *at <= now)
        {
            self.asked_for = Some(sent);
            self.look_into_it(now);
        }
    }

    /// When the oldest request of a kind was sent, and when its answer is late, unless that was `seen`.
    fn late(&self, requests: &Requests, seen: Option<Duration>) -> Option<(Duration, Duration)> {
        let sent = requests.sent().filter(|sent| seen != Some(*sent))?;
        Some((sent, self.liveness.late_at(sent).max(sent + REPORT_ASKS_AFTER)))
    }

    /// How long nothing is due.
    pub(crate) fn next_wake(&self, state: &State, now: Duration) -> Duration {
        let asked = [&self.get, &self.update];
        let mut due: Vec<Duration> = asked.iter().filter_map(|kind| kind.wakes_at(now)).collect();
        if self.ready && self.get.is_idle() {
            due.push(self.get.next);
            if state.phase == Phase::Provisional {
                due.push(self.last_get + CONFIRM_EVERY);
            }
        }
        if self.ready && self.update.is_idle() {
            due.extend(Some(self.update.next).filter(|next| *next > now));
            if !self.update.is_held(now) && state.phase != Phase::Starting {
                due.extend(self.room.retry_at(self.refresh));
                due.extend(self.asking.due_at(state.phase == Phase::Provisional));
            }
        }
        if self.ready {
            due.extend(self.liveness.wake_at());
            let late = [
                self.late(&self.get, self.reported_for),
                self.late(&self.update, self.asked_for),
            ];
            due.extend(late.into_iter().flatten().map(|(_, at)| at));
        }
        due.into_iter()
            .min()
            .map_or(MAX_PAUSE, |at| at.saturating_sub(now))
    }

    fn report(&mut self, state: &State, now: Duration) -> Option<SessionEffect> {
        if !self.update.is_idle() || self.update.is_held(now) || state.phase == Phase::Starting {
            return None;
        }
        self.room.try_again(now, self.refresh);
        let is_provisional = state.phase == Phase::Provisional;
        let asks = self.asking.due_at(is_provisional).is_some_and(|due| due <= now);
        if !asks && (self.update.next > now || self.desired.is_none()) {
            return None;
        }
        let body = reported(state, self.desired.as_ref().and_then(Option::as_ref));
        // While no order is reported, the next delta has the desired one whole.
        let extent = match self.room.extent {
            Extent::Whole if asks || self.get.is_held(now) => Extent::WithoutOrder,
            extent => extent,
        };
        let mut body = extent.of(body, state.posture == Some(Posture::Isolate));
        let known = self.accepted.as_ref();
        if !asks && known.is_some_and(|accepted| same_news(accepted, &body)) {
            return None;
        }
        // Only the echoed order can leave something behind; the status names every key of its own.
        if let (Some(own), Some(known)) = (
            body.get("quarantine"),
            known.and_then(|accepted| accepted.get("quarantine")),
        ) {
            body["quarantine"] = with_removals(own.clone(), known);
        }
        if asks {
            self.asking.sent(now);
        }
        let request = self.tokens.request(now, json!({ "state": { "reported": body } }));
        let effect = request.publish(self.topics.update());
        self.update.send(request);
        Some(effect)
    }

    fn expire_requests(&mut self, now: Duration) -> Vec<SessionEffect> {
        let seconds = ANSWER_LIMIT.as_secs();
        if let Some(report) = self.update.take_late(now) {
            self.echo.lost(&report);
            self.own.left_unanswered(report);
            let why = format!("the shadow service did not answer to our report within {seconds} s");
            self.update.unanswered(why, now);
            self.look_into_it(now);
            self.owe_what_was_asked(now);
        }
        let Some(question) = self.get.take_late(now) else {
            return Vec::new();
        };
        if self
            .last_answered_report
            .is_some_and(|sent| sent >= question.sent)
        {
            self.answer_lost(now);
            return Vec::new();
        }
        let why = format!("the shadow service did not answer within {seconds} s");
        self.get.unanswered(why.clone(), now);
        self.silent = self.silent.saturating_add(1);
        let mut effects = vec![SessionEffect::Broken(why)];
        if self.silent.is_multiple_of(RECONNECT_AFTER) {
            effects.push(SessionEffect::Reconnect);
        }
        effects
    }
}

#[cfg(test)]
#[path = "shadow_session_tests.rs"]
mod tests;
