//! Questions whose answers do not come through, and reports that ask instead.

use super::evidence::breaks;
use super::*;

/// One second of a service that answers reports only, as for a shadow that is too large for nucleus lite; how many of both.
pub(super) fn answers_reports_only(
    session: &mut ShadowSession,
    version: &mut u64,
    desired: &Value,
    now: u64,
) -> (u32, u32, Vec<SessionEffect>) {
    let (mut questions, mut reports, mut told) = (0, 0, Vec::new());
    for effect in session.tick(&enforced(), s(now), 0.5) {
        match effect {
            SessionEffect::Publish {
                topic,
                token,
                payload,
            } if topic.ends_with("/update") => {
                reports += 1;
                *version += 1;
                let said = payload["state"]["reported"]["quarantine"].clone();
                let accepted = report_became(session, token, *version);
                let differs = ShadowMessage::Delta {
                    version: *version,
                    quarantine: (said != *desired).then(|| desired.clone()),
                };
                // Topics have no order between them.
                let mut messages = [accepted, differs];
                messages.rotate_left(usize::from(version.is_multiple_of(2)));
                for message in messages {
                    told.extend(session.receive(message, s(now)));
                }
            }
            SessionEffect::Publish { .. } => questions += 1,
            other => told.push(other),
        }
    }
    (questions, reports, told)
}

pub(super) fn lite() -> ShadowSession {
    let topics = ShadowTopics::new("gw", None);
    let mut session = ShadowSession::new(topics, REFRESH, "seed")
        .on_lite(true)
        .resume(Some(40));
    session.subscribed(Duration::ZERO, s(1));
    session
}

#[test]
fn a_shadow_that_does_not_come_through_leaves_nobody_isolated_against_false() {
    let mut session = lite();
    let mut version = 50;
    let released = (1..6).find(|now| {
        let (.., told) = answers_reports_only(&mut session, &mut version, &json!(false), *now);
        told.contains(&SessionEffect::Desired(Some(json!(false))))
    });
    assert_eq!(released, Some(3), "two seconds after the question");
}

#[test]
fn a_shadow_that_was_made_anew_is_known_by_a_report_where_no_question_is_answered() {
    let mut session = lite();
    // It had counted to forty before, and an order of then is in force.
    let mut version = 2;
    let released = (1..6).find(|now| {
        let (.., told) = answers_reports_only(&mut session, &mut version, &json!(false), *now);
        told.contains(&SessionEffect::Desired(Some(json!(false))))
    });
    assert!(released.is_some(), "version {version}");
    assert_eq!(session.version(), Some(version));
    // A report that was sent before a version was known may be counted before it.
    let mut session = lite();
    let sent = token(&session.tick(&enforced(), s(2), 0.5), "/get");
    answer(&mut session, sent, 50, Some(json!(true)), 3);
    let sent = token(&session.tick(&enforced(), s(3), 0.5), "/update");
    session.receive(delta(60, true), s(4));
    let counted = report_became(&session, sent, 51);
    session.receive(counted, s(5));
    assert_eq!(session.version(), Some(60));
}

#[test]
fn what_a_shadow_holds_that_was_made_anew_is_asked_for_as_soon_as_a_report_tells_of_it() {
    let mut session = session();
    let sent = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, sent, 33, Some(json!(true)), 2);
    // It is deleted and made anew while this is under way, and nobody hears what is desired then.
    let sent = token(&session.tick(&enforced(), s(3), 0.5), "/update");
    assert_eq!(
        session.tick(&enforced(), s(3), 0.5),
        [],
        "control: nothing is asked"
    );
    let counted = report_became(&session, sent, 1);
    session.receive(counted, s(4));
    let sent = token(&session.tick(&enforced(), s(4), 0.5), "/get");
    let told = answer(&mut session, sent, 2, Some(json!(false)), 5);
    assert!(
        told.contains(&SessionEffect::Desired(Some(json!(false)))),
        "{told:?}"
    );
}

#[test]
fn a_report_that_was_to_ask_and_was_held_back_asks_when_it_may() {
    let mut session = session();
    // Held back for a while is what each publish of these effects is.
    let hold_back = |session: &mut ShadowSession, effects: Vec<SessionEffect>, wait: u64, now: u64| {
        let mut topics = Vec::new();
        for effect in effects {
            if let SessionEffect::Publish { topic, token, .. } = effect {
                session.left_alone(&token, &topic, s(wait), "left alone".into(), s(now));
                topics.push(topic);
            }
        }
        topics
    };
    let asked = session.tick(&released(), s(1), 0.5);
    let topics = hold_back(&mut session, asked, 2, 1);
    assert_eq!(topics, [session.topics.get()], "control: the question");
    let asked = session.tick(&released(), s(4), 0.5);
    let topics = hold_back(&mut session, asked, 2, 4);
    let both = [session.topics.get(), session.topics.update()];
    assert_eq!(topics, both, "it stays owed, and a report asks in its place");
    assert!(
        session.next_wake(&released(), s(4)) <= s(2),
        "nothing else wakes it"
    );
    token(&session.tick(&released(), s(7), 0.5), "/update");
}

