//! When orders end because those who gave them cannot take them back: there is no nucleus.
//!
//! In: whether there is one, at each look with its uptime; the live orders; how long the owner has configured. Out: how long
//! until the orders that come through a nucleus end. Pure. Invariants: without the owner's word never; a nucleus that is there,
//! and each start of the agent, begin the time anew; the wall clock has no say; time in which nobody looked (this process
//! or the whole machine stood still) counts as one look. Absent: ending them, which is the enforcer's.

use std::time::Duration;

use super::order::Order;

/// Most that one look counts for. They come every few seconds; on a busy machine one may be late by some more.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// For how long there has been no nucleus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solitude {
    lasts: Duration,
    /// Uptime of the last look.
    looked: Duration,
    there: bool,
}

impl Solitude {
    /// Of an agent that starts at this uptime. Until the first look nobody knows.
    pub fn begin(uptime: Duration) -> Self {
        Self {
            lasts: Duration::ZERO,
            looked: uptime,
            there: true,
        }
    }

    /// Notes whether there is a nucleus at this uptime.
    pub fn note(&mut self, there: bool, uptime: Duration) {
        let look = uptime.saturating_sub(self.looked).min(LONGEST_LOOK);
        // Nobody looks while one is there: it may have been until a moment ago.
        self.lasts = if there || self.there {
            Duration::ZERO
        } else {
            self.lasts.saturating_add(look)
        };
        (self.looked, self.there) = (uptime, there);
    }

    /// How long until those of `orders` end that come through a nucleus, when the owner has configured `after`; nothing where
    /// none of them will.
    pub fn left(&self, after: Option<Duration>, orders: &[Order]) -> Option<Duration> {
        let ends = orders.iter().any(|order| order.authority.needs_nucleus());
        let after = after.filter(|_| ends && !self.there)?;
        Some(after.saturating_sub(self.lasts))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::quarantine::orders::order::Authority;

    const HOUR: Duration = Duration::from_secs(3_600);
    /// Some uptime at which the agent began.
    const BEGIN: Duration = Duration::from_secs(77);

    fn of(authorities: &[Authority]) -> Vec<Order> {
        let order = |who: &Authority| Order::isolate(*who, "x", None, Timestamp::UNIX_EPOCH);
        authorities.iter().map(order).collect()
    }

    /// Looks every two seconds without a nucleus.
    fn alone_for(solitude: &mut Solitude, from: Duration, time: Duration) -> Duration {
        let mut uptime = from;
        while uptime < from + time {
            uptime += Duration::from_secs(2);
            solitude.note(false, uptime);
        }
        uptime
    }

    #[test]
    fn an_hour_without_a_nucleus_is_an_hour_and_never_is_never() {
        let shadow = of(&[Authority::Shadow]);
        let mut solitude = Solitude::begin(BEGIN);
        assert_eq!(solitude.left(Some(HOUR), &shadow), None, "nobody has looked");
        solitude.note(false, BEGIN);
        assert_eq!(solitude.left(Some(HOUR), &shadow), Some(HOUR));
        let almost = HOUR - Duration::from_secs(2);
        let uptime = alone_for(&mut solitude, BEGIN, almost);
        assert_eq!(solitude.left(Some(HOUR), &shadow), Some(Duration::from_secs(2)));
        alone_for(&mut solitude, uptime, HOUR * 9);
        assert_eq!(solitude.left(Some(HOUR), &shadow), Some(Duration::ZERO));
        assert_eq!(solitude.left(None, &shadow), None, "nobody has configured it");
    }

    #[test]
    fn a_nucleus_begins_the_time_anew_however_short_it_is_there() {
        let shadow = of(&[Authority::Shadow]);
        let mut solitude = Solitude::begin(BEGIN);
        let uptime = alone_for(&mut solitude, BEGIN, HOUR - Duration::from_secs(2));
        solitude.note(true, uptime + Duration::from_secs(1));
        assert_eq!(solitude.left(Some(HOUR), &shadow), None, "it can be released");
        solitude.note(false, uptime + Duration::from_secs(1));
        assert_eq!(solitude.left(Some(HOUR), &shadow), Some(HOUR));
        solitude.note(true, uptime + HOUR);
        solitude.note(false, uptime + HOUR * 2);
        assert_eq!(solitude.left(Some(HOUR), &shadow), Some(HOUR));
    }

    #[test]
    fn a_machine_that_slept_has_waited_for_one_look() {
        let shadow = of(&[Authority::Shadow]);
        let mut solitude = Solitude::begin(BEGIN);
        solitude.note(false, BEGIN);
        solitude.note(false, BEGIN + HOUR * 100);
        assert_eq!(solitude.left(Some(HOUR), &shadow), Some(HOUR - LONGEST_LOOK));
        // An uptime that went back is none, and counts for nothing.
        solitude.note(false, Duration::ZERO);
        assert_eq!(solitude.left(Some(HOUR), &shadow), Some(HOUR - LONGEST_LOOK));
    }

    #[test]
    fn only_what_comes_through_a_nucleus_ends() {
        let mut solitude = Solitude::begin(BEGIN);
        solitude.note(false, BEGIN);
        let stay = [Authority::Detector, Authority::Operator, Authority::Recovery];
        assert_eq!(solitude.left(Some(HOUR), &of(&stay)), None);
        assert_eq!(solitude.left(Some(HOUR), &[]), None);
        for ends in [Authority::Shadow, Authority::Deployment] {
            let orders = of(&[ends, Authority::Operator]);
            assert_eq!(solitude.left(Some(HOUR), &orders), Some(HOUR), "{ends}");
        }
    }
}
