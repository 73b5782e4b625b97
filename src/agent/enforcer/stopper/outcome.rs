//! What became of signals: who was seen to be stopped, who was let go on by others, who was started meanwhile.
//!
//! In: whom the stopper sent signals. Out: the roll, with what was seen of each, and what stands in the way. Nobody is said to
//! be stopped because a signal was sent.

use std::collections::BTreeSet;
use std::time::Duration;

use super::looking::unless;
use super::{Named, Roll, Stopper};
use crate::moment::Now;
use crate::process::{Process, ProcessId};
use crate::quarantine::history::Event;
use crate::quarantine::orders::order::ProcessAction;
use crate::quarantine::plan::processes::StoppedProcess;
use crate::quarantine::ports::{Chase, Doing, Processes};
use crate::quarantine::proof::obstacle::Obstacle;

/// How long what was told to stop may take: a sleeper does it within some hundred microseconds, one that has a gigabyte to give
/// back ends within a tenth of a second. The next order waits as long.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is known of one whose stop nobody has seen.
const NOT_REACHED: &str = "was told to stop and has too many threads to be looked at in time";

impl<P: Processes> Stopper<P> {
    /// Looks whether those that were stopped still are, and who runs above those that others let go on; gives those that are.
    ///
    /// # Errors
    /// Nobody can tell.
    pub(super) async fn find_contested(&mut self, now: Now) -> Result<BTreeSet<ProcessId>, Obstacle> {
        let seen = self.roll.seen_stopped();
        let asked = seen.iter().map(|id| (*id, ProcessAction::Freeze)).collect();
        let found = match self.look_at(asked, Duration::ZERO).await {
            Ok(found) => found,
            Err(obstacle) => {
                seen.iter().for_each(|id| self.roll.miss(*id, now.uptime));
                return Err(obstacle);
            }
        };
        let (mut still, mut contested) = (BTreeSet::new(), Vec::new());
        for doing in found {
            match self.roll.look(&doing, now.uptime) {
                Some(times) => {
                    self.note_contested(doing.id, times);
                    contested.push(doing.id);
                }
                None if doing.reached => _ = still.insert(doing.id),
                None => {}
            }
        }
        self.look_above_again(contested).await;
        Ok(still)
    }

    fn note_contested(&mut self, id: ProcessId, times: u32) {
        let (pid, name) = (id.pid, self.name(id));
        tracing::warn!(pid, %name, times, "a frozen process was let go on by others");
        // Whoever does it does it again and again.
        if times.is_power_of_two() {
            self.news.push(Event::ProcessContested { pid, name, times });
        }
    }

    /// It is stopped, after its signal.
    fn note_stopped(&mut self, doing: &Doing) {
        if let Some(times) = self.roll.saw_stopped(doing) {
            self.note_contested(doing.id, times);
        }
    }

    /// Looks at what became of the signals; gives who goes on all the same.
    pub(super) async fn settle(&mut self, sent: Vec<(ProcessId, ProcessAction)>, now: Now) -> Vec<Obstacle> {
        let found = match self.look_at(sent.clone(), PATIENCE).await {
            Ok(found) => found,
            Err(obstacle) => {
                sent.iter().for_each(|(id, _)| self.roll.miss(*id, now.uptime));
                return vec![obstacle];
            }
        };
        let mut obstacles = Vec::new();
        for (id, action) in sent {
            let doing = found.iter().find(|doing| doing.id == id);
            match (action, doing) {
                (ProcessAction::Freeze, None) => self.note_ended(id),
                (ProcessAction::Kill, None) => self.roll.prove(id, true),
                // Neither stopped nor going on.
                (ProcessAction::Freeze, Some(doing)) if !doing.reached => {
                    self.roll.miss(id, now.uptime);
                    if !self.roll.is_seen_stopped(id) {
                        let what = format!("process {} ({}) {NOT_REACHED}", id.pid, self.name(id));
                        obstacles.push(Obstacle::ProcessRuns { what });
                    }
                    continue;
                }
                (ProcessAction::Freeze, Some(doing)) if doing.stopped => self.note_stopped(doing),
                (ProcessAction::Freeze, Some(_)) if self.roll.is_contested(id) => {
                    self.roll.prove(id, false);
                    continue;
                }
                (ProcessAction::Freeze, Some(doing)) if doing.defies => {
                    self.roll.prove(id, false);
                    if let Some(times) = self.roll.saw_run(doing) {
                        self.note_contested(id, times);
                    }
                    continue;
                }
                (_, Some(_)) => {
                    self.roll.prove(id, false);
                    self.roll.goes_on(id);
                    let told = match action {
                        ProcessAction::Freeze => "was told to stop and goes on",
                        ProcessAction::Kill => "was killed and has not ended",
                    };
                    let what = format!("process {} ({}) {told}", id.pid, self.name(id));
                    obstacles.push(Obstacle::ProcessRuns { what });
                    continue;
                }
            }
            self.tell_stopped(id);
        }
        self.let_follow().await;
        obstacles
    }

