//! What the session makes of each message.
//!
//! In: [`ShadowMessage`]s. Out: what was learnt, and what the channel was proven by. Pure. Absent: when to ask and to report,
//! which is [`super::shadow_session`]'s.

use std::time::Duration;

use serde_json::Value;

use super::shadow_message::ShadowMessage;
use super::shadow_own::Whose;
use super::shadow_request::ShadowRequest;
use super::shadow_room::Room;
use super::shadow_session::{SessionEffect, ShadowSession};
use crate::quarantine::proof::reported::same_news;

/// From somebody else's writing over our part of the shadow to our saying it again, at least: each costs a link as much as a report.
const OVERWRITTEN_PAUSE: Duration = Duration::from_secs(30);
/// From a report that the service had no time for, unless it asks, to the next one, at least.
const BUSY_PAUSE: Duration = Duration::from_secs(2);

impl ShadowSession {
    /// Whether this answers a request of ours, also one that nobody waits for any more.
    pub(crate) fn is_ours(&self, message: &ShadowMessage) -> bool {
        message.token().is_some_and(|token| self.tokens.made(token))
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
            ShadowMessage::Delta { version, quarantine } => self.delta(version, quarantine, now),
            ShadowMessage::Updated {
                token,
                version,
                desired,
                reported,
            } => {
                // No report of ours speaks of what is desired.
                let token = token.as_deref().filter(|_| desired.is_none());
                let said = reported.as_ref();
                let whose = self.own.whose(&mut self.update, token, version, said);
                if reported.is_some() && matches!(whose, Whose::Others) {
                    self.overwritten(version, now);
                }
                self.updated(whose, version, desired, now)
            }
            ShadowMessage::UpdateRejected { token, code, message } => {
                self.update_rejected(token.as_deref(), code, &message, now)
            }
            ShadowMessage::Deleted => {
                self.echo.forget_wish();
                self.accepted = None;
                self.missed = true;
                // The message may be late, so the version stays: a shadow that is gone or made anew says so to the next
                // questions.
                self.get.next = now;
                Vec::new()
            }
        }
    }

    fn delta(&mut self, version: u64, quarantine: Option<Value>, now: Duration) -> Vec<SessionEffect> {
        let is_repeated = !self.echo.heard(version, quarantine.as_ref(), now);
        let stands_alone = self.stands_alone(version);
        let is_known = stands_alone && quarantine.is_some() && self.desired.as_ref() == Some(&quarantine);
        let is_whole = stands_alone
            && quarantine
                .as_ref()
                .is_some_and(|value| value.get("posture").is_some());
        // Each report after which desired and reported differ brings an order again, which need not be asked for whole then.
        let said = quarantine.clone().map(Some);
        let said = said.filter(|said| !(is_known && said.as_ref().is_some_and(Value::is_object)));
        let mut effects = self.news(version, said, now).unwrap_or_default();
        if !is_repeated && self.missed {
            self.ask_in_any_way(now);
        }
        if is_whole {
            effects.extend(self.learn(quarantine));
        }
        effects.extend(self.conclude());
        effects
    }

    /// What an accepted report and its delta say together, when something may have been missed.
    fn conclude(&mut self) -> Vec<SessionEffect> {
        let Some(told) = self.echo.conclude() else {
            return Vec::new();
        };
        if !self.missed || self.version != Some(told.version) {
            return Vec::new();
        }
        self.missed = false;
        self.plain_reported = told.plain;
        self.unheard_versions = None;
        self.learn(Some(told.desired))
    }

    /// Whether a delta of this version carries what is desired whole: it names what differs from what is reported, and as long as
    /// that is no object, everything in an order differs. The order is asked for all the same; this only saves a round trip.
    fn stands_alone(&self, version: u64) -> bool {
        let nothing_missed = !self.missed
            && self
                .version
                .is_some_and(|known| known <= version && follows(known, version));
        self.plain_reported && nothing_missed
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
        self.answered(sent, now);
        // Topics have no order between them: an answer may be older than a delta that came before it. Versions also
        // fall when a shadow is deleted and made anew; then the answer to a question that was asked after that delta says the
        // same.
        if self.version.is_some_and(|known| version < known) && (!self.doubted || self.was_told_since(sent)) {
            return self.doubt_answer(sent, now);
        }
        self.doubted = false;
        self.know(version, now);
        self.plain_reported = !reported["quarantine"].is_object();
        self.missed = false;
        self.report_seen(&reported, sent, now);
        self.accepted = Some(reported);
        let mut effects = vec![SessionEffect::RoundTrip(sent)];
        effects.extend(self.learn(desired));
        effects
    }

    /// A document that was asked for behind a report has what that says: only its answer was lost.
    fn report_seen(&mut self, reported: &Value, asked: Duration, now: Duration) {
        let is_there = |report: &ShadowRequest| {
            report.sent < asked && same_news(reported, &report.body["state"]["reported"])
        };
        if let Some(report) = self.update.take_if(is_there) {
            self.own.left_unanswered(report);
            self.update.succeeded();
            self.update.hasten(now);
        }
    }

    fn know(&mut self, version: u64, now: Duration) {
        if self.version != Some(version) {
            self.known_since = now;
        }
        self.version = Some(version);
    }

    /// The service has counted a report of ours as this version. It counts every report on from what there is: if that was known
    /// to be further when the report was sent, this is another shadow, made anew since, and what is known is of one that is gone. What
    /// is desired there was perhaps said while nobody heard it.
    fn counts_anew(&mut self, sent: Duration, version: u64, now: Duration) {
        if sent > self.known_since && self.version.is_some_and(|known| version <= known) {
            self.version = None;
            self.told = None;
            self.missed = true;
            self.echo.forget_wish();
            self.ask_in_any_way(now);
            self.look_into_it(now);
        }
    }

    /// Whether a message told of the shadow after a question was asked, whose answer may have been formed before it.
    fn was_told_since(&self, sent: Duration) -> bool {
        self.told.is_some_and(|told| told > sent)
    }

    /// An answer may be older than what is known: it proves the channel, and the next one is believed.
    fn doubt_answer(&mut self, sent: Duration, now: Duration) -> Vec<SessionEffect> {
        self.doubted = true;
        self.get.next = now;
        vec![SessionEffect::RoundTrip(sent)]
    }

    /// The service is heard again: what was to be reported need not wait for the end of its pause, and a report that is lost
    /// now is the first one.
    fn answered(&mut self, sent: Duration, now: Duration) {
        if self.get.fails() {
            self.update.begins_anew(now);
        }
        self.get.succeeded();
        self.asking.begin_anew();
        self.liveness.answered(sent, now);
        self.silent = 0;
        self.lost_answers = 0;
        self.unheard_versions = None;
    }

    fn get_rejected(&mut self, token: Option<&str>, code: u64, now: Duration) -> Vec<SessionEffect> {
        let Some(ShadowRequest { sent, .. }) = self.get.take(token) else {
            return Vec::new();
        };
        if code == 404 {
            self.answered(sent, now);
            // Formed before a message that came meanwhile and spoke of a shadow?
            if self.was_told_since(sent) {
                return self.doubt_answer(sent, now);
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
        self.liveness.answered(sent, now);
        if self.get.fails() {
            // It may be refused for long, and reports not.
            self.asking.want();
        }
        self.get.failed(
            format!("the shadow service refused to give the shadow (code {code})"),
            now,
        );
        vec![SessionEffect::RoundTrip(sent)]
    }

    fn updated(
        &mut self,
        whose: Whose,
        version: u64,
        desired: Option<Option<Value>>,
        now: Duration,
    ) -> Vec<SessionEffect> {
        let mut effects = Vec::new();
        match &desired {
            Some(wish) => self.echo.wished(version, wish.as_ref(), now),
            None => self.echo.passed(version),
        }
        if let Whose::OursBefore { token } = &whose {
            self.echo.answered_late(token);
        }
        if let Whose::Ours(request) = whose {
            self.counts_anew(request.sent, version, now);
            let reported = &request.body["state"]["reported"];
            // Topics have no order between them: what somebody else wrote may have been heard before.
            let stands = self.overwritten.take_if(|later| *later > version).is_none();
            if let Some(quarantine) = reported.get("quarantine") {
                self.plain_reported = stands && !quarantine.is_object();
            }
            self.accepted = Some(reported.clone()).filter(|_| stands);
            self.echo
                .accepted(version, request.sent, reported.get("quarantine"));
            self.update.succeeded();
            // What changed since need not wait for the end of a pause from before.
            self.update.hasten(now);
            self.report_answered(request.sent, now);
            self.note_unheard(version);
            effects.push(SessionEffect::RoundTrip(request.sent));
        }
        effects.extend(self.news(version, desired, now).unwrap_or_default());
        effects.extend(self.conclude());
        effects
    }

    /// Somebody else wrote over what is reported, and may go on doing so.
    fn overwritten(&mut self, version: u64, now: Duration) {
        self.plain_reported = false;
        self.overwritten = Some(version);
        if self.accepted.take().is_some() {
            // What was added is removed once the document tells it.
            self.get.hasten(now + OVERWRITTEN_PAUSE);
            self.update.next = self.update.next.max(now + OVERWRITTEN_PAUSE);
        }
    }

    /// The service had a report, and we its answer.
    fn report_answered(&mut self, sent: Duration, now: Duration) {
        self.last_answered_report = Some(sent);
        self.liveness.answered(sent, now);
        self.silence_ended(now);
    }

    /// The service is heard, whatever it says: a question that only silence has paused need not wait.
    fn silence_ended(&mut self, now: Duration) {
        if std::mem::take(&mut self.silent) > 0 {
            self.get.hasten(now);
        }
    }

    /// Where no question is answered, versions that nobody heard of may hold an order that does not come through.
    fn note_unheard(&mut self, version: u64) {
        let waits = self.reported_for.is_some() && self.reported_for == self.get.sent();
        let lost = self.lost_answers > 0 || waits;
        if let Some(known) = self.version.filter(|known| lost && !follows(*known, version)) {
            self.unheard_versions = Some(format!(
                "versions {} to {} of the shadow did not reach this device: an order among them may be too large for it",
                known + 1,
                version - 1
            ));
        }
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
        self.owe_what_was_asked(now);
        if matches!(code, 409 | 429 | 500..) {
            self.update.failed(why, now);
            self.update.next = self.update.next.max(now + BUSY_PAUSE);
        } else if self.room.refused(code, now) {
            tracing::warn!("{why}; less is said");
            if self.missed {
                // What it may have asked a smaller one asks at once.
                self.asking.taken_back();
            }
            self.update.begins_anew(now);
        } else {
            // A document that was refused is refused again; the next change is another document.
            self.update.refused_for_good(why);
            self.accepted = Some(request.body["state"]["reported"].clone());
        }
        self.report_answered(request.sent, now);
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
        self.know(version, now);
        self.told = Some(now);
        self.silence_ended(now);
        match desired {
            // Deltas and updates carry only what differs or was written: a piece of an order is no order.
            Some(Some(Value::Object(_))) => {
                self.get.hasten(now);
                Some(Vec::new())
            }
            Some(desired) if self.missed => {
                if self.desired.as_ref() != Some(&desired) && self.unsettled.as_ref() != Some(&desired) {
                    self.unsettled = Some(desired.clone());
                    self.ask_in_any_way(now);
                }
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

    /// Something else is desired than is known, and only an answer settles it: where the question cannot be asked now, or may not
    /// be answered, a report asks, however often others have asked for nothing.
    fn ask_in_any_way(&mut self, now: Duration) {
        self.asking.begin_anew();
        if !self.get.may_be_sent(now) {
            self.asking.want();
        }
    }

    /// A report of ours was refused or lost, and may have asked for what no question tells: a question asks as well, and where that
    /// waits for long, the next report.
    pub(super) fn owe_what_was_asked(&mut self, now: Duration) {
        if self.missed {
            self.asking.want();
            self.look_into_it(now);
        }
    }

    /// What anybody wrote meanwhile did not come here.
    pub(super) fn heard_not_all(&mut self) {
        self.missed = true;
        self.echo.cut();
    }

    /// What is desired is known, and nothing newer.
    fn learn(&mut self, desired: Option<Value>) -> Vec<SessionEffect> {
        if self.desired.as_ref() != Some(&desired) {
            self.asking.begin_anew();
            self.room = Room::default();
        }
        self.unsettled = None;
        self.echo.forget_wish();
        self.desired = Some(desired.clone());
        vec![SessionEffect::Desired(desired)]
    }
}

/// Whether nothing can have been said between two versions, the second not older than the first.
const fn follows(known: u64, version: u64) -> bool {
    // The service counts, and what it sends may be any number.
    version <= known.saturating_add(1)
}
