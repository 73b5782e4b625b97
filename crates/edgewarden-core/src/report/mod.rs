//! Flow 1, second half: kernel counters and sockets become a Device Defender report.
//!
//! ```text
//! baseline, pending, custom ──► document ──► (publish, through cloud) ──► reply ──► both advance on accepted
//! schedule and report_id say when and under which number
//! ```
//!
//! In: [`crate::observe::LinkCounters`], [`crate::observe::SocketSnapshot`], answers of the service. Out: report
//! documents. All of it is pure; sending is the agent's.

pub mod baseline;
pub mod caution;
pub mod custom;
pub mod document;
mod encoding;
mod fill;
mod fit;
pub mod last;
mod names;
pub mod pending;
pub mod reply;
pub mod report_id;
pub mod schedule;
mod write;

pub use baseline::Baseline;
pub use document::{Report, ReportInput, build};
pub use encoding::{Encoding, Format};
pub use names::NameLength;
pub use pending::OfflinePolicy;
