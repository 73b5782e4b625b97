//! What ends the connection is found among what was published, and left alone ever longer.

use super::*;

const GET: &str = "$aws/things/gw/shadow/get";
const UPDATE: &str = "$aws/things/gw/shadow/update";
const REPORT: &str = "$aws/things/gw/defender/metrics/json";
const SECOND: Duration = Duration::from_secs(1);

/// The connection stands for long enough.
fn calm(offences: &mut Offences, now: Duration) {
    offences.stands(now.saturating_sub(LONGEST_CALM));
    offences.stands(now);
}

/// Hours as AWS IoT, a nucleus and the agent's parts make them, each as impatient as it may be.
struct Hour {
    offences: Offences,
    denied: Vec<&'static str>,
    /// Ends of the connection that were our doing.
    ends: Vec<Duration>,
    answered: BTreeMap<&'static str, u32>,
}

/// What becomes of publishes within a second: the connection lasts, or ends and is made anew seconds later.
impl Hour {
    fn play(denied: &[&'static str], hours: u64) -> Self {
        Self::on_a_link_that_ends(denied, hours, None)
    }

    /// The same, where every connection also ends by itself after so many seconds.
    fn on_a_link_that_ends(denied: &[&'static str], hours: u64, lives: Option<u64>) -> Self {
        let mut hour = Self {
            offences: Offences::default(),
            denied: denied.to_vec(),
            ends: Vec::new(),
            answered: BTreeMap::new(),
        };
        hour.go_on(1..hours * 3_600, lives);
        hour
    }

    fn go_on(&mut self, seconds: std::ops::Range<u64>, lives: Option<u64>) {
        let mut back = Duration::from_secs(seconds.start);
        for now in seconds.map(Duration::from_secs) {
            if now < back {
                continue;
            }
            self.offences.stands(now);
            let ended = self.publish_all(now);
            let lived = (now - back).as_secs();
            if ended || lives.is_some_and(|lives| lived >= lives) {
                self.offences.connection_ended(now + SECOND);
                back = now + 3 * SECOND;
            }
        }
    }

    /// Whether the connection ends by it.
    fn publish_all(&mut self, now: Duration) -> bool {
        // Every second for the questions and answers of a shadow that finds no peace; a report as often as can be.
        let report = now.as_secs().is_multiple_of(300).then_some(REPORT);
        for topic in [GET, UPDATE].into_iter().chain(report) {
            if self.offences.publish(topic, now).is_err() {
                continue;
            }
            if self.denied.contains(&topic) {
                self.ends.push(now);
                return true;
            }
            self.offences.answered(&format!("{topic}/accepted"), now);
            *self.answered.entry(topic).or_default() += 1;
        }
        false
    }

    fn most_ends_in_an_hour(&self) -> usize {
        let within = |from: &Duration| {
            let until = *from + Duration::from_secs(3_600);
            self.ends.iter().filter(|at| (from..&until).contains(at)).count()
        };
        self.ends.iter().map(within).max().unwrap_or_default()
    }
}

#[test]
fn each_right_denied_in_turn_costs_six_connections_an_hour_at_most() {
    for denied in [GET, UPDATE, REPORT] {
        let day = Hour::play(&[denied], 24);
        let most = day.most_ends_in_an_hour();
        assert!(
            (2..=6).contains(&most),
            "{denied}: {most} in an hour: {:?}",
            day.ends
        );
        let last = day.ends.windows(2).last().unwrap();
        assert!(
            last[1] - last[0] >= Duration::from_secs(3_600),
            "{denied}: {last:?}"
        );
        assert!(!day.answered.contains_key(denied));
        for other in [GET, UPDATE, REPORT].into_iter().filter(|topic| *topic != denied) {
            let times = day.answered.get(other).copied().unwrap_or_default();
            let expected = if other == REPORT { 24 * 11 } else { 80_000 };
            assert!(
                times >= expected,
                "{denied} denied: {other} answered {times} times"
            );
        }
        let named: Vec<Offence> = day.offences.offences().collect();
        assert_eq!(named.len(), 1, "{named:?}");
        assert!(
            named[0]
                .to_string()
                .contains(&format!("iot:Publish on topic/{denied}"))
        );
    }
    let nothing = Hour::play(&["$aws/things/gw/another"], 1);
    assert!(
        nothing.ends.is_empty(),
        "control: with every right nothing is held"
    );
    assert_eq!(nothing.answered[GET], 3_599);
}

#[test]
fn a_connection_that_ends_of_itself_is_not_ours_for_good() {
    let mut offences = Offences::default();
    // A link that breaks within a second of each question, an hour long: what is blamed wrongly is tried again.
    let mut tries = 0;
    for now in (0..3_600).map(Duration::from_secs) {
        offences.stands(now);
        if offences.publish(GET, now).is_ok() {
            tries += 1;
            offences.connection_ended(now + SECOND);
        }
    }
    assert!((2..=5).contains(&tries), "{tries}");
    // The link is good: the first try that is answered clears it.
    let later = Duration::from_secs(7_300);
    offences.stands(later);
    offences.publish(GET, later).unwrap();
    offences.answered(&format!("{GET}/accepted"), later);
    assert_eq!(offences.offences().count(), 0);
    offences.publish(GET, later + SECOND).unwrap();
}

#[test]
fn what_was_answered_survived_or_was_excused_bears_no_strike() {
    for innocent in [
        |offences: &mut Offences| offences.answered(&format!("{GET}/rejected"), SECOND),
        |offences: &mut Offences| offences.stands(20 * SECOND),
        Offences::excused,
        |offences: &mut Offences| offences.not_published(GET),
    ] {
        let mut offences = Offences::default();
        for _ in 0..5 {
            offences.publish(GET, SECOND).unwrap();
            innocent(&mut offences);
            assert_eq!(offences.connection_ended(2 * SECOND), []);
        }
        assert!(offences.topics.values().all(|record| !record.matters()));
    }
    let mut offences = Offences::default();
    for now in [SECOND, 10 * SECOND] {
        calm(&mut offences, now);
        offences.publish(GET, now).unwrap();
        offences.answered(&format!("{GET}/accepted/more"), now);
        offences.connection_ended(now + SECOND);
    }
    assert_eq!(
        offences.offences().count(),
        1,
        "control: an answer of another kind is none"
    );
}

#[test]
fn what_was_answered_within_the_hour_is_asked_at_once_after_one_end_and_not_after_two() {
    let answer = format!("{GET}/accepted");
    for (silence, trusted) in [(SECOND, true), (HOUR - 2 * SECOND, true), (HOUR, false)] {
        let mut offences = Offences::default();
        offences.publish(GET, SECOND).unwrap();
        offences.answered(&answer, SECOND);
        for now in [SECOND + silence, 4 * SECOND + silence] {
            offences.stands(now);
            let first = now == SECOND + silence;
            assert_eq!(
                offences.publish(GET, now).is_ok(),
                first || trusted,
                "{silence:?} {now:?}"
            );
            assert_eq!(offences.connection_ended(now + SECOND), []);
        }
        let now = 7 * SECOND + silence;
        offences.stands(now);
        assert!(
            offences.publish(GET, now).is_err(),
            "{silence:?}: twice is no chance"
        );
        // An answer earns it anew.
        calm(&mut offences, now + LONGEST_CALM);
        offences.publish(GET, now + LONGEST_CALM).unwrap();
        offences.answered(&answer, now + LONGEST_CALM);
        offences.publish(GET, now + LONGEST_CALM).unwrap();
        offences.connection_ended(now + 9 * SECOND);
        offences.publish(GET, now + 10 * SECOND).unwrap();
    }
}

#[test]
fn rights_that_are_taken_away_cost_six_connections_an_hour_at_most() {
    for denied in [&[GET][..], &[UPDATE], &[REPORT], &[GET, UPDATE, REPORT]] {
        let mut day = Hour::play(&[], 1);
        day.denied = denied.to_vec();
        day.go_on(3_600..25 * 3_600, None);
        let most = day.most_ends_in_an_hour();
        assert!(
            (3..=6).contains(&most),
            "{denied:?}: {most} in an hour: {:?}",
            day.ends
        );
    }
}

#[test]
fn of_several_before_one_end_the_guilty_one_is_found_by_trying_each_alone() {
    let mut offences = Offences::default();
    offences.publish(UPDATE, SECOND).unwrap();
    offences.publish(GET, SECOND).unwrap();
    assert_eq!(offences.connection_ended(2 * SECOND), [], "once proves nothing");
    let hold = offences.publish(GET, 3 * SECOND).unwrap_err();
    assert!(
        matches!(hold, Hold::Trial { wait: LOOK }),
        "the next connection was not seen yet: {hold:?}"
    );
    offences.stands(4 * SECOND);
    let hold = offences.publish(GET, 4 * SECOND).unwrap_err();
    assert!(
        matches!(hold, Hold::Trial { wait: CALM }),
        "and may flap as well: {hold:?}"
    );
    offences.publish(GET, 7 * SECOND).unwrap();
    let hold = offences.publish(UPDATE, 7 * SECOND).unwrap_err();
    assert!(matches!(hold, Hold::Trial { wait } if wait <= SOON), "{hold:?}");
    // A third one that nobody suspects is not held, and bears nothing.
    offences.publish(REPORT, 7 * SECOND).unwrap();
    let known = offences.connection_ended(8 * SECOND);
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].topic.as_str(), known[0].ends), (GET, 2));
    calm(&mut offences, 13 * SECOND);
    offences.publish(UPDATE, 13 * SECOND).unwrap();
    offences.stands(33 * SECOND);
    offences.publish(UPDATE, 33 * SECOND).unwrap();
    offences.publish(REPORT, 33 * SECOND).unwrap();
    // Not even alone is the guilty one tried more often than it may be.
    offences.publish(GET, 40 * SECOND).unwrap();
    assert_eq!(offences.connection_ended(41 * SECOND).len(), 1);
    calm(&mut offences, 60 * SECOND);
    let hold = offences.publish(GET, 60 * SECOND).unwrap_err();
    assert!(matches!(hold, Hold::Denied { .. }), "{hold:?}");
}

