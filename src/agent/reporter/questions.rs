//! Answers the command line's questions about reports.
//!
//! In: [`ReportQuestion`]s through the [`Desk`]. Out: JSON, or a sentence why not. Only `send` changes anything.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::compose::Material;
use super::{Reporter, Work};
use crate::agent::observer::intervals::NotEarly;
use crate::config::Config;
use crate::control::report::{CustomMetricNames, ReportPreview, ReportQuestion};
use crate::host::clock;
use crate::report::custom::{dropped, settings};
use crate::report::{Encoding, report_id};

/// Questions that may wait; the control socket serves no more at once.
const QUEUE: usize = 8;
/// How long a question waits for the reporter, which may not have begun yet.
const PATIENCE: Duration = Duration::from_secs(15);

/// A question and where its answer goes.
#[derive(Debug)]
pub(crate) struct PendingQuestion {
    question: ReportQuestion,
    answer: oneshot::Sender<Result<Value, String>>,
}

/// Questions as the reporter gets them; they wait while its task is started again.
pub(crate) type Questions = Arc<Mutex<mpsc::Receiver<PendingQuestion>>>;

/// Where questions are asked.
#[derive(Debug, Clone)]
pub(crate) struct Desk(mpsc::Sender<PendingQuestion>);

/// A desk and what arrives there.
pub(crate) fn open() -> (Desk, Questions) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Desk(sender), Arc::new(Mutex::new(receiver)))
}

impl Desk {
    /// Asks the reporter.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) async fn ask(&self, question: ReportQuestion) -> Result<Value, String> {
        let (answer, answered) = oneshot::channel();
        let not_begun = || "reports have not begun: the nucleus or the thing's name is missing".to_owned();
        let asked = async {
            self.0.send(PendingQuestion { question, answer }).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Err(not_begun()),
        }
    }
}

impl Reporter {
    pub(super) async fn reply(&self, asked: PendingQuestion, work: &mut Work) {
        // Whoever asked has been told that it takes too long; what nobody waits for is not done.
        if asked.answer.is_closed() {
            return;
        }
        let answer = match asked.question {
            ReportQuestion::Show => self.show(work).await,
            ReportQuestion::Last => Ok(json!(work.memory.last)),
            ReportQuestion::Send => self.send_now(work).await,
            ReportQuestion::Metrics => self.names(&work.config).await,
        };
        // The command line may have gone.
        let _ = asked.answer.send(answer);
    }

    /// What there would be to report at this moment.
    async fn material(&self, config: &Config) -> Result<Material, String> {
        let observation = self.intervals.peek().await;
        let observation = observation.map_err(|error| crate::error_text(&error))?;
        Ok(Material {
            observation: Arc::new(observation),
            found: self.found(config).await,
        })
    }

    async fn show(&self, work: &Work) -> Result<Value, String> {
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
        let composed = self.compose(&material, occasion, &mut ledgers)?;
        let readable = Encoding {
            names: config.reporting.encoding.names,
            ..Encoding::PLAIN
        };
        let document = composed.report.encode(readable);
        let document = document.map_err(|error| crate::error_text(&error))?;
        let wait = self.intervals.next().saturating_duration_since(clock::instant());
        let shown = ReportPreview {
            topic: composed.topic,
            format: config.reporting.encoding.format.name().to_owned(),
            bytes: composed.payload.len(),
            limit: composed.limit,
            next: clock::now().wall.saturating_add(wait).unwrap_or(Timestamp::MAX),
            enabled: config.reporting.enabled,
            left_out: composed.left_out,
            document: serde_json::from_slice(&document).map_err(|error| error.to_string())?,
        };
        Ok(json!(shown))
    }

    async fn send_now(&self, work: &mut Work) -> Result<Value, String> {
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
        Ok(json!(work.memory.last))
    }

    async fn names(&self, config: &Config) -> Result<Value, String> {
        let material = self.material(config).await?;
        let interfaces = material.observation.interval.interfaces.iter();
        let interfaces: Vec<String> = interfaces.map(|it| it.name.clone()).collect();
        let mut metrics = CustomMetricNames::default();
        let own = config.reporting.custom.iter();
        for (name, kind) in own.flat_map(|setting| settings::metrics(setting, &interfaces)) {
            metrics.metrics.push((name, kind.metric_type().to_owned()));
        }
        let (files, faults) = material.dropped(config);
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
        Ok(json!(metrics))
    }
}
