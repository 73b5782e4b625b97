//! Makes a report of everything that could be collected.
//!
//! In: a closed interval, metrics of other programs, the ledgers, the configuration. Out: [`ReportDraft`], with a sentence
//! for everything left out. It only writes into the ledgers it is given, so that a copy shows what would be sent.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Reporter;
use super::memory::{Ledgers, ReporterMemory};
use crate::agent::observer::intervals::Observation;
use crate::cloud::topics;
use crate::config::Config;
use crate::host::clock;
use crate::host::files::drop_directory;
use crate::report::custom::collect::{MetricInputs, collect};
use crate::report::custom::traffic::TrafficTotals;
use crate::report::custom::{CustomMetric, MAX_METRICS, dropped};
use crate::report::document::{BuildError, Report, ReportInput, build};

/// A dropped file counts for this many intervals: one may be late.
const FRESH_INTERVALS: u32 = 2;
/// Reasons shown at once.
const MAX_REASONS: usize = 16;

/// What there is to report.
pub(super) struct Material {
    pub(super) observation: Arc<Observation>,
    pub(super) dropped: DroppedMetrics,
}

/// Metrics of other programs, and why others are none.
#[derive(Default)]
pub(super) struct DroppedMetrics {
    pub(super) metrics: Vec<CustomMetric>,
    pub(super) faults: Vec<String>,
}

/// For whom a report is made, and with what it may be filled.
pub(super) struct Occasion<'a> {
    pub(super) thing: &'a str,
    pub(super) config: &'a Config,
    pub(super) report_id: u64,
    /// Whether the service takes custom metrics.
    pub(super) custom: bool,
    /// Traffic of earlier intervals that is told with this one.
    pub(super) untold: Option<TrafficTotals>,
}

/// A report that can be sent.
pub(super) struct ReportDraft {
    pub(super) report: Report,
    pub(super) payload: Vec<u8>,
    pub(super) topic: String,
    pub(super) limit: usize,
    /// Why something is missing, one sentence each.
    pub(super) left_out: Vec<String>,
}

impl Material {
    /// Traffic that was not told before.
    fn traffic(&self, untold: Option<TrafficTotals>) -> TrafficTotals {
        let newest = TrafficTotals::from(&self.observation.interval);
        match untold {
            None => newest,
            Some(mut sum) => {
                sum.add(&newest);
                sum
            }
        }
    }
}

impl DroppedMetrics {
    /// Reads and parses them: some megabytes of whatever others wrote.
    fn read(directory: &Path, fresh: Duration) -> Self {
        let found = drop_directory::read(directory, clock::now().wall);
        let (mut metrics, mut faults) = (Vec::new(), found.faults);
        for file in &found.files {
            match dropped::read(file, fresh) {
                Ok(metric) => metrics.extend(metric),
                Err(why) => faults.push(why),
            }
        }
        Self { metrics, faults }
    }
}

impl ReporterMemory {
    /// What stands before the next report of `config` for `thing`.
    pub(super) fn occasion<'a>(&self, thing: &'a str, config: &'a Config, report_id: u64) -> Occasion<'a> {
        Occasion {
            thing,
            config,
            report_id,
            custom: self.caution.allows(),
            untold: self.untold.clone(),
        }
    }
}

impl Reporter {
    /// Reads what other programs want reported. A directory that does not answer is left out, and no report waits for it
    /// a second time: what was last read of it may be wrong by now.
    pub(super) async fn dropped(&self, config: &Config) -> DroppedMetrics {
        let Some(path) = config.reporting.metrics_directory.clone() else {
            return DroppedMetrics::default();
        };
        let (source, fresh) = (path.clone(), config.reporting.interval * FRESH_INTERVALS);
        let read = move || DroppedMetrics::read(path.as_ref(), fresh);
        let mut metrics = self.metrics.lock().await;
        let found = metrics.read(source.clone(), read).await;
        found.unwrap_or_else(|why| DroppedMetrics {
            metrics: Vec::new(),
            faults: vec![format!("{}: {why}", source.display())],
        })
    }

