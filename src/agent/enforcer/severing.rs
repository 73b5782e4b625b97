//! Other programs' sockets: what the rules cut is closed as well.
//!
//! In: a plan that the kernel was proven to enforce. Out: closed sockets, counted. What goes wrong here is told and fails
//! nothing: the rules cut all the same.

use crate::quarantine::lifelines::lifeline::Endpoint;
use crate::quarantine::plan::{Plan, PlanId, Scope};
use crate::quarantine::ports::{Sockets, SparedSockets};
use crate::quarantine::proof::state::State;

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

/// Closes what is cut, and counts.
pub(super) struct Severing<S> {
    sockets: S,
    /// The rules whose cut connections were all looked for.
    done: Option<RulesOrigin>,
    unsupported: bool,
    /// Since the agent started.
    count: u64,
    fault: Option<String>,
}

impl<S: Sockets> Severing<S> {
    pub(super) const fn new(sockets: S) -> Self {
        Self {
            sockets,
            done: None,
            unsupported: false,
            count: 0,
            fault: None,
        }
    }

    /// Nothing is cut: the next rules are new.
    pub(super) fn rest(&mut self) {
        self.done = None;
        self.sockets.leave_alone();
    }

    /// Closes the sockets of connections that the rules cut: at once when these are new, else from time to time.
    pub(super) async fn sever(&mut self, plan: &Plan, reasserted: u64, spared: &SparedSockets) {
        if self.unsupported {
            return;
        }
        let origin = RulesOrigin {
            plan: plan.id(),
            scope: plan.scope,
            endpoints: plan.endpoints.clone(),
            reasserted,
        };
        let urgent = self.done.as_ref() != Some(&origin);
        let look = self.sockets.close_cut(plan, urgent, spared).await;
        self.count += look.closed;
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

    /// What may be said of it.
    pub(super) fn show(&self, state: &mut State) {
        state.severed = self.count;
        state.severing.clone_from(&self.fault);
    }
}
