//! What outlives the agent: the copy of the program and the systemd unit that restore a quarantine at boot.

pub(crate) mod boot_service;
pub(crate) mod systemctl;
pub(crate) mod unit;
