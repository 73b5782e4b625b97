//! Which publishes of ours end the nucleus' connection to the cloud.
//!
//! AWS IoT answers a publish that the core device's policy does not allow by ending the connection, and with it that of every
//! component (docs/reference/shadow.md). In: what was published, what was answered, when the connection ended, `now`
//! (uptime). Out: whether a topic may be published to, and which topics end the connection. Pure.
//!
//! | what happens | what it means for a topic |
//! |---|---|
//! | the connection ends soon after a publish that was not answered | a strike |
//! | a second strike in a row | it is held; tries grow apart to an hour |
//! | a publish that was answered, or that the connection survived | no strikes: whatever ended the connection before, it was not this |
//! | several publishes before one end | those with a strike bear it, or all; from then on each is tried alone |

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How long after a publish the connection's end may be its doing: two round trips of the worst link, and the time until
/// the end is seen.
const SOON: Duration = Duration::from_secs(6);
/// How long a topic is left alone after so many strikes in a row; the last one counts for all further ones. In an hour that makes two tries
/// after a topic is known, and a few before.
const HOLDS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(30),
    Duration::from_secs(1_200),
    Duration::from_secs(3_600),
];
/// After an end a topic with a strike waits until the next connection has been seen: one that it ended before would not count.
/// Longer than this it does not wait; the next connection may be one that cannot be seen.
const UNSEEN: Duration = Duration::from_secs(60);
/// From one look at the connection to the next, or a little more.
const LOOK: Duration = Duration::from_secs(1);
/// Strikes from which a topic is known to end the connection.
const KNOWN: u32 = 2;
/// Topics with strikes that are remembered; the agent publishes to three. More come only by configurations that change.
const MAX_TOPICS: usize = 16;

/// Why a topic is not published to at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It ends the connection.
    Denied {
        /// How long it is left alone.
        wait: Duration,
        /// The complaint.
        offence: Offence,
    },
    /// One that the connection ended after is being tried, this one or another, and must be tried alone.
    Trial {
        /// How long that takes.
        wait: Duration,
    },
}

/// A topic that ends the connection, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offence {
    pub(crate) topic: String,
    /// Ends of the connection in a row that followed a publish to it.
    pub(crate) strikes: u32,
}

impl fmt::Display for Offence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, strikes } = self;
        write!(
            out,
            "the core device's IoT policy seems to lack iot:Publish on topic/{topic}: AWS IoT ended the nucleus' connection after \
             each of the last {strikes} publishes to it; tries grow apart to an hour"
        )
    }
}

impl Hold {
    /// How long the topic is left alone.
    pub(crate) const fn wait(&self) -> Duration {
        match self {
            Self::Denied { wait, .. } | Self::Trial { wait } => *wait,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Without the time that is left: the sentence stays the same, and is news once.
            Self::Denied { offence, .. } => offence.fmt(out),
            Self::Trial { .. } => {
                out.write_str("a topic that the connection ended after before is being tried alone")
            }
        }
    }
}

#[derive(Debug, Default)]
struct Record {
    strikes: u32,
    /// Uptime until which it is left alone.
    until: Duration,
    /// Uptime of the newest publish whose fate is not known.
    under_way: Option<Duration>,
    /// The one before it, which counts again if the newest one was not handed over.
    before: Option<Duration>,
}

/// What is known of the topics of our publishes.
#[derive(Debug, Default)]
pub(crate) struct Offences {
    topics: BTreeMap<String, Record>,
    /// Uptime at which the connection ended, until the next one has been seen.
    ended: Option<Duration>,
}

