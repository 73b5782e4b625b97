//! The enforcer on a fake machine: random sequences of orders, failures, restarts, reboots, clock steps and losses of the
//! control channel, compared with the reference model.
//!
//! In: how many sequences (`EDGEWARDEN_SEQUENCES`, or a few thousand). Out: nothing, or the shortest sequence after which the
//! enforcer said or did something else than the reference. `cargo xtask bench model` runs a hundred thousand.
//!
//! What holds at every moment, whatever fails: what is said to be proven is so in the kernel, and no two lines of the status
//! page disagree. What holds once nothing fails:
//! orders, posture and every probe are the reference's, the rogue process is frozen or runs as ordered; an owner whose
//! channel only the rules silence is not locked out, and an outage leaves nothing open that is ordered closed.

mod brief;
mod filter;
mod happenings;
mod held;
mod kept;
mod open_window;
mod verdict;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgewarden::agent::enforcer::{Enforcer, EnforcerCommand};
use edgewarden::cli::status_page;
use edgewarden::control::status::Status;
use edgewarden::quarantine::lifelines::lifeline::{Endpoint, Purpose};
use edgewarden::quarantine::orders::order::{Posture, Protocol};
use edgewarden::quarantine::plan::Scope;
use edgewarden::quarantine::proof::obstacle::Obstacle;
use edgewarden::quarantine::proof::standing::Standing;
use edgewarden::quarantine::proof::state::{Phase, State};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::page_rules::disagreements;
use super::reference::{AUTHORITIES, Model, PORTS, REMOTES, Said, Step, address, check, wish};
use happenings::{ChannelLife, Happening, happening};
use verdict::{canary, probes};
use world::{FakeMachine, Shared, WINDOW, World, settings, start};

/// Longest sequence before the machine heals.
const MAX_EVENTS: usize = 12;
/// Tries to find a shorter sequence that fails too.
const MAX_SHRINKS: u32 = 3_000;
/// The operator's place among the authorities.
const OPERATOR: usize = 3;
/// Sequences in the test suite, which runs without optimisation.
const SEQUENCES: u32 = 2_000;
/// What came up in all sequences; a run that never saw anything happen would prove nothing.
#[derive(Debug, Default)]
struct Tally {
    happenings: usize,
    passes: usize,
    phases: BTreeMap<String, usize>,
    obstacles: BTreeMap<String, usize>,
    rule_changes: usize,
    /// Sequences at whose end something was given up that had been tried again.
    tried_again: usize,
}

/// One sequence under way.
struct Run<'a> {
    world: Shared,
    enforcer: Enforcer<FakeMachine>,
    model: Model,
    channel: ChannelLife,
    /// Somebody is there to be asked.
    nucleus: bool,
    /// The phase before the last pass.
    before: Phase,
    /// The enforcer was told that the channel works, and since then it neither died nor was the agent started again: then
    /// only rules of ours can have silenced it.
    known_to_work: bool,
    /// What the channel was seen to work behind, as long as no more is ordered.
    confirmed: Option<Model>,
    /// An order that was told as forgettable was forgotten: what is ordered is not the reference's any more.
    forgotten: bool,
    /// When the operator's order ends by itself.
    ends: Option<Timestamp>,
    wake: Duration,
    /// The first thing that was said and was not so, right after a pass.
    lie: Option<TestCaseError>,
    tally: &'a RefCell<Tally>,
}

impl<'a> Run<'a> {
    async fn new(tally: &'a RefCell<Tally>) -> Self {
        let world = Arc::new(Mutex::new(World::new()));
        let model = Model::default();
        let enforcer = start(&world, &model).await;
        let mut run = Self {
            world,
            enforcer,
            model,
            channel: ChannelLife::Alive,
            nucleus: true,
            before: Phase::Released,
            known_to_work: false,
            confirmed: None,
            forgotten: false,
            ends: None,
            wake: Duration::ZERO,
            lie: None,
            tally,
        };
        run.obey(vec![endpoint()]).await;
        run
    }

    fn is_healthy(&self) -> bool {
        self.world.lock().unwrap().is_healthy()
    }

    /// Whether a question to the shadow service is answered now.
    fn channel_works(&self) -> bool {
        match self.channel {
            _ if !self.nucleus => false,
            ChannelLife::Alive => true,
            ChannelLife::CutByRules => {
                let world = self.world.lock().unwrap();
                world.kernel.passes(canary(), world.now().wall)
            }
            ChannelLife::Dead => false,
        }
    }

