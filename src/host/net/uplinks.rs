//! Where the nucleus is connected right now.
//!
//! In: the nucleus' process, the control channel's ports. Out: both ends of its established connections on these
//! ports, where it tries to be connected, and how those that are known are doing. The endpoint's name may resolve to other addresses by now; the open
//! connection must survive all the same. Where somebody's rules lead it elsewhere, both ends are told: ours see the packets behind
//! theirs.
//! Only connections of the nucleus count, so no other program can make itself a lifeline, also not one that got the
//! nucleus' number after it: while the nucleus is not known only lite's services count, which go by their cgroup.
//!
//! Three questions, the dearest last: how known connections are (one socket each), which connections its processes have
//! (their descriptors, and all sockets only if these changed), which processes it has (a walk of /proc).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

use netlink_packet_sock_diag::constants::TCP_ESTABLISHED;

use super::conntrack::Conntrack;
use super::netlink::NetlinkError;
use super::sock_diag::{SockDiag, TcpCondition};
use crate::host::processes::{process_table, programs};
use crate::process::ProcessId;
use crate::{Arrange, Gather};

/// Uplinks taken; the nucleus has one or two.
const MAX_UPLINKS: usize = 16;
/// So often in a row the same is sent again before a connection counts as dead for the moment: some seconds. One or two
/// are everyday loss.
const DEAD_AFTER: u8 = 3;

/// One connection; another one to the same remote has another local end, or another socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Uplink {
    /// The nucleus' end.
    pub local: SocketAddr,
    /// The cloud's end, or the proxy's.
    pub remote: SocketAddr,
    /// Of its socket.
    pub inode: u32,
    /// Index of the interface that it is bound to, 0 for none; the kernel finds it by that only.
    pub bound_to: u32,
}

/// What the nucleus' processes were seen to have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FoundUplinks {
    /// Established connections, sorted.
    pub uplinks: Vec<Uplink>,
    /// Where a connection is on its way: what the nucleus was told by its own resolver, and our rules may not let through yet.
    pub attempts: Vec<SocketAddr>,
    /// Who made the sockets of both.
    pub users: BTreeSet<u32>,
    /// Where somebody's rules lead established ones: what their sockets say, and who answers.
    pub detours: BTreeMap<SocketAddr, SocketAddr>,
}

/// How a known connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UplinkState {
    /// It stands.
    Alive,
    /// It stands, and the other end acknowledges nothing.
    Dead,
    /// It is closed, by whomever.
    Ended,
}

/// The nucleus' sockets as they were looked at last; they tell whether anything can have changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct SeenSockets {
    inodes: BTreeSet<u32>,
    /// One of them was a connection on its way.
    pending: bool,
    /// Looks since the last one that had news.
    looks: u32,
}

impl SeenSockets {
    /// Whether everything that these sockets can be was seen then. A socket that is no connection yet is in no list, and may
    /// become one much later; so they are listed again after one look, two, four and so on.
    fn tell(&mut self, inodes: &BTreeSet<u32>) -> bool {
        let has_news = self.pending || !inodes.is_subset(&self.inodes);
        self.looks = if has_news { 0 } else { self.looks.saturating_add(1) };
        !has_news && !self.looks.is_power_of_two()
    }
}

/// How each of these is doing, in their order.
///
/// # Errors
/// If the kernel cannot be asked.
pub(crate) fn states_of(uplinks: &[Uplink]) -> Result<Vec<UplinkState>, NetlinkError> {
    let mut diag = SockDiag::open()?;
    let states = uplinks.iter().map(|uplink| {
        let found = diag.condition(uplink.local, uplink.remote, uplink.bound_to)?;
        Ok(match found.filter(|(inode, _)| *inode == uplink.inode) {
            Some((_, TcpCondition::Established { retransmits })) if retransmits >= DEAD_AFTER => {
                UplinkState::Dead
            }
            Some((_, TcpCondition::Established { .. })) => UplinkState::Alive,
            Some((_, TcpCondition::Other)) | None => UplinkState::Ended,
        })
    });
    states.collect()
}

