//! The pulse of the thread that decides: turns that come also when there is nothing to do.
//!
//! In: nothing. Out: a turn every few seconds, for the watchdog. Where turns are measured, one every few milliseconds
//! instead, and in the log once a second how late they came: that is how long anything else would have waited.

use std::time::Duration;

use crate::host::{clock, turns, watchdog};

/// From one measured turn to the next.
const PROBE: Duration = Duration::from_millis(5);
/// Turns that one line of the log is about: a second's.
const PROBES: u32 = 200;
/// How late a turn may be: most of them, and each of them.
const LATE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];

/// Beats for ever.
pub(super) async fn run() {
    while !turns::is_measured() {
        tokio::time::sleep(watchdog::PERIOD).await;
    }
    loop {
        probe().await;
    }
}

async fn probe() {
    let (mut late, mut latest) = ([0_u32; 2], Duration::ZERO);
    for _ in 0..PROBES {
        let begun = clock::instant();
        tokio::time::sleep(PROBE).await;
        let by = clock::instant().saturating_duration_since(begun + PROBE);
        latest = latest.max(by);
        for (count, limit) in late.iter_mut().zip(LATE) {
            *count += u32::from(by >= limit);
        }
    }
    let [some, very] = late;
    let latest = latest.as_micros();
    turns::tell(&format!("turns: probes={PROBES} late_5ms={some} late_50ms={very} latest_us={latest}"));
}
