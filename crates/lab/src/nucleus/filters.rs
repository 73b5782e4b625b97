//! The filters that components listen to, and those that the broker knows. Pure.
//!
//! In: subscribers that come and go, the broker's answers, the end of the connection. Out: what to ask the broker for.
//!
//! The classic nucleus asks the broker once for all whom a filter covers, and forgets a filter when the broker has said that
//! it is gone. Who comes between the request to end it and that answer is told that all is well, and hears nothing: nothing
//! is asked for, and what was there ends. Lite asks for each filter by itself and waits for no answer.

use std::collections::BTreeMap;

use rumqttc::v5::mqttbytes::QoS;

use super::topics::matches;

/// Who listens, and what the broker knows of it.
#[derive(Debug)]
pub struct Filters {
    shared: bool,
    /// QoS and number of users.
    used: BTreeMap<String, (QoS, usize)>,
    at_broker: BTreeMap<String, Life>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// The broker has not answered.
    Asked,
    Granted,
    /// Nobody needs it, and the broker has not said yet that it is gone.
    Ending,
}

/// What a subscriber has to wait for.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Stands,
    /// The broker's answer to this filter, which is on its way.
    Waits(String),
    /// The broker's answer to his own filter, which is to be asked for.
    Asks,
}

impl Filters {
    /// None yet. `shared`: one filter at the broker serves all whom it covers.
    #[must_use]
    pub fn new(shared: bool) -> Self {
        Self {
            shared,
            used: BTreeMap::new(),
            at_broker: BTreeMap::new(),
        }
    }

    /// One user more.
    pub fn enter(&mut self, filter: &str, qos: QoS) -> Entry {
        self.used.entry(filter.to_owned()).or_insert((qos, 0)).1 += 1;
        let mut covering = self
            .at_broker
            .iter()
            .filter(|(wide, _)| self.serves(wide, filter));
        if covering.clone().any(|(_, life)| *life != Life::Asked) {
            return Entry::Stands;
        }
        if let Some((wide, _)) = covering.next() {
            return Entry::Waits(wide.clone());
        }
        Entry::Asks
    }

    /// One user less: what the broker need not send any more.
    pub fn leave(&mut self, filter: &str) -> Vec<String> {
        let Some((_, users)) = self.used.get_mut(filter) else {
            return Vec::new();
        };
        *users -= 1;
        if *users > 0 {
            return Vec::new();
        }
        self.used.remove(filter);
        let (used, shared) = (&self.used, self.shared);
        let needed = |wide: &str| used.keys().any(|filter| covers(shared, wide, filter));
        let gone = self.at_broker.iter_mut();
        let gone = gone.filter(|(wide, life)| **life != Life::Ending && !needed(wide));
        gone.map(|(wide, life)| {
            *life = Life::Ending;
            wide.clone()
        })
        .collect()
    }

    /// The broker is asked for it.
    pub fn asked(&mut self, filter: &str) {
        self.at_broker.insert(filter.to_owned(), Life::Asked);
    }

    /// The broker's answer.
    pub fn answered(&mut self, filter: &str, granted: bool) {
        if self.at_broker.get(filter) != Some(&Life::Asked) {
            return;
        }
        if granted {
            self.at_broker.insert(filter.to_owned(), Life::Granted);
        } else {
            self.at_broker.remove(filter);
        }
    }

    /// The broker sends nothing for it any more; on classic, whoever came for it meanwhile is deaf.
    pub fn ended(&mut self, filter: &str) {
        if self.at_broker.get(filter) == Some(&Life::Ending) {
            self.at_broker.remove(filter);
        }
    }

    /// A new connection: what to ask for. A broker that remembers the session is asked only for what it has not answered.
    pub fn connected(&mut self, session: bool) -> Vec<(String, QoS)> {
        if session {
            let asked = self.at_broker.extract_if(.., |_, life| *life != Life::Granted);
            let asked: Vec<String> = asked
                .filter(|(_, life)| *life == Life::Asked)
                .map(|(filter, _)| filter)
                .collect();
            let used = |filter: String| self.used.get(&filter).map(|(qos, _)| (filter, *qos));
            return asked.into_iter().filter_map(used).collect();
        }
        self.at_broker.clear();
        let wider = |filter: &str| {
            let others = self.used.keys().filter(|other| *other != filter);
            others.into_iter().any(|other| self.serves(other, filter))
        };
        let all = self.used.iter().filter(|(filter, _)| !wider(filter));
        all.map(|(filter, (qos, _))| (filter.clone(), *qos)).collect()
    }

    /// Everything is forgotten, without a word to the broker.
    pub fn forget(&mut self) {
        self.used.clear();
        self.at_broker.clear();
    }

    fn serves(&self, wide: &str, filter: &str) -> bool {
        covers(self.shared, wide, filter)
    }
}

fn covers(shared: bool, wide: &str, filter: &str) -> bool {
    wide == filter || shared && matches(wide, filter) && (wide.ends_with('#') || !filter.ends_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QOS: QoS = QoS::AtLeastOnce;

    fn granted(filters: &mut Filters, filter: &str) {
        assert_eq!(filters.enter(filter, QOS), Entry::Asks);
        filters.asked(filter);
        filters.answered(filter, true);
    }

    #[test]
    fn classic_serves_many_by_one_filter_until_the_last_has_left() {
        let mut filters = Filters::new(true);
        granted(&mut filters, "s/+/+");
        assert_eq!(filters.enter("s/update/delta", QOS), Entry::Stands);
        assert_eq!(filters.leave("s/+/+"), [""; 0], "the other one needs it");
        assert_eq!(filters.leave("s/update/delta"), ["s/+/+"]);
    }

    #[test]
    fn whoever_comes_to_classic_before_the_end_is_confirmed_is_deaf_until_a_new_session() {
        let mut filters = Filters::new(true);
        granted(&mut filters, "s/get/accepted");
        assert_eq!(filters.leave("s/get/accepted"), ["s/get/accepted"]);
        assert_eq!(
            filters.enter("s/get/accepted", QOS),
            Entry::Stands,
            "answered at once"
        );
        filters.ended("s/get/accepted");
        assert!(filters.at_broker.is_empty(), "the broker sends nothing");
        assert_eq!(filters.connected(true), [], "and a session remembers that");
        // Whoever subscribes beside is asked for, and both hear again.
        assert_eq!(filters.enter("s/get/accepted", QOS), Entry::Asks);
        assert_eq!(filters.leave("s/get/accepted"), [""; 0]);
        assert_eq!(filters.connected(false), [("s/get/accepted".to_owned(), QOS)]);
    }

    #[test]
    fn who_comes_while_the_broker_is_asked_waits_for_the_same_answer() {
        let mut filters = Filters::new(true);
        assert_eq!(filters.enter("s/+/+", QOS), Entry::Asks);
        filters.asked("s/+/+");
        assert_eq!(filters.enter("s/get/accepted", QOS), Entry::Waits("s/+/+".into()));
        filters.answered("s/+/+", false);
        assert_eq!(filters.enter("s/get/rejected", QOS), Entry::Asks);
    }

    #[test]
    fn lite_asks_for_each_filter_and_sends_no_wide_one_for_narrow_ones() {
        let mut filters = Filters::new(false);
        granted(&mut filters, "s/+/+");
        granted(&mut filters, "s/update/delta");
        assert_eq!(filters.leave("s/+/+"), ["s/+/+"]);
        assert_eq!(filters.connected(false).len(), 1);
        filters.forget();
        assert_eq!(filters.connected(false), []);
    }
}
