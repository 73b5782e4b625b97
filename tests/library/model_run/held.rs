//! What a silence of the channel must not undo, and what it must lead to.

use edgewarden::quarantine::orders::order::Posture;
use edgewarden::quarantine::plan::Scope;
use edgewarden::quarantine::proof::obstacle::Obstacle;
use edgewarden::quarantine::proof::standing::Standing;
use edgewarden::quarantine::proof::state::Phase;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::Run;
use super::happenings::ChannelLife;
use super::world::WINDOW;

impl Run<'_> {
    /// What the channel was seen to work behind is not given up for its silence, nor is what cuts no more: over restarts too.
    pub(super) fn holds_what_was_confirmed(&mut self) -> Result<(), TestCaseError> {
        let state = self.enforcer.state();
        let is_late = matches!(self.enforcer.standing(), Standing::Trying { late: true, .. });
        if (is_late || state.phase == Phase::Enforced) && !self.channel_works() {
            // It fell silent behind rules that it had worked behind.
            self.known_to_work = false;
        }
        let is_unwritten = |obstacle: &Obstacle| matches!(obstacle, Obstacle::JournalNotWritten { .. });
        let is_remembered = !self.forgotten && !state.obstacles.iter().any(is_unwritten);
        let confirmed = self.confirmed.take().filter(|_| is_remembered);
        self.confirmed = match state.phase {
            Phase::Enforced if is_remembered => Some(self.model.clone()),
            Phase::Released | Phase::Observed => None,
            _ => confirmed.filter(|confirmed| self.model.spares_no_less(confirmed)),
        };
        prop_assert!(
            state.phase != Phase::RolledBack || self.confirmed.is_none(),
            "given up, and the channel had worked behind {:?}: {:?}",
            self.confirmed,
            state
        );
        Ok(())
    }

    /// Nothing is given up while nobody is there to be asked.
    pub(super) fn blames_nobodys_silence(&mut self) -> Result<(), TestCaseError> {
        let state = self.enforcer.state();
        let before = std::mem::replace(&mut self.before, state.phase);
        let gave_up = state.phase == Phase::RolledBack && before == Phase::Provisional;
        prop_assert!(self.nucleus || !gave_up, "given up for nobody: {:?}", state);
        Ok(())
    }

    /// A channel that is silent behind an isolation which is not given up may go where it has moved to.
    pub(super) async fn is_widened_in_the_end(&mut self) -> Result<(), TestCaseError> {
        let is_held = |standing: &Standing| {
            let Standing::Trying {
                channel_worked, late, ..
            } = standing
            else {
                return false;
            };
            *late || !channel_worked
        };
        if self.channel == ChannelLife::Alive || !is_held(self.enforcer.standing()) {
            return Ok(());
        }
        // It may have been put back just now.
        self.pass(WINDOW.as_secs() + 2).await;
        self.is_truthful()?;
        let state = self.enforcer.state();
        let is_closed = state.posture == Some(Posture::Isolate) && is_held(self.enforcer.standing());
        prop_assert!(
            !is_closed || state.scope == Scope::Wide,
            "locked out: {:?}",
            state
        );
        Ok(())
    }
}
