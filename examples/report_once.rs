//! One report as the agent makes it, without the agent, measured.
//!
//! In: the largest number of bytes as argument, the classic path's limit without one. Out: one line of JSON, `{sockets,
//! bytes, cpu_us, peak_rss_kb}`: sockets listed, links counted, document built, fitted and encoded. `cargo xtask bench
//! report` runs it beside `sock_diag_floor`. Absent: sending, custom metrics.

#[path = "support/usage.rs"]
mod usage;

use std::error::Error;

use edgewarden::host::net::links;
use edgewarden::host::net::sock_diag::SockDiag;
use edgewarden::report::{Baseline, Encoding, OfflinePolicy, ReportInput, build};

/// What the classic nucleus carries.
const CLASSIC_LIMIT: usize = 128 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let limit = std::env::args()
        .nth(1)
        .map_or(Ok(CLASSIC_LIMIT), |text| text.parse())?;
    let before = usage::cpu_micros();
    let snapshot = SockDiag::open()?.snapshot()?;
    let mut baseline = Baseline::default();
    baseline.observe(&links::counters()?);
    let input = ReportInput {
        report_id: 1,
        network: baseline.begin(1, OfflinePolicy::Fold),
        sockets: Some(&snapshot),
        custom: &[],
    };
    let encoding = Encoding::PLAIN;
    let payload = build(&input, encoding, limit, 1)?.encode(encoding)?;
    usage::print(snapshot.established.len(), Some(payload.len()), before);
    Ok(())
}
