//! Reads the recipe and reduces it to what was built.
//!
//! In: the recipe's text, names and digests of the built files. Out: a recipe that asks for no other file, and runs none but
//! these very ones. Pure.
//! A recipe that names a file nobody has makes the service refuse the component, hence the reduction.

use edgewarden_lab::stage::packaged::{self, PLACEHOLDER};
use serde_norway::Value;

use crate::failure::Failure;

/// The recipe, relative to the workspace's root.
pub const PATH: &str = "recipes/io.edgewarden.Agent.yaml";

/// First line of what is written, for a person who opens the copy.
const NOTICE: &str = "# Written by `cargo xtask package`. Change recipes/io.edgewarden.Agent.yaml.\n";

/// The recipe as data.
pub fn parse(text: &str) -> Result<Value, Failure> {
    serde_norway::from_str(text).map_err(|error| Failure::Parse {
        subject: PATH.to_owned(),
        format: "YAML",
        source: Box::new(error),
    })
}

/// Checks that the recipe is for this component and version.
pub fn expect_identity(recipe: &Value, component: &str, version: &str) -> Result<(), Failure> {
    for (key, wanted) in [("ComponentName", component), ("ComponentVersion", version)] {
        let found = recipe[key].as_str();
        if found != Some(wanted) {
            let found = found.unwrap_or("nothing");
            return Err(content(format!(
                "{key} is {found}, expected {wanted} as in Cargo.toml and gdk-config.json"
            )));
        }
    }
    Ok(())
}

/// A file that was built.
#[derive(Debug)]
pub struct Built {
    pub name: String,
    /// SHA-256, as `sha256sum` writes it.
    pub digest: String,
}

/// A recipe for what was built.
#[derive(Debug)]
pub struct Reduced {
    /// Its text, as YAML.
    pub text: String,
    /// The files it names; each is among the built ones.
    pub files: Vec<String>,
}

