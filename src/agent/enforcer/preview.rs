//! What the enforcer would do, without doing it: the same fold, the same text, no effect.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::Enforcer;
use super::filter::Mission;
use crate::config::Mode;
use crate::quarantine::orders::order::Order;
use crate::quarantine::plan::Plan;
use crate::quarantine::plan::preview::{PlanEffects, PlanPreview, effects};
use crate::quarantine::ports::Machine;
use crate::quarantine::ruleset::{CarriedCounters, CutAction, Layer, Ruleset};

/// A preview whose text is not written: that takes some tens of milliseconds for a hundred thousand remotes, and belongs
/// beside the thread that decides.
#[derive(Debug)]
pub struct UnwrittenPreview {
    ruleset: Arc<Ruleset>,
    present: BTreeSet<Layer>,
    now: Timestamp,
    plan: PlanEffects,
}

impl UnwrittenPreview {
    /// Writes it.
    #[must_use]
    pub fn write(self) -> PlanPreview {
        PlanPreview {
            text: self
                .ruleset
                .text(&self.present, &CarriedCounters::default(), self.now),
            plan: self.plan,
        }
    }
}

impl<M: Machine> Enforcer<M> {
    /// What is done now, or would be if the operator gave `order`.
    pub(crate) async fn preview(&mut self, order: Option<Box<Order>>) -> UnwrittenPreview {
        let (is_new, now) = (order.is_some(), self.now());
        let book = self.orders.with(order, now);
        let plan = self.plan_of(book.orders(), now);
        let protected = self.protected();
        // Processes that cannot be listed are not shown.
        let selection = self
            .stopper
            .select(&plan.processes, &protected)
            .await
            .unwrap_or_default();
        let effect = if self.settings.mode == Mode::Observe {
            CutAction::Count
        } else {
            CutAction::Cut
        };
        let mission = Mission { plan, effect };
        let (ruleset, _) = self.filter.rules(&mission, &self.settings.isolation, now).await;
        let plan = &mission.plan;
        // Tables that cannot be asked for are taken as absent: the text is then what a fresh device would load.
        let present = self.filter.tables().await;
        let mut shown = effects(plan, book.orders(), self.not_done(plan, is_new), &selection);
        shown.layers = ruleset.tables.iter().map(|table| table.layer).collect();
        shown.gaps = self.filter.gaps(plan);
        UnwrittenPreview {
            ruleset,
            present,
            now: now.wall,
            plan: shown,
        }
    }

    fn not_done(&self, plan: &Plan, is_new: bool) -> Option<String> {
        if plan.is_normal() {
            return None;
        }
        if self.settings.mode == Mode::Observe {
            return Some("mode observe: what would be cut is counted, nothing is cut or stopped".to_owned());
        }
        // A new order deserves a new try.
        let given_up = self.standing.gave_up(&plan.id()).filter(|_| !is_new);
        given_up.map(|release| format!("it was given up: {}", release.why))
    }
}
