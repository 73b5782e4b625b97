//! What the enforcer would do, without doing it: the same fold, the same text, no effect.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;

use super::Enforcer;
use super::filter::Mission;
use crate::config::Mode;
use crate::quarantine::lifelines::told::missing;
use crate::quarantine::orders::order::{Order, Posture, ProcessRule};
use crate::quarantine::plan::Plan;
use crate::quarantine::plan::preview::{PlanEffects, PlanPreview, effects};
use crate::quarantine::plan::processes::{PathsMeant, ProcessSelection, ProtectedProcesses, select};
use crate::quarantine::ports::{Machine, Processes};
use crate::quarantine::ruleset::{CarriedCounters, CutAction, Layer, Ruleset};

/// A preview whose text is not written: that takes some tens of milliseconds for a hundred thousand remotes, and belongs
/// beside the thread that decides.
#[derive(Debug)]
pub struct UnwrittenPreview {
    ruleset: Arc<Ruleset>,
    present: BTreeSet<Layer>,
    now: Timestamp,
    plan: PlanEffects,
    /// Whom the rules name: whoever asked waits for that, and the enforcer does not.
    selection: Option<Selection>,
}

struct Selection(Pin<Box<dyn Future<Output = ProcessSelection> + Send>>);

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Selection")
    }
}

impl UnwrittenPreview {
    /// Looks at the processes. Those that cannot be listed are not shown.
    pub(crate) async fn look(&mut self) {
        if let Some(selection) = self.selection.take() {
            self.plan.note_processes(&selection.0.await);
        }
    }

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
        self.look_for_ways(now).await;
        let book = self.orders.with(order, now);
        let plan = self.plan_of(book.orders(), now);
        let protected = ProtectedProcesses {
            traces: self.rounds.traces().to_vec(),
            ..self.protected()
        };
        let selection = self.select(plan.processes.clone(), protected);
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
        let mut shown = effects(plan, book.orders(), self.not_done(plan, is_new));
        shown.layers = ruleset.tables.iter().map(|table| table.layer).collect();
        shown.gaps = self.filter.gaps(plan);
        shown.gaps.extend(self.ways.gaps(plan));
        shown.gaps.extend(self.ways.cut_tunnels(plan, &self.standing));
        shown.endpoints = self.addresses.addresses();
        if plan.posture == Posture::Isolate {
            shown.missing = missing(&plan.lifelines, &shown.endpoints);
        }
        UnwrittenPreview {
            ruleset,
            present,
            now: now.wall,
            plan: shown,
            selection: Some(selection),
        }
    }

    fn select(&self, rules: Vec<ProcessRule>, protected: ProtectedProcesses) -> Selection {
        let mut processes = self.rounds.processes();
        let before = self.rounds.named();
        Selection(Box::pin(async move {
            if rules.is_empty() {
                return ProcessSelection::default();
            }
            let list = processes.list(PathsMeant::new(&rules, &protected)).await;
            list.map_or_else(
                |_| ProcessSelection::default(),
                |list| select(&list, &rules, &protected, before),
            )
        }))
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