#[test]
fn a_publish_that_the_nucleus_refuses_while_it_is_away_does_not_hide_the_one_that_ended_the_connection() {
    let mut offences = Offences::default();
    for now in [SECOND, 10 * SECOND] {
        calm(&mut offences, now);
        offences.publish(GET, now).unwrap();
        // AWS IoT has ended the connection by then, and nobody has seen it yet; whoever asks again is refused.
        if offences.publish(GET, now + SECOND / 2).is_ok() {
            offences.not_published(GET);
        }
        offences.connection_ended(now + SECOND);
    }
    assert_eq!(offences.offences().count(), 1);
}

#[test]
fn a_topic_does_not_wait_for_ever_for_a_connection_that_nobody_sees() {
    let mut offences = Offences::default();
    offences.publish(GET, SECOND).unwrap();
    offences.connection_ended(2 * SECOND);
    assert!(offences.publish(GET, 30 * SECOND).is_err(), "control");
    offences.publish(GET, 2 * SECOND + UNSEEN).unwrap();
    offences.publish(UPDATE, 3 * SECOND).unwrap();
}

#[test]
fn all_rights_missing_at_once_cost_six_connections_an_hour_at_most() {
    for denied in [
        &[GET, UPDATE, REPORT][..],
        &[GET, UPDATE],
        &[GET, REPORT],
        &[UPDATE, REPORT],
    ] {
        for lives in [None, Some(0), Some(600)] {
            let day = Hour::on_a_link_that_ends(denied, 24, lives);
            let most = day.most_ends_in_an_hour();
            assert!(
                (1..=6).contains(&most),
                "{denied:?}, {lives:?}: {most} in an hour: {:?}",
                day.ends
            );
            if lives.is_none() {
                let named: Vec<Offence> = day.offences.offences().collect();
                assert_eq!(named.len(), denied.len(), "{named:?}");
            }
        }
    }
}

