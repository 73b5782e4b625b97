//! What stood by comes into the kernel between our look at the tables and our load: the load must not be taken for refused.
//!
//! In: nothing. The thread that watches is held up with what stands by in its hand, until the one that loads waits behind it.

use std::thread::sleep;
use std::time::Duration;

use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::filter_hook::{FilterHook, HANGS, HELD};
use serde_json::Value;

use super::picture::picture;
use crate::common::{LIMIT, connected_and_released, isolate, options, ready};

/// The thread that puts back what stands by, as the kernel knows it.
const WATCHES: &str = "filter-watch";
/// A device that is cut off is looked at every five seconds.
const LOOK: Duration = Duration::from_secs(7);
/// As long as a pass may take to be over.
const SETTLED: Duration = Duration::from_secs(8);

/// Somebody removes the egress table alone; the look that finds it missing loads while what stood by comes back.
pub(crate) fn keeps_every_layer() {
    let mut stage = ready(options());
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    let before = picture(&stage);
    assert!(
        before
            .as_ref()
            .is_some_and(|before| before.contains("\"netdev\"")),
        "control: this kernel has the layer: {before:?}"
    );
    let uncovered = |status: &Value| status["enforcement"]["uncovered"].clone();
    let covered = uncovered(&stage.status());
    let failures = |stage: &edgewarden_lab::stage::Stage| {
        let (_, history, _) = stage.edgewarden(&["history"]).unwrap();
        history
    };
    hook.begin(HANGS, WATCHES).unwrap();
    let (code, _, errors) = stage.nft(&["delete", "table", "netdev", "edgewarden"]).unwrap();
    assert_eq!(code, Some(0), "control: {errors}");
    wait_until(LIMIT, "control: the watcher is held up", || {
        hook.written(HELD).is_some()
    })
    .unwrap();
    // The look that finds it waits behind the watcher then.
    sleep(LOOK);
    hook.end(HANGS).unwrap();
    wait_until(LIMIT, "it is back", || picture(&stage) == before).unwrap();
    sleep(SETTLED);
    let status = stage.status();
    assert_eq!(uncovered(&status), covered, "{}\n{status}", failures(&stage));
    assert_eq!(picture(&stage), before, "{}\n{status}", failures(&stage));
}