    /// Carries out commands, with what the channel says meanwhile and what the kernel tells of other hands.
    async fn obey(&mut self, mut commands: Vec<EnforcerCommand>) {
        if self.channel_works() {
            self.known_to_work = true;
            let world = self.world.lock().unwrap();
            commands.push(EnforcerCommand::ServiceTime(world.time));
            commands.push(EnforcerCommand::RoundTrip { sent: world.uptime });
        } else {
            // Not if what it had worked behind is in force: whatever comes with the silence has not made it.
            self.known_to_work &= !self.enforcer.standing().was_confirmed();
            commands.push(EnforcerCommand::Channel {
                works: false,
                nucleus: self.nucleus,
            });
        }
        let mut before = self.world.lock().unwrap().kernel.generation;
        for _ in 0..8 {
            self.wake = self.enforcer.obey(std::mem::take(&mut commands)).await;
            self.tally.borrow_mut().passes += 1;
            let is_edited = std::mem::take(&mut self.world.lock().unwrap().kernel.is_edited);
            if !is_edited && self.lie.is_none() {
                self.lie = self.is_truthful().err();
            }
            self.note_end();
            let held = self.holds_what_was_confirmed();
            self.lie = self.lie.take().or(held.err());
            let blames = self.blames_nobodys_silence();
            self.lie = self.lie.take().or(blames.err());
            // The kernel tells of every transaction, of ours too.
            let after = self.world.lock().unwrap().kernel.generation;
            if after == before {
                break;
            }
            before = after;
            let told = self.world.lock().unwrap().kernel.told.take();
            commands = vec![EnforcerCommand::KernelChanged(told)];
        }
    }

    async fn pass(&mut self, seconds: u64) {
        let end = self.world.lock().unwrap().uptime + Duration::from_secs(seconds);
        loop {
            let left = end.saturating_sub(self.world.lock().unwrap().uptime);
            // A turn at the very end wants its next pass at once.
            if left.is_zero() && !self.wake.is_zero() {
                return;
            }
            // A second at least while there is nothing to do at once: questions are asked once a second.
            let step = if self.wake.is_zero() {
                Duration::from_millis(1)
            } else {
                self.wake.max(Duration::from_secs(1))
            };
            let step = if left.is_zero() { step } else { step.min(left) };
            self.world.lock().unwrap().pass(step);
            self.obey(Vec::new()).await;
        }
    }

    async fn restart(&mut self) {
        let obstacles = &self.enforcer.state().obstacles;
        let told = |obstacle| matches!(obstacle, &Obstacle::JournalNotWritten { .. });
        self.forgotten |= obstacles.iter().any(told);
        self.known_to_work = false;
        {
            let mut world = self.world.lock().unwrap();
            world.late_journal = None;
            world.kernel.restarts();
        }
        self.enforcer = start(&self.world, &self.model).await;
        self.obey(vec![endpoint()]).await;
    }

    async fn happens(&mut self, happening: &Happening) {
        self.tally.borrow_mut().happenings += 1;
        match happening {
            Happening::Step(step) => self.take(step).await,
            Happening::Fails(failure, times) => self.world.lock().unwrap().will_fail(*failure, *times),
            Happening::Passes(seconds) => self.pass(u64::from(*seconds)).await,
            Happening::Brief(seconds) => self.isolate_briefly(*seconds).await,
            Happening::Channel(life) => {
                self.known_to_work &= *life != ChannelLife::Dead;
                self.channel = *life;
            }
            Happening::Nucleus(there) => {
                // How long it is away nobody counts here.
                self.known_to_work &= *there;
                self.nucleus = *there;
            }
            Happening::ClockSteps(seconds) => {
                self.world.lock().unwrap().ahead += SignedDuration::from_secs(i64::from(*seconds));
            }
            Happening::Reboot => {
                self.world.lock().unwrap().reboot();
                self.restart().await;
            }
            Happening::Layers { egress, bridge } => {
                let mut world = self.world.lock().unwrap();
                (world.lacks_egress, world.lacks_bridge) = (!egress, !bridge);
            }
            Happening::BridgeReplaced => {
                self.world.lock().unwrap().bridge_index += 1;
                self.obey(vec![EnforcerCommand::LinksChanged]).await;
            }
        }
    }

