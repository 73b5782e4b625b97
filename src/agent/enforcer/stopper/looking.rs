//! What the stopper looks at before it does anything: who runs and is named, who is stopped already, and by whom.
//!
//! In: rules, who is protected, the roll. Out: whom the rules select, whom an earlier life of ours stopped, what the nucleus is.
//! Each look ends when nobody waits for it any more. Absent: what became of signals (`outcome`).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;

use super::{Stopper, named};
use crate::moment::Now;
use crate::process::{Process, ProcessId};
use crate::quarantine::orders::order::{ProcessAction, ProcessRule};
use crate::quarantine::plan::processes::{
    PathsMeant, ProcessSelection, ProtectedProcesses, StoppedProcess, select,
};
use crate::quarantine::ports::{Doing, Processes, RanAbove};
use crate::quarantine::proof::obstacle::Obstacle;

/// Searches that may find more than there is room for: some thousand processes, and an agent freezes some hundred. The mark
/// is no secret, and whoever puts it on his own processes again and again would have them let go and recorded for ever.
const MAX_OVERFULL: u32 = 8;

/// What is the case before anybody is stopped.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Who is stopped already, by his owner.
    pub(super) stopped: BTreeSet<ProcessId>,
    /// Who runs above each.
    pub(super) above: RanAbove,
}

impl<P: Processes> Stopper<P> {
    /// Whom `rules` name now.
    ///
    /// # Errors
    /// The processes cannot be listed.
    pub(super) async fn select(
        &mut self,
        rules: &[ProcessRule],
        protected: &ProtectedProcesses,
    ) -> Result<ProcessSelection, Obstacle> {
        if rules.is_empty() {
            return Ok(ProcessSelection::default());
        }
        let list = self.processes.list(PathsMeant::new(rules, protected));
        let list = unless(&mut self.put_off, list).await?;
        let mut selection = select(&list, rules, protected, self.roll.named());
        // The killed are looked at until they have ended, and are in no list then.
        let is_frozen = |known: &StoppedProcess| known.action == ProcessAction::Freeze;
        selection
            .unseen
            .retain(|(id, _)| self.roll.of(*id).is_some_and(is_frozen));
        Ok(selection)
    }

    /// Learns what a nucleus that is connected is, once, and says so of whoever may be one later.
    pub(super) async fn with_traces(&mut self, protected: &ProtectedProcesses) -> ProtectedProcesses {
        if let Some(nucleus) = protected.nucleus.filter(|nucleus| self.traced != Some(*nucleus)) {
            let traces = unless(&mut self.put_off, self.processes.trace(nucleus)).await;
            if let Ok(traces) = traces {
                self.traced = Some(nucleus);
                if !traces.is_empty() {
                    self.traces = traces;
                }
            }
        }
        ProtectedProcesses {
            traces: self.traces.clone(),
            ..protected.clone()
        }
    }

    /// What is the case before those are stopped who are to be for the first time.
    pub(super) async fn before(&mut self, selection: &ProcessSelection) -> Result<Before, Obstacle> {
        let new = selection.act.iter();
        let new = new.filter(|(process, _)| !self.roll.knows(process.identity));
        let new: Vec<&(Process, ProcessAction)> = new.collect();
        if new.is_empty() {
            return Ok(Before::default());
        }
        // Also of those that are to be killed: another plan may spare them when they are stopped.
        let asked = new.iter().map(|(process, action)| (process.identity, *action));
        let doing = self.look_at(asked.collect(), Duration::ZERO).await?;
        // Whoever stopped himself with one below him that we stopped goes on, as he would without an order of his own.
        let ran = self.roll.ran();
        let by_owner = |doing: &Doing| doing.by_owner && !ran.contains(&doing.id);
        let stopped = doing.into_iter().filter(by_owner);
        let of = new.iter().map(|(process, _)| process.identity);
        let above = self.processes.above(of.collect(), ran.clone());
        Ok(Before {
            stopped: stopped.map(|doing| doing.id).collect(),
            above: unless(&mut self.put_off, above).await?,
        })
    }

    /// Looks anew who runs above those that others let go on: their owner may have let those go on too, who were stopped above them
    /// and stop again with the next signal. Without an answer the next look that finds them running asks again.
    pub(super) async fn look_above_again(&mut self, contested: Vec<ProcessId>) {
        if contested.is_empty() {
            return;
        }
        let above = self.processes.above(contested, self.roll.ran());
        for (id, above) in unless(&mut self.put_off, above).await.unwrap_or_default() {
            self.roll.note_above(id, &above);
        }
    }

    pub(super) async fn look_at(
        &mut self,
        processes: Vec<(ProcessId, ProcessAction)>,
        patience: Duration,
    ) -> Result<Vec<Doing>, Obstacle> {
        if processes.is_empty() {
            return Ok(Vec::new());
        }
        let look = self.processes.look_at(processes, patience);
        unless(&mut self.put_off, look).await
    }

    /// Looks for whom an earlier life of ours stopped: the journal may be gone, damaged or older than the kernel.
    ///
    /// # Errors
    /// The processes cannot be listed; the next pass looks again.
    pub(super) async fn search(&mut self, now: Now) -> Result<(), Obstacle> {
        if self.searched {
            return Ok(());
        }
        let remembered = self.roll.all().iter().map(|known| known.identity);
        let suspected = remembered.chain(self.suspected.iter().copied()).collect();
        let found = unless(&mut self.put_off, self.processes.frozen(suspected)).await?;
        let known = self.roll.all().len();
        let adopted = found
            .iter()
            .filter(|found| self.roll.adopt(found, now.wall))
            .count();
        // Who finds no room is looked for again when others were let go.
        self.searched = adopted == found.len();
        if !self.searched && self.roll.all().len() > known {
            self.overfull += 1;
        }
        if self.overfull >= MAX_OVERFULL {
            let left = found.len() - adopted;
            tracing::error!(
                "{left} more processes carry our mark than we ever freeze: somebody else puts it on them"
            );
            self.searched = true;
        }
        Ok(())
    }
}

/// What is looked at, unless nobody waits for it any more: another plan came, or a release.
pub(super) async fn unless<T>(
    put_off: &mut watch::Receiver<bool>,
    look: impl Future<Output = Result<T, Obstacle>>,
) -> Result<T, Obstacle> {
    let put_off = async {
        if put_off.wait_for(|is_put_off| *is_put_off).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = put_off => Err(Obstacle::ProcessesUnknown { why: "another plan came meanwhile".to_owned() }),
        found = look => found,
    }
}

/// Of whom nobody can say whether he is to be stopped, in one sentence: without a right of ours that may be everybody.
pub(super) fn not_known(unknown: &[Process]) -> Option<Obstacle> {
    let first = unknown.first()?;
    let (who, more) = (named(first), unknown.len() - 1);
    let others = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let what = format!(
        "process {who}{others} may be meant or protected and goes on: the path of its program cannot be read"
    );
    Some(Obstacle::ProcessRuns { what })
}
