//! What ends the connection is found among what was published, and left alone ever longer.

use super::*;

const GET: &str = "$aws/things/gw/shadow/get";
const UPDATE: &str = "$aws/things/gw/shadow/update";
const REPORT: &str = "$aws/things/gw/defender/metrics/json";
const SECOND: Duration = Duration::from_secs(1);

/// An hour as AWS IoT, a nucleus and the agent's parts make it, each as impatient as it may be.
struct Hour {
    offences: Offences,
    denied: &'static str,
    /// Ends of the connection.
    ends: Vec<Duration>,
    answered: BTreeMap<&'static str, u32>,
}

/// What becomes of publishes within a second: the connection lasts, or ends and is made anew seconds later.
impl Hour {
    fn play(denied: &'static str, hours: u64) -> Self {
        let mut hour = Self {
            offences: Offences::default(),
            denied,
            ends: Vec::new(),
            answered: BTreeMap::new(),
        };
        let mut back = SECOND;
        for now in (1..hours * 3_600).map(Duration::from_secs) {
            if now < back {
                continue;
            }
            hour.offences.stands(now);
            // Every second for the questions and answers of a shadow that finds no peace; a report as often as can be.
            let report = (now.as_secs() % 300 == 0).then_some(REPORT);
            for topic in [GET, UPDATE].into_iter().chain(report) {
                if hour.offences.publish(topic, now).is_err() {
                    continue;
                }
                if topic == hour.denied {
                    hour.ends.push(now);
                    hour.offences.connection_ended(now + SECOND);
                    back = now + 3 * SECOND;
                    break;
                }
                hour.offences.heard(&format!("{topic}/accepted"));
                *hour.answered.entry(topic).or_default() += 1;
            }
        }
        hour
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
        let day = Hour::play(denied, 24);
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
    let nothing = Hour::play("$aws/things/gw/another", 1);
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
    offences.heard(&format!("{GET}/accepted"));
    assert_eq!(offences.offences().count(), 0);
    offences.publish(GET, later + SECOND).unwrap();
}

#[test]
fn what_was_answered_survived_or_was_excused_bears_no_strike() {
    for innocent in [
        |offences: &mut Offences| offences.heard(&format!("{GET}/rejected")),
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
        assert!(offences.topics.is_empty());
    }
    let mut offences = Offences::default();
    for now in [SECOND, 3 * SECOND] {
        offences.stands(now);
        offences.publish(GET, now).unwrap();
        offences.heard(&format!("{GET}/accepted/more"));
        offences.connection_ended(now + SECOND);
    }
    assert_eq!(
        offences.offences().count(),
        1,
        "control: somebody else's answer is none"
    );
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
    offences.publish(GET, 4 * SECOND).unwrap();
    let hold = offences.publish(UPDATE, 4 * SECOND).unwrap_err();
    assert!(matches!(hold, Hold::Trial { wait } if wait <= SOON), "{hold:?}");
    // A third one that nobody suspects is not held, and bears nothing.
    offences.publish(REPORT, 4 * SECOND).unwrap();
    let known = offences.connection_ended(5 * SECOND);
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].topic.as_str(), known[0].strikes), (GET, 2));
    offences.stands(6 * SECOND);
    let hold = offences.publish(GET, 6 * SECOND).unwrap_err();
    assert!(matches!(hold, Hold::Denied { .. }), "{hold:?}");
    offences.publish(UPDATE, 6 * SECOND).unwrap();
    offences.stands(20 * SECOND);
    offences.publish(UPDATE, 20 * SECOND).unwrap();
    offences.publish(REPORT, 20 * SECOND).unwrap();
}

#[test]
fn a_publish_that_the_nucleus_refuses_while_it_is_away_does_not_hide_the_one_that_ended_the_connection() {
    let mut offences = Offences::default();
    for now in [SECOND, 5 * SECOND] {
        offences.stands(now);
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
