//! The local detector: an alarm of its own, and what follows from it.
//!
//! In: closed intervals, the configuration. Out: alarms on the board, wishes for the enforcer. Which values are normal is
//! `detect`'s. It needs neither a nucleus nor a thing nor reports: a device that lost its cloud still watches itself.

use tokio::sync::broadcast::error::RecvError;

use super::context::Context;
use super::enforcer::EnforcerCommand;
use super::observer::intervals::{Closed, Observation};
use crate::config::Config;
use crate::detect::{Alarm, AlarmKind, Detector, MetricValues};
use crate::host::clock;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Order};

/// Detects for ever; ends with the agent.
pub(super) async fn run(context: Context, mut closed: Closed) {
    let mut configs = context.config.clone();
    let mut config = configs.borrow_and_update().clone();
    let mut detector = Detector::new(config.detect.behaviors.clone());
    let mut is_configured = context.is_configured();
    loop {
        tokio::select! {
            observation = closed.recv() => match observation {
                Ok(observation) => {
                    let wish = judge(&context, &config, &observation, &mut detector);
                    // Without any configuration nobody has switched anything off.
                    if let Some(wish) = wish.filter(|wish| is_configured || *wish != Wish::Release) {
                        send(&context, wish).await;
                    }
                }
                Err(RecvError::Lagged(missed)) => tracing::warn!("the detector missed {missed} intervals"),
                Err(RecvError::Closed) => return,
            },
            changed = configs.changed() => {
                if changed.is_err() {
                    return;
                }
                is_configured = true;
                let before = config.detect.behaviors;
                config = configs.borrow_and_update().clone();
                if before != config.detect.behaviors {
                    detector = Detector::new(config.detect.behaviors.clone());
                }
            }
        }
    }
}

/// Evaluates one interval; gives what the detector wants, if that may be news.
fn judge(
    context: &Context,
    config: &Config,
    observation: &Observation,
    detector: &mut Detector,
) -> Option<Wish> {
    let values = MetricValues::of(&observation.interval, observation.sockets.as_ref().ok());
    let alarms = detector.evaluate(&values, observation.interval.ended);
    for alarm in &alarms {
        tracing::warn!(behavior = %alarm.behavior, value = alarm.value, kind = ?alarm.kind, "local detector");
    }
    let names: Vec<String> = detector.in_alarm().map(str::to_owned).collect();
    context.board.update(|status| status.detector.alarms = names);
    let began = alarms.iter().find(|alarm| alarm.kind == AlarmKind::InAlarm);
    // An alarm that clears does not release: an isolated device is quiet, which proves nothing. Switching the key off
    // ends it, and so does the operator's override.
    match began {
        Some(alarm) if config.detect.quarantine => Some(Wish::Order(Box::new(order(alarm)))),
        _ if config.detect.quarantine => None,
        _ => Some(Wish::Release),
    }
}

async fn send(context: &Context, wish: Wish) {
    let command = EnforcerCommand::Wish {
        authority: Authority::Detector,
        wish: Ok(wish),
    };
    context.enforcer.send(command).await;
}

fn order(alarm: &Alarm) -> Order {
    let reason = format!("{}: {:?} was {}", alarm.behavior, alarm.metric, alarm.value);
    Order::isolate(Authority::Detector, "detector", Some(reason), clock::now().wall)
}
