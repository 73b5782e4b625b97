//! What the session does while a topic is left alone: reports ask for the question, and the question stays owed.
//!
//! In: which topic, until when (uptime), why. Out: what is asked instead. Pure. Absent: which topics end the nucleus' connection,
//! which is [`super::offence`]'s.

use std::time::Duration;

use super::shadow_session::{SessionEffect, ShadowSession};

/// Questions in a row that were not answered although later reports were, after which the question is left alone for a while.
const LOST_ANSWERS: u32 = 2;
/// For how long: doubles with each further one, up to the longest.
const LEFT_ALONE: Duration = Duration::from_secs(600);
const LONGEST_LEFT_ALONE: Duration = Duration::from_secs(3_600);

/// From one report that asks to the next, at least; doubles with each that brings nothing new, up to the longest.
const ASKS_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_ASKS_AGAIN: Duration = Duration::from_secs(64);

/// Reports that ask what is desired, although they say nothing new themselves: they cost a link as much as any other.
#[derive(Debug, Default)]
pub(super) struct AskingReports {
    wanted: bool,
    /// How many have asked since something was learnt.
    in_a_row: u32,
    /// Uptime of the last one.
    last: Option<Duration>,
}

impl AskingReports {
    /// The next report is to ask.
    pub(super) const fn want(&mut self) {
        self.wanted = true;
    }

    /// The answer to a question, or news: what is wanted next need not wait.
    pub(super) const fn begin_anew(&mut self) {
        self.in_a_row = 0;
    }

    /// Uptime from which one may be sent that asks; none: none is wanted. It is not let wait while a plan is `provisional`.
    pub(super) fn due_at(&self, provisional: bool) -> Option<Duration> {
        let pause = match self.in_a_row.checked_sub(1) {
            None => Duration::ZERO,
            Some(_) if provisional => ASKS_AGAIN,
            Some(doublings) => ASKS_AGAIN
                .saturating_mul(2u32.saturating_pow(doublings))
                .min(LONGEST_ASKS_AGAIN),
        };
        self.wanted
            .then(|| self.last.map_or(Duration::ZERO, |last| last + pause))
    }

    /// One is sent.
    pub(super) fn sent(&mut self, now: Duration) {
        (self.wanted, self.last) = (false, Some(now));
        self.in_a_row = self.in_a_row.saturating_add(1);
    }

    /// It was not handed over.
    pub(super) const fn taken_back(&mut self) {
        self.wanted = true;
        self.in_a_row = self.in_a_row.saturating_sub(1);
    }
}

impl ShadowSession {
    /// Nothing may be published to `topic` before `until`; why, a sentence. Where it is the question's, reports ask instead.
    pub(crate) fn hold(&mut self, topic: &str, until: Duration, why: String) {
        if topic == self.topics.get() {
            self.get.hold(until, why);
        } else if topic == self.topics.update() {
            self.update.hold(until, why);
        }
    }

    /// The request with this token was not handed over because its topic is left alone for `wait`; why, a sentence. That
    /// proves nothing of the channel, unless nothing can be asked in any way.
    pub(crate) fn left_alone(
        &mut self,
        token: &str,
        topic: &str,
        wait: Duration,
        why: String,
        now: Duration,
    ) -> Vec<SessionEffect> {
        self.hold(topic, now.saturating_add(wait), why.clone());
        if self.get.take_unsent(token).is_some() {
            self.get.held_back(now);
        }
        if self.update.take_unsent(token).is_some() {
            // What it was to ask it asks when it may.
            self.asking.taken_back();
        }
        if topic == self.topics.get() {
            self.asking.want();
        }
        if !self.get.is_held(now) || !self.update.is_held(now) {
            return Vec::new();
        }
        // Whichever may be published first asks.
        self.asking.want();
        self.get.hasten(now + wait);
        vec![SessionEffect::Broken(self.both_held().unwrap_or(why))]
    }

    /// Why neither may be published, in one order whichever was tried last: told anew with each try it would be news without end.
    fn both_held(&self) -> Option<String> {
        let (get, update) = (self.get.trouble()?, self.update.trouble()?);
        let both = || format!("{get}; {update}");
        Some(if get == update { get.to_owned() } else { both() })
    }

    /// The service answers, but not this question: its answer does not come through. Reports ask meanwhile.
    pub(super) fn answer_lost(&mut self, now: Duration) {
        let why = if self.lite {
            "the shadow service answers our reports, but the shadow itself does not come through: it is probably larger than \
             the 5,000 bytes that nucleus lite takes. true and false that reach it are obeyed, a removed key or a large order may not \
             be: use a named shadow for orders (shadow.name), or remove what else is in this one"
        } else {
            "the shadow service answers our reports, but not the question for the shadow: the answer does not come through"
        };
        self.get.unanswered(why.to_owned(), now);
        self.lost_answers = self.lost_answers.saturating_add(1);
        if let Some(more) = self.lost_answers.checked_sub(LOST_ANSWERS) {
            let alone = LEFT_ALONE
                .saturating_mul(2u32.saturating_pow(more))
                .min(LONGEST_LEFT_ALONE);
            self.hold(&self.topics.get(), now + alone, why.to_owned());
        }
    }
}
