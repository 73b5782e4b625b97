//! A report as a question: what its acceptance and the delta of the same version say together.
//!
//! In: our accepted reports and the deltas heard. Out: `desired.quarantine` as it was at that moment, where that can be told.
//! Pure.
//!
//! The service sends a delta with every update after which desired and reported differ, so one that has the version of an
//! update of ours is as fresh as an answer to a `get`. That is how an order is known where no `get` comes through: a shadow
//! above 5,000 bytes on nucleus lite, a topic that is left alone.
//!
//! | the delta says | and the report had said | so desired is |
//! |---|---|---|
//! | true, false or text | anything | that |
//! | an object | true or false | that, whole |
//! | an object | an order | not known: it may be a piece |
//! | an object | nothing, and that it is removed | that, whole |
//! | nothing of quarantine | false, or that it is removed | false or absent, which mean the same |
//! | nothing of quarantine | true | true or absent: not known |
//! | there is no delta | anything | not known: it may be lost |
//!
//! A delta of much that others desire does not come through either. But what somebody writes is heard as it was written, and where
//! that is no piece of an order, and the versions from it to a report that was sent after it were all heard, it is what is desired.
//! A version that was not heard is no stranger's where one report for each of them was sent since and never answered, on a
//! connection that stood all the while.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::shadow_request::ShadowRequest;

/// The same in a delta is no news for so long, and so many are.
const NEWS_AGAIN: Duration = Duration::from_secs(60);
const MOST_NEWS: usize = 8;
/// Versions behind a wish that were not heard, at most: with more of them it is forgotten.
const MOST_UNHEARD: usize = 16;

/// The newest of each.
#[derive(Debug, Default)]
pub(super) struct Echo {
    own: Option<OwnReport>,
    delta: Option<HeardDelta>,
    wish: Option<HeardWish>,
    /// What deltas said that was news, and when.
    news: Vec<(Option<Value>, Duration)>,
}

/// What somebody wrote to be desired, whole.
#[derive(Debug)]
struct HeardWish {
    desired: Value,
    version: u64,
    /// The newest version that was heard since; nobody has written of it in those that were.
    until: u64,
    /// Those before it that were not.
    unheard: BTreeSet<u64>,
    /// The tokens of the reports that were sent since, and that nobody has answered.
    unanswered: BTreeSet<String>,
    /// The connection was another one since: what was not heard may be anybody's.
    is_cut: bool,
    /// Uptime.
    at: Duration,
}

impl HeardWish {
    /// Another version was heard, in which nobody has written of it; whether few enough were not.
    fn pass(&mut self, version: u64) -> bool {
        self.unheard.remove(&version);
        let gap = self.until.saturating_add(1)..version;
        let is_short = gap.clone().nth(MOST_UNHEARD).is_none();
        self.unheard.extend(gap.take(MOST_UNHEARD));
        self.until = self.until.max(version);
        is_short && self.unheard.len() <= MOST_UNHEARD
    }

    /// Whether nobody else can have written of it up to that version, one of ours.
    fn stands_until(&self, version: u64) -> bool {
        let are_ours = !self.is_cut && self.unheard.len() == self.unanswered.len();
        self.until == version && (self.unheard.is_empty() || are_ours)
    }
}

#[derive(Debug)]
struct OwnReport {
    version: u64,
    /// Uptime.
    sent: Duration,
    /// What it said of `quarantine`, if that is no order: true or false, or that it is removed.
    plain: Option<Value>,
}

#[derive(Debug)]
struct HeardDelta {
    version: u64,
    quarantine: Option<Value>,
    /// Uptime.
    at: Duration,
}

impl Echo {
    /// A report of ours became this version; `said` is its `quarantine`.
    pub(super) fn accepted(&mut self, version: u64, sent: Duration, said: Option<&Value>) {
        let plain = said.filter(|said| said.is_boolean() || said.is_null()).cloned();
        self.own = Some(OwnReport { version, sent, plain });
    }

    /// What was written is of a shadow that is gone, or what is desired is known by now.
    pub(super) fn forget_wish(&mut self) {
        self.wish = None;
    }

    /// This version says of what is desired nothing new.
    pub(super) fn passed(&mut self, version: u64) {
        self.wish.take_if(|wish| !wish.pass(version));
    }

