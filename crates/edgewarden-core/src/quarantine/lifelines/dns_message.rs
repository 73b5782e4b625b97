//! Our own question for a name's addresses, and the answer to it.
//!
//! In: a name, the type, the transaction's number; the bytes that came back. Out: the bytes to send; addresses of the name
//! that was asked only, through its own aliases. Everything is bounded; what is not the answer to this very question is
//! passed over. Who may answer is decided by whoever holds the socket (`host::net::dns_client`).

use std::net::IpAddr;

use simple_dns::rdata::{OPT, RData};
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};

use super::dns_questions::plain;

/// Longest answer read, in bytes: what servers send to a question that announces no more is 512; some ignore that.
pub const MAX_ANSWER: usize = 4_096;
/// Bytes announced to a server whose answer was cut: what passes every link in one piece.
const LONG_ANSWER: u16 = 1_232;
/// Records of one kind in a message that is read: all that the longest answer has room for, with eleven bytes for each.
const MAX_RECORDS: usize = MAX_ANSWER / 11;
/// Aliases followed in one answer.
const MAX_ALIASES: usize = 8;
/// Bytes before the question (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    V4,
    V6,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnQuestion {
    pub id: u16,
    /// As it is written.
    pub name: String,
    pub kind: AddressKind,
    /// Whether more than 512 bytes are taken, which not every server understands.
    pub takes_long: bool,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    pub addresses: Vec<IpAddr>,
    /// There was no room for all.
    pub is_cut: bool,
}

impl OwnQuestion {
    /// The datagram to send; none for a name that DNS cannot carry.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let kind = match self.kind {
            AddressKind::V4 => TYPE::A,
            AddressKind::V6 => TYPE::AAAA,
        };
        let mut packet = Packet::new_query(self.id);
        packet.set_flags(simple_dns::PacketFlag::RECURSION_DESIRED);
        let name = Name::new(self.name.trim_end_matches('.')).ok()?;
        let question = Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
        packet.questions.push(question);
        if self.takes_long {
            *packet.opt_mut() = Some(OPT {
                opt_codes: Vec::new(),
                udp_packet_size: LONG_ANSWER,
                version: 0,
            });
        }
        packet.build_bytes_vec().ok()
    }

    /// The addresses in a datagram if it answers this question, none of them too; nothing if it does not.
    pub fn answered(&self, bytes: &[u8]) -> Option<Said> {
        let header = bytes.get(..HEADER)?;
        // The parser makes room for as many records as the header announces, so that is bounded before.
        let announced = header.get(4..)?.chunks_exact(2);
        let too_many = |count: &[u8]| usize::from(u16::from_be_bytes([count[0], count[1]])) > MAX_RECORDS;
        if bytes.len() > MAX_ANSWER || announced.clone().any(too_many) {
            return None;
        }
        let packet = Packet::parse(bytes).ok()?;
        let [question] = packet.questions.as_slice() else {
            return None;
        };
        let wanted = match self.kind {
            AddressKind::V4 => QTYPE::TYPE(TYPE::A),
            AddressKind::V6 => QTYPE::TYPE(TYPE::AAAA),
        };
        let is_ours = packet.id() == self.id
            && packet.has_flags(simple_dns::PacketFlag::RESPONSE)
            && question.qtype == wanted
            && plain(&question.qname.to_string()) == plain(&self.name);
        is_ours.then(|| Said {
            addresses: if packet.rcode() == RCODE::NoError {
                addresses_of(&plain(&self.name), &packet.answers)
            } else {
                Vec::new()
            },
            is_cut: packet.has_flags(simple_dns::PacketFlag::TRUNCATION),
        })
    }
}

/// The addresses that `records` give to `name`, through aliases among them.
fn addresses_of(name: &str, records: &[ResourceRecord<'_>]) -> Vec<IpAddr> {
    let records: Vec<(String, &RData<'_>)> = records
        .iter()
        .filter(|record| record.class == CLASS::IN)
        .map(|record| (plain(&record.name.to_string()), &record.rdata))
        .collect();
    let mut names = vec![name.to_owned()];
    for _ in 0..MAX_ALIASES {
        let alias = records.iter().find_map(|(owner, data)| match data {
            RData::CNAME(alias) if names.last() == Some(owner) => Some(plain(&alias.0.to_string())),
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
        .collect()
}

#[cfg(test)]
#[path = "dns_message_tests.rs"]
mod tests;
