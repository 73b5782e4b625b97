//! The session against the situations of docs/reference/shadow.md#catching-up and docs/reference/shadow.md#vectors.

use super::*;
use crate::cloud::shadow_message::ShadowMessage;
use crate::quarantine::orders::order::{Authority, Order, Posture};

const REFRESH: Duration = Duration::from_secs(600);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn session() -> ShadowSession {
    let mut session = ShadowSession::new(ShadowTopics::new("gw", None), REFRESH, "seed");
    session.subscribed(Duration::ZERO, s(1));
    session
}

fn released() -> State {
    State {
        phase: Phase::Released,
        posture: Some(Posture::Normal),
        ..State::default()
    }
}

fn enforced() -> State {
    let issued = "2026-01-01T00:00:00Z".parse().unwrap();
    State {
        phase: Phase::Enforced,
        wanted: Posture::Isolate,
        posture: Some(Posture::Isolate),
        orders: vec![Order::isolate(Authority::Shadow, "shadow", None, issued)],
        ..State::default()
    }
}

/// The token of the request that was published to a topic ending in `suffix`.
fn token(effects: &[SessionEffect], suffix: &str) -> String {
    effects
        .iter()
        .find_map(|effect| match effect {
            SessionEffect::Publish { topic, payload, .. } if topic.ends_with(suffix) => {
                Some(payload["clientToken"].as_str().unwrap().to_owned())
            }
            _ => None,
        })
        .unwrap_or_else(|| panic!("nothing was published to {suffix}: {effects:?}"))
}

/// The report of ours that is under way became this version.
fn report_became(session: &ShadowSession, token: String, version: u64) -> ShadowMessage {
    let reported = session
        .update
        .body(&token)
        .map(|body| body["state"]["reported"].clone());
    ShadowMessage::Updated {
        token: Some(token),
        version,
        desired: None,
        reported: Some(reported.expect("a report that is under way")),
    }
}

fn answer(
    session: &mut ShadowSession,
    token: String,
    version: u64,
    desired: Option<Value>,
    now: u64,
) -> Vec<SessionEffect> {
    let reported = json!({});
    session.receive(
        ShadowMessage::Got {
            token: Some(token),
            version,
            desired,
            reported,
        },
        s(now),
    )
}

#[test]
fn nothing_is_asked_before_every_topic_is_subscribed() {
    let mut session = ShadowSession::new(ShadowTopics::new("gw", None), REFRESH, "seed");
    assert!(session.tick(&released(), s(5), 0.5).is_empty());
    session.subscribed(Duration::ZERO, s(6));
    token(&session.tick(&released(), s(6), 0.5), "/get");
}

#[test]
fn an_answer_is_a_round_trip_and_then_the_state_is_reported() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    let effects = answer(&mut session, asked, 7, Some(json!(false)), 2);
    assert_eq!(
        effects,
        [
            SessionEffect::RoundTrip(s(1)),
            SessionEffect::Desired(Some(json!(false)))
        ]
    );
    let effects = session.tick(&released(), s(2), 0.5);
    let updated = token(&effects, "/update");
    let text = format!("{effects:?}");
    assert!(!text.contains("desired"), "desired is never written: {text}");
    session.receive(report_became(&session, updated, 8), s(3));
    assert!(
        session.tick(&released(), s(4), 0.5).is_empty(),
        "the same news is not sent twice"
    );
}

#[test]
fn a_stale_delta_changes_nothing_and_a_repeated_one_is_harmless() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, None, 2);
    let delta = |version| ShadowMessage::Delta {
        version,
        quarantine: Some(json!(true)),
    };
    assert!(session.receive(delta(6), s(3)).is_empty());
    assert_eq!(
        session.receive(delta(8), s(3)),
        [SessionEffect::Desired(Some(json!(true)))]
    );
    assert_eq!(
        session.receive(delta(8), s(3)),
        [SessionEffect::Desired(Some(json!(true)))]
    );
}

#[test]
fn a_removed_key_is_noticed_without_a_delta() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 2);
    let removed = ShadowMessage::Updated {
        token: None,
        version: 8,
        desired: Some(None),
        reported: None,
    };
    assert_eq!(session.receive(removed, s(3)), [SessionEffect::Desired(None)]);
}

#[test]
fn a_lost_version_asks_again() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, None, 2);
    session.receive(
        ShadowMessage::Delta {
            version: 9,
            quarantine: None,
        },
        s(3),
    );
    token(&session.tick(&released(), s(3), 0.5), "/get");
}

