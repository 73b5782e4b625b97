//! What the component tells the nucleus about itself.

use serde_json::json;

use crate::client::Client;
use crate::error::IpcError;

/// State a component can give itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComponentState {
    /// Started and working.
    Running,
    /// Broken; classic restarts it, three times an hour at most. Lite ignores it.
    Errored,
}

impl Client {
    /// Reports the component's own state.
    ///
    /// # Errors
    /// See [`IpcError`]. On lite success does not mean that the state was recorded.
    pub async fn update_state(&self, state: ComponentState) -> Result<(), IpcError> {
        let state = match state {
            ComponentState::Running => "RUNNING",
            ComponentState::Errored => "ERRORED",
        };
        self.call("UpdateState", json!({ "state": state }))
            .await
            .map(drop)
    }
}
