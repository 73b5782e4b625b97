//! Follows the component configuration.
//!
//! In: the nucleus' configuration and its changes. Out: a watch channel of valid [`Config`]s; settings and the
//! deployment's wish for the enforcer, once they can be no half-written ones ([`super::settling`]). The last good document is kept on disk: isolation is restored with it, and the
//! detector watches with it, before the nucleus is asked.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::watch;

use super::context::Connected;
use super::enforcer::{EnforcerCommand, EnforcerSettings};
use super::nucleus_watch::NucleusSigns;
use super::settling::Settling;
use crate::cloud::nucleus::ConfigurationUpdates;
use crate::config::document::{self, Development};
use crate::config::{Config, Mode};
use crate::document::fault::{Fault, join};
use crate::host::worker::Worker;
use crate::host::{clock, files};
use crate::process::ProcessId;
use crate::quarantine::orders;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Order};

/// The last good document, in the state directory.
const FILE: &str = "configuration.json";
/// Reads the configuration this often, whether or not a change was told: nucleus lite tells nothing of a key that is removed,
/// and subscriptions die there without a word. It is a question to a process on the same machine.
const REFRESH: Duration = Duration::from_secs(20);
/// What it means that the nucleus knows no configuration of ours.
const NOT_DEPLOYED: &str = "the nucleus knows no configuration of this component, which is not deployed (any more): the last good one stays, and so does \
     what it ordered";
/// After a failure.
const RETRY: Duration = Duration::from_secs(3);
/// How long the disk may take to keep a document.
pub(super) const KEEP_LIMIT: Duration = Duration::from_secs(10);

/// A configuration from before the nucleus was asked.
#[derive(Debug)]
pub(crate) struct LastGood {
    pub(crate) config: Config,
    /// What it was read from; null where nobody has chosen anything.
    pub(super) document: Value,
    /// Where it is from, in the status' words.
    pub(crate) source: &'static str,
}

impl LastGood {
    /// What nobody chose.
    pub(super) fn defaults() -> Self {
        Self {
            config: Config::defaults(),
            document: Value::Null,
            source: DEFAULTS,
        }
    }
}

/// The source of a configuration that nobody chose, as the status has it.
pub(super) const DEFAULTS: &str = "defaults";

/// Waits for a change of the configuration, if changes are told at all; cancel-safe. `false`: they are not any more.
async fn changed(updates: &mut Option<ConfigurationUpdates>) -> bool {
    match updates {
        Some(updates) => updates.changed().await,
        None => std::future::pending().await,
    }
}

/// Reads what was last good, for the time before the nucleus answers.
pub(crate) fn last_good(state_directory: &Path, development: Development) -> LastGood {
    let path = state_directory.join(FILE);
    let bytes = match files::read(&path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => Vec::new(),
        Err(error) => {
            tracing::warn!("{}", crate::error_text(&error));
            Vec::new()
        }
    };
    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let source = if document.is_null() { DEFAULTS } else { "disk" };
    match document::read(&document, development) {
        Ok(config) => LastGood {
            config,
            document,
            source,
        },
        Err(faults) => {
            tracing::warn!("{} is not valid and not used: {}", path.display(), join(&faults));
            LastGood::defaults()
        }
    }
}

/// The mode in the status' words.
pub(super) fn mode(config: &Config) -> String {
    let mode = match config.mode {
        Mode::Observe => "observe",
        Mode::Enforce => "enforce",
    };
    mode.to_owned()
}

/// What the configuration says to enforcement.
pub fn settings(config: &Config, nucleus: Option<ProcessId>) -> EnforcerSettings {
    EnforcerSettings {
        mode: config.mode,
        isolation: config.isolation.clone(),
        nucleus,
    }
}

/// Follows the configuration for ever.
pub(super) struct ConfigFollower {
    pub(super) connected: Connected,
    /// Where valid configurations go.
    pub(super) publish: watch::Sender<Config>,
    /// What is seen of the nucleus: a process of it that was restarted may have forgotten who listens.
    pub(super) signs: watch::Receiver<NucleusSigns>,
    /// Whether development keys are taken.
    pub(super) development: Development,
    /// Keeps the last good document.
    pub(super) keeper: Worker,
    /// The document as it was read last.
    pub(super) settling: Settling,
}

impl ConfigFollower {
    pub(super) async fn run(mut self) {
        let mut signs = self.signs.clone();
        let mut updates = None;
        // Which restarts of the nucleus' processes the subscription is younger than.
        let mut renewed = None;
        loop {
            let restarted = signs.borrow_and_update().restarted;
            if updates.is_none() || renewed != Some(restarted) {
                match self.connected.nucleus.configuration_updates().await {
                    // The one before ends only when this one stands: nothing is missed in between.
                    Ok(subscribed) => (updates, renewed) = (Some(subscribed), Some(restarted)),
                    Err(error) => {
                        tracing::debug!("no configuration updates yet: {}", crate::error_text(&error));
                    }
                }
            }
            let stands = renewed == Some(restarted);
            let mut wait = self.fetch().await;
            if !stands {
                wait = wait.min(RETRY);
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                there = changed(&mut updates) => if !there {
                    updates = None;
                },
                Ok(()) = signs.changed() => {}
            }
        }
    }

