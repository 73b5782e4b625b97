//! The bytes of the journal: what must survive `kill -9`, a power cut and a reboot.
//!
//! In and out: [`Journal`] and one file's content, a header line with a checksum and then JSON.
//! Invariant: a journal is either read whole or called damaged; nothing is guessed from half of it, except whether an
//! order may have been live, because then the device must not come up open.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::standing::Standing;
use super::state::QuotaUse;
use crate::quarantine::lifelines::address_book::AddressBook;
use crate::quarantine::orders::book::OrderBook;
use crate::quarantine::orders::order::{Authority, Order, Posture};
use crate::quarantine::orders::trusted_time::KeptTime;
use crate::quarantine::plan::processes::StoppedProcess;

const MAGIC: &str = "edgewarden-journal 1 ";
/// How the content begins while no order is live.
const NO_ORDERS: &[u8] = b"{\"book\":{\"orders\":[]}";

/// How each stopped process begins; in a text of somebody else's the quotes are escaped.
const STOPPED: &[u8] = b"{\"pid\":";
/// Stopped processes read from a damaged journal; the enforcer remembers fewer.
const MAX_STOPPED: usize = 1_024;

/// Orders that the operator ended against their authority's will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorOverride {
    /// Why; asked for, because the cloud is told.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// The orders; each stays ended until its authority wants something else.
    pub orders: Vec<Order>,
}

/// Orders that ended because no nucleus was there through which they could have been taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseWithoutNucleus {
    /// When.
    pub at: Timestamp,
    /// How long nobody was there, and who wanted it so: a sentence.
    pub why: String,
    /// Which, each with its authority.
    pub orders: Vec<String>,
}

/// A posture that the kernel was proven to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPosture {
    pub posture: Posture,
    /// Since when.
    pub since: Timestamp,
}

/// A wish whose order has ended, while its authority may go on saying it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedWish {
    pub authority: Authority,
    /// Not the order itself: what is left of a damaged journal must not look like a live one.
    pub sum: u32,
}

/// How far a shadow was heard: messages below `version` are older than what was obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowVersion {
    /// The thing it belongs to, at most 128 characters.
    pub thing: String,
    /// Its name; absent for the classic shadow.
    #[serde(default)]
    pub name: Option<String>,
    /// The service counts them up; they begin anew when a shadow was deleted for long.
    pub version: u64,
}

impl ShadowVersion {
    /// Whether it counts this shadow: versions of different ones say nothing of each other.
    #[must_use]
    pub fn is_of(&self, thing: &str, name: Option<&str>) -> bool {
        self.thing == thing && self.name.as_deref() == name
    }
}

/// Everything enforcement must remember, lent by the parts that own it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal<'a> {
    /// The live orders.
    pub book: Cow<'a, OrderBook>,
    /// Where confirm-or-roll-back stands: the keys `confirmed`, `trial` and `rolledBack`.
    #[serde(flatten)]
    pub standing: Cow<'a, Standing>,
    /// Since when the kernel holds a posture that cuts. Absent while it holds none, as in the journals of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldPosture>,
    /// The operator's override, while it holds.
    #[serde(default)]
    pub overridden: Cow<'a, Option<OperatorOverride>>,
    /// Orders that ended for want of a nucleus: the cloud is told when one is back. Absent until that happens, as in the
    /// journals of older agents.
    #[serde(default, skip_serializing_if = "is_none")]
    pub released_without_nucleus: Cow<'a, Option<ReleaseWithoutNucleus>>,
    /// The newest time that was trusted.
    #[serde(default)]
    pub clock: Option<KeptTime>,
    /// How far quotas are used; a restart must not give them anew.
    #[serde(default)]
    pub quotas: Cow<'a, [QuotaUse]>,
    /// Processes that were stopped and not yet released.
    #[serde(default)]
    pub stopped: Cow<'a, [StoppedProcess]>,
    /// Addresses of lifelines, so that isolation can be restored before any name resolves.
    #[serde(default)]
    pub addresses: Cow<'a, AddressBook>,
    /// The version that the shadow's wish was taken from, written with a wish that is news: our own reports count it up, and
    /// each write wears the flash. Absent until then, as in the journals of older agents.
    #[serde(default, skip_serializing_if = "is_none")]
    pub shadow: Cow<'a, Option<ShadowVersion>>,
    /// What shadow and deployment said last and has ended by itself: one each at most, so that its repetition is told from another
    /// order behind the same end. Absent until then, as in the journals of older agents.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub ended: Cow<'a, [EndedWish]>,
}

