//! A load: one transaction, of single rules where that is all that differs, if need be without the layers that this kernel
//! refuses; then read back.

use std::sync::Arc;

use super::{CarriedCounters, FilterKeeper, HeldRules, Hooks, Layer, Mission, Ruleset, one};
use crate::config::IsolationConfig;
use crate::moment::Now;
use crate::quarantine::ports::PacketFilter;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::ruleset::{Lack, render};

/// Loads in a row that somebody else may interfere with.
const TRIES: usize = 4;
/// Tries in a row to change what differs alone, while interfaces and others' tables change.
const CHANGES: usize = 3;

impl<F: PacketFilter> FilterKeeper<F> {
    /// Loads the tables and compares what the kernel lists, again where somebody else's change came in between.
    ///
    /// # Errors
    /// What stands in the way. The kernel then holds what it held before, or what could not be read back.
    pub(super) async fn load(
        &mut self,
        mut made: (Arc<Ruleset>, Hooks),
        mission: &Mission,
        isolation: &IsolationConfig,
        now: Now,
    ) -> Result<(), Vec<Obstacle>> {
        for _ in 0..TRIES {
            if self.load_once(&mut made, mission, isolation, now).await? {
                return Ok(());
            }
            self.note_tampering("somebody changed our tables while they were loaded");
        }
        Err(vec![Obstacle::Unsettled])
    }

    /// `false`: somebody else changed something meanwhile, and our tables are not as they were loaded.
    async fn load_once(
        &mut self,
        made: &mut (Arc<Ruleset>, Hooks),
        mission: &Mission,
        isolation: &IsolationConfig,
        now: Now,
    ) -> Result<bool, Vec<Obstacle>> {
        let counted = self.carried_over(mission).await;
        // Whatever the kernel is told withdraws it, taken or not.
        self.standing_by = None;
        let changed = self
            .change_patiently(made, &counted, (mission, isolation), now)
            .await
            .map_err(one)?;
        let (ruleset, hooks) = &*made;
        let (taken, before) = match &changed {
            Some((_, before)) => (Ok(Arc::clone(ruleset)), *before),
            None => {
                let before = self.kernel.generation().await.map_err(one)?;
                let taken = self.load_what_is_taken(ruleset, hooks, mission, &counted, now);
                (taken.await, before)
            }
        };
        let changed = changed.map(|(held, _)| held);
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

    /// Changes what differs from what the kernel was proven to hold, where the rest can stay: a list of 100,000 blocked remotes
    /// is not loaded again for one port, and no rate begins anew for an interface. Again with what is wanted then where that was
    /// not taken: an interface may have gone meanwhile, or others may have changed theirs. Gives what was held, and at which
    /// generation. None: the tables are to be loaded whole, which settles whatever became of it.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    async fn change_patiently(
        &mut self,
        made: &mut (Arc<Ruleset>, Hooks),
        counted: &CarriedCounters,
        (mission, isolation): (&Mission, &IsolationConfig),
        now: Now,
    ) -> Result<Option<(Arc<Ruleset>, u32)>, Obstacle> {
        for _ in 0..CHANGES {
            let generation = self.kernel.generation().await?;
            if !self.is_still_held(generation, now).await? {
                return Ok(None);
            }
            let Some(held) = self.held.as_ref().map(|held| Arc::clone(&held.ruleset)) else {
                return Ok(None);
            };
            let same = made.0.same_structure(&held) && self.is_same_order(&made.0, now);
            if same || !made.0.same_frame(&held) {
                return Ok(None);
            }
            match self.kernel.change(&made.0, &held, counted, generation, now).await {
                Ok(()) => return Ok(Some((held, generation))),
                Err(obstacle) => tracing::debug!("what differs could not be changed alone: {obstacle}"),
            }
            *made = self.rules(mission, isolation, now).await;
        }
        Ok(None)
    }