impl Offences {
    /// Asks for leave to publish, and notes that it is done.
    ///
    /// # Errors
    /// Not at this moment.
    pub(crate) fn publish(&mut self, topic: &str, now: Duration) -> Result<(), Hold> {
        self.survived(now);
        let is_suspect = self.topics.get(topic).is_some_and(|record| record.strikes > 0);
        if let Some(record) = self.topics.get(topic)
            && record.until > now
        {
            let (wait, strikes) = (record.until - now, record.strikes);
            let topic = topic.to_owned();
            return Err(Hold::Denied {
                wait,
                offence: Offence { topic, strikes },
            });
        }
        let unseen = self.ended.is_some_and(|ended| now.saturating_sub(ended) < UNSEEN);
        if is_suspect && unseen {
            return Err(Hold::Trial { wait: LOOK });
        }
        // Also of the topic itself: until its fate is known, another try would only end another connection.
        let suspects = self
            .topics
            .values()
            .filter(|other| is_suspect && other.strikes > 0);
        if let Some(begun) = suspects.filter_map(|other| other.under_way).max() {
            let wait = (begun + SOON).saturating_sub(now);
            return Err(Hold::Trial { wait });
        }
        if self.topics.len() < MAX_TOPICS || self.topics.contains_key(topic) {
            let record = self.topics.entry(topic.to_owned()).or_default();
            record.before = record.under_way.replace(now);
        }
        Ok(())
    }

    /// The publish that was noted last was not handed over: nothing can follow from it.
    pub(crate) fn not_published(&mut self, topic: &str) {
        if let Some(record) = self.topics.get_mut(topic) {
            record.under_way = record.before.take();
        }
        self.forget_innocent();
    }

    /// Something was heard on this topic: a publish to what it answers has arrived.
    pub(crate) fn heard(&mut self, answer: &str) {
        for (topic, record) in &mut self.topics {
            let answers = answer
                .strip_prefix(topic.as_str())
                .is_some_and(|rest| matches!(rest, "/accepted" | "/rejected"));
            if answers && record.under_way.is_some() {
                *record = Record::default();
            }
        }
        self.forget_innocent();
    }

    /// The connection ended; gives those topics that are known by that to end it.
    pub(crate) fn connection_ended(&mut self, now: Duration) -> Vec<Offence> {
        self.survived(now);
        self.ended = Some(now);
        let under_way = |record: &Record| record.under_way.is_some();
        let suspected = self
            .topics
            .values()
            .any(|record| under_way(record) && record.strikes > 0);
        let mut known = Vec::new();
        for (topic, record) in self.topics.iter_mut().filter(|(_, record)| under_way(record)) {
            (record.under_way, record.before) = (None, None);
            if suspected && record.strikes == 0 {
                continue;
            }
            record.strikes = record.strikes.saturating_add(1);
            let step = usize::try_from(record.strikes)
                .unwrap_or(usize::MAX)
                .min(HOLDS.len());
            record.until = now + HOLDS.get(step.saturating_sub(1)).copied().unwrap_or_default();
            if record.strikes >= KNOWN {
                known.push(Offence {
                    topic: topic.clone(),
                    strikes: record.strikes,
                });
            }
        }
        self.forget_innocent();
        known
    }

    /// The connection is dead, or what ended it is known: nothing that was published lately had any part in it.
    pub(crate) fn excused(&mut self) {
        self.topics
            .values_mut()
            .for_each(|record| (record.under_way, record.before) = (None, None));
        self.forget_innocent();
    }

    /// Those that end the connection.
    pub(crate) fn offences(&self) -> impl Iterator<Item = Offence> {
        let known = self.topics.iter().filter(|(_, record)| record.strikes >= KNOWN);
        known.map(|(topic, record)| Offence {
            topic: topic.clone(),
            strikes: record.strikes,
        })
    }

    /// The connection is seen to stand.
    pub(crate) fn stands(&mut self, now: Duration) {
        self.ended = None;
        self.survived(now);
    }

    /// What the connection has survived did not end it.
    fn survived(&mut self, now: Duration) {
        for record in self.topics.values_mut() {
            if record.under_way.is_some_and(|at| now.saturating_sub(at) > SOON) {
                *record = Record::default();
            }
        }
        self.forget_innocent();
    }

    fn forget_innocent(&mut self) {
        self.topics
            .retain(|_, record| record.strikes > 0 || record.under_way.is_some());
    }
}

#[cfg(test)]
#[path = "offence_tests.rs"]
mod tests;
