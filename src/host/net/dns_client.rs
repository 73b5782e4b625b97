//! Asks the host's resolvers for a name's addresses, and believes none but them.
//!
//! In: a name, resolvers, a limit. Out: the addresses that those outside gave, and whether there are such. A program with
//! `CAP_NET_RAW` can see a question of ours and answer it on loopback with the resolver's address, or refuse it there in the
//! network's name; a neighbour can answer on another link. So each socket is bound to the interface that the route to its
//! resolver leads out by, as it is when the question is asked: nothing else reaches it. It takes answers of the one whom it
//! asked, with the number, the name and the type of the question; port and number are random, and few may be tried. Errors and
//! junk end nothing. Blocks for as long as the limit. Absent: TCP, names of `/etc/hosts`, resolvers on this machine (who can be
//! told from nobody there).

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: opens sockets, and rests after an error"
)]

use std::ffi::OsString;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use netlink_sys::protocols::NETLINK_ROUTE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::links::names_from;
use super::netlink::Netlink;
use super::routes::{Towards, towards};
use crate::host::clock::instant;
use crate::quarantine::lifelines::dns_message::{AddressKind, MAX_ANSWER, OwnQuestion, Said};
use crate::quarantine::lifelines::dns_questions::PORT;
use crate::quarantine::lifelines::host_settings::{NameServer, Standing};

/// Resolvers asked at a time; the C library asks three, one after the other.
const MAX_SERVERS: usize = 4;
/// Datagrams of the resolver's that answer nothing, until it is not heard any more: who guesses the number has so many of 65,536.
const MAX_JUNK: usize = 64;
/// Addresses taken together, more than a lifeline has room for.
const MAX_FOUND: usize = 128;
/// A question without an answer is asked again after these: a datagram gets lost, and a cold resolver takes its time.
const AGAIN: [Duration; 2] = [Duration::from_millis(1_000), Duration::from_millis(2_500)];
/// How long the others may take after one has given addresses, and for how long from the beginning.
const REST: Duration = Duration::from_millis(500);
const TOGETHER: Duration = Duration::from_millis(1_500);
/// After an error of a socket's: who can make some can make many.
const BREATH: Duration = Duration::from_millis(1);

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) addresses: Vec<IpAddr>,
    /// Who gave them, the first of them.
    pub(crate) by: Option<IpAddr>,
    /// Resolvers outside that the host asks for sure: who is no such must not speak for them.
    pub(crate) authorities: Vec<IpAddr>,
    /// Whether one of them is this machine itself, by another address than loopback's.
    pub(crate) stub: bool,
}

/// A resolver outside, and the interface that leads to it; none: nothing leads there.
struct Outside {
    server: NameServer,
    way: Option<(u32, String)>,
}

struct Asked {
    socket: UdpSocket,
    server: IpAddr,
    question: OwnQuestion,
    junk: usize,
}

/// What these resolvers say within `limit`, together; nothing where none answers. `only`: one of them is enough, this one if it is
/// among them.
pub(crate) fn ask(
    name: &str,
    servers: &[NameServer],
    only: Option<Option<IpAddr>>,
    limit: Duration,
) -> Answer {
    let (mut outside, stub) = outside(servers);
    let certain = outside.iter().map(|one| &one.server);
    let certain = certain.filter(|server| server.standing != Standing::Perhaps);
    let mut answer = Answer {
        authorities: certain.map(|server| server.address).collect(),
        stub,
        ..Answer::default()
    };
    outside.truncate(MAX_SERVERS);
    if let Some(preferred) = only {
        let place = outside
            .iter()
            .position(|one| Some(one.server.address) == preferred);
        let kept = place.unwrap_or_default();
        outside = outside.into_iter().skip(kept).take(1).collect();
    }
    let kinds = [AddressKind::V4, AddressKind::V6];
    let pairs = outside.iter().flat_map(|server| kinds.map(|kind| (server, kind)));
    let asked = pairs.filter_map(|(server, kind)| send(name, server, kind).ok().flatten());
    // Where somebody else may be asked after them there must be time for that.
    let limit = if answer.authorities.is_empty() {
        limit.min(TOGETHER)
    } else {
        limit
    };
    hear(asked.collect(), limit, &mut answer);
    answer
}

/// Those of the surest standing that are not on this machine: who is asked perhaps only does not speak beside others.
/// And whether one that is passed over is on this machine.
fn outside(servers: &[NameServer]) -> (Vec<Outside>, bool) {
    let mut netlink = Netlink::open(NETLINK_ROUTE).ok();
    let names = netlink.as_mut().and_then(|netlink| names_from(netlink).ok());
    let names = names.unwrap_or_default();
    let mut found: Vec<Outside> = Vec::new();
    let mut stub = false;
    for server in servers {
        let standing = found.first().map_or(server.standing, |one| one.server.standing);
        if standing != server.standing {
            break;
        }
        let asked = netlink.as_mut().map(|netlink| towards(netlink, server.address));
        let routed = asked.and_then(Result::ok).unwrap_or(Towards::Nowhere);
        if server.address.is_loopback() || routed == Towards::Here {
            stub = true;
            continue;
        }
        let said = names.iter().find(|(_, name)| Some(*name) == server.zone.as_ref());
        let way = match (said, routed) {
            (Some((number, _)), _) => Some(*number),
            (None, Towards::Interface(number)) => Some(number),
            (None, _) => None,
        };
        let way = way.and_then(|number| Some((number, names.get(&number)?.clone())));
        let server = server.clone();
        found.push(Outside { server, way });
    }
    (found, stub)
}