/// For how long nothing may be asked in either way once a link is well that flapped before. `life` and `pause` are those of its
/// connections, `trip` the time until a publish is answered, all in half seconds.
fn deaf_after_flaps(minutes: u64, mut life: impl FnMut() -> u64, pause: u64, trip: u64) -> Duration {
    let half = |number: u64| Duration::from_millis(500 * number);
    let mut offences = Offences::default();
    let (mut now, flaps) = (2, 120 * minutes);
    while now < flaps {
        let mut asked: Vec<(u64, &str)> = Vec::new();
        let end = now + life();
        while now < end {
            offences.stands(half(now));
            for (_, topic) in asked.extract_if(.., |(at, _)| *at + trip <= now) {
                offences.answered(&format!("{topic}/accepted"), half(now));
            }
            // The session asks, and where it cannot, reports; the state is reported as well.
            for topic in [GET, UPDATE] {
                let is_idle = asked.iter().all(|(_, other)| *other != topic);
                if is_idle && offences.publish(topic, half(now)).is_ok() {
                    asked.push((now, topic));
                }
            }
            now += 1;
        }
        offences.connection_ended(half(now));
        now += pause;
    }
    let well = (now..now + 20_000).find(|after| {
        offences.stands(half(*after));
        [GET, UPDATE]
            .iter()
            .any(|topic| offences.publish(topic, half(*after)).is_ok())
    });
    half(well.unwrap() - now)
}

#[test]
fn a_connection_that_flaps_leaves_nobody_deaf_after_it() {
    for minutes in [1, 2, 5, 30] {
        let deaf = deaf_after_flaps(minutes, || 2, 8, 100);
        assert!(deaf <= CALM, "ends at once for {minutes} min: {deaf:?}");
        for trip in [0, 1, 3, 5] {
            for life in (1..40).step_by(3) {
                let deaf = deaf_after_flaps(minutes, || life, 6, trip);
                assert!(
                    deaf <= LONGEST_CALM,
                    "lives {life}, {trip}, {minutes} min: {deaf:?}"
                );
            }
        }
    }
}

#[test]
fn a_connection_that_flaps_at_random_leaves_hardly_anybody_deaf_after_it() {
    let (mut deaf, mut all) = (0, 0);
    for minutes in [1, 2, 5, 15] {
        let mut random = fastrand::Rng::with_seed(minutes);
        for (trip, longest) in [0, 1, 3, 5]
            .into_iter()
            .flat_map(|trip| (1..40).step_by(2).map(move |life| (trip, life)))
        {
            for _ in 0..2 {
                let lives = || random.u64(1..=longest);
                all += 1;
                deaf += usize::from(deaf_after_flaps(minutes, lives, 6, trip) > LONGEST_CALM);
            }
        }
    }
    // By chance every trial, twice or six times, met the end of a connection, which is what a missing right looks like.
    assert!(deaf * 40 < all, "{deaf} of {all}");
}
