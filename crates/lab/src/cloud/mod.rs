//! AWS IoT stand-in: shadow service, Defender ingest, Detect, alarm Lambda.
//!
//! ```text
//! broker ──► service ──► account ─┬─► shadow                      pure: account and everything
//!    ▲          │                 └─► ingest ──► detect ──►       below it
//!    │          ▼                                   │
//!    └── answers, JSON lines          shadow ◄── alarm_lambda
//! ```
//!
//! [`mqtt`] is a console for tests and the demo: publish, get-shadow.

pub mod account;
pub mod alarm_lambda;
pub mod broker;
pub mod detect;
pub mod ingest;
pub mod metric;
pub mod mqtt;
pub mod service;
pub mod shadow;

pub use service::CloudArgs;

use crate::traffic::lines;

/// Runs the stand-in; prints one JSON object a line on standard output.
pub async fn run(args: CloudArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Ok(service::serve(args, lines::printer()).await?)
}