#[test]
fn an_order_that_is_an_object_is_not_reported_without_end_where_no_question_is_answered() {
    let obeyed = json!({"posture": "isolate"});
    let refused = json!({"block": "all"});
    for order in [obeyed, refused] {
        let mut session = lite();
        let (mut version, mut all) = (50, Vec::new());
        let reports: Vec<u64> = (1..3_600)
            .filter(|now| {
                let (_, reports, told) = answers_reports_only(&mut session, &mut version, &order, *now);
                all.extend(told);
                reports > 0
            })
            .collect();
        assert!(
            all.contains(&SessionEffect::Desired(Some(order))),
            "control: it is known"
        );
        assert!((2..30).contains(&reports.len()), "in an hour: {reports:?}");
    }
}

#[test]
fn it_is_told_the_channel_works_and_the_question_is_left_alone() {
    let mut session = lite();
    let (mut version, mut questions, mut reports, mut all) = (50, 0, 0, Vec::new());
    for now in 1..3_600 {
        let (asked, reported, told) = answers_reports_only(&mut session, &mut version, &json!(true), now);
        questions += asked;
        reports += reported;
        all.extend(told);
    }
    assert!(!breaks(&all), "{all:?}");
    assert!(!all.contains(&SessionEffect::Reconnect));
    assert!(
        all.iter()
            .any(|effect| matches!(effect, SessionEffect::RoundTrip(_)))
    );
    assert!(
        session
            .trouble()
            .is_some_and(|why| why.contains("5,000 bytes") && why.contains("shadow.name"))
    );
    assert!(questions <= 12, "{questions} in an hour");
    assert!((5..20).contains(&reports), "{reports} in an hour");
    // It fits again: the next try is answered, and all is as before.
    let asked = (3_600..20_000).find_map(|now| {
        let effects = session.tick(&enforced(), s(now), 0.5);
        let asks = |effect: &SessionEffect| matches!(effect, SessionEffect::Publish { topic, .. } if topic.ends_with("/get"));
        effects.iter().any(asks).then(|| (token(&effects, "/get"), now))
    });
    let (asked, now) = asked.unwrap();
    answer(&mut session, asked, 900, Some(json!(true)), now);
    assert!(!session.trouble().unwrap_or_default().contains("5,000 bytes"));
}

#[test]
fn an_order_that_does_not_come_through_is_told() {
    let mut session = lite();
    let mut version = 50;
    let mut now = 1;
    while session.trouble().is_none() {
        answers_reports_only(&mut session, &mut version, &json!(true), now);
        now += 1;
    }
    // Somebody writes an order; neither its delta nor its acceptance reaches us.
    version += 1;
    session.reconnected(s(now));
    answers_reports_only(&mut session, &mut version, &json!(true), now);
    let told = session.unheard_versions.as_deref().unwrap_or_default();
    assert!(told.contains("did not reach this device"), "{told}");
}

#[test]
fn where_the_question_may_not_be_published_a_report_asks() {
    let mut session = session();
    session.hold("$aws/things/gw/shadow/get", s(1_000), "denied".into());
    let mut version = 3;
    let (questions, reports, told) = answers_reports_only(&mut session, &mut version, &json!(false), 1);
    assert_eq!((questions, reports), (0, 1));
    assert!(
        told.contains(&SessionEffect::Desired(Some(json!(false)))),
        "{told:?}"
    );
    assert_eq!(session.trouble().as_deref(), Some("denied"));
    // Control: afterwards the question is asked again.
    let (questions, ..) = answers_reports_only(&mut session, &mut version, &json!(false), 1_300);
    assert_eq!(questions, 1);
    session.hold("$aws/things/gw/shadow/update", s(2_000), "denied".into());
    session.lost(s(1_311));
    let all: Vec<SessionEffect> = (1_311..1_330)
        .flat_map(|now| session.tick(&released(), s(now), 0.5))
        .collect();
    assert!(!format!("{all:?}").contains("shadow/update"), "{all:?}");
}

