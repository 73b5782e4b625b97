//! The bytes of the journal: what must survive `kill -9`, a power cut and a reboot.
//!
//! In and out: [`Journal`] and one file's content, a header line with a checksum and then JSON; where an order has many blocked
//! remotes, also a file for each such list ([`Written`]).
//! Invariant: a journal is either read whole or called damaged; nothing is guessed from half of it, except whether an
//! order may have been live, because then the device must not come up open.
//!
//! A long list lies beside the journal under a name that is the digest of its content, and the journal names it. It is on disk
//! before the journal that names it and goes after one that does not, so a power cut leaves the old state or the new one, at
//! most with a list too many: the journal itself stays the one thing that changes, by one rename. A log with checkpoints
//! would write as little, and would have states between the two: a torn record to be told from a damaged one, a checkpoint
//! that is there with the log it has taken in, a log that has grown while the checkpoint fails. An agent that does not know lists
//! takes a journal that names some for a damaged one in which an order was live, and isolates; a journal without long lists
//! is written as such an agent writes it.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journal_lists;
use super::standing::Standing;
use super::state::QuotaUse;
use crate::Arrange;
use crate::quarantine::lifelines::address_book::AddressBook;
use crate::quarantine::lifelines::nucleus_users::NucleusUsers;
use crate::quarantine::orders::book::OrderBook;
use crate::quarantine::orders::order::{Authority, Order, Posture};
use crate::quarantine::orders::remotes::RemoteList;
use crate::quarantine::orders::trusted_time::KeptTime;
use crate::quarantine::plan::processes::{NucleusTrace, StoppedProcess};

const MAGIC: &str = "edgewarden-journal 1 ";
/// The same with long lists elsewhere: agents that do not know them must not take it for a journal with short ones.
const MAGIC_APART: &str = "edgewarden-journal 2 ";
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
    /// As whom the nucleus was last seen to talk to its cloud. Absent while that is root, as in the journals of older agents.
    #[serde(default, skip_serializing_if = "is_root")]
    pub nucleus_users: Cow<'a, NucleusUsers>,
    /// What the nucleus was when it was connected last, so that nobody stops it before it is again. Absent until then, as in the
    /// journals of older agents.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub nucleus_traces: Cow<'a, [NucleusTrace]>,
    /// The version that the shadow's wish was taken from, written with a wish that is news: our own reports count it up, and
    /// each write wears the flash. Absent until then, as in the journals of older agents.
    #[serde(default, skip_serializing_if = "is_none")]
    pub shadow: Cow<'a, Option<ShadowVersion>>,
    /// What shadow and deployment said last and has ended by itself: one each at most, so that its repetition is told from another
    /// order behind the same end. Absent until then, as in the journals of older agents.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub ended: Cow<'a, [EndedWish]>,
}

#[expect(clippy::ptr_arg, reason = "serde calls it with a reference to the field")]
fn is_root(users: &Cow<'_, NucleusUsers>) -> bool {
    users.is_empty()
}

fn is_unknown(traces: &[NucleusTrace]) -> bool {
    traces.is_empty()
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
            nucleus_users: Cow::Owned(self.nucleus_users.into_owned()),
            nucleus_traces: Cow::Owned(self.nucleus_traces.into_owned()),
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

/// A journal as it lies on disk: the file, and the long lists beside it. Their contents on lines of their own after the file's are a
/// journal in one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The journal's own file.
    pub file: Vec<u8>,
    /// Those that it names, each once.
    pub lists: Vec<RemoteList>,
}

impl Written {
    /// The file's content, and the lists that belong beside it.
    pub fn of(journal: &Journal<'_>) -> Self {
        let (short, lists) = journal_lists::take_out(journal);
        if lists.is_empty() {
            return Self {
                file: encode(journal),
                lists,
            };
        }
        let body = serde_json::to_string(&Apart {
            journal: short,
            lists: lists.iter().map(|list| list.digest().to_owned()).collect(),
        });
        let mut once: Vec<RemoteList> = Vec::new();
        for list in lists {
            if !once.iter().any(|known| known.digest() == list.digest()) {
                once.push(list);
            }
        }
        Self {
            file: with_header(MAGIC_APART, &body.unwrap_or_default()),
            lists: once,
        }
    }

