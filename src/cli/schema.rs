//! `edgewarden schema`: JSON Schemas of what others write for us, and of what the commands print with `--json`.
//!
//! In: a name. Out: the text of a file in `schemas/`. tests/library/{order_schema,answer_schemas} hold them to what the
//! program reads and writes.

use super::{Failure, out};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What is described.
    #[arg(value_enum, value_name = "NAME")]
    name: SchemaName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SchemaName {
    /// An order, as the shadow, a deployment or the operator write it.
    Order,
    /// `edgewarden status --json`.
    Status,
    /// `edgewarden orders --json`.
    Orders,
    /// `edgewarden top --json`.
    Top,
    /// `edgewarden connections --json`.
    Connections,
    /// `edgewarden plan --json`.
    Plan,
    /// A line of `edgewarden history --json`.
    History,
    /// `edgewarden history --verify --json`.
    HistoryVerify,
    /// `edgewarden report show --json`, `report send --dry-run --json`.
    ReportShow,
    /// `edgewarden report last --json`, `report send --json`.
    ReportLast,
    /// `edgewarden report metrics --json`.
    ReportMetrics,
}

impl SchemaName {
    const fn text(self) -> &'static str {
        match self {
            Self::Order => include_str!("../../schemas/order.schema.json"),
            Self::Status => include_str!("../../schemas/status.schema.json"),
            Self::Orders => include_str!("../../schemas/orders.schema.json"),
            Self::Top => include_str!("../../schemas/top.schema.json"),
            Self::Connections => include_str!("../../schemas/connections.schema.json"),
            Self::Plan => include_str!("../../schemas/plan.schema.json"),
            Self::History => include_str!("../../schemas/history.schema.json"),
            Self::HistoryVerify => include_str!("../../schemas/history-verify.schema.json"),
            Self::ReportShow => include_str!("../../schemas/report-show.schema.json"),
            Self::ReportLast => include_str!("../../schemas/report-last.schema.json"),
            Self::ReportMetrics => include_str!("../../schemas/report-metrics.schema.json"),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    out(arguments.name.text())
}
