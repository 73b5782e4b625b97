//! What each event proves of the control channel, and that a request's fate is its own.

use super::*;

/// A session that has a report under way and a question after it; their tokens.
fn both_under_way() -> (ShadowSession, String, String) {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 1);
    session.reconnected(s(1));
    let effects = session.tick(&enforced(), s(1), 0.5);
    (session, token(&effects, "/get"), token(&effects, "/update"))
}

pub(super) fn breaks(effects: &[SessionEffect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, SessionEffect::Broken(_)))
}

#[test]
fn a_report_that_is_not_taken_proves_nothing_and_leaves_the_question_alone() {
    let (mut session, get, update) = both_under_way();
    assert_eq!(session.publish_failed(&update, "too large".into(), s(2)), []);
    assert_eq!(session.trouble().as_deref(), Some("too large"));
    let effects = answer(&mut session, get, 7, Some(json!(true)), 2);
    assert!(effects.contains(&SessionEffect::RoundTrip(s(1))), "{effects:?}");
    // As long as it is refused, each try is later than the one before, and a question follows it.
    let (mut reports, mut questions) = (0, 0);
    for now in 3..300 {
        for effect in session.tick(&enforced(), s(now), 0.5) {
            let SessionEffect::Publish { topic, token, .. } = effect else {
                panic!("{effect:?}");
            };
            if topic.ends_with("/update") {
                reports += 1;
                assert_eq!(session.publish_failed(&token, "too large".into(), s(now)), []);
            } else {
                questions += 1;
                let effects = answer(&mut session, token, 7, Some(json!(true)), now);
                assert!(effects.contains(&SessionEffect::RoundTrip(s(now))));
            }
        }
    }
    assert!((5..15).contains(&reports), "{reports}");
    assert!((reports - 1..=reports + 1).contains(&questions), "{questions}");
}

#[test]
fn a_question_that_is_not_taken_breaks_the_channel_and_leaves_the_report_alone() {
    let (mut session, get, update) = both_under_way();
    assert_eq!(session.publish_failed("ew-0", "of another".into(), s(2)), []);
    assert!(breaks(&session.publish_failed(&get, "offline".into(), s(2))));
    let accepted = report_became(&session, update, 8);
    assert_eq!(session.receive(accepted, s(2)), [SessionEffect::RoundTrip(s(1))]);
}

#[test]
fn a_lost_report_is_asked_about_and_a_lost_question_breaks_the_channel() {
    let (mut session, get, _lost) = both_under_way();
    answer(&mut session, get, 7, Some(json!(true)), 2);
    let effects = session.tick(&enforced(), s(11), 0.5);
    assert!(!breaks(&effects), "{effects:?}");
    let asked = token(&effects, "/get");
    assert!(session.trouble().is_some());
    answer(&mut session, asked, 7, Some(json!(true)), 11);

    let (mut silent, ..) = both_under_way();
    assert!(breaks(&silent.tick(&enforced(), s(11), 0.5)), "control");
}

#[test]
fn every_refusal_of_the_service_is_an_answer() {
    for code in [400, 401, 403, 409, 413, 429, 500, 503] {
        let (mut session, get, update) = both_under_way();
        let answered = [SessionEffect::RoundTrip(s(1))];
        assert_eq!(session.receive(rejected(get, code), s(2)), answered, "{code}");
        let message = String::new();
        let refused = ShadowMessage::UpdateRejected {
            token: Some(update),
            code,
            message,
        };
        assert_eq!(session.receive(refused.clone(), s(2)), answered, "{code}");
        assert_eq!(session.receive(refused, s(2)), [], "not another's");
        assert!(
            session
                .trouble()
                .is_some_and(|why| why.contains(&code.to_string()))
        );
    }
}

