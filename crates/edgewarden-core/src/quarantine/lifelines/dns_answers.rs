//! What DNS answers that pass by say about the lifelines' addresses.
//!
//! In: datagrams of port 53 as they were seen ([`Datagram`]), what is watched for ([`WatchedNames`]), `now` as uptime.
//! Out: endpoints. So an address that the nucleus has just been told is open before it is tried a second time.
//!
//! Invariants: an answer counts only if its question was seen leaving shortly before, with the same transaction,
//! client, name and type, on the same interface, and it comes from the resolver that was asked, which the host's
//! configuration names; each question is answered once. An answer gives addresses of the name that was asked only,
//! through its own aliases. Everything is bounded; what makes no sense is passed over. A message is read whole only when
//! it answers a question that waits, and only so many in a second: to read one costs as much as its sender likes.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, RCODE, ResourceRecord};

use super::lifeline::{Endpoint, LifelineTarget};

pub const PORT: u16 = 53;
/// Longest message read, in bytes: resolvers announce 1,232 to 4,096; what is longer goes over TCP.
pub const MAX_MESSAGE: usize = 4_096;
/// How long an answer may take; a client asks again after five seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Questions waiting for their answer. A program that asks for lifelines' names without end pushes out old questions;
/// their addresses are then found by our own look-ups.
const MAX_QUESTIONS: usize = 256;
/// Records of one kind in a message that is read; AWS answers with up to eight addresses after a few aliases.
const MAX_RECORDS: usize = 64;
/// Aliases followed in one answer.
const MAX_ALIASES: usize = 8;
/// Addresses taken of one answer.
const MAX_ADDRESSES: usize = 32;
/// Bytes before the question, the two flags looked at in them, and what one of them must say (RFC 1035, 4.1.1).
const HEADER: usize = 12;
const IS_ANSWER: u16 = 0x8000;
const OPERATION: u16 = 0x7800;
const STANDARD_QUERY: u16 = 0;
/// Longest part of a name and longest name (RFC 1035, 2.3.4).
const MAX_LABEL: u8 = 63;
const MAX_NAME: usize = 255;

/// Which answers matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchedNames {
    /// Lifelines that have a name, with the name as it is compared.
    names: Vec<(String, LifelineTarget)>,
    /// Who may answer.
    nameservers: Vec<IpAddr>,
}

impl WatchedNames {
    /// The named ones of `targets`, answered by `nameservers`. Without a name server the C library asks this machine.
    pub fn new(targets: &[LifelineTarget], mut nameservers: Vec<IpAddr>) -> Self {
        if nameservers.is_empty() {
            nameservers.push(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let named = targets
            .iter()
            .filter(|target| target.host.parse::<IpAddr>().is_err());
        Self {
            names: named
                .map(|target| (plain(&target.host), target.clone()))
                .collect(),
            nameservers,
        }
    }

    /// Whether there is nothing to watch for.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The lifelines that a name stands for.
    fn targets<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a LifelineTarget> {
        let fits = move |host: &str, below: bool| {
            name == host
                || (below
                    && name
                        .strip_suffix(host)
                        .is_some_and(|bucket| bucket.ends_with('.')))
        };
        self.names
            .iter()
            .filter(move |(host, target)| fits(host, target.below))
            .map(|(_, target)| target)
    }
}

/// Which way a datagram was seen to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramDirection {
    /// It left this machine.
    Sent,
    /// It arrived for this machine.
    Received,
    /// From this machine to itself.
    Loopback,
}

/// A UDP datagram that was seen.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Index of the interface it was seen on.
    pub interface: u32,
    pub way: DatagramDirection,
    pub payload: &'a [u8],
}

/// A question that was seen.
#[derive(Debug, PartialEq, Eq)]
struct DnsQuestion {
    id: u16,
    client: SocketAddr,
    resolver: SocketAddr,
    interface: u32,
    name: String,
    kind: QuestionKind,
}

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuestionKind {
    V4,
    V6,
}

/// Messages read whole within [`BUDGET_SPAN`]: the worst one costs some milliseconds, and a machine that asks for its
/// lifelines' names asks for a few in a minute.
const MAX_WHOLE: u32 = 32;
/// After this time as many may be read again.
const BUDGET_SPAN: Duration = Duration::from_secs(1);

/// Questions that were seen and wait for their answers.
#[derive(Debug, Default)]
pub struct DnsAnswers {
    waiting: VecDeque<(Duration, DnsQuestion)>,
    budget: ReadBudget,
}

impl DnsAnswers {
    /// Takes a datagram; the endpoints it reveals.
    pub fn see(&mut self, datagram: &Datagram<'_>, watched: &WatchedNames, now: Duration) -> Vec<Endpoint> {
        while self
            .waiting
            .front()
            .is_some_and(|(seen, _)| now.saturating_sub(*seen) > ANSWER_LIMIT)
        {
            self.waiting.pop_front();
        }
        let Some((is_answer, question)) = glance(datagram, watched) else {
            return Vec::new();
        };
        if is_answer {
            return self.take_answer(datagram, &question, watched, now);
        }
        if self.waiting.len() >= MAX_QUESTIONS {
            self.waiting.pop_front();
        }
        self.waiting.push_back((now, question));
        Vec::new()
    }

