//! The enforcer's record of what it did: every change once, on disk as soon as nothing waits for it.
//!
//! In: [`Event`]s. Out: the lines of the history, and what stands in the way of writing them. They are written after the
//! rules are in the kernel and the state is told, on a thread of their own, so that no disk stands between an order and
//! the kernel: what must be durable before is the journal's. A crash in between costs the records of the running change,
//! never the order.

mod log;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::host::worker::Worker;
use crate::lock;
use crate::moment::Now;
use crate::quarantine::history::Event;
use crate::quarantine::orders::order::Order;
use crate::quarantine::plan::{Plan, PlanId, Scope};
use crate::quarantine::ports::HistoryStore;
use crate::quarantine::proof::state::HistoryEnd;
use log::{HistoryLog, MAX_WAITING};

/// What a disk takes for a line; a history that is further behind is told.
const LIMIT: Duration = Duration::from_secs(2);

/// Which events are news, so that each change has one record.
#[derive(Debug)]
struct NewsFilter {
    /// The plan that was recorded last, with what held it back; `None` for an open device, which is how we begin.
    planned: Option<(PlanId, Scope, Option<String>)>,
    /// The proof that was recorded last, likewise; an error when it is not known any more.
    proven: Result<Option<(PlanId, Scope)>, ProofInDoubt>,
}

/// What was proven is not known any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProofInDoubt;

impl NewsFilter {
    const fn new() -> Self {
        Self {
            planned: None,
            proven: Ok(None),
        }
    }

    fn plan(&mut self, plan: &Plan, orders: &[Order], held_back: Option<&str>) -> Option<Event> {
        let held_back = held_back.map(str::to_owned);
        let key = (!plan.is_normal()).then(|| (plan.id(), plan.drawn(), held_back.clone()));
        let is_news = self.planned != key;
        self.planned = key;
        is_news.then(|| Event::planned(plan, orders, held_back))
    }

    fn proof(&mut self, plan: &Plan, proven: bool) -> Option<Event> {
        let key = (!plan.is_normal()).then(|| (plan.id(), plan.drawn()));
        let key = if proven { Ok(key) } else { Err(ProofInDoubt) };
        let is_news = self.proven != key;
        self.proven = key;
        (is_news && proven).then(|| Event::Verified {
            plan: plan.id(),
            posture: plan.posture,
        })
    }
}

/// What was noted and has not come to the thread that writes.
#[derive(Default)]
struct UnwrittenEvents {
    events: Vec<(Now, Event)>,
    /// Events beyond [`MAX_WAITING`].
    overflowed: u64,
}

/// What the thread that writes keeps: the log, while an enforcer has one.
#[derive(Default)]
pub(super) struct HistoryDisk(Option<HistoryLog>);

/// The history of one state directory.
pub struct HistoryKeeper {
    directory: PathBuf,
    news: NewsFilter,
    inbox: Arc<Mutex<UnwrittenEvents>>,
    disk: Worker<HistoryDisk>,
    under_way: Option<HistoryWrite>,
    end: Option<HistoryEnd>,
    fault: Option<String>,
}

/// Where the history ends on disk, and what stands in its way.
type Written = (Option<HistoryEnd>, Option<String>);

/// A write that has not ended.
struct HistoryWrite {
    answer: oneshot::Receiver<Option<Written>>,
    /// When that it takes long is told; `None` once it was.
    late: Option<Instant>,
}

fn behind(why: &str) -> String {
    format!("the disk: {why}: what happens is recorded later")
}

impl HistoryKeeper {
    /// Nothing is touched before the first record.
    pub(super) fn new(state_directory: &Path, disk: Worker<HistoryDisk>) -> Self {
        Self {
            directory: state_directory.to_owned(),
            news: NewsFilter::new(),
            inbox: Arc::default(),
            disk,
            under_way: None,
            end: None,
            fault: None,
        }
    }

    /// The thread that writes.
    pub(super) fn disk() -> Worker<HistoryDisk> {
        Worker::new("history", LIMIT)
    }

