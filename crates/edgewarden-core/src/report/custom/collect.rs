//! Values of the metrics that are configured.
//!
//! In: [`MetricSetting`]s, [`TrafficTotals`], the proven posture. Out: metrics, and a sentence for each that could not
//! be told: it is left out, because a wrong zero or an empty list would clear an alarm.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::label::label;
use super::settings::{MetricSetting, MetricSource, NAMES, TrafficCounter};
use super::traffic::{TrafficTotals, matches, pick};
use super::{CustomMetric, MetricItem, MetricType};
use crate::Arrange;
use crate::process::NamePattern;
use crate::quarantine::orders::order::Posture;

/// What settings are filled from.
#[derive(Debug, Clone, Copy)]
pub struct MetricInputs<'a> {
    /// Since the last accepted report.
    pub traffic: &'a TrafficTotals,
    /// What the kernel was proven to enforce; `None` while that is not known.
    pub posture: Option<Posture>,
}

/// Metrics and what is missing, one sentence each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectedMetrics {
    /// In the order of the settings; every name once.
    pub metrics: Vec<CustomMetric>,
    /// Why others are missing.
    pub missing: Vec<String>,
}

#[must_use]
pub fn collect(settings: &[MetricSetting], sources: &MetricInputs<'_>) -> CollectedMetrics {
    let mut collected = CollectedMetrics::default();
    for setting in settings {
        if let Err(why) = fill(setting, sources, &mut collected) {
            collected.missing.push(format!("{}: {why}", setting.name));
        }
    }
    collected
}

fn fill(
    setting: &MetricSetting,
    sources: &MetricInputs<'_>,
    collected: &mut CollectedMetrics,
) -> Result<(), &'static str> {
    let (name, traffic) = (&setting.name, sources.traffic);
    let number = match &setting.what {
        MetricSource::Interfaces(counter, patterns) => {
            return interfaces(name, *counter, patterns, traffic, collected);
        }
        MetricSource::Processes(counter, patterns) => {
            let numbers = patterns.iter().filter_map(|pattern| {
                let sum = of_processes(pattern, *counter, traffic);
                Some(CustomMetric::number(format!("{name}:{}", label(pattern)?), sum))
            });
            collected.metrics.extend(numbers);
            return Ok(());
        }
        MetricSource::TopProcesses(counter, length) => {
            collected.metrics.extend(top(name, *counter, *length, traffic));
            return Ok(());
        }
        MetricSource::Remotes(length, patterns) => {
            let items = remotes(*length, patterns, traffic);
            collected
                .metrics
                .push(CustomMetric::ranked(name, MetricType::IpList, items));
            return Ok(());
        }
        MetricSource::InterfaceSum(counter, patterns) => sum(*counter, patterns, traffic)?.into(),
        MetricSource::LostFrames => traffic
            .lost_frames
            .map(MetricItem::from)
            .ok_or("the receiver does not tell how many frames were lost")?,
        MetricSource::UnattributedPercent => percent(traffic)?,
        MetricSource::Enforcement => match sources.posture {
            Some(Posture::Normal) => 0.into(),
            Some(Posture::Restrict) => 1.into(),
            Some(Posture::Isolate) => 2.into(),
            None => return Err("what the kernel enforces is not known"),
        },
    };
    collected.metrics.push(CustomMetric::number(name, number));
    Ok(())
}

const NO_INTERFACE: &str = "no interface matches";
const NOT_READ: &str = "the kernel's counters of an interface could not be read, or it is gone";

fn interfaces(
    name: &str,
    counter: TrafficCounter,
    patterns: &[String],
    traffic: &TrafficTotals,
    collected: &mut CollectedMetrics,
) -> Result<(), &'static str> {
    let matching = traffic
        .interfaces
        .iter()
        .filter(|(name, _)| matches(patterns, name));
    let mut any = false;
    for (interface, counters) in matching {
        any = true;
        match (label(interface), counters) {
            (Some(label), Some(counters)) => collected.metrics.push(CustomMetric::number(
                format!("{name}:{label}"),
                pick(counter, counters),
            )),
            _ => collected.missing.push(format!("{name}: {interface}: {NOT_READ}")),
        }
    }
    any.then_some(()).ok_or(NO_INTERFACE)
}

