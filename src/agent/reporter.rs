//! Publishes Device Defender reports and feeds the local detector.
//!
//! In: the observer, the configuration, the service's answers. Out: reports through the nucleus; alarms, and the
//! detector's wish for the enforcer. Decisions are `report`'s and `detect`'s.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use greengrass_ipc::{Client, Qos};
use serde_json::json;
use tokio::sync::watch;

use super::board::Board;
use super::enforcer::{Command, Handle};
use crate::cloud::inbox::{Inbox, InboxEvent};
use crate::cloud::topics;
use crate::config::Config;
use crate::detect::{Alarm, AlarmKind, Detector, ReportMetrics};
use crate::host::{clock, files};
use crate::observe::{Interval, Observer, SocketSnapshot};
use crate::quarantine::order::{Authority, Order};
use crate::quarantine::order_document::Wish;
use crate::report::baseline::Baseline;
use crate::report::document::{ReportInput, build};
use crate::report::reply::{self, Belongs, Outcome};
use crate::report::report_id;
use crate::report::schedule::Schedule;

/// How long an answer may take; later ones still count for the baseline.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The last report id, in the state directory.
const LAST_ID: &str = "report-id.json";

/// Reports for ever.
pub struct Reporter {
    /// The nucleus.
    pub client: Client,
    /// The thing.
    pub thing: String,
    /// The configuration.
    pub config: watch::Receiver<Config>,
    /// Where the detector's wish goes.
    pub enforcer: Handle,
    /// Flow 1's first half.
    pub observer: Arc<Observer>,
    /// The state directory.
    pub state_directory: PathBuf,
    /// The board.
    pub board: Board,
}

/// What is remembered from report to report.
struct Memory {
    baseline: Baseline,
    schedule: Schedule,
    detector: Detector,
    last_id: Option<u64>,
    last_sent: Option<std::time::Instant>,
    waiting: Option<(u64, std::time::Instant)>,
}

