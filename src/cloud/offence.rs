//! Which publishes of ours end the nucleus' connection to the cloud.
//!
//! AWS IoT answers a publish that the core device's policy does not allow by ending the connection, and with it that of every
//! component (docs/reference/shadow.md). In: what was published, what was answered, when the connection stood and ended, `now`
//! (uptime). Out: whether a topic may be published to, and which topics end the connection. Pure. Absent: whose an answer is.
//!
//! Connections also end for reasons that are none of ours, again and again. So blame needs a trial: one topic alone, on a
//! connection that lives longer than those before it did.
//!
//! | what happens | what it means for a topic |
//! |---|---|
//! | the connection ends soon after a publish that was not answered | it is suspected: from then on only trials |
//! | the same, and its last answer is less than an hour old | nothing, once for each answer: links end far more often than rights are taken away |
//! | it ends soon after a trial | a strike; tries grow apart to an hour |
//! | a publish that was answered, or that the connection survived | no suspicion: whatever ended the connection before, it was not this |
//! | a young connection ends, and nothing of ours was under way | the link flaps: few strikes are forgiven, and one end |
//! | several publishes before one end | the suspected ones bear it, or all; none of several was a trial |
//! | six ends within an hour | nothing is published until the first is an hour ago |

use crate::Gather;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// How long after a publish the connection's end may be its doing: two round trips of the worst link, and the time until
/// the end is seen.
const SOON: Duration = Duration::from_secs(6);
/// How long a topic is left alone once it is known, and after each further end; the last one counts for all further ones.
const HOLDS: [Duration; 4] = [
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(1_200),
    Duration::from_secs(3_600),
];
/// Strikes from which a link that flaps does not explain them: that many trials fell into its last moments by chance.
const SURE: u32 = 3;
/// The time in which ends are counted.
const HOUR: Duration = Duration::from_secs(3_600);
/// Ends within it, of all topics together, that the device can bear.
const ENDS: usize = 6;
/// Of these a topic that is known to end the connection leaves one for each strike to others, and so many at most: they need
/// two to become known.
const ENDS_LEFT: u32 = 2;
/// How long a connection stands, at least, before a trial.
const CALM: Duration = Duration::from_secs(3);
/// And at most: an order is obeyed ten seconds after the nucleus is back. Connections that live nearly as long have time to
/// bring an answer.
const LONGEST_CALM: Duration = Duration::from_secs(8);
/// By how much it must outlive those before that flapped.
const OUTLIVES: Duration = Duration::from_secs(1);
/// A connection that ends younger than this flaps; nuclei keep theirs for days.
const YOUNG: Duration = Duration::from_secs(60);
/// After an end a suspected topic waits until the next connection has been seen: one that it ended before would not count.
/// Longer than this it does not wait; the next connection may be one that cannot be seen.
const UNSEEN: Duration = Duration::from_secs(60);
/// From one look at the connection to the next, or a little more.
const LOOK: Duration = Duration::from_secs(1);
/// A wait is looked at again after this long: what was blamed may be forgiven earlier.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Topics that are remembered; the agent publishes to three. More come only by configurations that change.
const MAX_TOPICS: usize = 16;

/// Why a topic is not published to at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It ends the connection.
    Denied {
        /// When to ask again.
        wait: Duration,
        /// The complaint.
        offence: Offence,
    },
    /// The connection ended after it, or too often after others, and it must be tried alone on one that has proven calm.
    Trial {
        /// When to ask again.
        wait: Duration,
    },
}

/// A topic that ends the connection, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offence {
    pub(crate) topic: String,
    /// Ends of the connection in a row that followed a publish to it.
    pub(crate) ends: u32,
}

impl fmt::Display for Offence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, ends } = self;
        write!(
            out,
            "the core device's IoT policy seems to lack iot:Publish on topic/{topic}: AWS IoT ended the nucleus' connection after \
             each of the last {ends} publishes to it; tries grow apart to an hour"
        )
    }
}

impl Hold {
    /// After how long to ask again, which is soon.
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
                out.write_str(
                    "the nucleus' connection ended after publishes; the next one is tried alone once the connection lasts",
                )
            }
        }
    }
}

#[derive(Debug, Default)]
struct Record {
    /// Ends of the connection in a row after a publish to it.
    row: u32,
    /// Those of them that ended a trial, and were not forgiven.
    strikes: u32,
    /// Uptimes of those within the hour.
    ends: Vec<Duration>,
    /// Uptime until which it is left alone.
    until: Duration,
    /// Uptime of the newest publish whose fate is not known.
    under_way: Option<Duration>,
    /// The one before it, which counts again if the newest one was not handed over.
    before: Option<Duration>,
    /// The newest one was published on a connection that had proven calm.
    on_calm: bool,
    /// Uptime of the newest answer; none once an end was forgiven for it.
    answered: Option<Duration>,
}

