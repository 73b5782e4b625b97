//! The component's versions: which one runs, what a deployment of another one does, what a rollback and a removal leave.
//!
//! In: the recipe and the artifacts that the nucleus begins with; requests as files `rollout.json` in its root, one at a
//! time: `{"recipe": FILE, "artifacts": FOLDER}` deploys, `{"fail": true}` says that the last deployment failed because of
//! another component of it, `{"remove": true}` removes the component. Out: the component, launched; `rollout` events. What
//! runs is remembered over a restart of the nucleus.
//! As the nuclei do: the install step runs at each deployment, on classic also at each start of the nucleus. A deployment that
//! fails is rolled back on classic: to the version before, whose install step runs again; a first one leaves nothing of the
//! component, nor of its configuration and rights, without its uninstall step. That step runs at a removal, on classic from 2.17 on. Lite does not roll back.
//! Deliberately absent: configuration (`deployment`), other components.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::NucleusArgs;
use super::component::Wish;
use super::events::emit;
use super::installer;
use super::launcher::{self, Launch};
use super::recipe::Recipe;
use super::state::Nucleus;
use super::store::Store;
use super::variables::Variables;

/// Name of a request in the nucleus' root.
const REQUEST: &str = "rollout.json";
/// Where the nucleus remembers the recipe that runs; empty when the component was removed.
const CURRENT: &str = "packages/current.yaml";
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(50);
/// Both nuclei's default for the uninstall step.
const UNINSTALL_LIMIT: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
#[serde(untagged)]
enum Request {
    Deploy { recipe: PathBuf, artifacts: PathBuf },
    Fail { fail: bool },
    Remove { remove: bool },
}

/// Runs the component in whichever version is deployed, until the nucleus ends.
///
/// # Errors
/// When the store or the log cannot be written, or the shell cannot be started.
pub(super) async fn run(nucleus: Arc<Nucleus>, args: NucleusArgs) -> io::Result<()> {
    let store = Store::new(
        &nucleus.root,
        &nucleus.component,
        args.personality,
        args.component_user,
    );
    let mut rollout = Rollout {
        nucleus,
        args,
        store,
        current: None,
        before: None,
        running: None,
    };
    rollout.begin().await?;
    let mut wishes = rollout.nucleus.component_process.wishes();
    loop {
        let request = tokio::select! {
            request = next(&rollout.nucleus.root) => request,
            _ = wishes.wait_for(|wish| *wish == Wish::End) => break,
        };
        match request {
            Ok(Request::Deploy { recipe, artifacts }) => rollout.deploy(&recipe, &artifacts).await?,
            Ok(Request::Fail { fail: true }) => rollout.roll_back().await?,
            Ok(Request::Remove { remove: true }) => rollout.remove().await?,
            Ok(_) => told("refused", "it asks for nothing"),
            Err(error) => told("refused", &error),
        }
    }
    if let Some(running) = rollout.running.take() {
        return running.await.map_err(io::Error::other)?;
    }
    Ok(())
}

