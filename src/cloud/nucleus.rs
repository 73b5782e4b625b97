//! What the nucleus knows: our configuration and its own endpoints.
//!
//! In: the link. Out: JSON as the nucleus gives it and a wake-up when it changed, and [`NucleusEndpoints`]. Shapes:
//! docs/reference/ipc-wire.md#operations and docs/reference/ipc-wire.md#configuration-values.
//! What the proxy means for lifelines is `quarantine::lifelines::proxy`'s to say.

use std::net::Ipv6Addr;

use greengrass_ipc::{Client, ConfigurationUpdate, IpcError, Subscription};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::link::{CloudError, Nucleus};
use crate::document::read_port;

/// The nucleus component's name on lite and on classic.
const NUCLEI: [&str; 2] = ["aws.greengrass.NucleusLite", "aws.greengrass.Nucleus"];

/// Longest URL of a proxy that is read; user and password included.
const MAX_URL: usize = 2_048;
/// Exceptions from the proxy that are read, and the longest list of them.
const MAX_EXCEPTIONS: usize = 64;
const MAX_EXCEPTIONS_TEXT: usize = 16_384;
/// Longest name of a Region; AWS' are half as long.
const MAX_REGION: usize = 32;

/// Endpoints of the nucleus' own configuration. What it does not tell, or tells so that it makes no sense, is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NucleusEndpoints {
    /// Host name of the IoT data endpoint.
    pub(crate) data: Option<String>,
    /// MQTT port, where the nucleus has another than 8883.
    pub(crate) mqtt_port: Option<u16>,
    /// Host and port of its HTTP proxy.
    pub(crate) proxy: Option<(String, u16)>,
    /// Hosts and domains that it reaches without the proxy.
    pub(crate) proxy_exceptions: Vec<String>,
    /// The AWS Region.
    pub(crate) region: Option<String>,
    /// Host name of the credentials endpoint.
    pub(crate) credentials: Option<String>,
    /// Whether its data plane is the IoT data endpoint.
    pub(crate) data_plane_is_iotdata: bool,
    /// Port of its data plane.
    pub(crate) data_plane_port: Option<u16>,
}

/// Wakes whoever waits for another configuration.
#[derive(Debug)]
pub(crate) struct ConfigurationUpdates(Subscription<ConfigurationUpdate>);

impl ConfigurationUpdates {
    /// Waits until the configuration may be another one; cancel-safe. `false`: the subscription has ended.
    pub(crate) async fn changed(&mut self) -> bool {
        // What changed is not believed: messages may have been missed, so the whole document is read anew.
        self.0.next().await.is_some()
    }
}

impl Nucleus {
    /// Our whole configuration, as deployed. None where the nucleus knows of none: the component is not deployed (any more),
    /// since a deployed one has at least its recipe's defaults.
    ///
    /// # Errors
    /// The nucleus' refusal, or no connection.
    pub(crate) async fn configuration(&self) -> Result<Option<Value>, CloudError> {
        let document = match self.client.get_configuration(None, &[]).await {
            Err(error) if error.is_not_found() => return Ok(None),
            answer => answer?,
        };
        let is_empty = document.is_null() || document.as_object().is_some_and(serde_json::Map::is_empty);
        Ok(Some(document).filter(|_| !is_empty))
    }

    /// Subscribes to changes of our configuration.
    ///
    /// # Errors
    /// The nucleus' refusal, or no connection.
    pub(crate) async fn configuration_updates(&self) -> Result<ConfigurationUpdates, CloudError> {
        let updates = self.client.subscribe_to_configuration_update(None, &[]).await;
        Ok(ConfigurationUpdates(updates?))
    }

    /// The nucleus' endpoints, of the nucleus that tells any.
    ///
    /// # Errors
    /// No connection.
    pub(crate) async fn endpoints(&self) -> Result<NucleusEndpoints, CloudError> {
        for nucleus in NUCLEI {
            let endpoints = endpoints(&self.client, nucleus).await?;
            if endpoints != NucleusEndpoints::default() {
                return Ok(endpoints);
            }
        }
        Ok(NucleusEndpoints::default())
    }
}

