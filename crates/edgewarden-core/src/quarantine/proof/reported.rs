//! What the shadow's `reported` section says.
//!
//! In: [`State`] and the shadow's `desired.quarantine`. Out: the `reported` object.
//! Invariants: `quarantine` repeats the desired value only once the plan is proven, so the delta stays visible until
//! the device really obeys; `desired` is never written; the object stays far below nucleus lite's 5,000-byte packets.

use serde_json::{Value, json};

use super::journal::ReleaseWithoutNucleus;
use super::state::{Phase, State};
use crate::quarantine::orders::document::{self, Wish};
use crate::quarantine::orders::order::{Authority, Order, Posture};
use crate::quarantine::plan::Scope;

/// Faults repeated in the shadow, and the longest of each in characters.
const MAX_FAULTS: usize = 3;
const MAX_FAULT_TEXT: usize = 160;

/// The `reported` object. `null` members remove what an earlier report left behind.
///
/// While a plan is provisional, and while it is not known what the kernel holds, the `quarantine` key is left out, and
/// with it what was reported before stays: nothing is claimed that was not proven.
pub fn reported(state: &State, desired: Option<&Value>) -> Value {
    let mut reported = json!({ "quarantineStatus": status(state) });
    let known = state.posture.filter(|_| state.phase != Phase::Provisional);
    if let Some(quarantine) = known.and_then(|posture| quarantine(state, posture, desired)) {
        reported["quarantine"] = quarantine;
    }
    reported
}

/// Whether the service's `known` already says what `ours` says. Counters alone are no news worth a message, and a key
/// that ours leaves out stays as it is.
pub fn same_news(known: &Value, ours: &Value) -> bool {
    let quiet = |value: &Value| {
        let mut value = without_nulls(value);
        if ours.get("quarantine").is_none() {
            value.as_object_mut().map(|object| object.remove("quarantine"));
        }
        if let Some(status) = value.get_mut("quarantineStatus").and_then(Value::as_object_mut) {
            status.remove("blocked");
            status.remove("changedBy");
            status.remove("severed");
            let spared = status.get_mut("spared").and_then(Value::as_object_mut);
            spared.map(|spared| spared.remove("count"));
        }
        value
    };
    quiet(known) == quiet(ours)
}

/// `ours` with a `null` for every key below it that only the service's `known` has: the service merges, so what is
/// not named would stay.
pub fn with_removals(ours: Value, known: &Value) -> Value {
    let (Value::Object(mut ours), Value::Object(known)) = (ours.clone(), known) else {
        return ours;
    };
    for (key, value) in known {
        match ours.get(key) {
            Some(own) => {
                let own = with_removals(own.clone(), value);
                ours.insert(key.clone(), own);
            }
            None => {
                ours.insert(key.clone(), Value::Null);
            }
        }
    }
    Value::Object(ours)
}

/// The service keeps no nulls: sent, they remove a key; kept, the key is absent.
pub fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            let mut without = serde_json::Map::new();
            without.extend(kept.map(|(key, value)| (key.clone(), without_nulls(value))));
            Value::Object(without)
        }
        other => other.clone(),
    }
}

/// What may be said of the desired value; `None` while it is on its way to becoming the live order.
fn quarantine(state: &State, posture: Posture, desired: Option<&Value>) -> Option<Value> {
    let desired = desired.filter(|value| !value.is_null());
    let live = state
        .orders
        .iter()
        .find(|order| order.authority == Authority::Shadow);
    let refused = state
        .rejected
        .iter()
        .any(|rejection| rejection.authority == Authority::Shadow);
    match (desired, live) {
        // Proven: the desired value is the live order, not one before it, and the kernel obeys.
        (Some(value), Some(order)) if means(value, order) && state.obeys() => Some(value.clone()),
        (Some(value), None) if state.phase == Phase::Released && means_release(value) => Some(value.clone()),
        (Some(value), Some(order)) if !refused && !means(value, order) => None,
        // Not (yet) what is desired: say what is true, unless that would read as done.
        _ => {
            let truth = json!(posture == Posture::Isolate);
            (desired != Some(&truth) || state.obeys()).then_some(truth)
        }
    }
}

fn means(desired: &Value, live: &Order) -> bool {
    let wish = document::read(Some(desired), Authority::Shadow, live.issued);
    matches!(wish, Ok(Wish::Order(order)) if order.same_wish(live))
}

fn means_release(desired: &Value) -> bool {
    *desired == json!(false) || desired["posture"] == "normal"
}

