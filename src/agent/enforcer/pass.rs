//! One pass: the kernel, the processes and what is said of them are brought to what the orders want.

use std::borrow::Cow;
use std::time::Duration;

use tokio::task::yield_now;

use super::Enforcer;
use super::filter::{KernelTouch, Mission};
use crate::config::Mode;
use crate::moment::Now;
use crate::quarantine::history::Event;
use crate::quarantine::lifelines::told::{LifelineNews, missing};
use crate::quarantine::orders::order::{Order, Posture};
use crate::quarantine::plan::{FoldedRemotes, Plan, Scope, fold, fold_again};
use crate::quarantine::ports::{Bypasses, Clock, HistoryStore, Machine, SparedSockets};
use crate::quarantine::proof::journal::{HeldPosture, Journal};
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::standing::{Carried, Look, Turn};
use crate::quarantine::proof::state::{Phase, State};
use crate::quarantine::ruleset::CutAction;

/// How often a device that is cut off is checked besides every change event: for changes whose event was lost.
const CHECK_CUT: Duration = Duration::from_secs(5);
/// The same while a plan waits for its confirmation, or has a quota: what was
/// used since the last look is lost when somebody deletes the table.
const CHECK_CLOSELY: Duration = Duration::from_secs(1);
/// How often a free device is checked for a table that should not be there.
const CHECK_FREE: Duration = Duration::from_secs(60);
/// How often what failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

impl<M: Machine> Enforcer<M> {
    /// Brings everything to what the orders want and says how it went; gives how long until the next pass is wanted.
    pub(super) async fn pass(&mut self) -> Duration {
        self.count_lived();
        let now = self.now();
        self.orders.expire(now);
        self.look_for_ways(now).await;
        let wanted = self.wanted(now);
        // Each of these steps takes some milliseconds with a hundred thousand remotes: others get a turn between them.
        yield_now().await;
        let mission = self.mission(&wanted, now);
        let held_back = self.held_back(&wanted, &mission);
        let raw = self.clock.now();
        self.note_news(raw);
        self.history
            .note_plan(raw, &wanted, self.orders.orders(), held_back);
        yield_now().await;
        // Of three tries to save, the last one tells.
        let _told_below = self.save().await;
        let denied = self.denied.clone().map(|what| Obstacle::NotAllowed { what });
        let mut obstacles: Vec<Obstacle> = self.doubted_clock().into_iter().chain(denied).collect();
        let brought = self.filter.bring(&mission, &self.settings.isolation, now).await;
        self.note_news(self.clock.now());
        self.history
            .note_proof(self.clock.now(), &mission.plan, brought.is_ok());
        let proven = brought.is_ok();
        self.note_held(now);
        // While it is not known what the kernel holds, what was taken stays taken.
        if let Some(posture) = self.filter.posture() {
            self.bypasses.guard(posture != Posture::Normal);
        }
        match brought {
            Ok(held) => {
                self.standing
                    .on_loaded(held == KernelTouch::Anew, self.clock.now().uptime);
                if held == KernelTouch::Anew {
                    self.ways.doubt_next_hops();
                }
                self.note_lifelines(&mission);
                self.sever(&mission).await;
                self.meet_next_hops(&mission, now).await;
            }
            Err(found) => {
                if self.filter.took_cutting_rules() {
                    self.standing.on_closed(self.clock.now().uptime);
                }
                obstacles.extend(found);
            }
        }
        obstacles.extend(self.bring_processes(&mission.plan, now).await);
        if proven && self.rounds.take_caught_up() {
            self.standing.on_loaded(true, self.clock.now().uptime);
        }
        obstacles.extend(self.save().await.err());
        let phase = self.phase(&wanted, &mission, proven);
        self.say(phase, &wanted, &mission, obstacles, now);
        let wake = self.judge(&wanted, &mission, proven).await;
        self.planned = Some((self.clock.now().uptime, wake));
        wake
    }

    /// Leaves out of all windows the time in which nobody looked although somebody should have: a stopped agent, a suspended
    /// device, a thread without its turns, or a pass that hung. None of that is silence of the control channel.
    fn count_lived(&mut self) {
        let now = self.clock.now().uptime;
        let Some((since, planned)) = self.planned.take() else {
            return;
        };
        let longest = planned.max(CHECK_CLOSELY).saturating_mul(2);
        let lost = now.saturating_sub(since).saturating_sub(longest);
        if !lost.is_zero() {
            tracing::debug!(?lost, "nobody looked for a while: that time counts for nothing");
            self.standing.on_stall(lost, now);
        }
    }

