//! The load that stands by: it is in the kernel again before anybody decides anything, once, and never against the owner.
//!
//! In: nothing. The thread that loads rules is held up, so what comes back comes from what stood by.

use std::time::Duration;

use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::filter_hook::{FilterHook, HANGS, HELD};
use serde_json::{Value, json};

use super::picture::picture;
use crate::common::{LIMIT, connected_and_released, isolate, options, ready, release};

/// The thread that carries out what the enforcer decides, as the kernel knows it.
const LOADS: &str = "packet-filter";
/// What comes back by itself comes within milliseconds; the thread that is held up has fifteen seconds.
const AT_ONCE: Duration = Duration::from_secs(3);
/// An order shows when the thread that is held up is given up.
const HEARD: Duration = Duration::from_secs(20);

fn isolated() -> (Stage, FilterHook) {
    let mut stage = ready(options());
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    (stage, hook)
}

fn nft(stage: &Stage, args: &[&str]) {
    let (code, _, errors) = stage.nft(args).unwrap();
    assert_eq!(code, Some(0), "control: {args:?}: {errors}");
}

/// A flush and a deletion, each while nobody can decide anything.
pub(crate) fn stands_in() {
    let (stage, hook) = isolated();
    let before = picture(&stage);
    for (what, reasserted) in [("flush", 1), ("delete", 2)] {
        hook.begin(HANGS, LOADS).unwrap();
        nft(&stage, &[what, "table", "inet", "edgewarden"]);
        wait_until(AT_ONCE, "it is back", || picture(&stage) == before).unwrap();
        wait_until(LIMIT, "control: the other thread is held up", || {
            hook.written(HELD).is_some()
        })
        .unwrap();
        // Control: it stands by once, and whoever could have it stand by again is held up.
        nft(&stage, &["flush", "table", "inet", "edgewarden"]);
        assert_ne!(picture(&stage), before, "control: nothing else puts it back");
        hook.end(HANGS).unwrap();
        hook.end(HELD).unwrap();
        let again = |s: &Value| {
            let enforcement = &s["enforcement"];
            let times = enforcement["reasserted"].as_u64();
            times >= Some(reasserted) && enforcement["phase"] == "enforced"
        };
        let status = stage.wait_status(LIMIT, "proven again", again).unwrap();
        wait_until(LIMIT, "and as before", || picture(&stage) == before).unwrap();
        let by = status["enforcement"]["changedBy"].as_str().unwrap_or_default();
        assert!(by.starts_with("nft ("), "{status}");
    }
    release(&stage);
    assert_eq!(picture(&stage), None);
}

/// The device was released, and who would remove the tables is held up: whoever removes them by hand does it once.
pub(crate) fn does_not_stand_in_for_a_release() {
    let (stage, hook) = isolated();
    // An attempt counts if nothing was held up before the order: that would keep it waiting for half a minute and more.
    let heard = (0..3).any(|_| {
        let heard = is_heard_and_held_up(&stage, &hook);
        if !heard {
            hook.end(HANGS).unwrap();
            stage.wait_phase(2 * LIMIT, "released").unwrap();
            isolate(&stage);
        }
        heard
    });
    assert!(heard, "control: an order comes between two looks");
    assert!(stage.has_table().unwrap(), "control: it is not carried out");
    nft(&stage, &["delete", "table", "inet", "edgewarden"]);
    let back = wait_until(AT_ONCE, "it is back", || stage.has_table().unwrap());
    assert!(back.is_err(), "against the owner");
    hook.end(HANGS).unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
    assert!(!stage.has_table().unwrap());
}

/// Just after a look, the device is released, and who would carry it out is held up; gives whether the order was heard.
fn is_heard_and_held_up(stage: &Stage, hook: &FilterHook) -> bool {
    let nothing = |s: &Value| s["enforcement"]["wanted"] == "normal";
    assert!(stage.has_table().unwrap() && !nothing(&stage.status()), "control");
    let proven = stage.status()["enforcement"]["verifiedAt"].clone();
    let looked = |s: &Value| s["enforcement"]["verifiedAt"] != proven;
    stage.wait_status(LIMIT, "looked at again", looked).unwrap();
    hook.begin(HANGS, LOADS).unwrap();
    stage.desire(&json!({"quarantine": false})).unwrap();
    stage.wait_status(HEARD, "it is heard", nothing).is_ok()
}
