//! Other programs' sockets: what the rules cut is closed as well.
//!
//! In: a plan that the kernel was proven to enforce, the orders behind it. Out: closed sockets, counted, also for each live
//! order. What goes wrong here is told and fails
//! nothing: the rules cut all the same.

use jiff::Timestamp;
use tokio::task::yield_now;

use crate::quarantine::lifelines::lifeline::Endpoint;
use crate::quarantine::orders::order::Order;
use crate::quarantine::plan::severed::{SocketEnds, cutters};
use crate::quarantine::plan::{IsolationSettings, Plan, PlanId, Scope, fold};
use crate::quarantine::ports::{Sockets, SparedSockets};
use crate::quarantine::proof::state::{SeveredByOrder, State};

/// Connections whose orders are found before others get a turn: one takes microseconds.
const AT_A_TIME: usize = 1_000;

/// What is told of a kernel that cannot close sockets.
const UNSUPPORTED: &str = "unsupported: this kernel cannot close the sockets of cut connections \
                           (CONFIG_INET_DIAG_DESTROY); they stay until they time out";

/// What the rules in the kernel follow from.
#[derive(Debug, PartialEq, Eq)]
struct RulesOrigin {
    plan: PlanId,
    scope: Scope,
    endpoints: Vec<Endpoint>,
    /// How often they were put back: meanwhile anything may have been opened.
    reasserted: u64,
}

impl RulesOrigin {
    fn of(plan: &Plan, reasserted: u64) -> Self {
        Self {
            plan: plan.id(),
            scope: plan.scope,
            endpoints: plan.endpoints.clone(),
            reasserted,
        }
    }
}

/// What one order closed. The time tells it from a later order that is called the same.
struct OrderCount {
    order: String,
    issued: Timestamp,
    sockets: u64,
}

/// Closes what is cut, and counts.
pub(super) struct Severing<S> {
    sockets: S,
    /// The rules whose cut connections were all looked for.
    done: Option<RulesOrigin>,
    /// The rules whose cut flows connection tracking was told to forget last.
    forgotten: Option<RulesOrigin>,
    unsupported: bool,
    /// Since the agent started.
    count: u64,
    /// Of live orders; there is one of each authority at most.
    by_order: Vec<OrderCount>,
    /// Closed, and not yet counted for an order.
    fresh: Vec<SocketEnds>,
    fault: Option<String>,
}

impl<S: Sockets> Severing<S> {
    pub(super) const fn new(sockets: S) -> Self {
        Self {
            sockets,
            done: None,
            forgotten: None,
            unsupported: false,
            count: 0,
            by_order: Vec::new(),
            fresh: Vec::new(),
            fault: None,
        }
    }

    /// Nothing is cut: the next rules are new.
    pub(super) fn rest(&mut self) {
        (self.done, self.forgotten) = (None, None);
        self.sockets.leave_alone();
    }

    /// Has connection tracking, which is crowded, forget what the rules cut, now and from time to time; nothing waits for it.
    pub(super) fn forget(&mut self, plan: &Plan, reasserted: u64) {
        let origin = RulesOrigin::of(plan, reasserted);
        let is_news = self.forgotten.as_ref() != Some(&origin);
        self.sockets.forget_cut(plan, is_news);
        self.forgotten = Some(origin);
    }

    /// Closes the sockets of connections that the rules cut: at once when these are new, else from time to time.
    pub(super) async fn sever(&mut self, plan: &Plan, reasserted: u64, spared: &SparedSockets) {
        if self.unsupported {
            return;
        }
        let origin = RulesOrigin::of(plan, reasserted);
        let urgent = self.done.as_ref() != Some(&origin);
        let look = self.sockets.close_cut(plan, urgent, spared).await;
        self.count += u64::try_from(look.closed.len()).unwrap_or(u64::MAX);
        self.fresh = look.closed;
        self.unsupported = look.unsupported;
        let fault = look.unsupported.then(|| UNSUPPORTED.to_owned()).or(look.fault);
        match &fault {
            Some(why) if self.fault != fault => {
                tracing::warn!("the sockets of cut connections stay open: {why}");
            }
            None if urgent && look.complete => self.done = Some(origin),
            _ => {}
        }
        self.fault = fault;
    }

    /// Counts what was just closed for the orders that cut it.
    pub(super) async fn attribute(&mut self, orders: &[Order], settings: &IsolationSettings, now: Timestamp) {
        if self.fresh.is_empty() {
            return;
        }
        let mut alone = Vec::new();
        for order in orders {
            // Lifelines are not among what was closed.
            let only = std::slice::from_ref(order);
            alone.push(fold(only, settings, Vec::new(), Scope::Pinned, now));
            yield_now().await;
        }
        let mut counts = vec![0_u64; orders.len()];
        for some in std::mem::take(&mut self.fresh).chunks(AT_A_TIME) {
            let found = some.iter().flat_map(|connection| cutters(&alone, connection));
            found.for_each(|index| counts[index] += 1);
            yield_now().await;
        }
        for (order, sockets) in orders.iter().zip(counts) {
            let known = self.by_order.iter_mut().find(|count| count.is_of(order));
            match known {
                Some(known) => known.sockets += sockets,
                None => self.by_order.push(OrderCount {
                    order: name(order),
                    issued: order.issued,
                    sockets,
                }),
            }
        }
    }

    /// What may be said of it. Orders that have ended are forgotten.
    pub(super) fn show(&mut self, orders: &[Order], state: &mut State) {
        self.by_order
            .retain(|count| orders.iter().any(|order| count.is_of(order)));
        let closed = self.by_order.iter().filter(|count| count.sockets > 0);
        state.severed_by_order = closed
            .map(|count| SeveredByOrder {
                order: count.order.clone(),
                sockets: count.sockets,
            })
            .collect();
        state.severed = self.count;
        state.severing.clone_from(&self.fault);
        let remembered = self.sockets.remembered();
        let told =
            remembered.map(|why| format!("cut flows stay in connection tracking, which is crowded: {why}"));
        state.uncovered.extend(told);
    }
}

impl OrderCount {
    fn is_of(&self, order: &Order) -> bool {
        self.issued == order.issued && self.order == name(order)
    }
}

fn name(order: &Order) -> String {
    format!("{}:{}", order.authority, order.id)
}
