//! Looks up names, each beside the others.
//!
//! In: host names, resolvers. Out: their addresses. Once resolvers outside have answered, no other word counts for a day: whoever
//! silences them must not speak for them. Bounded: a name has one thread at most, because a resolver that is silent holds
//! each question for half a minute, and a name that is asked again meanwhile would add a thread every few seconds. How
//! many names there are is bounded by `quarantine::lifelines::lookups`, and how many have threads here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::host::clock;
use crate::host::surroundings::{self, Found, Whom};
use crate::host::worker::{Worker, WorkerError};
use crate::quarantine::lifelines::host_settings::Resolvers;

/// How long one name may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Names that may have a thread at a time: as many as are looked up, and as many again that hang from before. Where the
/// resolver's own files hang, each name would keep its thread for ever, and others may write names into the host's files.
const MAX_THREADS: usize = 256;

/// How long a resolver's answer keeps the C library from being believed: as long as the addresses are kept that it gave.
const OWN_WORD: Duration = Duration::from_hours(24);

/// What a name gave.
pub(super) type Resolved = (String, Result<Vec<IpAddr>, String>);

/// Names that are being looked up, or were.
#[derive(Default)]
pub(super) struct Names {
    workers: BTreeMap<String, Worker>,
    asked: BTreeSet<String>,
    answers: JoinSet<(String, Result<Found, String>)>,
    /// Who outside answered last, and when, as uptime.
    answered: Option<(IpAddr, Duration)>,
}

impl Names {
    /// Begins to look a name up with these resolvers; where it is hurried one of them is enough, who answered last.
    pub(super) fn look_up(&mut self, host: String, resolvers: Arc<Resolvers>, is_hurried: bool) {
        let now = clock::now().uptime;
        let lately = |answered: &(IpAddr, Duration)| now.saturating_sub(answered.1) < OWN_WORD;
        let whom = Whom {
            resolvers,
            only: is_hurried.then_some(self.answered.map(|(by, _)| by)),
            own_alone: self.answered.as_ref().is_some_and(lately),
        };
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
            let found = match worker.run(move || surroundings::resolve(&name, &whom)).await {
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
        if let Some(by) = found.as_ref().ok().and_then(|found| found.by) {
            self.answered = Some((by, clock::now().uptime));
        }
        self.asked.remove(&host);
        // Those whose threads still hang keep their place.
        let Self { workers, asked, .. } = self;
        workers.retain(|name, worker| asked.contains(name) || !worker.is_idle());
        Some((host, found.map(|found| found.addresses)))
    }
}
