//! What a deployment makes of a component's configuration, step by step as readers see it. Pure.
//!
//! In: the tree that runs, the recipe's defaults, what the deployment resets and merges. Out: the tree after each step, and
//! why the nucleus stopped in the middle. Both nuclei write leaf by leaf, so a reader between two steps sees half of a new
//! object; classic takes a key away before it writes one of another type. Lite refuses that: what has children is never a
//! value as well, and a value gets no children (its `ggconfigd`), so the deployment fails there.
//! What a deployment does not name stays as the last one left it. Lists are values: replaced as a whole.

use serde_json::{Map, Value};

use super::personality::Personality;
use super::settings::at;

/// What a deployment says of one component's configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ConfigurationUpdate {
    /// Key paths that go back to the recipe's defaults, or away where it has none; the empty path is everything.
    pub(super) reset: Vec<Vec<String>>,
    /// Merged after that.
    pub(super) merge: Value,
}

impl ConfigurationUpdate {
    /// As the classic nucleus' command line takes it: `{"MERGE": {…}, "RESET": ["/a/b"]}`; anything else is merged.
    pub(super) fn read(document: Value) -> Self {
        let is_update = |map: &Map<String, Value>| map.contains_key("MERGE") || map.contains_key("RESET");
        let Some(map) = document.as_object().filter(|map| is_update(map)) else {
            return Self {
                reset: Vec::new(),
                merge: document,
            };
        };
        let paths = map.get("RESET").and_then(Value::as_array).into_iter().flatten();
        let path = |pointer: &str| {
            let keys = pointer.split('/').filter(|key| !key.is_empty());
            keys.map(str::to_owned).collect()
        };
        Self {
            reset: paths.filter_map(Value::as_str).map(path).collect(),
            merge: map
                .get("MERGE")
                .cloned()
                .unwrap_or_else(|| Value::Object(Map::new())),
        }
    }
}

/// The trees that readers can see, the last one being how it stays.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) trees: Vec<Value>,
    /// Why the nucleus went no further.
    pub(super) refused: Option<String>,
}

/// Carries out `update` on `running`.
pub(super) fn steps(
    running: &Value,
    default: &Value,
    update: &ConfigurationUpdate,
    personality: Personality,
) -> Steps {
    let mut writer = Writer {
        tree: running.clone(),
        trees: Vec::new(),
        personality,
    };
    let outcome = update
        .reset
        .iter()
        .try_for_each(|path| writer.reset(path, default))
        .and_then(|()| writer.write(&mut Vec::new(), &update.merge));
    Steps {
        trees: writer.trees,
        refused: outcome.err(),
    }
}

struct Writer {
    tree: Value,
    trees: Vec<Value>,
    personality: Personality,
}

impl Writer {
    fn step(&mut self) {
        if self.trees.last() != Some(&self.tree) {
            self.trees.push(self.tree.clone());
        }
    }

    fn reset(&mut self, path: &[String], default: &Value) -> Result<(), String> {
        remove(&mut self.tree, path);
        self.step();
        match at(default, path) {
            Some(value) => self.write(&mut path.to_vec(), &value.clone()),
            None => Ok(()),
        }
    }

    fn write(&mut self, path: &mut Vec<String>, value: &Value) -> Result<(), String> {
        let held = at(&self.tree, path).map(Value::is_object);
        if held.is_some_and(|is_object| is_object != value.is_object()) {
            if self.personality.is_lite() {
                let key = path.join("/");
                return Err(if value.is_object() {
                    format!("Value already present for key {key}, so it can not have children")
                } else {
                    format!("Key {key} is an object, so it can not also store a value")
                });
            }
            remove(&mut self.tree, path);
            self.step();
        }
        let Value::Object(children) = value else {
            let bytes = value.to_string().len();
            if let Some(most) = self
                .personality
                .max_configuration_leaf()
                .filter(|most| bytes > *most)
            {
                let key = path.join("/");
                return Err(format!("Value of key {key} has {bytes} bytes, more than {most}"));
            }
            put(&mut self.tree, path, value.clone());
            self.step();
            return Ok(());
        };
        if at(&self.tree, path).is_none() {
            put(&mut self.tree, path, Value::Object(Map::new()));
            self.step();
        }
        for (name, child) in children {
            path.push(self.name(path, name));
            let outcome = self.write(path, child);
            path.pop();
            outcome?;
        }
        Ok(())
    }

