//! Component configuration: reading it and hearing of changes.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::client::Client;
use crate::error::IpcError;
use crate::subscription::Subscription;

/// A part of a component's configuration has changed. The new value has to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationUpdate {
    /// Component whose configuration changed, where the nucleus says so.
    pub component: Option<String>,
    /// What changed; empty means anything.
    pub key_path: Vec<String>,
}

#[derive(Deserialize)]
struct Reply {
    value: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Events {
    configuration_update_event: Event,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    component_name: Option<String>,
    key_path: Option<Vec<String>>,
}

impl Client {
    /// Reads configuration; `None` means the own component. The value comes as the nucleus sends it: a map bare, any
    /// other value wrapped in a map with the last key (`{"interval": 300}`). Lite gives the scalars of a YAML recipe
    /// as strings.
    ///
    /// # Errors
    /// [`IpcError::is_not_found`] when there is no such key; see [`IpcError`] for the rest.
    pub async fn get_configuration(
        &self,
        component: Option<&str>,
        key_path: &[&str],
    ) -> Result<Value, IpcError> {
        const OPERATION: &str = "GetConfiguration";
        let answer = self.call(OPERATION, place(component, key_path)).await?;
        serde_json::from_value(answer)
            .map(|reply: Reply| reply.value)
            .map_err(|source| IpcError::BadReply {
                operation: OPERATION.to_owned(),
                source,
            })
    }

    /// Subscribes to changes of configuration; `None` means the own component.
    ///
    /// # Errors
    /// Of the first attempt only; a subscription that stood once is renewed for ever. See [`IpcError`].
    pub async fn subscribe_to_configuration_update(
        &self,
        component: Option<&str>,
        key_path: &[&str],
    ) -> Result<Subscription<ConfigurationUpdate>, IpcError> {
        let request = place(component, key_path);
        self.subscribe("SubscribeToConfigurationUpdate", &request, decode_update)
            .await
    }
}

fn place(component: Option<&str>, key_path: &[&str]) -> Value {
    let mut request = Map::new();
    if let Some(name) = component {
        request.insert("componentName".to_owned(), name.into());
    }
    request.insert("keyPath".to_owned(), key_path.into());
    Value::Object(request)
}

fn decode_update(payload: &[u8]) -> Option<ConfigurationUpdate> {
    let Events {
        configuration_update_event: event,
    } = serde_json::from_slice(payload).ok()?;
    Some(ConfigurationUpdate {
        component: event.component_name,
        key_path: event.key_path.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_component_is_left_out() {
        assert_eq!(place(None, &[]).to_string(), r#"{"keyPath":[]}"#);
        assert_eq!(
            place(Some("a.b"), &["x", "y"]).to_string(),
            r#"{"componentName":"a.b","keyPath":["x","y"]}"#
        );
    }

    #[test]
    fn update_events_may_lack_everything_but_the_envelope() {
        let full = br#"{"configurationUpdateEvent":{"componentName":"c","keyPath":["k"]},"extra":1}"#;
        let expected = ConfigurationUpdate {
            component: Some("c".into()),
            key_path: vec!["k".into()],
        };
        assert_eq!(decode_update(full), Some(expected));
        let bare = br#"{"configurationUpdateEvent":{"keyPath":null}}"#;
        assert_eq!(
            decode_update(bare),
            Some(ConfigurationUpdate {
                component: None,
                key_path: vec![]
            })
        );
        assert_eq!(decode_update(b"{}"), None);
    }
}
