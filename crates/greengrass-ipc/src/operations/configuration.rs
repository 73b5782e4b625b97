//! Component configuration: reading it, changing it and hearing of changes.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wire;
use crate::client::Client;
use crate::error::IpcError;
use crate::subscription::Subscription;

/// Reads configuration. Needs no policy, not even for other components.
///
/// [`IpcError::is_not_found`] when there is no such key or component. Lite answers with about 9 kB at most.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct GetConfiguration<'a> {
    /// Component whose configuration is meant; this component's own when absent, which it is by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component_name: Option<&'a str>,
    /// Path to the value, one key a level; empty for the whole configuration.
    pub key_path: &'a [&'a str],
}

impl<'a> GetConfiguration<'a> {
    /// Reads the part of this component's own configuration below `key_path`.
    #[must_use]
    pub fn new(key_path: &'a [&'a str]) -> Self {
        Self {
            component_name: None,
            key_path,
        }
    }
}

/// Answer to [`GetConfiguration`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConfigurationReply {
    /// Component whose configuration it is, where the nucleus says so.
    pub component_name: Option<String>,
    /// A map bare, any other value wrapped in a map with the last key (`{"interval": 300}`). Lite gives the scalars of
    /// a YAML recipe as strings.
    pub value: Value,
}

/// Changes the component's own configuration. Needs no policy; the policies themselves (`accessControl`) cannot be
/// changed.
///
/// A leaf that was changed later than `timestamp` stays: classic answers
/// [`crate::ErrorCode::FailedUpdateConditionCheck`], lite answers as if it had changed it. Lite takes 1,022 bytes in a
/// string.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UpdateConfiguration<'a> {
    /// Path to the map to merge into, one key a level; empty for the whole configuration.
    pub key_path: &'a [&'a str],
    /// When the change was decided, as a rule now.
    #[serde(serialize_with = "wire::time")]
    pub timestamp: SystemTime,
    /// What to merge: leaves that it does not name stay as they are.
    pub value_to_merge: &'a Value,
}

impl<'a> UpdateConfiguration<'a> {
    /// Merges `value_to_merge` into the part of this component's own configuration below `key_path`.
    #[must_use]
    pub fn new(key_path: &'a [&'a str], value_to_merge: &'a Value, timestamp: SystemTime) -> Self {
        Self {
            key_path,
            timestamp,
            value_to_merge,
        }
    }
}

/// Subscribes to changes of configuration. Needs no policy. On lite a deployment that changes the configuration
/// restarts the component.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SubscribeToConfigurationUpdate<'a> {
    /// Component whose configuration is meant; this component's own when absent, which it is by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component_name: Option<&'a str>,
    /// Path to what is watched, one key a level; empty for the whole configuration.
    pub key_path: &'a [&'a str],
}

impl<'a> SubscribeToConfigurationUpdate<'a> {
    /// Hears of changes of this component's own configuration below `key_path`.
    #[must_use]
    pub fn new(key_path: &'a [&'a str]) -> Self {
        Self {
            component_name: None,
            key_path,
        }
    }
}

/// A part of a component's configuration has changed. The new value has to be read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Events")]
#[non_exhaustive]
pub struct ConfigurationUpdate {
    /// Component whose configuration changed, where the nucleus says so.
    pub component_name: Option<String>,
    /// Path to what changed, one key a level; empty when anything may have.
    pub key_path: Vec<String>,
}

impl ConfigurationUpdate {
    /// An update as the nucleus would tell it, for tests of code that takes one.
    #[must_use]
    pub fn new(component_name: Option<String>, key_path: Vec<String>) -> Self {
        Self {
            component_name,
            key_path,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Events {
    configuration_update_event: Event,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    component_name: Option<String>,
    #[serde(default, deserialize_with = "wire::read_nullable")]
    key_path: Vec<String>,
}

impl From<Events> for ConfigurationUpdate {
    fn from(events: Events) -> Self {
        let event = events.configuration_update_event;
        Self {
            component_name: event.component_name,
            key_path: event.key_path,
        }
    }
}

impl Client {
    /// The value that [`GetConfiguration`] answers with, of `component_name` or, when that is `None`, of this component.
    ///
    /// # Errors
    /// [`IpcError::is_not_found`] when there is no such key; see [`IpcError`] for the rest.
    pub async fn get_configuration(
        &self,
        component_name: Option<&str>,
        key_path: &[&str],
    ) -> Result<Value, IpcError> {
        let request = GetConfiguration {
            component_name,
            key_path,
        };
        self.request(&request).await.map(|answer| answer.value)
    }

    /// [`SubscribeToConfigurationUpdate`] of `component_name` or, when that is `None`, of this component.
    ///
    /// # Errors
    /// Of the first attempt only; a subscription that stood once is renewed for ever. See [`IpcError`].
    pub async fn subscribe_to_configuration_update(
        &self,
        component_name: Option<&str>,
        key_path: &[&str],
    ) -> Result<Subscription<ConfigurationUpdate>, IpcError> {
        let request = SubscribeToConfigurationUpdate {
            component_name,
            key_path,
        };
        self.subscribe(&request).await
    }
}