fn is_empty(ended: &[EndedWish]) -> bool {
    ended.is_empty()
}

#[expect(clippy::ptr_arg, reason = "serde calls it with a reference to the field")]
fn is_none<T: Clone>(value: &Cow<'_, Option<T>>) -> bool {
    value.is_none()
}

impl Journal<'_> {
    /// A copy that lends nothing.
    #[must_use]
    pub fn into_owned(self) -> Journal<'static> {
        Journal {
            book: Cow::Owned(self.book.into_owned()),
            standing: Cow::Owned(self.standing.into_owned()),
            held: self.held,
            overridden: Cow::Owned(self.overridden.into_owned()),
            released_without_nucleus: Cow::Owned(self.released_without_nucleus.into_owned()),
            clock: self.clock,
            quotas: Cow::Owned(self.quotas.into_owned()),
            stopped: Cow::Owned(self.stopped.into_owned()),
            addresses: Cow::Owned(self.addresses.into_owned()),
            shadow: Cow::Owned(self.shadow.into_owned()),
            ended: Cow::Owned(self.ended.into_owned()),
        }
    }
}

/// A journal that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal is damaged: {what}")]
pub struct JournalDamage {
    /// What is wrong with it.
    pub what: String,
    /// Whether an order may have been live: what is left of it speaks of one, or does not say that there was none.
    pub says_live: bool,
}

/// The file's content.
pub fn encode(journal: &Journal<'_>) -> Vec<u8> {
    // Plain data with string keys always serialises; an empty body would be called damaged at the next start.
    let body = serde_json::to_string(journal).unwrap_or_default();
    format!("{MAGIC}{:08x}\n{body}\n", crc32fast::hash(body.as_bytes())).into_bytes()
}

/// Reads the file's content.
///
/// # Errors
/// [`JournalDamage`] when the header, the checksum or the JSON is not as written.
pub fn decode(bytes: &[u8]) -> Result<Journal<'static>, JournalDamage> {
    let damage = |what: String| JournalDamage {
        what,
        says_live: says_live(bytes),
    };
    let text = std::str::from_utf8(bytes)
        .map_err(|e| damage(format!("no UTF-8 after {} bytes", e.valid_up_to())))?;
    let (header, body) = text
        .split_once('\n')
        .ok_or_else(|| damage("it has no body".into()))?;
    let checksum = header
        .strip_prefix(MAGIC)
        .ok_or_else(|| damage("it does not begin with the journal's header".into()))?;
    let body = body.strip_suffix('\n').unwrap_or(body);
    if format!("{:08x}", crc32fast::hash(body.as_bytes())) != checksum {
        return Err(damage("its checksum does not fit its content".into()));
    }
    serde_json::from_str(body).map_err(|e| damage(format!("its content is not a journal ({e})")))
}

/// The stopped processes that can be read in a damaged journal, wherever the damage is. They are a hint: whoever is not
/// stopped is none of them.
pub fn stopped_in(damaged: &[u8]) -> Vec<StoppedProcess> {
    let starts = damaged
        .windows(STOPPED.len())
        .enumerate()
        .filter_map(|(at, window)| (window == STOPPED).then_some(at));
    let read = |at: usize| {
        let text = serde_json::Deserializer::from_slice(damaged.get(at..)?);
        text.into_iter().next()?.ok()
    };
    starts.filter_map(read).take(MAX_STOPPED).collect()
}

