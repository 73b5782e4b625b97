//! What stays owed: answers that are refused, lost or too large delay nobody's release by more than the longest pause of reports.

use super::held::publishes;
use super::questions::{answers_reports_only, lite};
use super::*;

/// Longer than the longest pause from one report that asks to the next.
const LONGEST: u64 = 66;

/// What the session publishes in this second is refused with this code; how many reports.
fn refused(session: &mut ShadowSession, code: u64, now: u64) -> usize {
    let effects = session.tick(&enforced(), s(now), 0.5);
    let mut reports = 0;
    for effect in effects {
        let SessionEffect::Publish { topic, token, .. } = effect else {
            continue;
        };
        let token = Some(token);
        let answer = if topic.ends_with("/update") {
            reports += 1;
            let message = "no".to_owned();
            ShadowMessage::UpdateRejected { token, code, message }
        } else {
            ShadowMessage::GetRejected { token, code }
        };
        session.receive(answer, s(now));
    }
    reports
}

#[test]
fn what_a_refused_report_was_to_ask_the_next_one_asks_however_long_the_question_waits() {
    for code in [401, 403, 429, 500] {
        let mut session = lite();
        (1..450).for_each(|now| _ = refused(&mut session, 429, now));
        // The service is well again, but for one report, and the shadow is too large to be given.
        let mut now = 450;
        while refused(&mut session, code, now) == 0 {
            now += 1;
            assert!(now < 450 + LONGEST, "{code}: no report asks");
        }
        let (well, mut version) = (now, 50);
        let released = |now: u64| {
            let (.., told) = answers_reports_only(&mut session, &mut version, &json!(false), now);
            told.contains(&SessionEffect::Desired(Some(json!(false))))
        };
        assert!((well + 1..well + LONGEST).any(released), "{code}");
    }
}

#[test]
fn where_the_question_is_refused_again_and_again_a_report_asks() {
    for code in [403, 429, 500] {
        let mut session = session();
        let mut version = 3;
        let released = |now: u64| {
            for effect in session.tick(&enforced(), s(now), 0.5) {
                let SessionEffect::Publish { topic, token, .. } = effect else {
                    continue;
                };
                if !topic.ends_with("/update") {
                    let token = Some(token);
                    session.receive(ShadowMessage::GetRejected { token, code }, s(now));
                    continue;
                }
                version += 1;
                session.receive(delta(version, false), s(now));
                let accepted = report_became(&session, token, version);
                let told = session.receive(accepted, s(now));
                if told.contains(&SessionEffect::Desired(Some(json!(false)))) {
                    return true;
                }
            }
            false
        };
        assert!((1..10).any(released), "{code}");
    }
}

/// Our reports are accepted and no delta comes, which is too large; whether this is learnt within a minute.
fn learns_without_deltas(session: &mut ShadowSession, version: &mut u64, desired: &Value) -> bool {
    (10..10 + LONGEST).any(|now| {
        for effect in session.tick(&enforced(), s(now), 0.5) {
            let SessionEffect::Publish { topic, token, .. } = effect else {
                continue;
            };
            if !topic.ends_with("/update") {
                continue;
            }
            *version += 1;
            let accepted = report_became(session, token, *version);
            let told = session.receive(accepted, s(now));
            if told.contains(&SessionEffect::Desired(Some(desired.clone()))) {
                return true;
            }
        }
        false
    })
}

#[test]
fn what_somebody_is_heard_to_write_is_obeyed_where_neither_document_nor_delta_comes_through() {
    let write = |version: u64, desired: Option<Option<Value>>| ShadowMessage::Updated {
        token: Some("another".into()),
        version,
        desired,
        reported: None,
    };
    for desired in [json!(false), json!(true)] {
        let (mut session, mut version) = (lite(), 50);
        session.tick(&enforced(), s(2), 0.5);
        assert!(
            !learns_without_deltas(&mut session, &mut version, &desired),
            "control: nothing was heard"
        );
        let (mut session, mut version) = (lite(), 50);
        session.tick(&enforced(), s(2), 0.5);
        session.receive(write(50, Some(Some(desired.clone()))), s(9));
        assert!(learns_without_deltas(&mut session, &mut version, &desired));
        // What is written of something else does not matter, and what was not heard does.
        for (unheard, learns) in [(false, true), (true, false)] {
            let (mut session, mut version) = (lite(), 51 + u64::from(unheard));
            session.tick(&enforced(), s(2), 0.5);
            session.receive(write(50, Some(Some(desired.clone()))), s(9));
            session.receive(write(version, None), s(9));
            assert_eq!(
                learns_without_deltas(&mut session, &mut version, &desired),
                learns
            );
        }
    }
}

