//! What stays owed: answers that are refused, lost or too large delay nobody's release by more than the longest pause of reports.

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
                let token = Some(token);
                if !topic.ends_with("/update") {
                    session.receive(ShadowMessage::GetRejected { token, code }, s(now));
                    continue;
                }
                version += 1;
                session.receive(delta(version, false), s(now));
                let accepted = ShadowMessage::Updated {
                    token,
                    version,
                    desired: None,
                    reports: false,
                };
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
            let accepted = report_became(token, *version);
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
        reports: false,
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
        reports: false,
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
                let accepted = report_became(token, version - 1);
                session.receive(accepted, now);
            }
        }
    }
    assert!((2..20).contains(&reports), "{reports} in a minute");
}

#[test]
fn what_others_write_with_a_token_of_ours_is_not_ours() {
    let mut session = session();
    let asked = token(&session.tick(&enforced(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 1);
    let sent = token(&session.tick(&enforced(), s(2), 0.5), "/update");
    let accepted = |version: u64, reports: bool| ShadowMessage::Updated {
        token: Some(sent.clone()),
        version,
        desired: None,
        reports,
    };
    // It comes by each subscription that there is.
    (0..2).for_each(|_| _ = session.receive(accepted(8, true), s(2)));
    let quiet = (3..50).all(|now| session.tick(&enforced(), s(now), 0.5).is_empty());
    assert!(quiet, "control: all is said");
    session.receive(accepted(9, true), s(50));
    let again =
        (50..90).any(|now| format!("{:?}", session.tick(&enforced(), s(now), 0.5)).contains("shadow/update"));
    assert!(again, "it is put right");
}
