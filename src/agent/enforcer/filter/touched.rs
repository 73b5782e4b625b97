//! Other hands in our tables: who touched what, and what is put back for it before anybody looks.
//!
//! In: the kernel's word of changes, and of what stood by and was used. Out: each hand recorded once, with its maker as far as
//! he is known; what was proven stands by for the next. Absent: what the kernel holds now, which a listing says.

use std::sync::Arc;

use super::{CarriedCounters, FilterKeeper, HeldRules, Mission, Ruleset};
use crate::moment::Now;
use crate::quarantine::history::{Actor, Event};
use crate::quarantine::ports::{FilterChange, PacketFilter, StoodIn};

/// Elements of a set up to which the tables stand by: a load of more takes memory, and more than a moment.
const STANDS_BY: usize = 1_024;
/// Changes of the packet filter whose makers are remembered.
const REMEMBERED: usize = 16;

/// What had to be done so that the kernel holds what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent::enforcer) enum KernelTouch {
    /// It held it already.
    AsBefore,
    /// It was told what differs, and nobody else has touched our tables before: what went by way of lifelines goes on.
    Adapted,
    /// Lifelines may have changed, or our tables were not what they should have been.
    Anew,
}

impl KernelTouch {
    /// What the kernel was told, of these lifelines and those that it was proven to hold.
    pub(super) const fn of(keeps_lifelines: bool) -> Self {
        if keeps_lifelines {
            Self::Adapted
        } else {
            Self::Anew
        }
    }
}

/// What is put back at once if somebody touches it.
pub(super) struct StandingBy {
    ruleset: Arc<Ruleset>,
    counted: CarriedCounters,
}

impl<F: PacketFilter> FilterKeeper<F> {
    /// Somebody changed the packet filter.
    pub(in crate::agent::enforcer) fn note_change(&mut self, change: Option<FilterChange>) {
        if let Some(change) = &change {
            self.kernel.note_settled(change.generation);
        }
        // Nobody's hand: a load of ours may be told of after a look that knows nothing of it.
        self.changes.extend(change.filter(|change| !change.is_ours));
        let surplus = self.changes.len().saturating_sub(REMEMBERED);
        self.changes.drain(..surplus);
    }

    /// What somebody has touched of our tables since they were proven, as far as the kernel has told it.
    pub(super) fn touched(&self) -> Option<String> {
        let proven = self.held.as_ref()?.generation?;
        let mut newer = self.changes.iter().filter(|change| is_after(change, proven));
        newer.find_map(|change| change.touched.clone())
    }

    /// Has what is proven to cut put back at once if somebody touches it.
    pub(super) async fn stand_by(&mut self, mission: &Mission, now: Now) {
        // Also where others change theirs all the time: what stands by must not grow old.
        let may_stand_by =
            |held: &&HeldRules| mission.cuts() && held.ruleset.elements.in_one_set() <= STANDS_BY;
        let Some(held) = self.held.as_ref().filter(may_stand_by) else {
            return;
        };
        let ready = StandingBy {
            ruleset: Arc::clone(&held.ruleset),
            counted: self
                .tally
                .carried(CarriedCounters::default(), &mission.plan.limits),
        };
        let same = |before: &StandingBy| {
            before.counted == ready.counted && Arc::ptr_eq(&before.ruleset, &ready.ruleset)
        };
        if self.standing_by.as_ref().is_some_and(same) {
            return;
        }
        let stands = self.kernel.stand_by(&ready.ruleset, &ready.counted, now).await;
        self.standing_by = stands.is_ok().then_some(ready);
    }

    /// Records that our tables were touched and put back by what stood by, if they were since the last call.
    pub(super) fn note_stood_in(&mut self, mission: &Mission) -> bool {
        let Some(StoodIn { after, counted }) = self.kernel.stood_in() else {
            return false;
        };
        self.standing_by = None;
        // Not what stands by since: that may have been made ready later.
        self.tally.begin(&counted, &mission.plan.limits);
        self.record_hand(&after);
        true
    }

    /// Takes note that what stood by came back before a load of ours, which has replaced it and counts on from its own reading.
    /// A listing before the load may have found the same hand.
    pub(super) fn note_replaced(&mut self) {
        if let Some(StoodIn { after, .. }) = self.kernel.stood_in() {
            self.record_hand(&after);
        }
    }

    fn record_hand(&mut self, after: &FilterChange) {
        let what = after.touched.clone().unwrap_or_default();
        self.record_tampering(&what, Some(maker(after)));
    }

    pub(super) fn note_tampering(&mut self, what: &str) {
        self.posture = None;
        let since = self.held.as_ref().and_then(|held| held.generation);
        let newer = |change: &&FilterChange| since.is_none_or(|since| is_after(change, since));
        // Where it is known since when nothing of ours was touched, who did is told from who changed others' tables.
        let touched = |change: &&FilterChange| since.is_some() && change.touched.is_some();
        let mut changes = self.changes.iter().filter(newer);
        let by = changes.clone().rfind(touched).or_else(|| changes.next_back());
        self.record_tampering(what, by.map(maker));
    }

    /// Somebody has touched what no transaction is about.
    pub(super) fn note_unknown_hand(&mut self, what: &str) {
        self.is_recorded = false;
        self.record_tampering(what, None);
        self.is_recorded = false;
    }

    fn record_tampering(&mut self, what: &str, by: Option<Actor>) {
        // Found again at every try to put them back.
        if std::mem::replace(&mut self.is_recorded, true) {
            return;
        }
        self.reasserted += 1;
        self.changed_by = by.as_ref().map(|by| format!("{} ({})", by.name, by.pid));
        let name = self.changed_by.as_deref().unwrap_or("?");
        tracing::warn!(by = name, "our rules are put back: {what}");
        let what = what.to_owned();
        self.news.push(Event::Reasserted { by, what });
    }
}

fn maker(change: &FilterChange) -> Actor {
    Actor {
        pid: change.pid,
        name: change.name.clone(),
    }
}

fn is_after(change: &FilterChange, generation: u32) -> bool {
    change.generation.wrapping_sub(generation).cast_signed() > 0
}
