//! `cargo xtask package`: builds the component for every processor and lays it out for a deployment.
//!
//! In: the tree, and what an earlier run left in artifacts/ for the same version. Out: artifacts/ for local deployments,
//! with digests, bills of materials and licences beside the programs; with `--gdk` also greengrass-build/ for GDK.
//! A program that is larger than it may be is not laid out.

mod library;
mod parts;
mod recipe;
mod size;
mod twice;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use edgewarden_lab::stage::packaged;
use serde_json::Value;

use crate::cross::{self, TARGETS, Target};
use crate::failure::Failure;
use crate::run;
use crate::workspace::{COMPONENT, file, make_folder, read, root, version, write};

/// The package of the program.
const AGENT: &str = "edgewarden";
/// Mode of the program: readable and executable by all, so that a nucleus may run it as any user.
const PROGRAM_MODE: u32 = 0o755;
/// Digests of all the other files, for `sha256sum --check`.
const DIGESTS: &str = "SHA256SUMS";
/// The licences of all that is in the programs.
const LICENCES: &str = "LICENCES.txt";

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Arguments {
    /// Fill greengrass-build/ as GDK's custom build must
    #[arg(long)]
    gdk: bool,
    /// Build for this processor only (amd64, aarch64, arm); may be given again
    #[arg(long, value_name = "NAME", value_parser = target)]
    only: Vec<&'static Target>,
    /// Build each program again in another folder, and fail unless it has the same bytes
    #[arg(long)]
    twice: bool,
    /// Record the size of each crate in the program for amd64, for whoever exceeds the limit later
    #[arg(long)]
    record_sizes: bool,
}

fn target(name: &str) -> Result<&'static Target, String> {
    let names = || {
        TARGETS
            .iter()
            .map(|target| target.architecture)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let found = TARGETS.iter().find(|target| target.architecture == name);
    found.ok_or_else(|| format!("expected one of {}", names()))
}

/// Builds and lays out.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let version = version()?;
    let source = recipe::parse(&read(&root().join(recipe::PATH))?)?;
    recipe::expect_identity(&source, COMPONENT, &version)?;
    let targets = match &arguments.only[..] {
        [] => TARGETS.iter().collect(),
        chosen => chosen.to_vec(),
    };
    targets.iter().try_for_each(|target| cross::ensure(target))?;
    if arguments.record_sizes {
        return size::record();
    }
    let folder = root().join("artifacts").join(COMPONENT).join(&version);
    make_folder(&folder)?;
    for target in &targets {
        let program = built_by(&mut command(&root(), target)?)?;
        library::expect_old(&program)?;
        size::expect_small(target, &program)?;
        if arguments.twice {
            twice::expect_same(target, &program)?;
        }
        install(&program, &folder.join(target.file()))?;
    }
    describe(&folder, &version)?;
    let reduced = recipe::reduce(source, &built(&folder)?)?;
    let target = root()
        .join("artifacts/recipes")
        .join(format!("{COMPONENT}-{version}.yaml"));
    write(&target, &reduced.text)?;
    show(&target)?;
    if arguments.gdk {
        lay_out_for_gdk(&version, &folder, &reduced)?;
    }
    Ok(())
}

/// What builds the program as it is shipped, in a copy of the workspace or itself.
fn command(workspace: &Path, target: &Target) -> Result<Command, Failure> {
    let arguments = [
        "--release",
        "--locked",
        "--package",
        AGENT,
        "--message-format",
        "json-render-diagnostics",
    ];
    cross::cargo(workspace, target, &arguments)
}

/// Runs that, and says where cargo put the program.
fn built_by(command: &mut Command) -> Result<PathBuf, Failure> {
    println!("$ {}", run::line(command));
    let messages = run::output(command)?;
    program_in(&messages).ok_or_else(|| Failure::Content {
        subject: "the output of `cargo zigbuild`".to_owned(),
        fault: "expected a message about the program `edgewarden`".to_owned(),
    })
}

/// The path of the program in cargo's messages.
fn program_in(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == AGENT)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// Puts the program in place in one step, so that a running copy is neither changed nor in the way.
fn install(from: &Path, to: &Path) -> Result<(), Failure> {
    let part = to.with_extension("part");
    fs::copy(from, &part).map_err(file("copy the program to", &part))?;
    let mode = fs::Permissions::from_mode(PROGRAM_MODE);
    fs::set_permissions(&part, mode).map_err(file("make executable", &part))?;
    fs::rename(&part, to).map_err(file("put in place", to))?;
    show(to)
}

