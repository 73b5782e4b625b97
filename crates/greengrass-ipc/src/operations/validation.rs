//! A say in new configuration before a deployment applies it. Classic only.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Subscribes to configuration that a deployment wants to give the component. Needs no policy.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct SubscribeToValidateConfigurationUpdates {}

/// Configuration a deployment wants to apply. Without a report in time (20 s unless the deployment says otherwise) the
/// nucleus fails the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Events")]
pub struct ProposedConfiguration {
    /// The deployment, for the report.
    pub deployment_id: String,
    /// The whole new configuration.
    pub configuration: Value,
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
    /// The verdict.
    pub configuration_validity_report: ConfigurationValidityReport<'a>,
}

/// A verdict on new configuration.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConfigurationValidityReport<'a> {
    /// The verdict itself.
    pub status: ConfigurationValidity,
    /// The deployment it is about.
    pub deployment_id: &'a str,
    /// Why, for the log of the deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
}

/// Whether new configuration is acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ConfigurationValidity {
    /// The deployment may go on.
    Accepted,
    /// The deployment fails.
    Rejected,
}

impl<'a> SendConfigurationValidityReport<'a> {
    /// Lets the deployment go on.
    #[must_use]
    pub fn accept(deployment_id: &'a str) -> Self {
        Self::new(ConfigurationValidity::Accepted, deployment_id, None)
    }

    /// Fails the deployment, saying why.
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