#[test]
fn versions_restart_with_a_deleted_shadow() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 70, Some(json!(true)), 2);
    assert!(
        session.receive(ShadowMessage::Deleted, s(3)).is_empty(),
        "a late message releases nobody"
    );
    let asked = token(&session.tick(&released(), s(3), 0.5), "/get");
    let gone = ShadowMessage::GetRejected {
        token: Some(asked),
        code: 404,
    };
    assert_eq!(
        session.receive(gone, s(3)),
        [SessionEffect::RoundTrip(s(3)), SessionEffect::Desired(None)]
    );
    let fresh = ShadowMessage::Delta {
        version: 1,
        quarantine: Some(json!(true)),
    };
    assert_eq!(
        session.receive(fresh, s(4)),
        [SessionEffect::Heard(json!(true))],
        "it closes at once, and is asked for in case it is of the shadow that is gone"
    );
    token(&session.tick(&released(), s(4), 0.5), "/get");
}

#[test]
fn a_late_answer_does_not_undo_a_newer_delta_and_a_repeated_one_is_believed() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    session.receive(
        ShadowMessage::Delta {
            version: 6,
            quarantine: Some(json!(true)),
        },
        s(1),
    );
    assert_eq!(
        answer(&mut session, asked, 5, None, 2),
        [SessionEffect::RoundTrip(s(1))],
        "formed before the delta"
    );
    let asked = token(&session.tick(&released(), s(2), 0.5), "/get");
    let believed = [SessionEffect::RoundTrip(s(2)), SessionEffect::Desired(None)];
    assert_eq!(
        answer(&mut session, asked, 1, None, 3),
        believed,
        "the shadow was made anew"
    );
}

#[test]
fn a_piece_of_an_order_is_asked_for_whole() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, None, 2);
    let piece = json!({"expires": "2027-01-01T00:00:00Z"});
    let delta = ShadowMessage::Delta {
        version: 8,
        quarantine: Some(piece.clone()),
    };
    assert!(session.receive(delta, s(3)).is_empty());
    let asked = token(&session.tick(&released(), s(3), 0.5), "/get");
    let whole = json!({"posture": "isolate", "expires": "2027-01-01T00:00:00Z"});
    let effects = answer(&mut session, asked, 8, Some(whole.clone()), 4);
    assert_eq!(
        effects,
        [
            SessionEffect::RoundTrip(s(3)),
            SessionEffect::Desired(Some(whole))
        ]
    );
}

#[test]
fn an_order_is_whole_in_a_delta_while_no_order_is_reported() {
    let order = json!({"posture": "isolate", "expires": "2027-01-01T00:00:00Z"});
    let delta = |version| ShadowMessage::Delta {
        version,
        quarantine: Some(order.clone()),
    };
    let began = |reported: Value| {
        let mut session = session();
        let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
        session.receive(
            ShadowMessage::Got {
                token: Some(asked),
                version: 7,
                desired: None,
                reported,
            },
            s(2),
        );
        session
    };
    let mut plain = began(json!({"quarantine": false}));
    assert_eq!(
        plain.receive(delta(8), s(3)),
        [SessionEffect::Desired(Some(order.clone()))],
        "carried out at once"
    );
    token(&plain.tick(&released(), s(3), 0.5), "/get");
    let mut missed = began(json!({"quarantine": false}));
    assert_eq!(missed.receive(delta(9), s(3)), []);
    let mut reported = began(json!({"quarantine": {"posture": "restrict"}}));
    assert_eq!(
        reported.receive(delta(8), s(3)),
        [],
        "it may be a piece: what is alike is left out"
    );
}

#[test]
fn silence_is_broken_and_leads_to_a_reconnect_and_never_to_a_release() {
    let mut session = session();
    let all: Vec<SessionEffect> = (1..200)
        .flat_map(|now| session.tick(&enforced(), s(now), 0.5))
        .collect();
    assert!(
        all.iter()
            .any(|effect| matches!(effect, SessionEffect::Broken(_)))
    );
    assert!(all.contains(&SessionEffect::Reconnect));
    assert!(
        !all.iter()
            .any(|effect| matches!(effect, SessionEffect::Desired(_)))
    );
}

#[test]
fn a_provisional_plan_is_asked_for_every_second() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 1);
    let provisional = State {
        phase: Phase::Provisional,
        ..enforced()
    };
    assert!(session.next_wake(&provisional, s(1)) <= s(1));
    token(&session.tick(&provisional, s(2), 0.5), "/get");
}

#[test]
fn no_shadow_means_report_and_create_it() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    let effects = session.receive(
        ShadowMessage::GetRejected {
            token: Some(asked),
            code: 404,
        },
        s(2),
    );
    assert_eq!(
        effects,
        [SessionEffect::RoundTrip(s(1)), SessionEffect::Desired(None)]
    );
    token(&session.tick(&released(), s(2), 0.5), "/update");
}

#[test]
fn news_after_an_accepted_report_wait_for_no_pause_from_before() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 1);
    let mut provisional = enforced();
    provisional.phase = Phase::Provisional;
    // Neither questions nor reports get out, so each question is asked by a report as well.
    let mut now = 2;
    let accepted = loop {
        let effects = session.tick(&provisional, s(now), 0.5);
        let reports = effects
            .iter()
            .any(|effect| format!("{effect:?}").contains("/update\""));
        if now > 30 && reports {
            break token(&effects, "/update");
        }
        for effect in effects {
            if let SessionEffect::Publish { token, .. } = effect {
                session.publish_failed(&token, "offline".into(), s(now));
            }
        }
        now += 1;
        assert!(now < 200, "a report is tried again");
    };
    let answer = report_became(&session, accepted, 8);
    session.receive(answer, s(now));
    token(&session.tick(&enforced(), s(now + 1), 0.5), "/update");
}

