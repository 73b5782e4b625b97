//! The lab nucleus and its broker, on the loopback, for clients that are started by hand.
//!
//! In: the release build of the lab, a personality. Out: a nucleus that is connected to its broker, the variables of
//! a component, the nucleus' own usage.

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewarden_lab::nucleus::read_component_env;
use edgewarden_lab::site::{LoopbackBroker, Running, SpawnSpec};
use xtask::workspace;

use crate::error::BenchError;
use crate::usage::Usage;

/// How long the nucleus may take to reach its broker.
const READY_LIMIT: Duration = Duration::from_secs(15);

/// A component that may read its leaf and publish.
const RECIPE: &str = r#"
RecipeFormatVersion: "2020-01-25"
ComponentName: io.edgewarden.Bench
ComponentVersion: "1.0.0"
ComponentConfiguration:
  DefaultConfiguration:
    interval: 300
    accessControl:
      aws.greengrass.ipc.mqttproxy:
        "io.edgewarden.Bench:1":
          operations: [aws.greengrass#PublishToIoTCore]
          resources: ["bench/*"]
Manifests:
  - Platform: {os: linux, runtime: "*"}
    Lifecycle:
      run: "true"
"#;

/// A running nucleus; ends with its broker when dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    nucleus: Running,
    root: PathBuf,
    work: PathBuf,
    _broker: LoopbackBroker,
}

impl Lab {
    /// Starts broker and nucleus; their files go to `folder`, which is there.
    pub(crate) fn start(program: &Path, folder: &Path, personality: &str) -> Result<Self, BenchError> {
        let root = folder.join("root");
        let work = root.join("work/io.edgewarden.Bench");
        workspace::make_folder(&work)?;
        let recipe = folder.join("recipe.yaml");
        workspace::write(&recipe, RECIPE)?;
        let broker = LoopbackBroker::start(folder)?;
        let mut spec = SpawnSpec::new(program, folder.join("nucleus.log"));
        spec.args = ["nucleus", "--personality", personality, "--artifacts", "."]
            .map(Into::into)
            .into();
        spec.args
            .extend(["--recipe".into(), recipe.into(), "--root".into()]);
        spec.args.push(root.clone().into());
        spec.args
            .extend(["--broker".into(), format!("127.0.0.1:{}", broker.port).into()]);
        spec.directory = Some(folder.to_owned());
        let mut nucleus = Running::start_here(spec)?;
        nucleus.wait_event(READY_LIMIT, |event| {
            event["event"] == "mqtt" && event["state"] == "connected"
        })?;
        Ok(Self {
            nucleus,
            root,
            work,
            _broker: broker,
        })
    }

    /// The variables a component is told.
    pub(crate) fn variables(&self) -> Result<Vec<(String, String)>, BenchError> {
        let path = self.root.join("component.env");
        let variables = read_component_env(&self.root).map_err(workspace::file("read", &path))?;
        Ok(variables.into_iter().collect())
    }

    /// Where a component runs: the socket's path may be relative to it.
    pub(crate) fn work_folder(&self) -> &Path {
        &self.work
    }

    /// What the nucleus has cost so far.
    pub(crate) fn usage(&self) -> Result<Usage, BenchError> {
        Usage::of(self.nucleus.pid())
    }
}
