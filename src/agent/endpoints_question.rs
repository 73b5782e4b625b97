//! The question to the nucleus for its endpoints: when it is asked, and what it told last.
//!
//! In: the nucleus, what was remembered, `now` (uptime). Out: endpoints, and whether one is missing that should be there.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::cloud::link::Nucleus;
use crate::cloud::nucleus::NucleusEndpoints;

/// From one look at the nucleus' and the host's configuration to the next.
const LOOK_AROUND: Duration = Duration::from_secs(60);
/// The same while the nucleus has not told its endpoint.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The same for the question alone at first: a nucleus that starts tells its endpoint a little later than the rest. The pause
/// grows with the time that it has taken.
const ASK_SOON: Duration = Duration::from_millis(50);
/// How long it may take before somebody is told that it is missing; both nuclei need a tenth of a second.
const ENDPOINT_LATE: Duration = Duration::from_secs(10);
/// The same while the control channel is broken behind our rules: what is configured may be new.
const LOOK_URGENT: Duration = Duration::from_secs(10);
/// How long the nucleus may take to tell its endpoints; names must not wait for it longer.
const NUCLEUS_LIMIT: Duration = Duration::from_secs(10);

/// What the nucleus told last. It is asked beside everything else: a nucleus that is not there holds up nothing.
#[derive(Default)]
pub(super) struct EndpointsQuestion {
    pub(super) endpoints: NucleusEndpoints,
    /// Whether a first question has ended.
    pub(super) answered: bool,
    /// Whether they are what the nucleus told an agent before us, and it has not told us.
    is_memory: bool,
    when: Option<Duration>,
    /// When the first question was sent.
    first: Option<Duration>,
    pub(super) running: JoinSet<Option<NucleusEndpoints>>,
}

impl EndpointsQuestion {
    pub(super) fn remembering(endpoints: Option<NucleusEndpoints>) -> Self {
        Self {
            is_memory: endpoints.is_some(),
            endpoints: endpoints.unwrap_or_default(),
            ..Self::default()
        }
    }

    pub(super) fn ask_when_due(&mut self, nucleus: &Nucleus, urgent: bool, now: Duration) {
        if !self.due(urgent, now).is_zero() {
            return;
        }
        self.when = Some(now);
        self.first.get_or_insert(now);
        let nucleus = nucleus.clone();
        self.running.spawn(async move {
            let answer = tokio::time::timeout(NUCLEUS_LIMIT, nucleus.endpoints()).await;
            let error = match answer.ok()? {
                Ok(endpoints) => return Some(endpoints),
                Err(error) => error,
            };
            tracing::debug!(
                "the nucleus does not tell its endpoints: {}",
                crate::error_text(&error)
            );
            None
        });
    }

    /// Takes the outcome; whether that is news.
    pub(super) fn take(&mut self, outcome: Option<NucleusEndpoints>) -> bool {
        let first = !std::mem::replace(&mut self.answered, true);
        // A nucleus that tells nothing, or is not there, takes nothing back.
        match outcome.filter(|told| !self.is_memory || told.data.is_some()) {
            Some(endpoints) => {
                self.is_memory = false;
                let is_news = endpoints != self.endpoints;
                self.endpoints = endpoints;
                is_news || first
            }
            None => first,
        }
    }

    /// How long until the next question; the one under way has its own limit.
    pub(super) fn due(&self, urgent: bool, now: Duration) -> Duration {
        if !self.running.is_empty() {
            return NUCLEUS_LIMIT;
        }
        let soon = self.endpoints.data.is_none() && !self.misses_endpoint(now);
        let pause = if soon {
            let asked_for = self.when.zip(self.first);
            ASK_SOON.max(asked_for.map_or(Duration::ZERO, |(when, first)| when.saturating_sub(first)))
        } else {
            self.pause(urgent)
        };
        wait(self.when, pause, now)
    }

    /// Whether the data endpoint is known, or will hardly be.
    pub(super) fn is_settled(&self, now: Duration) -> bool {
        self.answered && (self.endpoints.data.is_some() || self.misses_endpoint(now))
    }

    /// Whether the nucleus has told no data endpoint for longer than one takes that starts.
    pub(super) fn misses_endpoint(&self, now: Duration) -> bool {
        let late = self.first.is_some_and(|first| now >= first + ENDPOINT_LATE);
        self.endpoints.data.is_none() && late
    }

    /// From one look around to the next.
    pub(super) fn pause(&self, urgent: bool) -> Duration {
        if self.endpoints.data.is_none() || self.is_memory {
            LOOK_AGAIN
        } else if urgent {
            LOOK_URGENT
        } else {
            LOOK_AROUND
        }
    }
}

/// How long until `pause` after `last` is over; not at all when there was no last time.
pub(super) fn wait(last: Option<Duration>, pause: Duration, now: Duration) -> Duration {
    last.map_or(Duration::ZERO, |last| (last + pause).saturating_sub(now))
}