    /// How the key is spelled in the tree: classic knows it in any case.
    fn name(&self, path: &[String], name: &str) -> String {
        let parent = at(&self.tree, path).and_then(Value::as_object);
        let held = parent.and_then(|map| map.keys().find(|key| key.eq_ignore_ascii_case(name)));
        match held {
            Some(held) if !self.personality.is_lite() => held.clone(),
            _ => name.to_owned(),
        }
    }
}

/// Takes the value at `path` away; the empty path empties the tree.
fn remove(tree: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else {
        *tree = Value::Object(Map::new());
        return;
    };
    let parent = parents
        .iter()
        .try_fold(tree, |value, key| value.as_object_mut()?.get_mut(key));
    if let Some(map) = parent.and_then(Value::as_object_mut) {
        map.remove(last);
    }
}

/// Puts `value` at `path`; what leads there are objects already.
fn put(tree: &mut Value, path: &[String], value: Value) {
    let mut place = tree;
    for key in path {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(map) = place else { return };
        place = map.entry(key.clone()).or_insert(Value::Null);
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use Personality::{Classic, Lite};
    use serde_json::json;

    fn merged(running: &Value, merge: Value, personality: Personality) -> Steps {
        let update = ConfigurationUpdate::read(merge);
        steps(running, &json!({"mode": "enforce"}), &update, personality)
    }

    fn last(steps: &Steps) -> &Value {
        steps.trees.last().unwrap()
    }

    #[test]
    fn what_a_deployment_leaves_out_stays_and_a_list_is_replaced() {
        let running = json!({"mode": "observe", "order": {"id": "a", "allow": [1]}, "list": [{"id": "a", "allow": [1]}]});
        for personality in [Classic, Lite] {
            let steps = merged(
                &running,
                json!({"order": {"id": "b"}, "list": [{"id": "b"}]}),
                personality,
            );
            let wanted =
                json!({"mode": "observe", "order": {"id": "b", "allow": [1]}, "list": [{"id": "b"}]});
            assert_eq!((last(&steps), &steps.refused), (&wanted, &None));
        }
    }

    #[test]
    fn a_reset_gives_the_default_or_takes_the_key_away() {
        let running = json!({"mode": "observe", "order": true});
        let reset = |paths: Value| merged(&running, json!({ "RESET": paths }), Classic);
        assert_eq!(last(&reset(json!(["/order"]))), &json!({"mode": "observe"}));
        assert_eq!(
            last(&reset(json!(["/order", "/mode"]))),
            &json!({"mode": "enforce"})
        );
        assert_eq!(last(&reset(json!([""]))), &json!({"mode": "enforce"}));
    }

    #[test]
    fn a_reader_in_between_sees_the_key_missing_or_half_of_it() {
        let steps = merged(
            &json!({"order": true}),
            json!({"order": {"a": 1, "b": 2}}),
            Classic,
        );
        assert_eq!(
            steps.trees,
            [
                json!({}),
                json!({"order": {}}),
                json!({"order": {"a": 1}}),
                json!({"order": {"a": 1, "b": 2}})
            ]
        );
        let steps = merged(&json!({"order": {"a": 1}}), json!({"order": [2]}), Classic);
        assert_eq!(steps.trees, [json!({}), json!({"order": [2]})]);
    }

    #[test]
    fn lite_makes_no_value_of_an_object_and_no_object_of_a_value() {
        for (running, merge) in [
            (json!({"order": true}), json!({"order": {"a": 1}})),
            (json!({"order": {"a": 1}}), json!({"order": false})),
        ] {
            let steps = merged(&running, merge, Lite);
            assert!(steps.refused.is_some() && steps.trees.is_empty(), "{steps:?}");
        }
        let steps = merged(&json!({"order": true}), json!({"order": [1]}), Lite);
        assert_eq!(
            (last(&steps), steps.refused.is_none()),
            (&json!({"order": [1]}), true)
        );
    }

    #[test]
    fn a_long_value_ends_a_deployment_on_lite() {
        let long = json!({"a": 1, "order": ["x".repeat(1_021)], "z": 1});
        let refused = merged(&json!({}), long.clone(), Lite);
        assert!(refused.refused.is_some());
        assert_eq!(last(&refused), &json!({"a": 1}), "what came before it stays");
        assert_eq!(last(&merged(&json!({}), long.clone(), Classic)), &long);
    }

    #[test]
    fn classic_knows_a_key_in_any_case() {
        let steps = merged(&json!({"order": true}), json!({"ORDER": false}), Classic);
        assert_eq!(last(&steps), &json!({"order": false}));
        let steps = merged(&json!({"order": true}), json!({"ORDER": false}), Lite);
        assert_eq!(last(&steps), &json!({"order": true, "ORDER": false}));
    }
}
