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
        let is_report = self.update.take_unsent(token).is_some();
        // A report that was to ask asks when it may.
        self.by_report |= is_report || topic == self.topics.get();
        if !self.get.is_held(now) || !self.update.is_held(now) {
            return Vec::new();
        }
        // Whichever may be published first asks.
        (self.by_report, self.get.next) = (true, self.get.next.min(now + wait));
        vec![SessionEffect::Broken(why)]
    }

    /// The service answers, but not this question: its answer does not come through. Reports ask meanwhile.
    pub(super) fn answer_lost(&mut self, now: Duration) {
        let why = if self.lite {
            "the shadow service answers our reports, but the shadow itself does not come through: it is probably larger than \
             the 5,000 bytes that nucleus lite takes. true and false are obeyed, a removed key or a large order may not be: \
             use a named shadow for orders (shadow.name), or remove what else is in this one"
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
