//! Where the workspace is and what cargo says about it.
//!
//! Out: its root, cargo commands that run there, its version, files with errors that name them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::failure::Failure;
use crate::run;

/// Name of the component, as in the recipe.
pub const COMPONENT: &str = "io.edgewarden.Agent";

/// The package whose version is the component's.
const AGENT_PACKAGE: &str = "edgewarden";

/// The workspace's root folder: the one above whoever runs that has the lock file.
pub fn root() -> PathBuf {
    // Asked at run time first: a compiled xtask may be run from a copy of the tree.
    let member = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let locked = |folder: &&Path| folder.join("Cargo.lock").is_file();
    let root = member.ancestors().find(locked).map(Path::to_path_buf);
    root.unwrap_or(member)
}

/// Where cargo puts what it builds in the workspace, and where we keep what we make and do not commit.
pub fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A cargo command in the root, by the cargo that runs us.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    if std::env::var_os("CI").is_some() {
        // What makes the next build shorter makes the first one longer by half, and CI has no next one.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// `cargo metadata` with these further arguments.
pub fn metadata(arguments: &[&str]) -> Result<Value, Failure> {
    let mut command = cargo(&["metadata", "--locked", "--format-version", "1"]);
    command.args(arguments);
    let text = run::output(&mut command)?;
    serde_json::from_str(&text).map_err(|error| Failure::Parse {
        subject: "the output of `cargo metadata`".to_owned(),
        format: "JSON",
        source: Box::new(error),
    })
}

/// The component's version: the workspace's, from its Cargo.toml.
pub fn version() -> Result<String, Failure> {
    let metadata = metadata(&["--no-deps"])?;
    metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == AGENT_PACKAGE)
        .and_then(|package| package["version"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| Failure::Content {
            subject: "the output of `cargo metadata`".to_owned(),
            fault: format!("expected a package `{AGENT_PACKAGE}` with a version"),
        })
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(file("read", path))
}

/// Writes a text file and the folders above it.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    fs::write(path, text).map_err(file("write", path))
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(file("create the folder", path))
}

/// For `map_err`: what was tried on which file.
pub fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.to_path_buf();
    move |source| Failure::File { action, path, source }
}
