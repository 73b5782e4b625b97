//! The MQTT broker of the site: mosquitto in `internet`, as AWS IoT's endpoint on port 8883 (without TLS).

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use super::{Ns, Running, Site, SiteError, SpawnSpec, tools};

/// The broker's port; the real service's for MQTT with client certificates.
pub const BROKER_PORT: u16 = 8883;

/// No persistence: a restarted broker has forgotten sessions, retained messages and subscriptions, the worst case.
const CONFIGURATION: &str =
    "listener 8883 0.0.0.0\nlistener 8883 ::\nallow_anonymous true\npersistence false\nuser root\n";

/// Each message goes out at once: otherwise the second of two would wait 40 ms for the acknowledgement of the first, which would
/// be measured as the agent's; how long messages take is a matter of the relay.
const AT_ONCE: &str = "set_tcp_nodelay true\n";

impl Site {
    /// Starts the broker and waits until it listens. [`Running::restart`] brings it back after a kill.
    ///
    /// # Errors
    /// Without mosquitto, or when it does not listen in time.
    pub fn mosquitto(&self) -> Result<Running, SiteError> {
        self.mosquitto_with(CONFIGURATION)
    }

    /// As [`Site::mosquitto`], on the loopback of `internet` only: what stands before it has its addresses.
    ///
    /// # Errors
    /// As [`Site::mosquitto`].
    pub fn mosquitto_inside(&self) -> Result<Running, SiteError> {
        self.mosquitto_with(&on_loopback(BROKER_PORT))
    }

    fn mosquitto_with(&self, configuration: &str) -> Result<Running, SiteError> {
        let program = tools::require("mosquitto")?;
        let file = self.directory().join("mosquitto.conf");
        std::fs::write(&file, format!("{configuration}{AT_ONCE}")).map_err(|source| SiteError::File {
            path: file.clone(),
            source,
        })?;
        let mut spec = SpawnSpec::new(program, self.directory().join("mosquitto.log"));
        spec.args = vec!["-c".into(), file.into()];
        spec.ready_port = Some(BROKER_PORT);
        self.spawn_with(Ns::Internet, spec)
    }
}

/// The configuration of a broker that only its own namespace reaches.
fn on_loopback(port: u16) -> String {
    CONFIGURATION
        .replace("8883 0.0.0.0", &format!("{port} 127.0.0.1"))
        .replace("8883 ::", &format!("{port} ::1"))
}

/// Tries to find a free port and get it before somebody else does.
const PORT_ATTEMPTS: usize = 5;

/// A broker on the loopback of the caller, for tests that need no network.
#[derive(Debug)]
pub struct LoopbackBroker {
    /// The program.
    pub running: Running,
    /// Its port on 127.0.0.1 and ::1; the same after a restart.
    pub port: u16,
}

impl LoopbackBroker {
    /// Starts mosquitto on a free port; configuration and log go to `directory`.
    ///
    /// # Errors
    /// Without mosquitto, or when it does not listen in time.
    pub fn start(directory: &Path) -> Result<Self, SiteError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match Self::start_on(directory, free_port()?) {
                Err(_) if attempt < PORT_ATTEMPTS => {}
                outcome => return outcome,
            }
        }
    }

    /// As [`start`](Self::start), on this port.
    ///
    /// # Errors
    /// Also when somebody else has the port.
    pub fn start_on(directory: &Path, port: u16) -> Result<Self, SiteError> {
        let file = directory.join("mosquitto.conf");
        std::fs::write(&file, on_loopback(port)).map_err(|source| SiteError::File {
            path: file.clone(),
            source,
        })?;
        let mut spec = SpawnSpec::new(tools::require("mosquitto")?, directory.join("mosquitto.log"));
        spec.args = vec!["-c".into(), file.into()];
        spec.ready_port = Some(port);
        let running = Running::start_here(spec)?;
        Ok(Self { running, port })
    }
}

/// A TCP port of the loopback that nobody has at this moment.
///
/// # Errors
/// When the kernel gives none.
pub fn free_port() -> Result<u16, SiteError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| SiteError::Socket {
            action: "find a free port".to_owned(),
            source,
        })
}
