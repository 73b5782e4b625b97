//! A name server: answers from a file, or asks another one.
//!
//! In: where to listen, a JSON file `{"name": ["address", ...]}` that is read at every question, so that a test changes
//! an address by writing it; or another server to ask, which makes it the stub of a device. Out: answers, and a JSON line
//! when it listens. UDP only. Deliberately absent: caching, other records than A, AAAA and an alias.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Name, Packet, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::traffic::lines;

/// Longest message, as resolvers announce it.
const MAX_MESSAGE: usize = 4_096;
/// How long the server that is asked may take.
const FORWARD_LIMIT: Duration = Duration::from_secs(2);

/// A small name server.
#[derive(Debug, Clone, clap::Args)]
pub struct DnsArgs {
    /// Where to listen, ADDR:PORT.
    #[arg(long)]
    pub listen: SocketAddr,
    /// JSON file of names and their addresses; an entry that is no address is an alias.
    #[arg(long, required_unless_present = "forward")]
    pub records: Option<PathBuf>,
    /// Asks this server instead, ADDR:PORT.
    #[arg(long)]
    pub forward: Option<SocketAddr>,
}

/// Answers for ever.
///
/// # Errors
/// When it cannot listen, or can no longer receive.
pub fn run(args: &DnsArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let socket = UdpSocket::bind(args.listen)?;
    lines::print(&json!({"event": "listening", "address": args.listen.to_string()}))?;
    let mut buffer = [0; MAX_MESSAGE];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        let question = &buffer[..length];
        let reply = match (&args.forward, &args.records) {
            (Some(server), _) => ask(question, *server),
            (None, Some(records)) => answer(question, &read(records)),
            (None, None) => None,
        };
        if let Some(reply) = reply {
            // The asker may be gone, or a firewall may refuse it: the next one counts.
            let _ = socket.send_to(&reply, from);
        }
    }
}

type Records = BTreeMap<String, Vec<String>>;

fn read(path: &Path) -> Records {
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn ask(question: &[u8], server: SocketAddr) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.set_read_timeout(Some(FORWARD_LIMIT)).ok()?;
    socket.send_to(question, server).ok()?;
    let mut buffer = [0; MAX_MESSAGE];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

/// The answer to a question; a name that is not in the file does not exist.
#[must_use]
pub fn answer(question: &[u8], records: &BTreeMap<String, Vec<String>>) -> Option<Vec<u8>> {
    let asked = Packet::parse(question).ok()?;
    let question = asked.questions.first()?.clone();
    let mut reply = Packet::new_reply(asked.id());
    let mut name = question.qname.to_string().to_ascii_lowercase();
    let known = records.contains_key(&name);
    // As many aliases as a test may want, and no endless chain.
    for _ in 0..8 {
        let owner = Name::new(&name).ok()?.into_owned();
        let mut alias = None;
        for value in records.get(&name).into_iter().flatten() {
            let data = match value.parse::<IpAddr>() {
                Ok(IpAddr::V4(v4)) if question.qtype == QTYPE::TYPE(TYPE::A) => RData::A(A::from(v4)),
                Ok(IpAddr::V6(v6)) if question.qtype == QTYPE::TYPE(TYPE::AAAA) => {
                    RData::AAAA(AAAA::from(v6))
                }
                Ok(_) => continue,
                Err(_) => {
                    alias = Some(value.to_ascii_lowercase());
                    RData::CNAME(CNAME(Name::new(value).ok()?.into_owned()))
                }
            };
            reply
                .answers
                .push(ResourceRecord::new(owner.clone(), CLASS::IN, 1, data));
        }
        match alias {
            Some(next) => name = next,
            None => break,
        }
    }
    if !known {
        *reply.rcode_mut() = RCODE::NameError;
    }
    reply.questions.push(question);
    reply.build_bytes_vec().ok()
}

#[cfg(test)]
mod tests {
    use simple_dns::{QCLASS, Question};

    use super::*;

    fn ask_for(name: &str, kind: TYPE) -> Packet<'static> {
        let records = serde_json::from_value(json!({
            "a.test": ["192.0.2.1", "2001:db8::1"],
            "b.test": ["a.test"],
        }));
        let mut packet = Packet::new_query(7);
        let name = Name::new_unchecked(name);
        let question = Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
        packet.questions.push(question);
        let question = packet.build_bytes_vec().unwrap_or_default();
        let reply = answer(&question, &records.unwrap_or_default()).unwrap_or_default();
        let reply: &'static [u8] = Vec::leak(reply);
        Packet::parse(reply).unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    #[test]
    fn the_type_that_was_asked_for_is_answered_through_aliases() {
        let reply = ask_for("B.test", TYPE::AAAA);
        assert_eq!(
            (reply.id(), reply.rcode(), reply.answers.len()),
            (7, RCODE::NoError, 2)
        );
        assert!(matches!(reply.answers[0].rdata, RData::CNAME(_)));
        assert!(matches!(reply.answers[1].rdata, RData::AAAA(_)));
        assert_eq!(ask_for("a.test", TYPE::A).answers.len(), 1);
    }

    #[test]
    fn an_unknown_name_does_not_exist() {
        let reply = ask_for("c.test", TYPE::A);
        assert_eq!((reply.rcode(), reply.answers.len()), (RCODE::NameError, 0));
    }
}
