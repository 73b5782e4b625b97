//! What DNS answers that pass by say about the lifelines' addresses.
//!
//! In: datagrams of port 53 as they were seen ([`Datagram`]), what is watched for ([`WatchedNames`]), `now` as uptime.
//! Out: endpoints. So an address that the nucleus has just been told is open before it is tried a second time.
//!
//! Invariants: an answer counts only if its question was seen leaving shortly before, with the same transaction,
//! client, name and type, on the same interface, and it comes from the resolver that was asked, which the host's
//! configuration names; each question is answered once. An answer gives addresses of the name that was asked only,
//! through its own aliases. Everything is bounded; what makes no sense is passed over.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

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
    kind: QTYPE,
}

/// Questions that were seen and wait for their answers.
#[derive(Debug, Default)]
pub struct DnsAnswers {
    waiting: VecDeque<(Duration, DnsQuestion)>,
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
        let Some((packet, question)) = read(datagram) else {
            return Vec::new();
        };
        if watched.targets(&question.name).next().is_none()
            || question.resolver.port() != PORT
            || !watched.nameservers.contains(&question.resolver.ip())
        {
            return Vec::new();
        }
        let is_answer = packet.has_flags(PacketFlag::RESPONSE);
        match datagram.way {
            DatagramDirection::Sent if is_answer => Vec::new(),
            DatagramDirection::Received if !is_answer => Vec::new(),
            _ if is_answer => self.take_answer(&packet, &question, watched),
            _ => {
                if self.waiting.len() >= MAX_QUESTIONS {
                    self.waiting.pop_front();
                }
                self.waiting.push_back((now, question));
                Vec::new()
            }
        }
    }

    fn take_answer(
        &mut self,
        packet: &Packet<'_>,
        question: &DnsQuestion,
        watched: &WatchedNames,
    ) -> Vec<Endpoint> {
        let Some(position) = self.waiting.iter().position(|(_, asked)| asked == question) else {
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

/// The message, and the question that it asks or answers.
fn read<'a>(datagram: &Datagram<'a>) -> Option<(Packet<'a>, DnsQuestion)> {
    // The parser makes room for as many records as the header announces, so that is bounded before.
    let counts = datagram.payload.get(4..12)?;
    let most = counts
        .chunks(2)
        .filter_map(|count| Some(u16::from_be_bytes(count.try_into().ok()?)))
        .max()?;
    if datagram.payload.len() > MAX_MESSAGE || usize::from(most) > MAX_RECORDS {
        return None;
    }
    let packet = Packet::parse(datagram.payload).ok()?;
    let [asked] = packet.questions.as_slice() else {
        return None;
    };
    if packet.opcode() != OPCODE::StandardQuery || asked.qclass != QCLASS::CLASS(CLASS::IN) {
        return None;
    }
    let (client, resolver) = if packet.has_flags(PacketFlag::RESPONSE) {
        (datagram.destination, datagram.source)
    } else {
        (datagram.source, datagram.destination)
    };
    let question = DnsQuestion {
        id: packet.id(),
        client,
        resolver,
        interface: datagram.interface,
        name: name_of(&asked.qname),
        kind: asked.qtype,
    };
    let for_addresses = [QTYPE::TYPE(TYPE::A), QTYPE::TYPE(TYPE::AAAA)].contains(&question.kind);
    for_addresses.then_some((packet, question))
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