    /// What the orders want, which confirm-or-roll-back hears of and draws the lines for.
    pub(super) fn wanted(&mut self, now: Now) -> Plan {
        let mut folded = std::mem::take(&mut self.folded);
        let mut plan = self.plan_like(&mut folded, self.orders.orders(), now);
        self.folded = folded;
        let cuts = self.would_cut(&plan);
        if !cuts && self.standing.vouches() {
            self.channel.note_opened(now);
        }
        let works = self.channel.works_lately(now);
        self.standing.on_plan(
            Carried {
                plan: &plan.id(),
                cuts,
                spares_channel: plan.lifelines.data_endpoint,
                unresolved: self.unresolved(),
                cutting: plan.cutting(),
            },
            works,
        );
        if self.channel.is_alone() {
            self.standing.on_silence(false, now.uptime);
        }
        plan.scope = self.standing.scope(&plan.id(), self.unresolved());
        plan
    }

    /// Whether carrying a plan out cuts anything.
    fn would_cut(&self, plan: &Plan) -> bool {
        !plan.is_normal() && self.settings.mode == Mode::Enforce
    }

    /// What these orders want, drawn as it stands.
    pub(super) fn plan_of(&self, orders: &[Order], now: Now) -> Plan {
        self.plan_like(&mut FoldedRemotes::default(), orders, now)
    }

    fn plan_like(&self, last: &mut FoldedRemotes, orders: &[Order], now: Now) -> Plan {
        let settings = &self.settings.isolation.settings;
        let endpoints = self.addresses.endpoints();
        let mut plan = fold_again(last, orders, settings, endpoints, Scope::Pinned, now.wall);
        plan.scope = self.standing.scope(&plan.id(), self.unresolved());
        plan.ways = self.ways.ties();
        plan.nucleus_alone = self.addresses.of_the_nucleus_alone();
        plan.nucleus_users.clone_from(&self.nucleus_users);
        plan
    }

    /// Whether the control channel's lifeline has no address to be pinned to.
    fn unresolved(&self) -> bool {
        let wanted = self.settings.isolation.settings.lifelines.data_endpoint;
        wanted && !self.addresses.knows_data_endpoint()
    }

    /// What is really carried out: a plan that was given up is not, in mode observe it only counts.
    pub(super) fn mission(&self, wanted: &Plan, now: Now) -> Mission {
        if self.settings.mode == Mode::Observe {
            let mut plan = wanted.clone();
            plan.processes.clear();
            let effect = CutAction::Count;
            return Mission { plan, effect };
        }
        let plan = if self.standing.gave_up(&wanted.id()).is_some() {
            let settings = &self.settings.isolation.settings;
            fold(&[], settings, Vec::new(), Scope::Pinned, now.wall)
        } else {
            wanted.clone()
        };
        let effect = CutAction::Cut;
        Mission { plan, effect }
    }

