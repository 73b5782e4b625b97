//! A say in new configuration before a deployment applies it. Classic only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Subscribes to configuration that a deployment wants to give the component. Needs no policy.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[non_exhaustive]
pub struct SubscribeToValidateConfigurationUpdates {}

impl SubscribeToValidateConfigurationUpdates {
    /// The request, which has no arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Configuration a deployment wants to apply. Without a report in time (20 s unless the deployment says otherwise) the
/// nucleus fails the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Events")]
#[non_exhaustive]
pub struct ProposedConfiguration {
    /// Id of the deployment, for [`SendConfigurationValidityReport`].
    pub deployment_id: String,
    /// The whole configuration that this component would have, not only what changes.
    pub configuration: Value,
}

impl ProposedConfiguration {
    /// A proposal as the nucleus would tell it, for tests of code that takes one.
    pub fn new(deployment_id: impl Into<String>, configuration: Value) -> Self {
        Self {
            deployment_id: deployment_id.into(),
            configuration,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Events {
    validate_configuration_update_event: Event,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    deployment_id: String,
    #[serde(default)]
    configuration: Value,
}

impl From<Events> for ProposedConfiguration {
    fn from(events: Events) -> Self {
        let event = events.validate_configuration_update_event;
        Self {
            deployment_id: event.deployment_id,
            configuration: event.configuration,
        }
    }
}

/// Answers a [`ProposedConfiguration`]. Needs no policy.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SendConfigurationValidityReport<'a> {
    /// The verdict with the deployment it is about, one level down as on the wire.
    pub configuration_validity_report: ConfigurationValidityReport<'a>,
}

/// What [`SendConfigurationValidityReport`] says.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConfigurationValidityReport<'a> {
    /// Whether the deployment may go on.
    pub status: ConfigurationValidity,
    /// Id of the deployment, from [`ProposedConfiguration`].
    pub deployment_id: &'a str,
    /// Why it may not, for the log of the deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
}

/// Whether new configuration is acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum ConfigurationValidity {
    /// The deployment may go on and apply it.
    Accepted,
    /// The deployment fails, for the reason that the report gives.
    Rejected,
}

impl<'a> SendConfigurationValidityReport<'a> {
    /// Lets the deployment go on.
    #[must_use]
    pub fn accept(deployment_id: &'a str) -> Self {
        Self::new(ConfigurationValidity::Accepted, deployment_id, None)
    }

    /// Fails the deployment; `message` says why in its log.
    #[must_use]
    pub fn reject(deployment_id: &'a str, message: &'a str) -> Self {
        Self::new(ConfigurationValidity::Rejected, deployment_id, Some(message))
    }

    fn new(status: ConfigurationValidity, deployment_id: &'a str, message: Option<&'a str>) -> Self {
        let configuration_validity_report = ConfigurationValidityReport {
            status,
            deployment_id,
            message,
        };
        Self {
            configuration_validity_report,
        }
    }
}
