//! Makes a report of everything that could be collected.
//!
//! In: the observer, the ledgers, the configuration. Out: [`Composed`], with a sentence for everything left out. It
//! only writes into the ledgers it is given, so that a copy shows what would be sent.

use std::collections::HashSet;

use jiff::Timestamp;

use super::Reporter;
use super::memory::Ledgers;
use crate::agent::observer::Observer;
use crate::cloud::topics;
use crate::config::Config;
use crate::host::clock;
use crate::host::files::drop_directory::{self, MetricFiles};
use crate::host::net::netlink::NetlinkError;
use crate::observe::{Interval, SocketSnapshot};
use crate::report::custom::collect::{MetricInputs, collect};
use crate::report::custom::traffic::TrafficTotals;
use crate::report::custom::{CustomMetric, MAX_METRICS, dropped};
use crate::report::document::{Report, ReportInput, build};

/// A dropped file counts for this many intervals: one may be late.
const FRESH_INTERVALS: u32 = 2;
/// Reasons shown at once.
const MAX_REASONS: usize = 16;

/// What there is to report.
pub(super) struct Observed {
    pub(super) interval: Interval,
    pub(super) sockets: Result<SocketSnapshot, NetlinkError>,
    found: MetricFiles,
}

/// A report that can be sent.
pub(super) struct Composed {
    pub(super) report: Report,
    pub(super) payload: Vec<u8>,
    pub(super) topic: String,
    pub(super) limit: usize,
    /// Why something is missing, one sentence each.
    pub(super) left_out: Vec<String>,
}

impl Observed {
    /// Metrics of other programs, and why others are none.
    pub(super) fn found(&self, config: &Config) -> (Vec<CustomMetric>, Vec<String>) {
        let fresh = config.reporting.interval * FRESH_INTERVALS;
        let (mut metrics, mut faults) = (Vec::new(), self.found.faults.clone());
        for file in &self.found.files {
            match dropped::read(file, fresh) {
                Ok(metric) => metrics.extend(metric),
                Err(why) => faults.push(why),
            }
        }
        (metrics, faults)
    }
}

impl Reporter {
    /// Looks at everything, the interval as `take` gives it.
    pub(super) fn look(&self, config: &Config, take: impl Fn(&Observer, Timestamp) -> Interval) -> Observed {
        let directory = config.reporting.metrics_directory.as_ref();
        Observed {
            interval: take(&self.observer, clock::now().wall),
            sockets: self.observer.sockets(),
            found: directory.map_or_else(MetricFiles::default, |path| {
                drop_directory::read(path, clock::now().wall)
            }),
        }
    }

    /// Makes the report with this number; `custom` tells whether it may carry custom metrics.
    ///
    /// # Errors
    /// A sentence for the status.
    pub(super) fn compose(
        &self,
        config: &Config,
        observed: &Observed,
        ledgers: &mut Ledgers,
        report_id: u64,
        custom: bool,
    ) -> Result<Composed, String> {
        let reporting = &config.reporting;
        let mut left_out = Vec::new();
        let network = match self.observer.link_counters() {
            Ok(links) => {
                ledgers.baseline.observe(&links);
                let delta = ledgers.baseline.begin(report_id, reporting.offline);
                if delta.is_none() {
                    left_out.push("network_stats: no report was accepted yet to count from".to_owned());
                }
                delta
            }
            Err(error) => {
                left_out.push(format!("network_stats: {}", crate::error_text(&error)));
                None
            }
        };
        if let Err(error) = &observed.sockets {
            left_out.push(format!("ports and connections: {}", crate::error_text(error)));
        }
        let mut metrics = self.custom(config, observed, ledgers, report_id, &mut left_out);
        if !custom && !metrics.is_empty() {
            left_out.push("custom metrics: the service refused a report with them as invalid".to_owned());
            metrics.clear();
        }
        let topic = reporting
            .topic
            .clone()
            .unwrap_or_else(|| topics::metrics(&self.thing, reporting.encoding.format.name()));
        let limit = reporting.max_bytes.min(self.client.max_iot_core_payload(&topic));
        let input = ReportInput {
            report_id,
            network,
            sockets: observed.sockets.as_ref().ok(),
            custom: &metrics,
        };
        let report = build(&input, reporting.encoding, limit, fastrand::u64(..));
        let failed = |error| format!("the report could not be built: {}", crate::error_text(&error));
        let report = report.map_err(failed)?;
        let payload = report.encode(reporting.encoding).map_err(failed)?;
        let unfit = report.unfit.iter();
        left_out.extend(unfit.map(|name| format!("{name}: does not fit into {limit} bytes")));
        left_out.truncate(MAX_REASONS);
        Ok(Composed {
            report,
            payload,
            topic,
            limit,
            left_out,
        })
    }

    /// Configured metrics, then dropped ones; every name once.
    fn custom(
        &self,
        config: &Config,
        observed: &Observed,
        ledgers: &mut Ledgers,
        report_id: u64,
        left_out: &mut Vec<String>,
    ) -> Vec<CustomMetric> {
        let reporting = &config.reporting;
        let mut metrics = Vec::new();
        if !reporting.custom.is_empty() {
            let traffic = TrafficTotals::from(&observed.interval);
            let traffic = ledgers.pending.begin(report_id, traffic, reporting.offline);
            let sources = MetricInputs {
                traffic: &traffic,
                posture: self.enforcer.state().borrow().posture,
            };
            let collected = collect(&reporting.custom, &sources);
            metrics = collected.metrics;
            left_out.extend(collected.missing);
        }
        let (found, faults) = observed.found(config);
        metrics.extend(found);
        left_out.extend(faults);
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
        metrics
    }
}