#[test]
fn what_was_written_in_a_shadow_that_is_gone_is_desired_in_no_later_one() {
    let (mut session, mut version) = (lite(), 50);
    let write = |version: u64, desired: Value| ShadowMessage::Updated {
        token: Some("another".into()),
        version,
        desired: Some(Some(desired)),
        reported: None,
    };
    session.tick(&enforced(), s(2), 0.5);
    session.receive(write(version, json!(false)), s(3));
    assert!(
        learns_without_deltas(&mut session, &mut version, &json!(false)),
        "control"
    );
    // Made anew, and nobody heard what is desired there; a report does not tell it either.
    session.reconnected(s(100));
    let mut version = 1;
    let heard = (100..170).any(|now| {
        answers_reports_only(&mut session, &mut version, &json!(true), now);
        session.version() == Some(version)
    });
    assert!(heard, "control: it is known to be another one");
    // It counts past the version at which the other one ended.
    for now in 170..14_000 {
        if now % 100 == 0 {
            session.reconnected(s(now));
        }
        let (.., told) = answers_reports_only(&mut session, &mut version, &json!(true), now);
        let released = told.contains(&SessionEffect::Desired(Some(json!(false))));
        assert!(!released, "version {version}");
    }
    assert!(version > 60, "control: {version}");
}

#[test]
fn a_wish_that_is_heard_again_and_again_hastens_no_report() {
    let mut session = lite();
    let (mut version, mut reports) = (50, 0);
    for tenth in 10..610 {
        let now = Duration::from_millis(100 * tenth);
        let effects = session.tick(&enforced(), now, 0.5);
        version += 1;
        session.receive(delta(version, false), now);
        for effect in effects {
            let SessionEffect::Publish { topic, token, .. } = effect else {
                continue;
            };
            if topic.ends_with("/update") {
                reports += 1;
                // Others have written since.
                let accepted = report_became(&session, token, version - 1);
                session.receive(accepted, now);
            }
        }
    }
    assert!((2..20).contains(&reports), "{reports} in a minute");
}

#[test]
fn what_others_write_with_a_token_of_ours_is_not_ours() {
    let says = |token: &str, version: u64, said: &Value| ShadowMessage::Updated {
        token: Some(token.to_owned()),
        version,
        desired: None,
        reported: Some(said.clone()),
    };
    let false_word =
        json!({"quarantine": false, "quarantineStatus": {"state": "released", "posture": "normal"}});
    for of in [
        "the report",
        "the question",
        "a refused report",
        "the report, before it is accepted",
    ] {
        let mut session = session();
        let asked = token(&session.tick(&enforced(), s(1), 0.5), "/get");
        answer(&mut session, asked.clone(), 7, Some(json!(true)), 1);
        let refused = token(&session.tick(&enforced(), s(2), 0.5), "/update");
        let busy = ShadowMessage::UpdateRejected {
            token: Some(refused.clone()),
            code: 429,
            message: String::new(),
        };
        session.receive(busy, s(2));
        let (now, sent) = (3..20)
            .find_map(|now| {
                let effects = session.tick(&enforced(), s(now), 0.5);
                publishes(&effects, "/update").then(|| (now, token(&effects, "/update")))
            })
            .unwrap();
        if of == "the report, before it is accepted" {
            session.receive(says(&sent, 8, &false_word), s(now));
            session.receive(report_became(&session, sent, 9), s(now));
            // It stands over theirs.
            let quiet = (now..now + 25).all(|now| session.tick(&enforced(), s(now), 0.5).is_empty());
            assert!(quiet, "{of}: ours is the last");
            continue;
        }
        let accepted = report_became(&session, sent.clone(), 8);
        // It comes by each subscription that there is.
        (0..2).for_each(|_| _ = session.receive(accepted.clone(), s(now)));
        let quiet = (now..now + 50).all(|now| session.tick(&enforced(), s(now), 0.5).is_empty());
        assert!(quiet, "control: all is said");
        let copied = match of {
            "the report" => &sent,
            "the question" => &asked,
            _ => &refused,
        };
        session.receive(says(copied, 9, &false_word), s(100));
        let again = (100..140).any(|now| publishes(&session.tick(&enforced(), s(now), 0.5), "/update"));
        assert!(again, "{of}: it is put right");
    }
}