#[test]
fn an_answer_formed_before_what_was_heard_is_never_believed_however_often() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, None, 1);
    session.lost(s(2));
    // Orders come faster than answers: each answer is one version behind the delta that came before it.
    let mut version = 8;
    for now in 2..20 {
        let asked = token(&session.tick(&enforced(), s(now), 0.5), "/get");
        version += 1;
        session.receive(delta(version, false), s(now + 1));
        let effects = answer(&mut session, asked, version - 1, Some(json!(true)), now + 1);
        assert_eq!(
            effects,
            [SessionEffect::RoundTrip(s(now))],
            "version {}",
            version - 1
        );
        assert_eq!(session.version(), Some(version));
    }
    let asked = token(&session.tick(&enforced(), s(20), 0.5), "/get");
    let effects = answer(&mut session, asked, version, Some(json!(false)), 21);
    assert!(
        effects.contains(&SessionEffect::Desired(Some(json!(false)))),
        "{effects:?}"
    );
}

#[test]
fn a_reconnect_is_asked_about_at_once_beside_another_subscription_and_proves_nothing_of_before() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, None, 1);
    assert!(session.doubt().is_none() && session.take_proof());
    session.reconnected(s(5));
    assert!(session.doubt().is_some());
    let effects = session.tick(&released(), s(5), 0.5);
    assert!(effects.contains(&SessionEffect::Resubscribe), "{effects:?}");
    let first = token(&effects, "/get");
    // Not answered: another one behind another subscription, and any answer is as good.
    let effects = session.tick(&released(), s(6), 0.5);
    assert_eq!(effects, [SessionEffect::Resubscribe]);
    let second = token(&session.tick(&released(), s(7), 0.5), "/get");
    assert_ne!(first, second);
    assert!(session.doubt().is_some());
    let effects = answer(&mut session, first, 7, None, 8);
    assert!(effects.contains(&SessionEffect::RoundTrip(s(5))), "{effects:?}");
    assert!(session.doubt().is_none() && session.take_proof());
}

#[test]
fn an_unanswered_question_is_asked_ever_less_often_and_a_hint_hastens_it() {
    let mut session = session();
    let mut asked_at = Vec::new();
    for now in 1..40_000 {
        let effects = session.tick(&released(), s(now), 0.5);
        if format!("{effects:?}").contains("shadow/get") {
            asked_at.push(now);
        }
    }
    let late = asked_at.iter().filter(|at| **at > 10_000).count();
    assert!((5..=12).contains(&late), "in eight hours: {asked_at:?}");
    session.reconnected(s(40_000));
    token(&session.tick(&released(), s(40_000), 0.5), "/get");
}

#[test]
fn another_refresh_changes_only_when_the_next_question_is_due() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, None, 1);
    session.refresh_every(s(30), s(2));
    assert!(session.doubt().is_none());
    assert!(!format!("{:?}", session.tick(&released(), s(31), 0.5)).contains("shadow/get"));
    token(&session.tick(&released(), s(32), 0.5), "/get");
}

#[test]
fn a_question_that_the_nucleus_does_not_take_is_asked_by_a_report_and_the_channel_works() {
    let mut session = session();
    let (mut version, mut all) = (3, Vec::new());
    for now in 1..200 {
        for effect in session.tick(&enforced(), s(now), 0.5) {
            let SessionEffect::Publish { topic, token, .. } = effect else {
                continue;
            };
            if topic.ends_with("/get") {
                all.push((now, session.publish_failed(&token, "not allowed".into(), s(now))));
                continue;
            }
            version += 1;
            session.receive(delta(version, false), s(now));
            let accepted = report_became(&session, token, version);
            all.push((now, session.receive(accepted, s(now))));
        }
    }
    let released = all
        .iter()
        .find(|(_, effects)| effects.contains(&SessionEffect::Desired(Some(json!(false)))));
    assert!(released.is_some_and(|(now, _)| *now <= 2), "{released:?}");
    let broken = all.iter().filter(|(_, effects)| breaks(effects)).count();
    assert!(
        (1..=2).contains(&broken),
        "{broken}: at first, while nothing else is known"
    );
    assert_eq!(session.trouble().as_deref(), Some("not allowed"));
    // Without an answer to the reports it is broken.
    let silent: Vec<SessionEffect> = (200..400)
        .flat_map(|now| {
            let effects = session.tick(&enforced(), s(now), 0.5);
            let asked = effects.iter().find_map(|effect| match effect {
                SessionEffect::Publish { topic, token, .. } if topic.ends_with("/get") => Some(token.clone()),
                _ => None,
            });
            asked.map_or(effects, |asked| {
                session.publish_failed(&asked, "not allowed".into(), s(now))
            })
        })
        .collect();
    assert!(breaks(&silent), "{silent:?}");
}
