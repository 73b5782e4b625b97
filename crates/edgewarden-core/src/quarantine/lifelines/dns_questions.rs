//! Which of the lifelines' names this machine is seen to ask for.
//!
//! In: datagrams of port 53 as they were seen ([`Datagram`]), what is watched for ([`WatchedNames`]). Out: names, never an
//! address: whoever may send raw packets can forge a question and its answer, so what is seen hurries our own look-up and
//! says nothing else. Absent: answers. Bounded by what is looked at: the header and one name; anybody can send any number.

use std::net::{IpAddr, SocketAddr};

use super::lifeline::LifelineTarget;
use crate::Arrange;

pub const PORT: u16 = 53;
/// Longest message looked at, in bytes: a question with all that is known to be sent along is a few hundred.
pub const MAX_MESSAGE: usize = 1_232;
/// Bytes before the question, the two flags looked at in them, and what they must say (RFC 1035, 4.1.1).
const HEADER: usize = 12;
const IS_ANSWER: u16 = 0x8000;
const OPERATION: u16 = 0x7800;
const STANDARD_QUERY: u16 = 0;
/// Longest part of a name and longest name (RFC 1035, 2.3.4).
const MAX_LABEL: u8 = 63;
const MAX_NAME: usize = 255;

/// Which questions matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchedNames {
    /// Names of lifelines as they are compared, and whether names below them count too.
    names: Vec<(String, bool)>,
}

impl WatchedNames {
    /// The named ones of `targets`.
    pub fn new(targets: &[LifelineTarget]) -> Self {
        let named = targets
            .iter()
            .filter(|target| target.host.parse::<IpAddr>().is_err());
        let mut names: Vec<_> = named.map(|target| (plain(&target.host), target.below)).collect();
        names.arrange();
        names.dedup();
        Self { names }
    }

    /// Whether there is nothing to watch for.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn contains(&self, name: &str) -> bool {
        self.names
            .iter()
            .any(|(host, below)| name == host || *below && is_below(name, host))
    }
}

/// Whether `name` lies below `host`; both as they are compared.
pub(super) fn is_below(name: &str, host: &str) -> bool {
    name.strip_suffix(host)
        .is_some_and(|bucket| bucket.ends_with('.'))
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
    /// As far as it was read.
    pub payload: &'a [u8],
}

/// The watched name that a program of this machine asks for with this datagram, as it is compared.
pub fn asked_for(datagram: &Datagram<'_>, watched: &WatchedNames) -> Option<String> {
    if datagram.way == DatagramDirection::Received || datagram.destination.port() != PORT {
        return None;
    }
    let header = datagram.payload.get(..HEADER)?;
    let word = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
    let flags = word(2)?;
    if flags & IS_ANSWER != 0 || flags & OPERATION != STANDARD_QUERY || word(4)? != 1 {
        return None;
    }
    let name = question_of(datagram.payload.get(HEADER..)?)?;
    watched.contains(&name).then_some(name)
}

/// The name of a question for addresses, as it is compared. Names of lifelines are made of letters, digits, `-` and `_`;
/// anything else is none of them, and the first name of a message has nothing to point to.
fn question_of(mut bytes: &[u8]) -> Option<String> {
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
    matches!(bytes.get(..4)?, [0, 1 | 28, 0, 1]).then_some(name)
}

/// A name as it is compared: case does not count, nor the dot at the end.
pub(super) fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
#[path = "dns_questions_tests.rs"]
mod tests;