    fn take_answer(
        &mut self,
        datagram: &Datagram<'_>,
        question: &DnsQuestion,
        watched: &WatchedNames,
        now: Duration,
    ) -> Vec<Endpoint> {
        let Some(position) = self.waiting.iter().position(|(_, asked)| asked == question) else {
            return Vec::new();
        };
        // Our own look-ups find what is passed over here.
        if !self.budget.allows(now) {
            return Vec::new();
        }
        let Ok(packet) = Packet::parse(datagram.payload) else {
            return Vec::new();
        };
        self.waiting.remove(position);
        if packet.rcode() != RCODE::NoError {
            return Vec::new();
        }
        let addresses = addresses_of(&question.name, &packet.answers);
        watched
            .targets(&question.name)
            .flat_map(|target| target.endpoints(addresses.iter().copied()))
            .collect()
    }
}

/// How many messages may be read whole: whoever answers can make each as dear as there is room in it.
#[derive(Debug, Default)]
struct ReadBudget {
    began: Duration,
    used: u32,
}

impl ReadBudget {
    fn allows(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.began) >= BUDGET_SPAN {
            *self = Self { began: now, used: 0 };
        }
        self.used = self.used.saturating_add(1);
        self.used <= MAX_WHOLE
    }
}

/// What a message is about, if it can matter: whether it answers, and its question. Looks at what costs nothing first,
/// and at nothing behind the question: anybody on this machine can send any number of messages.
fn glance(datagram: &Datagram<'_>, watched: &WatchedNames) -> Option<(bool, DnsQuestion)> {
    let message = datagram.payload;
    let header = message.get(..HEADER)?;
    let word = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
    let flags = word(2)?;
    let is_answer = flags & IS_ANSWER != 0;
    match datagram.way {
        DatagramDirection::Sent if is_answer => return None,
        DatagramDirection::Received if !is_answer => return None,
        _ => {}
    }
    let (client, resolver) = if is_answer {
        (datagram.destination, datagram.source)
    } else {
        (datagram.source, datagram.destination)
    };
    if resolver.port() != PORT || !watched.nameservers.contains(&resolver.ip()) {
        return None;
    }
    // The parser makes room for as many records as the header announces, so that is bounded before.
    let most = word(6)?.max(word(8)?).max(word(10)?);
    if message.len() > MAX_MESSAGE
        || usize::from(most) > MAX_RECORDS
        || flags & OPERATION != STANDARD_QUERY
        || word(4)? != 1
    {
        return None;
    }
    let (name, kind) = question_of(message.get(HEADER..)?)?;
    watched.targets(&name).next()?;
    let question = DnsQuestion {
        id: word(0)?,
        client,
        resolver,
        interface: datagram.interface,
        name,
        kind,
    };
    Some((is_answer, question))
}

/// The name as it is compared, and the type, of a question for addresses. Names of lifelines are made of letters,
/// digits, `-` and `_`; anything else is none of them, and the first name of a message has nothing to point to.
fn question_of(mut bytes: &[u8]) -> Option<(String, QuestionKind)> {
    let mut name = String::new();
    loop {
        let (length, rest) = bytes.split_first()?;
        if *length == 0 {
            bytes = rest;
            break;
        }
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_';
        if *length > MAX_LABEL || name.len() > MAX_NAME || !label.iter().all(is_plain) {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        bytes = rest;
    }
    let kind = match bytes.get(..4)? {
        [0, 1, 0, 1] => QuestionKind::V4,
        [0, 28, 0, 1] => QuestionKind::V6,
        _ => return None,
    };
    Some((name, kind))
}

/// The addresses that `records` give to `name`, through aliases among them.
fn addresses_of(name: &str, records: &[ResourceRecord<'_>]) -> Vec<IpAddr> {
    let records: Vec<(String, &RData<'_>)> = records
        .iter()
        .filter(|record| record.class == CLASS::IN)
        .map(|record| (name_of(&record.name), &record.rdata))
        .collect();
    let mut names = vec![name.to_owned()];
    for _ in 0..MAX_ALIASES {
        let alias = records.iter().find_map(|(owner, data)| match data {
            RData::CNAME(alias) if names.last() == Some(owner) => Some(name_of(&alias.0)),
            _ => None,
        });
        match alias {
            Some(alias) if !names.contains(&alias) => names.push(alias),
            _ => break,
        }
    }
    let of_name = records.iter().filter(|(owner, _)| names.contains(owner));
    of_name
        .filter_map(|(_, data)| match data {
            RData::A(v4) => Some(IpAddr::from(v4.address.to_be_bytes())),
            RData::AAAA(v6) => Some(IpAddr::from(v6.address.to_be_bytes())),
            _ => None,
        })
        .take(MAX_ADDRESSES)
        .collect()
}

/// A name as it is compared: case does not count, nor the dot at the end.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn name_of(name: &Name<'_>) -> String {
    plain(&name.to_string())
}

#[cfg(test)]
#[path = "dns_answers_tests.rs"]
mod tests;
