//! Interfaces, sockets and flows, as the kernel lists them over netlink, and what is overheard of DNS.

pub mod conntrack;
pub mod dns_tap;
pub mod link_watch;
pub mod links;
pub mod netlink;
pub mod sock_diag;
pub mod uplinks;
