//! Evaluates behaviours against the values of each interval.
//!
//! In: behaviours once, then [`MetricValues`] and `now` at the end of each interval. Out: [`Alarm`]s, only when
//! something begins or ends. A value that is not known changes nothing: not knowing is neither normal nor abnormal.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::behavior::{Behavior, MAX_BEHAVIORS, Metric};
use crate::observe::{Counters, Interval, SocketSnapshot};

/// Values kept for the longest window (3,600 s) at the shortest development interval of 5 s.
const MAX_WINDOW: usize = 720;

/// What one interval says, as numbers; absent what is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetricValues {
    /// Within the interval, over all interfaces but loopback.
    pub bytes_out: Option<u64>,
    /// Within the interval, over all interfaces but loopback.
    pub bytes_in: Option<u64>,
    /// Within the interval, over all interfaces but loopback.
    pub packets_out: Option<u64>,
    /// Within the interval, over all interfaces but loopback.
    pub packets_in: Option<u64>,
    /// At the end of the interval.
    pub established_tcp_connections: Option<u64>,
    /// At the end of the interval.
    pub listening_tcp_ports: Option<u64>,
    /// At the end of the interval.
    pub listening_udp_ports: Option<u64>,
}

impl MetricValues {
    /// What one interval and the sockets at its end say. Without the kernel's counters there is no traffic, without
    /// sockets no connections.
    #[must_use]
    pub fn of(interval: &Interval, sockets: Option<&SocketSnapshot>) -> Self {
        let interfaces = interval.interfaces.iter();
        let known: Vec<Counters> = interfaces.filter_map(|interface| interface.kernel).collect();
        let all: Option<Counters> = (!known.is_empty()).then(|| known.into_iter().sum());
        let sum = |of: fn(&Counters) -> u64| all.as_ref().map(of);
        Self {
            bytes_out: sum(|counters| counters.bytes_out),
            bytes_in: sum(|counters| counters.bytes_in),
            packets_out: sum(|counters| counters.packets_out),
            packets_in: sum(|counters| counters.packets_in),
            established_tcp_connections: sockets.map(|sockets| sockets.established_total),
            listening_tcp_ports: sockets.map(|sockets| sockets.listening_tcp.len() as u64),
            listening_udp_ports: sockets.map(|sockets| sockets.listening_udp.len() as u64),
        }
    }

    /// The value of one metric.
    #[must_use]
    pub const fn get(&self, metric: Metric) -> Option<u64> {
        match metric {
            Metric::AllBytesOut => self.bytes_out,
            Metric::AllBytesIn => self.bytes_in,
            Metric::AllPacketsOut => self.packets_out,
            Metric::AllPacketsIn => self.packets_in,
            Metric::NumEstablishedTcpConnections => self.established_tcp_connections,
            Metric::NumListeningTcpPorts => self.listening_tcp_ports,
            Metric::NumListeningUdpPorts => self.listening_udp_ports,
        }
    }
}

/// What happened to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    InAlarm,
    Cleared,
}

/// The begin or end of an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// Name of the behaviour.
    pub behavior: String,
    pub metric: Metric,
    /// The value that decided.
    pub value: u64,
    pub kind: AlarmKind,
    pub at: Timestamp,
}

/// Behaviours and where each stands.
#[derive(Debug, Clone, Default)]
pub struct Detector {
    watched: Vec<BehaviorWatch>,
}

#[derive(Debug, Clone)]
struct BehaviorWatch {
    behavior: Behavior,
    window: VecDeque<(Timestamp, u64)>,
    in_alarm: bool,
    /// Values in a row that speak against the present state.
    against: u32,
}

impl Detector {
    /// Watches `behaviors`, which must be without faults; more than [`MAX_BEHAVIORS`] are left out.
    #[must_use]
    pub fn new(behaviors: Vec<Behavior>) -> Self {
        let watch = |behavior| BehaviorWatch {
            behavior,
            window: VecDeque::new(),
            in_alarm: false,
            against: 0,
        };
        Self {
            watched: behaviors.into_iter().take(MAX_BEHAVIORS).map(watch).collect(),
        }
    }

    /// Takes in one interval's values.
    pub fn evaluate(&mut self, metrics: &MetricValues, now: Timestamp) -> Vec<Alarm> {
        self.watched
            .iter_mut()
            .filter_map(|watched| watched.evaluate(metrics, now))
            .collect()
    }

    /// Names of the behaviours in alarm.
    pub fn in_alarm(&self) -> impl Iterator<Item = &str> {
        self.watched
            .iter()
            .filter(|watched| watched.in_alarm)
            .map(|watched| watched.behavior.name.as_str())
    }
}

impl BehaviorWatch {
    fn evaluate(&mut self, metrics: &MetricValues, now: Timestamp) -> Option<Alarm> {
        let reported = metrics.get(self.behavior.metric)?;
        let value = self.over_window(reported, now);
        let criteria = &self.behavior.criteria;
        let normal = criteria
            .comparison_operator
            .is_normal(value, criteria.value.count);
        if normal != self.in_alarm {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if self.in_alarm {
            criteria.consecutive_datapoints_to_clear
        } else {
            criteria.consecutive_datapoints_to_alarm
        };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.in_alarm = !self.in_alarm;
        Some(Alarm {
            behavior: self.behavior.name.clone(),
            metric: self.behavior.metric,
            value,
            kind: if self.in_alarm {
                AlarmKind::InAlarm
            } else {
                AlarmKind::Cleared
            },
            at: now,
        })
    }

    /// The reported value, or with a duration the sum of the values reported within it.
    fn over_window(&mut self, reported: u64, now: Timestamp) -> u64 {
        let Some(seconds) = self.behavior.criteria.duration_seconds else {
            return reported;
        };
        let duration = SignedDuration::from_secs(i64::from(seconds));
        if self.window.len() >= MAX_WINDOW {
            self.window.pop_front();
        }
        self.window.push_back((now, reported));
        // A clock that stepped back leaves values from the future; they are as wrong as old ones.
        self.window.retain(|(at, _)| {
            let age = now.duration_since(*at);
            age < duration && !age.is_negative()
        });
        self.window
            .iter()
            .fold(0, |sum, (_, value)| sum.saturating_add(*value))
    }
}

#[cfg(test)]
#[path = "detector_tests.rs"]
mod tests;
