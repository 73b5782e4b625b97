//! Rounds: processes are looked at, let go and stopped beside the passes, because a look takes as long as others make it.
//!
//! In: what a pass wants of processes. Out: what the newest round that has come to an end says of them, and what must be
//! remembered. A pass begins a round, goes on after a moment, and a later one collects it; its end wakes the enforcer. One
//! round at a time. One whose plan is not wanted any more is put off at once: a release waits for no look. Between choosing and
//! stopping the journal is written. Absent: what a round does (`stopper`).

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;

use super::Enforcer;
use super::roll::{TOLD_AFTER, told_seconds, without_rules};
use super::stopper::{ShownProcesses, Stopper, ToStop, Wanted};
use crate::Gather;
use crate::config::Mode;
use crate::moment::Now;
use crate::quarantine::history::Event;
use crate::quarantine::orders::order::{Authority, Order};
use crate::quarantine::plan::Plan;
use crate::quarantine::plan::processes::{NamedBefore, NucleusTrace, StoppedProcess};
use crate::quarantine::ports::{Clock, Machine, Processes};
use crate::quarantine::proof::elsewhere::Elsewhere;
use crate::quarantine::proof::journal::Journal;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::state::{MAX_SHOWN, State};

/// How long a pass waits for its round, which takes a few milliseconds on most machines: then one state tells everything. The
/// next order waits as long.
const GRACE: Duration = Duration::from_millis(50);
/// How long whoever gave an instruction waits for what it does to processes.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// From the beginning of one round to that of the next while rules name processes, which may start at any time.
const EVERY: Duration = Duration::from_secs(1);
/// After a round nothing is looked at for so many times as long as it took: looks take a third of a core at most.
const PAUSE: u32 = 2;
/// While somebody goes on whom an order names, who may start others as fast: half a core.
const PAUSE_IN_PURSUIT: u32 = 1;
/// And not longer than so.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the confirmation of a plan waits for the processes that it names: each second costs a question.
const HELD_BACK: Duration = Duration::from_secs(60);
/// A round that is under way for so long stands in the way of what is ordered.
const LATE_AFTER: Duration = Duration::from_secs(1);

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where a round is; the stopper is in it.
enum Place<P> {
    Resting(Box<Stopper<P>>),
    Choosing(Work<(Box<Stopper<P>>, ToStop)>),
    Chosen(Box<Stopper<P>>, ToStop),
    Stopping(Work<(Box<Stopper<P>>, Vec<Obstacle>)>),
    Done(Box<Stopper<P>>, Vec<Obstacle>),
    /// Only while it goes from one to the next.
    Between,
}

/// The rounds, and what the newest one has found.
pub(super) struct Rounds<P> {
    place: Place<P>,
    /// Another handle on the same machine.
    processes: P,
    put_off: watch::Sender<bool>,
    wanted: Option<Wanted>,
    /// What was wanted of rounds so far, how much of it the one under way does, and how much is done.
    asked: u64,
    begun: u64,
    done: u64,
    /// What is done since this does not do what is wanted now.
    news: u64,
    behind_since: Duration,
    /// What is ordered of processes came to be done, and nobody was told yet.
    caught_up: bool,
    began: Duration,
    next: Duration,
    /// Whoever is stopped, also where he cannot be seen.
    remembered: Vec<StoppedProcess>,
    elsewhere: Elsewhere,
    traces: Vec<NucleusTrace>,
    shown: ShownProcesses,
    obstacles: Vec<Obstacle>,
    events: Vec<Event>,
    freed: usize,
}

impl<P: Processes> Rounds<P> {
    /// As the journal remembers it; `suspected` is what is left of one that was damaged.
    pub(super) fn restore(
        processes: P,
        journal: &mut Journal<'_>,
        mut suspected: Vec<StoppedProcess>,
    ) -> Self {
        let (put_off, ends) = watch::channel(false);
        // One of both is empty.
        let known = if suspected.is_empty() {
            journal.stopped.to_mut()
        } else {
            &mut suspected
        };
        let elsewhere = Elsewhere::take_out(processes.seen_from(), known);
        let suspected = suspected.into_iter().map(|known| known.identity).collect();
        let stopper = Stopper::restore(processes.clone(), journal, suspected, ends);
        let mut rounds = Self {
            place: Place::Between,
            processes,
            put_off,
            wanted: None,
            asked: 0,
            begun: 0,
            done: 0,
            news: 0,
            behind_since: Duration::ZERO,
            caught_up: false,
            began: Duration::ZERO,
            next: Duration::ZERO,
            remembered: Vec::new(),
            elsewhere,
            traces: Vec::new(),
            shown: ShownProcesses::default(),
            obstacles: Vec::new(),
            events: Vec::new(),
            freed: 0,
        };
        rounds.note(&stopper);
        rounds.place = Place::Resting(Box::new(stopper));
        rounds
    }

    /// Our own process.
    pub(super) fn own_pid(&self) -> u32 {
        self.processes.own_pid()
    }

    /// A handle for whoever lists the processes for himself.
    pub(super) fn processes(&self) -> P {
        self.processes.clone()
    }

