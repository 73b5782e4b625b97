//! One socket snapshot as reports take it, measured.
//!
//! In: nothing. Out: one line of JSON, `{sockets, cpu_us, peak_rss_kb}`; `sockets` are established connections and
//! listening ports. `cargo xtask bench` runs it beside `sock_diag_floor`.

#[path = "support/usage.rs"]
mod usage;

use edgewarden::host::net::netlink::NetlinkError;
use edgewarden::host::net::sock_diag::SockDiag;

fn main() -> Result<(), NetlinkError> {
    let before = usage::cpu_micros();
    let snapshot = SockDiag::open()?.snapshot()?;
    let ports = snapshot.listening_tcp.len() + snapshot.listening_udp.len();
    usage::print(snapshot.established.len() + ports, None, before);
    Ok(())
}
