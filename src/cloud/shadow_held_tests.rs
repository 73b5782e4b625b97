//! Questions and reports after something failed, was held back or was not heard.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::evidence::breaks;
use super::questions::{answers_reports_only, lite};

use super::*;

/// The service was silent to a question and to a report. A later question was held back, and a report that asked in its place
/// was answered and told nothing, because nothing differed.
fn asked_by_a_report_that_tells_nothing() -> ShadowSession {
    let mut session = session();
    let asked = token(&session.tick(&enforced(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 1);
    session.reconnected(s(2));
    let silent: Vec<SessionEffect> = (2..14)
        .flat_map(|now| session.tick(&enforced(), s(now), 0.5))
        .collect();
    assert!(breaks(&silent), "control: {silent:?}");
    let (mut held, mut report) = (false, None);
    for now in 14..60 {
        for effect in session.tick(&enforced(), s(now), 0.5) {
            match effect {
                SessionEffect::Publish { topic, token, .. } if topic.ends_with("/get") => {
                    session.left_alone(&token, &topic, s(2), "left alone".into(), s(now));
                    held = true;
                }
                SessionEffect::Publish { token, .. } if held => report = Some(token),
                _ => {}
            }
        }
        if report.is_some() {
            break;
        }
    }
    let accepted = report_became(&session, report.unwrap(), 8);
    let told = session.receive(accepted, s(60));
    assert!(
        matches!(told[..], [SessionEffect::RoundTrip(_)]),
        "control: {told:?}"
    );
    assert!(session.missed, "control: whether nothing was missed is not known");
    session
}

pub(super) fn publishes(effects: &[SessionEffect], suffix: &str) -> bool {
    let is_it = |effect: &SessionEffect| matches!(effect, SessionEffect::Publish { topic, .. } if topic.ends_with(suffix));
    effects.iter().any(is_it)
}

#[test]
fn a_question_that_was_held_back_is_asked_when_it_may_though_a_report_was_answered() {
    let mut session = session();
    let asked = token(&session.tick(&enforced(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 1);
    // Nothing has failed: only the connection is another one.
    session.reconnected(s(2));
    let mut version = 7;
    let mut answered = Vec::new();
    let asked = (2..60).find(|now| {
        for effect in session.tick(&enforced(), s(*now), 0.5) {
            match effect {
                SessionEffect::Publish { topic, token, .. } if topic.ends_with("/get") => {
                    if *now > 8 {
                        return true;
                    }
                    session.left_alone(&token, &topic, s(2), "left alone".into(), s(*now));
                }
                SessionEffect::Publish { token, .. } => {
                    version += 1;
                    let accepted = report_became(&session, token, version);
                    answered.extend(session.receive(accepted, s(*now)));
                }
                _ => {}
            }
        }
        false
    });
    assert!(
        matches!(answered[..], [SessionEffect::RoundTrip(_), ..]),
        "control"
    );
    assert!(session.missed, "control: whether nothing was missed is not known");
    assert!(asked.is_some());
}

#[test]
fn a_release_that_may_be_old_is_asked_for_at_once_though_questions_failed_before() {
    let mut session = asked_by_a_report_that_tells_nothing();
    // The question is on its way to be asked by itself; without that as well.
    session.get.next = s(3_600);
    let heard = session.receive(delta(9, false), s(70));
    assert_eq!(heard, [SessionEffect::Heard(json!(false))]);
    assert!(publishes(&session.tick(&enforced(), s(70), 0.5), "/get"));
}

#[test]
fn a_release_that_is_heard_after_a_long_silence_is_asked_for_at_once() {
    let mut session = session();
    let asked = token(&session.tick(&enforced(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 1);
    session.reconnected(s(2));
    let silent: Vec<u64> = (2..4_000)
        .filter(|now| publishes(&session.tick(&enforced(), s(*now), 0.5), "/get"))
        .collect();
    assert!(silent.len() < 20, "control: questions grow apart: {silent:?}");
    assert!(session.get.is_idle() && session.get.next > s(4_060), "control");
    let heard = session.receive(delta(8, false), s(4_000));
    assert_eq!(heard, [SessionEffect::Heard(json!(false))]);
    assert!(publishes(&session.tick(&enforced(), s(4_000), 0.5), "/get"));
}

/// Nothing came through for a while: many failures, and long pauses. Then a question is answered, at the uptime that is given.
fn back_after_many_failures() -> (ShadowSession, u64) {
    let mut session = session();
    for now in 1..200 {
        for effect in session.tick(&enforced(), s(now), 0.5) {
            if let SessionEffect::Publish { token, .. } = effect {
                session.publish_failed(&token, "offline".into(), s(now));
            }
        }
    }
    let (asked, back) = asked_from(&mut session, 200);
    answer(&mut session, asked, 7, Some(json!(true)), back);
    (session, back)
}

/// The token of the next question, and when it is asked.
fn asked_from(session: &mut ShadowSession, first: u64) -> (String, u64) {
    let asked = (first..first + 100).find_map(|now| {
        let effects = session.tick(&enforced(), s(now), 0.5);
        publishes(&effects, "/get").then(|| (token(&effects, "/get"), now))
    });
    asked.unwrap()
}

#[test]
fn a_report_whose_answer_is_lost_is_known_by_the_document_that_is_asked_for_behind_it() {
    let (mut session, back) = back_after_many_failures();
    let effects = session.tick(&enforced(), s(back), 0.5);
    let SessionEffect::Publish { payload, .. } = &effects[0] else {
        panic!("{effects:?}");
    };
    let reported = payload["state"]["reported"].clone();
    let (asked, now) = asked_from(&mut session, back + 1);
    let got = ShadowMessage::Got {
        token: Some(asked),
        version: 8,
        desired: Some(json!(true)),
        reported,
    };
    session.receive(got, s(now));
    let effects = session.tick(&released(), s(now), 0.5);
    assert!(
        publishes(&effects, "/update"),
        "the next news need not wait: {effects:?}"
    );
}

#[test]
fn a_lost_report_is_the_first_one_after_the_channel_is_back() {
    let (mut session, back) = back_after_many_failures();
    let first = session.tick(&enforced(), s(back), 0.5);
    assert!(publishes(&first, "/update"), "control: {first:?}");
    let again = (back + 1..).find(|now| {
        for effect in session.tick(&enforced(), s(*now), 0.5) {
            match effect {
                SessionEffect::Publish { topic, token, .. } if topic.ends_with("/get") => {
                    answer(&mut session, token, 7, Some(json!(true)), *now);
                }
                SessionEffect::Publish { .. } => return true,
                _ => {}
            }
        }
        false
    });
    // Its answer may take ten seconds.
    assert_eq!(again, Some(back + 11));
}

#[test]
fn a_topic_that_was_refused_is_no_trouble_once_all_of_them_stand() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, None, 1);
    let topic = "$aws/things/gw/shadow/update/accepted";
    session.refused(topic, "offline", s(2));
    let trouble = session.trouble().map(Cow::into_owned);
    assert!(trouble.is_some_and(|why| why.contains(topic)), "control");
    session.renewed(true, s(3));
    assert_eq!(session.trouble(), None);
}

#[test]
fn a_release_is_asked_for_at_once_where_questions_have_been_without_answer_for_half_a_day() {
    let mut session = lite();
    let (mut version, isolated) = (50, json!(true));
    let mut hour = 43_200;
    for now in 1..hour {
        answers_reports_only(&mut session, &mut version, &isolated, now);
    }
    // The question that was asked last was followed by what is subscribed beside the rest, so something may have been missed.
    while !session.get.is_idle() || session.get.next < s(hour + 60) {
        answers_reports_only(&mut session, &mut version, &isolated, hour);
        hour += 1;
    }
    session.missed = true;
    version += 1;
    let heard = session.receive(delta(version, false), s(hour));
    assert_eq!(heard, [SessionEffect::Heard(json!(false))], "control");
    let released = (hour..hour + 120).find(|now| {
        let (.., told) = answers_reports_only(&mut session, &mut version, &json!(false), *now);
        told.contains(&SessionEffect::Desired(Some(json!(false))))
    });
    assert_eq!(released, Some(hour));
}

#[test]
fn where_neither_may_be_published_the_same_is_said_whichever_was_tried() {
    let mut session = session();
    let mut told = BTreeSet::new();
    for now in 1..120 {
        for effect in session.tick(&enforced(), s(now), 0.5) {
            let SessionEffect::Publish { topic, token, .. } = effect else {
                continue;
            };
            let why = format!("{topic} is left alone");
            for effect in session.left_alone(&token, &topic, s(2), why, s(now)) {
                told.insert(format!("{effect:?}"));
            }
        }
    }
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn a_report_that_asks_and_is_throttled_stays_owed() {
    let mut session = lite();
    let (mut version, isolated) = (50, json!(true));
    for now in 1..3_600 {
        answers_reports_only(&mut session, &mut version, &isolated, now);
    }
    assert!(session.get.is_held(s(3_600)), "control: no question tells");
    session.reconnected(s(3_600));
    session.asking.want();
    let mut refusals = 4;
    let released = (3_600..3_720).find(|now| {
        while refusals > 0 {
            let effects = session.tick(&enforced(), s(*now), 0.5);
            if !publishes(&effects, "/update") {
                return false;
            }
            refusals -= 1;
            let throttled = ShadowMessage::UpdateRejected {
                token: Some(token(&effects, "/update")),
                code: 429,
                message: String::new(),
            };
            session.receive(throttled, s(*now));
        }
        let (.., told) = answers_reports_only(&mut session, &mut version, &json!(false), *now);
        told.contains(&SessionEffect::Desired(Some(json!(false))))
    });
    assert!(released.is_some_and(|at| at < 3_660), "{released:?}");
}

#[test]
fn what_somebody_else_writes_over_our_report_is_put_right_and_not_more_often_than_so() {
    let mut session = session();
    let asked = token(&session.tick(&enforced(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 2);
    let first = session.tick(&enforced(), s(2), 0.5);
    let accepted = report_became(&session, token(&first, "/update"), 8);
    session.receive(accepted, s(2));
    assert!(
        session.tick(&enforced(), s(3), 0.5).is_empty(),
        "control: it is said"
    );
    let mut version = 8;
    let mut again = Vec::new();
    for now in 10..100 {
        // Once a second.
        version += 1;
        let others = ShadowMessage::Updated {
            token: None,
            version,
            desired: None,
            reported: Some(json!({"quarantine": false})),
        };
        session.receive(others, s(now));
        let effects = session.tick(&enforced(), s(now), 0.5);
        if publishes(&effects, "/update") {
            version += 1;
            let accepted = report_became(&session, token(&effects, "/update"), version);
            session.receive(accepted, s(now));
            again.push(now);
        }
        if publishes(&effects, "/get") {
            answer(
                &mut session,
                token(&effects, "/get"),
                version,
                Some(json!(true)),
                now,
            );
        }
    }
    assert!(!again.is_empty() && again.len() < 5, "{again:?}");
}
