//! The examples of greengrass-ipc, as programs, against the lab nucleus in both personalities.
//!
//! In: the examples' executables, which lie beside the test's own (`cargo build -p greengrass-ipc --examples`). Out:
//! what they print and how they end, and what broker and nucleus saw of it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum as _;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::nucleus::{LoopbackNucleus, read_component_env};
use edgewarden_lab::site::{LoopbackBroker, Running, SpawnSpec, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Generous: the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(20);

/// Everything the examples do with their own arguments, and nothing else.
const RECIPE: &str = r#"
RecipeFormatVersion: "2020-01-25"
ComponentName: com.example.Examples
ComponentVersion: "1.0.0"
ComponentConfiguration:
  DefaultConfiguration:
    accessControl:
      aws.greengrass.ipc.mqttproxy:
        "examples:1":
          operations: [aws.greengrass#PublishToIoTCore]
          resources: [gateway/hello]
      aws.greengrass.ipc.pubsub:
        "examples:2":
          operations: [aws.greengrass#PublishToTopic, aws.greengrass#SubscribeToTopic]
          resources: [sensors/room]
      aws.greengrass.ShadowManager:
        "examples:3":
          operations: ["*"]
          resources: ["$aws/things/gateway-01/shadow/name/quarantine", gateway-01]
Manifests:
  - Platform: {os: linux, runtime: "*"}
    Lifecycle: {}
"#;

/// Broker, nucleus and a folder for the output of examples.
struct Stage {
    nucleus: Running,
    broker: LoopbackBroker,
    folder: tempfile::TempDir,
    runs: Cell<u32>,
}

impl Stage {
    fn start(personality: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.yaml"), RECIPE).unwrap();
        std::fs::write(folder.path().join("configuration.json"), "{}").unwrap();
        let nucleus = LoopbackNucleus::start(
            Path::new(env!("CARGO_BIN_EXE_edgewarden-lab")),
            folder.path(),
            Personality::from_str(personality, false).unwrap(),
            "127.0.0.1",
            &["--configuration", "configuration.json"],
        )
        .unwrap();
        Self {
            nucleus: nucleus.running,
            broker: nucleus.broker,
            folder,
            runs: Cell::new(0),
        }
    }

    /// Starts an example with the environment of the component.
    fn run(&self, example: &str, arguments: &[&str]) -> Example {
        let number = self.runs.replace(self.runs.get() + 1);
        let log = self.folder.path().join(format!("{example}-{number}.log"));
        let mut spec = SpawnSpec::new(executable(example), &log);
        spec.args = arguments.iter().map(Into::into).collect();
        let environment = read_component_env(&self.folder.path().join("root")).unwrap();
        let pairs = environment.into_iter();
        spec.env = pairs.map(|(name, value)| (name.into(), value.into())).collect();
        let program = Running::start_here(spec).unwrap();
        Example { program, log }
    }
}

/// Executables of examples are in a folder beside that of the tests.
fn executable(example: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::parent).unwrap();
    let path = profile.join("examples").join(example);
    assert!(
        path.is_file(),
        "{} is missing; run: cargo build -p greengrass-ipc --examples",
        path.display()
    );
    path
}

struct Example {
    program: Running,
    log: PathBuf,
}

impl Example {
    fn says(&self, text: &str) {
        let said = wait_until(LIMIT, text, || self.output().contains(text));
        assert!(said.is_ok(), "it never said {text:?}, but: {}", self.output());
    }

    fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for the end, which must be a good one, and that it said so much.
    fn ends_well_with(&mut self, text: &str) {
        self.ends(true, text);
    }

    fn ends(&mut self, well: bool, text: &str) {
        let status = self.program.wait_exit(LIMIT).unwrap();
        self.says(text);
        assert_eq!(status.success(), well, "{status}: {}", self.output());
    }
}

#[test]
fn publish_reaches_the_nucleus_and_says_what_is_known() {
    for personality in ["lite", "classic"] {
        let stage = Stage::start(personality);
        let mut allowed = stage.run("publish", &["gateway/hello", "hi there"]);
        allowed.ends_well_with("the nucleus took it");
        let mut forbidden = stage.run("publish", &["gateway/secret", "hi there"]);
        forbidden.ends_well_with("the component's policy forbids it");
        let mut wildcard = stage.run("publish", &["gateway/#", "hi there"]);
        wildcard.ends(false, "a publish needs a plain topic");
    }
}

#[test]
fn publish_says_on_lite_that_the_broker_is_away_and_classic_keeps_the_message() {
    for (personality, takes) in [("lite", false), ("classic", true)] {
        let mut stage = Stage::start(personality);
        stage.broker.running.kill9().unwrap();
        let offline = |event: &Value| event["state"] == "disconnected";
        stage.nucleus.wait_event(LIMIT, offline).unwrap();
        let text = if takes {
            "the nucleus took it"
        } else {
            "Failed to publish the message."
        };
        stage.run("publish", &[]).ends(takes, text);
    }
}

#[test]
fn subscribe_hears_itself_and_says_when_it_may_not() {
    for personality in ["lite", "classic"] {
        let stage = Stage::start(personality);
        let mut listener = stage.run("subscribe", &["sensors/room"]);
        listener.says(r#"sensors/room: {"temperature":21.5}"#);
        assert!(listener.program.is_running());
        let mut second = stage.run("subscribe", &["sensors/hall"]);
        second.ends(
            false,
            "error: SubscribeToTopic: the nucleus answered UnauthorizedError",
        );
        listener.program.kill9().unwrap();
    }
}

#[test]
fn shadow_works_on_classic_and_says_on_lite_that_there_are_none() {
    let stage = Stage::start("classic");
    let mut example = stage.run("shadow", &["gateway-01", "quarantine"]);
    example.ends_well_with("gateway-01 has quarantine");
    example.says("accepted: ");
    example.says(r#""greeting":"hi""#);

    let stage = Stage::start("lite");
    let mut example = stage.run("shadow", &["gateway-01", "quarantine"]);
    example
        .ends_well_with("this nucleus has no shadows: UpdateThingShadow: the nucleus answered ServiceError");
}

#[test]
fn lifecycle_has_a_say_in_a_deployment_on_classic() {
    let mut stage = Stage::start("classic");
    let mut example = stage.run("lifecycle", &[]);
    example.says("has a say in deployments");
    std::fs::write(stage.folder.path().join("configuration.json"), r#"{"new": true}"#).unwrap();
    stage.nucleus.signal(Signal::SIGHUP).unwrap();
    let deployed = |event: &Value| event["event"] == "configuration" && event["state"] == "deployed";
    stage.nucleus.wait_event(LIMIT, deployed).unwrap();
    example.says("deployment-1: wait 1s\ndeployment-1: wait 1s\ndeployment-1: wait 0ns\n");
    example.says("deployment-1: Accepted");
    example.says("After");
    assert!(example.program.is_running());
    example.program.kill9().unwrap();
}

#[test]
fn lifecycle_says_on_lite_that_nobody_is_asked() {
    let mut stage = Stage::start("lite");
    let mut example = stage.run("lifecycle", &[]);
    example.ends_well_with("this nucleus asks nobody: ");
    let running = |event: &Value| event["event"] == "state" && event["state"] == "RUNNING";
    stage.nucleus.wait_event(LIMIT, running).unwrap();
    let mut example = stage.run("lifecycle", &["com.example.Other"]);
    example.ends(false, "error: RestartComponent: the nucleus answered ");
}

#[test]
fn without_the_environment_of_a_component_every_example_says_so() {
    for example in ["publish", "subscribe", "shadow", "lifecycle"] {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut spec = SpawnSpec::new("/usr/bin/env", &log);
        let arguments = [
            "-u",
            "SVCUID",
            "-u",
            "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT",
        ];
        spec.args = arguments.iter().map(Into::into).collect();
        spec.args.push(executable(example).into());
        let program = Running::start_here(spec).unwrap();
        Example { program, log }.ends(false, "error: not set: SVCUID, AWS_GG");
    }
}
