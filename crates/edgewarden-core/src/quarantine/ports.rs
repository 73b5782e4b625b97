//! What enforcement asks of the machine: its packet filter and what passes it by, its processes and sockets, its disk, its clock.
//!
//! The enforcer (`agent::enforcer`) knows these traits and nothing else of the machine; `host` carries them out, a fake
//! keeps a kernel's semantics in the model run of the tests. Every answer comes later: nothing here may block the thread
//! that decides, and every wait behind these traits has a limit of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::history::Event;
use super::lifelines::tunnels::Reached;
use super::lifelines::ways::Way;
use super::orders::order::{Order, ProcessAction, ProcessRule};
use super::orders::trusted_time::TimeBeside;
use super::plan::Plan;
use super::plan::processes::{
    Candidate, NamedBefore, NucleusTrace, OneAbove, PathsMeant, ProtectedProcesses,
};
use super::plan::severed::SocketEnds;
use super::plan::tracked::Crowd;
use super::proof::canary::CanaryFate;
use super::proof::journal::{Journal, Understood};
use super::proof::obstacle::Obstacle;
use super::proof::state::HistoryEnd;
use super::ruleset::verify::Comparison;
use super::ruleset::{Barred, Barrier, CarriedCounters, EgressMeans, Lack, Layer, Ruleset};
use crate::moment::Now;
use crate::observe::link::Link;
use crate::process::{Process, ProcessId, SeenFrom};

/// Somebody's change of the packet filter, as the kernel tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterChange {
    /// The generation it made.
    pub generation: u32,
    /// The process, as the kernel saw it at that moment.
    pub pid: u32,
    /// Its short name, chosen by itself.
    pub name: String,
    /// What of our tables it touched, as a sentence; none where that was nothing, or is not known.
    pub touched: Option<String>,
    /// A thread of this very process made it.
    pub is_ours: bool,
}

/// Tables that stood by were put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoodIn {
    /// Because of this change.
    pub after: FilterChange,
    /// What they count on from.
    pub counted: CarriedCounters,
}

/// The kernel's packet filter. Only tables of ours are ever named. `now` is the time of the decision: what is done later for it
/// takes the time that has passed since into account, because elements end by the kernel's clock.
pub trait PacketFilter: Send {
    /// Counts every transaction of anybody; wraps around.
    fn generation(&mut self) -> impl Future<Output = Result<u32, Obstacle>> + Send;

    /// The kernel has told that the transaction which made this generation is complete: no listing has to wait for it.
    fn note_settled(&mut self, generation: u32);

    /// In which families our table exists.
    fn tables(&mut self) -> impl Future<Output = Result<BTreeSet<Layer>, Obstacle>> + Send;

    /// Whether rules could be loaded; nothing is changed.
    fn try_out(&mut self) -> impl Future<Output = Result<(), Obstacle>> + Send;

    /// What this kernel lacks; nothing is changed. `loudly`: also what cannot be tried without beginning to track connections.
    fn lacks(&mut self, loudly: bool) -> impl Future<Output = Result<Vec<Lack>, Obstacle>> + Send;

    /// Compares the listings of our tables in these families with `wanted`; one that does not exist is left out. Of `before`,
    /// which was loaded before, elements that have just ended may still be there. [`Obstacle::Unreadable`] when a table is
    /// there and cannot be listed. The work grows with the elements, so it is done where it holds nobody up.
    fn compare(
        &mut self,
        layers: &BTreeSet<Layer>,
        wanted: &Arc<Ruleset>,
        before: Option<&Arc<Ruleset>>,
        now: Now,
    ) -> impl Future<Output = Result<Comparison, Obstacle>> + Send;

    /// Replaces our tables, whichever there are, by those of `ruleset`, whose counters go on from `counted`: one transaction, all
    /// of it or nothing.
    fn load(
        &mut self,
        ruleset: &Arc<Ruleset>,
        counted: &CarriedCounters,
        now: Now,
    ) -> impl Future<Output = Result<(), Obstacle>> + Send;