impl Reporter {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut config = self.config.borrow_and_update().clone();
        let mut memory = self.remember(&config);
        let mut inbox = self.answers(&config);
        loop {
            let due = memory.schedule.next();
            let answer_by = memory.waiting.map_or(due, |(_, sent)| sent + ANSWER_LIMIT);
            tokio::select! {
                event = inbox.next() => match event {
                    None => return,
                    Some(event) => self.take(event, &mut memory),
                },
                changed = self.config.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let new = self.config.borrow_and_update().clone();
                    self.reconfigure(&config, &new, &mut memory);
                    if config.reporting.encoding.format != new.reporting.encoding.format {
                        inbox = self.answers(&new);
                    }
                    config = new;
                }
                () = tokio::time::sleep_until(due.min(answer_by).into()) => {
                    self.note_silence(&mut memory);
                    if memory.schedule.is_due(clock::instant()) {
                        self.close_interval(&config, &mut memory).await;
                    }
                }
            }
        }
    }

    /// The answers' topics follow the format.
    fn answers(&self, config: &Config) -> Inbox {
        let reserved = topics::metrics(&self.thing, config.reporting.encoding.format.name());
        let answers = vec![format!("{reserved}/accepted"), format!("{reserved}/rejected")];
        Inbox::open(&self.client, answers, 0)
    }

    fn remember(&self, config: &Config) -> Memory {
        let mut baseline = Baseline::new();
        if let Ok(links) = self.observer.link_counters() {
            baseline.observe(&links);
        }
        let stored = files::read(&self.state_directory.join(LAST_ID)).ok().flatten();
        let last_id = stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Memory {
            baseline,
            schedule: Schedule::new(config.reporting.interval, fastrand::u64(..), clock::instant()),
            detector: Detector::new(config.detect.behaviors.clone()),
            last_id,
            last_sent: None,
            waiting: None,
        }
    }

    fn reconfigure(&self, old: &Config, new: &Config, memory: &mut Memory) {
        if old.reporting.interval != new.reporting.interval {
            memory
                .schedule
                .set_interval(new.reporting.interval, memory.last_sent, clock::instant());
        }
        if old.detect.behaviors != new.detect.behaviors {
            memory.detector = Detector::new(new.detect.behaviors.clone());
        }
    }

    /// Closes the interval, lets the detector look at it and sends the report.
    async fn close_interval(&self, config: &Config, memory: &mut Memory) {
        let now = clock::now().wall;
        let interval = self.observer.take_interval(now);
        let sockets = self.observer.sockets().inspect_err(|error| {
            tracing::warn!(
                "sockets could not be listed and are left out of the report: {}",
                crate::error_text(error)
            );
        });
        let sockets = sockets.ok();
        self.detect(config, &interval, sockets.as_ref(), memory).await;
        memory.schedule.sent(clock::instant());
        memory.last_sent = Some(clock::instant());
        if config.reporting.enabled {
            self.report(config, sockets.as_ref(), memory).await;
        }
    }

    async fn detect(
        &self,
        config: &Config,
        interval: &Interval,
        sockets: Option<&SocketSnapshot>,
        memory: &mut Memory,
    ) {
        let alarms = memory
            .detector
            .evaluate(&metrics(interval, sockets), interval.ended);
        for alarm in &alarms {
            tracing::warn!(behavior = %alarm.behavior, value = alarm.value, kind = ?alarm.kind, "local detector");
        }
        let names: Vec<String> = memory.detector.in_alarm().map(str::to_owned).collect();
        self.board
            .update(|status| status.detector.alarms.clone_from(&names));
        if let Some(alarm) = alarms.iter().find(|alarm| alarm.kind == AlarmKind::InAlarm)
            && config.detect.quarantine
        {
            let wish = Wish::Order(Box::new(order(alarm)));
            self.enforcer
                .send(Command::Wish {
                    authority: Authority::Detector,
                    wish: Ok(wish),
                })
                .await;
        }
        // An alarm that clears does not release: an isolated device is quiet, which proves nothing. Switching the key
        // off ends it, and so does the operator's override.
        if !config.detect.quarantine {
            let wish = Ok(Wish::Release);
            self.enforcer
                .send(Command::Wish {
                    authority: Authority::Detector,
                    wish,
                })
                .await;
        }
    }

    async fn report(&self, config: &Config, sockets: Option<&SocketSnapshot>, memory: &mut Memory) {
        if let Ok(links) = self.observer.link_counters() {
            memory.baseline.observe(&links);
        }
        let topic = config
            .reporting
            .topic
            .clone()
            .unwrap_or_else(|| topics::metrics(&self.thing, config.reporting.encoding.format.name()));
        let report_id = report_id::next(memory.last_id, clock::now().wall);
        memory.last_id = Some(report_id);
        if let Err(error) = files::replace(
            &self.state_directory.join(LAST_ID),
            json!(report_id).to_string().as_bytes(),
        ) {
            tracing::warn!(
                "{}: a report id may repeat after a restart",
                crate::error_text(&error)
            );
        }
        let input = ReportInput {
            report_id,
            network: memory.baseline.begin(report_id),
            sockets,
            custom: &[],
        };
        let encoding = config.reporting.encoding;
        let limit = config
            .reporting
            .max_bytes
            .min(self.client.max_iot_core_payload(&topic));
        let built = build(&input, encoding, limit, fastrand::u64(..));
        let payload = match built.and_then(|report| report.encode(encoding)) {
            Ok(payload) => payload,
            Err(error) => {
                return self.failed(&format!(
                    "the report could not be built: {}",
                    crate::error_text(&error)
                ));
            }
        };
        // QoS 0: a spooled report would arrive late and pollute the series (device-defender.md 2).
        match self
            .client
            .publish_to_iot_core(&topic, Qos::AtMostOnce, &payload)
            .await
        {
            Err(error) => self.failed(&format!(
                "the report could not be published: {}",
                crate::error_text(&error)
            )),
            Ok(()) => self.sent(config, report_id, memory),
        }
    }

    fn sent(&self, config: &Config, report_id: u64, memory: &mut Memory) {
        tracing::debug!(report_id, "report sent");
        self.board.update(|status| {
            status.reports.sent += 1;
            status.reports.last_report_id = Some(report_id);
            status.reports.last_sent = Some(clock::now().wall);
        });
        if config.reporting.topic.is_some() {
            // Nobody answers on a topic of the operator's own; handed over is all there is to know.
            memory.baseline.accepted(report_id);
        } else {
            memory.waiting = Some((report_id, clock::instant()));
        }
    }

    fn take(&self, event: InboxEvent, memory: &mut Memory) {
        match event {
            InboxEvent::Ready => {}
            InboxEvent::Refused { topic, why } => {
                self.failed(&format!("the subscription to {topic} was refused: {why}"));
            }
            InboxEvent::Message { topic, payload } => {
                let Some(outcome) = reply::outcome_of(&topic) else {
                    return;
                };
                self.answer(&reply::parse(outcome, &payload), memory);
            }
        }
    }

    fn answer(&self, reply: &reply::Reply, memory: &mut Memory) {
        let waiting = memory.waiting.map(|(id, _)| id);
        let report_id = match (waiting, waiting.map(|id| reply.belongs_to(id))) {
            (Some(id), Some(Belongs::Ours | Belongs::Unnamed)) => {
                memory.waiting = None;
                id
            }
            _ => match reply.report_id {
                // Late, or somebody else's; the baseline knows its own.
                Some(id) if reply.outcome == Outcome::Accepted => return memory.baseline.accepted(id),
                _ => return,
            },
        };
        if reply.is_throttled() {
            memory.schedule.throttled(clock::instant());
        }
        match reply.outcome {
            Outcome::Accepted => {
                memory.baseline.accepted(report_id);
                self.board.update(|status| {
                    status.reports.accepted += 1;
                    status.reports.last_error = None;
                });
            }
            Outcome::Rejected => {
                self.board.update(|status| status.reports.rejected += 1);
                let code = reply.error_code.as_deref().unwrap_or("no code");
                let message = reply.error_message.as_deref().unwrap_or("no message");
                self.failed(&format!("report {report_id} was rejected: {code}, {message}"));
            }
        }
    }

    fn note_silence(&self, memory: &mut Memory) {
        let late = |(_, sent): &mut (u64, std::time::Instant)| {
            clock::instant().duration_since(*sent) >= ANSWER_LIMIT
        };
        if let Some((report_id, _)) = memory.waiting.take_if(late) {
            self.board.update(|status| status.reports.unanswered += 1);
            self.failed(&format!(
                "report {report_id} was not answered within {} s",
                ANSWER_LIMIT.as_secs()
            ));
        }
    }

    fn failed(&self, why: &str) {
        let news = self.board.read().reports.last_error.as_deref() != Some(why);
        if news {
            tracing::warn!("{why}");
        }
        self.board
            .update(|status| status.reports.last_error = Some(why.to_owned()));
    }
}

/// What the detector looks at: this interval alone, whatever the service accepted.
fn metrics(interval: &Interval, sockets: Option<&SocketSnapshot>) -> ReportMetrics {
    let known: Vec<_> = interval
        .interfaces
        .iter()
        .filter_map(|interface| interface.kernel)
        .collect();
    let sum =
        |of: fn(&crate::observe::Counters) -> u64| (!known.is_empty()).then(|| known.iter().map(of).sum());
    ReportMetrics {
        bytes_out: sum(|counters| counters.bytes_out),
        bytes_in: sum(|counters| counters.bytes_in),
        packets_out: sum(|counters| counters.packets_out),
        packets_in: sum(|counters| counters.packets_in),
        established_tcp_connections: sockets.map(|sockets| sockets.established_total),
        listening_tcp_ports: sockets.map(|sockets| sockets.listening_tcp.len() as u64),
        listening_udp_ports: sockets.map(|sockets| sockets.listening_udp.len() as u64),
    }
}

fn order(alarm: &Alarm) -> Order {
    let reason = format!("{}: {:?} was {}", alarm.behavior, alarm.metric, alarm.value);
    Order::isolate(Authority::Detector, "detector", Some(reason), clock::now().wall)
}
