//! The nft program as the judge of rules that were loaded without it.
//!
//! In: text for it. Out: what it lists. All of it about the network namespace of the calling thread, so only for tests that
//! have made one.

use super::{SiteError, tools};

/// What nft lists of everything, without what differs from load to load: handles, and how long elements still live.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// As text.
    pub text: String,
    /// As JSON.
    pub json: serde_json::Value,
}

/// Has nft carry out a text, whole or not at all.
///
/// # Errors
/// It refuses; with its words.
pub fn load(text: &str) -> Result<(), SiteError> {
    tools::run("nft", &["-f", "-"], text)
}

/// What it lists.
///
/// # Errors
/// It fails, or lists no JSON.
pub fn listed() -> Result<Listed, SiteError> {
    let list = |arguments: &[&str]| tools::output("nft", arguments, "");
    let text = list(&["list", "ruleset"])?;
    let json = list(&["-j", "list", "ruleset"])?;
    let mut json = serde_json::from_str(&json).map_err(|error| SiteError::Tool {
        command: "nft -j list ruleset".to_owned(),
        output: error.to_string(),
    })?;
    strip(&mut json);
    let text = without_times(&text);
    Ok(Listed { text, json })
}

/// "expires 1h992ms," becomes "expires ,".
fn without_times(text: &str) -> String {
    let mut kept = Vec::new();
    let mut is_time = false;
    for word in text.split(' ') {
        kept.push(if is_time {
            word.trim_start_matches(|c: char| c.is_ascii_alphanumeric())
        } else {
            word
        });
        is_time = word == "expires";
    }
    kept.join(" ")
}

fn strip(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.remove("handle");
            map.remove("expires");
            map.values_mut().for_each(strip);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}
