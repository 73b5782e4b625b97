//! What the kernel holds of ours, as a text that can be compared.
//!
//! In: `nft -j list ruleset`. Out: a picture of all our tables, of whatever family, without what changes by itself.

use edgewarden_lab::stage::Stage;
use serde_json::Value;

/// Our tables' name.
pub(crate) const TABLE: &str = "edgewarden";
/// Looks at a table that is being built: a listing is no transaction.
const LOOKS: usize = 50;

/// All that is ours; `None` when the kernel holds nothing of it.
pub(crate) type Picture = Option<String>;

/// The picture of a listing.
///
/// # Errors
/// A table without chains filters nothing and is nobody's order. nft 1.0.6 shows one now and then while a transaction
/// that begins with `add table` and `delete table` is being committed, also without any agent.
pub(crate) fn picture_of(listing: &Value) -> Result<Picture, String> {
    let items = listing["nftables"].as_array().ok_or("no listing")?;
    let ours: Vec<&Value> = items.iter().filter(|item| is_ours(item)).collect();
    let has = |kind: &str| ours.iter().any(|item| item.get(kind).is_some());
    match (ours.is_empty(), has("chain") && has("rule")) {
        (true, _) => Ok(None),
        (false, false) => Err(format!("a table without chains or rules: {ours:?}")),
        (false, true) => {
            let lines: Vec<String> = ours.into_iter().map(|item| still(item).to_string()).collect();
            Ok(Some(lines.join("\n")))
        }
    }
}

/// The kernel's picture now.
pub(crate) fn picture(stage: &Stage) -> Picture {
    let mut last = Err(String::new());
    for _ in 0..LOOKS {
        let (_, output, errors) = stage.nft(&["-j", "list", "ruleset"]).unwrap();
        last = serde_json::from_str(&output)
            .map_err(|error| format!("{error}: {output}{errors}"))
            .and_then(|listing| picture_of(&listing));
        if last.is_ok() {
            break;
        }
    }
    last.unwrap()
}

fn is_ours(item: &Value) -> bool {
    let parts = item.as_object().into_iter().flatten();
    parts
        .into_iter()
        .any(|(kind, part)| part["table"] == TABLE || (kind == "table" && part["name"] == TABLE))
}

/// Without handles, counts, times left and what traffic makes in sets that rules fill.
fn still(value: &Value) -> Value {
    const MOVES: [&str; 5] = ["handle", "packets", "bytes", "expires", "used"];
    // Those alone say how long all of their elements live.
    let is_filled = value["timeout"].is_number() && value["name"].is_string();
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(key, _)| !(MOVES.contains(&key.as_str()) || is_filled && *key == "elem"))
            .map(|(key, value)| (key.clone(), still(value)))
            .collect(),
        Value::Array(items) => items.iter().map(still).collect(),
        other => other.clone(),
    }
}
