//! Flow 1, second half: kernel counters and sockets become a Device Defender report.
//!
//! ```text
//! baseline ──► document ──► (publish, through cloud) ──► reply ──► baseline advances on accepted
//! schedule and report_id say when and under which number
//! ```
//!
//! In: [`crate::observe::LinkCounters`], [`crate::observe::SocketSnapshot`], answers of the service. Out: report
//! documents. All of it is pure; sending is the agent's.

pub mod baseline;
pub mod document;
mod fit;
pub mod reply;
pub mod report_id;
pub mod schedule;

pub use baseline::Baseline;
pub use document::{Report, ReportInput, build};
pub use reply::{Outcome, Reply};
pub use schedule::Schedule;
