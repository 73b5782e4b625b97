//! Deployments that are about to update components, and how to make them wait. Classic only.
//!
//! Local deployments announce nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire;

/// Subscribes to deployments that update components of this device. Needs no policy.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[non_exhaustive]
pub struct SubscribeToComponentUpdates {}

impl SubscribeToComponentUpdates {
    /// The request, which has no arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// What a deployment does to components of this device, before and after it does it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Events")]
#[non_exhaustive]
pub enum ComponentUpdate {
    /// The deployment is about to update components. It waits for [`DeferComponentUpdate`], 60 s by default.
    Before {
        /// Id of the deployment, for [`DeferComponentUpdate`].
        deployment_id: String,
        /// Whether the nucleus restarts for it, and with it this component and the connection.
        nucleus_restarts: bool,
    },
    /// The deployment has updated components.
    After {
        /// Id of the deployment, the same as before the update.
        deployment_id: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Events {
    pre_update_event: Option<Event>,
    post_update_event: Option<Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    deployment_id: String,
    #[serde(default)]
    is_ggc_restarting: bool,
}

impl TryFrom<Events> for ComponentUpdate {
    type Error = &'static str;

    fn try_from(events: Events) -> Result<Self, Self::Error> {
        match (events.pre_update_event, events.post_update_event) {
            (Some(event), None) => Ok(Self::Before {
                deployment_id: event.deployment_id,
                nucleus_restarts: event.is_ggc_restarting,
            }),
            (None, Some(event)) => Ok(Self::After {
                deployment_id: event.deployment_id,
            }),
            _ => Err("expected either a preUpdateEvent or a postUpdateEvent"),
        }
    }
}

/// Answers a [`ComponentUpdate::Before`]. Needs no policy.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeferComponentUpdate<'a> {
    /// Id of the deployment, from [`ComponentUpdate::Before`].
    pub deployment_id: &'a str,
    /// Why it should wait, for the log of the nucleus; absent by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'a str>,
    /// After this time the nucleus asks again; zero lets the update go on. Sent in whole milliseconds.
    #[serde(rename = "recheckAfterMs", serialize_with = "wire::milliseconds")]
    pub recheck_after: Duration,
}

impl<'a> DeferComponentUpdate<'a> {
    /// Makes the deployment wait for `recheck_after`, and ask again then.
    #[must_use]
    pub fn new(deployment_id: &'a str, recheck_after: Duration) -> Self {
        Self {
            deployment_id,
            message: None,
            recheck_after,
        }
    }

    /// Lets the deployment go on at once.
    #[must_use]
    pub fn go_on(deployment_id: &'a str) -> Self {
        Self::new(deployment_id, Duration::ZERO)
    }
}
