//! The same program as another version, and a component that takes a deployment down with it.
//!
//! In: what `cargo xtask package` laid out. Out: a folder of recipes and artifacts, as a deployment names them.

use std::io::Write as _;
use std::path::Path;

use edgewarden_lab::stage::packaged;
use edgewarden_lab::stage::versions::Package;
use serde_json::json;
use xtask::workspace;

use super::{COMPONENT, packaged_program};
use crate::error::{Trouble, io};

/// A component that cannot be installed, and takes its time to say so.
pub(crate) const FAILING: &str = "com.example.Failing";

/// Writes its recipe.
pub(crate) fn write_failing(recipes: &Path) -> Result<(), Trouble> {
    let recipe = json!({
        "RecipeFormatVersion": "2020-01-25", "ComponentName": FAILING, "ComponentVersion": "1.0.0",
        "Manifests": [{"Platform": {"os": "linux"}, "Lifecycle": {"install": "sleep 5; exit 1"}}],
    });
    let path = recipes.join(format!("{FAILING}-1.0.0.json"));
    Ok(workspace::write(&path, &recipe.to_string())?)
}

/// Lays the package out as another version, other only in bytes behind the program's end, below `to`.
pub(super) fn lay_out(artifacts: &Path, version: &str, to: &Path) -> Result<Package, Trouble> {
    let digest = |path: &Path| packaged::digest(path).map_err(io(format!("read {}", path.display())));
    let from = packaged_program(artifacts)?;
    let folder = to.join(COMPONENT).join(version);
    std::fs::create_dir_all(&folder).map_err(io(format!("make {}", folder.display())))?;
    let program = folder.join(from.file_name().unwrap_or_default());
    std::fs::copy(&from, &program).map_err(io("copy the program"))?;
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&program)
        .map_err(io("open the program's copy"))?;
    file.write_all(version.as_bytes())
        .map_err(io("make it another program"))?;
    drop(file);
    let own = workspace::version()?;
    let recipe = workspace::read(&artifacts.join("recipes").join(format!("{COMPONENT}-{own}.yaml")))?;
    let recipe = recipe.replace(&digest(&from)?, &digest(&program)?).replace(
        &format!("ComponentVersion: {own}"),
        &format!("ComponentVersion: {version}"),
    );
    let recipes = to.join("recipes");
    let path = recipes.join(format!("{COMPONENT}-{version}.yaml"));
    workspace::write(&path, &recipe)?;
    Ok(Package {
        recipe: path,
        artifacts: folder,
        program,
    })
}
