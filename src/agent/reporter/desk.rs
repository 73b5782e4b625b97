//! Answers the command line's questions about reports.
//!
//! In: [`Asked`] through the [`Desk`]. Out: the answer that was asked for, or a sentence why not. Only [`Asked::Send`]
//! changes anything.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::Reporter;
use super::memory::Memory;
use crate::agent::observer::Observer;
use crate::config::Config;
use crate::control::report::{CustomMetricNames, ReportPreview};
use crate::host::clock;
use crate::report::custom::{dropped, settings};
use crate::report::last::LastReport;
use crate::report::{Encoding, report_id};

/// Questions that may wait; the control socket serves no more at once.
const QUEUE: usize = 8;
/// How long a question waits for the reporter, which may not have begun yet.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where the answer goes: what was asked for, or a sentence.
pub type Answering<T> = oneshot::Sender<Result<T, String>>;

/// A question and where its answer goes.
#[derive(Debug)]
pub enum Asked {
    /// What would be sent at this moment.
    Show(Answering<ReportPreview>),
    /// What became of the newest report.
    Last(Answering<Option<LastReport>>),
    /// Send one at once, if the service would take it.
    Send(Answering<Option<LastReport>>),
    /// Names and types of custom metrics.
    Metrics(Answering<CustomMetricNames>),
}

/// Questions as the reporter gets them.
pub type Questions = mpsc::Receiver<Asked>;

/// Where questions are asked.
#[derive(Debug, Clone)]
pub struct Desk(mpsc::Sender<Asked>);

/// A desk and what arrives there.
#[must_use]
pub fn open() -> (Desk, Questions) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Desk(sender), receiver)
}

impl Desk {
    /// Asks the reporter; `question` is one of [`Asked`].
    ///
    /// # Errors
    /// A sentence.
    pub async fn ask<T>(&self, question: impl FnOnce(Answering<T>) -> Asked) -> Result<T, String> {
        let (answer, answered) = oneshot::channel();
        let not_begun = || "reports have not begun: the nucleus or the thing's name is missing".to_owned();
        let asked = async {
            self.0.send(question(answer)).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err(not_begun()),
        }
    }
}

impl Reporter {
    pub(super) async fn reply(&self, asked: Asked, config: &Config, memory: &mut Memory) {
        // Whoever asked has been told that it takes too long; what nobody waits for is not done. A command line that goes
        // meanwhile misses its answer.
        match asked {
            Asked::Show(to) if !to.is_closed() => drop(to.send(self.show(config, memory))),
            Asked::Last(to) => drop(to.send(Ok(memory.last.clone()))),
            Asked::Send(to) if !to.is_closed() => drop(to.send(self.send_now(config, memory).await)),
            Asked::Metrics(to) if !to.is_closed() => drop(to.send(Ok(self.metrics(config)))),
            Asked::Show(_) | Asked::Send(_) | Asked::Metrics(_) => {}
        }
    }

    fn show(&self, config: &Config, memory: &Memory) -> Result<ReportPreview, String> {
        let observed = self.look(config, Observer::peek);
        let last_id = memory.last.as_ref().map(|last| last.report_id);
        let report_id = report_id::next(last_id, clock::now().wall);
        let custom = memory.caution.allows();
        // Copies: nothing that is shown has been told.
        let mut ledgers = memory.ledgers.clone();
        let composed = self.compose(config, &observed, &mut ledgers, report_id, custom)?;
        let readable = Encoding {
            names: config.reporting.encoding.names,
            ..Encoding::PLAIN
        };
        let document = composed.report.encode(readable);
        let document = document.map_err(|error| crate::error_text(&error))?;
        let wait = memory.schedule.next().saturating_duration_since(clock::instant());
        Ok(ReportPreview {
            topic: composed.topic,
            format: config.reporting.encoding.format.name().to_owned(),
            bytes: composed.payload.len(),
            limit: composed.limit,
            next: clock::now().wall.saturating_add(wait).unwrap_or(Timestamp::MAX),
            enabled: config.reporting.enabled,
            left_out: composed.left_out,
            document: serde_json::from_slice(&document).map_err(|error| error.to_string())?,
        })
    }

    async fn send_now(&self, config: &Config, memory: &mut Memory) -> Result<Option<LastReport>, String> {
        if !config.reporting.enabled {
            return Err("reports are switched off (reporting.enabled)".to_owned());
        }
        let now = clock::instant();
        let wait = memory
            .schedule
            .earliest()
            .map(|earliest| earliest.saturating_duration_since(now))
            .filter(|wait| !wait.is_zero());
        if let Some(wait) = wait {
            let at = clock::now().wall.saturating_add(wait).unwrap_or(Timestamp::MAX);
            return Err(format!(
                "the service would throttle a report now; one can be sent in {} s, at {at:.0}",
                wait.as_secs() + 1
            ));
        }
        self.close_interval(config, memory).await;
        Ok(memory.last.clone())
    }

    fn metrics(&self, config: &Config) -> CustomMetricNames {
        let observed = self.look(config, Observer::peek);
        let interfaces = observed.interval.interfaces.iter();
        let interfaces: Vec<String> = interfaces.map(|it| it.name.clone()).collect();
        let mut metrics = CustomMetricNames::default();
        let own = config.reporting.custom.iter();
        for (name, kind) in own.flat_map(|setting| settings::metrics(setting, &interfaces)) {
            metrics.metrics.push((name, kind.metric_type().to_owned()));
        }
        let (files, faults) = observed.found(config);
        for metric in files {
            let name = metric.name;
            if metrics.metrics.iter().any(|(known, _)| *known == name) {
                metrics.faults.push(format!(
                    "{}: another metric has this name",
                    dropped::printable(&name)
                ));
            } else {
                metrics.metrics.push((name, metric.kind.metric_type().to_owned()));
            }
        }
        metrics.faults.extend(faults);
        metrics
    }
}