/// The recipe with only those manifests whose every file is among `built`, and with these files' digests.
pub fn reduce(mut recipe: Value, built: &[Built]) -> Result<Reduced, Failure> {
    let manifests = recipe
        .get_mut("Manifests")
        .and_then(Value::as_sequence_mut)
        .ok_or_else(|| content("expected Manifests, a list".to_owned()))?;
    manifests.retain(|manifest| {
        let files = files(manifest);
        !files.is_empty()
            && files
                .iter()
                .all(|file| built.iter().any(|built| built.name == *file))
    });
    if manifests.is_empty() {
        return Err(content(format!(
            "no manifest is satisfied by the built files {}",
            built
                .iter()
                .map(|built| built.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        )));
    }
    let files: Vec<String> = manifests.iter().flat_map(files).map(str::to_owned).collect();
    let text = serde_norway::to_string(&recipe).map_err(|error| Failure::Parse {
        subject: PATH.to_owned(),
        format: "YAML that can be written",
        source: Box::new(error),
    })?;
    // Readers of YAML 1.1, GDK's among them, take the bare value for a date; the writer knows 1.2 only.
    let text = text.replacen("FormatVersion: 2020-01-25\n", "FormatVersion: '2020-01-25'\n", 1);
    // Of those alone: another file's name may be the beginning of one of theirs.
    let named = built.iter().filter(|built| files.contains(&built.name));
    let text = named.fold(text, |text, built| {
        packaged::with_digest(&text, &built.name, &built.digest)
    });
    if text.contains(PLACEHOLDER) {
        return Err(content(format!(
            "{PLACEHOLDER} stands before a name that is no file of its manifest"
        )));
    }
    Ok(Reduced {
        text: format!("{NOTICE}{text}"),
        files,
    })
}

/// Names of the files a manifest's artifacts have: the last part of each address.
fn files(manifest: &Value) -> Vec<&str> {
    let artifacts = manifest["Artifacts"].as_sequence().map_or(&[][..], Vec::as_slice);
    artifacts
        .iter()
        .filter_map(|artifact| artifact["Uri"].as_str())
        .filter_map(|uri| uri.rsplit_once('/').map(|(_, file)| file))
        .collect()
}

fn content(fault: String) -> Failure {
    Failure::Content {
        subject: PATH.to_owned(),
        fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    fn ours() -> (String, Value) {
        let text = workspace::read(&workspace::root().join(PATH)).unwrap();
        let recipe = parse(&text).unwrap();
        (text, recipe)
    }

    const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn built(names: &[&str]) -> Vec<Built> {
        let built = names.iter().map(|name| Built {
            name: (*name).to_owned(),
            digest: DIGEST.to_owned(),
        });
        built.collect()
    }

    /// Lite reads a recipe's file up to here, and the service adds each artifact's digest and the real bucket's name.
    const LITE_FILE: usize = 8_196;
    const ADDED_BY_SERVICE: usize = 130;

    #[test]
    fn a_recipe_for_all_processors_fits_into_what_lite_reads() {
        let names = ["edgewarden-amd64", "edgewarden-aarch64", "edgewarden-arm"];
        let text = reduce(ours().1, &built(&names)).unwrap().text;
        let json = serde_json::to_string(&parse(&text).unwrap()).unwrap();
        for text in [&text, &json] {
            let length = text.len() + names.len() * ADDED_BY_SERVICE;
            assert!(length < LITE_FILE, "{length}:\n{text}");
        }
    }

    #[test]
    fn a_digest_of_no_file_is_refused() {
        let mut recipe = ours().1;
        let script = &mut recipe["Manifests"][0]["Lifecycle"]["run"]["Script"];
        *script = Value::from("exec /SHA256_OF_edgewarden-amd46/x");
        let failure = reduce(recipe, &built(&["edgewarden-amd64"])).unwrap_err();
        assert!(failure.to_string().contains(PLACEHOLDER), "{failure}");
    }

    fn map(value: &Value) -> Vec<(&str, &Value)> {
        value
            .as_mapping()
            .unwrap()
            .iter()
            .map(|(key, value)| (key.as_str().unwrap(), value))
            .collect()
    }

    #[test]
    fn recipe_gdk_and_cargo_agree_on_name_and_version() {
        let version = workspace::version().unwrap();
        expect_identity(&ours().1, workspace::COMPONENT, &version).unwrap();
        let gdk = workspace::read(&workspace::root().join("gdk-config.json")).unwrap();
        let gdk: serde_json::Value = serde_json::from_str(&gdk).unwrap();
        assert_eq!(
            gdk["component"].as_object().unwrap().len(),
            1,
            "GDK wants exactly one component"
        );
        assert_eq!(gdk["component"][workspace::COMPONENT]["version"], version);
        let link = workspace::root().join("recipe.yaml");
        assert_eq!(std::fs::read_link(link).unwrap(), std::path::Path::new(PATH));
    }

    #[test]
    fn the_service_and_lite_can_take_the_recipe() {
        let (text, recipe) = ours();
        assert!(text.len() < 16 * 1024, "the service takes 16 KB");
        assert_eq!(recipe["RecipeFormatVersion"], "2020-01-25");
        let mut open = vec![&recipe["ComponentConfiguration"]["DefaultConfiguration"]];
        while let Some(value) = open.pop() {
            if let Value::Mapping(mapping) = value {
                assert!(mapping.len() <= 64, "lite takes 64 children");
                open.extend(mapping.values());
            } else {
                let leaf = serde_json::to_string(value).unwrap();
                assert!(leaf.len() <= 1024, "lite takes 1,024 bytes a leaf: {leaf}");
                assert!(!value.is_number(), "numbers are written as strings: {leaf}");
            }
        }
    }

    #[test]
    fn each_processor_has_a_manifest_that_runs_its_own_file_as_root() {
        let (_, recipe) = ours();
        let manifests = recipe["Manifests"].as_sequence().unwrap();
        for (manifest, name) in manifests.iter().zip(["amd64", "aarch64", "arm"]) {
            let platform = &manifest["Platform"];
            assert_eq!(
                (&platform["os"], &platform["architecture"]),
                (&Value::from("linux"), &Value::from(name))
            );
            assert_eq!(platform["runtime"], "*", "lite needs it, classic matches it");
            assert_eq!(files(manifest), [format!("edgewarden-{name}")]);
            let lifecycle = map(&manifest["Lifecycle"]);
            assert_eq!(
                lifecycle.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
                ["install", "run", "uninstall"]
            );
            for (key, step) in lifecycle {
                assert_eq!(step["RequiresPrivilege"], true);
                let script = step["Script"].as_str().unwrap();
                let runs = match key {
                    "uninstall" => format!("/edgewarden-{name} {key}\n"),
                    _ => format!("$p {key}\n"),
                };
                assert!(script.contains(&runs), "{step:?}");
                assert!(
                    script.contains(&format!("{PLACEHOLDER}edgewarden-{name}")),
                    "{step:?}"
                );
                assert!(
                    !script.contains("{work:path}"),
                    "others may write there: {step:?}"
                );
                let other = script.replace("{artifacts:path}", "");
                assert!(!other.contains(['{', '}']), "lite refuses other braces: {step:?}");
            }
        }
        assert_eq!(manifests.len(), 3);
    }

    #[test]
    fn rights_are_portable_and_reach_no_other_topic() {
        let (_, recipe) = ours();
        let services = map(&recipe["ComponentConfiguration"]["DefaultConfiguration"]["accessControl"]);
        assert_eq!(
            services.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["aws.greengrass.ipc.mqttproxy"]
        );
        for (id, policy) in map(services[0].1) {
            assert!(
                id.starts_with("io.edgewarden.Agent:mqttproxy:"),
                "unique on the device: {id}"
            );
            assert_eq!(policy["operations"].as_sequence().unwrap().len(), 1);
            for resource in policy["resources"].as_sequence().unwrap() {
                let resource = resource.as_str().unwrap();
                let rest = resource.strip_prefix("$aws/things/+/").unwrap();
                assert!(
                    rest.starts_with("shadow/") || rest.starts_with("defender/metrics/"),
                    "{resource}"
                );
                assert!(!rest.contains(['*', '#', '{', '?']), "{resource}");
            }
        }
    }

    #[test]
    fn a_reduced_recipe_keeps_only_what_was_built_and_is_otherwise_the_same() {
        let (_, recipe) = ours();
        let reduced = reduce(
            recipe.clone(),
            &built(&["edgewarden-arm", "other", "edgewarden-a"]),
        )
        .unwrap();
        assert_eq!(reduced.files, ["edgewarden-arm"]);
        let text = reduced.text;
        let reduced = parse(&text).unwrap();
        let manifests = reduced["Manifests"].as_sequence().unwrap();
        assert_eq!(manifests.len(), 1);
        let source = serde_norway::to_string(&recipe["Manifests"][2]).unwrap();
        let wanted = parse(&source.replace("SHA256_OF_edgewarden-arm", DIGEST)).unwrap();
        assert_eq!(manifests[0], wanted);
        assert_eq!(
            reduced["ComponentConfiguration"],
            recipe["ComponentConfiguration"]
        );
        assert!(
            text.contains("RecipeFormatVersion: '2020-01-25'\n"),
            "not a date:\n{text}"
        );
        assert!(
            text.contains("intervalSeconds: '300'"),
            "a string stays a string:\n{text}"
        );
    }

    #[test]
    fn a_recipe_for_nothing_or_for_another_version_is_refused() {
        let (_, recipe) = ours();
        let failure = expect_identity(&recipe, workspace::COMPONENT, "9.9.9")
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("ComponentVersion is ") && failure.contains("expected 9.9.9"),
            "{failure}"
        );
        let failure = reduce(recipe, &built(&["edgewarden-mips"]))
            .unwrap_err()
            .to_string();
        assert!(
            failure.contains("no manifest is satisfied by the built files edgewarden-mips"),
            "{failure}"
        );
        assert!(
            reduce(Value::Null, &[])
                .unwrap_err()
                .to_string()
                .contains("expected Manifests")
        );
    }
}
