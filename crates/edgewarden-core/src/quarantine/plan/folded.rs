//! What all orders block, folded once for as long as they block the same.
//!
//! In: each order's list, `now`. Out: one list, disjoint and sorted; the very same one while the orders' lists are the same and
//! nothing in them has ended. Absent: anything but remotes, of which alone there are many.

use jiff::Timestamp;

use super::disjoint::disjoint;
use crate::quarantine::orders::order::BlockedRemote;
use crate::quarantine::orders::remotes::RemoteList;

/// What was folded last.
#[derive(Debug, Default)]
pub struct FoldedRemotes {
    lists: Vec<RemoteList>,
    folded: RemoteList,
    /// From when on it is right.
    from: Timestamp,
    /// When the first of it ends.
    until: Option<Timestamp>,
}

impl FoldedRemotes {
    pub(super) fn fold(&mut self, lists: Vec<RemoteList>, now: Timestamp) -> RemoteList {
        let holds = self.from <= now && self.until.is_none_or(|until| now < until);
        if !holds || lists != self.lists {
            let remotes = lists.iter().flatten().copied();
            // A vector that grows step by step is copied as often, and of a hundred thousand each page of it is a fault.
            let mut live: Vec<BlockedRemote> = Vec::with_capacity(lists.iter().map(|list| list.len()).sum());
            live.extend(remotes.filter(|blocked| is_live(blocked, now)));
            self.until = live.iter().filter_map(|blocked| blocked.expires).min();
            let folded: RemoteList = disjoint(live).into();
            // Nearly always one order has them all: then there is one list and not two.
            let same = lists.iter().find(|list| **list == folded);
            self.folded = same.cloned().unwrap_or(folded);
            self.from = now;
            self.lists = lists;
        }
        self.folded.clone()
    }
}

fn is_live(blocked: &BlockedRemote, now: Timestamp) -> bool {
    blocked.expires.is_none_or(|expires| expires > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(remotes: &[(u8, Option<i64>)]) -> RemoteList {
        let one = |(host, hours): &(u8, Option<i64>)| BlockedRemote {
            remote: ipnet::IpNet::from(std::net::IpAddr::from([192, 0, 2, *host])),
            expires: hours.map(|hours| Timestamp::from_second(hours * 3600).unwrap()),
        };
        remotes.iter().map(one).collect()
    }

    proptest! {
        #[test]
        fn what_is_kept_from_before_is_what_would_be_folded(
            steps in proptest::collection::vec(
                (proptest::collection::vec((0u8..4, proptest::option::of(1i64..6)), 0..4), 0i64..7, 0usize..2),
                1..8,
            )
        ) {
            let mut last = FoldedRemotes::default();
            let mut lists = vec![RemoteList::default(), RemoteList::default()];
            for (remotes, hours, which) in steps {
                // Time goes in both directions: a clock may be set.
                let now = Timestamp::from_second(hours * 3600).unwrap();
                if which == 1 {
                    lists[0] = list(&remotes);
                }
                let folded = last.fold(lists.clone(), now);
                prop_assert_eq!(folded, FoldedRemotes::default().fold(lists.clone(), now));
                lists.reverse();
                prop_assert_eq!(last.fold(lists.clone(), now), FoldedRemotes::default().fold(lists.clone(), now));
            }
        }
    }
}
