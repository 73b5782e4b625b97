//! Answers to what a deployment asks: deferral of an update, verdict on a new configuration. Neither needs a policy.

use std::time::Duration;

use serde_json::Value;

use super::{BAD_PARAMETERS, text};
use crate::nucleus::deployment::Verdict;
use crate::nucleus::refusal::Refusal;
use crate::nucleus::state::Nucleus;
use crate::nucleus::subscriptions::Interest;

pub(super) fn defer(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    let deployment = text(request, "deploymentId")?;
    let milliseconds = match request.get("recheckAfterMs") {
        None | Some(Value::Null) => 0,
        Some(number) => number
            .as_u64()
            .ok_or_else(|| Refusal::arguments(BAD_PARAMETERS))?,
    };
    if !nucleus.subscriptions.has(&Interest::ComponentUpdates) {
        return Err(Refusal::arguments(
            "Component is not subscribed to component update events",
        ));
    }
    if nucleus
        .deployments
        .defer(deployment, Duration::from_millis(milliseconds))
    {
        return Ok(());
    }
    Err(Refusal::service(
        "Time limit to respond to PreComponentUpdateEvent exceeded",
    ))
}

pub(super) fn report(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    let report = request
        .get("configurationValidityReport")
        .ok_or_else(|| Refusal::arguments(BAD_PARAMETERS))?;
    let deployment = text(report, "deploymentId")?;
    let verdict = match text(report, "status")? {
        "ACCEPTED" => Verdict::Accepted,
        "REJECTED" => Verdict::Rejected {
            message: text(report, "message").unwrap_or_default().to_owned(),
        },
        _ => return Err(Refusal::arguments(BAD_PARAMETERS)),
    };
    if nucleus.deployments.judge(deployment, verdict) {
        return Ok(());
    }
    Err(Refusal::arguments(
        "Validation request either timed out or was never made",
    ))
}
