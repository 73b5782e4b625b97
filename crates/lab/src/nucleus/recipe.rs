//! The component's recipe: what is needed to configure and start it. Pure over text.
//!
//! In: YAML (or JSON, which is YAML), operating system, architecture, personality. Out: name, version, default
//! configuration, the install, run and uninstall steps of the first manifest that fits. Deliberately absent: artifacts and
//! their digests, startup and the other lifecycle steps, platform regular expressions.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::personality::Personality;
use super::settings::scalars_as_strings;

/// Greengrass takes recipes up to 16 KB.
const MAX_RECIPE_BYTES: usize = 16 * 1024;

/// What the nucleus needs of a recipe.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// ComponentName.
    pub name: String,
    /// ComponentVersion.
    pub version: String,
    /// ComponentConfiguration.DefaultConfiguration; scalars are strings on lite.
    pub default_configuration: Value,
    /// Lifecycle.install of the manifest.
    pub install: Option<Script>,
    /// Lifecycle.run of the manifest.
    pub run: Option<Script>,
    /// Lifecycle.uninstall of the manifest.
    pub uninstall: Option<Script>,
}

/// One step of the lifecycle, before substitution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What the shell is given.
    pub text: String,
    /// The lifecycle's Setenv and the step's own.
    pub environment: BTreeMap<String, String>,
}