impl Record {
    const fn is_suspect(&self) -> bool {
        self.row > 0
    }

    /// Whether something is held against it, or may be.
    const fn matters(&self) -> bool {
        self.is_suspect() || self.under_way.is_some()
    }

    /// Twice in a row, and once in a trial.
    const fn is_known(&self) -> bool {
        self.row > 1 && self.strikes > 0
    }

    /// Whether an end of the connection is not held against it, which is so once for each answer.
    fn is_forgiven(&mut self, now: Duration) -> bool {
        self.answered.take().is_some_and(|at| is_lately(at, now))
    }

    /// The connection has ended after a publish to it, whatever ended it.
    fn note_end(&mut self, now: Duration) {
        self.ends.retain(|at| is_lately(*at, now));
        self.ends.truncate(ENDS);
        self.ends.push(now);
    }

    fn bear(&mut self, is_alone: bool, now: Duration) {
        self.row = self.row.saturating_add(1);
        if is_alone && self.on_calm {
            self.strikes = self.strikes.saturating_add(1);
            if let Some(further) = self.row.checked_sub(2) {
                let step = usize::try_from(further).unwrap_or(usize::MAX);
                self.until = now + HOLDS[step.min(HOLDS.len() - 1)];
            }
        }
    }
}

/// The nucleus' connection, as far as it was seen.
#[derive(Debug, Default, Clone, Copy)]
enum Connection {
    #[default]
    Unseen,
    /// Since this uptime.
    Stands(Duration),
    /// At this uptime.
    Ended(Duration),
}

/// What is known of the topics of our publishes.
#[derive(Debug, Default)]
pub(crate) struct Offences {
    topics: BTreeMap<String, Record>,
    connection: Connection,
    /// What age short connections in a row reached, and a little more; zero after one that lived long enough for an answer.
    outlived: Duration,
}

impl Offences {
    /// Asks for leave to publish, and notes that it is done.
    ///
    /// # Errors
    /// Not at this moment.
    pub(crate) fn publish(&mut self, topic: &str, now: Duration) -> Result<(), Hold> {
        self.survived(now);
        if let Some(hold) = self.hold(topic, now) {
            return Err(hold);
        }
        let on_calm = self.unproven(now).is_zero();
        if self.topics.len() >= MAX_TOPICS {
            self.topics
                .retain(|_, record| record.matters() || record.ends.iter().any(|at| is_lately(*at, now)));
        }
        if self.topics.len() < MAX_TOPICS || self.topics.contains_key(topic) {
            let record = self.topics.entry(topic.to_owned()).or_default();
            record.before = record.under_way.replace(now);
            record.on_calm = on_calm;
        }
        Ok(())
    }

    fn hold(&self, topic: &str, now: Duration) -> Option<Hold> {
        let record = self.topics.get(topic);
        let known = record.filter(|record| record.is_known());
        let strikes = known.map_or(0, |record| record.strikes.min(ENDS_LEFT));
        let ends = ENDS.saturating_sub(usize::try_from(strikes).unwrap_or_default());
        let alone = record.map_or(Duration::ZERO, |record| record.until.saturating_sub(now));
        let wait = alone.max(self.spent(ends, now)).min(LONGEST_WAIT);
        if !wait.is_zero() {
            return Some(known.map_or(Hold::Trial { wait }, |record| Hold::Denied {
                wait,
                offence: offence(topic, record),
            }));
        }
        record.filter(|record| record.is_suspect())?;
        // Also of the topic itself: until its fate is known, another try would only end another connection.
        let suspects = self.topics.values().filter(|other| other.is_suspect());
        let tried = suspects.filter_map(|other| other.under_way).max();
        let tried = tried.map_or(Duration::ZERO, |begun| (begun + SOON).saturating_sub(now));
        let wait = tried.min(LONGEST_WAIT).max(self.unproven(now));
        (!wait.is_zero()).then_some(Hold::Trial { wait })
    }

    /// How long until fewer than so many ends lie within the hour.
    fn spent(&self, allowed: usize, now: Duration) -> Duration {
        let all = self.topics.values().flat_map(|record| &record.ends);
        let recent = all.filter(|at| is_lately(**at, now));
        let ends: BTreeSet<Duration> = recent.copied().in_set();
        let first = ends.iter().nth_back(allowed.saturating_sub(1));
        first.map_or(Duration::ZERO, |at| (*at + HOUR).saturating_sub(now))
    }

