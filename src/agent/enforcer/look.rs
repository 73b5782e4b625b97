//! How things stand, for whoever only looks: nothing is loaded, written, signalled or proven.

use std::collections::BTreeSet;

use super::Enforcer;
use crate::config::Mode;
use crate::quarantine::orders::order::Authority;
use crate::quarantine::ports::Machine;
use crate::quarantine::proof::state::State;
use crate::quarantine::ruleset::Layer;

/// What the kernel holds, beside what is to be carried out.
#[derive(Debug)]
pub(crate) struct KernelLook {
    /// Our tables.
    pub(crate) tables: BTreeSet<Layer>,
    /// Where they differ from what is to be carried out.
    pub(crate) differences: Vec<String>,
}

/// What the journal says of the time before: an order that has ended since is not live, and its rules stay where no agent runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remembered {
    /// The operator held an order.
    pub(crate) operators: bool,
    /// The kernel's rules may be this journal's.
    pub(crate) rules: bool,
}

impl<M: Machine> Enforcer<M> {
    /// What the journal says of the time before; to be asked first, because looking lets go what has ended.
    pub(crate) fn remembered(&self) -> Remembered {
        let orders = self.orders.orders();
        Remembered {
            operators: orders.iter().any(|order| order.authority == Authority::Operator),
            rules: !orders.is_empty() || self.held.is_some(),
        }
    }

    /// Looks at orders and kernel; gives what the journal says, and what the kernel holds, or why that cannot be seen.
    pub(crate) async fn look(&mut self) -> (State, Result<KernelLook, String>) {
        let now = self.now();
        self.orders.expire(now);
        self.look_for_ways(now).await;
        let wanted = self.wanted(now);
        let mission = self.mission(&wanted, now);
        // What nobody wants any more, and what is only counted, is not held back by that.
        let gave_up = self.standing.gave_up(&wanted.id()).filter(|_| !self.observes());
        let mut state = State {
            wanted: wanted.posture,
            plan: (!mission.plan.is_normal()).then(|| mission.plan.id()),
            scope: mission.plan.drawn(),
            rolled_back: gave_up.cloned(),
            stopped: self.rounds.remembered(),
            ..State::default()
        };
        self.orders.show(&mut state);
        let (ruleset, _) = self.filter.rules(&mission, &self.settings.isolation, now).await;
        let seen = self.filter.look(&ruleset, now).await;
        let seen = seen.map(|(tables, differences)| KernelLook { tables, differences });
        (
            state,
            seen.map_err(|obstacle| format!("{obstacle}; {}", obstacle.next_step())),
        )
    }

    /// Whether orders are only counted.
    pub(crate) fn observes(&self) -> bool {
        self.settings.mode == Mode::Observe
    }
}
