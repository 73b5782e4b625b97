//! Follows the component configuration.
//!
//! In: the nucleus' configuration and its changes. Out: a watch channel of valid [`Config`]s; settings and the
//! deployment's wish for the enforcer. The last good document is kept on disk: isolation is restored with it before
//! the nucleus is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use greengrass_ipc::Client;
use serde_json::Value;
use tokio::sync::watch;

use super::board::Board;
use super::enforcer::{Command, Handle, Settings};
use crate::cloud::nucleus;
use crate::config::document::{self, Development};
use crate::config::{Config, Mode};
use crate::document::fault::join;
use crate::host::{clock, files};
use crate::quarantine::orders;
use crate::quarantine::orders::order::Authority;

/// The last good document, in the state directory.
const FILE: &str = "configuration.json";
/// Asks again this often: subscriptions can die without a word.
const REFRESH: Duration = Duration::from_secs(600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(3);

/// Reads what was last good, for the time before the nucleus answers.
pub fn last_good(state_directory: &Path, development: Development, board: &Board) -> Config {
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
    match document::read(&document, development) {
        Ok(config) if !document.is_null() => {
            board.update(|status| status.configuration.source = "disk".into());
            config
        }
        Ok(config) => {
            board.update(|status| status.configuration.source = "defaults".into());
            config
        }
        Err(faults) => {
            tracing::warn!("{} is not valid and not used: {}", path.display(), join(&faults));
            board.update(|status| status.configuration.source = "defaults".into());
            Config::defaults()
        }
    }
}

/// What the configuration says to enforcement.
pub fn settings(config: &Config, nucleus_pid: Option<u32>) -> Settings {
    Settings {
        mode: config.mode,
        isolation: config.isolation.clone(),
        nucleus_pid,
    }
}

/// Follows the configuration for ever.
pub struct Follower {
    /// The nucleus.
    pub client: Client,
    /// Where valid configurations go.
    pub publish: watch::Sender<Config>,
    /// Where settings and the deployment's order go.
    pub enforcer: Handle,
    /// The state directory.
    pub state_directory: PathBuf,
    /// Whether development keys are taken.
    pub development: Development,
    /// The board.
    pub board: Board,
}

impl Follower {
    /// Runs until it is dropped.
    pub async fn run(self) {
        loop {
            match self.client.subscribe_to_configuration_update(None, &[]).await {
                Ok(mut updates) => loop {
                    let fetched = self.fetch().await;
                    let wait = if fetched { REFRESH } else { RETRY };
                    // Whatever it says, and after the wait in any case: ask again.
                    if let Ok(None) = tokio::time::timeout(wait, updates.next()).await {
                        break;
                    }
                },
                Err(error) => {
                    tracing::debug!("no configuration updates yet: {}", crate::error_text(&error));
                    self.fetch().await;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn fetch(&self) -> bool {
        match nucleus::configuration(&self.client).await {
            Ok(document) => {
                self.board.update(|status| status.configuration.problem = None);
                self.take(&document).await;
                true
            }
            // No configuration at all is an empty one.
            Err(error) if error.is_not_found() => {
                self.take(&Value::Null).await;
                true
            }
            Err(error) => {
                let why = format!(
                    "the nucleus did not give the configuration: {}",
                    crate::error_text(&error)
                );
                if self.board.read().configuration.problem.as_ref() != Some(&why) {
                    tracing::warn!("{why}");
                }
                self.board
                    .update(|status| status.configuration.problem = Some(why));
                false
            }
        }
    }

    async fn take(&self, document: &Value) {
        match document::read(document, self.development) {
            Err(faults) => {
                let known = self.board.read().configuration.faults == faults;
                if !known {
                    tracing::warn!(
                        "the configuration is refused, the last good one stays: {}",
                        join(&faults)
                    );
                }
                self.board.update(|status| status.configuration.faults = faults);
            }
            Ok(config) => {
                self.board.update(|status| {
                    status.configuration.faults.clear();
                    status.configuration.source = "nucleus".into();
                    status.mode = if config.mode == Mode::Observe {
                        "observe".into()
                    } else {
                        "enforce".into()
                    };
                });
                self.apply(config, document).await;
            }
        }
    }

    async fn apply(&self, config: Config, document: &Value) {
        let pid = nucleus::pid(&self.client);
        self.enforcer
            .send(Command::Settings(Box::new(settings(&config, pid))))
            .await;
        let now = clock::now().wall;
        let wish = orders::document::read(config.quarantine.as_ref(), Authority::Deployment, now);
        self.enforcer
            .send(Command::Wish {
                authority: Authority::Deployment,
                wish,
            })
            .await;
        if *self.publish.borrow() == config {
            return;
        }
        tracing::info!("new configuration");
        let bytes = serde_json::to_vec(document).unwrap_or_default();
        if let Err(error) = files::replace(&self.state_directory.join(FILE), &bytes) {
            tracing::warn!(
                "{}: the next start begins with the configuration before",
                crate::error_text(&error)
            );
        }
        self.publish.send_replace(config);
    }
}