async fn endpoints(client: &Client, nucleus: &str) -> Result<NucleusEndpoints, IpcError> {
    let leaf = async |path: &[&str]| leaf(client, nucleus, path).await;
    let proxy_url = leaf(&["networkProxy", "proxy", "url"]).await?;
    let no_proxy = leaf(&["networkProxy", "noProxyAddresses"]).await?;
    Ok(NucleusEndpoints {
        data: leaf(&["iotDataEndpoint"]).await?.as_str().and_then(host),
        mqtt_port: read_port(&leaf(&["mqtt", "port"]).await?),
        proxy: proxy_url.as_str().and_then(proxy),
        proxy_exceptions: no_proxy.as_str().map(exceptions).unwrap_or_default(),
        region: leaf(&["awsRegion"]).await?.as_str().and_then(region),
        credentials: leaf(&["iotCredEndpoint"]).await?.as_str().and_then(host),
        data_plane_is_iotdata: leaf(&["greengrassDataPlaneEndpoint"]).await? == "iotdata",
        data_plane_port: read_port(&leaf(&["greengrassDataPlanePort"]).await?),
    })
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

/// The name of an AWS Region; it becomes part of host names.
pub(crate) fn region(text: &str) -> Option<String> {
    let plain = (1..=MAX_REGION).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    plain.then(|| text.to_owned())
}

/// Hosts, domains and addresses between commas. What is none of these exempts nothing.
fn exceptions(text: &str) -> Vec<String> {
    if text.len() > MAX_EXCEPTIONS_TEXT {
        return Vec::new();
    }
    let each = text.split(',').map(str::trim);
    let plain = each.filter(|one| *one == "*" || host(one.trim_start_matches('*')).is_some());
    plain.take(MAX_EXCEPTIONS).map(str::to_owned).collect()
}

/// Host and port of a proxy's URL: `scheme://[user@]host[:port]`. Who logs in there is nothing to us.
fn proxy(url: &str) -> Option<(String, u16)> {
    if url.len() > MAX_URL {
        return None;
    }
    let (scheme, rest) = url.trim().split_once("://")?;
    let usual = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (name, after) = match place.strip_prefix('[') {
        // An IPv6 address in brackets.
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.to_string(), after)
        }
        None => {
            let end = place.find(':').unwrap_or(place.len());
            let (name, after) = place.split_at(end);
            (host(name)?, after)
        }
    };
    let port = match after.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
        None if after.is_empty() => usual,
        None => return None,
    };
    Some((name, port))
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

    #[test]
    fn exceptions_from_the_proxy_are_bounded_and_nonsense_is_none() {
        assert_eq!(
            exceptions(" a.example,*.b.example , 192.0.2.1,,x y,*"),
            ["a.example", "*.b.example", "192.0.2.1", "*"]
        );
        assert_eq!(exceptions(&"a,".repeat(200)).len(), MAX_EXCEPTIONS);
        assert!(exceptions(&"a,".repeat(MAX_EXCEPTIONS_TEXT)).is_empty());
    }

    #[test]
    fn a_proxys_url_is_read_without_its_user() {
        for (url, expected) in [
            ("http://proxy.example:3128", Some(("proxy.example", 3128))),
            (
                "http://user:p%40ss@proxy.example:3128/x?y#z",
                Some(("proxy.example", 3128)),
            ),
            (
                "http://user@evil.example@proxy.example:3128",
                Some(("proxy.example", 3128)),
            ),
            ("HTTPS://192.0.2.7", Some(("192.0.2.7", 443))),
            ("http://192.0.2.7/", Some(("192.0.2.7", 80))),
            ("http://[2001:db8::7]:8080", Some(("2001:db8::7", 8080))),
            ("http://[2001:db8::7]", Some(("2001:db8::7", 80))),
            ("http://[nonsense]:8080", None),
            ("http://[2001:db8::7]x:8080", None),
            ("http://proxy.example:0", None),
            ("http://proxy.example:65536", None),
            ("http://proxy.example:80:80", None),
            ("http://proxy example:80", None),
            ("http://:80", None),
            ("http://", None),
            ("socks5://proxy.example:1080", None),
            ("proxy.example:3128", None),
            ("", None),
        ] {
            let expected = expected.map(|(name, port)| (name.to_owned(), port));
            assert_eq!(proxy(url), expected, "{url}");
        }
        let long = format!("http://{}@proxy.example", "x".repeat(MAX_URL));
        assert_eq!(proxy(&long), None);
    }

    #[test]
    fn a_region_is_a_plain_word() {
        assert_eq!(region("eu-central-1"), Some("eu-central-1".into()));
        for odd in [
            "",
            "eu.central",
            "EU-CENTRAL-1",
            "eu-central-1/x",
            &"x".repeat(99),
        ] {
            assert_eq!(region(odd), None, "{odd}");
        }
    }
}