    /// Nobody answers this report, which may have become a version all the same.
    pub(super) fn lost(&mut self, report: &ShadowRequest) {
        let behind = |wish: &&mut HeardWish| wish.at <= report.sent;
        if let Some(wish) = self.wish.as_mut().filter(behind) {
            wish.unanswered.insert(report.token.clone());
            wish.is_cut |= wish.unanswered.len() > MOST_UNHEARD;
        }
    }

    /// It was answered late.
    pub(super) fn answered_late(&mut self, token: &str) {
        if let Some(wish) = &mut self.wish {
            wish.unanswered.remove(token);
        }
    }

    /// Others may have written while nothing was heard.
    pub(super) fn cut(&mut self) {
        if let Some(wish) = &mut self.wish {
            wish.is_cut = true;
        }
    }

    /// Why what was heard last is not obeyed, a sentence, where no later report will settle it.
    pub(super) fn unsettled(&self) -> Option<String> {
        let wish = self.wish.as_ref()?;
        let own = self.own.as_ref()?;
        let is_behind = own.version > wish.version && own.sent >= wish.at && own.version == wish.until;
        (is_behind && !wish.stands_until(own.version)).then(|| {
            format!(
                "what is desired was last heard as version {}, and is not obeyed: a later version of the shadow did not reach this \
                 device, and may say something else; write it again",
                wish.version
            )
        })
    }

    /// A delta was heard; whether it says something else than the one before, and is news.
    pub(super) fn heard(&mut self, version: u64, quarantine: Option<&Value>, now: Duration) -> bool {
        let before = self.delta.as_ref().map(|delta| delta.quarantine.as_ref());
        let is_news = before != Some(quarantine) && self.is_news(quarantine, now);
        self.delta = Some(HeardDelta {
            version,
            quarantine: quarantine.cloned(),
            at: now,
        });
        is_news
    }

    /// Whether a delta said the same long ago, or never. Where others write over what is reported it says one thing after theirs and
    /// another one after ours, for ever.
    fn is_news(&mut self, quarantine: Option<&Value>, now: Duration) -> bool {
        self.news.retain(|(_, at)| now < at.saturating_add(NEWS_AGAIN));
        let is_known = self.news.iter().any(|(known, _)| known.as_ref() == quarantine);
        if !is_known && self.news.len() < MOST_NEWS {
            self.news.push((quarantine.cloned(), now));
            return true;
        }
        false
    }

    /// Somebody wrote this to be desired as this version; none: that nothing is. An object may be a piece of what is there.
    pub(super) fn wished(&mut self, version: u64, desired: Option<&Value>, now: Duration) {
        let wish = desired.cloned().unwrap_or(json!(false));
        let is_known = |known: &HeardWish| known.version == version && known.desired == wish;
        if self.wish.as_ref().is_some_and(is_known) {
            // By another subscription.
            return;
        }
        self.wish = (!wish.is_object()).then(|| HeardWish {
            desired: wish,
            version,
            until: version,
            unheard: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            is_cut: false,
            at: now,
        });
    }

    /// What is desired, and of which version; told once. `plain`: whether the report had said no order.
    pub(super) fn conclude(&mut self) -> Option<Conclusion> {
        let own = self.own.as_ref()?;
        let is_of = |delta: &&HeardDelta| delta.version == own.version && delta.at >= own.sent;
        let desired = match self.delta.as_ref().filter(is_of) {
            Some(delta) => told_by_delta(own, delta),
            None => self.told_by_wish(own),
        }?;
        let concluded = Conclusion {
            version: own.version,
            desired,
            plain: own.plain.is_some(),
        };
        self.own = None;
        Some(concluded)
    }

    fn told_by_wish(&self, own: &OwnReport) -> Option<Value> {
        let wish = self.wish.as_ref()?;
        (wish.at <= own.sent && wish.stands_until(own.version)).then(|| wish.desired.clone())
    }
}

fn told_by_delta(own: &OwnReport, delta: &HeardDelta) -> Option<Value> {
    match (&delta.quarantine, &own.plain) {
        (Some(Value::Object(_)), None) | (None, Some(Value::Bool(true)) | None) => None,
        (Some(desired), _) => Some(desired.clone()),
        (None, Some(_)) => Some(json!(false)),
    }
}

