//! What the enforcer would do, without doing it: the same fold, the same text, no effect.

use std::collections::BTreeSet;

use super::Enforcer;
use crate::config::Mode;
use crate::host::netfilter::kernel::NftKernel;
use crate::host::processes::process_table;
use crate::moment::Now;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Order};
use crate::quarantine::plan::Plan;
use crate::quarantine::plan::preview::{Shown, outlook};
use crate::quarantine::plan::processes::{ProcessSelection, select};
use crate::quarantine::ruleset::{CarriedCounters, CutAction, Hooks, render};

impl Enforcer {
    /// What is done now, or would be if the operator gave `order`.
    pub(super) fn outlook(&mut self, order: Option<Box<Order>>, now: Now) -> Shown {
        let mut book = self.journal.book.clone();
        book.expire(now.wall);
        let is_new = order.is_some();
        if let Some(order) = order {
            // As `take_wish` does.
            book.set(Authority::Recovery, Wish::Release);
            book.set(Authority::Operator, Wish::Order(order));
        }
        let plan = self.plan_of(&book, now);
        let selection = if plan.processes.is_empty() {
            ProcessSelection::default()
        } else {
            select(&process_table::list(), &plan.processes, &self.protected())
        };
        let (hooks, effect) = self.hooks_for(&plan, now);
        let ruleset = render(&plan, &hooks, effect);
        // Tables that cannot be asked for are taken as absent: the text is then what a fresh device would load.
        let present = NftKernel::open().and_then(|mut kernel| kernel.tables());
        let present = present.unwrap_or_else(|_| BTreeSet::new());
        let not_done = self.not_done(&plan, is_new);
        let mut shown = outlook(&plan, book.orders(), not_done, &selection);
        shown.layers = ruleset.tables.iter().map(|table| table.layer).collect();
        shown.gaps = if plan.is_normal() {
            Vec::new()
        } else {
            self.layers.uncovered()
        };
        Shown {
            text: ruleset.load(&present, &CarriedCounters::default(), now.wall),
            plan: shown,
        }
    }

    fn hooks_for(&mut self, plan: &Plan, now: Now) -> (Hooks, CutAction) {
        let hooks = if plan.is_normal() {
            Hooks::default()
        } else {
            self.layers.hooks(&self.settings.isolation, now.uptime)
        };
        let effect = if self.settings.mode == Mode::Observe {
            CutAction::Count
        } else {
            CutAction::Cut
        };
        (hooks, effect)
    }

    fn not_done(&self, plan: &Plan, is_new: bool) -> Option<String> {
        if plan.is_normal() {
            return None;
        }
        if self.settings.mode == Mode::Observe {
            return Some("mode observe: what would be cut is counted, nothing is cut or stopped".to_owned());
        }
        // A new order deserves a new try.
        let given_up = self.journal.rolled_back.as_ref().filter(|_| !is_new);
        given_up
            .filter(|rolled| rolled.plan == plan.id())
            .map(|rolled| format!("it was given up: {}", rolled.why))
    }
}