async fn next(root: &Path) -> Result<Request, String> {
    let file = root.join(REQUEST);
    loop {
        if let Ok(text) = std::fs::read_to_string(&file) {
            std::fs::remove_file(&file).map_err(|error| error.to_string())?;
            return serde_json::from_str(&text).map_err(|error| error.to_string());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn told(state: &str, reason: &str) {
    emit(&json!({ "event": "rollout", "state": state, "reason": reason }));
}

struct Rollout {
    nucleus: Arc<Nucleus>,
    args: NucleusArgs,
    store: Store,
    /// The recipe's text of what is deployed.
    current: Option<String>,
    /// What a rollback goes to.
    before: Option<String>,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Rollout {
    /// What ran when the nucleus ended, or the first deployment.
    async fn begin(&mut self) -> io::Result<()> {
        match std::fs::read_to_string(self.nucleus.root.join(CURRENT)) {
            Ok(text) if text.is_empty() => Ok(()),
            Ok(text) => {
                let install = !self.args.personality.is_lite();
                self.current = Some(text);
                self.start(install).await.map(drop)
            }
            Err(_) => {
                let (recipe, artifacts) = (self.args.recipe.clone(), self.args.artifacts.clone());
                self.deploy(&recipe, &artifacts).await
            }
        }
    }

    async fn deploy(&mut self, recipe: &Path, artifacts: &Path) -> io::Result<()> {
        let text = std::fs::read_to_string(recipe)?;
        let version = match self.read(&text) {
            Ok(recipe) => recipe.version,
            Err(reason) => {
                told("failed", &reason);
                return Ok(());
            }
        };
        if let Err(error) = self.store.put(&version, artifacts) {
            told("failed", &error.to_string());
            return Ok(());
        }
        self.stop().await;
        self.before = self.current.replace(text);
        if !self.start(true).await? {
            told("failed", "the install step failed");
            if !self.args.personality.is_lite() {
                self.roll_back().await?;
            }
            return Ok(());
        }
        self.remember()?;
        emit(&json!({ "event": "rollout", "state": "deployed", "version": version }));
        Ok(())
    }

    async fn roll_back(&mut self) -> io::Result<()> {
        self.stop().await;
        self.current = self.before.take();
        let started = self.start(true).await?;
        self.remember()?;
        let version = self.current.as_ref().and_then(|text| self.read(text).ok());
        emit(&json!({
            "event": "rollout", "state": "rolledBack", "started": started, "version": version.map(|recipe| recipe.version),
        }));
        Ok(())
    }

    async fn remove(&mut self) -> io::Result<()> {
        self.stop().await;
        let launch = self.current.take().and_then(|text| self.launch(&text).ok());
        let step = launch.as_ref().and_then(|launch| launch.recipe.uninstall.clone());
        let runs_it = !self.args.personality.is_lite() && !self.args.no_uninstall_step;
        let mut code = None;
        if let (Some(launch), Some(step), true) = (&launch, step, runs_it) {
            let (mut child, output) = launcher::step(&self.nucleus, launch, &step)?;
            let ended = tokio::time::timeout(UNINSTALL_LIMIT, child.wait()).await;
            code = ended.ok().and_then(|status| status.ok()?.code());
            output.drain().await;
        }
        self.before = None;
        self.nucleus.forget_configuration();
        self.remember()?;
        emit(&json!({ "event": "rollout", "state": "removed", "uninstall": code }));
        Ok(())
    }

    /// Installs if it is to be, and launches; whether the component may run.
    async fn start(&mut self, install: bool) -> io::Result<bool> {
        let Some(text) = &self.current else {
            self.nucleus.forget_configuration();
            return Ok(false);
        };
        self.nucleus.restore_configuration();
        let launch = self.launch(text).map_err(io::Error::other)?;
        let mut wishes = self.nucleus.component_process.wishes();
        if install && !installer::install(&self.nucleus, &launch, &mut wishes).await? {
            return Ok(false);
        }
        self.running = Some(tokio::spawn(launcher::run(Arc::clone(&self.nucleus), launch)));
        Ok(true)
    }

    /// Ends the run that there is, as the nucleus ends a component.
    async fn stop(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        let process = &self.nucleus.component_process;
        process.stop();
        while process.is_there() {
            tokio::time::sleep(LOOK).await;
        }
        running.abort();
        let _aborted = running.await;
        process.restart();
    }

    /// Writes down what runs, and lets go of versions that nobody goes back to.
    fn remember(&self) -> io::Result<()> {
        let current = self.current.as_deref().unwrap_or_default();
        std::fs::write(self.nucleus.root.join(CURRENT), current)?;
        let recipes = [&self.current, &self.before].map(|text| text.as_deref().map(|text| self.read(text)));
        let recipes: Vec<Recipe> = recipes.into_iter().flatten().flatten().collect();
        let versions: Vec<&str> = recipes.iter().map(|recipe| recipe.version.as_str()).collect();
        self.store.keep(&versions)
    }

    fn read(&self, text: &str) -> Result<Recipe, String> {
        let recipe = Recipe::read(text, std::env::consts::ARCH, self.args.personality);
        recipe.map_err(|error| crate::error_text(&error))
    }

    fn launch(&self, text: &str) -> Result<Launch, String> {
        let recipe = self.read(text)?;
        let nucleus = &self.nucleus;
        let variables = Variables {
            artifacts: self.store.version(&recipe.version),
            work: nucleus.root.join("work").join(&nucleus.component),
            root: nucleus.root.clone(),
            thing: nucleus.thing.clone(),
            configuration: Value::Null,
        };
        Ok(Launch { recipe, variables })
    }
}
