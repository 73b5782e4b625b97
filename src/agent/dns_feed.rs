//! Feeds the lifelines with the DNS answers that this machine gets while something is cut.
//!
//! In: what is watched for ([`super::addresses`]), the enforcement state, DNS messages ([`crate::host::net::dns_tap`]).
//! Out: addresses for the enforcer, at once. The tap is open only while it can be of use, and its messages are looked at
//! on its own thread, from which only addresses come. What counts is `quarantine::dns_answers`'. A tap that cannot be
//! opened costs speed only: names are looked up anyway.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::enforcement::Enforcement;
use super::enforcer::EnforcerCommand;
use crate::host::clock;
use crate::host::net::dns_tap::{DnsTap, TapError};
use crate::quarantine::lifelines::dns_answers::{Datagram, DnsAnswers, WatchedNames};
use crate::quarantine::lifelines::lifeline::Endpoint;

/// From one batch of addresses to the next: each may load the rules, and any program can ask for many buckets' names.
/// What comes meanwhile waits in the kernel, and is lost when that is full.
const PAUSE: Duration = Duration::from_millis(100);
/// How long an endpoint that was told is not told again.
const TOLD: Duration = Duration::from_secs(60);
/// Endpoints remembered as told; beyond it all are told anew.
const MAX_TOLD: usize = 1_024;
/// After the tap could not be opened.
const RETRY: Duration = Duration::from_secs(60);

/// Watches for ever.
pub(super) struct DnsFeed {
    /// What to watch for.
    pub(super) watched: watch::Receiver<WatchedNames>,
    /// Where addresses go, and whether something is cut.
    pub(super) enforcer: Enforcement,
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
                tracing::warn!("new addresses of lifelines are found by look-ups only: {failed}");
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
        let (watched, mut memory) = (self.watched.clone(), Seen::default());
        let look = move |datagram: &Datagram<'_>| {
            let now = clock::now().uptime;
            let found = memory.answers.see(datagram, &watched.borrow(), now);
            memory.news(found, now)
        };
        let mut tap = DnsTap::open()?.in_background(look)?;
        tracing::debug!("DNS answers are watched");
        loop {
            let news = tokio::select! {
                news = tap.next() => news?,
                _ = self.until(false) => return Ok(()),
            };
            tracing::debug!("{} endpoints of lifelines in DNS answers", news.len());
            self.enforcer.send(EnforcerCommand::Addresses(news)).await;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What was seen and told.
#[derive(Default)]
struct Seen {
    answers: DnsAnswers,
    told: BTreeMap<Endpoint, Duration>,
}

impl Seen {
    fn news(&mut self, mut found: Vec<Endpoint>, now: Duration) -> Vec<Endpoint> {
        if self.told.len() >= MAX_TOLD {
            self.told.clear();
        }
        let lately = |when: &Duration| now.saturating_sub(*when) < TOLD;
        found.retain(|endpoint| !self.told.get(endpoint).is_some_and(lately));
        self.told.extend(found.iter().map(|endpoint| (*endpoint, now)));
        found
    }
}
