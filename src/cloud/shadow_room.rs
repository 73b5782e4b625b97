//! How much a report says where the shadow has no room for all of it.
//!
//! In: a report, what the service answered to one before. Out: the report as it is sent. Pure. A shadow takes 8 KB (AWS IoT, unless
//! more was granted), of which an order takes its length twice once it is repeated, and others may fill the rest. What is said of the
//! device's own doing matters more than the order's text and what explains it, so these are left out first.

use serde_json::{Value, json};

/// What stays of `quarantineStatus` at last.
const LEAST: [&str; 5] = ["state", "posture", "wanted", "leftRunning", "rolledBack"];

/// How much a report says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All there is.
    #[default]
    Whole,
    /// Whether the device is isolated, in the place of the order.
    WithoutOrder,
    /// That, and what it does.
    Least,
}

impl Extent {
    /// The next smaller one after the service has refused a report with this code; `None` where a smaller one would be refused as
    /// well.
    pub(super) const fn after(self, code: u64) -> Option<Self> {
        // Too large, or a request that it does not take: too deep, too long.
        match (code, self) {
            (400 | 413, Self::Whole) => Some(Self::WithoutOrder),
            (400 | 413, Self::WithoutOrder) => Some(Self::Least),
            _ => None,
        }
    }

    /// `reported` as far as this goes. `isolated`: what is said in an order's place.
    pub(super) fn of(self, mut reported: Value, isolated: bool) -> Value {
        if self != Self::Whole && reported["quarantine"].is_object() {
            reported["quarantine"] = json!(isolated);
        }
        if self == Self::Least
            && let Some(status) = reported["quarantineStatus"].as_object_mut()
        {
            // What was reported before takes room as well.
            let others = status
                .iter_mut()
                .filter(|(key, _)| !LEAST.contains(&key.as_str()));
            others.for_each(|(_, value)| *value = Value::Null);
        }
        reported
    }

    /// What is missing in the shadow, a sentence.
    pub(super) const fn tells(self) -> Option<&'static str> {
        match self {
            Self::Whole => None,
            Self::WithoutOrder => Some(
                "the shadow has no room for our whole report: it says whether the device is isolated, and not the order",
            ),
            Self::Least => Some(
                "the shadow has no room for our report: it says what the device does, and nothing of orders and faults",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_said_step_by_step_and_what_the_device_does_stays() {
        let whole = json!({
            "quarantine": {"posture": "restrict"},
            "quarantineStatus": {"state": "enforced", "posture": "restrict", "faults": ["one"]},
        });
        let mut extent = Extent::default();
        assert_eq!(extent.of(whole.clone(), false), whole);
        assert_eq!(extent.after(403), None, "no matter of size");
        extent = extent.after(413).unwrap();
        let said = extent.of(whole.clone(), false);
        assert_eq!(said["quarantine"], false);
        assert_eq!(said["quarantineStatus"], whole["quarantineStatus"]);
        extent = extent.after(413).unwrap();
        let said = extent.of(whole, false);
        assert_eq!(
            said["quarantineStatus"],
            json!({"state": "enforced", "posture": "restrict", "faults": null})
        );
        assert_eq!(extent.after(413), None);
    }
}
