//! The fake machine: time, boots, the kernel, the disk, the processes, and which of them fails next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgewarden::agent::configuration;
use edgewarden::agent::enforcer::{Enforcer, EnforcerSettings, mailbox};
use edgewarden::moment::Now;
use edgewarden::observe::decode::LinkKind;
use edgewarden::observe::interval::Counters;
use edgewarden::observe::link::Link;
use edgewarden::observe::way::InterfaceKind;
use edgewarden::process::{Process, ProcessId};
use edgewarden::quarantine::history::Event;
use edgewarden::quarantine::lifelines::ways::{InterfaceName, Way};
use edgewarden::quarantine::orders::order::{Order, ProcessAction, ProcessMatch, ProcessRule};
use edgewarden::quarantine::orders::trusted_time::TimeBeside;
use edgewarden::quarantine::plan::Plan;
use edgewarden::quarantine::plan::processes::{Candidate, NucleusTrace, OneAbove, PathsMeant};
use edgewarden::quarantine::ports::{
    Chase, Chased, Clock, Doing, FoundFrozen, HistoryStore, JournalStore, Machine, Parts, Processes,
    RanAbove, Signal, SignalFailure, Sockets, SocketsClosed, SparedSockets, WriteOutcome,
};
use edgewarden::quarantine::proof::journal::{self, Journal, Understood};
use edgewarden::quarantine::proof::obstacle::Obstacle;
use edgewarden::quarantine::proof::state::HistoryEnd;
use jiff::{SignedDuration, Timestamp};

use super::filter::{FakeFilter, FakeKernel};
use crate::reference::{Model, config};

/// How long the control channel may be silent.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// What can go wrong; each as often as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// The kernel's packet filter does not answer.
    Silent,
    /// Our tables cannot be listed.
    Unlistable,
    /// A load is not permitted.
    NotPermitted,
    /// A load is refused.
    Refused,
    /// A load is done, and told as failed.
    HalfReported,
    /// Somebody else changes something of their own right after our load: a generation is skipped.
    Elsewhere,
    /// Somebody rewrites a rule of ours right after our load, and keeps its comment.
    EditedAfterLoad,
    /// Somebody edits our table right after it was listed.
    EditedWhileRead,
    /// The canary leaves although it must not.
    CanaryLeaves,
    /// The journal is not written.
    JournalFails,
    /// The disk does not answer: the journal is written later, or lost by a crash before that.
    JournalLate,
    /// The processes cannot be listed.
    NoProcesses,
    /// A signal is refused.
    SignalRefused,
    /// The table of connection tracking is full at a look.
    Crowded,
}

impl Failure {
    pub(super) const ALL: [Self; 14] = [
        Self::Silent,
        Self::Unlistable,
        Self::NotPermitted,
        Self::Refused,
        Self::HalfReported,
        Self::Elsewhere,
        Self::EditedAfterLoad,
        Self::EditedWhileRead,
        Self::CanaryLeaves,
        Self::JournalFails,
        Self::JournalLate,
        Self::NoProcesses,
        Self::SignalRefused,
        Self::Crowded,
    ];
}

/// Everything outside the enforcer.
pub(super) struct World {
    pub(super) uptime: Duration,
    /// What time it really is.
    pub(super) time: Timestamp,
    /// How far the wall clock is ahead.
    pub(super) ahead: SignedDuration,
    boot: u32,
    pub(super) kernel: FakeKernel,
    pub(super) lacks_egress: bool,
    pub(super) lacks_bridge: bool,
    /// Another one when the bridge was replaced.
    pub(super) bridge_index: u32,
    failures: BTreeMap<Failure, u8>,
    pub(super) journal: Option<Vec<u8>>,
    /// What the disk has taken and not written yet; a crash loses it.
    pub(super) late_journal: Option<Vec<u8>>,
    /// Beside the journal.
    kept_time: Option<TimeBeside>,
    /// Whether the only other process is stopped.
    pub(super) rogue_frozen: bool,
}

/// The world, shared by the parts of the machine and the run.
pub(super) type Shared = Arc<Mutex<World>>;

impl World {
    pub(super) fn new() -> Self {
        Self {
            uptime: Duration::from_secs(1_000),
            time: Timestamp::from_second(1_800_000_000).unwrap(),
            ahead: SignedDuration::ZERO,
            boot: 1,
            kernel: FakeKernel::default(),
            lacks_egress: false,
            lacks_bridge: false,
            bridge_index: 3,
            failures: BTreeMap::new(),
            journal: None,
            late_journal: None,
            kept_time: None,
            rogue_frozen: false,
        }
    }

