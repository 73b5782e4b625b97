//! Interfaces, sockets and flows, as the kernel lists them over netlink, and what is overheard of DNS.

pub(crate) mod conntrack;
pub(crate) mod dns_tap;
pub(crate) mod link_watch;
pub mod links;
pub mod netlink;
pub mod severing;
pub mod sock_diag;
pub(crate) mod uplinks;
