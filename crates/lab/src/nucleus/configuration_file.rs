//! The file that `--configuration` names: what a deployment merges over the recipe's defaults.
//!
//! In: a path. Out: a JSON object. Deliberately absent: what is done with it.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::NucleusError;

/// Longest configuration file read: far above what any nucleus takes, so that a wrong path is no memory problem.
const MAX_CONFIGURATION_BYTES: u64 = 1024 * 1024;

/// An empty object when there is no file to read.
pub(super) fn read(path: Option<&Path>) -> Result<Value, NucleusError> {
    let Some(path) = path else { return Ok(json!({})) };
    let failed = |source| NucleusError::File {
        action: "read configuration",
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_CONFIGURATION_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let refused = |source| NucleusError::Configuration {
        path: path.to_owned(),
        source,
    };
    match serde_json::from_str(&text) {
        Ok(document @ Value::Object(_)) => Ok(document),
        Ok(_) => Err(refused(None)),
        Err(error) => Err(refused(Some(error))),
    }
}
