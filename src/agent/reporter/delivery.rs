//! Sends a report and takes what the service says to it.
//!
//! In: a composed report, answers from the reserved topics. Out: counts and reasons on the board; ledgers, schedule and
//! caution as the answer wants.
//!
//! | answer | what it told | next report |
//! |---|---|---|
//! | accepted | is settled | next slot |
//! | throttled | is told again | a whole interval after the answer |
//! | InvalidPayload | custom metrics are given up, the rest is told again | next slot, without custom metrics |
//! | InvalidPayload without custom metrics | is given up, or it would grow for ever | next slot |
//! | another refusal, silence, not sent | is told again (or dropped, `reporting.offline`) | next slot |

use std::time::Duration;

use super::compose::{Material, ReportDraft};
use super::memory::{ReportUnderWay, ReporterMemory};
use super::{Reporter, Work};
use crate::cloud::inbox::InboxEvent;
use crate::config::Config;
use crate::host::clock;
use crate::report::last::{LastReport, ReportOutcome};
use crate::report::reply::{self, ReplyMatch, ReplyOutcome, ReportReply};
use crate::report::report_id;

/// How long an answer may take; later ones still count for the ledgers.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

impl Reporter {
    /// Makes the report of a closed interval and sends it.
    pub(super) async fn report(&self, material: Material, work: &mut Work) {
        let Work {
            thing,
            config,
            memory,
            ..
        } = work;
        self.silence(memory).await;
        let last_id = memory.last.as_ref().map(|last| last.report_id);
        let report_id = report_id::next(last_id, clock::now().wall);
        let occasion = memory.occasion(thing, config, report_id);
        let composed = self.compose(&material, occasion, &mut memory.ledgers).await;
        // From here on the ledgers know it.
        memory.untold = None;
        match composed {
            Ok(composed) => self.send(config, composed, report_id, memory).await,
            Err(why) => self.failed(&why),
        }
    }

    async fn send(
        &self,
        config: &Config,
        composed: ReportDraft,
        report_id: u64,
        memory: &mut ReporterMemory,
    ) {
        let board = &self.connected.context.board;
        let custom = !composed.report.custom.is_empty();
        board.update(|status| status.reports.left_out.clone_from(&composed.left_out));
        let last = memory.last.insert(LastReport {
            report_id,
            sent: clock::now().wall,
            topic: composed.topic,
            bytes: composed.payload.len(),
            outcome: ReportOutcome::Waiting,
            answered: None,
            error: None,
        });
        // On disk before it is sent: whatever happens then, its number is not used again.
        self.store(last).await;
        // QoS 0: a spooled report would arrive late and pollute the series (docs/reference/device-defender.md#rates).
        let sent = self
            .connected
            .publishing
            .publish(&last.topic, &composed.payload)
            .await;
        if let Err(error) = sent {
            let why = format!("the report could not be published: {}", crate::error_text(&error));
            self.failed(&why);
            return self.became(memory, ReportOutcome::NotSent, Some(why)).await;
        }
        tracing::debug!(report_id, "report sent");
        board.update(|status| {
            status.reports.sent += 1;
            status.reports.last_report_id = Some(report_id);
            status.reports.last_sent = Some(clock::now().wall);
        });
        if config.reporting.topic.is_some() {
            // Nobody answers on a topic of the operator's own; handed over is all there is to know.
            memory.ledgers.baseline.accepted(report_id);
            memory.ledgers.pending.settle(report_id);
            self.became(memory, ReportOutcome::HandedOver, None).await;
        } else {
            memory.waiting = Some(ReportUnderWay {
                report_id,
                answer_by: clock::instant() + ANSWER_LIMIT.min(config.reporting.interval),
                custom,
            });
        }
    }