    /// Takes what was noted into the log.
    fn taken(&self) -> impl FnOnce(&mut HistoryDisk) + Send + 'static {
        let (directory, inbox) = (self.directory.clone(), Arc::clone(&self.inbox));
        move |HistoryDisk(log)| {
            let noted = std::mem::take(&mut *lock(&inbox));
            let log = log.get_or_insert_with(|| HistoryLog::new(&directory));
            noted
                .events
                .into_iter()
                .for_each(|(then, event)| log.note(then, event));
            log.note_overflow(noted.overflowed);
        }
    }
}

impl HistoryStore for HistoryKeeper {
    fn note(&mut self, then: Now, event: Event) {
        let mut inbox = lock(&self.inbox);
        if inbox.events.len() < MAX_WAITING {
            inbox.events.push((then, event));
        } else {
            inbox.overflowed += 1;
        }
    }

    fn note_plan(&mut self, then: Now, plan: &Plan, orders: &[Order], held_back: Option<&str>) {
        if let Some(event) = self.news.plan(plan, orders, held_back) {
            self.note(then, event);
        }
    }

    fn note_proof(&mut self, then: Now, plan: &Plan, proven: bool) {
        if let Some(event) = self.news.proof(plan, proven) {
            self.note(then, event);
        }
    }

    fn record(&mut self, now: Now) {
        if self.under_way.is_some() {
            return;
        }
        let take = self.taken();
        let work = move |disk: &mut HistoryDisk| {
            take(disk);
            let log = disk.0.as_mut()?;
            log.flush(now);
            Some((log.end(), log.fault()))
        };
        match self.disk.begin(work) {
            Ok(answer) => {
                let late = Some(Instant::now() + LIMIT);
                self.under_way = Some(HistoryWrite { answer, late });
            }
            Err(error) => self.fault = Some(behind(&crate::error_text(&error))),
        }
    }

    fn has_unwritten(&self) -> bool {
        let inbox = lock(&self.inbox);
        !inbox.events.is_empty() || inbox.overflowed > 0
    }

    async fn written(&mut self) {
        let Some(write) = &mut self.under_way else {
            return std::future::pending().await;
        };
        let answer = match write.late {
            Some(late) => match tokio::time::timeout_at(late, &mut write.answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    write.late = None;
                    let why = format!("it has not answered for {} s", LIMIT.as_secs());
                    self.fault = Some(behind(&why));
                    return;
                }
            },
            None => (&mut write.answer).await,
        };
        self.under_way = None;
        // Nothing is known of one whose thread failed; the next write tells.
        if let Ok(Some(written)) = answer {
            (self.end, self.fault) = written;
        }
    }

    fn end(&self) -> Option<HistoryEnd> {
        self.end.clone()
    }

    fn fault(&self) -> Option<String> {
        self.fault.clone()
    }
}

impl Drop for HistoryKeeper {
    /// The agent stops, or failed: the last record. What is aborted by a signal ends here too. Who ends the process waits for
    /// it ([`super::HostMachine::last_words`]).
    fn drop(&mut self) {
        let take = self.taken();
        let failed = std::thread::panicking();
        // A disk that is that far behind has no place for it either.
        let _unwritten = self.disk.begin(move |disk| {
            take(disk);
            if failed && let Some(log) = &mut disk.0 {
                log.end_silently();
            }
            // Whose last act is the record.
            disk.0 = None;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::orders::order::Authority;
    use crate::quarantine::plan::{IsolationSettings, fold};

    #[test]
    fn only_news_is_noted() {
        let mut news = NewsFilter::new();
        let mut noted = Vec::new();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let orders = [Order::isolate(Authority::Shadow, "s", None, now)];
        let settings = IsolationSettings::default();
        let closed = fold(&orders, &settings, Vec::new(), Scope::Pinned, now);
        let open = fold(&[], &settings, Vec::new(), Scope::Pinned, now);
        for plan in [&open, &closed, &open] {
            for _ in 0..3 {
                noted.extend(news.plan(plan, &orders, None));
                noted.extend(news.proof(plan, true));
            }
        }
        noted.extend(news.proof(&open, false));
        noted.extend(news.proof(&open, true));
        noted.extend(news.proof(&open, true));
        let kinds = noted
            .iter()
            .map(|event| serde_json::to_value(event).unwrap()["kind"].clone());
        let kinds: Vec<_> = kinds.collect();
        assert_eq!(kinds, ["planned", "verified", "planned", "verified", "verified"]);
    }
}
