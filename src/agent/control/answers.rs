//! What the agent answers to each question.
//!
//! In: a question. Out: the answer of its type, or a sentence why there is none. Deliberately absent: who may ask, and
//! lines ([`super::server`]).

use std::sync::Arc;
use std::time::Duration;

use super::operator;
use super::server::Server;
use super::socket_list::socket_list;
use crate::agent::enforcer::EnforcerCommand;
use crate::agent::observer::Observer;
use crate::agent::reporter::questions::PendingQuestion;
use crate::control::protocol::Ask;
use crate::control::question::{
    GetLastReport, GetPulse, GetStatus, GetTraffic, GiveOrder, Isolate, ListMetrics, ListSockets,
    PreviewPlan, PreviewReport, Pulse, ReleaseOrders, SendReport,
};
use crate::control::report::{CustomMetricNames, ReportPreview};
use crate::control::sockets::SocketList;
use crate::control::status::{CaptureStatus, Status};
use crate::host::clock;
use crate::observe::Interval;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::Authority;
use crate::quarantine::plan::preview::PlanPreview;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::report::last::LastReport;

/// How often, and how far apart, an instruction is given to enforcers that fail: a new one is there within a second or two.
const TRIES: usize = 15;
const PAUSE: Duration = Duration::from_millis(200);
/// How long a status waits for a fresh look at the kernel.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// Who can answer a question: one that no implementation answers does not compile.
pub(super) trait Answers<Q: Ask> {
    async fn answer(&self, question: Q) -> Result<Q::Answer, String>;
}

impl Answers<GetStatus> for Server {
    async fn answer(&self, _: GetStatus) -> Result<Status, String> {
        // Fresh counters; a packet filter that hangs must not keep anybody from seeing the rest.
        let look = self.enforcer.ask(EnforcerCommand::Look);
        let looked = tokio::time::timeout(LOOK_LIMIT, look).await;
        let mut status = self.status();
        // One that has said something meanwhile is busy, not silent: its state is fresh.
        let silent = self.enforcer.silent_for();
        if looked.is_err() && silent >= LOOK_LIMIT {
            let seconds = silent.as_secs();
            status
                .enforcement
                .claim_nothing(Obstacle::EnforcerSilent { seconds });
        }
        Ok(status)
    }
}

impl Answers<GetPulse> for Server {
    async fn answer(&self, _: GetPulse) -> Result<Pulse, String> {
        Ok(Pulse {})
    }
}

impl Answers<GetTraffic> for Server {
    async fn answer(&self, _: GetTraffic) -> Result<Interval, String> {
        let observer = Arc::clone(&self.observer);
        self.lists.run(move || Ok(traffic(&observer))).await
    }
}

impl Answers<ListSockets> for Server {
    async fn answer(&self, question: ListSockets) -> Result<SocketList, String> {
        let observer = Arc::clone(&self.observer);
        let list = move || {
            socket_list(&observer, &question.query).map_err(|error| {
                let why = crate::error_text(&error);
                format!("the open sockets could not be listed: {why}")
            })
        };
        self.lists.run(list).await
    }
}

impl Answers<PreviewReport> for Server {
    async fn answer(&self, _: PreviewReport) -> Result<ReportPreview, String> {
        self.reports.ask(PendingQuestion::Show).await
    }
}

impl Answers<GetLastReport> for Server {
    async fn answer(&self, _: GetLastReport) -> Result<Option<LastReport>, String> {
        self.reports.ask(PendingQuestion::Last).await
    }
}

impl Answers<SendReport> for Server {
    async fn answer(&self, _: SendReport) -> Result<Option<LastReport>, String> {
        self.reports.ask(PendingQuestion::Send).await
    }
}

impl Answers<ListMetrics> for Server {
    async fn answer(&self, _: ListMetrics) -> Result<CustomMetricNames, String> {
        self.reports.ask(PendingQuestion::Metrics).await
    }
}

impl Answers<Isolate> for Server {
    async fn answer(&self, question: Isolate) -> Result<Status, String> {
        let Isolate {
            reason,
            expires_seconds,
        } = question;
        let order = operator::isolate(&reason, expires_seconds, clock::now().wall)?;
        self.wish(Wish::Order(order)).await
    }
}

impl Answers<GiveOrder> for Server {
    async fn answer(&self, question: GiveOrder) -> Result<Status, String> {
        let now = clock::now().wall;
        let GiveOrder {
            order,
            reason,
            expires_seconds,
        } = question;
        let read = move || operator::order(&order, reason.as_deref(), expires_seconds, now);
        let order = self.lines.run(read).await?;
        self.wish(Wish::Order(order)).await
    }
}

impl Answers<PreviewPlan> for Server {
    async fn answer(&self, question: PreviewPlan) -> Result<PlanPreview, String> {
        let now = clock::now().wall;
        let read = move || {
            let order = question.order.as_ref();
            order
                .map(|order| operator::order_to_look_at(order, now))
                .transpose()
        };
        let order = self.lines.run(read).await?;
        let preview = self.enforcer.plan(order).await.ok_or_else(stopping)?;
        self.lines.run(move || Ok(preview.write())).await
    }
}

impl Answers<ReleaseOrders> for Server {
    async fn answer(&self, question: ReleaseOrders) -> Result<Status, String> {
        let release = || operator::release(question.everything, question.reason.as_deref());
        release()?;
        // It was read a moment ago.
        self.instruct(|| release().unwrap_or(EnforcerCommand::Look)).await
    }
}

impl Server {
    async fn wish(&self, wish: Wish) -> Result<Status, String> {
        self.instruct(|| EnforcerCommand::Wish {
            authority: Authority::Operator,
            wish: Ok(wish.clone()),
        })
        .await
    }

    /// Has an instruction carried out. What an enforcer that fails was told is lost with it, so the next one is told again.
    async fn instruct(&self, command: impl Fn() -> EnforcerCommand) -> Result<Status, String> {
        for _ in 0..TRIES {
            if self.enforcer.ask(command()).await.is_some() {
                return Ok(self.status());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(stopping())
    }

    fn status(&self) -> Status {
        let state = self.enforcer.state().borrow().clone();
        let capture = self.observer.status();
        self.board.update(|status| {
            status.enforcement = state;
            status.capture = CaptureStatus {
                receiver: capture.receiver.map(|receiver| receiver.name().to_owned()),
                lost_frames: capture.lost_frames,
                faults: capture.faults(),
                interfaces: capture.reading().map(str::to_owned).collect(),
            };
        });
        self.board.read()
    }
}

fn traffic(observer: &Observer) -> Interval {
    observer.peek(clock::now().wall)
}

fn stopping() -> String {
    "the agent is stopping, or its enforcer failed and is started again".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::observer::ObserveSettings;
    use crate::control::protocol::{LineForm, answer_line, read_answer};

    #[test]
    fn an_interval_of_the_agent_can_be_read() {
        let now = clock::now().wall;
        let settings = ObserveSettings {
            // No interface: this test wants no packets.
            wanted: Arc::new(|_| false),
            ..ObserveSettings::all_interfaces(now)
        };
        let said = traffic(&Observer::start(settings));
        let line = answer_line(LineForm::Numbered, &Ok(&said)).unwrap();
        let interval = read_answer::<<GetTraffic as Ask>::Answer>(&line).unwrap();
        assert_eq!(interval.started, now);
        assert_eq!(interval, said);
    }
}
