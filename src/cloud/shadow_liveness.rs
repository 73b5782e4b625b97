//! Whether what is subscribed is alive: proven by an answer, never by the word of the nucleus.
//!
//! In: changes after which a subscription may be dead, questions and their answers, `now` (uptime). Out: when to subscribe
//! beside what there is and ask again. Pure.
//!
//! The classic nucleus answers a subscription at once while the end of an earlier one is on its way to the broker, and it dies
//! with that end; one that is made after it stands (docs/reference/ipc-wire.md#mqtt). Lite's die with a restart of its MQTT
//! service. So a change is followed by a burst of questions, each behind another subscription, until one is answered.

use std::time::Duration;

/// From the first question of a burst to each further one. The end of an earlier subscription takes one round trip, and so
/// does the question behind it: with these steps an answer comes within two round trips and a second.
const STEPS: [Duration; 7] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(1_500),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
];
/// How many of them lite does without: it asks the broker for each subscription, in order with what is published.
const NOT_ON_LITE: usize = 2;
/// From another subscription to the question behind it, so that the broker hears of them in this order.
const BEHIND: Duration = Duration::from_millis(50);
/// Round trips after which an answer counts as late.
const LATE: f64 = 1.25;
/// What is added to them.
const SLACK: Duration = Duration::from_millis(100);
/// A subscription that the nucleus answered faster was not asked for at the broker.
const AT_ONCE: Duration = Duration::from_millis(50);
/// Longer ones are no round trip: the nucleus was not connected to the cloud.
const LONGEST_TRIP: Duration = Duration::from_secs(3);
/// From one burst to the next at least, while none is answered: doubles with each, up to the longest.
const FIRST_GAP: Duration = Duration::from_secs(2);
const LONGEST_GAP: Duration = Duration::from_secs(60);
/// From a proof of some filters of many to another subscription to all of them, at least: the ends of all earlier ones are
/// through by then.
const NARROW_AGAIN: Duration = Duration::from_secs(2);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Ask, whatever is under way.
    Ask,
    /// Subscribe beside what there is; the question follows.
    Subscribe,
    /// Both: what there is was called into doubt.
    Both,
}

/// What is known of the subscriptions.
#[derive(Debug)]
pub(super) struct Liveness {
    lite: bool,
    /// Uptime of the last change after which nothing was proven.
    changed: Option<Duration>,
    /// Uptime of the next burst, and whether it subscribes anew at its beginning.
    burst: Option<(Duration, bool)>,
    /// Uptime at which the burst under way began, and its steps so far.
    begun: Duration,
    step: usize,
    /// Bursts since the last proof.
    bursts: u32,
    /// Uptime of a question behind another subscription.
    behind: Option<Duration>,
    /// How long an answer took last.
    round_trip: Duration,
    /// Whether an answer proves the filter of the answers only.
    narrow: bool,
    /// Uptime of one more subscription after a proof that was narrow.
    again: Option<Duration>,
    /// A proof that nobody has taken.
    news: bool,
}

impl Liveness {
    /// Nothing is subscribed.
    pub(super) fn new(lite: bool) -> Self {
        Self {
            lite,
            changed: Some(Duration::ZERO),
            burst: None,
            begun: Duration::ZERO,
            step: STEPS.len(),
            bursts: 0,
            behind: None,
            round_trip: Duration::ZERO,
            narrow: false,
            again: None,
            news: false,
        }
    }

    /// One filter does not stand for all: what an answer proves is less.
    pub(super) fn narrow(&mut self) {
        self.narrow = true;
    }

    /// The nucleus took this long to answer the first subscription.
    pub(super) fn subscribed_after(&mut self, took: Duration) {
        if (AT_ONCE..=LONGEST_TRIP).contains(&took) {
            self.round_trip = took;
        }
    }

