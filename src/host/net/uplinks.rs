//! Where the nucleus is connected right now.
//!
//! In: the nucleus' process, the control channel's ports. Out: both ends of its established connections on these
//! ports. The endpoint's name may resolve to other addresses by now; the open connection must survive all the same.
//! Only connections of the nucleus count, so no other program can make itself a lifeline, also not one that got the
//! nucleus' number after it: while the nucleus is not known only lite's services count, which go by their cgroup.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::sock_diag::SockDiag;
use crate::host::processes::process_table;
use crate::process::ProcessId;
use crate::quarantine::plan::processes::is_nucleus_service;

/// Uplinks taken; the nucleus has one or two.
const MAX_UPLINKS: usize = 16;

/// One connection; another one to the same remote has another local end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Uplink {
    /// The nucleus' end.
    pub local: SocketAddr,
    /// The cloud's end, or the proxy's.
    pub remote: SocketAddr,
}

/// Its connections, sorted; empty when nothing can be learned.
pub(crate) fn of_nucleus(nucleus: Option<ProcessId>, ports: &[u16]) -> Vec<Uplink> {
    let inodes = socket_inodes(nucleus);
    if inodes.is_empty() {
        return Vec::new();
    }
    let Ok(snapshot) = SockDiag::open().and_then(|mut diag| diag.snapshot()) else {
        return Vec::new();
    };
    let own = snapshot
        .established
        .iter()
        .filter(|socket| inodes.contains(&socket.owner.inode));
    let mut uplinks: Vec<Uplink> = own
        .filter_map(|socket| {
            let remote = socket.remote.filter(|remote| ports.contains(&remote.port()))?;
            Some(Uplink {
                local: socket.local,
                remote,
            })
        })
        .take(MAX_UPLINKS)
        .collect();
    uplinks.sort_unstable();
    uplinks
}

/// Sockets of the nucleus: of the process that serves the IPC (classic is one process), and of lite's own services
/// (the MQTT connection belongs to another of them).
fn socket_inodes(nucleus: Option<ProcessId>) -> BTreeSet<u32> {
    let services = process_table::list()
        .unwrap_or_default()
        .into_iter()
        .filter(|process| process.cgroup.as_deref().is_some_and(is_nucleus_service));
    let holders: BTreeSet<ProcessId> = services.map(|process| process.identity).chain(nucleus).collect();
    let pieces = holders.into_iter().flat_map(process_table::sockets_of);
    pieces.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a connection of our own")]
    fn connections_of_a_program_that_got_the_nucleus_number_are_no_lifelines() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let remote = listener.local_addr().unwrap();
        let stream = TcpStream::connect(remote).unwrap();
        let uplink = Uplink {
            local: stream.local_addr().unwrap(),
            remote,
        };
        let own = process_table::read(std::process::id()).unwrap().identity;
        let nucleus = |start_ticks| Some(ProcessId { start_ticks, ..own });
        let ports = [remote.port()];
        assert_eq!(of_nucleus(nucleus(own.start_ticks), &ports), [uplink], "control");
        assert_eq!(of_nucleus(nucleus(own.start_ticks - 1), &ports), []);
        assert_eq!(of_nucleus(None, &ports), []);
    }
}
