//! The status board: what every task of the agent last said about itself.
//!
//! In: updates, and the cell of the control channel. Out: [`Status`], for the control socket. Absent on purpose:
//! decisions; nothing reads the board to act.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::channel::ChannelState;
use crate::control::status::Status;

/// Shared by all tasks.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    status: Arc<Mutex<Status>>,
    channel: watch::Receiver<ChannelState>,
}

impl Board {
    pub(crate) fn new(channel: watch::Receiver<ChannelState>) -> Self {
        Self {
            status: Arc::default(),
            channel,
        }
    }

    /// Changes a part.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut crate::lock(&self.status));
    }

    /// A copy of everything.
    pub(crate) fn read(&self) -> Status {
        let mut status = crate::lock(&self.status).clone();
        let channel = self.channel.borrow();
        status.cloud.channel_works = channel.works_for_people();
        status.cloud.last_round_trip = channel.last_round_trip;
        status.cloud.last_error = channel.complaint();
        status
    }
}

#[cfg(test)]
impl Default for Board {
    /// A board of an agent without control channel.
    fn default() -> Self {
        Self::new(watch::channel(ChannelState::default()).1)
    }
}