    /// An event of the answers' topics.
    pub(super) async fn take(&self, event: InboxEvent, memory: &mut ReporterMemory) {
        match event {
            InboxEvent::Ready { .. }
            | InboxEvent::Renewed { .. }
            | InboxEvent::Lost
            | InboxEvent::Narrowed { .. } => {}
            InboxEvent::Refused { topic, why } => {
                self.failed(&format!("the subscription to {topic} was refused: {why}"));
            }
            InboxEvent::Message { topic, payload } => {
                let Some(outcome) = reply::outcome_of(&topic) else {
                    return;
                };
                let reply = reply::parse(outcome, &payload);
                match memory
                    .waiting
                    .take_if(|waiting| reply.belongs_to(waiting.report_id) != ReplyMatch::Another)
                {
                    Some(waiting) => {
                        self.connected.publishing.answered(&topic);
                        self.answered(&reply, &waiting, memory).await;
                    }
                    None => self.belated(&topic, &reply, memory).await,
                }
            }
        }
    }

    async fn answered(&self, reply: &ReportReply, waiting: &ReportUnderWay, memory: &mut ReporterMemory) {
        let report_id = waiting.report_id;
        let error = match reply.outcome {
            ReplyOutcome::Accepted => {
                memory.ledgers.baseline.accepted(report_id);
                if waiting.custom {
                    memory.ledgers.pending.settle(report_id);
                }
                memory.caution.accepted(waiting.custom);
                self.connected.context.board.update(|status| {
                    status.reports.accepted += 1;
                    status.reports.last_error = None;
                });
                return self.became(memory, ReportOutcome::Accepted, None).await;
            }
            ReplyOutcome::Rejected => {
                let code = reply.error_code.as_deref().unwrap_or("no code");
                let message = reply.error_message.as_deref().unwrap_or("no message");
                format!("{code}, {message}")
            }
        };
        if reply.is_throttled() {
            self.intervals.throttled();
        }
        if reply.is_invalid() {
            // Custom metrics are what can be refused: without them the same traffic is told again. A report that is
            // refused without them would be refused for ever.
            if waiting.custom {
                memory.ledgers.pending.settle(report_id);
            } else {
                memory.ledgers.baseline.given_up(report_id);
            }
            memory.caution.invalid(waiting.custom);
        }
        self.connected
            .context
            .board
            .update(|status| status.reports.rejected += 1);
        self.failed(&format!("report {report_id} was rejected: {error}"));
        self.became(memory, ReportOutcome::Rejected, Some(error)).await;
    }

    /// Nobody waits for it: late, twice, or to somebody else's report. Only the ledgers know their own, and only an
    /// acceptance is worth something.
    async fn belated(&self, topic: &str, reply: &ReportReply, memory: &mut ReporterMemory) {
        let (Some(report_id), ReplyOutcome::Accepted) = (reply.report_id, reply.outcome) else {
            return;
        };
        if memory.ledgers.baseline.accepted(report_id) {
            self.connected.publishing.answered(topic);
            memory.ledgers.pending.settle(report_id);
            self.connected
                .context
                .board
                .update(|status| status.reports.accepted += 1);
            if memory
                .last
                .as_ref()
                .is_some_and(|last| last.report_id == report_id)
            {
                self.became(memory, ReportOutcome::Accepted, None).await;
            }
        }
    }

    /// The report under way, if there is one, will not be answered any more.
    pub(super) async fn silence(&self, memory: &mut ReporterMemory) {
        if let Some(waiting) = memory.waiting.take() {
            let why = "no answer in time".to_owned();
            self.connected
                .context
                .board
                .update(|status| status.reports.unanswered += 1);
            self.failed(&format!("report {}: {why}", waiting.report_id));
            self.became(memory, ReportOutcome::Unanswered, Some(why)).await;
        }
    }

    async fn became(&self, memory: &mut ReporterMemory, outcome: ReportOutcome, error: Option<String>) {
        if let Some(last) = &mut memory.last {
            last.outcome = outcome;
            last.answered = Some(clock::now().wall);
            last.error = error;
            self.store(last).await;
        }
    }

    fn failed(&self, why: &str) {
        let news = self.connected.context.board.read().reports.last_error.as_deref() != Some(why);
        if news {
            tracing::warn!("{why}");
        }
        self.connected
            .context
            .board
            .update(|status| status.reports.last_error = Some(why.to_owned()));
    }
}
