//! Confirm or roll back: what is noted of a plan on trial, and what follows from the control channel's answers.
//!
//! In: the plan that is carried out, the newest round trip, the clock. Out: changes of the journal; they take effect in
//! the reconciliation that notes them or in the next. What follows is decided by `quarantine::proof::confirm`.

use super::kernel::Target;
use super::{Enforcer, LATELY};
use crate::host::clock;
use crate::moment::Now;
use crate::quarantine::history::Event;
use crate::quarantine::plan::{Plan, PlanId, Scope};
use crate::quarantine::proof::confirm::{self, Aftermath, Attempt, Verdict};
use crate::quarantine::proof::journal::{Confirmed, RolledBack, Trial};
use crate::quarantine::proof::state::Phase;

impl Enforcer {
    /// Whether the control channel was seen to work behind just these rules.
    pub(super) fn is_confirmed(&self, plan: &Plan) -> bool {
        self.journal.confirmed.as_ref().is_some_and(|confirmed| {
            confirmed.plan == plan.id()
                && confirmed.scope == plan.scope
                && (!confirmed.unresolved || self.unresolved())
        })
    }

    pub(super) fn note_trial(&mut self, target: &Target) {
        let plan = &target.plan;
        if !target.cuts() {
            self.journal.trial = None;
            self.journal.confirmed = None;
            self.attempt = None;
            return;
        }
        let id = plan.id();
        if self.is_confirmed(plan) {
            return;
        }
        // A plan that was confirmed before this one proves that the channel worked behind rules of ours.
        // One lost answer right before does not mean that it did not.
        let lately = self
            .round_trip
            .is_some_and(|sent| clock::now().uptime.saturating_sub(sent) < LATELY);
        let channel_worked = self.channel_works || lately || self.journal.confirmed.is_some();
        let was_confirmed = self.journal.confirmed.take().is_some();
        if was_confirmed || self.journal.trial.as_ref().is_none_or(|trial| trial.plan != id) {
            self.journal.trial = Some(Trial {
                plan: id,
                channel_worked,
            });
            self.attempt = None;
        }
    }

    /// Confirms, widens or gives up; a change takes effect in the reconciliation that it triggers.
    pub(super) fn judge_attempt(&mut self, wanted: &Plan, target: &Target, now: Now) {
        let plan = &target.plan;
        let Some((id, attempt)) = self.attempt.clone() else {
            return;
        };
        if !target.cuts() || self.state.phase != Phase::Provisional || id != plan.id() {
            return;
        }
        // What went through while the rules were gone, or before they were as wide as now, proves nothing of them.
        let round_trip = self.round_trip.filter(|sent| *sent >= self.loaded_at);
        match confirm::judge(&attempt, round_trip, self.settings.isolation.confirm, now.uptime) {
            Verdict::Wait => {}
            Verdict::Confirmed => self.confirm(id, &attempt, wanted, target, now),
            Verdict::Widen => {
                tracing::warn!(plan = %id, "the control channel is silent behind the rules: widening the lifelines");
                self.history.note(Event::Widened { plan: id.clone() });
                self.attempt = Some((
                    id,
                    Attempt {
                        scope: Scope::Wide,
                        unresolved: false,
                        applied: now.uptime,
                        ..attempt
                    },
                ));
            }
            Verdict::RollBack => {
                let seconds = self.settings.isolation.confirm.as_secs();
                let why = format!(
                    "the control channel worked before and was silent for {seconds} s behind the rules, and for \
                     another {seconds} s with wider lifelines"
                );
                tracing::error!(plan = %id, "rolled back: {why}");
                self.history.note(Event::RolledBack {
                    plan: id.clone(),
                    why: why.clone(),
                });
                self.journal.rolled_back = Some(RolledBack {
                    plan: id,
                    at: now.wall,
                    why,
                    proven: false,
                });
                self.given_up = Some(now.uptime);
                self.attempt = None;
            }
        }
    }

    /// Takes a plan up again that was given up when the channel is as silent without its rules.
    pub(super) fn judge_release(&mut self, wanted: &Plan, now: Now) {
        let id = wanted.id();
        let Some(released) = self.given_up.filter(|_| {
            self.journal
                .rolled_back
                .as_ref()
                .is_some_and(|rolled| rolled.plan == id)
        }) else {
            return;
        };
        match confirm::aftermath(
            released,
            self.round_trip,
            self.settings.isolation.confirm,
            now.uptime,
        ) {
            Aftermath::Wait => {}
            Aftermath::RulesWereIt => {
                self.given_up = None;
                if let Some(rolled) = &mut self.journal.rolled_back {
                    rolled.proven = true;
                }
            }
            Aftermath::SilentAnyway => {
                tracing::warn!(plan = %id, "the control channel is as silent without the rules: they are put back");
                self.given_up = None;
                self.journal.rolled_back = None;
                self.journal.trial = Some(Trial {
                    plan: id,
                    channel_worked: false,
                });
            }
        }
    }

    pub(super) fn confirm(
        &mut self,
        id: PlanId,
        attempt: &Attempt,
        wanted: &Plan,
        target: &Target,
        now: Now,
    ) {
        tracing::info!(plan = %id, "the control channel works through the closed firewall: confirmed");
        self.history.note(Event::Confirmed { plan: id.clone() });
        self.journal.confirmed = Some(Confirmed {
            plan: id,
            scope: attempt.scope,
            unresolved: attempt.unresolved,
        });
        self.journal.trial = None;
        let mut faults = self.state.faults.clone();
        if let Err(fault) = self.save()
            && !faults.contains(&fault)
        {
            faults.insert(0, fault);
        }
        self.say(Phase::Enforced, wanted, target, faults, now);
    }

    /// Starts the confirmation window of a plan, or of a wider scope, once the kernel holds it. Two plans may have the
    /// same rules (another order, other processes): the window does not depend on a load.
    pub(super) fn begin_attempt(&mut self, target: &Target) {
        let plan = &target.plan;
        let id = plan.id();
        let running = self.attempt.as_ref().is_some_and(|(tried, attempt)| {
            *tried == id && attempt.scope == plan.scope && attempt.unresolved == self.unresolved()
        });
        if !target.cuts() || running || self.is_confirmed(plan) {
            return;
        }
        let trial = self.journal.trial.as_ref().filter(|trial| trial.plan == id);
        let channel_worked = plan.lifelines.data_endpoint && trial.is_some_and(|trial| trial.channel_worked);
        let applied = clock::now().uptime;
        let unresolved = self.unresolved();
        self.attempt = Some((
            id,
            Attempt {
                scope: plan.scope,
                unresolved,
                applied,
                channel_worked,
            },
        ));
    }
}