fn status(state: &State) -> Value {
    let faults: Vec<String> = state
        .faults
        .iter()
        .take(MAX_FAULTS)
        .map(|fault| fault.chars().take(MAX_FAULT_TEXT).collect())
        .collect();
    let rejected = state
        .rejected
        .iter()
        .find(|rejection| rejection.authority == Authority::Shadow)
        .map(|rejection| {
            let faults = rejection.faults.iter().take(MAX_FAULTS);
            faults
                .map(|fault| fault.to_string().chars().take(MAX_FAULT_TEXT).collect())
                .collect::<Vec<String>>()
        });
    let blocked = state.may_cut().then(|| {
        json!({ "out": state.blocked.out.packets, "in": state.blocked.inbound.packets,
                "forward": state.blocked.forward.packets, "bridged": state.blocked.bridged.packets,
                "raw": state.blocked.raw.packets })
    });
    let uncovered: Vec<String> = state
        .uncovered
        .iter()
        .take(MAX_FAULTS)
        .map(|what| what.chars().take(MAX_FAULT_TEXT).collect())
        .collect();
    let orders: Vec<String> = state
        .orders
        .iter()
        .map(|order| format!("{}:{}", order.authority, order.id))
        .collect();
    json!({
        "state": state.phase,
        "posture": state.posture,
        "wanted": state.wanted,
        "scope": (state.may_cut() && state.scope == Scope::Wide).then_some(Scope::Wide),
        "leftRunning": if state.left_running.is_empty() { Value::Null } else { json!(state.left_running.len()) },
        // An order counts as done all the same: whom it may not stop is no part of it.
        "spared": state.spared_in_short,
        "since": state.since.map(|since| since.to_string()),
        "orders": if orders.is_empty() { Value::Null } else { json!(orders) },
        "faults": if faults.is_empty() { Value::Null } else { json!(faults) },
        "rejected": rejected,
        "overridden": state.overridden.as_ref().map(|o| o.reason.chars().take(MAX_FAULT_TEXT).collect::<String>()),
        "releasedWithoutNucleus": state.released_without_nucleus.as_ref().map(without_nucleus),
        "rolledBack": state.rolled_back.as_ref().map(|r| r.why.chars().take(MAX_FAULT_TEXT).collect::<String>()),
        "stopped": if state.stopped.is_empty() { Value::Null } else { json!(state.stopped.len()) },
        "blocked": blocked,
        "uncovered": if uncovered.is_empty() { Value::Null } else { json!(uncovered) },
        // By powers of two: news when it begins, and not with every turn of a loop.
        "reasserted": state.reasserted.checked_ilog2().map(|log| 1_u64 << log),
        "changedBy": state.changed_by.as_ref().map(|by| by.chars().take(MAX_FAULT_TEXT).collect::<String>()),
        "severed": if state.severed == 0 { Value::Null } else { json!(state.severed) },
    })
}