fn says_live(bytes: &[u8]) -> bool {
    // What is cut off or overwritten may have been an order. Some filesystems leave an empty file, or one of zeros, of
    // a file that was being written at a power cut.
    let says = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    says(b"\"posture\"") || !says(NO_ORDERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessId;
    use crate::quarantine::orders::document::Wish;
    use crate::quarantine::orders::order::ProcessAction;

    fn live() -> Journal<'static> {
        let mut journal = Journal::default();
        let order = Order::isolate(
            Authority::Shadow,
            "s",
            None,
            "2026-01-01T00:00:00Z".parse().unwrap(),
        );
        journal
            .book
            .to_mut()
            .set(Authority::Shadow, Wish::Order(Box::new(order)));
        journal
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(decode(&encode(&live())), Ok(live()));
        assert_eq!(decode(&encode(&Journal::default())), Ok(Journal::default()));
    }

    #[test]
    fn a_journal_of_an_older_agent_is_read_and_written_alike() {
        let body = r#"{"book":{"orders":[]},"confirmed":null,"trial":{"plan":"0a1b2c3d","channelWorked":true},"rolledBack":null,"overridden":null,"clock":{"time":"2026-01-01T00:00:00Z","uptime":5,"boot":"b"},"quotas":[],"stopped":[],"addresses":[]}"#;
        let bytes = format!("{MAGIC}{:08x}\n{body}\n", crc32fast::hash(body.as_bytes()));
        let journal = decode(bytes.as_bytes()).unwrap();
        assert!(matches!(
            *journal.standing,
            Standing::Trying {
                channel_worked: true,
                ..
            }
        ));
        assert_eq!(String::from_utf8(encode(&journal)).unwrap(), bytes);
    }

    #[test]
    fn the_shadows_version_is_kept_and_a_key_of_a_later_agent_is_passed_over() {
        let mut journal = live();
        journal.shadow = Cow::Owned(Some(ShadowVersion {
            thing: "gw".into(),
            name: Some("edge".into()),
            version: u64::MAX,
        }));
        let bytes = encode(&journal);
        assert_eq!(decode(&bytes), Ok(journal));
        // As an agent that does not know the key reads it.
        let text = String::from_utf8(bytes).unwrap();
        let body = text.split_once('\n').unwrap().1.trim_end();
        let body = body.replace("\"shadow\":{", "\"later\":{");
        assert!(body.contains("\"later\":{"), "control: {body}");
        let renamed = format!("{MAGIC}{:08x}\n{body}\n", crc32fast::hash(body.as_bytes()));
        assert_eq!(decode(renamed.as_bytes()), Ok(live()));
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_noticed() {
        let bytes = encode(&live());
        for length in 0..bytes.len() - 1 {
            assert!(decode(&bytes[..length]).is_err(), "truncated to {length}");
        }
        for index in 0..bytes.len() - 1 {
            let mut flipped = bytes.clone();
            flipped[index] ^= 0x20;
            assert!(decode(&flipped).is_err(), "byte {index}");
        }
    }

    #[test]
    fn the_stopped_are_read_wherever_the_damage_is() {
        let stopped = |pid| StoppedProcess {
            identity: ProcessId { pid, start_ticks: 7 },
            name: "{\"pid\":9".into(),
            exe: Some("/opt/{\"pid\":9,\"startTicks\":7}".into()),
            action: ProcessAction::Freeze,
            at: Timestamp::UNIX_EPOCH,
        };
        let mut journal = live();
        journal.stopped = Cow::Owned(vec![stopped(10), stopped(11)]);
        let whole = encode(&journal);
        let pids = |bytes: &[u8]| {
            let found = stopped_in(bytes).into_iter();
            found.map(|known| known.identity.pid).collect::<Vec<_>>()
        };
        assert_eq!(stopped_in(&whole), *journal.stopped);
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] = 0xff;
            let found = pids(&bytes);
            assert!(
                found.contains(&10) || found.contains(&11),
                "byte {index}: {found:?}"
            );
            assert!(!found.contains(&9), "byte {index}: {found:?}");
        }
        let second = whole.windows(STOPPED.len()).rposition(|window| window == STOPPED);
        assert_eq!(pids(&whole[..second.unwrap()]), [10], "cut off");
        assert_eq!(pids(&whole[second.unwrap()..]), [11], "the beginning lost");
        assert!(pids(&[0; 300]).is_empty());
    }

    #[test]
    fn damage_says_whether_an_order_was_live() {
        let mut bytes = encode(&live());
        bytes[25] ^= 1;
        assert!(decode(&bytes).unwrap_err().says_live);
        let mut bytes = encode(&Journal::default());
        bytes[25] ^= 1;
        assert!(!decode(&bytes).unwrap_err().says_live);
        for lost in [
            &b""[..],
            &[0; 300],
            b"edgewarden-journal 1 0badcafe\n{\"book\":{\"or",
        ] {
            assert!(decode(lost).unwrap_err().says_live, "it may have lost an order");
        }
        let live = encode(&live());
        for length in 0..live.len() - 1 {
            assert!(decode(&live[..length]).unwrap_err().says_live, "cut to {length}");
        }
    }
}
