//! Reads the list of orders that a deployment may write in place of one order.
//!
//! In: the list, hostile. Out: a [`Wish`], or every fault. Nuclei merge objects key by key, so that an order in a deployment
//! keeps what the one before said and it does not; a list they replace as a whole. An authority holds one order, so a list
//! has at most one; with none it ends the deployment's order.

use jiff::Timestamp;
use serde_json::Value;

use super::document::{Wish, read_object};
use super::order::Authority;
use crate::document::fault::{Fault, MAX_FAULTS, quote};
use crate::document::fields::{Scalars, push};

/// Where the document is, in the words of its faults.
const PATH: &str = "quarantine";
/// What may be in a list.
const EXPECTED: &str = "expected an order object";

/// Reads what a deployment wrote as a list.
///
/// # Errors
/// Every fault, with its path below `quarantine[0]`, or of the first orders where there are several.
pub(super) fn read_list(orders: &[Value], scalars: Scalars, now: Timestamp) -> Result<Wish, Vec<Fault>> {
    let mut faults = Vec::new();
    if orders.len() > 1 {
        let count = orders.len();
        push(
            &mut faults,
            PATH,
            format!("has {count} orders, expected at most one: a deployment holds one order"),
        );
    }
    let mut only = Wish::Release;
    // Further ones could add no fault that is kept.
    for (index, order) in orders.iter().take(MAX_FAULTS).enumerate() {
        let path = format!("{PATH}[{index}]");
        if !order.is_object() {
            push(&mut faults, &path, format!("is {}, {EXPECTED}", quote(order)));
            continue;
        }
        match read_object(order, Authority::Deployment, scalars, now) {
            Ok(wish) => only = wish,
            Err(found) => found.into_iter().for_each(|fault| {
                let below = fault.path.strip_prefix(PATH).unwrap_or(&fault.path);
                push(&mut faults, &format!("{path}{below}"), fault.problem);
            }),
        }
    }
    if faults.is_empty() { Ok(only) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::super::document::read;
    use super::*;
    use serde_json::json;

    fn from(value: &Value, authority: Authority) -> Result<Wish, Vec<Fault>> {
        read(Some(value), authority, "2026-11-24T12:00:00Z".parse().unwrap())
    }

    fn deployed(value: &Value) -> Result<Wish, Vec<Fault>> {
        from(value, Authority::Deployment)
    }

    #[test]
    fn a_list_of_one_order_is_that_order_and_an_empty_one_ends_it() {
        let order = json!({"id": "inc-1", "posture": "isolate", "expires": "2026-12-24T12:00:00Z",
            "limit": {"egressBytesPerSecond": "20000"}});
        let wish = deployed(&json!([order])).unwrap();
        assert_eq!(wish, deployed(&order).unwrap());
        assert!(matches!(wish, Wish::Order(order) if order.id == "inc-1"));
        assert_eq!(deployed(&json!([])), Ok(Wish::Release));
        assert_eq!(deployed(&json!([{"posture": "normal"}])), Ok(Wish::Release));
    }

    #[test]
    fn every_fault_of_a_list_is_named_with_its_place() {
        let faults = deployed(&json!([
            {"posture": "total", "block": {"remotes": [7]}},
            {"posture": "isolate"},
            true,
            [{"posture": "isolate"}]
        ]))
        .unwrap_err();
        let paths: Vec<_> = faults.iter().map(|fault| fault.path.as_str()).collect();
        for path in [
            "quarantine",
            "quarantine[0].posture",
            "quarantine[0].block.remotes[0]",
            "quarantine[2]",
            "quarantine[3]",
        ] {
            assert!(paths.contains(&path), "{path} is not among {paths:?}");
        }
        assert!(
            faults[0].problem.contains("has 4 orders, expected at most one"),
            "{faults:?}"
        );
        assert!(deployed(&json!([null])).is_err());
    }

    #[test]
    fn a_very_long_list_is_refused_with_few_faults() {
        let orders = vec![json!({"posture": "?", "x": 1}); 100_000];
        assert_eq!(deployed(&json!(orders)).unwrap_err().len(), MAX_FAULTS);
    }

    #[test]
    fn only_a_deployment_writes_lists() {
        for authority in [Authority::Shadow, Authority::Operator] {
            assert!(from(&json!([{"posture": "isolate"}]), authority).is_err());
        }
    }
}
