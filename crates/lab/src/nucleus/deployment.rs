//! What a deployment does to a component that does not restart: asks, changes its configuration, tells.
//!
//! In: what is reset and merged, one deployment at a time; answers of components. Out: pre-update events until nobody defers,
//! a request to validate the new configuration, the change itself step by step, post-update events, `configuration` lines. Who has
//! not subscribed is not asked, so on lite, which has neither subscription, nothing waits. One answer counts for the
//! component, however many of its streams were asked. Deliberately absent: versions, artifacts, rollback.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::events::emit;
use super::merging::{ConfigurationUpdate, steps};
use super::state::Nucleus;
use super::subscriptions::Interest;

/// Deployments that wait for the one under way; more are refused, as no test needs them.
pub(super) const QUEUED_DEPLOYMENTS: usize = 16;
/// Longest deferral honoured at a time. The real nucleus has none but the end of the deployment.
const MAX_DEFERRAL: Duration = Duration::from_secs(3600);

/// What a component says of a new configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Rejected { message: String },
}

/// A question somebody may answer, by the deployment's id.
type Question<T> = Option<(String, oneshot::Sender<T>)>;

#[derive(Debug, Default)]
struct Open {
    deferral: Question<Duration>,
    verdict: Question<Verdict>,
}

/// How a deployment goes, as the command line says it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Bounds every wait for an answer.
    pub(super) answer_limit: Duration,
    /// Between two steps of a change, in which readers see half of it.
    pub(super) step: Duration,
}

/// The questions under way.
#[derive(Debug, Default)]
pub(super) struct Deployments {
    open: Mutex<Open>,
}

impl Deployments {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A component defers, or with zero agrees; false when nobody asked.
    pub(super) fn defer(&self, deployment: &str, recheck_after: Duration) -> bool {
        answer(&mut self.open().deferral, deployment, recheck_after)
    }

    /// A component judges; false when nobody asked.
    pub(super) fn judge(&self, deployment: &str, verdict: Verdict) -> bool {
        answer(&mut self.open().verdict, deployment, verdict)
    }
}

fn ask<T>(question: &mut Question<T>, deployment: &str) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    *question = Some((deployment.to_owned(), sender));
    receiver
}

fn answer<T>(question: &mut Question<T>, deployment: &str, answer: T) -> bool {
    question
        .take_if(|(asked, _)| asked == deployment)
        .is_some_and(|(_, sender)| sender.send(answer).is_ok())
}

/// Carries out deployments in the order of their documents.
pub(super) async fn run(nucleus: Arc<Nucleus>, mut documents: mpsc::Receiver<Value>, pace: Pace) {
    let mut number = 0_u64;
    while let Some(document) = documents.recv().await {
        number += 1;
        let id = format!("deployment-{number}");
        wait_for_consent(&nucleus, &id, pace.answer_limit).await;
        let outcome = deploy(&nucleus, &id, document, pace).await;
        let told = json!({ "postUpdateEvent": { "deploymentId": id } });
        nucleus.subscriptions.tell(&Interest::ComponentUpdates, &told);
        emit(&match outcome {
            Ok(()) => json!({ "event": "configuration", "state": "deployed", "deployment": id }),
            Err(reason) => {
                json!({ "event": "configuration", "state": "rejected", "deployment": id, "reason": reason })
            }
        });
    }
}

/// Asks before the update, again after every deferral. Silence is consent.
async fn wait_for_consent(nucleus: &Nucleus, id: &str, limit: Duration) {
    loop {
        let deferral = ask(&mut nucleus.deployments.open().deferral, id);
        let event = json!({ "preUpdateEvent": { "deploymentId": id, "isGgcRestarting": false } });
        if nucleus.subscriptions.tell(&Interest::ComponentUpdates, &event) == 0 {
            nucleus.deployments.open().deferral = None;
            return;
        }
        let recheck_after = tokio::time::timeout(limit, deferral).await;
        nucleus.deployments.open().deferral = None;
        match recheck_after {
            Ok(Ok(recheck_after)) if !recheck_after.is_zero() => {
                emit(&json!({
                    "event": "configuration", "state": "deferred", "deployment": id,
                    "milliseconds": u64::try_from(recheck_after.as_millis()).unwrap_or(u64::MAX),
                }));
                tokio::time::sleep(recheck_after.min(MAX_DEFERRAL)).await;
            }
            _ => return,
        }
    }
}

/// Changes what runs as `document` says, if the component accepts it. What the nucleus refuses in the middle has changed
/// what came before it.
async fn deploy(nucleus: &Nucleus, id: &str, document: Value, pace: Pace) -> Result<(), String> {
    let update = ConfigurationUpdate::read(document);
    let (trees, refused) = {
        let configurations = nucleus.configurations();
        let (own, default) = (&configurations.own, &configurations.default);
        let steps = steps(own, default, &update, nucleus.personality);
        (steps.trees, steps.refused)
    };
    if let Some(proposed) = trees.last()
        && *proposed != nucleus.configurations().own
    {
        validate(nucleus, id, &proposed.clone(), pace.answer_limit).await?;
    }
    for (index, tree) in trees.into_iter().enumerate() {
        if index > 0 {
            tokio::time::sleep(pace.step).await;
        }
        nucleus.change_configuration(|configurations| configurations.own = tree);
    }
    if nucleus.personality.revives_at_deployments() {
        nucleus.component_process.revive();
    }
    refused.map_or(Ok(()), Err)
}

/// Silence is no consent here.
async fn validate(nucleus: &Nucleus, id: &str, proposed: &Value, limit: Duration) -> Result<(), String> {
    let verdict = ask(&mut nucleus.deployments.open().verdict, id);
    let event =
        json!({ "validateConfigurationUpdateEvent": { "configuration": proposed, "deploymentId": id } });
    let asked = nucleus.subscriptions.tell(&Interest::Validation, &event) > 0;
    let verdict = if asked {
        tokio::time::timeout(limit, verdict).await
    } else {
        Ok(Ok(Verdict::Accepted))
    };
    nucleus.deployments.open().verdict = None;
    match verdict {
        Ok(Ok(Verdict::Accepted)) => Ok(()),
        Ok(Ok(Verdict::Rejected { message })) => Err(message),
        Ok(Err(_)) | Err(_) => Err(format!("no validity report within {} s", limit.as_secs())),
    }
}
