//! Publishes Device Defender reports.
//!
//! In: closed intervals, the configuration, the service's answers, questions of the command line. Out: reports through
//! the nucleus. Decisions are `report`'s. Absent: when an interval is closed, and the detector; both go on without reports.
//!
//! `compose` makes a report, `delivery` sends it and takes the answer, [`questions`] answers the command line, `memory` is
//! what is known from report to report.

mod compose;
mod delivery;
pub(crate) mod memory;
pub(crate) mod questions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex as TurnMutex;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use super::context::Connected;
use super::observer::intervals::{Closed, Intervals, Observation};
use crate::cloud::inbox::{Inbox, InboxTopics};
use crate::cloud::topics;
use crate::config::Config;
use crate::host::sources::ForeignSources;
use crate::host::worker::Worker;
use crate::report::caution::CustomMetricPause;
use crate::report::custom::traffic::TrafficTotals;
use compose::Material;
use memory::ReporterMemory;

/// How long the disk may take to keep what became of a report.
const DISK_LIMIT: Duration = Duration::from_secs(10);
/// How long a report may take to be written: 50,000 connections take some tens of milliseconds.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long the directory of other programs' metrics may take to be read; it may lie on anything.
const METRICS_LIMIT: Duration = Duration::from_secs(5);

/// Reports for ever.
#[derive(Clone)]
pub(crate) struct Reporter {
    connected: Connected,
    intervals: Intervals,
    questions: questions::ReportCalls,
    /// Keeps the newest report.
    disk: Worker,
    /// Reads other programs' metrics.
    metrics: Arc<TurnMutex<ForeignSources<PathBuf>>>,
    /// Writes reports.
    writer: Worker,
}

/// What the reporter has for the time of one thing and one task.
struct Work {
    thing: String,
    config: Config,
    memory: ReporterMemory,
    closed: Closed,
}

impl Reporter {
    pub(crate) fn new(connected: Connected, intervals: Intervals, questions: questions::ReportCalls) -> Self {
        Self {
            connected,
            intervals,
            questions,
            disk: Worker::new("last-report", DISK_LIMIT),
            writer: Worker::new("reports", WRITE_LIMIT),
            metrics: Arc::new(TurnMutex::new(ForeignSources::new("metrics", METRICS_LIMIT))),
        }
    }

    /// Ends when a subscription has failed, or with the agent.
    pub(crate) async fn run(self) {
        let mut work = self.begin().await;
        let mut questions = self.questions.lock().await;
        let mut configs = self.connected.context.config.clone();
        work.config = configs.borrow_and_update().clone();
        let mut inbox = self.answers(&work);
        loop {
            let answer_by = work.memory.waiting.as_ref().map(|waiting| waiting.answer_by);
            tokio::select! {
                event = inbox.next() => match event {
                    None => return,
                    Some(event) => self.take(event, &mut work.memory).await,
                },
                changed = configs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let before = std::mem::replace(&mut work.config, configs.borrow_and_update().clone());
                    self.reconfigure(&before, &mut work).await;
                    if before.reporting.encoding.format != work.config.reporting.encoding.format {
                        inbox = self.answers(&work);
                    }
                }
                Some(asked) = questions.recv() => self.reply(asked, &mut work).await,
                observation = work.closed.recv() => match observation {
                    Ok(observation) => self.interval_closed(observation, &mut work).await,
                    Err(RecvError::Lagged(missed)) => tracing::warn!("the reporter missed {missed} intervals"),
                    Err(RecvError::Closed) => return,
                },
                () = until(answer_by) => self.silence(&mut work.memory).await,
            }
        }
    }

    /// Waits until it is known for which thing to report. What is closed meanwhile is told by the first report.
    async fn begin(&self) -> Work {
        let mut closed = self.intervals.listen();
        let mut memory = self.remember().await;
        let thing = self.connected.thing();
        tokio::pin!(thing);
        loop {
            tokio::select! {
                thing = &mut thing => return Work {
                    thing,
                    config: self.connected.context.config.borrow().clone(),
                    memory,
                    closed,
                },
                Ok(observation) = closed.recv() => memory.fold(TrafficTotals::from(&observation.interval)),
            }
        }
    }

    /// The answers' topics follow the format.
    fn answers(&self, work: &Work) -> Inbox {
        let format = work.config.reporting.encoding.format.name();
        let reserved = topics::metrics(&work.thing, format);
        let answers = InboxTopics {
            wide: None,
            topics: vec![format!("{reserved}/accepted"), format!("{reserved}/rejected")],
            required: 0,
        };
        Inbox::open(&self.connected.nucleus, answers)
    }

    async fn reconfigure(&self, before: &Config, work: &mut Work) {
        let (before, after) = (&before.reporting, &work.config.reporting);
        if before.custom != after.custom || before.encoding != after.encoding {
            // What was refused may not be sent any more.
            work.memory.caution = CustomMetricPause::default();
        }
        if before.enabled && !after.enabled {
            // Nobody wants to know what happens meanwhile: the next report begins anew.
            work.memory.ledgers = self.ledgers().await;
            work.memory.untold = None;
            let board = &self.connected.context.board;
            board.update(|status| status.reports.left_out.clear());
        }
    }

    /// Reports the newest closed interval. Those before it that wait as well are told with it: the service takes one
    /// report in an interval, however long the nucleus took for the last.
    async fn interval_closed(&self, observation: Arc<Observation>, work: &mut Work) {
        let mut newest = observation;
        while let Some(next) = work.next_waiting() {
            work.memory.fold(TrafficTotals::from(&newest.interval));
            newest = next;
        }
        if work.config.reporting.enabled {
            let dropped = self.dropped(&work.config).await;
            let material = Material {
                observation: newest,
                dropped,
            };
            self.report(material, work).await;
        } else {
            work.memory.untold = None;
        }
    }
}

impl Work {
    fn next_waiting(&mut self) -> Option<Arc<Observation>> {
        loop {
            match self.closed.try_recv() {
                Ok(observation) => return Some(observation),
                Err(TryRecvError::Lagged(missed)) => tracing::warn!("the reporter missed {missed} intervals"),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }
}

/// Waits until a moment, if there is one.
async fn until(moment: Option<std::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
