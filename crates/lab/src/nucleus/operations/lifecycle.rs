//! Lifecycle of the component: its own state, and what others may ask of it.
//!
//! The only component here is the one of the recipe; every other name is unknown.

use serde_json::{Value, json};

use super::{BAD_PARAMETERS, authorize, text};
use crate::nucleus::events::emit;
use crate::nucleus::policy::Service;
use crate::nucleus::refusal::Refusal;
use crate::nucleus::state::Nucleus;

pub(super) fn update_state(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    let state = text(request, "state")?;
    if !matches!(state, "RUNNING" | "ERRORED") {
        return Err(Refusal::arguments(BAD_PARAMETERS));
    }
    emit(&json!({ "event": "state", "component": nucleus.component, "state": state }));
    Ok(())
}

pub(super) fn restart(nucleus: &Nucleus, request: &Value) -> Result<Value, Refusal> {
    check_target(nucleus, request, Service::Cli, "RestartComponent")?;
    nucleus.component_process.restart();
    tell(nucleus, "restarting");
    Ok(json!({ "restartStatus": "SUCCEEDED" }))
}

pub(super) fn stop(nucleus: &Nucleus, request: &Value) -> Result<Value, Refusal> {
    check_target(nucleus, request, Service::Cli, "StopComponent")?;
    nucleus.component_process.stop();
    tell(nucleus, "stopping");
    Ok(json!({ "stopStatus": "SUCCEEDED" }))
}

pub(super) fn pause(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    check_target(nucleus, request, Service::Lifecycle, "PauseComponent")?;
    if !nucleus.component_process.pause() {
        let text = format!("Component {} is not running", nucleus.component);
        return Err(Refusal::arguments(text));
    }
    tell(nucleus, "paused");
    Ok(())
}

pub(super) fn resume(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    check_target(nucleus, request, Service::Lifecycle, "ResumeComponent")?;
    if !nucleus.component_process.resume() {
        let text = format!("Component {} is not paused", nucleus.component);
        return Err(Refusal::arguments(text));
    }
    tell(nucleus, "resumed");
    Ok(())
}

/// Authorization comes first: who may not ask does not learn what there is.
fn check_target(
    nucleus: &Nucleus,
    request: &Value,
    service: Service,
    operation: &str,
) -> Result<(), Refusal> {
    let name = text(request, "componentName")?;
    authorize(nucleus, service, operation, name)?;
    if name == nucleus.component {
        return Ok(());
    }
    Err(if nucleus.personality.is_lite() {
        Refusal::not_found("Component not found.")
    } else {
        Refusal::not_found(format!("Component with name {name} not found in Greengrass"))
    })
}

fn tell(nucleus: &Nucleus, state: &str) {
    emit(&json!({ "event": "component", "component": nucleus.component, "state": state }));
}
