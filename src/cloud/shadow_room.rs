//! How much a report says where the shadow has no room for all of it.
//!
//! In: a report, what the service answered to one before. Out: the report as it is sent. Pure. A shadow takes 8 KB (AWS IoT, unless
//! more was granted), of which an order takes its length twice once it is repeated, and others may fill the rest. What is said of the
//! device's own doing matters more than the order's text and what explains it, so these are left out first.

use std::time::Duration;

use serde_json::{Value, json};

/// What stays of `quarantineStatus` before none of it does.
const WITHOUT_LISTS: [&str; 5] = ["state", "posture", "wanted", "leftRunning", "rolledBack"];

/// From one try to say all there is to the next at most: each costs as much as the report that has no room.
const RARELY: Duration = Duration::from_secs(86_400);

/// How much reports say, and when to try again to say more.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Room {
    pub(super) extent: Extent,
    /// Uptime at which the service last refused a report as too large.
    refused: Duration,
    /// Tries to say all since it first did.
    tries: u32,
}

impl Room {
    /// The service has refused a report with this code; gives whether less is said from now on.
    pub(super) fn refused(&mut self, code: u64, now: Duration) -> bool {
        let less = self.extent.after(code);
        if let Some(less) = less {
            (self.extent, self.refused) = (less, now);
        }
        less.is_some()
    }

    /// Others may have left room since: where less was said, all is again, after `first`, then after twice as long each time.
    pub(super) fn try_again(&mut self, now: Duration, first: Duration) {
        if self.retry_at(first).is_some_and(|due| due <= now) {
            self.extent = Extent::Whole;
            self.tries = self.tries.saturating_add(1);
        }
    }

    /// When that is due.
    pub(super) fn retry_at(&self, first: Duration) -> Option<Duration> {
        let pause = first.saturating_mul(2u32.saturating_pow(self.tries)).min(RARELY);
        (self.extent != Extent::Whole).then(|| self.refused.saturating_add(pause))
    }
}

/// How much a report says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All there is.
    #[default]
    Whole,
    /// Whether the device is isolated, in the place of the order.
    WithoutOrder,
    /// That, and what it does.
    WithoutLists,
    /// Only the first.
    Least,
    /// Nothing of us: what stands there is removed.
    Nothing,
}

impl Extent {
    /// The next smaller one after the service has refused a report with this code; `None` where a smaller one would be refused as
    /// well.
    const fn after(self, code: u64) -> Option<Self> {
        // Too large, or a request that it does not take: too deep, too long.
        match (code, self) {
            (400 | 413, Self::Whole) => Some(Self::WithoutOrder),
            (400 | 413, Self::WithoutOrder) => Some(Self::WithoutLists),
            (400 | 413, Self::WithoutLists) => Some(Self::Least),
            (400 | 413, Self::Least) => Some(Self::Nothing),
            _ => None,
        }
    }

    /// `reported` as far as this goes. `isolated`: what is said in an order's place.
    pub(super) fn of(self, mut reported: Value, isolated: bool) -> Value {
        let Some(said) = reported.as_object_mut() else {
            return reported;
        };
        match self {
            Self::Whole => return reported,
            Self::Nothing => return json!({"quarantine": null, "quarantineStatus": null}),
            Self::WithoutOrder | Self::WithoutLists | Self::Least => {}
        }
        if let Some(order) = said.get_mut("quarantine").filter(|value| value.is_object()) {
            *order = json!(isolated);
        }
        // What was reported before takes room as well, so it is removed.
        match (self, said.get_mut("quarantineStatus")) {
            (Self::WithoutLists, Some(Value::Object(status))) => {
                let status = status.iter_mut();
                let lists = status.filter(|(key, _)| !WITHOUT_LISTS.contains(&key.as_str()));
                lists.for_each(|(_, value)| *value = Value::Null);
            }
            (Self::Least, Some(status)) => *status = Value::Null,
            _ => {}
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
            Self::WithoutLists => Some(
                "the shadow has no room for our whole report: it says what the device does, and nothing of orders and faults",
            ),
            Self::Least => {
                Some("the shadow has no room for our report: it says at most whether the device is isolated")
            }
            Self::Nothing => Some("the shadow has no room for our report: it says nothing of this device"),
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
        let provisional = json!({"quarantineStatus": {}});
        let said = Extent::WithoutOrder.of(provisional.clone(), true);
        assert_eq!(said, provisional, "nothing is said that was not");
        let mut extent = Extent::default();
        assert_eq!(extent.of(whole.clone(), false), whole);
        assert_eq!(extent.after(403), None, "no matter of size");
        extent = extent.after(413).unwrap();
        let said = extent.of(whole.clone(), false);
        assert_eq!(said["quarantine"], false);
        assert_eq!(said["quarantineStatus"], whole["quarantineStatus"]);
        extent = extent.after(413).unwrap();
        let said = extent.of(whole.clone(), false);
        assert_eq!(
            said["quarantineStatus"],
            json!({"state": "enforced", "posture": "restrict", "faults": null})
        );
        extent = extent.after(413).unwrap();
        let said = extent.of(whole, false);
        assert_eq!(said, json!({"quarantine": false, "quarantineStatus": null}));
        extent = extent.after(413).unwrap();
        let said = extent.of(provisional, true);
        assert_eq!(said, json!({"quarantine": null, "quarantineStatus": null}));
        assert_eq!(extent.after(413), None);
    }
}
