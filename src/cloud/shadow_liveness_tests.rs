//! The bursts against a model of the classic nucleus' race, at every round trip.

use super::*;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What came of one burst.
struct Outcome {
    /// When an answer came, after the first question.
    answered: Option<Duration>,
    questions: u32,
}

/// A nucleus whose subscriptions die until `dead_until` after the first question, and are told to stand at once until then.
fn burst(mut liveness: Liveness, round_trip: Duration, dead_until: Duration) -> Outcome {
    let start = Duration::from_secs(100);
    liveness.changed(start, false);
    let mut outcome = Outcome {
        answered: None,
        questions: 0,
    };
    // One that is alive from the beginning needs no other.
    let mut alive_since = (dead_until.is_zero()).then_some(start);
    let mut answers: Vec<(Duration, Duration)> = Vec::new();
    for now in (0..20_000).map(|millis| start + ms(millis)) {
        if let Some((sent, _)) = answers.iter().find(|(_, at)| *at <= now) {
            liveness.answered(*sent, now);
            assert!(!liveness.is_doubted());
            outcome.answered = Some(now - start);
            return outcome;
        }
        while let Some(due) = liveness.due(now) {
            if due == Due::Ask {
                outcome.questions += 1;
                answers.extend(alive_since.map(|_| (now, now + round_trip)));
            } else if now - start >= dead_until {
                alive_since = alive_since.or(Some(now));
            } else {
                liveness.renewed(now);
            }
        }
    }
    outcome
}

#[test]
fn after_the_race_an_answer_comes_within_two_round_trips_and_a_second() {
    for round_trip in [5, 50, 100, 300, 700, 1_200].map(ms) {
        for share in [0.2, 0.6, 1.0] {
            let dead_until = round_trip.mul_f64(share);
            for known in [false, true] {
                let mut liveness = Liveness::new(false);
                if known {
                    liveness.subscribed_after(round_trip);
                }
                let outcome = burst(liveness, round_trip, dead_until);
                let limit = round_trip * 2 + Duration::from_secs(1);
                let answered = outcome.answered.unwrap();
                assert!(answered <= limit, "{round_trip:?} {share} {known}: {answered:?}");
            }
        }
    }
}

#[test]
fn on_a_healthy_way_that_is_known_there_is_one_question_however_slow_it_is() {
    for round_trip in [5, 100, 300, 1_200].map(ms) {
        let mut liveness = Liveness::new(false);
        liveness.subscribed_after(round_trip);
        let outcome = burst(liveness, round_trip, Duration::ZERO);
        assert_eq!((outcome.questions, outcome.answered), (1, Some(round_trip)));
        // On lite nothing tells how slow it is, and nothing is wrong so soon.
        let outcome = burst(Liveness::new(true), round_trip, Duration::ZERO);
        assert!(outcome.questions <= 2, "{round_trip:?}: {}", outcome.questions);
    }
}

#[test]
fn a_burst_ends_and_hints_without_an_answer_grow_apart() {
    let silent = burst(Liveness::new(false), ms(100), Duration::MAX);
    assert_eq!(silent.questions, u32::try_from(STEPS.len()).unwrap() + 1);
    let mut liveness = Liveness::new(false);
    let mut questions = 0;
    for second in 0..3_600 {
        let now = Duration::from_secs(second);
        liveness.changed(now, true);
        while let Some(due) = liveness.due(now) {
            questions += u32::from(due != Due::Subscribe);
        }
    }
    assert!(
        (60..1_000).contains(&questions),
        "{questions} in an hour of hints"
    );
    // Every hint is heard, if only later.
    let late = Duration::from_secs(3_600 + 60);
    assert!(liveness.due(late).is_some());
    // An answer ends the distance.
    liveness.answered(late, late);
    liveness.changed(late + ms(1), true);
    assert_eq!(liveness.due(late + ms(1)), Some(Due::Both));
}

#[test]
fn only_what_was_sent_after_the_change_proves_it() {
    let mut liveness = Liveness::new(false);
    liveness.changed(ms(1_000), false);
    liveness.answered(ms(999), ms(1_001));
    assert!(liveness.is_doubted() && !liveness.take_proof());
    liveness.answered(ms(1_000), ms(1_002));
    assert!(!liveness.is_doubted() && liveness.take_proof() && !liveness.take_proof());
    assert_eq!(liveness.wake_at(), None);
}

#[test]
fn a_proof_of_some_filters_is_followed_by_another_subscription_to_all_once() {
    let mut liveness = Liveness::new(false);
    liveness.narrow();
    liveness.changed(ms(1_000), false);
    assert_eq!(liveness.due(ms(1_000)), Some(Due::Ask));
    liveness.answered(ms(1_000), ms(2_200));
    assert_eq!(liveness.due(ms(4_500)), None);
    assert_eq!(
        liveness.due(ms(4_600)),
        Some(Due::Subscribe),
        "two round trips of 1.2 s later"
    );
    assert_eq!(liveness.due(ms(4_650)), Some(Due::Ask));
    liveness.answered(ms(4_650), ms(5_850));
    assert_eq!(liveness.wake_at(), None);
}
