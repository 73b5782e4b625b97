//! When a configuration that was read is believed.
//!
//! In: the document each time it is read; uptime. Out: whether it counts, or how long until it is to be read again. Nuclei
//! write a deployment key by key, and the classic one takes a key away before it writes one of another type: who reads in
//! between sees half an order, or none. Half of an order must let nobody go, and half of a configuration is not to be
//! refused, so a document counts when it is still the same a while later. What only closes is not held up; that is the
//! caller's to judge.

use std::time::Duration;

use serde_json::Value;

/// How long a document has to stay. Nuclei write a whole deployment within milliseconds, on a busy device within tenths of
/// a second; a release by deployment comes this much later.
const SETTLE: Duration = Duration::from_secs(2);

/// What was read last, and since when it is the same.
#[derive(Debug, Default)]
pub(super) struct Settling {
    seen: Option<(Value, Duration)>,
}

impl Settling {
    /// Takes what was read at `now`; how much longer it has to stay, nothing when it counts.
    pub(super) fn note(&mut self, document: &Value, now: Duration) -> Option<Duration> {
        let since = match &self.seen {
            Some((seen, since)) if seen == document => *since,
            _ => {
                self.seen = Some((document.clone(), now));
                now
            }
        };
        let left = (since + SETTLE).saturating_sub(now);
        Some(left).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const fn at(tenths: u64) -> Duration {
        Duration::from_millis(100 * tenths)
    }

    #[test]
    fn what_stays_counts_and_what_was_there_for_a_moment_does_not() {
        let mut settling = Settling::default();
        assert_eq!(settling.note(&json!(true), at(0)), Some(at(20)));
        assert_eq!(settling.note(&json!(true), at(20)), None);
        // Half-read: missing, then half, then whole.
        for (tenths, value) in [
            (50, json!(null)),
            (55, json!({})),
            (60, json!({"posture": "isolate"})),
        ] {
            assert_eq!(settling.note(&value, at(tenths)), Some(SETTLE), "{value}");
        }
        assert_eq!(
            settling.note(&json!({"posture": "isolate"}), at(70)),
            Some(at(10))
        );
        assert_eq!(settling.note(&json!({"posture": "isolate"}), at(80)), None);
        assert_eq!(
            settling.note(&json!({"posture": "isolate"}), at(9_000)),
            None,
            "and goes on to count"
        );
    }
}