    /// How long until the connection has proven calm.
    fn unproven(&self, now: Duration) -> Duration {
        match self.connection {
            Connection::Stands(since) => (since + CALM.max(self.outlived)).saturating_sub(now),
            Connection::Ended(at) if now.saturating_sub(at) >= UNSEEN => Duration::ZERO,
            Connection::Ended(_) | Connection::Unseen => LOOK,
        }
    }

    /// The publish that was noted last was not handed over: nothing can follow from it.
    pub(crate) fn not_published(&mut self, topic: &str) {
        if let Some(record) = self.topics.get_mut(topic) {
            record.under_way = record.before.take();
        }
        self.forget_innocent();
    }

    /// A publish of ours was answered on this topic. What answers others says nothing of ours.
    pub(crate) fn answered(&mut self, answer: &str, now: Duration) {
        for (topic, record) in &mut self.topics {
            let answers = answer
                .strip_prefix(topic.as_str())
                .is_some_and(|rest| matches!(rest, "/accepted" | "/rejected"));
            if answers {
                *record = Record {
                    answered: Some(now),
                    ..Record::default()
                };
            }
        }
        self.forget_innocent();
    }

    /// The connection ended; gives those topics that are known by that to end it.
    pub(crate) fn connection_ended(&mut self, now: Duration) -> Vec<Offence> {
        self.survived(now);
        let lived = match self.connection {
            Connection::Stands(since) => Some(now.saturating_sub(since)),
            Connection::Unseen | Connection::Ended(_) => None,
        };
        if let Some(age) = lived.map(|lived| lived + OUTLIVES) {
            let is_short = age <= LONGEST_CALM;
            self.outlived = if is_short {
                self.outlived.max(age)
            } else {
                Duration::ZERO
            };
        }
        self.connection = Connection::Ended(now);
        let under_way = |record: &&mut Record| record.under_way.is_some();
        let suspected = self
            .topics
            .values_mut()
            .filter(under_way)
            .any(|record| record.is_suspect());
        let may_bear = |record: &Record| record.under_way.is_some() && (record.is_suspect() || !suspected);
        let bearers = self.topics.values().filter(|record| may_bear(record)).count();
        if bearers == 0 && lived.is_some_and(|lived| lived < YOUNG) {
            self.forgive();
        }
        let mut known = Vec::new();
        for (topic, record) in &mut self.topics {
            if may_bear(record) {
                if !record.is_forgiven(now) {
                    record.bear(bearers == 1, now);
                }
                record.note_end(now);
                known.extend(record.is_known().then(|| offence(topic, record)));
            }
            (record.under_way, record.before) = (None, None);
        }
        self.forget_innocent();
        known
    }

    /// The link flaps, and may have done what topics are blamed for: one end of its own makes up for one that each of them bears.
    fn forgive(&mut self) {
        for record in self.topics.values_mut().filter(|record| record.strikes < SURE) {
            (record.row, record.strikes, record.until) = (record.row.min(1), 0, Duration::ZERO);
            record.ends = record.ends.split_off(record.ends.len().min(1));
        }
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
        let known = self.topics.iter().filter(|(_, record)| record.is_known());
        known.map(|(topic, record)| offence(topic, record))
    }

    /// The connection is seen to stand.
    pub(crate) fn stands(&mut self, now: Duration) {
        if !matches!(self.connection, Connection::Stands(_)) {
            self.connection = Connection::Stands(now);
        }
        self.survived(now);
    }

    /// What the connection has survived did not end it.
    fn survived(&mut self, now: Duration) {
        for record in self.topics.values_mut() {
            if record.under_way.is_some_and(|at| now.saturating_sub(at) > SOON) {
                *record = Record {
                    answered: record.answered,
                    ..Record::default()
                };
            }
        }
        self.forget_innocent();
    }

    fn forget_innocent(&mut self) {
        self.topics
            .retain(|_, record| record.matters() || record.answered.is_some() || !record.ends.is_empty());
    }
}

/// Whether this uptime lies in the time in which ends are counted, and answers forgive.
fn is_lately(at: Duration, now: Duration) -> bool {
    now.saturating_sub(at) < HOUR
}

fn offence(topic: &str, record: &Record) -> Offence {
    Offence {
        topic: topic.to_owned(),
        ends: record.row,
    }
}

#[cfg(test)]
#[path = "offence_tests.rs"]
mod tests;
