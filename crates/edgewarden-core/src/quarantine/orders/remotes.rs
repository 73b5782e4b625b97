//! Blocked remotes as a list that is shared: an order may name a hundred thousand, and orders are compared, folded, lent and
//! remembered at every turn.
//!
//! In: remotes, in the order in which they are to be written. Out: a slice of them, the sum that a plan's id takes from them and
//! the digest that names them on disk, each made once. A copy costs nothing, and so does a comparison of a list with itself.
//! Absent: changing one; another list is another value.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::order::BlockedRemote;

/// Bytes that are summed up at once.
const SUMMED: usize = 4_096;
/// Bytes of one remote in a sum: an IPv6 address, its prefix length, its end.
const LARGEST: usize = 16 + 1 + 8;

/// Blocked remotes; clones share them.
#[derive(Clone, Default)]
pub struct RemoteList(Arc<Shared>);

#[derive(Default)]
struct Shared {
    remotes: Vec<BlockedRemote>,
    sum: OnceLock<crc32fast::Hasher>,
    digest: OnceLock<String>,
    apart: OnceLock<HostsAndNets>,
}

/// Single hosts and wider blocks, each with the time it ends.
type HostsAndNets = (
    Arc<Vec<(IpAddr, Option<Timestamp>)>>,
    Arc<Vec<(IpNet, Option<Timestamp>)>>,
);

impl RemoteList {
    /// As bytes, summed up: address, prefix length and end of each, one after the other.
    pub(crate) fn sum(&self) -> &crc32fast::Hasher {
        self.0.sum.get_or_init(|| {
            // Not as text, not one by one and not all at once: there may be a hundred thousand.
            let mut sum = crc32fast::Hasher::new();
            let mut bytes = Vec::with_capacity(SUMMED);
            for BlockedRemote { remote, expires } in self {
                match remote.addr() {
                    IpAddr::V4(v4) => bytes.extend(v4.octets()),
                    IpAddr::V6(v6) => bytes.extend(v6.octets()),
                }
                bytes.push(remote.prefix_len());
                bytes.extend(expires.map_or(0, Timestamp::as_second).to_le_bytes());
                if bytes.len() + LARGEST > SUMMED {
                    sum.update(&bytes);
                    bytes.clear();
                }
            }
            sum.update(&bytes);
            sum
        })
    }

    /// Single hosts and wider blocks apart, in the same order.
    pub(crate) fn hosts_and_nets(&self) -> &HostsAndNets {
        self.0.apart.get_or_init(|| {
            // Nearly always all of them are hosts.
            let (mut hosts, mut nets) = (Vec::with_capacity(self.len()), Vec::new());
            for BlockedRemote { remote, expires } in self {
                if remote.prefix_len() == remote.max_prefix_len() {
                    hosts.push((remote.addr(), *expires));
                } else {
                    nets.push((*remote, *expires));
                }
            }
            hosts.shrink_to_fit();
            (Arc::new(hosts), Arc::new(nets))
        })
    }

    /// The list as it is written, on one line.
    pub fn written(&self) -> Vec<u8> {
        // Plain data always serialises; an empty text would be found damaged.
        serde_json::to_vec(&**self).unwrap_or_default()
    }

    /// The digest of [`RemoteList::written`].
    pub fn digest(&self) -> &str {
        self.0.digest.get_or_init(|| digest(&self.written()))
    }

    /// Reads what [`RemoteList::written`] gave; `digest` is its digest.
    pub(crate) fn read(written: &[u8], digest: String) -> Option<Self> {
        let list: Self = serde_json::from_slice(written).ok()?;
        let _unset = list.0.digest.set(digest);
        Some(list)
    }
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Deref for RemoteList {
    type Target = [BlockedRemote];

    fn deref(&self) -> &[BlockedRemote] {
        &self.0.remotes
    }
}

impl PartialEq for RemoteList {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || **self == **other
    }
}

impl Eq for RemoteList {}

impl fmt::Debug for RemoteList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.remotes.fmt(f)
    }
}

impl From<Vec<BlockedRemote>> for RemoteList {
    fn from(remotes: Vec<BlockedRemote>) -> Self {
        let mut remotes = remotes;
        // What grew has room for as many again.
        remotes.shrink_to_fit();
        Self(Arc::new(Shared {
            remotes,
            ..Shared::default()
        }))
    }
}

impl FromIterator<BlockedRemote> for RemoteList {
    fn from_iter<I: IntoIterator<Item = BlockedRemote>>(remotes: I) -> Self {
        Vec::from_iter(remotes).into()
    }
}

impl<'a> IntoIterator for &'a RemoteList {
    type Item = &'a BlockedRemote;
    type IntoIter = std::slice::Iter<'a, BlockedRemote>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Serialize for RemoteList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.remotes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RemoteList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_in_pieces_is_the_sum_of_all_bytes() {
        let end: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let remote = |number: u16| BlockedRemote {
            remote: IpNet::from(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number])),
            expires: number.is_multiple_of(3).then_some(end),
        };
        for count in [0, 1, 163, 164, 1_000] {
            let list: RemoteList = (0..count).map(remote).collect();
            let mut bytes = Vec::new();
            for blocked in &list {
                let IpAddr::V6(address) = blocked.remote.addr() else {
                    panic!("{blocked:?}");
                };
                bytes.extend(address.octets());
                bytes.push(128);
                bytes.extend(blocked.expires.map_or(0, Timestamp::as_second).to_le_bytes());
            }
            assert_eq!(list.sum().clone().finalize(), crc32fast::hash(&bytes), "{count}");
        }
    }
}