    async fn take(&mut self, step: &Step) {
        self.model.take(step);
        let replaces = |said: &Said| !matches!(said, Said::Invalid | Said::Expired);
        let is_replaced = matches!(step, Step::Says(OPERATOR, said) if replaces(said));
        if is_replaced || !self.model.live.contains_key(&OPERATOR) {
            self.ends = None;
        }
        let now = self.world.lock().unwrap().time;
        let command = match step {
            Step::Says(who, said) => wish(*who, said, now),
            Step::Repeats(who) => wish(*who, &self.model.last(*who), now),
            Step::Override => EnforcerCommand::Override { reason: "r".into() },
            Step::WithoutNucleus => EnforcerCommand::ReleaseWithoutNucleus { why: "w".into() },
            Step::Observe(_) | Step::Standing(_) => {
                EnforcerCommand::Settings(Box::new(settings(&self.model)))
            }
            Step::Addresses => endpoint(),
            Step::OtherHand(edit) => {
                let kernel = &mut self.world.lock().unwrap().kernel;
                kernel.other_hand(*edit);
                EnforcerCommand::KernelChanged(kernel.told.take())
            }
            Step::Restart => return self.restart().await,
        };
        self.obey(vec![command]).await;
    }

    /// What holds at every moment: nothing is said that the kernel does not do.
    fn is_truthful(&self) -> Result<(), TestCaseError> {
        let state = self.enforcer.state();
        let mut tally = self.tally.borrow_mut();
        *tally.phases.entry(format!("{:?}", state.phase)).or_default() += 1;
        for obstacle in &state.obstacles {
            let kind = serde_json::to_value(obstacle).unwrap()["kind"].to_string();
            *tally.obstacles.entry(kind).or_default() += 1;
        }
        let world = self.world.lock().unwrap();
        let now = world.now().wall;
        match state.posture {
            None => {}
            Some(Posture::Normal) => {
                for to in probes() {
                    prop_assert!(
                        world.kernel.passes(to, now),
                        "said to be open, and {} is cut: {:?}",
                        to,
                        state
                    );
                }
            }
            Some(Posture::Restrict) => prop_assert!(world.kernel.has_tables(), "{:?}", state),
            Some(Posture::Isolate) => {
                prop_assert!(
                    !world.kernel.passes(canary(), now),
                    "said to be isolated: {:?}",
                    state
                );
            }
        }
        let mut status = Status {
            enforcement: state.clone(),
            ..Status::default()
        };
        status.cloud.channel_works = self.known_to_work;
        let page = status_page(&status, now);
        prop_assert_eq!(disagreements(&page), Vec::<String>::new());
        let claims = matches!(state.phase, Phase::Enforced | Phase::Provisional);
        prop_assert!(!claims || state.posture == Some(state.wanted), "{:?}", state);
        Ok(())
    }

    fn orders_are_the_references(&self) -> Result<(), TestCaseError> {
        let state = self.enforcer.state();
        if self.forgotten {
            return Ok(());
        }
        let orders = state.orders.iter();
        let live = orders.filter_map(|order| AUTHORITIES.iter().position(|who| *who == order.authority));
        let live: BTreeSet<usize> = live.collect();
        prop_assert_eq!(
            live,
            self.model.live.keys().copied().collect(),
            "live orders: {:?}",
            state
        );
        prop_assert_eq!(state.wanted, self.model.posture());
        Ok(())
    }

    /// Nobody stays frozen whom nothing orders to be, whatever became of the journal.
    fn nobody_is_left_frozen(&self) -> Result<(), TestCaseError> {
        let state = self.enforcer.state();
        let frozen = self.world.lock().unwrap().rogue_frozen;
        let may_be = state.posture == Some(Posture::Isolate);
        prop_assert!(!frozen || may_be, "left frozen: {:?}", state);
        prop_assert_eq!(frozen, !state.stopped.is_empty(), "said of it: {:?}", state);
        Ok(())
    }

    /// What holds while nothing fails and nothing is given up: the kernel and the processes are as the reference says.
    fn world_is_the_references(&self, state: &State) -> Result<(), TestCaseError> {
        if self.forgotten {
            return Ok(());
        }
        let posture = if self.model.observe {
            Posture::Normal
        } else {
            self.model.posture()
        };
        prop_assert_eq!(state.posture, Some(posture), "{:?}", state);
        let world = self.world.lock().unwrap();
        let now = world.now().wall;
        for (remote, _) in REMOTES.iter().enumerate() {
            for (port, number) in PORTS.iter().enumerate() {
                let to = SocketAddr::new(address(remote).parse().unwrap(), *number);
                let passes = world.kernel.passes(to, now);
                prop_assert_eq!(passes, self.model.passes(remote, port), "{} {:?}", to, self.model);
            }
        }
        prop_assert_eq!(
            world.rogue_frozen,
            posture == Posture::Isolate,
            "the rogue process: {:?}",
            state
        );
        let faults = state.faults.iter().filter(|fault| !fault.contains("clock"));
        prop_assert_eq!(faults.count(), 0, "{:?}", state.faults);
        Ok(())
    }

