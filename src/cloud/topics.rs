//! Topic names (docs/reference/shadow.md#topics, docs/reference/device-defender.md#topics). Pure.

/// Topics on which the service says something to us; the session cannot do without the first [`ShadowTopics::REQUIRED`].
const SUFFIXES: [&str; 6] = [
    "get/accepted",
    "get/rejected",
    "update/accepted",
    "update/rejected",
    "update/delta",
    "delete/accepted",
];

/// Topics of one shadow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShadowTopics {
    prefix: String,
}

impl ShadowTopics {
    /// The classic shadow of `thing`, or a named one. Both names were checked when the configuration was read.
    pub(crate) fn new(thing: &str, name: Option<&str>) -> Self {
        let classic = format!("$aws/things/{thing}/shadow");
        Self {
            prefix: name.map_or(classic.clone(), |name| format!("{classic}/name/{name}")),
        }
    }

    /// Where a `get` is published.
    pub(crate) fn get(&self) -> String {
        format!("{}/get", self.prefix)
    }

    /// Where an update is published.
    pub(crate) fn update(&self) -> String {
        format!("{}/update", self.prefix)
    }

    /// One filter for all answers: its life is proven by any of them. It also brings `update/documents`, with two whole
    /// documents, which would not pass nucleus lite's 5,000 bytes.
    pub(crate) fn wide(&self) -> String {
        format!("{}/+/+", self.prefix)
    }

    /// The same one by one, for lite, and for rights that do not reach further.
    pub(crate) fn subscriptions(&self) -> Vec<String> {
        let topics = SUFFIXES.iter();
        topics.map(|suffix| format!("{}/{suffix}", self.prefix)).collect()
    }

    /// How many of them the session cannot do without: a deletion is also noticed by the next `get`.
    pub(crate) const REQUIRED: usize = 5;

    /// Whether `topic` is one of these.
    pub(crate) fn requires(&self, topic: &str) -> bool {
        topic == self.wide()
            || self
                .subscriptions()
                .iter()
                .take(Self::REQUIRED)
                .any(|required| required == topic)
    }

    /// The part behind the prefix, of a topic that says something to us.
    pub(crate) fn suffix<'a>(&self, topic: &'a str) -> Option<&'a str> {
        let suffix = topic.strip_prefix(self.prefix.as_str())?.strip_prefix('/')?;
        SUFFIXES.contains(&suffix).then_some(suffix)
    }
}

/// The reserved topic of Device Defender reports in `format`, `json` or `cbor`.
pub(crate) fn metrics(thing: &str, format: &str) -> String {
    format!("$aws/things/{thing}/defender/metrics/{format}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_and_named_shadows_have_their_own_topics() {
        let classic = ShadowTopics::new("gw", None);
        assert_eq!(classic.get(), "$aws/things/gw/shadow/get");
        assert_eq!(
            classic.suffix("$aws/things/gw/shadow/update/delta"),
            Some("update/delta")
        );
        assert_eq!(classic.suffix("$aws/things/gw2/shadow/update/delta"), None);
        assert_eq!(classic.suffix("$aws/things/gw/shadow/update/documents"), None);
        assert_eq!(classic.wide(), "$aws/things/gw/shadow/+/+");
        assert!(classic.requires("$aws/things/gw/shadow/update/delta"));
        assert!(!classic.requires("$aws/things/gw/shadow/delete/accepted"));
        let named = ShadowTopics::new("gw", Some("edge"));
        assert_eq!(named.update(), "$aws/things/gw/shadow/name/edge/update");
        assert_eq!(metrics("gw", "json"), "$aws/things/gw/defender/metrics/json");
    }
}