/// What is known of one version of the shadow.
#[derive(Debug, PartialEq)]
pub(super) struct Conclusion {
    pub(super) version: u64,
    /// `desired.quarantine`.
    pub(super) desired: Value,
    /// Whether `reported.quarantine` is no order.
    pub(super) plain: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conclusion(said: &Value, delta: Option<&Value>) -> Option<Value> {
        let s = Duration::from_secs;
        // Topics have no order between them.
        let told = [true, false].map(|acceptance_first| {
            let mut echo = Echo::default();
            if acceptance_first {
                echo.accepted(7, s(1), Some(said));
            }
            echo.heard(7, delta, s(2));
            if !acceptance_first {
                echo.accepted(7, s(1), Some(said));
            }
            let told = echo.conclude();
            assert_eq!(echo.conclude(), None, "once");
            told.map(|told| told.desired)
        });
        assert_eq!(told[0], told[1]);
        told[0].clone()
    }

    #[test]
    fn what_is_desired_is_told_where_the_delta_must_name_it() {
        let order = json!({"posture": "isolate"});
        for said in [json!(true), json!(false)] {
            for desired in [json!(true), json!(false), order.clone()] {
                assert_eq!(conclusion(&said, Some(&desired)), Some(desired), "{said}");
            }
        }
        assert_eq!(conclusion(&order, Some(&json!(false))), Some(json!(false)));
        assert_eq!(conclusion(&order, Some(&order)), None, "it may be a piece");
        assert_eq!(conclusion(&json!(false), None), Some(json!(false)));
        assert_eq!(conclusion(&json!(null), None), Some(json!(false)));
        assert_eq!(conclusion(&json!(null), Some(&order)), Some(order.clone()));
        assert_eq!(conclusion(&json!(true), None), None, "absent, or the same");
        assert_eq!(conclusion(&order, None), None);
    }

    #[test]
    fn what_was_written_whole_is_desired_where_all_that_was_written_since_is_known() {
        let s = Duration::from_secs;
        let told = |wish: Option<&Value>, versions: &[u64], sent: u64| {
            let mut echo = Echo::default();
            echo.wished(7, wish, s(2));
            for version in versions {
                echo.passed(*version);
                echo.accepted(*version, s(sent), Some(&json!(true)));
            }
            echo.conclude().map(|told| (told.version, told.desired))
        };
        let no = json!(false);
        assert_eq!(told(Some(&no), &[8], 3), Some((8, json!(false))));
        assert_eq!(
            told(Some(&json!(true)), &[8, 9], 2),
            Some((9, json!(true))),
            "both are ours"
        );
        assert_eq!(told(None, &[8], 3), Some((8, json!(false))), "absent is as good");
        assert_eq!(
            told(Some(&no), &[8], 1),
            None,
            "of an earlier shadow with the same count"
        );
        assert_eq!(told(Some(&no), &[9], 3), None, "somebody wrote meanwhile");
        assert_eq!(told(Some(&no), &[8, 10], 3), None);
        let mut echo = Echo::default();
        echo.wished(7, Some(&no), s(2));
        echo.passed(8);
        echo.passed(9);
        echo.accepted(9, s(3), None);
        assert_eq!(
            echo.conclude().map(|told| told.version),
            Some(9),
            "somebody wrote of something else"
        );
        assert_eq!(
            told(Some(&json!({"posture": "isolate"})), &[8], 3),
            None,
            "it may be a piece"
        );
    }

    #[test]
    fn another_version_or_an_earlier_delta_says_nothing() {
        let s = Duration::from_secs;
        let mut echo = Echo::default();
        echo.heard(7, Some(&json!(false)), s(1));
        assert_eq!(echo.conclude(), None);
        echo.accepted(7, s(2), Some(&json!(true)));
        assert_eq!(echo.conclude(), None, "of an earlier shadow with the same count");
        echo.heard(8, Some(&json!(false)), s(3));
        assert_eq!(echo.conclude(), None, "somebody wrote meanwhile");
        echo.accepted(8, s(2), Some(&json!(true)));
        assert_eq!(echo.conclude().map(|told| told.desired), Some(json!(false)));
    }
}