    /// Asks the nucleus; how long until it is to be asked again.
    async fn fetch(&mut self) -> Duration {
        let board = &self.connected.context.board;
        match self.connected.nucleus.configuration().await {
            Ok(Some(document)) => {
                board.update(|status| status.configuration.problem = None);
                self.take(&document).await.unwrap_or(REFRESH)
            }
            Ok(None) => {
                self.miss(NOT_DEPLOYED.to_owned());
                REFRESH
            }
            Err(error) => {
                self.miss(format!(
                    "the nucleus did not give the configuration: {}",
                    crate::error_text(&error)
                ));
                RETRY
            }
        }
    }

    /// There is no document. Nobody has taken anything back by that: the last good one and its order stay.
    fn miss(&self, why: String) {
        let board = &self.connected.context.board;
        if board.read().configuration.problem.as_ref() != Some(&why) {
            tracing::warn!("{why}");
        }
        board.update(|status| status.configuration.problem = Some(why));
    }

    /// How long until it counts, if it does not yet: it may be half of what a deployment writes.
    async fn take(&mut self, document: &Value) -> Option<Duration> {
        let unsettled = self.settling.note(document, clock::now().uptime);
        match document::read(document, self.development) {
            Err(faults) if unsettled.is_none() => self.refuse(faults),
            Err(_) => {}
            Ok(config) => {
                // What nobody chose is replaced at once, and also by the same.
                if unsettled.is_none() || !self.connected.context.is_configured() {
                    self.apply(&config, document).await;
                }
                self.order(&config, unsettled.is_none()).await;
            }
        }
        unsettled
    }

    fn refuse(&self, faults: Vec<Fault>) {
        let board = &self.connected.context.board;
        if board.read().configuration.faults == faults {
            return;
        }
        tracing::warn!(
            "the configuration is refused, the last good one stays: {}",
            join(&faults)
        );
        // Not what the disk has: it may not have taken the newest one.
        let document = self.connected.context.in_force.borrow();
        let in_force = faults
            .iter()
            .map(|fault| document::in_force(&document, &fault.path));
        let in_force = in_force.map(Option::unwrap_or_default).collect();
        drop(document);
        board.update(|status| {
            status.configuration.faults = faults;
            status.configuration.in_force = in_force;
        });
    }

    /// Hands on what the deployment orders, if it is known to be all of it or closes in any case.
    async fn order(&self, config: &Config, settled: bool) {
        let now = clock::now().wall;
        let wish = orders::document::read(config.quarantine.as_ref(), Authority::Deployment, now);
        if settled || self.only_closes(&wish) {
            let authority = Authority::Deployment;
            let enforcer = &self.connected.context.enforcer;
            enforcer.send(EnforcerCommand::Wish { authority, wish }).await;
        }
    }

    /// Whether a wish of the deployment lets nothing go and does not touch what the operator ended, whatever it may be half
    /// of.
    fn only_closes(&self, wish: &Result<Wish, Vec<Fault>>) -> bool {
        let state = self.connected.context.enforcer.state();
        let state = state.borrow();
        let is_deployments = |order: &&Order| order.authority == Authority::Deployment;
        let mut ended = state.overridden.iter().flat_map(|ended| &ended.orders);
        let Ok(Wish::Order(order)) = wish else {
            return false;
        };
        !ended.any(|order| is_deployments(&order))
            && order.only_closes(state.orders.iter().find(is_deployments))
    }

    async fn apply(&self, config: &Config, document: &Value) {
        self.connected.context.board.update(|status| {
            status.configuration.faults.clear();
            status.configuration.in_force.clear();
            status.configuration.source = "nucleus".into();
            status.mode = mode(config);
        });
        let enforcer = &self.connected.context.enforcer;
        let settings = settings(config, self.connected.nucleus_process());
        enforcer.send(EnforcerCommand::Settings(Box::new(settings))).await;
        let was_chosen = self.connected.context.is_configured();
        let chosen = if document.is_null() {
            Value::Object(Map::new())
        } else {
            document.clone()
        };
        self.connected.context.in_force.send_replace(chosen);
        if was_chosen && *self.publish.borrow() == *config {
            return;
        }
        tracing::info!("new configuration");
        self.keep(document).await;
        self.publish.send_replace(config.clone());
    }

    async fn keep(&self, document: &Value) {
        let path = self.connected.context.state_directory.join(FILE);
        let bytes = serde_json::to_vec(document).unwrap_or_default();
        let kept = self.keeper.run(move || files::replace(&path, &bytes)).await;
        let why = match kept {
            Ok(Ok(())) => return,
            Ok(Err(error)) => crate::error_text(&error),
            Err(error) => crate::error_text(&error),
        };
        tracing::warn!("{why}: the next start begins with the configuration before");
    }
}
