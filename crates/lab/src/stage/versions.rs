//! Versions of the component, as a fleet's operator makes and deploys them.
//!
//! In: a program, a version. Out: a package as `cargo xtask package` makes it, and what the nucleus is asked to do with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{COMPONENT, Stage, artifact_name, copy_program, packaged_recipe, write};
use crate::site::SiteError;

/// A recipe and its artifacts.
#[derive(Clone, Debug)]
pub struct Package {
    pub recipe: PathBuf,
    /// Folder of the artifact.
    pub artifacts: PathBuf,
    /// The artifact, which a test may change afterwards.
    pub program: PathBuf,
}

impl Stage {
    /// Packages the stage's own program as another version; other than the first only in bytes behind its end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn package(&self, version: &str) -> Result<Package, SiteError> {
        let folder = self.site.directory().join("packages").join(version);
        let artifacts = folder.join("artifacts");
        let program = artifacts.join(artifact_name());
        copy_program(&self.options.agent, &program)?;
        let failed = |source| SiteError::File {
            path: program.clone(),
            source,
        };
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&program)
            .map_err(failed)?;
        std::io::Write::write_all(&mut file, version.as_bytes()).map_err(failed)?;
        drop(file);
        let recipe = folder.join("recipe.yaml");
        let text = packaged_recipe(&self.options.recipe, &program)?;
        let own = |version| format!("ComponentVersion: \"{version}\"");
        write(&recipe, text.replace(&own("0.1.0"), &own(version)).as_bytes())?;
        Ok(Package {
            recipe,
            artifacts,
            program,
        })
    }

    /// Asks the nucleus to deploy a package.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn deploy_package(&self, package: &Package) -> Result<(), SiteError> {
        self.ask_nucleus(&json!({ "recipe": package.recipe, "artifacts": package.artifacts }))
    }

    /// Asks the nucleus to do something about the component's versions (`nucleus::rollout`).
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn ask_nucleus(&self, request: &Value) -> Result<(), SiteError> {
        let file = self.root().join("rollout.json");
        let part = file.with_extension("part");
        write(&part, request.to_string().as_bytes())?;
        std::fs::rename(&part, &file).map_err(|source| SiteError::File { path: file, source })
    }

    /// Waits until the nucleus says that it has done so.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub fn wait_rollout(&mut self, limit: Duration, state: &str) -> Result<Value, SiteError> {
        let wanted = |event: &Value| event["event"] == "rollout" && event["state"] == state;
        self.nucleus.wait_event(limit, wanted)
    }

    /// The artifact of a version in the nucleus' own store.
    pub fn stored_artifact(&self, version: &str) -> PathBuf {
        let store = self.root().join("packages/artifacts").join(COMPONENT);
        store.join(version).join(artifact_name())
    }

    /// The copy that root runs of a program.
    ///
    /// # Errors
    /// When the program cannot be read.
    pub fn copy_of(&self, program: &Path) -> Result<PathBuf, SiteError> {
        let digest = super::packaged::digest(program).map_err(|source| SiteError::File {
            path: program.to_owned(),
            source,
        })?;
        Ok(self
            .state_directory()
            .join("bin")
            .join(digest)
            .join(artifact_name()))
    }
}