    /// Whether the kernel holds at this generation what it was proven to hold at an earlier one.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    async fn is_still_held(&mut self, generation: u32, now: Now) -> Result<bool, Obstacle> {
        let Some(HeldRules {
            ruleset,
            generation: Some(proven),
            ..
        }) = &self.held
        else {
            return Ok(false);
        };
        if *proven == generation {
            return Ok(true);
        }
        let ruleset = Arc::clone(ruleset);
        let present = self.kernel.tables().await?;
        let found = match self.kernel.compare(&present, &ruleset, None, now).await {
            Ok(found) => found,
            // As where a look finds it so: it is loaded whole.
            Err(obstacle) if !obstacle.blinds() => return Ok(false),
            Err(obstacle) => return Err(obstacle),
        };
        let same = found.differences.is_empty() && self.kernel.generation().await? == generation;
        if let Some(held) = self.held.as_mut().filter(|_| same) {
            held.generation = Some(generation);
        }
        Ok(same)
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
        let mut hooks = hooks.clone();
        let whole = Arc::clone(ruleset);
        let taken = self.load_without_lacks(whole, &mut hooks, mission, counted, now);
        let refusal = match taken.await {
            Ok(ruleset) => return Ok(ruleset),
            Err(refusal @ Obstacle::Refused { .. }) => refusal,
            Err(obstacle) => return Err(vec![obstacle]),
        };
        for (mut fewer, lacking) in fallbacks(&hooks) {
            let has_no_egress = lacking.is_empty() && hooks.egress.is_empty();
            if fewer == hooks || has_no_egress {
                continue;
            }
            let ruleset = Arc::new(render(&mission.plan, &fewer, mission.effect));
            let taken = self.load_without_lacks(ruleset, &mut fewer, mission, counted, now);
            let ruleset = match taken.await {
                Ok(ruleset) => ruleset,
                Err(Obstacle::Refused { .. }) => continue,
                // Who knows what the kernel has taken.
                Err(obstacle) => return Err(vec![obstacle]),
            };
            let why = refusal.to_string();
            if lacking.is_empty() {
                tracing::warn!("this kernel does not tell what has a route: {why}");
                self.layers.tells_no_routes(now.uptime);
            }
            for layer in lacking {
                tracing::warn!(%layer, "this kernel does not take the table: {why}");
                self.layers.refuse(*layer, &why, now.uptime);
            }
            return Ok(ruleset);
        }
        Err(vec![refusal])
    }

    /// Loads, if need be without what this kernel says that it was built without, which is then in `hooks`; gives what was
    /// loaded.
    async fn load_without_lacks(
        &mut self,
        mut ruleset: Arc<Ruleset>,
        hooks: &mut Hooks,
        mission: &Mission,
        counted: &CarriedCounters,
        now: Now,
    ) -> Result<Arc<Ruleset>, Obstacle> {
        loop {
            let (refusal, lacks) = match self.kernel.load(&ruleset, counted, now).await {
                Ok(()) => return Ok(ruleset),
                Err(Obstacle::Refused { complaint, lacks }) => (complaint, lacks),
                Err(obstacle) => return Err(obstacle),
            };
            let is_news = |lacks: &[Lack]| lacks.iter().any(|lack| !hooks.lacks.contains(lack));
            let found = match is_news(&lacks) {
                true => lacks.clone(),
                false => self.lacks_behind(now).await,
            };
            if !is_news(&found) {
                return Err(Obstacle::Refused {
                    complaint: refusal,
                    lacks,
                });
            }
            // Each turn leaves out one more thing at least.
            tracing::warn!(lacks = ?found, "this kernel lacks what some rules need: {refusal}");
            hooks.lacks.extend(&found);
            self.layers.lack(&found, now.uptime);
            ruleset = Arc::new(render(&mission.plan, hooks, mission.effect));
        }
    }

    /// What the kernel is found to lack when it has refused rules and does not say what of them; once in a pass.
    async fn lacks_behind(&mut self, now: Now) -> Vec<Lack> {
        if !self.layers.wants_trial(true, now.uptime) {
            return Vec::new();
        }
        let tried = self.kernel.lacks(true).await;
        tried.unwrap_or_else(|obstacle| {
            tracing::debug!("what this kernel lacks could not be tried: {obstacle}");
            Vec::new()
        })
    }

    /// Whether the device could be cut off, and what that could not cut; nothing is changed.
    ///
    /// # Errors
    /// What stands in the way.
    pub(super) async fn try_out(&mut self, now: Now) -> Result<(), Obstacle> {
        self.kernel.try_out().await?;
        if self.layers.wants_trial(false, now.uptime) {
            let lacks = self.kernel.lacks(false).await?;
            if !lacks.is_empty() {
                tracing::warn!(?lacks, "this kernel lacks what some rules would need");
            }
            self.layers.lack(&lacks, now.uptime);
        }
        Ok(())
    }
}

/// Fewer layers, and those that are left out; the first leaves out only what needs to know what has a route.
fn fallbacks(hooks: &Hooks) -> [(Hooks, &'static [Layer]); 4] {
    let unrouted = Hooks {
        unrouted: true,
        ..hooks.clone()
    };
    let without_egress = Hooks {
        egress: Vec::new(),
        ..hooks.clone()
    };
    let without_bridge = Hooks {
        bridge: false,
        ..hooks.clone()
    };
    let neither = Hooks {
        egress: Vec::new(),
        ..without_bridge.clone()
    };
    [
        (unrouted, &[]),
        (without_egress, &[Layer::Netdev]),
        (without_bridge, &[Layer::Bridge]),
        (neither, &[Layer::Netdev, Layer::Bridge]),
    ]
}