    /// Makes a report, of tens of thousands of connections perhaps: it is written beside the thread that decides.
    ///
    /// # Errors
    /// A sentence for the status.
    pub(super) async fn compose(
        &self,
        material: &Material,
        occasion: Occasion<'_>,
        ledgers: &mut Ledgers,
    ) -> Result<ReportDraft, String> {
        let reporting = &occasion.config.reporting;
        let report_id = occasion.report_id;
        let mut left_out = Vec::new();
        let observation = &material.observation;
        let network = match &observation.links {
            Ok(links) => {
                ledgers.baseline.observe(links);
                let delta = ledgers.baseline.begin(report_id, reporting.offline);
                if delta.is_none() {
                    left_out.push("network_stats: no report was accepted yet to count from".to_owned());
                }
                delta
            }
            Err(error) => {
                left_out.push(format!("network_stats: {}", crate::error_text(error)));
                None
            }
        };
        if let Err(error) = &observation.sockets {
            left_out.push(format!("ports and connections: {}", crate::error_text(error)));
        }
        let topic = reporting
            .topic
            .clone()
            .unwrap_or_else(|| topics::metrics(occasion.thing, reporting.encoding.format.name()));
        let metrics = self.custom(material, occasion, ledgers, &mut left_out);
        let limit = reporting
            .max_bytes
            .min(self.connected.nucleus.max_payload(&topic));
        let (observation, encoding) = (Arc::clone(observation), reporting.encoding);
        let write = move || {
            let input = ReportInput {
                report_id,
                network,
                sockets: observation.sockets.as_ref().ok(),
                custom: &metrics,
            };
            let report = build(&input, encoding, limit, fastrand::u64(..))?;
            let payload = report.encode(encoding)?;
            Ok((report, payload))
        };
        let (report, payload) = self.written(write).await?;
        let unfit = report.unfit.iter();
        left_out.extend(unfit.map(|name| format!("{name}: does not fit into {limit} bytes")));
        left_out.truncate(MAX_REASONS);
        Ok(ReportDraft {
            report,
            payload,
            topic,
            limit,
            left_out,
        })
    }

    /// Has something written beside the thread that decides.
    ///
    /// # Errors
    /// A sentence for the status.
    pub(super) async fn written<T: Send + 'static>(
        &self,
        write: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
    ) -> Result<T, String> {
        let failed = |why: String| format!("the report could not be built: {why}");
        let written = self.writer.run(write).await;
        let written = written.map_err(|error| failed(crate::error_text(&error)))?;
        written.map_err(|error| failed(crate::error_text(&error)))
    }

    /// Configured metrics, then dropped ones; every name once, and none that the service refuses.
    fn custom(
        &self,
        material: &Material,
        occasion: Occasion<'_>,
        ledgers: &mut Ledgers,
        left_out: &mut Vec<String>,
    ) -> Vec<CustomMetric> {
        let reporting = &occasion.config.reporting;
        let mut metrics = Vec::new();
        if !reporting.custom.is_empty() {
            let traffic = material.traffic(occasion.untold);
            let pending = &mut ledgers.pending;
            let traffic = pending.begin(occasion.report_id, traffic, reporting.offline);
            let sources = MetricInputs {
                traffic: &traffic,
                posture: self.connected.context.enforcer.state().borrow().posture,
            };
            let collected = collect(&reporting.custom, &sources);
            metrics = collected.metrics;
            left_out.extend(collected.missing);
        }
        metrics.extend(material.dropped.metrics.iter().cloned());
        left_out.extend(material.dropped.faults.iter().cloned());
        one_of_each_name(&mut metrics, left_out);
        if !occasion.custom && !metrics.is_empty() {
            left_out.push("custom metrics: the service refused a report with them as invalid".to_owned());
            metrics.clear();
        }
        metrics
    }
}

fn one_of_each_name(metrics: &mut Vec<CustomMetric>, left_out: &mut Vec<String>) {
    let mut names = HashSet::new();
    metrics.retain(|metric| {
        let new = names.insert(metric.name.clone());
        if !new {
            left_out.push(format!("{}: another metric has this name", metric.name));
        }
        new
    });
    if let Some(metric) = metrics.get(MAX_METRICS) {
        left_out.push(format!(
            "{} and more: a report carries {MAX_METRICS} metrics",
            metric.name
        ));
        metrics.truncate(MAX_METRICS);
    }
}