/// When, what and why: which orders first, because the reason may be cut off.
fn without_nucleus(release: &ReleaseWithoutNucleus) -> String {
    let ReleaseWithoutNucleus { at, why, orders } = release;
    let text = format!("{at}: {}: {why}", orders.join(", "));
    text.chars().take(MAX_FAULT_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::fault::Fault;
    use crate::quarantine::proof::state::{Rejection, SparedInShort};
    use jiff::Timestamp;

    fn at() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn state(phase: Phase, posture: Posture) -> State {
        State {
            phase,
            posture: Some(posture),
            wanted: Posture::Isolate,
            orders: vec![Order::isolate(Authority::Shadow, "shadow", None, at())],
            ..State::default()
        }
    }

    #[test]
    fn desired_is_repeated_only_once_proven_and_confirmed() {
        let desired = json!(true);
        let say = |phase, posture| reported(&state(phase, posture), Some(&desired))["quarantine"].clone();
        assert_eq!(say(Phase::Starting, Posture::Normal), false);
        assert_eq!(say(Phase::Failed, Posture::Normal), false);
        assert_eq!(say(Phase::Enforced, Posture::Isolate), true);
        let rich = json!({"id": "shadow", "posture": "isolate"});
        assert_eq!(
            reported(&state(Phase::Enforced, Posture::Isolate), Some(&rich))["quarantine"],
            rich
        );
        let provisional = reported(&state(Phase::Provisional, Posture::Isolate), Some(&desired));
        assert_eq!(
            provisional.get("quarantine"),
            None,
            "nothing is claimed before the round trip"
        );
    }

    #[test]
    fn an_order_before_the_desired_one_is_no_proof_of_it() {
        let enforced = state(Phase::Enforced, Posture::Isolate);
        let mut restricted = state(Phase::Enforced, Posture::Restrict);
        restricted.wanted = Posture::Restrict;
        restricted.orders[0].posture = Posture::Restrict;
        let other = json!({"id": "inc-2", "posture": "isolate"});
        for (state, desired) in [
            (&enforced, other),
            (&enforced, json!(false)),
            (&restricted, json!(true)),
        ] {
            assert_eq!(
                reported(state, Some(&desired)).get("quarantine"),
                None,
                "{desired} is on its way"
            );
        }
        let mut running = state(Phase::Enforced, Posture::Isolate);
        running.left_running = vec!["rogue".into()];
        let rich = json!({"id": "shadow", "posture": "isolate"});
        assert_eq!(
            reported(&running, Some(&rich))["quarantine"],
            true,
            "not all of the order is carried out"
        );
    }

    #[test]
    fn an_echoed_order_leaves_nothing_of_the_one_before() {
        let known = json!({"id": "a", "reason": "old", "block": {"remotes": ["192.0.2.1"]}});
        let ours = json!({"id": "b", "posture": "isolate", "block": {"ports": []}});
        let sent = with_removals(ours, &known);
        let expected = json!({"id": "b", "posture": "isolate", "reason": null,
                              "block": {"ports": [], "remotes": null}});
        assert_eq!(sent, expected);
        assert_eq!(with_removals(json!(true), &known), json!(true));
    }

    #[test]
    fn what_is_left_out_is_no_news() {
        let known = json!({"quarantine": true, "quarantineStatus": {"state": "provisional"}});
        let ours = json!({"quarantineStatus": {"state": "provisional", "faults": null}});
        assert!(same_news(&known, &ours));
    }

    #[test]
    fn what_the_kernel_holds_is_not_claimed_while_it_cannot_be_read() {
        let mut unknown = state(Phase::Failed, Posture::Isolate);
        unknown.posture = None;
        for desired in [json!(true), json!(false)] {
            assert_eq!(reported(&unknown, Some(&desired)).get("quarantine"), None);
        }
        assert_eq!(reported(&unknown, None)["quarantineStatus"]["state"], "failed");
    }

    #[test]
    fn an_override_leaves_the_delta_visible() {
        let released = State {
            phase: Phase::Released,
            posture: Some(Posture::Normal),
            ..State::default()
        };
        assert_eq!(reported(&released, Some(&json!(true)))["quarantine"], false);
        assert_eq!(reported(&released, Some(&json!(false)))["quarantine"], false);
        let normal = json!({"posture": "normal"});
        assert_eq!(reported(&released, Some(&normal))["quarantine"], normal);
    }

    #[test]
    fn orders_that_ended_for_want_of_a_nucleus_are_named_also_once_they_count_again() {
        let mut again = state(Phase::Enforced, Posture::Isolate);
        let said = |state: &State| {
            reported(state, Some(&json!(true)))["quarantineStatus"]["releasedWithoutNucleus"].clone()
        };
        assert_eq!(said(&again), Value::Null);
        again.released_without_nucleus = Some(ReleaseWithoutNucleus {
            at: at(),
            why: "no nucleus".into(),
            orders: vec!["shadow inc-17".into()],
        });
        assert_eq!(said(&again), "2026-01-01T00:00:00Z: shadow inc-17: no nucleus");
    }

    #[test]
    fn an_isolation_of_another_authority_is_not_hidden() {
        let mut other = state(Phase::Enforced, Posture::Isolate);
        other.orders[0].authority = Authority::Operator;
        assert_eq!(reported(&other, Some(&json!(false)))["quarantine"], true);
        assert_eq!(reported(&other, None)["quarantine"], true);
    }

    #[test]
    fn a_refused_wish_is_named_and_not_repeated() {
        let mut refused = State {
            phase: Phase::Released,
            posture: Some(Posture::Normal),
            ..State::default()
        };
        let faults = vec![Fault::new(
            "quarantine",
            "is 7, expected true, false or an order object",
        )];
        refused.rejected = vec![Rejection {
            authority: Authority::Shadow,
            at: at(),
            faults,
        }];
        let reported = reported(&refused, Some(&json!(7)));
        assert_eq!(reported["quarantine"], false);
        assert!(
            reported["quarantineStatus"]["rejected"][0]
                .as_str()
                .unwrap()
                .contains("expected true")
        );
    }

    #[test]
    fn counters_are_no_news_and_the_largest_report_is_small() {
        let mut one = state(Phase::Enforced, Posture::Isolate);
        let mut two = one.clone();
        two.blocked.out.packets = 9;
        assert!(same_news(&reported(&one, None), &reported(&two, None)));
        let spared = |count, first: &str| {
            Some(SparedInShort {
                count,
                first: first.into(),
            })
        };
        one.spared_in_short = spared(1, "sshd");
        assert!(!same_news(&reported(&one, None), &reported(&two, None)));
        two.spared_in_short = spared(2, "sshd");
        assert!(same_news(&reported(&one, None), &reported(&two, None)));
        let said = reported(&two, None)["quarantineStatus"]["spared"].clone();
        assert_eq!(said, json!({"count": 2, "first": "sshd"}));
        one.faults = vec!["x".repeat(5000); 50];
        let faults = vec![Fault::new("p", "y".repeat(5000)); 16];
        one.rejected = vec![Rejection {
            authority: Authority::Shadow,
            at: at(),
            faults,
        }];
        one.uncovered = one.faults.clone();
        one.released_without_nucleus = Some(ReleaseWithoutNucleus {
            at: at(),
            why: "z".repeat(5000),
            orders: one.faults.clone(),
        });
        assert!(reported(&one, None).to_string().len() < 2500);
    }
}
