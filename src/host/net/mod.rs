//! Interfaces, sockets and flows, as the kernel lists them over netlink, what is overheard of DNS, and ways past the packet filter.

pub mod bypasses;
pub(crate) mod conntrack;
pub(crate) mod dns_client;
pub(crate) mod dns_tap;
mod forgetting;
pub(crate) mod frame_filters;
mod holders;
mod link_programs;
pub(crate) mod link_watch;
pub mod links;
pub(crate) mod local_ports;
mod moved_links;
pub(crate) mod neighbours;
pub mod netlink;
mod packet_sockets;
mod queue_seats;
pub(crate) mod routes;
pub mod severing;
pub mod sock_diag;
mod tracked_entry;
mod tunnels;
pub(crate) mod uplinks;
mod xdp_sockets;
