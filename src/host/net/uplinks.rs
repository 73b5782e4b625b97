//! Where the nucleus is connected right now.
//!
//! In: the nucleus' process, the control channel's ports. Out: both ends of its established connections on these
//! ports. The endpoint's name may resolve to other addresses by now; the open connection must survive all the same.
//! Only connections of the nucleus count, so no other program can make itself a lifeline.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::sock_diag::SockDiag;
use crate::host::processes::process_table;
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
pub(crate) fn of_nucleus(server_pid: Option<u32>, ports: &[u16]) -> Vec<Uplink> {
    let inodes = socket_inodes(server_pid);
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
fn socket_inodes(server_pid: Option<u32>) -> BTreeSet<u32> {
    let services = process_table::list()
        .unwrap_or_default()
        .into_iter()
        .filter(|process| process.cgroup.as_deref().is_some_and(is_nucleus_service));
    let pids: BTreeSet<u32> = services
        .map(|process| process.identity.pid)
        .chain(server_pid)
        .collect();
    let pieces = pids.into_iter().flat_map(process_table::sockets_of);
    pieces.flatten().collect()
}
