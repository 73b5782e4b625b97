//! Hurries the look-ups of lifelines' names that programs of this machine ask for while something is cut.
//!
//! In: what is watched for ([`super::addresses`]), the enforcement state, DNS messages ([`crate::host::net::dns_tap`]).
//! Out: names ([`AskedNames`]), at once, and nothing else: what is seen on the wire may be forged. So an address that the
//! nucleus has just been told is looked up before it is tried a second time. The tap is open only while it can be of use,
//! and its messages are looked at on its own thread. A tap that cannot be opened costs speed only: names are looked up anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::enforcement::Enforcement;
use crate::host::clock;
use crate::host::net::dns_tap::{DnsTap, TapError};
use crate::quarantine::lifelines::dns_questions::{Datagram, WatchedNames, asked_for};

/// From one batch of names to the next: any program can ask for many. What comes meanwhile waits in the kernel, and is lost
/// when that is full.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a name that was told is not told again.
const TOLD: Duration = Duration::from_secs(1);
/// Names remembered as told; beyond it all are told anew.
const MAX_TOLD: usize = 256;
/// Names that wait to be taken: all lifelines', and more below them than are looked up at a time.
const MAX_WAITING: usize = 256;
/// After the tap could not be opened.
const RETRY: Duration = Duration::from_secs(60);

/// Names that programs were seen to ask for.
#[derive(Default)]
pub(super) struct AskedNames {
    names: Mutex<BTreeSet<String>>,
    news: Notify,
}

impl AskedNames {
    fn add(&self, names: Vec<String>) {
        let mut waiting = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            if waiting.len() < MAX_WAITING {
                waiting.insert(name);
            }
        }
        self.news.notify_one();
    }

    /// Those that came since the last time, once there are some; cancel-safe.
    pub(super) async fn take(&self) -> BTreeSet<String> {
        loop {
            let names = std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner));
            if !names.is_empty() {
                return names;
            }
            self.news.notified().await;
        }
    }
}

/// Watches for ever.
pub(super) struct DnsFeed {
    /// What to watch for.
    pub(super) watched: watch::Receiver<WatchedNames>,
    /// Whether something is cut.
    pub(super) enforcer: Enforcement,
    /// Where names go.
    pub(super) asked: Arc<AskedNames>,
}

impl DnsFeed {
    pub(super) async fn run(mut self) {
        let mut said = None;
        while self.until(true).await {
            let failed = match self.feed().await {
                Ok(()) => continue,
                Err(error) => crate::error_text(&error),
            };
            if said.as_ref() != Some(&failed) {
                tracing::warn!("names of lifelines are looked up only when they are due: {failed}");
                said = Some(failed);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Waits until the tap is of use, or of none; `false`: the agent is stopping.
    async fn until(&mut self, wanted: bool) -> bool {
        let mut states = self.enforcer.state();
        loop {
            let useful = states.borrow_and_update().may_cut() && !self.watched.borrow_and_update().is_empty();
            if useful == wanted {
                return true;
            }
            let changed = tokio::select! {
                changed = states.changed() => changed,
                changed = self.watched.changed() => changed,
            };
            if changed.is_err() {
                return false;
            }
        }
    }

    /// Feeds until the tap is of no use.
    async fn feed(&mut self) -> Result<(), TapError> {
        let (watched, mut told) = (self.watched.clone(), Told::default());
        let look = move |datagram: &Datagram<'_>| {
            let found = asked_for(datagram, &watched.borrow());
            let news = found.filter(|name| told.is_news(name, clock::now().uptime));
            news.into_iter().collect()
        };
        let mut tap = DnsTap::open()?.in_background(look)?;
        tracing::debug!("DNS questions are watched");
        loop {
            let news = tokio::select! {
                news = tap.next() => news?,
                _ = self.until(false) => return Ok(()),
            };
            self.asked.add(news);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What was told lately.
#[derive(Default)]
struct Told(BTreeMap<String, Duration>);

impl Told {
    fn is_news(&mut self, name: &str, now: Duration) -> bool {
        let lately = |when: &Duration| now.saturating_sub(*when) < TOLD;
        if self.0.get(name).is_some_and(lately) {
            return false;
        }
        if self.0.len() >= MAX_TOLD {
            self.0.clear();
        }
        self.0.insert(name.to_owned(), now);
        true
    }
}