    /// Who is stopped, for whoever only looks.
    pub(super) fn remembered(&self) -> Vec<StoppedProcess> {
        let all = self.remembered.iter().cloned();
        all.map(without_rules).collect()
    }

    /// Who is stopped, with the rules that named him.
    pub(super) fn named(&self) -> NamedBefore {
        let all = self.remembered.iter();
        all.map(|known| (known.identity, known.named_by.clone())).in_map()
    }

    /// What tells the nucleus again.
    pub(super) fn traces(&self) -> &[NucleusTrace] {
        &self.traces
    }

    /// Lends the journal what it must remember.
    pub(super) fn lend<'a>(&'a self, journal: &mut Journal<'a>) {
        journal.stopped = Cow::Borrowed(&self.remembered);
        journal.nucleus_traces = Cow::Borrowed(&self.traces);
    }

    /// What is worth a record since the last call.
    pub(super) fn take_news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// How many processes were let go since the start.
    pub(super) const fn freed(&self) -> usize {
        self.freed
    }

    /// Somebody waits for what is done to processes from now on.
    pub(super) const fn ask(&mut self) {
        self.asked += 1;
    }

    /// Whether all that was asked for is done.
    pub(super) const fn is_settled(&self) -> bool {
        self.done == self.asked
    }

    /// Whether a round is under way.
    pub(super) const fn is_busy(&self) -> bool {
        !matches!(self.place, Place::Resting(_))
    }

    /// After how long the next round is due; none while one is under way, and where no rule names anybody and nobody may be about to
    /// stop with one that was let go.
    pub(super) fn due(&self, now: Now) -> Option<Duration> {
        let follows = matches!(&self.place, Place::Resting(stopper) if stopper.follows());
        let is_due = follows || (self.names_some() && !self.is_busy());
        is_due.then(|| self.next.saturating_sub(now.uptime))
    }

    fn names_some(&self) -> bool {
        let wanted = self.wanted.as_ref();
        wanted.is_some_and(|wanted| !wanted.rules.is_empty())
    }

    /// Begins a round, if one is due; what is wanted now is done by no other.
    fn bring(&mut self, wanted: Wanted, now: Now) {
        let is_news = self.wanted.as_ref() != Some(&wanted);
        self.wanted = Some(wanted);
        if is_news {
            if self.done >= self.news {
                self.behind_since = now.uptime;
            }
            self.asked += 1;
            self.news = self.asked;
            if self.is_busy() {
                self.put_off.send_replace(true);
            }
        }
        if self.asked > self.begun || now.uptime >= self.next {
            self.begin(now);
        }
    }

    fn begin(&mut self, now: Now) {
        let Some(wanted) = self.wanted.clone() else {
            return;
        };
        match std::mem::replace(&mut self.place, Place::Between) {
            Place::Resting(mut stopper) => {
                self.put_off.send_replace(false);
                self.begun = self.asked;
                self.began = now.uptime;
                self.place = Place::Choosing(Box::pin(async move {
                    let to_stop = stopper.choose(&wanted, now).await;
                    (stopper, to_stop)
                }));
            }
            busy => self.place = busy,
        }
    }

    /// Goes on with the round that is under way until it needs the enforcer; cancel-safe.
    pub(super) async fn step(&mut self) {
        self.place = match &mut self.place {
            Place::Choosing(work) => {
                let (stopper, to_stop) = work.await;
                Place::Chosen(stopper, to_stop)
            }
            Place::Stopping(work) => {
                let (stopper, obstacles) = work.await;
                Place::Done(stopper, obstacles)
            }
            Place::Chosen(..) | Place::Done(..) => return,
            Place::Resting(_) | Place::Between => std::future::pending().await,
        };
    }

    /// Whether what the round does is not wanted any more.
    const fn is_stale(&self) -> bool {
        self.begun < self.news
    }

    /// Takes what was chosen into what is remembered; gives whether it is to be stopped.
    fn note_chosen(&mut self) -> bool {
        match std::mem::replace(&mut self.place, Place::Between) {
            Place::Chosen(mut stopper, to_stop) if self.is_stale() => {
                stopper.take_back(&to_stop);
                self.place = Place::Done(stopper, Vec::new());
                false
            }
            Place::Chosen(stopper, to_stop) => {
                self.note(&stopper);
                self.place = Place::Chosen(stopper, to_stop);
                true
            }
            other => {
                self.place = other;
                false
            }
        }
    }

    /// Stops whom the round chose.
    fn stop(&mut self, now: Now) {
        self.place = match std::mem::replace(&mut self.place, Place::Between) {
            Place::Chosen(mut stopper, to_stop) => Place::Stopping(Box::pin(async move {
                let obstacles = stopper.stop(to_stop, now).await;
                (stopper, obstacles)
            })),
            other => other,
        };
    }

    /// Takes what a round has found that has come to its end; begins the next one where that is wanted already.
    fn end(&mut self, now: Now) {
        match std::mem::replace(&mut self.place, Place::Between) {
            Place::Done(mut stopper, obstacles) => {
                self.events.extend(stopper.take_news());
                self.note(&stopper);
                let took = now.uptime.saturating_sub(self.began);
                let runs = |obstacle: &Obstacle| matches!(obstacle, Obstacle::ProcessRuns { .. });
                let times = if obstacles.iter().any(runs) {
                    PAUSE_IN_PURSUIT
                } else {
                    PAUSE
                };
                let pause = took.saturating_mul(times).min(LONGEST_PAUSE);
                self.next = (self.began + EVERY).max(now.uptime + pause);
                if !self.is_stale() {
                    self.shown = stopper.shown();
                    self.obstacles = obstacles;
                    self.caught_up |= self.is_behind() && self.names_some();
                    self.done = self.begun;
                }
                self.place = Place::Resting(stopper);
                if self.asked > self.begun {
                    self.begin(now);
                }
            }
            other => self.place = other,
        }
    }

    fn note(&mut self, stopper: &Stopper<P>) {
        self.remembered = self.elsewhere.beside(stopper.remembered());
        self.traces = stopper.traces().to_vec();
        self.freed = stopper.freed();
    }

    /// What stands in the way, and what may be said of processes: what a round has found, and how old that is.
    fn obstacles(&self, now: Now) -> Vec<Obstacle> {
        let mut obstacles = self.obstacles.clone();
        obstacles.extend(self.elsewhere.obstacle());
        let since = now.uptime.saturating_sub(self.since());
        let limit = if self.is_behind() { LATE_AFTER } else { TOLD_AFTER };
        if self.is_busy() && self.matters() && since >= limit {
            let seconds = told_seconds(since);
            obstacles.insert(0, Obstacle::ProcessesNotSeen { seconds });
            obstacles.truncate(MAX_SHOWN);
        }
        obstacles
    }

    /// Since when what is known is no news.
    const fn since(&self) -> Duration {
        if self.is_behind() {
            self.behind_since
        } else {
            self.began
        }
    }

    /// What is wanted of processes was not done yet.
    const fn is_behind(&self) -> bool {
        self.done < self.news
    }

    /// Whether nothing is to be confirmed yet: whom the plan names may be who the control channel goes by, and is not stopped.
    pub(super) fn holds_back(&self, now: Now) -> bool {
        let since = now.uptime.saturating_sub(self.behind_since);
        self.is_behind() && self.names_some() && since < HELD_BACK
    }

    /// Whether what is ordered of processes came to be done since the last call: what was answered before says nothing.
    pub(super) const fn take_caught_up(&mut self) -> bool {
        std::mem::replace(&mut self.caught_up, false)
    }

    fn matters(&self) -> bool {
        self.names_some() || !self.remembered.is_empty()
    }

    /// What may be said of processes. While what is wanted now is not done, nobody is said to be stopped for it.
    pub(super) fn show(&self, state: &mut State) {
        self.shown.show(state);
        state
            .uncovered
            .extend(self.processes.less_sure().map(str::to_owned));
        if self.is_behind() && self.matters() {
            let what = "what is ordered of processes is under way: they were not looked at since";
            state.left_running.insert(0, what.to_owned());
            state.left_running.truncate(MAX_SHOWN);
        }
    }
}