#[test]
fn a_topic_that_is_refused_breaks_the_channel_only_where_nothing_can_be_asked() {
    let topics = ShadowTopics::new("gw", None).subscriptions();
    let (delta, removal) = (&topics[4], &topics[5]);
    let mut new = ShadowSession::new(ShadowTopics::new("gw", None), REFRESH, "seed");
    assert!(breaks(&new.refused(delta, "offline", s(1))));
    assert!(
        !breaks(&new.refused(removal, "not allowed", s(1))),
        "it is not needed"
    );
    let (mut ready, get, _) = both_under_way();
    assert!(!breaks(&ready.refused(delta, "not allowed", s(2))));
    answer(&mut ready, get, 7, None, 2);
    token(&ready.tick(&enforced(), s(2), 0.5), "/get");
    assert!(ready.trouble().is_some_and(|why| why.contains("update/delta")));
    assert!(breaks(&ready.disconnected("it ended")));
}

#[test]
fn a_refused_report_is_not_sent_again_unchanged() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 2);
    let sent = token(&session.tick(&released(), s(2), 0.5), "/update");
    let refused = |token, code| ShadowMessage::UpdateRejected {
        token: Some(token),
        code,
        message: String::new(),
    };
    session.receive(refused(sent, 403), s(3));
    assert!(session.tick(&released(), s(4), 0.5).is_empty());
    let mut sent = token(&session.tick(&enforced(), s(5), 0.5), "/update");
    // Where there is no room for it, less is said, and at last nothing.
    for now in 6..10 {
        session.receive(refused(sent, 413), s(now));
        sent = token(&session.tick(&enforced(), s(now), 0.5), "/update");
    }
    session.receive(refused(sent, 413), s(10));
    assert!(session.tick(&enforced(), s(11), 0.5).is_empty());
}

#[test]
fn an_order_that_the_shadow_has_no_room_for_twice_is_not_repeated_and_what_is_done_is_told() {
    let mut session = session();
    let order = json!({"id": "shadow", "posture": "isolate"});
    let asked = token(&session.tick(&enforced(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(order.clone()), 2);
    let said = |effects: &[SessionEffect]| {
        effects.iter().find_map(|effect| match effect {
            SessionEffect::Publish { topic, payload, .. } if topic.ends_with("/update") => {
                Some(payload["state"]["reported"]["quarantine"].clone())
            }
            _ => None,
        })
    };
    let whole = session.tick(&enforced(), s(2), 0.5);
    assert_eq!(said(&whole), Some(order.clone()), "control");
    let refused = |report: &[SessionEffect]| ShadowMessage::UpdateRejected {
        token: Some(token(report, "/update")),
        code: 413,
        message: String::new(),
    };
    session.receive(refused(&whole), s(3));
    let less = session.tick(&enforced(), s(3), 0.5);
    assert_eq!(said(&less), Some(json!(true)));
    let taken = report_became(&session, token(&less, "/update"), 8);
    session.receive(taken, s(4));
    assert!(session.tick(&enforced(), s(5), 0.5).is_empty(), "it is said");
    let tells = |session: &ShadowSession| session.trouble().is_some_and(|why| why.contains("no room"));
    assert!(tells(&session));
    // Others may have made room.
    let due = s(3) + REFRESH;
    let before = session.tick(&enforced(), due - s(1), 0.5);
    assert_eq!(said(&before), None, "not before");
    assert!(session.next_wake(&enforced(), due - s(1)) <= s(1));
    let whole = session.tick(&enforced(), due, 0.5);
    assert_eq!(said(&whole), Some(order));
    session.receive(refused(&whole), due);
    // There is none: what it says is said already.
    assert_eq!(said(&session.tick(&enforced(), due, 0.5)), None);
    assert_eq!(
        said(&session.tick(&enforced(), due + REFRESH, 0.5)),
        None,
        "more seldom"
    );
    let due = due + REFRESH * 2;
    let whole = session.tick(&enforced(), due, 0.5);
    let taken = report_became(&session, token(&whole, "/update"), 9);
    session.receive(taken, due);
    assert!(!tells(&session));
    // Another order may be shorter.
    session.receive(delta(10, false), due);
    let whole = session.tick(&released(), due, 0.5);
    assert_eq!(said(&whole), Some(json!(false)));
    assert!(!tells(&session));
}
