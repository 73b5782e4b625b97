//! Broker and nucleus, and what may happen to them.

use std::path::PathBuf;
use std::time::Duration;

use edgewarden_lab::nucleus::read_component_env;
use edgewarden_lab::site::{LoopbackBroker, Running, SpawnSpec, wait_until};
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
    nucleus: Running,
    pub broker: LoopbackBroker,
    folder: tempfile::TempDir,
    socket: &'static str,
}

impl Scene {
    pub fn start(personality: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.yaml"), RECIPE).unwrap();
        let broker = LoopbackBroker::start(folder.path()).unwrap();
        let program = env!("CARGO_BIN_EXE_edgewarden-lab");
        let mut spec = SpawnSpec::new(program, folder.path().join("nucleus.log"));
        let broker_address = format!("127.0.0.1:{}", broker.port);
        let arguments = [
            "nucleus",
            "--recipe",
            "recipe.yaml",
            "--artifacts",
            ".",
            "--root",
            "root",
        ];
        let more = [
            "--mqtt-backoff-max-seconds",
            "1",
            "--personality",
            personality,
            "--broker",
        ];
        spec.args = arguments.iter().chain(&more).map(Into::into).collect();
        spec.args.push(broker_address.into());
        spec.directory = Some(folder.path().to_owned());
        let mut nucleus = Running::start_here(spec).unwrap();
        nucleus
            .wait_event(LIMIT, |event| {
                event["event"] == "mqtt" && event["state"] == "connected"
            })
            .unwrap();
        let socket = if personality == "lite" {
            "gg-ipc.socket"
        } else {
            "ipc.socket"
        };
        Self {
            nucleus,
            broker,
            folder,
            socket,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("root").join(self.socket)
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Where clients find the nucleus, with the proxy in between.
    pub fn proxied(&self, client: usize) -> PathBuf {
        self.folder.path().join(format!("proxy-{client}.socket"))
    }

    /// Every connection ends and the token is another one; the process stays.
    pub fn restart_in_place(&mut self) {
        self.nucleus.signal(Signal::SIGUSR1).unwrap();
    }

    /// The process ends without a word, and another one starts with a token of its own.
    pub fn kill_and_start(&mut self) {
        self.nucleus.restart().unwrap();
    }

    pub fn kill_broker(&mut self) {
        self.broker.running.kill9().unwrap();
    }

    pub fn start_broker(&mut self) {
        self.broker.running.restart().unwrap();
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
