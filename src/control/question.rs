//! What may be asked: a type for each question or instruction, with the type of its answer.
//!
//! In: what somebody wants. Out: a [`Request`], whose JSON names are said here only. Deliberately absent: lines and their
//! number ([`super::protocol`]), and what the agent does.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::protocol::Ask;
use super::report::{CustomMetricNames, ReportPreview};
use super::sockets::{SocketFilter, SocketList};
use super::status::Status;
use crate::observe::Interval;
use crate::quarantine::plan::preview::PlanPreview;
use crate::report::last::LastReport;

/// Any of the questions, as it stands on the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// `edgewarden status`, `orders`, `history --verify`.
    Status(GetStatus),
    /// `edgewarden top`.
    #[serde(rename = "top")]
    Traffic(GetTraffic),
    /// `edgewarden report`; which of its questions is said in a second word.
    Report(ReportRequest),
    /// `edgewarden connections`.
    #[serde(rename = "connections")]
    Sockets(ListSockets),
    /// `edgewarden quarantine` without an order document.
    #[serde(rename = "quarantine")]
    Isolate(Isolate),
    /// `edgewarden quarantine --order`.
    Order(GiveOrder),
    /// `edgewarden plan`.
    Plan(PreviewPlan),
    /// `edgewarden release`.
    Release(ReleaseOrders),
    /// Asked before any other: an agent that hangs is not waited for.
    Pulse(GetPulse),
}

/// Any of the questions about reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "question", rename_all = "kebab-case")]
pub enum ReportRequest {
    /// `edgewarden report show`, `report send --dry-run`.
    Show(PreviewReport),
    /// `edgewarden report last`.
    Last(GetLastReport),
    /// `edgewarden report send`.
    Send(SendReport),
    /// `edgewarden report custom-metric-names`.
    Metrics(ListMetrics),
}

/// Everything the agent knows about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetStatus {}

/// The running interval's traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetTraffic {}

/// The report that would be sent at this moment; sends and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewReport {}

/// What became of the newest report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetLastReport {}

/// Sends a report at once, if the service would take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendReport {}

/// Names and types of custom metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListMetrics {}

/// The open sockets, with who holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListSockets {
    /// Which of them.
    #[serde(default)]
    pub query: SocketFilter,
}

/// The operator isolates the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolate {
    /// For people; the cloud is told.
    pub reason: String,
    /// Ends by itself after this many seconds.
    pub expires_seconds: Option<u64>,
}

/// The operator gives an order as a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveOrder {
    /// As `edgewarden schema order` describes it.
    pub order: Value,
    /// Instead of what the document says.
    pub reason: Option<String>,
    /// Ends by itself after this many seconds, instead of when the document says.
    pub expires_seconds: Option<u64>,
}

/// What is done at this moment, or would be; changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewPlan {
    /// An order that the operator might give.
    pub order: Option<Value>,
}

/// The operator ends the operator's order, or every order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseOrders {
    /// Every order, against its authority's will.
    pub everything: bool,
    /// Required for `everything`: the cloud is told.
    pub reason: Option<String>,
}

/// Whether the thread that decides still turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetPulse {}

/// The answer to [`GetPulse`]: that there is one says all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {}

impl Request {
    /// Whether it may be as long as [`super::protocol::MAX_ORDER_REQUEST`].
    #[must_use]
    pub const fn carries_order(&self) -> bool {
        matches!(self, Self::Order(_) | Self::Plan(_))
    }
}

/// `question => variant, answer`: how it stands on the line and what comes back.
macro_rules! questions {
    ($($question:ident => $variant:path, $answer:ty;)*) => {
        $(impl From<$question> for Request {
            fn from(question: $question) -> Self {
                $variant(question).into()
            }
        }

        impl Ask for $question {
            type Answer = $answer;
        })*
    };
}

impl From<ReportRequest> for Request {
    fn from(request: ReportRequest) -> Self {
        Self::Report(request)
    }
}

questions! {
    GetStatus => Request::Status, Status;
    GetTraffic => Request::Traffic, Interval;
    ListSockets => Request::Sockets, SocketList;
    PreviewReport => ReportRequest::Show, ReportPreview;
    GetLastReport => ReportRequest::Last, Option<LastReport>;
    SendReport => ReportRequest::Send, Option<LastReport>;
    ListMetrics => ReportRequest::Metrics, CustomMetricNames;
    Isolate => Request::Isolate, Status;
    GiveOrder => Request::Order, Status;
    PreviewPlan => Request::Plan, PlanPreview;
    ReleaseOrders => Request::Release, Status;
    GetPulse => Request::Pulse, Pulse;
}
