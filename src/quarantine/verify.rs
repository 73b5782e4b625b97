//! Compares what the kernel lists with what the plan wants.
//!
//! In: [`Expected`] and the JSON of `nft -j list table` (or nothing when the table is missing). Out: every difference.
//! Invariant: nothing may call a plan enforced unless this found no difference.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde_json::Value;

use super::order::Protocol;
use super::ruleset::{Expected, ExpectedChain, TABLE};

/// Differences that are named; more say nothing new.
const MAX_DIFFERENCES: usize = 8;

/// Checks a listing; `None` means the table does not exist.
///
/// # Errors
/// The differences, each a sentence.
pub fn verify(expected: &Expected, listing: Option<&Value>) -> Result<(), Vec<String>> {
    let differences = match (expected.chains.is_empty(), listing) {
        (true, None) => Vec::new(),
        (true, Some(_)) => vec![format!("the table inet {TABLE} is still there")],
        (false, None) => vec![format!("the table inet {TABLE} is missing")],
        (false, Some(listing)) => compare(expected, listing),
    };
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences)
    }
}

fn compare(expected: &Expected, listing: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    let objects = objects(listing);
    for chain in &expected.chains {
        compare_chain(chain, &objects, &mut differences);
    }
    let chains = objects
        .iter()
        .filter(|object| object.get("chain").is_some())
        .count();
    if chains != expected.chains.len() {
        differences.push(format!(
            "the table has {chains} chains, expected {}",
            expected.chains.len()
        ));
    }
    compare_endpoints(expected, &objects, &mut differences);
    compare_blocked(expected, &objects, &mut differences);
    differences.truncate(MAX_DIFFERENCES);
    differences
}

fn objects(listing: &Value) -> Vec<&Value> {
    listing
        .get("nftables")
        .and_then(Value::as_array)
        .map(|list| list.iter().collect())
        .unwrap_or_default()
}

fn compare_chain(chain: &ExpectedChain, objects: &[&Value], differences: &mut Vec<String>) {
    let hook = chain.hook;
    let listed = objects
        .iter()
        .filter_map(|object| object.get("chain"))
        .find(|c| c["name"] == hook);
    let Some(listed) = listed else {
        differences.push(format!("the chain {hook} is missing"));
        return;
    };
    if listed["hook"] != hook || listed["type"] != "filter" || listed["policy"] != chain.policy {
        differences.push(format!(
            "the chain {hook} is not a filter on its hook with policy {}",
            chain.policy
        ));
    }
    let rules: Vec<&Value> = objects
        .iter()
        .filter_map(|object| object.get("rule"))
        .filter(|rule| rule["chain"] == hook)
        .collect();
    if rules.len() != chain.rules.len() {
        differences.push(format!(
            "the chain {hook} has {} rules, expected {}",
            rules.len(),
            chain.rules.len()
        ));
    }
    for (expected, rule) in chain.rules.iter().zip(&rules) {
        let verdict = rule["expr"]
            .as_array()
            .and_then(|list| list.last())
            .and_then(|last| {
                ["accept", "drop"]
                    .into_iter()
                    .find(|verdict| last.get(verdict).is_some())
            });
        if rule["comment"] != expected.comment.as_str() || verdict != expected.verdict {
            differences.push(format!(
                "the chain {hook} has {} where {} is expected",
                rule["comment"].as_str().unwrap_or("a foreign rule"),
                expected.comment
            ));
        }
    }
}

fn elements<'a>(objects: &[&'a Value], name: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter_map(|object| object.get("set"))
        .filter(|set| set["name"] == name)
        .flat_map(|set| set["elem"].as_array().into_iter().flatten())
        .collect()
}

fn compare_endpoints(expected: &Expected, objects: &[&Value], differences: &mut Vec<String>) {
    let mut listed: Vec<(IpAddr, Protocol, u16)> = ["endpoints4", "endpoints6"]
        .iter()
        .flat_map(|name| elements(objects, name))
        .filter_map(read_endpoint)
        .collect();
    listed.sort_unstable();
    if listed != expected.endpoints {
        differences.push(format!(
            "the lifeline sets hold {} addresses that are not the {} expected",
            listed.len(),
            expected.endpoints.len()
        ));
    }
}

fn read_endpoint(element: &Value) -> Option<(IpAddr, Protocol, u16)> {
    // An element with a timeout or a counter is wrapped once more.
    let concat = element
        .get("concat")
        .or_else(|| element["elem"]["val"].get("concat"))?
        .as_array()?;
    let [address, protocol, port] = concat.as_slice() else {
        return None;
    };
    let protocol = match protocol {
        Value::String(name) if name == "tcp" => Protocol::Tcp,
        Value::String(name) if name == "udp" => Protocol::Udp,
        Value::Number(n) if n.as_u64() == Some(6) => Protocol::Tcp,
        Value::Number(n) if n.as_u64() == Some(17) => Protocol::Udp,
        _ => return None,
    };
    Some((
        address.as_str()?.parse().ok()?,
        protocol,
        u16::try_from(port.as_u64()?).ok()?,
    ))
}

fn compare_blocked(expected: &Expected, objects: &[&Value], differences: &mut Vec<String>) {
    let listed: Vec<IpNet> = ["blocked4", "blocked6"]
        .iter()
        .flat_map(|name| elements(objects, name))
        .flat_map(read_block)
        .collect();
    let mut listed = IpNet::aggregate(&listed);
    let mut wanted = IpNet::aggregate(&expected.blocked);
    listed.sort_unstable();
    wanted.sort_unstable();
    if listed != wanted {
        differences.push(format!(
            "the blocked sets cover {} blocks, expected {}",
            listed.len(),
            wanted.len()
        ));
    }
}

