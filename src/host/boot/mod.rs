//! What outlives the agent: the copy of the program and the systemd unit that restore a quarantine at boot.

pub mod boot_service;
pub mod systemctl;
pub mod unit;
