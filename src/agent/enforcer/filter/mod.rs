//! The packet filter in our hands: load, read back, prove.
//!
//! In: what is to be brought into the kernel. Out: whether the kernel was proven to hold it, or what stands in the way.
//!
//! The kernel counts its generations, one for every transaction of anybody. As long as the generation is the one that
//! was read back, nothing can have changed, and nothing is listed again. Elements of sets are changed alone; that the
//! generation is one more afterwards proves that this was the only change. Where rules differ, the kernel is told first and
//! listed then. What was proven stands by, to be put back at the moment at which the kernel tells that somebody touched our
//! tables; what is found afterwards is judged as ever.

mod barred;
mod bearers;
mod canary;
mod counted;
mod layers;
mod load;
mod next_hops;
mod places;
mod touched;

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::Gather;
use crate::config::IsolationConfig;
use crate::moment::Now;
use crate::quarantine::history::Event;
use crate::quarantine::lifelines::tunnels::Reached;
use crate::quarantine::orders::order::Posture;
use crate::quarantine::plan::Plan;
use crate::quarantine::ports::{FilterChange, PacketFilter};
use crate::quarantine::proof::journal::Journal;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::state::State;
use crate::quarantine::ruleset::{CarriedCounters, CutAction, Hooks, Layer, Ruleset, render};
use barred::Barring;
use counted::Tally;
use layers::Layers;
pub(super) use touched::KernelTouch;
use touched::StandingBy;

/// How often the rules are listed although the generation says that nobody touched them.
const LIST_EVERY: Duration = Duration::from_secs(300);
/// How often a free device tries whether it could be cut off.
const TRY_EVERY: Duration = Duration::from_secs(59);
/// What is to be brought into the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mission {
    /// The plan.
    pub(super) plan: Plan,
    /// Whether it cuts or counts.
    pub(super) effect: CutAction,
}

impl Mission {
    /// Whether anything is cut.
    pub(super) fn cuts(&self) -> bool {
        !self.plan.is_normal() && self.effect == CutAction::Cut
    }

    /// What the kernel enforces once it holds this.
    fn posture(&self) -> Posture {
        if self.cuts() {
            self.plan.posture
        } else {
            Posture::Normal
        }
    }
}

/// What the kernel was last seen to hold.
struct HeldRules {
    ruleset: Arc<Ruleset>,
    /// The generation at which it was read back; `None` when somebody changed something meanwhile.
    generation: Option<u32>,
    /// Uptime at which it was listed.
    listed: Duration,
    posture: Posture,
}

/// The packet filter and what we know of it.
pub(super) struct FilterKeeper<F> {
    kernel: F,
    held: Option<HeldRules>,
    /// The first look of this life found no rule of ours where there should have been some.
    found_bare: bool,
    /// The kernel took rules that cut in the pass under way, whether or not they could be proven.
    took_cutting_rules: bool,
    /// What the kernel was last proven to enforce; `None` when that is not known.
    posture: Option<Posture>,
    layers: Layers,
    barring: Barring,
    last_canary: Option<Duration>,
    standing_by: Option<StandingBy>,
    /// The newest changes of the packet filter.
    changes: VecDeque<FilterChange>,
    reasserted: u64,
    /// That our rules were changed is recorded, and they have not been proven since.
    is_recorded: bool,
    /// Who made our rules to be put back last.
    changed_by: Option<String>,
    tally: Tally,
    news: Vec<Event>,
}

impl<F: PacketFilter> FilterKeeper<F> {
    /// As the journal remembers it; the kernel is not asked yet.
    pub(super) fn restore(kernel: F, journal: &Journal<'_>) -> Self {
        Self {
            kernel,
            held: None,
            found_bare: false,
            took_cutting_rules: false,
            posture: None,
            layers: Layers::default(),
            barring: Barring::default(),
            last_canary: None,
            standing_by: None,
            changes: VecDeque::new(),
            reasserted: 0,
            is_recorded: false,
            changed_by: None,
            tally: Tally::restore(journal.quotas.clone().into_owned()),
            news: Vec::new(),
        }
    }

