//! The door to the Linux kernel: packet filter, processes, files, clock, packets, sockets, links.
//!
//! Everything that touches the machine is here or in `cloud/`; the linter refuses it elsewhere (`clippy.toml`).

pub mod append_file;
pub mod boot_service;
pub mod canary;
pub mod capture;
pub mod clock;
pub mod conntrack;
pub mod dns_tap;
pub mod drop_directory;
pub mod files;
pub mod link_watch;
pub mod links;
pub mod netlink;
pub mod nft;
pub mod nft_kernel;
pub mod nft_watch;
pub mod pace;
pub mod process_table;
pub mod procfs;
pub mod sock_diag;
pub mod state_directory;
pub mod surroundings;
pub mod systemctl;
pub mod uplinks;
