//! MQTT topics: which filter matches which topic, and what each nucleus checks. Pure.

/// Longest ordinary topic the classic nucleus publishes to.
const MAX_TOPIC_BYTES: usize = 256;
/// Longest topic of AWS's own (`$aws/…`) it publishes to.
const MAX_RESERVED_TOPIC_BYTES: usize = 512;
/// Most slashes in an ordinary topic.
const MAX_SLASHES: usize = 7;

/// Whether a message published to `topic` goes to subscribers of `filter`.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic_levels = topic.split('/');
    let mut filter_levels = filter.split('/');
    loop {
        match (filter_levels.next(), topic_levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

/// Whether `filter` may be subscribed to at all.
#[must_use]
pub fn is_filter(filter: &str) -> bool {
    let levels: Vec<_> = filter.split('/').collect();
    !filter.is_empty()
        && !filter.contains('\0')
        && levels.iter().enumerate().all(|(index, level)| match *level {
            "+" => true,
            "#" => index + 1 == levels.len(),
            text => !text.contains(['+', '#']),
        })
}

/// Whether `topic` has a wildcard or nothing at all in it; a broker ends the connection of who publishes to it.
#[must_use]
pub fn is_unpublishable(topic: &str) -> bool {
    topic.is_empty() || topic.contains(['+', '#', '\0'])
}

/// The classic nucleus' fault with a topic to publish to, if any.
#[must_use]
pub fn classic_fault(topic: &str) -> Option<&'static str> {
    if is_unpublishable(topic) {
        return Some("The topic to publish to is empty or has a wildcard");
    }
    if topic.starts_with('$') {
        return (topic.len() > MAX_RESERVED_TOPIC_BYTES).then_some("The topic has more than 512 bytes");
    }
    if topic.len() > MAX_TOPIC_BYTES {
        return Some("The topic has more than 256 bytes");
    }
    (topic.matches('/').count() > MAX_SLASHES).then_some("The topic has more than 7 slashes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_mqtt_says() {
        for (filter, topic, expected) in [
            (
                "$aws/things/g/shadow/#",
                "$aws/things/g/shadow/get/accepted",
                true,
            ),
            (
                "$aws/things/+/shadow/get/+",
                "$aws/things/g/shadow/get/accepted",
                true,
            ),
            ("$aws/things/+/shadow/get/+", "$aws/things/g/shadow/get", false),
            ("a/#", "a", true),
            ("a/#", "b", false),
            ("#", "$aws/x", false),
            ("+/x", "$aws/x", false),
            ("#", "a/b", true),
            ("a/+", "a/", true),
            ("a", "a/b", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn malformed_filters_and_topics_are_seen() {
        for (filter, expected) in [
            ("a/+/b", true),
            ("#", true),
            ("a/#/b", false),
            ("a+", false),
            ("", false),
            ("a/b#", false),
        ] {
            assert_eq!(is_filter(filter), expected, "{filter}");
        }
        assert!(is_unpublishable("test/#") && is_unpublishable("") && !is_unpublishable("a//b"));
        assert_eq!(classic_fault("$aws/things/T/shadow/name/N/update/accepted"), None);
        assert!(classic_fault("a/b/c/d/e/f/g/h/i").is_some());
        assert!(classic_fault(&"x".repeat(257)).is_some());
    }
}
