//! Components: what one tells the nucleus about itself, and what it asks of others.

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::IpcError;

/// State that a component can give itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum ComponentState {
    /// Started and working.
    Running,
    /// Broken; classic restarts it, three times an hour at most. Lite ignores it.
    Errored,
}

/// Reports the component's own state. Needs no policy. On lite success does not mean that the state was recorded.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct UpdateState {
    /// State that this component is in from now on.
    pub state: ComponentState,
}

impl UpdateState {
    /// Reports that this component is in `state`.
    #[must_use]
    pub fn new(state: ComponentState) -> Self {
        Self { state }
    }
}

/// Declares a request that has nothing but the name of a component.
macro_rules! about_a_component {
    ($($(#[$documentation:meta])* $name:ident;)*) => {$(
        $(#[$documentation])*
        #[derive(Debug, Clone, Copy, Serialize)]
        #[serde(rename_all = "camelCase")]
        #[non_exhaustive]
        pub struct $name<'a> {
            /// Full name of the component, for instance `com.example.Other`.
            pub component_name: &'a str,
        }

        impl<'a> $name<'a> {
            /// The request for the component of this full name.
            #[must_use]
            pub fn new(component_name: &'a str) -> Self {
                Self { component_name }
            }
        }
    )*};
}

about_a_component! {
    /// Freezes the processes of a running generic component. Classic on Linux only, from 2.4.0 on; with cgroup v2 from
    /// 2.16.0 on. Policy service `aws.greengrass.ipc.lifecycle`.
    PauseComponent;
    /// Thaws a paused component. As [`PauseComponent`].
    ResumeComponent;
    /// Restarts a component. Policy service `aws.greengrass.Cli`. A component that restarts itself may get
    /// [`IpcError::ConnectionLost`] or no answer at all.
    RestartComponent;
    /// Stops a component. Classic only. Policy service `aws.greengrass.Cli`.
    StopComponent;
}

/// Answer to [`RestartComponent`] and [`StopComponent`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ComponentOutcome {
    /// Whether it was done: success of the call alone does not say so.
    #[serde(rename = "restartStatus", alias = "stopStatus")]
    pub status: RequestStatus,
    /// Why it was not done, where the nucleus says so.
    pub message: Option<String>,
}

/// Whether the nucleus did to a component what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum RequestStatus {
    /// The component was restarted or stopped.
    Succeeded,
    /// It was not done; [`ComponentOutcome::message`] may say why.
    Failed,
}

impl Client {
    /// [`UpdateState`]: reports that this component is in `state`.
    ///
    /// # Errors
    /// See [`IpcError`].
    pub async fn update_state(&self, state: ComponentState) -> Result<(), IpcError> {
        self.request(&UpdateState::new(state)).await.map(drop)
    }
}