/// How many bytes the other ends have acknowledged of each of these, by inode. Ends within this device are left out: what they
/// acknowledge has passed no rule.
pub(crate) fn acknowledged(uplinks: &[Uplink]) -> BTreeMap<u32, u64> {
    let Ok(mut diag) = SockDiag::open() else {
        return BTreeMap::new();
    };
    let away = uplinks
        .iter()
        .filter(|uplink| !uplink.remote.ip().is_loopback() && uplink.remote.ip() != uplink.local.ip());
    away.filter_map(|uplink| {
        let found = diag.acknowledged(uplink.local, uplink.remote, uplink.bound_to);
        found.ok().flatten().filter(|(inode, _)| *inode == uplink.inode)
    })
    .in_map()
}

/// Who may hold the nucleus' connections: the process that serves the IPC (classic is one process), and lite's own
/// services (the MQTT connection belongs to one of them).
///
/// # Errors
/// The processes cannot be listed: that says nothing about who runs.
pub(crate) fn holders(nucleus: Option<ProcessId>) -> io::Result<BTreeSet<ProcessId>> {
    let services = process_table::list()?
        .into_iter()
        .filter(programs::serves_nucleus);
    let runs = |id: &ProcessId| !process_table::has_ended(*id);
    Ok(services
        .map(|process| process.identity)
        .chain(nucleus.filter(runs))
        .in_set())
}

/// The connections of these processes to these ports, sorted; none when no socket came since `seen` and none was on its
/// way then: the connections are those of then. None also when they cannot be listed; empty also when these processes may not
/// be looked into.
pub(crate) fn of(
    holders: &BTreeSet<ProcessId>,
    ports: &[u16],
    seen: &mut SeenSockets,
) -> Option<FoundUplinks> {
    let pieces = holders.iter().copied().flat_map(process_table::sockets_of);
    let inodes: BTreeSet<u32> = pieces.flatten().in_set();
    if seen.tell(&inodes) {
        return None;
    }
    let mut pending = false;
    let (mut uplinks, mut attempts, mut users) = (Vec::new(), Vec::new(), BTreeSet::new());
    let listed = SockDiag::open().and_then(|mut diag| {
        diag.connections(&mut |socket, detail| {
            let remote = socket.remote.filter(|remote| ports.contains(&remote.port()));
            let (Some(remote), true) = (remote, inodes.contains(&socket.owner.inode)) else {
                return;
            };
            let stands = detail.state == TCP_ESTABLISHED;
            pending |= !stands;
            users.insert(socket.owner.uid);
            if !stands && attempts.len() < MAX_UPLINKS {
                attempts.push(remote);
            }
            if stands && uplinks.len() < MAX_UPLINKS {
                uplinks.push(Uplink {
                    local: socket.local,
                    remote,
                    inode: socket.owner.inode,
                    bound_to: detail.bound_to,
                });
            }
        })
    });
    if listed.is_err() {
        // Looked at again.
        *seen = SeenSockets {
            inodes: BTreeSet::new(),
            pending: true,
            looks: 0,
        };
        return None;
    }
    (seen.inodes, seen.pending) = (inodes, pending);
    uplinks.arrange();
    let detours = detours(&uplinks);
    Some(FoundUplinks {
        uplinks,
        attempts,
        users,
        detours,
    })
}