/// Somebody writes `false` where neither document nor delta comes through, as version 50; what of the answers to our reports is
/// lost, and what others write, `meanwhile` says: for each version behind it whose it is and whether it is heard. Whether it is obeyed.
fn obeys_behind(meanwhile: &[(&str, bool)], cut: Option<usize>) -> bool {
    let mut session = lite();
    session.tick(&enforced(), s(2), 0.5);
    let write = |version: u64, desired: Option<Option<Value>>| ShadowMessage::Updated {
        token: Some("another".into()),
        version,
        desired,
        reported: None,
    };
    session.receive(write(50, Some(Some(json!(false)))), s(9));
    let (mut version, mut next) = (50, 0);
    for now in 10..400 {
        while let Some((_, heard)) = meanwhile.get(next).filter(|(whose, _)| *whose == "others") {
            (version, next) = (version + 1, next + 1);
            if *heard {
                session.receive(write(version, None), s(now));
            }
        }
        for effect in session.tick(&enforced(), s(now), 0.5) {
            let SessionEffect::Publish { topic, token, .. } = effect else {
                continue;
            };
            if !topic.ends_with("/update") {
                continue;
            }
            let (whose, heard) = meanwhile.get(next).copied().unwrap_or(("ours", true));
            if cut == Some(next) {
                session.reconnected(s(now));
            }
            next += 1;
            version += u64::from(whose == "ours");
            if heard {
                let accepted = report_became(&session, token, version);
                if session
                    .receive(accepted, s(now))
                    .contains(&SessionEffect::Desired(Some(json!(false))))
                {
                    return true;
                }
            }
        }
    }
    assert!(
        session.trouble().is_some_and(|why| why.contains("version 50")),
        "it is told: {:?}",
        session.trouble()
    );
    false
}

#[test]
fn false_that_is_heard_is_obeyed_where_the_acceptance_of_a_report_behind_it_is_lost() {
    let (ours, lost) = (("ours", true), ("ours", false));
    assert!(obeys_behind(&[ours], None), "control");
    assert!(obeys_behind(&[lost], None));
    assert!(obeys_behind(&[lost, lost, ours], None));
    assert!(obeys_behind(&[lost, ("others", true), ours], None));
    // The report itself is lost, and nobody has written.
    assert!(obeys_behind(&[("nobody", false), ours], Some(0)));
}

#[test]
fn false_that_is_heard_is_not_obeyed_where_what_was_not_heard_behind_it_may_be_anybodys() {
    let (ours, lost, unheard) = (("ours", true), ("ours", false), ("others", false));
    assert!(!obeys_behind(&[unheard, ours], None));
    assert!(!obeys_behind(&[lost, unheard, ours], None));
    assert!(!obeys_behind(&[lost, unheard, unheard, ours], None));
    // Over another connection ours may not have come there, and somebody else's has.
    assert!(!obeys_behind(&[lost, ours], Some(0)));
}

#[test]
fn where_others_write_over_our_report_again_and_again_few_reports_ask() {
    let mut session = lite();
    let (mut version, mut reports) = (50, 0);
    for tenth in 10..610 {
        let now = Duration::from_millis(100 * tenth);
        // They report false and true in turn, where true is desired.
        version += 1;
        let theirs = tenth % 2 == 0;
        let written = ShadowMessage::Updated {
            token: None,
            version,
            desired: None,
            reported: Some(json!({ "quarantine": theirs })),
        };
        session.receive(written, now);
        let differs = |version: u64, is_said: bool| ShadowMessage::Delta {
            version,
            quarantine: (!is_said).then_some(json!(true)),
        };
        session.receive(differs(version, theirs), now);
        for effect in session.tick(&enforced(), now, 0.5) {
            let SessionEffect::Publish { topic, token, .. } = effect else {
                continue;
            };
            if topic.ends_with("/update") {
                (version, reports) = (version + 1, reports + 1);
                let accepted = report_became(&session, token, version);
                session.receive(accepted, now);
                session.receive(differs(version, true), now);
            }
        }
    }
    assert!((2..20).contains(&reports), "{reports} in a minute");
}
