//! Minutes of random faults on the real nucleus, an order after each.
use crate::bed::Setup;
use crate::error::Trouble;
use std::time::Duration;
pub(crate) fn run(_setup: Setup, _time: Duration, _seed: u64) -> Result<bool, Trouble> {
    Ok(false)
}