    pub(super) fn now(&self) -> Now {
        Now {
            wall: self.time + self.ahead,
            uptime: self.uptime,
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.uptime += time;
        self.time += time;
    }

    /// Power is lost: what was only in the kernel is gone.
    pub(super) fn reboot(&mut self) {
        self.kernel = FakeKernel::default();
        self.uptime = Duration::from_secs(10);
        self.boot += 1;
        self.rogue_frozen = false;
    }

    pub(super) fn will_fail(&mut self, failure: Failure, times: u8) {
        self.failures.insert(failure, times);
    }

    pub(super) fn heals(&mut self) {
        self.failures.clear();
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.failures.is_empty()
    }

    /// Whether this fails now; counts down.
    pub(super) fn fails(&mut self, failure: Failure) -> bool {
        let Some(times) = self.failures.get_mut(&failure) else {
            return false;
        };
        *times -= 1;
        if *times == 0 {
            self.failures.remove(&failure);
        }
        true
    }
}

/// The machine of a [`World`].
pub(super) struct FakeMachine(pub(super) Shared);

impl Machine for FakeMachine {
    type Filter = FakeFilter;
    type Processes = FakeProcesses;
    type Sockets = NoSockets;
    type Bypasses = ();
    type Journal = FakeDisk;
    type History = NoHistory;
    type Clock = FakeClock;

    fn parts(self) -> Parts<Self> {
        Parts {
            filter: FakeFilter(Arc::clone(&self.0)),
            processes: FakeProcesses(Arc::clone(&self.0)),
            sockets: NoSockets,
            bypasses: (),
            journal: FakeDisk(Arc::clone(&self.0)),
            history: NoHistory,
            clock: FakeClock(self.0),
        }
    }
}

pub(super) struct FakeClock(Shared);

impl Clock for FakeClock {
    fn now(&self) -> Now {
        self.0.lock().unwrap().now()
    }

    fn boot(&self) -> String {
        self.0.lock().unwrap().boot.to_string()
    }
}

pub(super) struct FakeDisk(Shared);

impl JournalStore for FakeDisk {
    async fn read(&mut self) -> Result<Option<Understood>, String> {
        let kept = self.0.lock().unwrap().journal.clone();
        Ok(kept.as_deref().map(journal::understand))
    }

    async fn replace(&mut self, journal: Arc<Journal<'static>>) -> WriteOutcome {
        let bytes = journal::encode(&journal);
        let mut world = self.0.lock().unwrap();
        assert!(
            world.late_journal.is_none(),
            "a write is late, and another one is begun"
        );
        if world.fails(Failure::JournalFails) {
            return WriteOutcome::Failed("on purpose".into());
        }
        if world.fails(Failure::JournalLate) {
            world.late_journal = Some(bytes);
            return WriteOutcome::Late("late".into());
        }
        world.journal = Some(bytes);
        WriteOutcome::Done
    }

    fn late_outcome(&mut self) -> WriteOutcome {
        let mut world = self.0.lock().unwrap();
        if world.fails(Failure::JournalLate) {
            return WriteOutcome::Late("still late".into());
        }
        world.journal = world.late_journal.take();
        WriteOutcome::Done
    }

    fn leave(&mut self, _: Arc<Journal<'static>>) {
        // Whoever ends here crashes.
    }

    async fn set_aside(&mut self) -> Result<PathBuf, String> {
        Ok(PathBuf::from("journal.damaged"))
    }

    async fn read_time(&mut self) -> Option<TimeBeside> {
        self.0.lock().unwrap().kept_time.clone()
    }

    fn keep_time(&mut self, time: TimeBeside) {
        self.0.lock().unwrap().kept_time = Some(time);
    }
}

#[derive(Clone)]
pub(super) struct FakeProcesses(Shared);

/// The process that every isolation freezes.
pub(super) const ROGUE: &str = "/usr/bin/rogue";

fn rogue() -> Process {
    Process {
        identity: ProcessId {
            pid: 4_000,
            start_ticks: 7,
        },
        parent: 1,
        name: "rogue".into(),
        exe: Some(ROGUE.into()),
        cgroup: None,
        workload: None,
    }
}

impl Processes for FakeProcesses {
    async fn list(&mut self, _: PathsMeant) -> Result<Vec<Candidate>, Obstacle> {
        if self.0.lock().unwrap().fails(Failure::NoProcesses) {
            let why = "on purpose".into();
            return Err(Obstacle::ProcessesUnknown { why });
        }
        Ok(vec![Candidate::plain(rogue())])
    }

