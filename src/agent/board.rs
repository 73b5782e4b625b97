//! The status board: what every task of the agent last said about itself.
//!
//! In: updates. Out: [`Status`], for the control socket. Absent on purpose: decisions; nothing reads the board to act.

use std::sync::{Arc, Mutex};

use crate::control::status::Status;

/// Shared by all tasks.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Status>>);

impl Board {
    /// Changes a part.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut crate::lock(&self.0));
    }

    /// A copy of everything.
    pub fn read(&self) -> Status {
        crate::lock(&self.0).clone()
    }
}
