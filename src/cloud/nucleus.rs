//! What the nucleus knows: our configuration and its own endpoints.
//!
//! In: the IPC client. Out: JSON as the nucleus gives it, and [`Endpoints`]. Shapes: ipc-wire.md 4 and 8.

use greengrass_ipc::{Client, ConnectionState, IpcError};
use serde_json::Value;

/// The nucleus component's name on lite and on classic.
const NUCLEI: [&str; 2] = ["aws.greengrass.NucleusLite", "aws.greengrass.Nucleus"];

/// Endpoints of the nucleus' own configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Host name of the IoT data endpoint.
    pub data: Option<String>,
    /// MQTT port, where the nucleus has another than 8883.
    pub mqtt_port: Option<u16>,
}

/// The process that serves the IPC, while we are connected to it.
pub fn pid(client: &Client) -> Option<u32> {
    match &*client.connection().borrow() {
        ConnectionState::Connected { server_pid, .. } => server_pid.and_then(|pid| u32::try_from(pid).ok()),
        ConnectionState::Connecting { .. } => None,
    }
}

/// Our whole configuration, as deployed.
///
/// # Errors
/// The nucleus' refusal, or no connection.
pub async fn configuration(client: &Client) -> Result<Value, IpcError> {
    client.get_configuration(None, &[]).await
}

/// The nucleus' endpoints. What it does not tell is left out.
///
/// # Errors
/// No connection.
pub async fn endpoints(client: &Client) -> Result<Endpoints, IpcError> {
    let mut endpoints = Endpoints::default();
    for nucleus in NUCLEI {
        if endpoints.data.is_none() {
            endpoints.data = leaf(client, nucleus, &["iotDataEndpoint"])
                .await?
                .as_str()
                .and_then(host);
        }
        if endpoints.mqtt_port.is_none() {
            let port = leaf(client, nucleus, &["mqtt", "port"]).await?;
            let number = port.as_u64().or_else(|| port.as_str()?.parse().ok());
            endpoints.mqtt_port = number
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port > 0);
        }
    }
    Ok(endpoints)
}

async fn leaf(client: &Client, component: &str, path: &[&str]) -> Result<Value, IpcError> {
    match client.get_configuration(Some(component), path).await {
        // A leaf comes back wrapped in an object with its own key.
        Ok(value) => Ok(path
            .last()
            .and_then(|key| value.get(key))
            .cloned()
            .unwrap_or(value)),
        Err(IpcError::Service { .. }) => Ok(Value::Null),
        Err(error) => Err(error),
    }
}

/// A host name or address, without a port somebody may have appended.
fn host(text: &str) -> Option<String> {
    let text = text.trim();
    let plain = !text.is_empty()
        && text.len() <= 253
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c));
    if !plain {
        return None;
    }
    match text.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.parse::<u16>().is_ok() => Some(name.to_owned()),
        _ => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_cut_off_and_nonsense_is_no_host() {
        assert_eq!(
            host("x-ats.iot.eu-central-1.amazonaws.com"),
            Some("x-ats.iot.eu-central-1.amazonaws.com".into())
        );
        assert_eq!(host("localhost:8883"), Some("localhost".into()));
        assert_eq!(host("2001:db8::1"), Some("2001:db8::1".into()));
        assert_eq!(host("a b; rm"), None);
        assert_eq!(host(""), None);
    }
}
