//! The MQTT broker of the site: mosquitto in `internet`, as AWS IoT's endpoint on port 8883 (without TLS).

use super::{Ns, Running, Site, SiteError, SpawnSpec, tools};

/// The broker's port; the real service's for MQTT with client certificates.
pub const BROKER_PORT: u16 = 8883;

/// No persistence: a restarted broker has forgotten sessions, retained messages and subscriptions, the worst case.
const CONFIGURATION: &str =
    "listener 8883 0.0.0.0\nlistener 8883 ::\nallow_anonymous true\npersistence false\nuser root\n";

impl Site {
    /// Starts the broker and waits until it listens. [`Running::restart`] brings it back after a kill.
    ///
    /// # Errors
    /// Without mosquitto, or when it does not listen in time.
    pub fn mosquitto(&self) -> Result<Running, SiteError> {
        let program = tools::require("mosquitto")?;
        let file = self.directory().join("mosquitto.conf");
        std::fs::write(&file, CONFIGURATION).map_err(|source| SiteError::File {
            path: file.clone(),
            source,
        })?;
        let mut spec = SpawnSpec::new(program, self.directory().join("mosquitto.log"));
        spec.args = vec!["-c".into(), file.into()];
        spec.ready_port = Some(BROKER_PORT);
        self.spawn_with(Ns::Internet, spec)
    }
}
