//! The lab's stand-in with the classic personality, behind the same kind of relay, so that both can be compared.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use edgewarden_lab::front::Front;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::{BROKER_PORT, Site, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions, THING};
use serde_json::{Value, json};
use xtask::workspace;

use super::versions::lay_out;
use super::{Bed, COMPONENT, Kind, PATIENCE, connected, merge, packaged_program, wait_for_cloud};
use crate::error::Trouble;
use crate::prober::{Book, Prober};

/// A stage; it is dropped before another begins, since both have the same namespaces.
#[derive(Debug)]
pub(crate) struct StandIn {
    agent: PathBuf,
    recipe: PathBuf,
    artifacts: PathBuf,
    book: Arc<Mutex<Book>>,
    configuration: Value,
    prober: Option<Prober>,
    stage: Option<Stage>,
}

impl StandIn {
    pub(crate) fn start(artifacts: PathBuf, book: Arc<Mutex<Book>>) -> Result<Self, Trouble> {
        let name = format!("recipes/{COMPONENT}-{}.yaml", workspace::version()?);
        let mut bed = Self {
            agent: packaged_program(&artifacts)?,
            recipe: artifacts.join(name),
            artifacts,
            book,
            configuration: json!({}),
            prober: None,
            stage: None,
        };
        bed.fresh()?;
        Ok(bed)
    }

    fn stage(&self) -> &Stage {
        self.stage.as_ref().expect("a stage between two beginnings")
    }

    fn stage_mut(&mut self) -> &mut Stage {
        self.stage.as_mut().expect("a stage between two beginnings")
    }
}

impl Bed for StandIn {
    fn kind(&self) -> Kind {
        Kind::StandIn
    }

    fn site(&self) -> &Site {
        &self.stage().site
    }

    fn prober(&self) -> &Prober {
        self.prober.as_ref().expect("a prober between two beginnings")
    }

    fn way(&self) -> &Front {
        self.stage().front()
    }

    fn policy(&self) -> &Front {
        self.stage().front()
    }

    fn broker_port(&self) -> u16 {
        BROKER_PORT
    }

    fn thing(&self) -> &'static str {
        THING
    }

    fn artifact(&self) -> PathBuf {
        self.stage().artifact()
    }

    fn nucleus(&mut self) -> Option<i32> {
        let nucleus = &mut self.stage_mut().nucleus;
        nucleus.is_running().then(|| nucleus.pid().cast_signed())
    }

    fn keep_nucleus(&mut self) -> Result<(), Trouble> {
        let nucleus = &mut self.stage_mut().nucleus;
        if !nucleus.is_running() {
            nucleus.restart()?;
        }
        Ok(())
    }

    fn lose_nucleus(&mut self) -> Result<(), Trouble> {
        self.stage_mut().nucleus.kill9()?;
        Ok(())
    }

    fn store(&self) -> PathBuf {
        self.stage()
            .site
            .directory()
            .join("greengrass/packages/artifacts")
    }

    fn deploy_version(&mut self, version: &str, fails: bool) -> Result<(), Trouble> {
        let folder = self.stage().site.directory().join("versions");
        let package = lay_out(&self.artifacts, version, &folder)?;
        let stage = self.stage_mut();
        stage.deploy_package(&package)?;
        // The first version's deployment was told, too.
        stage.nucleus.wait_event(PATIENCE, |event| {
            event["event"] == "rollout" && event["version"] == version
        })?;
        if fails {
            stage.ask_nucleus(&json!({"fail": true}))?;
            stage.wait_rollout(PATIENCE, "rolledBack")?;
        }
        Ok(())
    }

    fn interface_is_up(&self) -> bool {
        let socket = self.stage().site.directory().join("greengrass/ipc.socket");
        std::os::unix::net::UnixStream::connect(socket).is_ok()
    }

    fn configure(&mut self, more: &Value) -> Result<(), Trouble> {
        let mut configuration = self.configuration.clone();
        merge(&mut configuration, more);
        self.stage_mut().deploy(&configuration)?;
        self.configuration = configuration;
        Ok(())
    }

    /// The stand-in rations starts as a nucleus does and forgives nothing, so this is a beginning from nothing.
    fn restart_component(&mut self) -> Result<(), Trouble> {
        self.fresh()
    }

    fn kill_broker(&mut self) -> Result<(), Trouble> {
        if let Some(broker) = &mut self.stage_mut().broker {
            broker.kill9()?;
        }
        Ok(())
    }

    /// The stage's broker never remembers anything.
    fn start_broker(&mut self, _forget: bool) -> Result<(), Trouble> {
        let before = self.stage().cloud.as_ref().map_or(0, connected);
        let stage = self.stage_mut();
        if let Some(broker) = &mut stage.broker {
            broker.restart()?;
        }
        stage
            .cloud
            .as_ref()
            .map_or(Ok(()), |cloud| wait_for_cloud(cloud, before))
    }

    fn fresh(&mut self) -> Result<(), Trouble> {
        self.prober = None;
        self.stage = None;
        for folder in ["/var/lib/edgewarden", "/run/edgewarden"] {
            // Another agent's journal would be this one's.
            let _ = std::fs::remove_dir_all(folder);
        }
        self.configuration = json!({});
        let stage = Stage::start(StageOptions {
            personality: Personality::Classic,
            configuration: json!({}),
            launch: true,
            front: true,
            guard: true,
            ..StageOptions::new(&self.agent, &self.recipe)
        })?;
        self.prober = Some(Prober::start(&stage.site, Arc::clone(&self.book))?);
        self.stage = Some(stage);
        wait_until(PATIENCE, "the agent", || self.agent().is_some()).map_err(|_| Trouble::Late {
            what: "the agent on the stand-in".to_owned(),
            seconds: PATIENCE.as_secs(),
        })
    }

    fn component_log(&self) -> String {
        self.stage().agent_output()
    }

    fn kills(&self) -> usize {
        0
    }
}