    /// Turns our tables, which hold what `held` says with the elements that have not ended, into those of `ruleset`, which
    /// has the same frame ([`Ruleset::same_frame`]); counters that are made go on from `counted`. One transaction that touches
    /// what differs, refused where `generation` is over.
    fn change(
        &mut self,
        ruleset: &Arc<Ruleset>,
        held: &Arc<Ruleset>,
        counted: &CarriedCounters,
        generation: u32,
        now: Now,
    ) -> impl Future<Output = Result<(), Obstacle>> + Send;

    /// Has these tables, which were just proven, put back as soon as anybody touches ours, counting on from `counted`; before it is
    /// known whether there was need. Once, and only until the next load or change, or until it is withdrawn.
    fn stand_by(
        &mut self,
        ruleset: &Arc<Ruleset>,
        counted: &CarriedCounters,
        now: Now,
    ) -> impl Future<Output = Result<(), Obstacle>> + Send;

    /// Nothing is put back any more; this takes effect whatever the kernel is busy with.
    fn withdraw_standby(&mut self);

    /// How what stood by was put back since the last call.
    fn stood_in(&mut self) -> Option<StoodIn>;

    /// What our counters and quotas say.
    fn counted(&mut self) -> impl Future<Output = Result<CarriedCounters, Obstacle>> + Send;

    /// The interfaces of our egress chain, by name.
    fn egress_devices(&mut self) -> impl Future<Output = Result<BTreeSet<String>, Obstacle>> + Send;

    /// The interfaces of this namespace and how many there are besides, or why they cannot be listed.
    fn interfaces(&mut self) -> impl Future<Output = Result<(Vec<Link>, usize), String>> + Send;

    /// Every way to these addresses that the host's routes know, and the tunnels; or why they are not known.
    fn ways(&mut self, to: &BTreeSet<IpAddr>) -> impl Future<Output = Result<Reached, String>> + Send;

    /// Has the kernel look anew for who is behind the next hops of these ways on their links: what was learned of them is forgotten.
    /// Where that cannot be done nothing is lost.
    fn meet_next_hops(&mut self, ways: &[Way]) -> impl Future<Output = ()> + Send;

    /// How full the table of connection tracking is; none where nobody can tell, as on a kernel without.
    fn crowd(&mut self) -> impl Future<Output = Option<Crowd>> + Send;

    /// What the kernel has at the egress of interfaces, without leaving anything there; none where that cannot be tried out.
    /// `only_old`: none too where the kernel's number says that it has the hook.
    fn egress_means(&mut self, _only_old: bool) -> impl Future<Output = Option<EgressMeans>> + Send {
        std::future::ready(None)
    }

    /// Makes the kernel hold this barrier, or none; others' filters stay.
    fn bar(&mut self, _barrier: Option<&Barrier>) -> impl Future<Output = Result<Barred, Obstacle>> + Send {
        std::future::ready(Ok(Barred::default()))
    }

    /// Sends one datagram of one byte.
    fn send_canary(&mut self, to: SocketAddr) -> impl Future<Output = CanaryFate> + Send;
}

/// Why a signal had no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignalFailure {
    /// That very process has ended.
    Gone,
    /// The kernel refused: a sentence that names the process.
    Refused(String),
    /// There was no answer in time, and it may still be done: a sentence. Whoever asks for the next one waits as long.
    Unanswered(String),
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Marks it, where that is possible, and stops it; it can go on later.
    Freeze,
    /// The same to one that its owner had stopped before; its mark says so.
    FreezeStopped,
    /// Lets a stopped one go on, without its mark.
    Thaw,
    /// Takes its mark off and leaves it stopped, as its owner had it.
    LeaveStopped,
    /// Ends it.
    Kill,
}