    /// The end: nothing fails any more, and time passes.
    async fn ends_well(&mut self) -> Result<(), TestCaseError> {
        self.world.lock().unwrap().heals();
        self.nucleus = true;
        // What ends by itself would begin another trial in the middle of what is waited for.
        if self.ends.is_some() {
            self.take(&Step::Says(OPERATOR, Said::Release)).await;
        }
        self.obey(vec![EnforcerCommand::KernelChanged(None)]).await;
        // What failed is tried again after two seconds; a refused layer is believed for ten minutes, and told.
        self.pass(4).await;
        self.is_truthful()?;
        self.orders_are_the_references()?;
        if self.channel != ChannelLife::Alive {
            // Two windows, four after a release, and the second in which each is noticed.
            self.pass(7 * WINDOW.as_secs() + 5).await;
            self.is_truthful()?;
        }
        self.comes_to_an_open_window().await?;
        self.is_widened_in_the_end().await?;
        self.nobody_is_left_frozen()?;
        let state = self.enforcer.state().clone();
        match self.enforcer.standing() {
            // What was confirmed once is held, behind wide lines.
            Standing::Trying { late: true, .. } => {
                prop_assert!(
                    self.channel == ChannelLife::Alive
                        || state.scope == Scope::Wide
                        // It has no wide lines.
                        || state.wanted == Posture::Restrict,
                    "{:?}",
                    state
                );
            }
            Standing::Trying {
                channel_worked: true, ..
            } => prop_assert!(self.channel == ChannelLife::Alive, "locked out: {:?}", state),
            Standing::GivenUp { release, .. } => {
                let is_wanted = !self.model.observe && !self.model.live.is_empty() && !self.forgotten;
                let stays_open = is_wanted && !release.proven && self.channel == ChannelLife::Dead;
                self.tally.borrow_mut().tried_again += usize::from(release.times > 1);
                prop_assert!(!stays_open, "open for good: {:?}", state);
                return Ok(());
            }
            Standing::Open | Standing::Trying { .. } | Standing::Confirmed { .. } => {}
        }
        self.world_is_the_references(&state)?;
        if self.channel == ChannelLife::Alive {
            self.settles().await?;
        }
        Ok(())
    }
}

/// The control channel's address.
fn endpoint() -> EnforcerCommand {
    EnforcerCommand::Connected(vec![Endpoint {
        purpose: Purpose::DataEndpoint,
        address: "198.51.100.50".parse().unwrap(),
        protocol: Protocol::Tcp,
        port: 8883,
    }])
}

async fn sequence(happenings: &[Happening], tally: &RefCell<Tally>) -> Result<(), TestCaseError> {
    let mut run = Run::new(tally).await;
    for happening in happenings {
        run.happens(happening).await;
        if let Some(lie) = run.lie.take() {
            return Err(lie);
        }
        run.is_truthful()?;
        if run.is_healthy() && run.channel == ChannelLife::Alive && run.nucleus {
            run.orders_are_the_references()?;
        }
    }
    run.ends_well().await?;
    let rule_changes = run.world.lock().unwrap().kernel.rule_changes;
    tally.borrow_mut().rule_changes += rule_changes;
    Ok(())
}

/// The number of sequences, split over two threads.
fn wanted() -> u32 {
    let text = std::env::var("EDGEWARDEN_SEQUENCES").ok();
    text.map_or(SEQUENCES, |text| text.parse().unwrap())
}

/// Runs that many random sequences; gives what came up.
fn sequences(count: u32) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let tally = RefCell::new(Tally::default());
    let happenings = proptest::collection::vec(happening(), 1..=MAX_EVENTS);
    check(count, MAX_SHRINKS, &happenings, |happenings| {
        runtime.block_on(sequence(&happenings, &tally))
    });
    tally.into_inner()
}

#[test]
fn random_orders_and_failures_do_what_the_model_says() {
    let count = wanted();
    let halves = [count / 2, count - count / 2].map(|half| std::thread::spawn(move || sequences(half)));
    for half in halves {
        let tally = half.join().unwrap();
        println!("{tally:?}");
        for phase in [
            "Released",
            "Provisional",
            "Enforced",
            "Failed",
            "RolledBack",
            "Observed",
        ] {
            assert!(
                tally.phases.contains_key(phase),
                "control: no sequence came to {phase}: {tally:?}"
            );
        }
        assert!(tally.obstacles.len() >= 9, "control: {tally:?}");
        assert!(tally.rule_changes > 0, "control: {tally:?}");
        assert!(tally.tried_again > 0, "control: {tally:?}");
    }
}