fn delta(version: u64, quarantine: bool) -> ShadowMessage {
    ShadowMessage::Delta {
        version,
        quarantine: Some(json!(quarantine)),
    }
}

fn rejected(token: String, code: u64) -> ShadowMessage {
    ShadowMessage::GetRejected {
        token: Some(token),
        code,
    }
}

#[test]
fn what_was_heard_before_a_restart_is_old_and_what_is_newer_lets_nobody_go_unasked() {
    let mut session = session().resume(Some(12));
    let asked = token(&session.tick(&enforced(), s(1), 0.5), "/get");
    assert_eq!(session.receive(delta(11, true), s(1)), [], "of an earlier life");
    for (version, quarantine) in [(13, true), (14, false)] {
        let heard = SessionEffect::Heard(json!(quarantine));
        assert_eq!(session.receive(delta(version, quarantine), s(1)), [heard]);
    }
    let removed = ShadowMessage::Updated {
        token: None,
        version: 15,
        desired: Some(None),
        reported: None,
    };
    assert_eq!(session.receive(removed, s(1)), []);
    let effects = answer(&mut session, asked, 15, None, 2);
    assert_eq!(
        effects,
        [SessionEffect::RoundTrip(s(1)), SessionEffect::Desired(None)]
    );
    let settled = SessionEffect::Desired(Some(json!(false)));
    assert_eq!(session.receive(delta(16, false), s(3)), [settled]);
    let gap = SessionEffect::Heard(json!(false));
    assert_eq!(
        session.receive(delta(60, false), s(4)),
        [gap],
        "of whatever shadow"
    );
    token(&session.tick(&enforced(), s(4), 0.5), "/get");
}

#[test]
fn after_lost_messages_nobody_is_let_go_unasked() {
    let mut session = session();
    let asked = token(&session.tick(&enforced(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 1);
    session.subscribed(Duration::ZERO, s(2));
    let heard = SessionEffect::Heard(json!(false));
    assert_eq!(session.receive(delta(8, false), s(2)), [heard]);
    token(&session.tick(&enforced(), s(2), 0.5), "/get");
}

#[test]
fn a_shadow_that_was_made_anew_meanwhile_is_believed_at_the_second_answer() {
    let mut session = session().resume(Some(70));
    for (now, desired) in [(1, None), (2, Some(SessionEffect::Desired(Some(json!(true)))))] {
        let asked = token(&session.tick(&released(), s(now), 0.5), "/get");
        let effects = answer(&mut session, asked, 1, Some(json!(true)), now);
        let round_trip = SessionEffect::RoundTrip(s(now));
        assert_eq!(
            effects,
            [round_trip].into_iter().chain(desired).collect::<Vec<_>>()
        );
    }
    assert_eq!(session.version(), Some(1));
}

#[test]
fn a_late_removal_makes_no_old_message_new() {
    let mut session = session();
    let asked = token(&session.tick(&enforced(), s(1), 0.5), "/get");
    answer(&mut session, asked, 7, Some(json!(true)), 1);
    session.receive(ShadowMessage::Deleted, s(2));
    assert_eq!(session.receive(delta(5, false), s(2)), []);
    // An answer that was formed before a message that speaks of the shadow.
    let asked = token(&session.tick(&enforced(), s(2), 0.5), "/get");
    session.receive(delta(8, true), s(3));
    assert_eq!(
        session.receive(rejected(asked, 404), s(3)),
        [SessionEffect::RoundTrip(s(2))]
    );
    let asked = token(&session.tick(&enforced(), s(3), 0.5), "/get");
    let gone = [SessionEffect::RoundTrip(s(3)), SessionEffect::Desired(None)];
    assert_eq!(session.receive(rejected(asked, 404), s(4)), gone);
}

#[test]
fn a_version_may_be_any_number() {
    let mut session = session();
    let asked = token(&session.tick(&released(), s(1), 0.5), "/get");
    answer(&mut session, asked, u64::MAX, None, 1);
    let order = ShadowMessage::Delta {
        version: u64::MAX,
        quarantine: Some(json!({"posture": "isolate"})),
    };
    let whole = SessionEffect::Desired(Some(json!({"posture": "isolate"})));
    assert_eq!(session.receive(order, s(2)), [whole]);
    assert_eq!(session.receive(delta(3, true), s(2)), []);
}

#[path = "shadow_evidence_tests.rs"]
mod evidence;
#[path = "shadow_held_tests.rs"]
mod held;
#[path = "shadow_owed_tests.rs"]
mod owed;
#[path = "shadow_question_tests.rs"]
mod questions;
