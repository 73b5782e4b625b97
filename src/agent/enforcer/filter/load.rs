//! A load: one transaction, of single rules where that is all that differs, if need be without the layers that this kernel
//! refuses; then read back.

use std::sync::Arc;

use super::{CarriedCounters, FilterKeeper, HeldRules, Hooks, Layer, Mission, Ruleset, one};
use crate::moment::Now;
use crate::quarantine::ports::PacketFilter;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::ruleset::render;

/// Loads in a row that somebody else may interfere with.
const TRIES: usize = 4;

impl<F: PacketFilter> FilterKeeper<F> {
    /// Loads the tables and compares what the kernel lists, again where somebody else's change came in between.
    ///
    /// # Errors
    /// What stands in the way. The kernel then holds what it held before, or what could not be read back.
    pub(super) async fn load(
        &mut self,
        ruleset: Arc<Ruleset>,
        hooks: Hooks,
        mission: &Mission,
        now: Now,
    ) -> Result<(), Vec<Obstacle>> {
        for _ in 0..TRIES {
            if self.load_once(&ruleset, &hooks, mission, now).await? {
                return Ok(());
            }
            self.note_tampering("somebody changed our tables while they were loaded");
        }
        Err(vec![Obstacle::Unsettled])
    }

    /// `false`: somebody else changed something meanwhile, and our tables are not as they were loaded.
    async fn load_once(
        &mut self,
        ruleset: &Arc<Ruleset>,
        hooks: &Hooks,
        mission: &Mission,
        now: Now,
    ) -> Result<bool, Vec<Obstacle>> {
        let counted = self.carried_over(mission).await;
        let before = self.kernel.generation().await.map_err(one)?;
        // Whatever the kernel is told withdraws it, taken or not.
        self.standing_by = None;
        let changed = self.change_rules(ruleset, &counted, before, now).await;
        let taken = match &changed {
            Some(_) => Ok(Arc::clone(ruleset)),
            None => {
                self.load_what_is_taken(ruleset, hooks, mission, &counted, now)
                    .await
            }
        };
        let surely_refused =
            |obstacle: &Obstacle| matches!(obstacle, Obstacle::Refused { .. } | Obstacle::NotPermitted);
        if taken.as_ref().is_err_and(|all| !all.iter().all(surely_refused)) {
            // A kernel that did not answer may have loaded them all the same.
            self.posture = None;
        }
        let ruleset = taken?;
        self.note_replaced();
        self.tally.begin(&counted, &mission.plan.limits);
        self.took_cutting_rules = mission.cuts();
        self.note_applied(&ruleset, mission);
        self.posture = None;
        self.held = None;
        let generation = self.kernel.generation().await.map_err(one)?;
        let present = self.kernel.tables().await.map_err(one)?;
        let found = self.kernel.compare(&present, &ruleset, changed.as_ref(), now);
        let found = found.await;
        let found = found.map_err(one)?;
        let after = self.kernel.generation().await.map_err(one)?;
        if !found.differences.is_empty() {
            // As before: there was nothing to load. One more: there was no other transaction at all.
            let alone = [before, before.wrapping_add(1)].contains(&after);
            let differs = |difference| Obstacle::Differs { difference };
            return if alone {
                Err(found.differences.into_iter().map(differs).collect())
            } else {
                Ok(false)
            };
        }
        if !self.devices_hold(&ruleset).await.map_err(one)? {
            return Err(vec![Obstacle::EgressDiffers]);
        }
        self.posture = Some(mission.posture());
        self.held = Some(HeldRules {
            generation: (generation == after).then_some(generation),
            listed: now.uptime,
            posture: mission.posture(),
            ruleset,
        });
        self.is_recorded = false;
        Ok(true)
    }

    /// Changes single rules, with elements, where nothing else differs from what the kernel was proven to hold at this
    /// generation: a list of 100,000 blocked remotes is not loaded again for one port. Gives what it held. None: the tables
    /// are to be loaded whole, which settles whatever became of it.
    async fn change_rules(
        &mut self,
        ruleset: &Arc<Ruleset>,
        counted: &CarriedCounters,
        generation: u32,
        now: Now,
    ) -> Option<Arc<Ruleset>> {
        if !self.wants_other_rules(ruleset, generation) {
            return None;
        }
        let held = Arc::clone(&self.held.as_ref()?.ruleset);
        if !ruleset.same_frame(&held) {
            return None;
        }
        let changed = self.kernel.change(ruleset, &held, counted, generation, now);
        if let Err(obstacle) = changed.await {
            tracing::debug!("rules alone could not be changed: {obstacle}");
            return None;
        }
        Some(held)
    }

    /// Loads, if need be without the layers that this kernel refuses; gives what was loaded.
    async fn load_what_is_taken(
        &mut self,
        ruleset: &Arc<Ruleset>,
        hooks: &Hooks,
        mission: &Mission,
        counted: &CarriedCounters,
        now: Now,
    ) -> Result<Arc<Ruleset>, Vec<Obstacle>> {
        let refusal = match self.kernel.load(ruleset, counted, now).await {
            Ok(()) => return Ok(Arc::clone(ruleset)),
            Err(refusal @ Obstacle::Refused { .. }) => refusal,
            Err(obstacle) => return Err(vec![obstacle]),
        };
        let without_egress = Hooks {
            egress: Vec::new(),
            ..hooks.clone()
        };
        let without_bridge = Hooks {
            bridge: false,
            ..hooks.clone()
        };
        let fallbacks: [(Hooks, &[Layer]); 3] = [
            (without_egress, &[Layer::Netdev]),
            (without_bridge, &[Layer::Bridge]),
            (Hooks::default(), &[Layer::Netdev, Layer::Bridge]),
        ];
        for (fewer, lacking) in fallbacks {
            if fewer == *hooks {
                continue;
            }
            let ruleset = Arc::new(render(&mission.plan, &fewer, mission.effect));
            match self.kernel.load(&ruleset, counted, now).await {
                Ok(()) => {}
                Err(Obstacle::Refused { .. }) => continue,
                // Who knows what the kernel has taken.
                Err(obstacle) => return Err(vec![obstacle]),
            }
            let why = refusal.to_string();
            for layer in lacking {
                tracing::warn!(%layer, "this kernel does not take the table: {why}");
                self.layers.refuse(*layer, &why, now.uptime);
            }
            return Ok(ruleset);
        }
        Err(vec![refusal])
    }
}