impl<M: Machine> Enforcer<M> {
    /// Has processes brought to what the plan wants, and gives what stands in the way as far as that is known: what takes longer
    /// than a moment goes on beside.
    pub(super) async fn bring_processes(&mut self, plan: &Plan, now: Now) -> Vec<Obstacle> {
        // A damaged journal may have lost the order that named who is stopped.
        let recovers = |order: &Order| order.authority == Authority::Recovery;
        let wanted = Wanted {
            rules: plan.processes.clone(),
            releases: plan.is_normal(),
            protected: self.protected(),
            keeps: self.settings.mode == Mode::Enforce && self.orders.orders().iter().any(recovers),
        };
        self.rounds.bring(wanted, now);
        self.settle(GRACE).await;
        self.rounds.obstacles(self.clock.now())
    }

    /// Goes on with the round that is under way for so long at most, until it has come to its end.
    async fn settle(&mut self, patience: Duration) {
        let end = tokio::time::Instant::now() + patience;
        while self.rounds.is_busy() {
            if tokio::time::timeout_at(end, self.rounds.step()).await.is_err() {
                return;
            }
            self.go_on_with_processes().await;
        }
    }

    /// Does what a round needs the enforcer for: whom the plan names is in the journal before anybody is touched, all at once,
    /// because each write waits for the disk.
    pub(super) async fn go_on_with_processes(&mut self) {
        if self.rounds.note_chosen() {
            let _told_by_the_pass = self.save().await;
            self.rounds.stop(self.now());
        }
        self.rounds.end(self.now());
        self.note_news(self.clock.now());
    }

    /// Waits for what is done to processes, for whoever has nothing else to do; then what is said of them is new.
    pub(crate) async fn settle_processes(&mut self) {
        if self.rounds.is_busy() {
            self.settle(ANSWER_LIMIT).await;
            self.pass().await;
        }
    }
}