/// Those of which another end answers than their sockets say. What cannot be asked is none.
fn detours(uplinks: &[Uplink]) -> BTreeMap<SocketAddr, SocketAddr> {
    let Ok(mut tracked) = Conntrack::open() else {
        return BTreeMap::new();
    };
    let led = uplinks.iter().filter_map(|uplink| {
        let answering = tracked.answering_end(uplink.local, uplink.remote).ok()??;
        let said = SocketAddr::new(uplink.remote.ip().to_canonical(), uplink.remote.port());
        (answering != said).then_some((said, answering))
    });
    led.in_map()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    struct Own {
        listener: TcpListener,
        process: ProcessId,
    }

    impl Own {
        fn new() -> Self {
            Self {
                listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
                process: process_table::read(std::process::id()).unwrap().identity,
            }
        }

        fn remote(&self) -> SocketAddr {
            self.listener.local_addr().unwrap()
        }

        #[expect(clippy::disallowed_methods, reason = "a connection of our own")]
        fn connect(&self) -> TcpStream {
            TcpStream::connect(self.remote()).unwrap()
        }

        fn look(&self, process: ProcessId) -> Vec<Uplink> {
            let holders = BTreeSet::from([process]);
            let found = of(&holders, &[self.remote().port()], &mut SeenSockets::default());
            found.unwrap_or_default().uplinks
        }
    }

    #[test]
    fn connections_of_a_program_that_got_the_nucleus_number_are_no_lifelines() {
        let own = Own::new();
        let stream = own.connect();
        let start_ticks = own.process.start_ticks;
        let nucleus = |start_ticks| ProcessId {
            start_ticks,
            ..own.process
        };
        let found = own.look(nucleus(start_ticks));
        assert_eq!(found.len(), 1, "control: {found:?}");
        assert_eq!(found[0].local, stream.local_addr().unwrap());
        assert_eq!(found[0].remote, own.remote());
        assert_eq!(own.look(nucleus(start_ticks - 1)), []);
        assert!(!holders(None).unwrap().contains(&own.process));
        assert!(holders(Some(own.process)).unwrap().contains(&own.process));
    }

    #[test]
    fn a_known_connection_that_ended_is_seen_and_so_is_one_that_took_its_place() {
        let own = Own::new();
        let stream = own.connect();
        let (accepted, _) = own.listener.accept().unwrap();
        let uplinks = own.look(own.process);
        assert_eq!(states_of(&uplinks).unwrap(), [UplinkState::Alive], "control");
        let other_socket = uplinks.iter().map(|uplink| Uplink {
            inode: uplink.inode + 1,
            ..*uplink
        });
        let other_socket: Vec<Uplink> = other_socket.collect();
        assert_eq!(states_of(&other_socket).unwrap(), [UplinkState::Ended]);
        // Closed by the cloud: the nucleus may not have noticed yet.
        drop(accepted);
        assert_eq!(states_of(&uplinks).unwrap(), [UplinkState::Ended]);
        drop(stream);
        assert_eq!(states_of(&uplinks).unwrap(), [UplinkState::Ended]);
    }

    #[test]
    fn sockets_are_listed_when_one_came_or_a_connection_was_on_its_way_and_else_ever_more_seldom() {
        let seen = |pending| SeenSockets {
            inodes: BTreeSet::from([1, 2]),
            pending,
            looks: 2,
        };
        assert!(seen(false).tell(&BTreeSet::from([1])));
        assert!(!seen(false).tell(&BTreeSet::from([2, 3])));
        assert!(!seen(true).tell(&BTreeSet::from([1])));
        assert!(!SeenSockets::default().tell(&BTreeSet::from([1])));
        let mut same = SeenSockets {
            looks: 0,
            ..seen(false)
        };
        let listed: Vec<u32> = (1..=20).filter(|_| !same.tell(&BTreeSet::from([1]))).collect();
        assert_eq!(listed, [1, 2, 4, 8, 16]);
    }

    #[test]
    fn a_socket_that_was_seen_before_it_connected_is_found() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};
        use std::os::fd::AsRawFd as _;

        let own = Own::new();
        let early = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        let holders = BTreeSet::from([own.process]);
        let mut seen = SeenSockets::default();
        let mut look = || {
            let found = of(&holders, &[own.remote().port()], &mut seen);
            found.unwrap_or_default().uplinks
        };
        assert_eq!(look(), [], "control: it is no connection yet");
        connect(early.as_raw_fd(), &SockaddrStorage::from(own.remote())).unwrap();
        // Other tests of this process open sockets meanwhile, or not.
        let found = (0..4).map(|_| look().len()).max();
        assert_eq!(found, Some(1));
    }
}