/// A process that an earlier life of ours may have stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFrozen {
    /// Which one.
    pub process: Process,
    /// It is stopped.
    pub stopped: bool,
    /// Its mark says that its owner had stopped it before we did.
    pub stopped_before: bool,
}

/// Whom to hunt: processes that start others as fast as they are stopped one by one.
#[derive(Debug, Clone, Default)]
pub struct Chase {
    /// The rules that name them.
    pub rules: Vec<ProcessRule>,
    /// Who must not be stopped.
    pub protected: ProtectedProcesses,
    /// At most so many more are frozen.
    pub room: usize,
    /// Who is stopped by us, or with one below him that is: as [`Processes::above`] takes it.
    pub ran: BTreeSet<ProcessId>,
}

/// Who ran above processes when they were stopped, or may have for all that was seen of him, nearest first: whoever stops with his
/// child is one of them.
pub type RanAbove = BTreeMap<ProcessId, Vec<OneAbove>>;

/// What came of a chase.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chased {
    /// Who was seen to be stopped or to have ended, besides those that were stopped before.
    pub stopped: Vec<(Process, ProcessAction, Doing)>,
    /// Who was told to stop or to end and was not seen to do it: he may be in the middle of it.
    pub unproven: Vec<(Process, ProcessAction)>,
    /// Which rules name all these.
    pub named_by: NamedBefore,
    /// Who ran above each of them when it was stopped.
    pub above: RanAbove,
    /// How many others that the rules name went on at the end.
    pub left: usize,
}

/// What a process does, as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doing {
    /// Which one.
    pub id: ProcessId,
    /// All its threads were looked at in time. Where they were not, it is neither stopped nor going on, and only its first one says
    /// whether it was stopped by a signal.
    pub reached: bool,
    /// All its threads are stopped, by a signal or by a debugger, or those that are not wait in the kernel and stop before
    /// anything else, or whoever made its cgroup holds it there.
    pub stopped: bool,
    /// It had time to stop, has heard the signal to stop, and goes on: others have let it go on.
    pub defies: bool,
    /// It was stopped by a signal that is not ours, or is about to be; or a debugger holds it still, who may be holding one whom its
    /// owner had stopped.
    pub by_owner: bool,
    /// How long all its threads have had a processor since it began, those too that have ended: also where they were not looked
    /// at in time. It tells of one that ran between two looks and was stopped at both.
    pub ran: Duration,
}

/// The processes of this machine. Clones are the same machine's: one looks while another one signals.
pub trait Processes: Send + Sync + Clone + 'static {
    /// All that run now, each with the paths of `meant` that lead to its program; an obstacle when they are not listed in time.
    fn list(&mut self, meant: PathsMeant) -> impl Future<Output = Result<Vec<Candidate>, Obstacle>> + Send;

    /// Those that carry the mark which [`Signal::Freeze`] puts on them, and those among `suspected` that are stopped. An obstacle when they are not listed in time. The mark lives in the kernel as long as the
    /// process does; one that could not be marked is found as a suspect only.
    fn frozen(
        &mut self,
        suspected: Vec<ProcessId>,
    ) -> impl Future<Output = Result<Vec<FoundFrozen>, Obstacle>> + Send;

    /// Sends a signal to just this process, never to another one that took its number, but for what [`Self::less_sure`] says.
    fn signal(
        &mut self,
        to: ProcessId,
        signal: Signal,
    ) -> impl Future<Output = Result<(), SignalFailure>> + Send;

    /// Stops whom the rules name and who started meanwhile, until no more start or it takes too long; first all of them, then
    /// those that are to be killed are.
    fn chase(&mut self, chase: Chase) -> impl Future<Output = Result<Chased, Obstacle>> + Send;

    /// What these do; those that have ended are left out. `patience`: so long is waited at most until each one that is to
    /// be frozen was seen to be stopped, and each one that is to be killed has ended. An obstacle when nobody can tell.
    fn look_at(
        &mut self,
        processes: Vec<(ProcessId, ProcessAction)>,
        patience: Duration,
    ) -> impl Future<Output = Result<Vec<Doing>, Obstacle>> + Send;

    /// Who runs above each of these, nearest first, up to the first whom his owner has stopped: not one of `ran`, who ran until
    /// he or somebody below him was stopped by us. An obstacle when nobody can tell.
    fn above(
        &mut self,
        of: Vec<ProcessId>,
        ran: BTreeSet<ProcessId>,
    ) -> impl Future<Output = Result<RanAbove, Obstacle>> + Send;

    /// Lets those go on who stopped with one below them, each row up to the first who was held then and has not gone on since; gives
    /// the rows in which somebody may be about to do it still.
    fn go_on(&mut self, above: Vec<Vec<OneAbove>>) -> impl Future<Output = Vec<Vec<OneAbove>>> + Send;

    /// What tells this nucleus again when it has another number: of its process and of those above it in its cgroup.
    fn trace(
        &mut self,
        nucleus: ProcessId,
    ) -> impl Future<Output = Result<Vec<NucleusTrace>, Obstacle>> + Send;

    /// Our own process.
    fn own_pid(&self) -> u32;

    /// From where these processes are seen; none where none can be.
    fn seen_from(&self) -> Option<SeenFrom> {
        Some(SeenFrom::default())
    }

    /// What signals are less sure of on this kernel, for people.
    fn less_sure(&self) -> Option<&'static str> {
        None
    }
}

