//! How a trial ends: an owner whose channel only the rules silence comes to a moment in which they are away, and with a channel that
//! works it ends soon.

use edgewarden::quarantine::proof::standing::Standing;
use edgewarden::quarantine::proof::state::Phase;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::Run;
use super::happenings::ChannelLife;
use super::world::WINDOW;

impl Run<'_> {
    /// Rules that silence the channel are tried again and again, and each trial is closed; an owner who was not locked out before
    /// is not now: within three windows, and the second in which each is noticed, they are away again.
    pub(super) async fn comes_to_an_open_window(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..=3 * WINDOW.as_secs() + 3 {
            let phase = self.enforcer.state().phase;
            let closed = match self.enforcer.standing() {
                Standing::Trying { late: true, .. } => false,
                Standing::Trying {
                    channel_worked: true, ..
                } => true,
                _ => self.known_to_work && phase == Phase::Provisional && !self.channel_works(),
            };
            if !closed || self.channel == ChannelLife::Alive {
                return Ok(());
            }
            self.pass(1).await;
            self.is_truthful()?;
        }
        prop_assert!(false, "locked out: {:?}", self.enforcer.state());
        Ok(())
    }

    /// With a channel that works nothing stays on trial: lines that are just pinned again are answered through.
    pub(super) async fn settles(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..4 {
            self.pass(1).await;
            if matches!(
                self.enforcer.state().phase,
                Phase::Enforced | Phase::Released | Phase::Observed
            ) {
                return Ok(());
            }
        }
        prop_assert!(false, "on trial: {:?}", self.enforcer.state());
        Ok(())
    }
}
