//! What outlives the agent: the copies of the program, and the systemd unit that restores a quarantine at boot.

pub(crate) mod boot_service;
mod copies;
pub(crate) mod systemctl;
pub(crate) mod unit;
