//! The nucleus' processes, and the end of each as an event.
//!
//! In: the processes as a walk of `/proc` found them. Out: whether one came in place of another; when to walk again.
//! Bounded: so many processes are waited for.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::host::processes::exits::ExitWatch;
use crate::process::ProcessId;

/// From one walk to the next while nothing happens.
const WALK: Duration = Duration::from_secs(60);
/// After the end of a process: its successor is there soon. The pause doubles up to [`WALK`].
const FIRST_LOOK: Duration = Duration::from_millis(300);
/// Processes waited for; lite has some twenty services, classic is one process.
const MAX_WATCHED: usize = 64;

/// Those that are known.
#[derive(Debug, Default)]
pub(super) struct NucleusProcesses {
    known: BTreeSet<ProcessId>,
    /// Whether there was a walk before: who is found then came since.
    walked: bool,
    /// Uptime of the next walk.
    due: Duration,
    /// Pause after the next walk, while a successor is looked for.
    pause: Option<Duration>,
    ends: JoinSet<ProcessId>,
}

impl NucleusProcesses {
    pub(super) const fn known(&self) -> &BTreeSet<ProcessId> {
        &self.known
    }

    pub(super) fn is_walk_due(&self, now: Duration) -> bool {
        now >= self.due
    }

    /// Walk again not later than this.
    pub(super) fn hasten(&mut self, at: Duration) {
        self.due = self.due.min(at);
    }

    /// A walk found these; whether one of them was not there before.
    pub(super) fn found(&mut self, found: BTreeSet<ProcessId>, now: Duration) -> bool {
        let came: Vec<ProcessId> = found.difference(&self.known).copied().collect();
        for id in came
            .iter()
            .copied()
            .take(MAX_WATCHED.saturating_sub(self.ends.len()))
        {
            // One that cannot be waited for, or ended since, is missed by the next walk.
            if let Ok(Some(end)) = ExitWatch::of(id) {
                self.ends.spawn(async move {
                    end.ended().await;
                    id
                });
            }
        }
        self.known = found;
        let news = !came.is_empty();
        self.pause = self
            .pause
            .filter(|pause| !news && *pause < WALK)
            .map(|pause| pause * 2);
        self.due = now + self.pause.map_or(WALK, |pause| pause.min(WALK));
        std::mem::replace(&mut self.walked, true) && news
    }

    /// Waits until one of them has ended; cancel-safe.
    pub(super) async fn ended(&mut self) -> ProcessId {
        loop {
            match self.ends.join_next().await {
                Some(Ok(id)) => return id,
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// That one has ended: its successor is looked for.
    pub(super) fn forget(&mut self, id: ProcessId, now: Duration) {
        self.known.remove(&id);
        self.pause = Some(FIRST_LOOK);
        self.hasten(now + FIRST_LOOK);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "processes of its own")]

    use std::process::{Child, Command};

    use super::*;
    use crate::host::processes::process_table;

    const LIMIT: Duration = Duration::from_secs(30);

    fn start() -> (Child, ProcessId) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = process_table::read(child.id()).unwrap().identity;
        (child, id)
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_service_that_is_restarted_is_noticed_at_once_and_one_that_stays_away_costs_little() {
        let mut processes = NucleusProcesses::default();
        let (first, first_id) = start();
        let (other, other_id) = start();
        let mut now = Duration::from_secs(100);
        assert!(processes.is_walk_due(now));
        assert!(
            !processes.found(BTreeSet::from([first_id, other_id]), now),
            "the first walk is no news"
        );
        assert!(!processes.is_walk_due(now + WALK - FIRST_LOOK));
        end(first);
        assert_eq!(
            tokio::time::timeout(LIMIT, processes.ended()).await.unwrap(),
            first_id
        );
        processes.forget(first_id, now);
        assert_eq!(*processes.known(), BTreeSet::from([other_id]));
        now += FIRST_LOOK;
        assert!(processes.is_walk_due(now));
        // It stays away for a while: walks grow apart.
        let mut walks = 0;
        let begun = now;
        while now < begun + Duration::from_secs(600) {
            if processes.is_walk_due(now) {
                walks += 1;
                assert!(!processes.found(BTreeSet::from([other_id]), now));
            }
            now += FIRST_LOOK / 3;
        }
        assert!((10..=20).contains(&walks), "{walks} walks in ten minutes");
        let (second, second_id) = start();
        assert!(processes.found(BTreeSet::from([other_id, second_id]), now));
        end(other);
        assert_eq!(
            tokio::time::timeout(LIMIT, processes.ended()).await.unwrap(),
            other_id
        );
        end(second);
    }
}
