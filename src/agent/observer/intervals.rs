//! Closes the running interval on its schedule, or early when a report is wanted, and hands it to whoever listens.
//!
//! In: the observer, the schedule's interval from the configuration, wishes of the reporter. Out: each closed interval
//! once, to the detector and the reporter side by side; neither waits for the other. Absent: what they make of it.
//! Invariant: intervals are closed whether or not reports are sent, or could be.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as TurnMutex, broadcast, watch};

use super::Observer;
use crate::config::Config;
use crate::host::clock;
use crate::host::net::netlink::NetlinkError;
use crate::host::worker::{Worker, WorkerError};
use crate::observe::{Interval, LinkCounters, SocketSnapshot};
use crate::report::schedule::Schedule;

/// Intervals that a slow listener may be behind; what it misses then it is told. Reports are minutes apart.
const WAITING: usize = 8;
/// How long an observation may take. The dumps grow with the sockets and interfaces that others make.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// One interval and what was there at its end.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) interval: Interval,
    pub(crate) sockets: Result<SocketSnapshot, NetlinkError>,
    /// The kernel's totals, from which reports take theirs.
    pub(crate) links: Result<Vec<LinkCounters>, NetlinkError>,
}

/// How the reporter gets closed intervals.
pub(crate) type Closed = broadcast::Receiver<Arc<Observation>>;

/// Why no interval is closed early.
#[derive(Debug)]
pub(crate) enum NotEarly {
    /// The service would throttle the report; it would not after this time.
    TooSoon(Duration),
    /// The observer gives no answer.
    Failed(WorkerError),
}

/// Shared by the task that closes and the reporter.
#[derive(Clone)]
pub(crate) struct Intervals {
    observer: Arc<Observer>,
    schedule: Arc<Mutex<Schedule>>,
    closed: broadcast::Sender<Arc<Observation>>,
    /// Closing is one step for everybody: two at a time would both find the same slot due.
    turn: Arc<TurnMutex<()>>,
    worker: Worker,
}

impl Intervals {
    /// `since_last` is how long ago a report was sent before this start: none may follow too soon.
    pub(crate) fn new(observer: Arc<Observer>, interval: Duration, since_last: Option<Duration>) -> Self {
        let schedule = Schedule::new(interval, fastrand::u64(..), clock::instant(), since_last);
        Self {
            observer,
            schedule: Arc::new(Mutex::new(schedule)),
            closed: broadcast::channel(WAITING).0,
            turn: Arc::default(),
            worker: Worker::new("intervals", LOOK_LIMIT),
        }
    }

    /// Everything closed from this moment on.
    pub(crate) fn listen(&self) -> Closed {
        self.closed.subscribe()
    }

    /// Closes intervals for ever.
    pub(crate) async fn run(self, mut config: watch::Receiver<Config>) {
        loop {
            self.follow(config.borrow_and_update().reporting.interval);
            let next = self.next();
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => self.close_when_due().await,
                // Otherwise the agent is stopping.
                Ok(()) = config.changed() => {}
            }
        }
    }

    /// Closes the running interval at once, for a report that somebody wants; it comes to every listener as others do.
    ///
    /// # Errors
    /// When the service would throttle such a report, or nothing can be seen.
    pub(crate) async fn close_early(&self) -> Result<(), NotEarly> {
        let _turn = self.turn.lock().await;
        let wait = {
            let earliest = crate::lock(&self.schedule).earliest();
            earliest.map(|earliest| earliest.saturating_duration_since(clock::instant()))
        };
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(NotEarly::TooSoon(wait)),
            None => self.close().await.map_err(NotEarly::Failed),
        }
    }

    /// The service said that reports come too often.
    pub(crate) fn throttled(&self) {
        crate::lock(&self.schedule).throttled(clock::instant());
    }

    /// When the running interval is closed.
    pub(crate) fn next(&self) -> Instant {
        crate::lock(&self.schedule).next()
    }

    /// The running interval as it stands; nothing is closed.
    pub(crate) async fn peek(&self) -> Result<Observation, WorkerError> {
        let observer = Arc::clone(&self.observer);
        self.worker.run(move || observe(&observer, Observer::peek)).await
    }

    /// The kernel's counters now.
    pub(crate) async fn links(&self) -> Option<Vec<LinkCounters>> {
        let observer = Arc::clone(&self.observer);
        let links = self.worker.run(move || observer.link_counters()).await;
        links.ok()?.ok()
    }

    async fn close_when_due(&self) {
        let _turn = self.turn.lock().await;
        // Closed early or throttled meanwhile.
        if !crate::lock(&self.schedule).is_due(clock::instant()) {
            return;
        }
        if let Err(error) = self.close().await {
            tracing::warn!("the interval is not closed yet: {}", crate::error_text(&error));
        }
    }

    async fn close(&self) -> Result<(), WorkerError> {
        let (observer, closed) = (Arc::clone(&self.observer), self.closed.clone());
        let schedule = Arc::clone(&self.schedule);
        let work = move || {
            let observation = observe(&observer, Observer::take_interval);
            crate::lock(&schedule).sent(clock::instant());
            // Handed on here, so that an interval which took too long to close is late and not lost. Without any
            // listener there is nobody to tell.
            drop(closed.send(Arc::new(observation)));
        };
        let done = self.worker.run(work).await;
        if done.is_err() {
            crate::lock(&self.schedule).sent(clock::instant());
        }
        done
    }

    fn follow(&self, interval: Duration) {
        let mut schedule = crate::lock(&self.schedule);
        if schedule.interval() != interval {
            schedule.set_interval(interval, clock::instant());
        }
    }
}

fn observe(observer: &Observer, take: impl Fn(&Observer, jiff::Timestamp) -> Interval) -> Observation {
    Observation {
        interval: take(observer, clock::now().wall),
        sockets: observer.sockets(),
        links: observer.link_counters(),
    }
}
