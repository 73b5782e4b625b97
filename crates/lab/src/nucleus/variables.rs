//! Recipe variables in lifecycle scripts. Pure. A variable that is not known, or points to nothing, stays literal.

use std::path::PathBuf;

use serde_json::Value;

/// What the variables stand for.
#[derive(Clone, Debug)]
pub struct Variables {
    /// `{artifacts:path}`
    pub artifacts: PathBuf,
    /// `{work:path}`
    pub work: PathBuf,
    /// `{kernel:rootPath}`
    pub root: PathBuf,
    /// `{iot:thingName}`
    pub thing: String,
    /// `{configuration:/json/pointer}` points into this.
    pub configuration: Value,
}

impl Variables {
    /// `text` with every known variable replaced, once: what a value contains is not looked at again.
    #[must_use]
    pub fn replace_in(&self, text: &str) -> String {
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, from_brace) = rest.split_at(open);
            result.push_str(before);
            let known = from_brace
                .find('}')
                .and_then(|close| Some((close, self.value(&from_brace[1..close])?)));
            match known {
                Some((close, value)) => {
                    result.push_str(&value);
                    rest = &from_brace[close + 1..];
                }
                None => {
                    result.push('{');
                    rest = &from_brace[1..];
                }
            }
        }
        result.push_str(rest);
        result
    }

    fn value(&self, name: &str) -> Option<String> {
        match name {
            "artifacts:path" => Some(self.artifacts.display().to_string()),
            "work:path" => Some(self.work.display().to_string()),
            "kernel:rootPath" => Some(self.root.display().to_string()),
            "iot:thingName" => Some(self.thing.clone()),
            _ => match self.configuration.pointer(name.strip_prefix("configuration:")?)? {
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_variables_are_replaced_and_others_stay() {
        let variables = Variables {
            artifacts: "/a".into(),
            work: "/w".into(),
            root: "/r".into(),
            thing: "{work:path}".into(),
            configuration: json!({"x": {"y": "text", "n": 3}}),
        };
        for (text, expected) in [
            (
                "exec {artifacts:path}/p --state-dir {work:path}",
                "exec /a/p --state-dir /w",
            ),
            ("{kernel:rootPath}{iot:thingName}", "/r{work:path}"),
            (
                "{configuration:/x/y} {configuration:/x/n} {configuration:/x}",
                r#"text 3 {"n":3,"y":"text"}"#,
            ),
            (
                "{configuration:/none} ${HOME} {",
                "{configuration:/none} ${HOME} {",
            ),
            ("a() { echo {work:path}; }", "a() { echo /w; }"),
        ] {
            assert_eq!(variables.replace_in(text), expected);
        }
    }
}