fn read_block(element: &Value) -> Vec<IpNet> {
    if let Some(address) = element.as_str() {
        return address.parse::<IpAddr>().map(IpNet::from).into_iter().collect();
    }
    if let Some(prefix) = element.get("prefix") {
        let text = format!(
            "{}/{}",
            prefix["addr"].as_str().unwrap_or_default(),
            prefix["len"]
        );
        return text.parse().into_iter().collect();
    }
    let bounds = element["range"].as_array().map(Vec::as_slice).unwrap_or_default();
    let [Some(first), Some(last)] = [bounds.first(), bounds.get(1)].map(|bound| {
        bound
            .and_then(Value::as_str)
            .and_then(|text| text.parse::<IpAddr>().ok())
    }) else {
        return Vec::new();
    };
    match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Ipv4Subnets::new(a, b, 0).map(IpNet::V4).collect(),
        (IpAddr::V6(a), IpAddr::V6(b)) => Ipv6Subnets::new(a, b, 0).map(IpNet::V6).collect(),
        _ => Vec::new(),
    }
}

/// What identifies the listed table beyond the plan: everything but handles, counter values and the order of set
/// elements. Taken right after loading, it shows an edit that kept our comments. The text itself, not a checksum: one
/// that is easily computed is easily forged.
pub fn fingerprint(listing: Option<&Value>) -> String {
    let mut canonical = listing
        .map(|listing| listing["nftables"].clone())
        .unwrap_or_default();
    strip(&mut canonical);
    canonical.to_string()
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for volatile in ["handle", "packets", "bytes", "metainfo", "expires"] {
                map.remove(volatile);
            }
            if let Some(Value::Array(elements)) = map.get_mut("elem") {
                elements.sort_by_key(Value::to_string);
            }
            map.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Packets and bytes of our named counters, as listed.
pub fn counters(listing: &Value) -> Vec<(String, u64, u64)> {
    objects(listing)
        .iter()
        .filter_map(|object| object.get("counter"))
        .filter_map(|c| {
            Some((
                c["name"].as_str()?.to_owned(),
                c["packets"].as_u64()?,
                c["bytes"].as_u64()?,
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::ruleset::ExpectedRule;
    use serde_json::json;

    fn expected() -> Expected {
        Expected {
            chains: vec![ExpectedChain {
                hook: "output",
                policy: "drop",
                rules: vec![ExpectedRule {
                    comment: "ew:rest:1".into(),
                    verdict: Some("drop"),
                }],
            }],
            endpoints: vec![("192.0.2.1".parse().unwrap(), Protocol::Tcp, 8883)],
            blocked: vec!["203.0.113.0/24".parse().unwrap()],
        }
    }

    fn listing() -> Value {
        json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"set": {"name": "endpoints4", "elem": [{"concat": ["192.0.2.1", "tcp", 8883]}]}},
            {"set": {"name": "blocked4", "elem": [{"prefix": {"addr": "203.0.113.0", "len": 24}}]}},
            {"chain": {"name": "output", "type": "filter", "hook": "output", "policy": "drop", "handle": 1}},
            {"rule": {"chain": "output", "comment": "ew:rest:1", "handle": 7,
                      "expr": [{"counter": {"packets": 3, "bytes": 9}}, {"drop": null}]}}]})
    }

    #[test]
    fn an_honest_listing_passes_and_a_missing_table_does_not() {
        assert_eq!(verify(&expected(), Some(&listing())), Ok(()));
        assert!(verify(&expected(), None).is_err());
        assert_eq!(verify(&Expected::default(), None), Ok(()));
        assert!(verify(&Expected::default(), Some(&listing())).is_err());
    }

    #[test]
    fn every_kind_of_edit_is_noticed() {
        let edits: [(&str, Value); 5] = [
            ("/nftables/3/chain/policy", json!("accept")),
            ("/nftables/4/rule/comment", json!("other")),
            ("/nftables/4/rule/expr/1", json!({"accept": null})),
            ("/nftables/1/set/elem/0/concat/0", json!("192.0.2.99")),
            ("/nftables/2/set/elem/0/prefix/len", json!(25)),
        ];
        for (path, value) in edits {
            let mut edited = listing();
            *edited.pointer_mut(path).unwrap() = value;
            assert!(verify(&expected(), Some(&edited)).is_err(), "{path}");
        }
        let mut more = listing();
        more["nftables"]
            .as_array_mut()
            .unwrap()
            .push(json!({"rule": {"chain": "output", "expr": []}}));
        assert!(verify(&expected(), Some(&more)).is_err(), "a foreign rule");
    }

    #[test]
    fn the_fingerprint_ignores_counters_and_handles_only() {
        let mut counted = listing();
        *counted
            .pointer_mut("/nftables/4/rule/expr/0/counter/packets")
            .unwrap() = json!(99);
        *counted.pointer_mut("/nftables/4/rule/handle").unwrap() = json!(99);
        assert_eq!(fingerprint(Some(&counted)), fingerprint(Some(&listing())));
        *counted.pointer_mut("/nftables/4/rule/expr/1").unwrap() = json!({"accept": null});
        assert_ne!(fingerprint(Some(&counted)), fingerprint(Some(&listing())));
    }

    #[test]
    fn ranges_of_a_listing_are_blocks() {
        let blocks = read_block(&json!({"range": ["192.0.2.0", "192.0.2.255"]}));
        assert_eq!(blocks, ["192.0.2.0/24".parse::<IpNet>().unwrap()]);
    }
}
