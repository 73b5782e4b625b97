//! A component's configuration tree: reading by key path, merging, telling what changed. Pure.

use serde_json::{Map, Value};

/// What a `null` in a merged document does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// Removes the key, as in a JSON merge patch: how a file changes the recipe's defaults.
    Remove,
    /// Is a value like any other: `UpdateConfiguration`.
    Keep,
}

/// The value at `path`; the whole tree for an empty path. Lists are leaves: no path leads into them.
#[must_use]
pub fn at<'a>(tree: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter()
        .try_fold(tree, |value, key| value.as_object()?.get(key))
}

/// The same where keys are found in any case, as the classic nucleus does.
#[must_use]
pub fn at_any_case<'a>(tree: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(tree, |value, key| {
        let mut children = value.as_object()?.iter();
        children
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, child)| child)
    })
}

/// Numbers as doubles, the way classic hands out what came as JSON.
#[must_use]
pub fn numbers_as_doubles(value: Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().map_or(Value::Null, Value::from),
        Value::Array(list) => list.into_iter().map(numbers_as_doubles).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, numbers_as_doubles(value)))
            .collect(),
        other => other,
    }
}

/// Merges `patch` into `tree`, map by map; anything else replaces.
pub fn merge(tree: &mut Value, patch: Value, nulls: Nulls) {
    let Value::Object(patch) = patch else {
        *tree = patch;
        return;
    };
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    let Value::Object(map) = tree else { return };
    for (key, value) in patch {
        if value.is_null() && nulls == Nulls::Remove {
            map.remove(&key);
        } else {
            merge(map.entry(key).or_insert(Value::Null), value, nulls);
        }
    }
}

/// `value` placed at `path`, as a document to merge.
#[must_use]
pub fn nest(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |inner, key| {
        Value::Object(Map::from_iter([(key.clone(), inner)]))
    })
}

/// Paths of the leaves that differ, keys that came or went included.
#[must_use]
pub fn changed_leaves(before: &Value, after: &Value) -> Vec<Vec<String>> {
    let mut changed = Vec::new();
    collect_changes(Some(before), Some(after), &mut Vec::new(), &mut changed);
    changed
}

fn collect_changes(
    before: Option<&Value>,
    after: Option<&Value>,
    path: &mut Vec<String>,
    changed: &mut Vec<Vec<String>>,
) {
    if before == after {
        return;
    }
    let (old, new) = (
        before.and_then(Value::as_object),
        after.and_then(Value::as_object),
    );
    if old.is_none() && new.is_none() {
        changed.push(path.clone());
        return;
    }
    let empty = Map::new();
    let (old, new) = (old.unwrap_or(&empty), new.unwrap_or(&empty));
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        path.push(key.clone());
        collect_changes(old.get(key), new.get(key), path, changed);
        path.pop();
    }
}

/// Scalars as strings, the way lite hands out what came from a YAML recipe. Nulls stay.
#[must_use]
pub fn scalars_as_strings(value: Value) -> Value {
    match value {
        Value::Bool(flag) => Value::String(flag.to_string()),
        Value::Number(number) => Value::String(number.to_string()),
        Value::Array(list) => list.into_iter().map(scalars_as_strings).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, scalars_as_strings(value)))
            .collect(),
        other @ (Value::Null | Value::String(_)) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> Vec<String> {
        text.split('/')
            .filter(|key| !key.is_empty())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn values_are_found_by_path_and_lists_are_leaves() {
        let tree = json!({"a": {"b": "1", "list": [{"c": 2}]}});
        assert_eq!(at(&tree, &path("a/b")), Some(&json!("1")));
        assert_eq!(at(&tree, &[]), Some(&tree));
        assert_eq!(at(&tree, &path("a/list/0")), None);
        assert_eq!(at(&tree, &path("a/b/c")), None);
    }

    #[test]
    fn a_merge_goes_map_by_map() {
        for (nulls, expected) in [
            (Nulls::Remove, json!({"a": {"c": 3, "n": {}}, "l": [1]})),
            (
                Nulls::Keep,
                json!({"a": {"b": null, "c": 3, "n": {"x": null}}, "l": [1]}),
            ),
        ] {
            let mut tree = json!({"a": {"b": 1}, "l": [1, 2]});
            merge(
                &mut tree,
                json!({"a": {"b": null, "c": 3, "n": {"x": null}}, "l": [1]}),
                nulls,
            );
            assert_eq!(tree, expected);
        }
        let mut tree = json!("leaf");
        merge(&mut tree, nest(&path("a/b"), json!(true)), Nulls::Keep);
        assert_eq!(tree, json!({"a": {"b": true}}));
    }

    #[test]
    fn changes_name_their_leaves() {
        let before = json!({"a": {"b": 1, "gone": 1}, "same": [1], "leaf": 1});
        let after = json!({"a": {"b": 2, "new": {"deep": 1}}, "same": [1], "leaf": {"x": 1}});
        let mut changed = changed_leaves(&before, &after);
        changed.sort();
        assert_eq!(
            changed,
            [path("a/b"), path("a/gone"), path("a/new/deep"), path("leaf/x")]
        );
        assert!(changed_leaves(&after, &after).is_empty());
    }

    #[test]
    fn classic_hands_out_doubles_of_keys_in_any_case() {
        let typed = json!({"n": 300, "l": [1], "b": true});
        assert_eq!(
            numbers_as_doubles(typed).to_string(),
            r#"{"b":true,"l":[1.0],"n":300.0}"#
        );
        let tree = json!({"a": {"B": 1}});
        assert_eq!(at_any_case(&tree, &path("A/b")), Some(&json!(1)));
        assert_eq!(at_any_case(&tree, &path("A/c")), None);
    }

    #[test]
    fn lite_hands_out_strings() {
        let typed = json!({"n": 300, "f": 0.5, "b": true, "l": [1], "z": null});
        assert_eq!(
            scalars_as_strings(typed),
            json!({"n": "300", "f": "0.5", "b": "true", "l": ["1"], "z": null})
        );
    }
}