/// Asks one resolver by the interface that leads there; none where nothing does, or DNS cannot carry the name.
fn send(name: &str, to: &Outside, kind: AddressKind) -> io::Result<Option<Asked>> {
    let Some((number, interface)) = &to.way else {
        return Ok(None);
    };
    let (any, server): (IpAddr, SocketAddr) = match to.server.address {
        IpAddr::V4(v4) => (Ipv4Addr::UNSPECIFIED.into(), (v4, PORT).into()),
        IpAddr::V6(v6) => {
            let scope = if v6.is_unicast_link_local() { *number } else { 0 };
            let server = SocketAddrV6::new(v6, PORT, 0, scope);
            (Ipv6Addr::UNSPECIFIED.into(), server.into())
        }
    };
    let question = OwnQuestion {
        id: number_of_chance(),
        name: name.to_owned(),
        kind,
        takes_long: false,
    };
    let Some(bytes) = question.bytes() else {
        return Ok(None);
    };
    // The kernel takes a random port.
    let socket = UdpSocket::bind((any, 0))?;
    setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface))?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    // What cannot be sent now may be later.
    let _ = socket.send(&bytes);
    Ok(Some(Asked {
        socket,
        server: to.server.address,
        question,
        junk: 0,
    }))
}

/// Not to be guessed: the key of the hash is the kernel's random bytes.
fn number_of_chance() -> u16 {
    let [first, second, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u16::from_ne_bytes([first, second])
}

/// Hears those who were asked, and asks them again, until all have answered or the time is over.
fn hear(mut waiting: Vec<Asked>, limit: Duration, answer: &mut Answer) {
    let begin = instant();
    let mut end = begin + limit;
    let mut again = AGAIN.into_iter().map(|after| begin + after).peekable();
    while !waiting.is_empty() {
        let now = instant();
        if now >= end {
            return;
        }
        if again.next_if(|when| *when <= now).is_some() {
            for asked in &waiting {
                // As above.
                let _ = asked.question.bytes().map(|bytes| asked.socket.send(&bytes));
            }
        }
        wait(&waiting, again.peek().map_or(end, |when| end.min(*when)));
        waiting.retain_mut(|asked| match receive(asked) {
            Heard::Answer(said) => {
                if !said.addresses.is_empty() && answer.by.is_none() {
                    answer.by = Some(asked.server);
                    end = end.min((begin + TOGETHER).max(instant() + REST));
                }
                let news = said.addresses.iter();
                let news = news.filter(|one| !answer.addresses.contains(one)).copied();
                let news: Vec<IpAddr> = news.collect();
                answer.addresses.extend(news);
                answer.addresses.truncate(MAX_FOUND);
                // Once it is asked for more than it says by itself.
                let again = said.is_cut && !asked.question.takes_long;
                if again {
                    asked.question.takes_long = true;
                    let _ = asked.question.bytes().map(|bytes| asked.socket.send(&bytes));
                }
                again
            }
            Heard::Nothing => true,
            Heard::Junk => {
                asked.junk += 1;
                asked.junk < MAX_JUNK
            }
        });
    }
}

/// Waits until something comes, or until then.
fn wait(waiting: &[Asked], until: Instant) {
    // A part of a millisecond is a whole one, so that nobody turns round while it lasts.
    let left = until.saturating_duration_since(instant()) + BREATH;
    let mut polled: Vec<PollFd<'_>> = waiting
        .iter()
        .map(|asked| PollFd::new(asked.socket.as_fd(), PollFlags::POLLIN))
        .collect();
    let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
    // A signal ends it early, which costs a turn.
    let _ = poll(&mut polled, limit);
}

enum Heard {
    /// The answer, of no address perhaps.
    Answer(Said),
    /// Something of the resolver's that does not answer this question.
    Junk,
    /// Nothing yet, or that nobody is there, which anybody can say.
    Nothing,
}

/// What the next datagram says.
fn receive(asked: &Asked) -> Heard {
    let mut buffer = vec![0; MAX_ANSWER + 1];
    match asked.socket.recv(&mut buffer) {
        Ok(length) => {
            let bytes = buffer.get(..length);
            let found = bytes.and_then(|bytes| asked.question.answered(bytes));
            found.map_or(Heard::Junk, Heard::Answer)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
        Err(_) => {
            std::thread::sleep(BREATH);
            Heard::Nothing
        }
    }
}