    /// Stops those that were started meanwhile.
    pub(super) async fn chase(&mut self, chase: Chase, now: Now) -> Option<Obstacle> {
        let (room, ran) = (self.roll.room(), self.roll.ran());
        let chase = self.processes.chase(Chase { room, ran, ..chase });
        let mut chased = match unless(&mut self.put_off, chase).await {
            Ok(chased) => chased,
            Err(obstacle) => {
                // Nobody says whom it has stopped; they carry the mark, or are noted.
                self.search_again();
                return Some(obstacle);
            }
        };
        // They carry the mark, and the journal follows.
        let mut named_by = std::mem::take(&mut chased.named_by);
        let mut above = std::mem::take(&mut chased.above);
        let mut named = |process: &Process| Named {
            stopped_before: false,
            by: named_by.remove(&process.identity).unwrap_or_default(),
            above: above.remove(&process.identity).unwrap_or_default(),
        };
        let note = |roll: &mut Roll, process: &Process, action, named| {
            roll.note(process, action, named, now.wall).is_ok()
        };
        // These are looked at again, as whoever was told to stop.
        for (process, action) in &chased.unproven {
            note(&mut self.roll, process, *action, named(process));
        }
        for (process, action, doing) in &chased.stopped {
            match action {
                ProcessAction::Freeze if !note(&mut self.roll, process, *action, named(process)) => continue,
                ProcessAction::Freeze => self.note_stopped(doing),
                ProcessAction::Kill => self.roll.note_dead(process, named(process), now.wall),
            }
            self.tell_stopped(doing.id);
        }
        let (count, left) = (chased.stopped.len(), chased.left + chased.unproven.len());
        (left > 0).then(|| Obstacle::ProcessRuns {
            what: chase_text(count, left),
        })
    }

    /// Lets those go on who stopped with one that was let go or has ended.
    pub(super) async fn let_follow(&mut self) {
        let (rows, looks): (Vec<_>, Vec<u8>) = self.roll.take_behind().into_iter().unzip();
        if rows.is_empty() {
            return;
        }
        let left = self.processes.go_on(rows).await;
        for (row, looks) in left.into_iter().zip(looks) {
            self.roll.look_behind_again(row, looks);
        }
    }

    /// One that was frozen has ended; told where it was seen to be stopped.
    pub(super) fn note_ended(&mut self, id: ProcessId) {
        if self.roll.is_seen_stopped(id) {
            let (pid, name) = (id.pid, self.name(id));
            tracing::warn!(pid, %name, "a process has ended while frozen");
            self.news.push(Event::ProcessEnded { pid, name });
        }
        self.roll.strike(id);
    }

    /// Once.
    pub(super) fn tell_stopped(&mut self, id: ProcessId) {
        let Some(stopped) = self.roll.take_untold(id) else {
            return;
        };
        let StoppedProcess {
            identity,
            name,
            exe,
            action,
            ..
        } = stopped;
        let pid = identity.pid;
        tracing::warn!(pid, %name, ?exe, ?action, "process stopped");
        self.news.push(Event::ProcessStopped {
            pid,
            name,
            exe,
            action,
        });
    }
}

fn chase_text(count: usize, left: usize) -> String {
    // One that stopped nobody new has met nobody who starts others.
    if count == 0 {
        return format!(
            "{left} processes that an order names were told to stop and were not seen to do it yet"
        );
    }
    format!(
        "processes that an order names start others as fast as they are stopped: {count} were, still {left} go on"
    )
}