    /// Lends the journal what it must remember.
    pub(super) fn lend<'a>(&'a self, journal: &mut Journal<'a>) {
        journal.quotas = Cow::Borrowed(&self.tally.kept);
    }

    /// What is worth a record since the last call.
    pub(super) fn take_news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.news)
    }

    /// How often our rules were put back since the agent started.
    pub(super) const fn reasserted(&self) -> u64 {
        self.reasserted
    }

    /// Whether the kernel took rules that cut in the last [`FilterKeeper::bring`], whatever could be proven of them.
    pub(super) const fn took_cutting_rules(&self) -> bool {
        self.took_cutting_rules
    }

    /// Whether something is, or may be, cut.
    pub(super) fn may_cut(&self) -> bool {
        self.posture != Some(Posture::Normal)
    }

    /// What the kernel was last proven to enforce; none while that is not known.
    pub(super) const fn posture(&self) -> Option<Posture> {
        self.posture
    }

    /// Whether the kernel was found without the rules that it should have held, since the last call.
    pub(super) const fn take_found_bare(&mut self) -> bool {
        std::mem::replace(&mut self.found_bare, false)
    }

    /// Which of our tables the kernel has; none when it cannot be asked.
    pub(super) async fn tables(&mut self) -> BTreeSet<Layer> {
        self.kernel.tables().await.unwrap_or_default()
    }

    /// Our tables, and where they differ from `ruleset`; nothing is noted.
    ///
    /// # Errors
    /// The kernel cannot be read.
    pub(super) async fn look(
        &mut self,
        ruleset: &Arc<Ruleset>,
        now: Now,
    ) -> Result<(BTreeSet<Layer>, Vec<String>), Obstacle> {
        let tables = self.kernel.tables().await?;
        let compared = self.kernel.compare(&tables, ruleset, None, now).await?;
        let mut differences = compared.differences;
        if !self.devices_hold(ruleset).await? {
            differences.push("the interfaces whose egress is filtered are other ones".to_owned());
        }
        Ok((tables, differences))
    }

    /// The tables that make this kernel carry out a mission, as far as it is known to take them.
    pub(super) async fn rules(
        &mut self,
        mission: &Mission,
        isolation: &IsolationConfig,
        now: Now,
    ) -> (Arc<Ruleset>, Hooks) {
        let hooks = if mission.plan.is_normal() {
            Hooks::default()
        } else {
            let interfaces = self.kernel.interfaces().await;
            let hooks = self
                .layers
                .hooks(interfaces, isolation, mission.effect, now.uptime);
            Hooks {
                bearers: self.layers.bearers(&mission.plan),
                mark: self.mark(mission),
                ..hooks
            }
        };
        (Arc::new(render(&mission.plan, &hooks, mission.effect)), hooks)
    }

    /// The ways to these addresses. The rules heed the tunnels that there are.
    ///
    /// # Errors
    /// Why they are not known, for people.
    pub(super) async fn ways(&mut self, to: &BTreeSet<IpAddr>) -> Result<Reached, String> {
        let reached = self.kernel.ways(to).await?;
        self.layers.note_tunnels(&reached.tunnels);
        Ok(reached)
    }

    /// Makes the kernel hold the mission and proves it.
    ///
    /// # Errors
    /// What stands in the way. The kernel then holds what it held before (a load is one transaction), or what could not be
    /// proven.
    pub(super) async fn bring(
        &mut self,
        mission: &Mission,
        isolation: &IsolationConfig,
        now: Now,
    ) -> Result<KernelTouch, Vec<Obstacle>> {
        self.took_cutting_rules = false;
        if !mission.cuts() {
            // What may be cut no more must not come back, even where nothing can be loaded at this moment.
            self.kernel.withdraw_standby();
            self.standing_by = None;
        }
        let brought = self.hold_barred(mission, isolation, now).await;
        if brought
            .as_ref()
            .is_err_and(|obstacles| obstacles.iter().any(Obstacle::blinds))
        {
            self.posture = None;
        }
        let mut held = brought?;
        // It may have happened since, and has begun to count anew then.
        if self.note_stood_in(mission) {
            self.is_recorded = false;
            held = KernelTouch::Anew;
        }
        // No transaction, so nothing else shows it.
        if self.note_counted(mission).await {
            self.note_tampering("what our tables have counted was set back");
            let made = self.rules(mission, isolation, now).await;
            self.load(made, mission, isolation, now).await?;
            held = KernelTouch::Anew;
        }
        self.prove(mission, now, held != KernelTouch::AsBefore).await?;
        self.stand_by(mission, now).await;
        Ok(held)
    }

    /// Whether connection tracking has room; asked until it is found to have none.
    async fn note_crowd(&mut self, mission: &Mission) {
        if !mission.cuts() {
            self.layers.forget_crowd();
        } else if !self.layers.is_crowded()
            && let Some(crowd) = self.kernel.crowd().await
        {
            self.layers.note_crowd(crowd);
        }
    }

    /// Whether connection tracking was found crowded since something is cut.
    pub(super) const fn is_crowded(&self) -> bool {
        self.layers.is_crowded()
    }

    async fn hold(
        &mut self,
        mission: &Mission,
        isolation: &IsolationConfig,
        now: Now,
    ) -> Result<KernelTouch, Vec<Obstacle>> {
        let stood_in = self.note_stood_in(mission);
        let touched = self.touched();
        if let Some(what) = &touched {
            self.note_tampering(what);
        }
        self.note_crowd(mission).await;
        let (ruleset, hooks) = self.rules(mission, isolation, now).await;
        if hooks.mark.is_none() {
            self.unbar().await.map_err(one)?;
        }
        let generation = self.kernel.generation().await.map_err(one)?;
        // An interface that leaves takes its hook with it, without any transaction.
        if self.is_untouched(&ruleset, generation, now) && self.devices_hold(&ruleset).await.map_err(one)? {
            // A kernel that did not answer in between has done nothing in between.
            self.is_recorded = false;
            self.posture = self.held.as_ref().map(|held| held.posture);
            return Ok(KernelTouch::AsBefore);
        }
        let keeps = self.keeps_lifelines(&ruleset);
        if let Some(after) = self.change_elements(&ruleset, generation, now).await {
            if let Some(held) = &mut self.held {
                held.ruleset = ruleset;
                held.generation = Some(after);
                self.posture = Some(held.posture);
            }
            return Ok(KernelTouch::of(keeps && !stood_in && touched.is_none()));
        }
        if self.wants_other_rules(&ruleset, generation) {
            // To list first what nobody has touched would only cost time.
            self.posture = self.held.as_ref().map(|held| held.posture);
        } else if self.is_as_held(&ruleset, generation, now).await.map_err(one)? {
            if !stood_in && touched.is_none() {
                return Ok(KernelTouch::AsBefore);
            }
            self.note_applied(&ruleset, mission);
            return Ok(KernelTouch::Anew);
        }
        // Others may have changed theirs since, and ours are found as they were loaded.
        let proven = self.held.as_ref().is_some_and(|held| held.generation.is_some());
        let untouched = proven && !stood_in && touched.is_none();
        let hands = self.reasserted;
        self.load((ruleset, hooks), mission, isolation, now).await?;
        Ok(KernelTouch::of(keeps && untouched && self.reasserted == hands))
    }

    /// Whether what was heard by way of lifelines behind the rules that are held would be heard behind these.
    fn keeps_lifelines(&self, ruleset: &Ruleset) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| ruleset.keeps_lifelines_of(&held.ruleset))
    }

    fn is_untouched(&self, ruleset: &Ruleset, generation: u32, now: Now) -> bool {
        self.held.as_ref().is_some_and(|held| {
            let every = if ruleset.tables.is_empty() {
                TRY_EVERY
            } else {
                LIST_EVERY
            };
            held.generation == Some(generation)
                && held.ruleset.same_structure(ruleset)
                && now.uptime.saturating_sub(held.listed) < every
        }) && self.is_same_order(ruleset, now)
    }

    /// Whether the kernel holds what it was proven to hold, and other rules are wanted.
    fn wants_other_rules(&self, ruleset: &Ruleset, generation: u32) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| held.generation == Some(generation) && !held.ruleset.same_structure(ruleset))
    }

    /// Changes elements alone where that is all that differs; gives the generation afterwards.
    async fn change_elements(&mut self, ruleset: &Arc<Ruleset>, generation: u32, now: Now) -> Option<u32> {
        let held = self.held.as_ref()?;
        if held.generation != Some(generation) || !held.ruleset.same_structure(ruleset) {
            return None;
        }
        let before = held.ruleset.elements.clone().live(now.wall);
        if ruleset.tables.is_empty() || before == ruleset.elements {
            return None;
        }
        let (held, none) = (Arc::clone(&held.ruleset), CarriedCounters::default());
        self.standing_by = None;
        let changed = self.kernel.change(ruleset, &held, &none, generation, now).await;
        if let Err(obstacle) = changed {
            // An element may have ended a moment before the plan's time; the whole load that follows settles it.
            tracing::debug!("elements alone could not be changed: {obstacle}");
            return None;
        }
        let after = self.kernel.generation().await.ok()?;
        (after == generation.wrapping_add(1)).then_some(after)
    }

    /// Lists, and compares with what was loaded; notes tampering.
    ///
    /// # Errors
    /// The kernel cannot be read back, or could not be told anything.
    async fn is_as_held(
        &mut self,
        ruleset: &Arc<Ruleset>,
        generation: u32,
        now: Now,
    ) -> Result<bool, Obstacle> {
        let tables = self.kernel.tables().await?;
        self.found_bare |= self.held.is_none() && tables.is_empty() && !ruleset.tables.is_empty();
        let held = self.held.as_ref().map(|held| Arc::clone(&held.ruleset));
        let compared = self.kernel.compare(&tables, ruleset, held.as_ref(), now);
        let found = match compared.await {
            Ok(found) => found,
            Err(obstacle) => {
                // Nothing can be changed alone of what is not known to be there.
                if let Some(held) = &mut self.held {
                    held.generation = None;
                }
                if obstacle.blinds() {
                    return Err(obstacle);
                }
                // A table that cannot be read may be somebody's way to blind us; the load replaces it whatever it is.
                self.note_tampering(&obstacle.to_string());
                return Ok(false);
            }
        };
        self.posture = self.seen(&tables, found.is_as_before);
        if tables.is_empty() && ruleset.tables.is_empty() {
            // Nothing was listed and nothing will be loaded: nothing has shown yet that an order could be carried out.
            self.try_out(now).await?;
        }
        let same = held.as_ref().is_some_and(|held| held.same_structure(ruleset));
        let known = if held.is_some() {
            same && self.devices_hold(ruleset).await?
        } else {
            ruleset.tables.is_empty()
        };
        let fits = found.differences.is_empty();
        let held = self.held.as_ref();
        let untouched = held.is_none() || found.is_as_before;
        if known && untouched && fits {
            let posture = held.map_or(Posture::Normal, |held| held.posture);
            let unchanged = self.kernel.generation().await.ok() == Some(generation);
            self.held = Some(HeldRules {
                ruleset: Arc::clone(ruleset),
                generation: unchanged.then_some(generation),
                listed: now.uptime,
                posture,
            });
            self.is_recorded = false;
            return Ok(true);
        }
        // Others may have changed theirs: what differs from what was loaded can be changed alone all the same.
        let unchanged = self.kernel.generation().await.ok() == Some(generation);
        if let Some(held) = &mut self.held {
            held.generation = (found.is_before && unchanged).then_some(generation);
        }
        // Elements that were ordered since are missing by nobody's doing.
        let as_ordered = self.is_same_order(ruleset, now);
        if same && !ruleset.tables.is_empty() && (as_ordered || !untouched) {
            self.note_tampering(&found.differences.join("; "));
        }
        Ok(false)
    }

    /// Whether the kernel should hold the elements that it was told to hold last.
    fn is_same_order(&self, ruleset: &Ruleset, now: Now) -> bool {
        self.held.as_ref().is_some_and(|held| {
            let elements = &held.ruleset.elements;
            *elements == ruleset.elements || elements.clone().live(now.wall) == ruleset.elements
        })
    }

    fn note_applied(&mut self, ruleset: &Ruleset, mission: &Mission) {
        self.news.push(Event::Applied {
            plan: mission.plan.id(),
            what: ruleset.summary(),
        });
    }

    /// What a listing proves: no table is no rule of ours, tables are what we loaded only while nobody changed them.
    fn seen(&self, tables: &BTreeSet<Layer>, is_as_before: bool) -> Option<Posture> {
        match &self.held {
            _ if tables.is_empty() => Some(Posture::Normal),
            Some(held) if is_as_before => Some(held.posture),
            _ => None,
        }
    }

    /// Whether the egress chain is on just the interfaces it should be on.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    async fn devices_hold(&mut self, ruleset: &Ruleset) -> Result<bool, Obstacle> {
        let chains = ruleset.tables.iter().flat_map(|table| &table.chains);
        let devices = chains.flat_map(|chain| &chain.devices);
        let wanted: BTreeSet<String> = devices.map(|device| device.name.clone()).in_set();
        Ok(self.kernel.egress_devices().await? == wanted)
    }

    /// What may be said of it, and of the ways that are not kept.
    pub(super) fn show(&self, plan: &Plan, ways: Vec<String>, state: &mut State) {
        state.posture = self.posture;
        (state.blocked, state.would_block) = self.tally.totals();
        state.quotas.clone_from(&self.tally.quotas);
        state.uncovered = self.gaps(plan);
        state.uncovered.extend(ways);
        state.reasserted = self.reasserted;
        state.changed_by.clone_from(&self.changed_by);
    }
}

fn one(obstacle: Obstacle) -> Vec<Obstacle> {
    vec![obstacle]
}

#[cfg(test)]
#[path = "standby_tests.rs"]
mod standby_tests;
