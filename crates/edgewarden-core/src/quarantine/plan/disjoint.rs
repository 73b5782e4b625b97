//! Blocked remotes without overlaps, as the kernel's sets want them.
//!
//! In: blocked remotes of all orders, some of them for a time. Out: the same addresses, each covered once and for the
//! longest time that any of them asked for, sorted. Blocks that touch each other are not merged: then one more or one
//! fewer changes one element and not its neighbours.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use jiff::Timestamp;

use crate::quarantine::orders::order::BlockedRemote;

/// First address to last address and the time it ends, of one family.
type Ranges = BTreeMap<u128, (u128, Option<Timestamp>)>;

/// Each address once, for the longest time.
pub(super) fn disjoint(mut remotes: Vec<BlockedRemote>) -> Vec<BlockedRemote> {
    // Nearly always nothing overlaps, and each order's list comes sorted: a stable sort merges such runs, so that there is
    // hardly more to do than to look.
    remotes.sort();
    remotes.dedup();
    let apart = remotes.windows(2).all(|pair| {
        let [before, after] = pair else { return true };
        !before.remote.contains(&after.remote.network())
    });
    if apart {
        return remotes;
    }
    cut_apart(remotes)
}

fn cut_apart(mut remotes: Vec<BlockedRemote>) -> Vec<BlockedRemote> {
    // The longest first; of equal ones the wider first, so that the narrower ones within vanish whole.
    remotes.sort_by_key(|blocked| {
        (
            std::cmp::Reverse(blocked.expires.unwrap_or(Timestamp::MAX)),
            blocked.remote.prefix_len(),
        )
    });
    let (mut v4, mut v6) = (Ranges::new(), Ranges::new());
    for BlockedRemote { remote, expires } in remotes {
        let ranges = if matches!(remote, IpNet::V4(_)) {
            &mut v4
        } else {
            &mut v6
        };
        cover(
            ranges,
            number(remote.network()),
            number(remote.broadcast()),
            expires,
        );
    }
    let v4 = v4.into_iter().flat_map(|(first, (last, expires))| {
        let address = |number: u128| Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX));
        Ipv4Subnets::new(address(first), address(last), 0).map(move |net| (IpNet::V4(net), expires))
    });
    let v6 = v6.into_iter().flat_map(|(first, (last, expires))| {
        Ipv6Subnets::new(Ipv6Addr::from(first), Ipv6Addr::from(last), 0)
            .map(move |net| (IpNet::V6(net), expires))
    });
    v4.chain(v6)
        .map(|(remote, expires)| BlockedRemote { remote, expires })
        .collect()
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// Adds what is not covered yet of `first` to `last`.
fn cover(ranges: &mut Ranges, first: u128, last: u128, expires: Option<Timestamp>) {
    let gaps = gaps(ranges, first, last);
    ranges.extend(gaps.into_iter().map(|(start, end)| (start, (end, expires))));
}

fn gaps(ranges: &Ranges, first: u128, last: u128) -> Vec<(u128, u128)> {
    let before = ranges.range(..first).next_back();
    let (mut gaps, mut next) = (Vec::new(), first);
    for (start, (end, _)) in before.into_iter().chain(ranges.range(first..=last)) {
        if *start > next {
            gaps.push((next, start - 1));
        }
        if *end >= last {
            return gaps;
        }
        next = next.max(end + 1);
    }
    gaps.push((next, last));
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn until(remote: &str, expires: Option<&str>) -> BlockedRemote {
        BlockedRemote {
            remote: remote.parse().unwrap(),
            expires: expires.map(|text| text.parse().unwrap()),
        }
    }

    #[test]
    fn what_holds_longer_is_cut_out_of_what_ends_sooner() {
        let hour = Some("2026-01-01T01:00:00Z");
        let day = Some("2026-01-02T00:00:00Z");
        let list = vec![
            until("192.0.2.0/30", hour),
            until("192.0.2.1/32", day),
            until("192.0.2.2/32", hour),
            until("2001:db8::/64", None),
            until("2001:db8::1/128", day),
        ];
        let expected = [
            until("192.0.2.0/32", hour),
            until("192.0.2.1/32", day),
            until("192.0.2.2/31", hour),
            until("2001:db8::/64", None),
        ];
        assert_eq!(disjoint(list), expected);
    }

    #[test]
    fn the_whole_space_is_one_block() {
        let list = vec![
            until("::/0", None),
            until("0.0.0.0/0", None),
            until("255.255.255.255/32", None),
        ];
        assert_eq!(disjoint(list), [until("0.0.0.0/0", None), until("::/0", None)]);
    }

    proptest! {
        #[test]
        fn every_address_is_covered_once_and_for_the_longest_time(
            nets in proptest::collection::vec((0u8..=255, 24u8..=32, proptest::option::of(1i64..5)), 0..12)
        ) {
            let list: Vec<BlockedRemote> = nets
                .iter()
                .map(|(host, length, hours)| BlockedRemote {
                    remote: ipnet::Ipv4Net::new([192, 0, 2, *host].into(), *length).unwrap().trunc().into(),
                    expires: hours.map(|hours| Timestamp::from_second(hours * 3600).unwrap()),
                })
                .collect();
            let result = disjoint(list.clone());
            prop_assert!(result.is_sorted());
            for host in 0..=255u8 {
                let address = IpAddr::from([192, 0, 2, host]);
                let holding = |list: &[BlockedRemote]| -> Vec<Timestamp> {
                    let held = list.iter().filter(|blocked| blocked.remote.contains(&address));
                    held.map(|blocked| blocked.expires.unwrap_or(Timestamp::MAX)).collect()
                };
                let found = holding(&result);
                prop_assert!(found.len() <= 1);
                prop_assert_eq!(found.first().copied(), holding(&list).into_iter().max());
            }
        }
    }
}