/// Whose sockets are never closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SparedSockets {
    /// The nucleus' process; while it is not known or has ended, whoever started us may be it.
    pub nucleus: Option<ProcessId>,
    /// Executables, with `*`.
    pub executables: Vec<String>,
}

/// What a look for cut connections has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketsClosed {
    /// The connections whose sockets were closed; as many as a look finds at most.
    pub closed: Vec<SocketEnds>,
    /// Whether all of them were looked at; what is left is for the next look.
    pub complete: bool,
    /// This kernel cannot close sockets.
    pub unsupported: bool,
    /// What stood in the way of the rest, a sentence.
    pub fault: Option<String>,
}

/// Other programs' sockets, and what the kernel remembers of flows.
pub trait Sockets: Send {
    /// Closes the connections that `plan` cuts. `urgent`: the rules are new; otherwise it may be too early for another
    /// look. What another call was asked to close before is left alone from then on.
    fn close_cut(
        &mut self,
        plan: &Plan,
        urgent: bool,
        spared: &SparedSockets,
    ) -> impl Future<Output = SocketsClosed> + Send;

    /// Has connection tracking, whose table is crowded, forget what `plan` cuts and what stays inside of the device
    /// ([`fate`](super::plan::tracked::fate)). Nobody waits for it. `is_news`: the plan is another one than at the last call, so
    /// what was begun for that one forgets nothing further; otherwise it may be too early for another look.
    fn forget_cut(&mut self, plan: &Plan, is_news: bool);

    /// Why flows that are cut stay in the table, a sentence.
    fn remembered(&self) -> Option<String>;

    /// Nothing is cut any more: a look that is still under way closes and forgets nothing further.
    fn leave_alone(&mut self);
}

/// Ways past the packet filter: what leaves there no rule sees.
pub trait Bypasses: Send {
    /// Whether anything is cut: then they are closed where that is possible, from now on. What is found is found later.
    fn guard(&mut self, cuts: bool);

    /// What was last found open, each a sentence; nothing while nothing is cut.
    fn found(&self) -> &[String];

    /// Waits until [`Bypasses::found`] says something else than before; cancel-safe.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}

/// For whoever only looks: nothing is closed, and nothing found.
impl Bypasses for () {
    fn guard(&mut self, _: bool) {}

    fn found(&self) -> &[String] {
        &[]
    }

