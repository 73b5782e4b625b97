//! What the operator orders through the control socket. In: what was asked. Out: the order, or a sentence that says what
//! is wrong with it. Pure.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::agent::enforcer::EnforcerCommand;
use crate::control::protocol::MAX_REASON;
use crate::document::fault::join;
use crate::quarantine::orders::document::{Wish, read};
use crate::quarantine::orders::order::{Authority, Order};

/// Longest self-ending quarantine that can be asked for in seconds: a year.
const MAX_SECONDS: u64 = 366 * 86_400;

/// A plain isolation.
///
/// # Errors
/// What is wrong with it, in a sentence for the operator.
pub(super) fn isolate(
    reason: &str,
    expires_seconds: Option<u64>,
    now: Timestamp,
) -> Result<Box<Order>, String> {
    let reason = check_reason(reason)?;
    let mut order = Order::isolate(Authority::Operator, "operator", Some(reason), now);
    if let Some(seconds) = expires_seconds {
        order.expires = Some(end(seconds, now)?);
    }
    Ok(Box::new(order))
}

/// An order as a document. What is said besides it counts instead of what it says itself.
///
/// # Errors
/// A sentence for the operator, with every fault of the document.
pub(super) fn order(
    document: &Value,
    reason: Option<&str>,
    expires_seconds: Option<u64>,
    now: Timestamp,
) -> Result<Box<Order>, String> {
    let mut order = read_order(document, now)?;
    if let Some(reason) = reason {
        order.reason = Some(check_reason(reason)?);
    }
    if let Some(seconds) = expires_seconds {
        order.expires = Some(end(seconds, now)?);
    }
    let order = not_over(order, now)?;
    if order.reason.is_none() {
        return Err(
            "an order of the operator needs a reason, in the document or with --reason: the cloud is told"
                .into(),
        );
    }
    Ok(order)
}

/// An order that is only looked at: it needs no reason.
///
/// # Errors
/// A sentence for the operator, with every fault of the document.
pub(crate) fn order_to_look_at(document: &Value, now: Timestamp) -> Result<Box<Order>, String> {
    not_over(read_order(document, now)?, now)
}

fn not_over(order: Box<Order>, now: Timestamp) -> Result<Box<Order>, String> {
    if order.expired(now) {
        return Err("the order's own end has passed already: it would do nothing".to_owned());
    }
    Ok(order)
}

fn read_order(document: &Value, now: Timestamp) -> Result<Box<Order>, String> {
    match read(Some(document), Authority::Operator, now) {
        Ok(Wish::Order(order)) => Ok(order),
        Ok(Wish::Release) => {
            Err("the document orders nothing; `edgewarden release` ends an order".to_owned())
        }
        Err(faults) => Err(format!("the order is refused: {}", join(&faults))),
    }
}

/// The end of the operator's order, which needs no reason and keeps one, or of `everything`, which needs one.
///
/// # Errors
/// What is wrong with the reason, in a sentence for the operator.
pub(crate) fn release(everything: bool, reason: Option<&str>) -> Result<EnforcerCommand, String> {
    if !everything {
        let reason = reason.map(check_reason).transpose()?;
        return Ok(EnforcerCommand::Release { reason });
    }
    let reason = reason.ok_or("ending every order needs a reason: the cloud is told")?;
    let reason = check_reason(reason)?;
    Ok(EnforcerCommand::Override { reason })
}

/// A reason that people can read.
///
/// # Errors
/// What is wrong with it, in a sentence for the operator.
fn check_reason(reason: &str) -> Result<String, String> {
    let reason = reason.trim();
    let plain =
        !reason.is_empty() && reason.chars().count() <= MAX_REASON && !reason.chars().any(char::is_control);
    if plain {
        Ok(reason.to_owned())
    } else {
        Err(format!("a reason has 1 to {MAX_REASON} printable characters"))
    }
}

fn end(seconds: u64, now: Timestamp) -> Result<Timestamp, String> {
    let whole = i64::try_from(seconds)
        .ok()
        .filter(|_| (1..=MAX_SECONDS).contains(&seconds));
    whole
        .and_then(|whole| now.checked_add(SignedDuration::from_secs(whole)).ok())
        .ok_or_else(|| format!("a quarantine ends after 1 to {MAX_SECONDS} seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::orders::order::Posture;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn what_is_said_besides_the_document_counts_instead() {
        let document =
            json!({"id": "inc-1", "posture": "isolate", "reason": "a", "expires": "2026-11-24T13:00:00Z"});
        let plain = order(&document, None, None, now()).unwrap();
        assert_eq!((plain.id.as_str(), plain.reason.as_deref()), ("inc-1", Some("a")));
        let other = order(&document, Some(" b "), Some(60), now()).unwrap();
        assert_eq!(other.reason.as_deref(), Some("b"));
        assert_eq!(other.expires, Some("2026-11-24T12:01:00Z".parse().unwrap()));
        assert_eq!(
            order(&json!(true), Some("c"), None, now()).unwrap().posture,
            Posture::Isolate
        );
    }

    #[test]
    fn what_orders_nothing_or_says_no_reason_is_refused() {
        let refused = |document: Value| order(&document, None, None, now()).unwrap_err();
        assert!(refused(json!({"posture": "isolate"})).contains("needs a reason"));
        assert!(order_to_look_at(&json!({"posture": "isolate"}), now()).is_ok());
        for nothing in [json!(false), json!(null), json!({"posture": "normal"})] {
            assert!(refused(nothing).contains("orders nothing"));
        }
        let ended = json!({"posture": "isolate", "reason": "a", "expires": "2026-11-24T11:00:00Z"});
        assert!(refused(ended.clone()).contains("has passed"));
        assert!(order_to_look_at(&ended, now()).is_err());
        assert!(order(&ended, None, Some(0), now()).is_err());
        let faults = refused(json!({"posture": "total", "expires": 1, "extra": 1}));
        for path in ["quarantine.posture", "quarantine.expires", "quarantine.extra"] {
            assert!(faults.contains(path), "{faults}");
        }
    }
}