/// A recipe that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// Beyond Greengrass' own limit.
    #[error("the recipe has {bytes} bytes; Greengrass takes at most {MAX_RECIPE_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not YAML, or not shaped like a recipe.
    #[error("could not read the recipe")]
    Parse {
        #[source]
        /// Where and what.
        source: serde_norway::Error,
    },
    /// A deployment of it would fail here.
    #[error(
        "no manifest of the recipe fits os linux, architecture {architecture}, runtime of the {personality:?} nucleus"
    )]
    NoManifest {
        /// In Greengrass' spelling.
        architecture: String,
        /// The nucleus asked.
        personality: Personality,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    component_name: String,
    component_version: String,
    #[serde(default)]
    component_configuration: ConfigurationBlock,
    manifests: Vec<Manifest>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigurationBlock {
    #[serde(default)]
    default_configuration: Value,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    #[serde(default)]
    platform: BTreeMap<String, String>,
    #[serde(default)]
    lifecycle: Lifecycle,
}

#[derive(Clone, Default, Deserialize)]
struct Lifecycle {
    install: Option<Step>,
    run: Option<Step>,
    uninstall: Option<Step>,
    #[serde(default, rename = "Setenv", alias = "setenv")]
    environment: BTreeMap<String, String>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Step {
    Script(String),
    Detailed {
        #[serde(rename = "Script", alias = "script")]
        script: String,
        #[serde(default, rename = "Setenv", alias = "setenv")]
        environment: BTreeMap<String, String>,
    },
}

impl Step {
    fn script(self, mut environment: BTreeMap<String, String>) -> Script {
        let text = match self {
            Self::Script(text) => text,
            Self::Detailed {
                script,
                environment: own,
            } => {
                environment.extend(own);
                script
            }
        };
        Script { text, environment }
    }
}

impl Recipe {
    /// Reads a recipe for a Linux device of `architecture` (as Rust names it).
    ///
    /// # Errors
    /// When it is no recipe, or has no manifest for this device.
    pub fn read(text: &str, architecture: &str, personality: Personality) -> Result<Self, RecipeError> {
        if text.len() > MAX_RECIPE_BYTES {
            return Err(RecipeError::TooLong { bytes: text.len() });
        }
        let document: Document =
            serde_norway::from_str(text).map_err(|source| RecipeError::Parse { source })?;
        let architecture = greengrass_architecture(architecture);
        let manifest = document
            .manifests
            .iter()
            .find(|manifest| fits(manifest, architecture, personality));
        let Some(Manifest { lifecycle, .. }) = manifest.cloned() else {
            return Err(RecipeError::NoManifest {
                architecture: architecture.to_owned(),
                personality,
            });
        };
        let common = lifecycle.environment;
        let script = |step: Step| step.script(common.clone());
        let written = document.component_configuration.default_configuration;
        let default_configuration = match written {
            Value::Null => Value::Object(serde_json::Map::new()),
            written if personality.is_lite() => scalars_as_strings(written),
            written => written,
        };
        Ok(Self {
            name: document.component_name,
            version: document.component_version,
            default_configuration,
            install: lifecycle.install.map(script),
            run: lifecycle.run.map(script),
            uninstall: lifecycle.uninstall.map(script),
        })
    }
}

/// Greengrass says amd64 for x86_64; the other names agree.
fn greengrass_architecture(rust_name: &str) -> &str {
    if rust_name == "x86_64" { "amd64" } else { rust_name }
}

fn fits(manifest: &Manifest, architecture: &str, personality: Personality) -> bool {
    let attribute = |name: &str| manifest.platform.get(name).map(String::as_str);
    let runtime = match (attribute("runtime"), personality) {
        (Some("*"), _) | (None, Personality::Classic) => true,
        (runtime, Personality::Lite) => runtime == Some("aws_nucleus_lite"),
        (Some(_), Personality::Classic) => false,
    };
    runtime
        && matches!(attribute("os"), None | Some("*" | "all" | "linux"))
        && attribute("architecture").is_none_or(|wanted| wanted == "*" || wanted == architecture)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RECIPE: &str = r#"
RecipeFormatVersion: "2020-01-25"
ComponentName: com.example.C
ComponentVersion: "1.2.3"
ComponentConfiguration:
  DefaultConfiguration: {interval: 300, on: true}
Manifests:
  - Platform: {os: windows, runtime: "*"}
    Lifecycle: {run: "dir"}
  - Platform: {os: linux, architecture: amd64}
    Lifecycle: {run: "classic only"}
  - Platform: {os: linux, architecture: amd64, runtime: aws_nucleus_lite}
    Lifecycle: {Setenv: {A: "1"}, install: "first", run: {RequiresPrivilege: true, Script: "lite only", Setenv: {B: "2"}}}
  - Platform: {os: linux, architecture: aarch64, runtime: "*"}
    Lifecycle: {run: {Script: "both"}}
"#;

    #[test]
    fn the_first_fitting_manifest_wins() {
        for (architecture, personality, script) in [
            ("x86_64", Personality::Classic, "classic only"),
            ("x86_64", Personality::Lite, "lite only"),
            ("aarch64", Personality::Classic, "both"),
            ("aarch64", Personality::Lite, "both"),
        ] {
            let recipe = Recipe::read(RECIPE, architecture, personality).unwrap();
            assert_eq!(recipe.run.unwrap().text, script);
        }
        let error = Recipe::read(RECIPE, "arm", Personality::Lite).unwrap_err();
        assert!(matches!(error, RecipeError::NoManifest { .. }));
    }

    #[test]
    fn configuration_keeps_types_on_classic_only() {
        let lite = Recipe::read(RECIPE, "x86_64", Personality::Lite).unwrap();
        assert_eq!(
            lite.default_configuration,
            json!({"interval": "300", "on": "true"})
        );
        assert_eq!(
            lite.run.unwrap().environment,
            BTreeMap::from([("A".into(), "1".into()), ("B".into(), "2".into())])
        );
        let install = lite.install.unwrap();
        assert_eq!((install.text.as_str(), install.environment.len()), ("first", 1));
        let classic = Recipe::read(RECIPE, "x86_64", Personality::Classic).unwrap();
        assert_eq!(
            classic.default_configuration,
            json!({"interval": 300, "on": true})
        );
    }

    #[test]
    fn what_is_no_recipe_is_refused() {
        assert!(matches!(
            Recipe::read("a: [", "arm", Personality::Lite),
            Err(RecipeError::Parse { .. })
        ));
        let long = " ".repeat(MAX_RECIPE_BYTES + 1);
        assert!(matches!(
            Recipe::read(&long, "arm", Personality::Lite),
            Err(RecipeError::TooLong { .. })
        ));
    }
}
