//! Runs flow 1's first half: what was captured becomes intervals.
//!
//! `threads` owns the threads that capture and account, `intervals` closes the running interval on its schedule and
//! hands it to the detector and the reporter side by side. Neither needs a nucleus, a thing or reports.

pub(crate) mod intervals;
mod threads;

pub use threads::{ObserveSettings, Observer};
