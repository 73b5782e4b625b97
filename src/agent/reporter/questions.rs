//! Answers the command line's questions about reports.
//!
//! In: [`PendingQuestion`]s through the [`ReportDesk`]. Out: the answer that was asked for, or a sentence why not. Only
//! [`PendingQuestion::Send`] changes anything.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::compose::{DroppedMetrics, Material};
use super::{Reporter, Work};
use crate::agent::observer::intervals::NotEarly;
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
pub(crate) type Answering<T> = oneshot::Sender<Result<T, String>>;

/// A question and where its answer goes.
#[derive(Debug)]
pub(crate) enum PendingQuestion {
    /// What would be sent at this moment.
    Show(Answering<ReportPreview>),
    /// What became of the newest report.
    Last(Answering<Option<LastReport>>),
    /// Send one at once, if the service would take it.
    Send(Answering<Option<LastReport>>),
    /// Names and types of custom metrics.
    Metrics(Answering<CustomMetricNames>),
}

/// Questions as the reporter gets them; they wait while its task is started again.
pub(crate) type ReportCalls = Arc<Mutex<mpsc::Receiver<PendingQuestion>>>;

/// Where questions are asked.
#[derive(Debug, Clone)]
pub(crate) struct ReportDesk(mpsc::Sender<PendingQuestion>);

/// A desk and what arrives there.
pub(crate) fn open() -> (ReportDesk, ReportCalls) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (ReportDesk(sender), Arc::new(Mutex::new(receiver)))
}

impl ReportDesk {
    /// Asks the reporter.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) async fn ask<T>(
        &self,
        question: impl FnOnce(Answering<T>) -> PendingQuestion,
    ) -> Result<T, String> {
        let (answer, answered) = oneshot::channel();
        let not_begun = || "reports have not begun: the nucleus or the thing's name is missing".to_owned();
        let asked = async {
            self.0.send(question(answer)).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(not_begun()),
            Err(_) => Err(format!("{}, or the reporter is busy", not_begun())),
        }
    }
}

impl Reporter {
    pub(super) async fn reply(&self, asked: PendingQuestion, work: &mut Work) {
        // Whoever asked has been told that it takes too long; what nobody waits for is not done. A command line that goes
        // meanwhile misses its answer.
        match asked {
            PendingQuestion::Show(to) if !to.is_closed() => drop(to.send(self.show(work).await)),
            PendingQuestion::Last(to) => drop(to.send(Ok(work.memory.last.clone()))),
            PendingQuestion::Send(to) if !to.is_closed() => drop(to.send(self.send_now(work).await)),
            PendingQuestion::Metrics(to) if !to.is_closed() => drop(to.send(self.names(&work.config).await)),
            PendingQuestion::Show(_) | PendingQuestion::Send(_) | PendingQuestion::Metrics(_) => {}
        }
    }

    /// What there would be to report at this moment.
    async fn material(&self, config: &Config) -> Result<Material, String> {
        let observation = self.intervals.peek().await;
        let observation = observation.map_err(|error| crate::error_text(&error))?;
        Ok(Material {
            observation: Arc::new(observation),
            dropped: self.dropped(config).await,
        })
    }

    async fn show(&self, work: &Work) -> Result<ReportPreview, String> {
        let Work {
            thing,
            config,
            memory,
            ..
        } = work;
        let material = self.material(config).await?;
        let last_id = memory.last.as_ref().map(|last| last.report_id);
        let report_id = report_id::next(last_id, clock::now().wall);
        let occasion = memory.occasion(thing, config, report_id);
        // Copies: nothing that is shown has been told.
        let mut ledgers = memory.ledgers.clone();
        let composed = self.compose(&material, occasion, &mut ledgers).await?;
        let readable = Encoding {
            names: config.reporting.encoding.names,
            ..Encoding::PLAIN
        };
        let report = composed.report;
        let document = self.written(move || report.encode(readable)).await?;
        let wait = self.intervals.next().saturating_duration_since(clock::instant());
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

    async fn send_now(&self, work: &mut Work) -> Result<Option<LastReport>, String> {
        if !work.config.reporting.enabled {
            return Err("reports are switched off (reporting.enabled)".to_owned());
        }
        match self.intervals.close_early().await {
            Ok(()) => {}
            Err(NotEarly::TooSoon(wait)) => {
                let at = clock::now().wall.saturating_add(wait).unwrap_or(Timestamp::MAX);
                return Err(format!(
                    "the service would throttle a report now; one can be sent in {} s, at {at:.0}",
                    wait.as_secs() + 1
                ));
            }
            Err(NotEarly::Failed(error)) => return Err(crate::error_text(&error)),
        }
        if let Some(observation) = work.next_waiting() {
            self.interval_closed(observation, work).await;
        }
        Ok(work.memory.last.clone())
    }

    async fn names(&self, config: &Config) -> Result<CustomMetricNames, String> {
        let material = self.material(config).await?;
        let interfaces = material.observation.interval.interfaces.iter();
        let interfaces: Vec<String> = interfaces.map(|it| it.name.clone()).collect();
        let mut metrics = CustomMetricNames::default();
        let own = config.reporting.custom.iter();
        for (name, kind) in own.flat_map(|setting| settings::metrics(setting, &interfaces)) {
            metrics.metrics.push((name, kind.metric_type().to_owned()));
        }
        let DroppedMetrics {
            metrics: files,
            faults,
        } = material.dropped;
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
        Ok(metrics)
    }
}