    fn held_back(&self, wanted: &Plan, mission: &Mission) -> Option<&'static str> {
        (!mission.cuts() && !wanted.is_normal()).then_some(match mission.effect {
            CutAction::Count => "mode observe",
            CutAction::Cut => "it was given up",
        })
    }

    /// Told only when an order ends by it.
    fn doubted_clock(&self) -> Option<Obstacle> {
        let ends = self.orders.orders().iter().any(|order| order.expires.is_some());
        let doubt = self.trusted_clock.doubt(self.clock.now()).filter(|_| ends);
        doubt.map(|how| Obstacle::ClockDoubted { how })
    }

    /// Writes the journal if it changed.
    ///
    /// # Errors
    /// What is enforced then does not survive a restart.
    pub(super) async fn save(&mut self) -> Result<(), Obstacle> {
        let mut journal = Journal {
            standing: Cow::Borrowed(&self.standing),
            addresses: Cow::Borrowed(&self.addresses),
            nucleus_users: Cow::Borrowed(&self.nucleus_users),
            clock: Some(self.trusted_clock.keep(self.clock.now())),
            held: self.held,
            ..Journal::default()
        };
        self.orders.lend(&mut journal);
        self.filter.lend(&mut journal);
        self.rounds.lend(&mut journal);
        self.journal.save(journal).await
    }

    /// Remembers since when the kernel holds what it holds; what is not known changes nothing.
    fn note_held(&mut self, now: Now) {
        if self.filter.take_found_bare() && self.is_same_boot {
            self.held = None;
        }
        self.held = match self.filter.posture() {
            None => self.held,
            Some(Posture::Normal) => None,
            Some(posture) => {
                let since = now.wall;
                let same = self.held.filter(|held| held.posture == posture);
                same.or(Some(HeldPosture { posture, since }))
            }
        };
    }

    /// Has what the parts did recorded.
    pub(super) fn note_news(&mut self, then: Now) {
        let news = self.orders.take_news().into_iter();
        let news = news.chain(self.filter.take_news()).chain(self.rounds.take_news());
        news.for_each(|event| self.history.note(then, event));
    }

    /// Has recorded who passes, and who says so.
    fn note_lifelines(&mut self, mission: &Mission) {
        if !mission.cuts() || mission.plan.posture != Posture::Isolate {
            self.told_lifelines.rest();
            return;
        }
        let then = self.clock.now();
        let news = self.told_lifelines.news(&self.addresses.addresses(), then.uptime);
        for LifelineNews { opened, closed } in news {
            self.history.note(then, Event::Lifelines { opened, closed });
        }
    }

    async fn sever(&mut self, mission: &Mission) {
        if !mission.cuts() {
            self.severing.rest();
            return;
        }
        let spared = SparedSockets {
            nucleus: self.settings.nucleus,
            executables: self.settings.isolation.protected.clone(),
        };
        if self.filter.is_crowded() {
            self.severing.forget(&mission.plan, self.filter.reasserted());
        }
        self.severing
            .sever(&mission.plan, self.filter.reasserted(), &spared)
            .await;
        let settings = &self.settings.isolation.settings;
        let orders = self.orders.orders();
        self.severing
            .attribute(orders, settings, self.clock.now().wall)
            .await;
    }

    fn phase(&self, wanted: &Plan, mission: &Mission, proven: bool) -> Phase {
        let confirmed = self.standing.confirms(&mission.plan.id());
        match (wanted.is_normal(), mission.cuts(), proven) {
            (_, _, false) => Phase::Failed,
            (true, _, true) => Phase::Released,
            (false, false, true) if mission.effect == CutAction::Count => Phase::Observed,
            (false, false, true) => Phase::RolledBack,
            (false, true, true) if confirmed => Phase::Enforced,
            (false, true, true) => Phase::Provisional,
        }
    }

    fn say(&mut self, phase: Phase, wanted: &Plan, mission: &Mission, obstacles: Vec<Obstacle>, now: Now) {
        let plan = &mission.plan;
        let id = wanted.id();
        let to_cut = self.would_cut(wanted).then_some(&id);
        let mut state = State {
            phase,
            wanted: wanted.posture,
            since: self.state.since,
            verified_at: self.state.verified_at,
            plan: (!plan.is_normal()).then(|| plan.id()),
            scope: plan.drawn(),
            rolled_back: self.standing.release().cloned(),
            coming: self
                .standing
                .coming(to_cut, self.settings.isolation.confirm, now)
                .filter(|_| !self.settings.isolation.hold_in_silence),
            history: self.state.history.clone(),
            history_fault: self.state.history_fault.clone(),
            lifelines: self.addresses.addresses(),
            ..State::default()
        };
        let on = &self.settings.isolation.settings.lifelines;
        state.missing_lifelines = missing(on, &state.lifelines);
        for obstacle in obstacles {
            if !state.obstacles.contains(&obstacle) {
                state.faults.push(obstacle.to_string());
                state.obstacles.push(obstacle);
            }
        }
        self.orders.show(&mut state);
        self.filter.show(plan, self.ways.gaps(plan), &mut state);
        state.uncovered.extend(self.found_beside(plan));
        self.rounds.show(&mut state);
        self.severing.show(self.orders.orders(), &mut state);
        if phase != Phase::Failed {
            state.verified_at = Some(now.wall);
        }
        let posture = state.posture;
        if posture != self.state.posture || state.since.is_none() {
            let held = self.held.filter(|_| posture.is_some());
            state.since = Some(held.map_or(now.wall, |held| held.since));
        }
        if phase != self.state.phase || posture != self.state.posture || state.plan != self.state.plan {
            tracing::info!(?phase, ?posture, wanted = %wanted.posture, "enforcement changed");
        }
        let is_new = |obstacle: &&Obstacle| !self.state.obstacles.contains(obstacle);
        let news: Vec<String> = state
            .obstacles
            .iter()
            .filter(is_new)
            .map(ToString::to_string)
            .collect();
        for fault in &news {
            tracing::error!("enforcement: {fault}");
        }
        if !news.is_empty() {
            self.history
                .note(self.clock.now(), Event::Failed { faults: news });
        }
        self.state = state;
        self.mailbox.publish(self.state.clone());
    }

    /// What passes the rules by, and what they cut besides: each a sentence.
    fn found_beside(&self, plan: &Plan) -> Vec<String> {
        let mut found = self.bypasses.found().to_vec();
        found.extend(self.ways.cut_tunnels(plan, &self.standing));
        found
    }

    /// Confirms, widens, gives up or puts back; gives how long until the next pass is wanted, at once after such a turn.
    async fn judge(&mut self, wanted: &Plan, mission: &Mission, proven: bool) -> Duration {
        let now = self.now();
        let id = wanted.id();
        let look = Look {
            holds: proven && mission.cuts() && !self.rounds.holds_back(now),
            wanted: self.would_cut(wanted).then_some(&id),
            window: self.settings.isolation.confirm,
            hold: self.settings.isolation.hold_in_silence,
            now,
        };
        let Some(turn) = self.standing.tick(look) else {
            return self.wake(now);
        };
        let event = match turn {
            Turn::Confirmed(plan) => {
                tracing::info!(%plan, "the control channel works through the closed firewall: confirmed");
                self.history.note(self.clock.now(), Event::Confirmed { plan });
                let mut obstacles = self.state.obstacles.clone();
                obstacles.extend(self.save().await.err());
                self.say(Phase::Enforced, wanted, mission, obstacles, now);
                return self.wake(now);
            }
            Turn::Widened(plan) if !wanted.cutting().has_wide_lines() => {
                tracing::warn!(%plan, "the control channel is silent behind a restriction, which has no wider lifelines");
                None
            }
            Turn::Narrowed(plan) if !wanted.cutting().has_wide_lines() => {
                tracing::info!(%plan, "the control channel works behind the restriction again");
                None
            }
            Turn::Widened(plan) => {
                tracing::warn!(%plan, "the control channel is silent behind the rules: widening the lifelines");
                Some(Event::Widened { plan })
            }
            Turn::GaveUp(plan, why) => {
                tracing::error!(%plan, "rolled back: {why}");
                Some(Event::RolledBack { plan, why })
            }
            Turn::PutBack(plan) => {
                tracing::warn!(%plan, "the control channel is as silent without the rules: they are put back");
                None
            }
            Turn::TriedAgain(plan) => {
                tracing::warn!(%plan, "the control channel came back without the rules: they are tried again");
                None
            }
            Turn::Narrowed(plan) => {
                tracing::info!(%plan, "the control channel works behind wider lifelines: they are pinned again");
                None
            }
        };
        if let Some(event) = event {
            self.history.note(self.clock.now(), event);
        }
        Duration::ZERO
    }

    /// When the parts want to be looked at again.
    fn wake(&self, now: Now) -> Duration {
        let check = match self.state.phase {
            Phase::Failed => RETRY,
            Phase::Observed | Phase::RolledBack => CHECK_CUT,
            _ if !self.filter.may_cut() => CHECK_FREE,
            Phase::Provisional => CHECK_CLOSELY,
            _ if self.filter.spends_quota() => CHECK_CLOSELY,
            _ => CHECK_CUT,
        };
        let check = self.rounds.due(now).map_or(check, |due| due.min(check));
        let obstacles = self.state.obstacles.iter();
        // What only others can mend is not looked at more often.
        let of_others = |obstacle: &&Obstacle| {
            matches!(
                obstacle,
                Obstacle::ClockDoubted { .. } | Obstacle::NotAllowed { .. }
            )
        };
        let retry = obstacles.filter(|obstacle| !of_others(obstacle));
        let check = retry.fold(check, |check, _| check.min(RETRY));
        self.orders.next_end(now).map_or(check, |end| end.min(check))
    }
}
