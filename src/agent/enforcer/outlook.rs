//! What the enforcer would do, without doing it: the same fold, the same text, no effect.

use super::Enforcer;
use crate::config::Mode;
use crate::host::clock::Now;
use crate::host::process_table;
use crate::quarantine::order::{Authority, Order};
use crate::quarantine::order_document::Wish;
use crate::quarantine::outlook::{Shown, outlook};
use crate::quarantine::plan::Plan;
use crate::quarantine::processes::{Selection, select};
use crate::quarantine::ruleset::render;

impl Enforcer {
    /// What is done now, or would be if the operator gave `order`.
    pub(super) fn outlook(&self, order: Option<Box<Order>>, now: Now) -> Shown {
        let mut book = self.journal.book.clone();
        book.expire(now.wall);
        let is_new = order.is_some();
        if let Some(order) = order {
            // As `take_wish` does.
            book.set(Authority::Recovery, Wish::Release);
            book.set(Authority::Operator, Wish::Order(order));
        }
        let plan = self.plan_of(&book);
        let selection = if plan.processes.is_empty() {
            Selection::default()
        } else {
            select(&process_table::list(), &plan.processes, &self.protected())
        };
        Shown {
            text: render(&plan).text,
            plan: outlook(&plan, book.orders(), self.not_done(&plan, is_new), &selection),
        }
    }

    fn not_done(&self, plan: &Plan, is_new: bool) -> Option<String> {
        if plan.is_normal() {
            return None;
        }
        if self.settings.mode == Mode::Observe {
            return Some("mode observe: nothing is cut or stopped".to_owned());
        }
        // A new order deserves a new try.
        let given_up = self.journal.rolled_back.as_ref().filter(|_| !is_new);
        given_up
            .filter(|rolled| rolled.plan == plan.id())
            .map(|rolled| format!("it was given up: {}", rolled.why))
    }
}
