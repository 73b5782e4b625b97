//! Component configuration: reading it, changing it, and whose changes a subscription is about.
//!
//! As the nuclei give it: classic finds keys in any case and gives numbers as doubles; the data endpoint is told late.

use std::time::Instant;

use serde_json::{Value, json};

use super::BAD_PARAMETERS;
use crate::nucleus::refusal::Refusal;
use crate::nucleus::settings::{Nulls, at, at_any_case, merge, nest, numbers_as_doubles};
use crate::nucleus::state::Nucleus;
use crate::nucleus::subscriptions::Interest;
use crate::nucleus::uplink;

/// `keyPath` and `componentName`, which may be absent but not null.
fn target(nucleus: &Nucleus, request: &Value) -> Result<(String, Vec<String>), Refusal> {
    let bad = || {
        let refusal = if nucleus.personality.is_lite() {
            Refusal::service
        } else {
            Refusal::arguments
        };
        refusal(BAD_PARAMETERS)
    };
    let path = match request.get("keyPath") {
        None => Vec::new(),
        Some(Value::Array(keys)) => keys
            .iter()
            .map(|key| key.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(bad)?,
        // Only lite is known to refuse an explicit null.
        Some(Value::Null) if !nucleus.personality.is_lite() => Vec::new(),
        Some(_) => return Err(bad()),
    };
    let component = match request.get("componentName") {
        None => nucleus.component.clone(),
        Some(Value::String(name)) => name.clone(),
        Some(Value::Null) if !nucleus.personality.is_lite() => nucleus.component.clone(),
        Some(_) => return Err(bad()),
    };
    Ok((component, path))
}

pub(super) fn get(nucleus: &Nucleus, request: &Value) -> Result<Value, Refusal> {
    let (component, path) = target(nucleus, request)?;
    let configurations = nucleus.configurations();
    let told;
    let tree = if component == nucleus.component {
        if configurations.own.is_null() {
            return Err(Refusal::no_key());
        }
        &configurations.own
    } else if component == nucleus.personality.nucleus_component() {
        told = of_nucleus(nucleus, &configurations.nucleus);
        &told
    } else {
        return Err(Refusal::no_key());
    };
    let lite = nucleus.personality.is_lite();
    let found = if lite {
        at(tree, &path)
    } else {
        at_any_case(tree, &path)
    };
    let value = found.cloned().ok_or_else(Refusal::no_key)?;
    let value = if lite { value } else { numbers_as_doubles(value) };
    let value = match path.last() {
        Some(leaf) if !value.is_object() => json!({ leaf: value }),
        _ => value,
    };
    Ok(json!({ "componentName": component, "value": value }))
}

/// The nucleus' own configuration, as far as it is told.
fn of_nucleus(nucleus: &Nucleus, tree: &Value) -> Value {
    let asked = nucleus.endpoint_asked.get_or_init(Instant::now);
    let mut tree = tree.clone();
    if asked.elapsed() < nucleus.endpoint_late
        && let Some(map) = tree.as_object_mut()
    {
        map.remove("iotDataEndpoint");
    }
    if let Some(url) = nucleus.proxy_file.as_deref().and_then(uplink::url) {
        let proxy = json!({ "networkProxy": { "proxy": { "url": url } } });
        merge(&mut tree, proxy, Nulls::Keep);
    }
    tree
}

pub(super) fn update(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    let (_, path) = target(nucleus, request)?;
    let bad = || Refusal::arguments(BAD_PARAMETERS);
    let value = request.get("valueToMerge").ok_or_else(bad)?;
    let timestamp = request
        .get("timestamp")
        .and_then(Value::as_number)
        .ok_or_else(bad)?;
    // Lite refuses an integer literal.
    if nucleus.personality.is_lite() && !timestamp.is_f64() {
        return Err(bad());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates; any time beyond i64 milliseconds is the newest"
    )]
    let millis = (timestamp.as_f64().ok_or_else(bad)? * 1000.0) as i64;
    let top = path.first().map(String::as_str);
    if top == Some("accessControl") || (top.is_none() && value.get("accessControl").is_some()) {
        return Err(Refusal::arguments(
            "Config update is not allowed for following field [accessControl]",
        ));
    }
    if millis < nucleus.configurations().updated_millis {
        // Lite says yes and does nothing.
        return if nucleus.personality.is_lite() {
            Ok(())
        } else {
            Err(Refusal::stale_update())
        };
    }
    let document = nest(&path, value.clone());
    nucleus.change_configuration(|configurations| {
        configurations.updated_millis = millis;
        merge(&mut configurations.own, document, Nulls::Keep);
    });
    Ok(())
}

pub(super) fn interest(nucleus: &Nucleus, request: &Value) -> Result<Interest, Refusal> {
    let (component, path) = target(nucleus, request)?;
    Ok(Interest::Configuration { component, path })
}