    async fn frozen(&mut self, _: Vec<ProcessId>) -> Result<Vec<FoundFrozen>, Obstacle> {
        let mut world = self.0.lock().unwrap();
        if world.fails(Failure::NoProcesses) {
            let why = "on purpose".into();
            return Err(Obstacle::ProcessesUnknown { why });
        }
        let found = FoundFrozen {
            process: rogue(),
            stopped: true,
            stopped_before: false,
        };
        Ok(world.rogue_frozen.then_some(found).into_iter().collect())
    }

    async fn chase(&mut self, _: Chase) -> Result<Chased, Obstacle> {
        Ok(Chased::default())
    }

    async fn look_at(
        &mut self,
        processes: Vec<(ProcessId, ProcessAction)>,
        _: Duration,
    ) -> Result<Vec<Doing>, Obstacle> {
        let stopped = self.0.lock().unwrap().rogue_frozen;
        let there = processes.into_iter().filter(|(id, _)| id.pid == 4_000);
        let doing = there.map(|(id, _)| Doing {
            id,
            reached: true,
            stopped,
            defies: false,
            by_owner: false,
            ran: Duration::ZERO,
        });
        Ok(doing.collect())
    }

    async fn signal(&mut self, to: ProcessId, signal: Signal) -> Result<(), SignalFailure> {
        let mut world = self.0.lock().unwrap();
        if to.pid != 4_000 {
            return Err(SignalFailure::Gone);
        }
        if world.fails(Failure::SignalRefused) {
            return Err(SignalFailure::Refused("on purpose".into()));
        }
        world.rogue_frozen = signal == Signal::Freeze;
        Ok(())
    }

    async fn above(&mut self, _: Vec<ProcessId>, _: BTreeSet<ProcessId>) -> Result<RanAbove, Obstacle> {
        Ok(RanAbove::new())
    }

    async fn go_on(&mut self, _: Vec<Vec<OneAbove>>) -> Vec<Vec<OneAbove>> {
        Vec::new()
    }

    async fn trace(&mut self, _: ProcessId) -> Result<Vec<NucleusTrace>, Obstacle> {
        Ok(Vec::new())
    }

    fn own_pid(&self) -> u32 {
        1_000
    }
}

pub(super) struct NoSockets;

impl Sockets for NoSockets {
    async fn close_cut(&mut self, _: &Plan, _: bool, _: &SparedSockets) -> SocketsClosed {
        SocketsClosed {
            complete: true,
            ..SocketsClosed::default()
        }
    }

    fn forget_cut(&mut self, _: &Plan, _: bool) {}

    fn remembered(&self) -> Option<String> {
        None
    }

    fn leave_alone(&mut self) {}
}

pub(super) struct NoHistory;

impl HistoryStore for NoHistory {
    fn note(&mut self, _: Now, _: Event) {}

    fn note_plan(&mut self, _: Now, _: &Plan, _: &[Order], _: Option<&str>) {}

    fn note_proof(&mut self, _: Now, _: &Plan, _: bool) {}

    fn record(&mut self, _: Now) {}

    fn has_unwritten(&self) -> bool {
        false
    }

    async fn written(&mut self) {
        std::future::pending::<()>().await;
    }

    fn end(&self) -> Option<HistoryEnd> {
        None
    }

    fn fault(&self) -> Option<String> {
        None
    }
}

/// The configuration as the model has it, with a short window, and a rule for the rogue.
pub(super) fn settings(model: &Model) -> EnforcerSettings {
    let mut config = config(model);
    config.isolation.confirm = WINDOW;
    config.isolation.settings.processes = vec![ProcessRule {
        matches: ProcessMatch {
            exe: Some(ROGUE.into()),
            name: None,
        },
        action: ProcessAction::Freeze,
    }];
    configuration::settings(&config, None)
}

/// An enforcer on that machine, restored from its journal.
pub(super) async fn start(world: &Shared, model: &Model) -> Enforcer<FakeMachine> {
    let (_, mailbox) = mailbox();
    Enforcer::restore_on(FakeMachine(Arc::clone(world)), settings(model), mailbox).await
}

/// An interface that is up.
pub(super) fn link(name: &str, index: u32, device: InterfaceKind) -> Link {
    Link {
        name: name.into(),
        index,
        kind: LinkKind::Ethernet,
        hardware: Some([2, 0, 0, 0, 0, 1]),
        loopback: false,
        up: true,
        running: true,
        addresses: vec![IpAddr::from([198, 51, 100, 2])],
        broadcasts: Vec::new(),
        networks: Vec::new(),
        master: None,
        lower: None,
        device,
        counters: Counters::default(),
    }
}

/// By which an address is reached here.
pub(super) fn way_to(address: &IpAddr) -> Way {
    Way {
        address: *address,
        interface: InterfaceName::new("eth0").unwrap(),
        next_hop: *address,
    }
}