    /// Everything that was proven may be dead. `doubtful`: also what is subscribed; otherwise it was subscribed just now.
    pub(super) fn changed(&mut self, now: Duration, doubtful: bool) {
        self.changed = Some(now);
        self.again = None;
        let at = self.allowed(now);
        let earlier = self.burst.unwrap_or((at, false));
        self.burst = Some((at.min(earlier.0), doubtful || earlier.1));
    }

    /// Nothing can be asked.
    pub(super) fn nothing_to_ask(&mut self) {
        self.burst = None;
        self.behind = None;
        self.again = None;
        self.step = STEPS.len();
    }

    /// What else was subscribed stands: the question behind it need not wait.
    pub(super) fn renewed(&mut self, now: Duration) {
        if let Some(at) = &mut self.behind {
            *at = now.min(*at);
        }
    }

    /// A question or report that was sent at this uptime was answered.
    pub(super) fn answered(&mut self, sent: Duration, now: Duration) {
        self.round_trip = now.saturating_sub(sent).min(LONGEST_TRIP);
        if self.changed.is_none_or(|changed| sent < changed) {
            return;
        }
        self.changed = None;
        self.burst = None;
        self.behind = None;
        self.bursts = 0;
        self.step = STEPS.len();
        self.news = true;
        if self.narrow && !self.lite {
            let again = NARROW_AGAIN.max(self.round_trip.saturating_mul(2));
            self.again = Some(now + again);
        }
    }

    /// Whether nothing was proven since the last change.
    pub(super) const fn is_doubted(&self) -> bool {
        self.changed.is_some()
    }

    /// Whether there is a proof that this was not asked for yet.
    pub(super) const fn take_proof(&mut self) -> bool {
        std::mem::replace(&mut self.news, false)
    }

    /// When an answer to a question that was sent at this uptime is late.
    pub(super) fn late_at(&self, sent: Duration) -> Duration {
        sent + self.patience()
    }

    /// What is due, once.
    pub(super) fn due(&mut self, now: Duration) -> Option<Due> {
        if let Some((_, doubtful)) = self.burst.take_if(|(at, _)| *at <= now) {
            self.begun = now;
            self.step = if self.lite { NOT_ON_LITE } else { 0 };
            self.bursts = self.bursts.saturating_add(1);
            return Some(if doubtful { Due::Both } else { Due::Ask });
        }
        if self.behind.take_if(|at| *at <= now).is_some() {
            return Some(Due::Ask);
        }
        if self.again.take_if(|at| *at <= now).is_some() {
            self.behind = Some(now + BEHIND);
            return Some(Due::Subscribe);
        }
        if self.step_at().is_some_and(|at| at <= now) {
            // After a pause of ours one is as good as all of them.
            while self.step_at().is_some_and(|at| at <= now) {
                self.step += 1;
            }
            self.behind = Some(now + BEHIND);
            return Some(Due::Subscribe);
        }
        None
    }

    /// Uptime at which something is due.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        let burst = self.burst.map(|(at, _)| at);
        let all = [burst, self.behind, self.again, self.step_at()];
        all.into_iter().flatten().min()
    }

    fn step_at(&self) -> Option<Duration> {
        let step = STEPS.get(self.step)?;
        let late = self.patience().saturating_sub(STEPS[0]);
        self.changed.map(|_| self.begun + *step + late)
    }

    /// How long an answer may take on this way.
    fn patience(&self) -> Duration {
        if self.round_trip.is_zero() {
            return Duration::ZERO;
        }
        self.round_trip.mul_f64(LATE) + SLACK
    }

    /// When the next burst may begin: hints come as often as a bad link comes and goes.
    fn allowed(&self, now: Duration) -> Duration {
        if self.bursts == 0 {
            return now;
        }
        let gap = FIRST_GAP.saturating_mul(2u32.saturating_pow(self.bursts.min(8) - 1));
        now.max(self.begun + gap.min(LONGEST_GAP))
    }
}

#[cfg(test)]
#[path = "shadow_liveness_tests.rs"]
mod tests;