    /// The digests of the lists that a file names; none for a file that cannot be read.
    pub fn named(file: &[u8]) -> Vec<String> {
        let text = file
            .split_inclusive(|byte| *byte == b'\n')
            .take(2)
            .collect::<Vec<_>>()
            .concat();
        let checked = std::str::from_utf8(&text)
            .ok()
            .and_then(|text| body_of(text, MAGIC_APART).ok());
        let lists = checked.and_then(|body| serde_json::from_str::<Lists>(body).ok());
        let mut named = lists.map(|named| named.lists).unwrap_or_default();
        // They become names of files.
        named.retain(|digest| digest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        named.arrange();
        named.dedup();
        named
    }
}

/// A journal whose long lists are elsewhere.
#[derive(Serialize)]
struct Apart<'a> {
    #[serde(flatten)]
    journal: Journal<'a>,
    lists: Vec<String>,
}

/// Where they are: digests, one for each order that leaves its remotes out, the live orders first.
#[derive(Deserialize)]
struct Lists {
    lists: Vec<String>,
}

/// The journal in one piece.
pub fn encode(journal: &Journal<'_>) -> Vec<u8> {
    // Plain data with string keys always serialises; an empty body would be called damaged at the next start.
    let body = serde_json::to_string(journal).unwrap_or_default();
    with_header(MAGIC, &body)
}

fn with_header(magic: &str, body: &str) -> Vec<u8> {
    format!("{magic}{:08x}\n{body}\n", crc32fast::hash(body.as_bytes())).into_bytes()
}

/// The text below the header, if it is as it was written.
fn body_of<'a>(text: &'a str, magic: &str) -> Result<&'a str, &'static str> {
    let (header, body) = text.split_once('\n').ok_or("it has no body")?;
    let checksum = header
        .strip_prefix(magic)
        .ok_or("it does not begin with the journal's header")?;
    let body = body.strip_suffix('\n').unwrap_or(body);
    if format!("{:08x}", crc32fast::hash(body.as_bytes())) != checksum {
        return Err("its checksum does not fit its content");
    }
    Ok(body)
}

/// What the bytes of a journal say.
#[derive(Debug, Clone, PartialEq)]
pub enum Understood {
    /// All of it.
    Whole(Box<Journal<'static>>),
    /// It is damaged.
    Damaged {
        /// What is wrong with it.
        damage: JournalDamage,
        /// The stopped processes that can still be read in it.
        stopped: Vec<StoppedProcess>,
    },
}

/// Reads the file's content, and the lists after it, and of a damaged one what is left. It takes as long as what the file holds is
/// long: half a second for a hundred thousand blocked remotes, so it belongs on the thread that reads the file.
pub fn understand(bytes: &[u8]) -> Understood {
    match decode(bytes) {
        Ok(journal) => Understood::Whole(Box::new(journal)),
        Err(damage) => Understood::Damaged {
            damage,
            stopped: stopped_in(bytes),
        },
    }
}

/// Reads the file's content, and the lists after it.
///
/// # Errors
/// [`JournalDamage`] when the header, the checksum or the JSON is not as written.
pub fn decode(bytes: &[u8]) -> Result<Journal<'static>, JournalDamage> {
    let damage = |what: String| JournalDamage {
        what,
        says_live: says_live(bytes),
    };
    if bytes.starts_with(MAGIC_APART.as_bytes()) {
        return decode_apart(bytes).map_err(damage);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| damage(format!("no UTF-8 after {} bytes", e.valid_up_to())))?;
    let body = body_of(text, MAGIC).map_err(|what| damage(what.to_owned()))?;
    serde_json::from_str(body).map_err(|e| damage(no_journal(&e)))
}

fn decode_apart(bytes: &[u8]) -> Result<Journal<'static>, String> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let file: Vec<&[u8]> = lines.by_ref().take(2).collect();
    let text = file.join(&b'\n');
    let text = std::str::from_utf8(&text).map_err(|e| format!("no UTF-8 after {} bytes", e.valid_up_to()))?;
    let body = body_of(text, MAGIC_APART)?;
    let short: Journal<'static> = serde_json::from_str(body).map_err(|e| no_journal(&e))?;
    let Lists { lists } = serde_json::from_str(body).map_err(|e| no_journal(&e))?;
    journal_lists::put_back(short, &lists, lines)
}

fn no_journal(why: &serde_json::Error) -> String {
    format!("its content is not a journal ({why})")
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
#[path = "journal_tests.rs"]
mod tests;
