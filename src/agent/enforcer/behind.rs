//! Who stopped himself with one below him that was let go or has ended: he is to go on with the last of those.
//!
//! In: who was above each of them, who is held still. Out: who may go on now. Whoever is held himself, or is above somebody who is,
//! goes on with that one, and so do those above him: what is left of a row is remembered there. Absent: rows
//! beyond [`MAX_ROWS`], and of each row those beyond [`MAX_ABOVE`].

use std::collections::BTreeMap;

use crate::quarantine::plan::processes::{MAX_ABOVE, OneAbove, StoppedProcess};

/// Rows of processes above others that are remembered at most; those of a crowd have one.
const MAX_ROWS: usize = 1_024;
/// Looks for whoever is about to stop with one that was let go: until the next round has ended.
const LOOKS: u8 = 4;
/// The same where it was killed, which follows its stop within moments. No more of them: one that is started again is killed
/// again, and whoever stops the one above it would never have him stopped.
const LOOKS_AFTER_A_KILL: u8 = 1;

/// Rows of those above, nearest first. So often each is looked at still, as long as somebody in it may be about to stop.
#[derive(Debug, Default)]
pub(super) struct Behind {
    rows: BTreeMap<Vec<OneAbove>, u8>,
}

impl Behind {
    /// Who was above one that is not held any more.
    pub(super) fn leave(&mut self, above: Vec<OneAbove>) {
        self.look_for(above, LOOKS);
    }

    /// The same of one that was killed.
    pub(super) fn leave_killed(&mut self, above: Vec<OneAbove>) {
        self.look_for(above, LOOKS_AFTER_A_KILL);
    }

    fn look_for(&mut self, above: Vec<OneAbove>, looks: u8) {
        if !above.is_empty() && self.rows.len() < MAX_ROWS {
            let known = self.rows.entry(above).or_default();
            *known = looks.max(*known);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Everybody.
    pub(super) fn all(&self) -> impl Iterator<Item = OneAbove> {
        self.rows.keys().flatten().copied()
    }

    /// Who may go on now that just these are `held`, each row with how often it is looked at still.
    pub(super) fn take(&mut self, mut held: Vec<&mut StoppedProcess>) -> Vec<(Vec<OneAbove>, u8)> {
        let waits_on = |one: OneAbove, known: &StoppedProcess| {
            let above = known.above.iter().map(|above| above.identity);
            above.chain([known.identity]).any(|id| id == one.identity)
        };
        let mut free = Vec::new();
        for (mut row, looks) in std::mem::take(&mut self.rows) {
            let waits = |one: &OneAbove| held.iter().any(|known| waits_on(*one, known));
            let waiting = row.split_off(row.iter().take_while(|one| !waits(one)).count());
            if let Some(first) = waiting.first() {
                let holders = held.iter_mut().filter(|known| waits_on(*first, known));
                holders.for_each(|known| add_above(known, &waiting));
            }
            if !row.is_empty() {
                free.push((row, looks));
            }
        }
        free
    }

    /// What is left of a row after a look.
    pub(super) fn look_again(&mut self, row: Vec<OneAbove>, looks: u8) {
        let looks = looks.saturating_sub(1);
        if looks > 0 && !row.is_empty() {
            self.rows.insert(row, looks);
        }
    }
}

/// These go on with it too.
pub(super) fn add_above(known: &mut StoppedProcess, row: &[OneAbove]) {
    for one in row {
        let mut known_above = known.above.iter_mut();
        if let Some(there) = known_above.find(|there| there.identity == one.identity) {
            // It has gone on since it was held.
            there.held_at = there.held_at.and(one.held_at);
        } else if one.identity != known.identity && known.above.len() < MAX_ABOVE {
            known.above.push(*one);
        }
    }
}
