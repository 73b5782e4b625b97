//! Looks up names, each beside the others.
//!
//! In: host names. Out: their addresses. Bounded: a name has one thread at most, because a resolver that is silent holds
//! each question for half a minute, and a name that is asked again meanwhile would add a thread every few seconds. How
//! many names there are is bounded by `quarantine::lifelines::lookups`, and how many have threads here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::host::surroundings;
use crate::host::worker::{Worker, WorkerError};

/// How long one name may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Names that may have a thread at a time: as many as are looked up, and as many again that hang from before. Where the
/// resolver's own files hang, each name would keep its thread for ever, and others may write names into the host's files.
const MAX_THREADS: usize = 256;

/// What a name gave.
pub(super) type Resolved = (String, Result<Vec<IpAddr>, String>);

/// Names that are being looked up, or were.
#[derive(Default)]
pub(super) struct Names {
    workers: BTreeMap<String, Worker>,
    asked: BTreeSet<String>,
    answers: JoinSet<Resolved>,
}

impl Names {
    /// Begins to look a name up.
    pub(super) fn look_up(&mut self, host: String) {
        self.asked.insert(host.clone());
        if self.workers.len() >= MAX_THREADS && !self.workers.contains_key(&host) {
            let why = format!("{host} is not looked up: {MAX_THREADS} names hang already");
            self.answers.spawn(async move { (host, Err(why)) });
            return;
        }
        let worker = self.workers.entry(host.clone());
        let worker = worker.or_insert_with(|| Worker::new("look-up", LIMIT)).clone();
        self.answers.spawn(async move {
            let name = host.clone();
            let found = match worker.run(move || surroundings::resolve(&name)).await {
                Ok(found) => found,
                Err(WorkerError::Late { .. }) => Err(format!(
                    "{host} did not resolve within {} seconds",
                    LIMIT.as_secs()
                )),
                Err(error) => Err(format!("{host} did not resolve: {}", crate::error_text(&error))),
            };
            (host, found)
        });
    }

    /// The next name that has an outcome; cancel-safe. `None` while none is looked up.
    pub(super) async fn next(&mut self) -> Option<Resolved> {
        let (host, found) = self.answers.join_next().await?.ok()?;
        self.asked.remove(&host);
        // Those whose threads still hang keep their place.
        let Self { workers, asked, .. } = self;
        workers.retain(|name, worker| asked.contains(name) || !worker.is_idle());
        Some((host, found))
    }
}