fn sum(counter: TrafficCounter, patterns: &[String], traffic: &TrafficTotals) -> Result<u64, &'static str> {
    let matching = traffic
        .interfaces
        .iter()
        .filter(|(name, _)| matches(patterns, name));
    let counters: Option<Vec<u64>> = matching
        .map(|(_, counters)| counters.map(|counters| pick(counter, &counters)))
        .collect();
    match counters {
        None => Err(NOT_READ),
        Some(counters) if counters.is_empty() => Err(NO_INTERFACE),
        Some(counters) => Ok(counters.into_iter().fold(0, u64::saturating_add)),
    }
}

/// By command name, or by program if the pattern is a path. Nobody matching sent nothing: zero is true.
fn of_processes(pattern: &String, counter: TrafficCounter, traffic: &TrafficTotals) -> u64 {
    let (by_name, pattern) = (NamePattern::new(pattern), std::slice::from_ref(pattern));
    traffic
        .processes
        .iter()
        .filter(|((name, exe), _)| {
            by_name.matches(name, exe.as_deref()) || exe.as_ref().is_some_and(|exe| matches(pattern, exe))
        })
        .map(|(_, counters)| pick(counter, counters))
        .fold(0, u64::saturating_add)
}

/// Numbers and the names beside them, the largest first. Processes of one name are one.
fn top(name: &str, counter: TrafficCounter, length: usize, traffic: &TrafficTotals) -> [CustomMetric; 2] {
    let mut by_name: BTreeMap<&str, u64> = BTreeMap::new();
    for ((process, _), counters) in &traffic.processes {
        let sum = by_name.entry(process).or_default();
        *sum = sum.saturating_add(pick(counter, counters));
    }
    let mut sums: Vec<(&str, u64)> = by_name.into_iter().filter(|(_, sum)| *sum > 0).collect();
    sums.arrange_by_key(|(name, sum)| (Reverse(*sum), *name));
    sums.truncate(length);
    let (names, numbers) = sums
        .into_iter()
        .map(|(name, sum)| (MetricItem::text(name), MetricItem::from(sum)))
        .unzip();
    [
        CustomMetric::ranked(name, MetricType::NumberList, numbers),
        CustomMetric::ranked(format!("{name}:{NAMES}"), MetricType::StringList, names),
    ]
}

fn remotes(length: usize, patterns: &[String], traffic: &TrafficTotals) -> Vec<MetricItem> {
    let mut by_address: BTreeMap<IpAddr, u64> = BTreeMap::new();
    for ((interface, address), bytes) in &traffic.remotes {
        if matches(patterns, interface) {
            let sum = by_address.entry(*address).or_default();
            *sum = sum.saturating_add(*bytes);
        }
    }
    let mut sums: Vec<(IpAddr, u64)> = by_address.into_iter().collect();
    sums.arrange_by_key(|(address, bytes)| (Reverse(*bytes), *address));
    sums.truncate(length);
    sums.into_iter()
        .map(|(address, _)| MetricItem::Address(address))
        .collect()
}

/// To a tenth.
fn percent(traffic: &TrafficTotals) -> Result<MetricItem, &'static str> {
    let all = traffic.captured.bytes();
    if all == 0 {
        return Err("nothing was captured");
    }
    let tenths = u128::from(traffic.unattributed.bytes()) * 1_000 / u128::from(all);
    let share = f64::from(u16::try_from(tenths.min(1_000)).unwrap_or(1_000)) / 10.0;
    serde_json::Number::from_f64(share)
        .map(MetricItem::Number)
        .ok_or("it is not a number")
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
