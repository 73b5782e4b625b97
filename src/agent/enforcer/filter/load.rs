//! A load: one transaction, if need be without the layers that this kernel refuses, then read back.

use std::collections::BTreeSet;

use super::{CarriedCounters, FilterKeeper, HeldRules, Hooks, Layer, Mission, Ruleset, SetElements, one};
use crate::moment::Now;
use crate::quarantine::history::Event;
use crate::quarantine::ports::PacketFilter;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::ruleset::render;
use crate::quarantine::ruleset::verify::{Listings, fingerprint, verify};

impl<F: PacketFilter> FilterKeeper<F> {
    /// Loads the tables whole and compares what the kernel lists.
    ///
    /// # Errors
    /// What stands in the way. The kernel then holds what it held before, or what could not be read back.
    pub(super) async fn load(
        &mut self,
        ruleset: Ruleset,
        hooks: Hooks,
        mission: &Mission,
        now: Now,
    ) -> Result<(), Vec<Obstacle>> {
        let counted = self.carried_over(mission).await;
        let taken = self
            .load_what_is_taken(ruleset, hooks, mission, &counted, now)
            .await;
        let surely_refused = |obstacle: &Obstacle| {
            matches!(
                obstacle,
                Obstacle::Refused { .. } | Obstacle::NftMissing | Obstacle::NotPermitted
            )
        };
        if taken.as_ref().is_err_and(|all| !all.iter().all(surely_refused)) {
            // A program that did not answer may have loaded them all the same.
            self.posture = None;
        }
        let ruleset = taken?;
        self.took_cutting_rules = mission.cuts();
        self.news.push(Event::Applied {
            plan: mission.plan.id(),
            what: ruleset.summary(),
        });
        self.posture = None;
        self.held = None;
        let generation = self.kernel.generation().await.ok();
        let present = self.kernel.tables().await.map_err(one)?;
        let listings = self.read_back(&ruleset, &present, now).await?;
        if !self.devices_hold(&ruleset).await {
            return Err(vec![Obstacle::EgressDiffers]);
        }
        let unchanged = self.kernel.generation().await.ok() == generation;
        self.posture = Some(mission.posture());
        self.held = Some(HeldRules {
            fingerprint: fingerprint(listings),
            generation: generation.filter(|_| unchanged),
            listed: now.uptime,
            posture: mission.posture(),
            ruleset,
        });
        Ok(())
    }

    async fn read_back(
        &mut self,
        ruleset: &Ruleset,
        present: &BTreeSet<Layer>,
        now: Now,
    ) -> Result<Listings, Vec<Obstacle>> {
        let listings = self.kernel.list(present).await.map_err(one)?;
        let differs = |difference| Obstacle::Differs { difference };
        verify(ruleset, &listings, &SetElements::default(), now.wall)
            .map_err(|differences| differences.into_iter().map(differs).collect::<Vec<_>>())?;
        Ok(listings)
    }

    /// Loads, if need be without the layers that this kernel refuses; gives what was loaded.
    async fn load_what_is_taken(
        &mut self,
        ruleset: Ruleset,
        hooks: Hooks,
        mission: &Mission,
        counted: &CarriedCounters,
        now: Now,
    ) -> Result<Ruleset, Vec<Obstacle>> {
        let present = self.kernel.tables().await.map_err(one)?;
        let refusal = match self.kernel.load(&ruleset, &present, counted, now.wall).await {
            Ok(()) => return Ok(ruleset),
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
            if fewer == hooks {
                continue;
            }
            let ruleset = render(&mission.plan, &fewer, mission.effect);
            match self.kernel.load(&ruleset, &present, counted, now.wall).await {
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