    fn changed(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It is on disk.
    Done,
    /// The disk did not answer in time and may still do it; a sentence.
    Late(String),
    /// It is not on disk, or nobody knows; a sentence.
    Failed(String),
}

/// Where the journal's bytes are kept.
pub trait JournalStore: Send {
    /// What its bytes say, [understood](super::proof::journal::understand) where they were read; `None` when there is no
    /// journal. A sentence when there is one that cannot be read.
    fn read(&mut self) -> impl Future<Output = Result<Option<Understood>, String>> + Send;

    /// Whether what was read survives a restart of the machine. An agent that ended while its disk did not answer left its
    /// journal elsewhere.
    fn is_on_disk(&self) -> bool {
        true
    }

    /// Replaces them by those of `journal`, durable when it returns. Not to be called while a write is late.
    fn replace(&mut self, journal: Arc<Journal<'static>>) -> impl Future<Output = WriteOutcome> + Send;

    /// What became of the write that was late; [`WriteOutcome::Late`] while it is still under way.
    fn late_outcome(&mut self) -> WriteOutcome;

    /// Has a last journal written after the write that is late; nothing waits for it.
    fn leave(&mut self, journal: Arc<Journal<'static>>);

    /// Puts a journal that cannot be read aside and says where it is, or why it is not.
    fn set_aside(&mut self) -> impl Future<Output = Result<PathBuf, String>> + Send;

    /// The newest time that was kept beside the journal, if there is one.
    fn read_time(&mut self) -> impl Future<Output = Option<TimeBeside>> + Send;

    /// Keeps a newer time beside the journal, which may be large; nothing waits for it.
    fn keep_time(&mut self, time: TimeBeside);
}

/// Where the history is kept.
pub trait HistoryStore: Send {
    /// Notes what happened `then`; only data.
    fn note(&mut self, then: Now, event: Event);

    /// Notes which plan follows from the orders, and why it is not carried out; only news counts.
    fn note_plan(&mut self, then: Now, plan: &Plan, orders: &[Order], held_back: Option<&str>);

    /// Notes whether the kernel holds `plan`; only news counts.
    fn note_proof(&mut self, then: Now, plan: &Plan, proven: bool);

    /// Has what was noted written; nothing waits for it.
    fn record(&mut self, now: Now);

    /// Whether something was noted that no write has taken.
    fn has_unwritten(&self) -> bool;

    /// Waits until [`HistoryStore::end`] or [`HistoryStore::fault`] may say something else than before; cancel-safe.
    fn written(&mut self) -> impl Future<Output = ()> + Send;

    /// Where the history ends on disk.
    fn end(&self) -> Option<HistoryEnd>;

    /// What stands in the way of writing, a sentence.
    fn fault(&self) -> Option<String>;
}

/// The clock.
pub trait Clock: Send {
    /// Both clocks.
    fn now(&self) -> Now;

    /// Names this boot of the machine, to which uptimes belong.
    fn boot(&self) -> String;
}

/// A machine: all of them together.
pub trait Machine {
    /// Its packet filter.
    type Filter: PacketFilter;
    /// Its processes.
    type Processes: Processes;
    /// Its sockets.
    type Sockets: Sockets;
    /// What passes its packet filter by.
    type Bypasses: Bypasses;
    /// Its journal.
    type Journal: JournalStore;
    /// Its history.
    type History: HistoryStore;
    /// Its clock.
    type Clock: Clock;

    /// Hands out the parts, once.
    fn parts(self) -> Parts<Self>
    where
        Self: Sized;
}

/// The parts of a [`Machine`].
pub struct Parts<M: Machine> {
    /// Its packet filter.
    pub filter: M::Filter,
    /// Its processes.
    pub processes: M::Processes,
    /// Its sockets.
    pub sockets: M::Sockets,
    /// What passes its packet filter by.
    pub bypasses: M::Bypasses,
    /// Its journal.
    pub journal: M::Journal,
    /// Its history.
    pub history: M::History,
    /// Its clock.
    pub clock: M::Clock,
}
