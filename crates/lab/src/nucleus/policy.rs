//! accessControl: may this component do this operation on this resource? Pure.
//!
//! In: the configuration's `accessControl` and a request. Out: yes or no, by the rules both nuclei share
//! (docs/reference/ipc-wire.md#access-control). Deliberately absent: the services this stand-in has no operation of.

use serde_json::Value;

/// A service whose operations need a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// MQTT with AWS IoT Core; the only one whose policies may have MQTT wildcards.
    MqttProxy,
    /// Local publish/subscribe.
    PubSub,
    /// Shadows.
    ShadowManager,
    /// Pause and resume.
    Lifecycle,
    /// Restart and stop.
    Cli,
    /// Telemetry of AWS's own components.
    ComponentMetric,
}

impl Service {
    /// Its name in `accessControl`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MqttProxy => "aws.greengrass.ipc.mqttproxy",
            Self::PubSub => "aws.greengrass.ipc.pubsub",
            Self::ShadowManager => "aws.greengrass.ShadowManager",
            Self::Lifecycle => "aws.greengrass.ipc.lifecycle",
            Self::Cli => "aws.greengrass.Cli",
            Self::ComponentMetric => "aws.greengrass.ipc.componentmetric",
        }
    }
}

/// A resource longer than any MQTT topic can be is denied without looking: matching costs pattern times text.
const MAX_RESOURCE_BYTES: usize = 65_535;

/// Whether `configuration` grants `operation` of `service` (without its `aws.greengrass#`) on `resource`.
///
/// `thing` replaces `{iot:thingName}`, where the nucleus does that.
#[must_use]
pub fn allows(
    configuration: &Value,
    service: Service,
    operation: &str,
    resource: &str,
    thing: Option<&str>,
) -> bool {
    if resource.contains('?') || resource.len() > MAX_RESOURCE_BYTES {
        return false;
    }
    let full_name = format!("aws.greengrass#{operation}");
    let policies = configuration
        .get("accessControl")
        .and_then(|control| control.get(service.name()));
    policies.and_then(Value::as_object).is_some_and(|policies| {
        policies.values().any(|policy| {
            texts(policy, "operations").any(|granted| granted == "*" || granted == full_name)
                && texts(policy, "resources").any(|pattern| {
                    let pattern = match thing {
                        Some(thing) => pattern.replace("{iot:thingName}", thing),
                        None => pattern.to_owned(),
                    };
                    covers(&pattern, resource, service)
                })
        })
    })
}

fn texts<'a>(policy: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    policy
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

enum Token {
    Exactly(char),
    /// Any run of characters: `*`, or `#` as the last level.
    Run,
    /// Anything within one level but a `#`: `+` as a level of its own.
    Level,
}

impl Token {
    fn repeats_over(&self, next: char) -> bool {
        match self {
            Self::Exactly(_) => false,
            Self::Run => true,
            Self::Level => next != '/' && next != '#',
        }
    }
}

fn tokens(pattern: &str, service: Service) -> Vec<Token> {
    let mqtt = service == Service::MqttProxy;
    let mut tokens = Vec::new();
    let mut rest = pattern;
    let mut level_begins = true;
    while let Some(first) = rest.chars().next() {
        let escaped = ["${*}", "${?}", "${$}"]
            .iter()
            .find(|escape| rest.starts_with(**escape));
        if let Some(escape) = escaped {
            tokens.extend(escape.chars().nth(2).map(Token::Exactly));
            rest = &rest[escape.len()..];
            level_begins = false;
            continue;
        }
        let after = &rest[first.len_utf8()..];
        tokens.push(match first {
            '*' => Token::Run,
            '+' if mqtt && level_begins && (after.is_empty() || after.starts_with('/')) => Token::Level,
            '#' if mqtt && level_begins && after.is_empty() => Token::Run,
            other => Token::Exactly(other),
        });
        level_begins = first == '/';
        rest = after;
    }
    tokens
}

/// Whether `pattern` matches all of `text`: one row of reachable token positions per character.
fn covers(pattern: &str, text: &str, service: Service) -> bool {
    let tokens = tokens(pattern, service);
    let mut reachable = vec![false; tokens.len() + 1];
    reachable[0] = true;
    skip_empty(&tokens, &mut reachable);
    for next in text.chars() {
        let mut following = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate().filter(|(index, _)| reachable[*index]) {
            match token {
                Token::Exactly(wanted) => following[index + 1] |= *wanted == next,
                repeated => following[index] |= repeated.repeats_over(next),
            }
        }
        skip_empty(&tokens, &mut following);
        reachable = following;
    }
    reachable[tokens.len()]
}

/// A run may be empty.
fn skip_empty(tokens: &[Token], reachable: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        if reachable[index] && !matches!(token, Token::Exactly(_)) {
            reachable[index + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_cover_what_the_reference_says() {
        for (pattern, text, expected) in [
            ("*", "anything/at/all", true),
            ("$aws/things/*/shadow/*", "$aws/things/g/shadow/#", true),
            (
                "$aws/things/+/shadow/get/+",
                "$aws/things/g/shadow/get/accepted",
                true,
            ),
            ("$aws/things/+/shadow/get/+", "$aws/things/g/shadow/get/+", true),
            ("$aws/things/+/shadow/get/+", "$aws/things/g/shadow/get/#", false),
            (
                "$aws/things/+/shadow/get/+",
                "$aws/things/g/x/shadow/get/accepted",
                false,
            ),
            ("$aws/things/g/#", "$aws/things/g/a/b", true),
            ("$aws/things/g/#", "$aws/things/h/a", false),
            ("a/b", "#", false),
            ("a/b", "+/b", false),
            ("a${*}b", "a*b", true),
            ("a${*}b", "axb", false),
            ("a+b", "axb", false),
            ("", "", true),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false),
        ] {
            assert_eq!(
                covers(pattern, text, Service::MqttProxy),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(
            !covers("a/#", "a/b", Service::PubSub),
            "MQTT wildcards are MQTT's"
        );
        assert!(covers("a/#", "a/#", Service::PubSub));
    }

    #[test]
    fn operation_and_resource_must_be_in_one_policy() {
        let policy = |operation: &str, resource: &str| json!({"operations": [format!("aws.greengrass#{operation}")], "resources": [resource]});
        let configuration = json!({"accessControl": {Service::MqttProxy.name(): {
            "p:1": policy("PublishToIoTCore", "$aws/things/{iot:thingName}/out"),
            "p:2": policy("SubscribeToIoTCore", "in/*"),
        }}});
        let asks = |operation, resource, thing| {
            allows(&configuration, Service::MqttProxy, operation, resource, thing)
        };
        assert!(
            !allows(
                &configuration,
                Service::PubSub,
                "SubscribeToIoTCore",
                "in/x",
                None
            ),
            "another service"
        );
        assert!(asks("PublishToIoTCore", "$aws/things/g/out", Some("g")));
        assert!(
            !asks("PublishToIoTCore", "$aws/things/g/out", None),
            "literal where nothing interpolates"
        );
        assert!(!asks("PublishToIoTCore", "$aws/things/h/out", Some("g")));
        assert!(!asks("SubscribeToIoTCore", "$aws/things/g/out", Some("g")));
        assert!(asks("SubscribeToIoTCore", "in/x", None));
        assert!(
            !asks("SubscribeToIoTCore", "in/?", None),
            "a question mark is always denied"
        );
        assert!(!allows(
            &json!({}),
            Service::MqttProxy,
            "PublishToIoTCore",
            "x",
            None
        ));
    }
}
