//! Where the nucleus is connected right now.
//!
//! In: the nucleus' process, its MQTT port. Out: remote ends of its established connections on the control channel's
//! ports. The endpoint's name may resolve to other addresses by now; the open connection must survive all the same.
//! Only connections of the nucleus count, so no other program can make itself a lifeline.

#![expect(clippy::disallowed_methods, reason = "host is a door: reads /proc")]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::process_table;
use super::sock_diag::SockDiag;
use crate::quarantine::lifeline::DATA_ENDPOINT_PORTS;
use crate::quarantine::processes::is_nucleus_service;

/// Uplinks taken; the nucleus has one or two.
const MAX_UPLINKS: usize = 16;
/// Files of one process that are looked at.
const MAX_FILES: usize = 4096;

/// Remote ends; empty when nothing can be learned.
pub fn of_nucleus(server_pid: Option<i32>, mqtt_port: Option<u16>) -> Vec<SocketAddr> {
    let inodes = socket_inodes(server_pid);
    if inodes.is_empty() {
        return Vec::new();
    }
    let Ok(snapshot) = SockDiag::open().and_then(|mut diag| diag.snapshot()) else {
        return Vec::new();
    };
    let wanted = |port: u16| DATA_ENDPOINT_PORTS.contains(&port) || Some(port) == mqtt_port;
    snapshot
        .established
        .iter()
        .filter(|socket| inodes.contains(&socket.owner.inode))
        .filter_map(|socket| socket.remote.filter(|remote| wanted(remote.port())))
        .take(MAX_UPLINKS)
        .collect()
}

/// Sockets of the nucleus: of the process that serves the IPC (classic is one process), and of lite's own services
/// (the MQTT connection belongs to another of them).
fn socket_inodes(server_pid: Option<i32>) -> BTreeSet<u32> {
    let services = process_table::list()
        .into_iter()
        .filter(|process| is_nucleus_service(&process.cgroup));
    let pids: BTreeSet<i32> = services.map(|process| process.id.pid).chain(server_pid).collect();
    let files = pids
        .iter()
        .filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).ok());
    files
        .flat_map(|files| files.flatten().take(MAX_FILES))
        .filter_map(|file| {
            let target = std::fs::read_link(file.path()).ok()?;
            target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?
                .parse()
                .ok()
        })
        .collect()
}