/// Writes what the programs in this folder are made of, under which licences, and the digests of all files.
fn describe(folder: &Path, version: &str) -> Result<(), Failure> {
    let rust = run::output(Command::new(cross::rustc()).arg("--version"))?;
    let mut all = BTreeSet::new();
    for target in TARGETS {
        let program = folder.join(target.file());
        if program.is_file() {
            let digest = packaged::digest(&program).map_err(file("read", &program))?;
            let parts = parts::of(target)?;
            let bill = folder.join(format!("{}.cdx.json", target.file()));
            write(
                &bill,
                &parts::bill(&target.file(), &digest, version, rust.trim(), &parts),
            )?;
            all.extend(parts);
        }
    }
    write(&folder.join(LICENCES), &parts::licences(&all)?)?;
    let others = built(folder)?.into_iter().filter(|built| built.name != DIGESTS);
    let digests: String = others
        .map(|built| format!("{}  {}\n", built.digest, built.name))
        .collect();
    write(&folder.join(DIGESTS), &digests)?;
    print!("{digests}");
    Ok(())
}

/// The files in a folder, by name.
fn built(folder: &Path) -> Result<Vec<recipe::Built>, Failure> {
    let names = names(folder)?.into_iter();
    let built = names.map(|name| {
        let path = folder.join(&name);
        let digest = packaged::digest(&path).map_err(file("read", &path))?;
        Ok(recipe::Built { name, digest })
    });
    built.collect()
}

/// Names of the files in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let entries = fs::read_dir(folder).map_err(file("list", folder))?;
    let names: Result<Vec<_>, _> = entries
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect();
    let names = names.map_err(file("list", folder))?;
    let mut names: Vec<_> = names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// GDK uploads every file it finds, so only what the recipe names is put there, after clearing old ones.
fn lay_out_for_gdk(version: &str, from: &Path, reduced: &recipe::Reduced) -> Result<(), Failure> {
    let gdk = root().join("greengrass-build");
    let folder = gdk.join("artifacts").join(COMPONENT).join(version);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(file("clear", &folder))?;
    }
    make_folder(&folder)?;
    for name in &reduced.files {
        install(&from.join(name), &folder.join(name))?;
    }
    let target = gdk.join("recipes/recipe.yaml");
    write(&target, &reduced.text)?;
    show(&target)
}

/// One line: size and path.
fn show(path: &Path) -> Result<(), Failure> {
    let size = fs::metadata(path).map_err(file("look at", path))?.len();
    let root = root();
    println!(
        "{size:>12} bytes  {}",
        path.strip_prefix(&root).unwrap_or(path).display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = concat!(
            "not json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"edgewarden"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"edgewarden"},"executable":"/t/edgewarden"}"#,
        );
        assert_eq!(program_in(messages), Some(PathBuf::from("/t/edgewarden")));
        assert_eq!(program_in(""), None);
    }

    #[test]
    fn the_packaged_recipe_has_the_digest_of_the_file_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("edgewarden-amd64"), "abc").unwrap();
        let source = recipe::parse(&read(&root().join(recipe::PATH)).unwrap()).unwrap();
        let reduced = recipe::reduce(source, &built(folder.path()).unwrap()).unwrap();
        // FIPS 180-2, appendix B.1.
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let recipe = recipe::parse(&reduced.text).unwrap();
        for (_, step) in recipe["Manifests"][0]["Lifecycle"].as_mapping().unwrap() {
            assert!(step["Script"].as_str().unwrap().contains(digest), "{step:?}");
        }
        assert!(!reduced.text.contains(packaged::PLACEHOLDER));
    }

    #[test]
    fn a_program_is_replaced_whole_and_executable() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("edgewarden-arm"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        install(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
        assert_eq!(
            fs::metadata(&to).unwrap().permissions().mode() & 0o777,
            PROGRAM_MODE
        );
        assert_eq!(names(folder.path()).unwrap(), ["edgewarden-arm", "from"]);
    }
}
