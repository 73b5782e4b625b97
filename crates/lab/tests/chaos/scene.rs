//! Broker and nucleus, and what may happen to them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum as _;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::nucleus::{LoopbackNucleus, read_component_env};
use edgewarden_lab::site::wait_until;
use nix::sys::signal::Signal;
use tokio::net::UnixStream;

/// Generous: the machine may be busy with other tests.
pub const LIMIT: Duration = Duration::from_secs(15);

pub const COMPONENT: &str = "com.example.Chaos";

const RECIPE: &str = r#"
RecipeFormatVersion: "2020-01-25"
ComponentName: com.example.Chaos
ComponentVersion: "1.0.0"
ComponentConfiguration:
  DefaultConfiguration:
    accessControl:
      aws.greengrass.ipc.mqttproxy:
        "chaos:1":
          operations: [aws.greengrass#PublishToIoTCore, aws.greengrass#SubscribeToIoTCore]
          resources: ["chaos/*"]
Manifests:
  - Platform: {os: linux, runtime: "*"}
    Lifecycle: {}
"#;

pub struct Scene {
    nucleus: LoopbackNucleus,
    folder: tempfile::TempDir,
}

impl Scene {
    pub fn start(personality: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.yaml"), RECIPE).unwrap();
        let nucleus = LoopbackNucleus::start(
            Path::new(env!("CARGO_BIN_EXE_edgewarden-lab")),
            folder.path(),
            Personality::from_str(personality, false).unwrap(),
            "127.0.0.1",
            &["--mqtt-backoff-max-seconds", "1"],
        )
        .unwrap();
        Self { nucleus, folder }
    }

    pub fn socket(&self) -> PathBuf {
        self.nucleus.socket.clone()
    }

    pub fn root(&self) -> PathBuf {
        self.nucleus.root.clone()
    }

    /// Where clients find the nucleus, with the proxy in between.
    pub fn proxied(&self, client: usize) -> PathBuf {
        self.folder.path().join(format!("proxy-{client}.socket"))
    }

    /// Every connection ends and the token is another one; the process stays.
    pub fn restart_in_place(&mut self) {
        self.nucleus.running.signal(Signal::SIGUSR1).unwrap();
    }

    /// The process ends without a word, and another one starts with a token of its own.
    pub fn kill_and_start(&mut self) {
        self.nucleus.running.restart().unwrap();
    }

    pub fn broker_port(&self) -> u16 {
        self.nucleus.broker.port
    }

    pub fn kill_broker(&mut self) {
        self.nucleus.broker.running.kill9().unwrap();
    }

    pub fn start_broker(&mut self) {
        self.nucleus.broker.running.restart().unwrap();
    }
}

/// The token the nucleus takes at this moment.
pub fn token(root: &std::path::Path) -> String {
    let mut token = None;
    let read = wait_until(LIMIT, "component.env", || {
        token = read_component_env(root)
            .ok()
            .and_then(|mut env| env.remove("SVCUID"));
        token.is_some()
    });
    read.unwrap();
    token.unwrap()
}

pub async fn dial(socket: &std::path::Path) -> std::io::Result<UnixStream> {
    UnixStream::connect(socket).await
}
