//! What all connections share: identity, token, configuration, subscriptions, bridge, component, deployments, shadows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::sync::watch;

use super::bridge::Bridge;
use super::component::Component;
use super::deployment::Deployments;
use super::personality::Personality;
use super::settings::{at, changed_leaves};
use super::shadow_store::ShadowStore;
use super::subscriptions::Subscriptions;

/// The nucleus.
pub(super) struct Nucleus {
    pub(super) personality: Personality,
    pub(super) thing: String,
    pub(super) component: String,
    /// Absolute.
    pub(super) root: PathBuf,
    /// Environment of the component besides the token.
    pub(super) environment: BTreeMap<String, String>,
    pub(super) token: Mutex<String>,
    pub(super) configurations: Mutex<Configurations>,
    /// Where the URL of its proxy is.
    pub(super) proxy_file: Option<PathBuf>,
    /// When a component asked for the nucleus' own configuration first, and how long after that the endpoint is told.
    pub(super) endpoint_asked: OnceLock<Instant>,
    pub(super) endpoint_late: Duration,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) bridge: Arc<Bridge>,
    pub(super) component_process: Component,
    pub(super) deployments: Deployments,
    pub(super) shadows: Mutex<ShadowStore>,
    /// Serve SubscribeToIoTCoreConnectionStatus, as newer nuclei do.
    pub(super) connection_status: bool,
    pub(super) clients: AtomicUsize,
    /// Raised to end every connection.
    pub(super) generation: watch::Sender<u64>,
}

/// The configurations components can read.
#[derive(Clone, Debug)]
pub(super) struct Configurations {
    /// As the recipe has it.
    pub(super) default: Value,
    /// The component's, as it is.
    pub(super) own: Value,
    /// The nucleus' own component.
    pub(super) nucleus: Value,
    /// Time of the newest update, in milliseconds since 1970.
    pub(super) updated_millis: i64,
}

impl Nucleus {
    pub(super) fn configurations(&self) -> MutexGuard<'_, Configurations> {
        self.configurations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn token(&self) -> String {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the component's configuration and tells who watches it: lite nobody of a key that went, classic twice of one
    /// that came.
    pub(super) fn change_configuration(&self, change: impl FnOnce(&mut Configurations)) {
        let lite = self.personality.is_lite();
        let told: Vec<(Vec<String>, usize)> = {
            let mut configurations = self.configurations();
            let before = configurations.own.clone();
            change(&mut configurations);
            let times = |path: &Vec<String>| match (at(&before, path), at(&configurations.own, path)) {
                (_, None) if lite => 0,
                (None, Some(_)) if !lite => 2,
                _ => 1,
            };
            let changed = changed_leaves(&before, &configurations.own).into_iter();
            changed.map(|path| (path.clone(), times(&path))).collect()
        };
        for (path, times) in told {
            for _ in 0..times {
                self.subscriptions.configuration_changed(&self.component, &path);
            }
        }
    }

    /// The component is gone, and its configuration with it: whoever asks for it is told that there is none.
    pub(super) fn forget_configuration(&self) {
        self.configurations().own = Value::Null;
    }

    /// It is deployed again, as its recipe has it.
    pub(super) fn restore_configuration(&self) {
        let mut configurations = self.configurations();
        if configurations.own.is_null() {
            configurations.own = configurations.default.clone();
        }
    }

    /// The component's environment, token included.
    pub(super) fn component_environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.environment.clone();
        let token = self.token();
        environment.insert("AWS_CONTAINER_AUTHORIZATION_TOKEN".to_owned(), token.clone());
        environment.insert("SVCUID".to_owned(), token);
        environment
    }

    /// Writes `<root>/component.env`, whole or not at all.
    pub(super) fn write_environment(&self) -> std::io::Result<()> {
        let lines: String = self
            .component_environment()
            .iter()
            .map(|(name, value)| format!("{name}={value}\n"))
            .collect();
        let partial = self.root.join("component.env.partial");
        std::fs::write(&partial, lines)?;
        std::fs::rename(&partial, self.root.join("component.env"))
    }
}

/// Sixteen characters that cannot be guessed.
pub(super) fn new_token() -> std::io::Result<String> {
    let mut random = [0_u8; 12];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
    Ok(STANDARD.encode(random))
}
