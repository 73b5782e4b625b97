//! Ends a process whose deciding thread hangs: the nucleus starts another one, and the kernel keeps the rules meanwhile.
//!
//! In: the count of [turns](super::turns). Out: nothing, as long as it grows. What is known to block runs on
//! [workers](super::worker); this is for what is not known. Only time in which this thread itself runs counts, so a process
//! that was stopped, or a device that slept, is not taken for one that hangs.

use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use super::{clock, turns};

/// From one look to the next; the deciding thread takes a turn at least this often.
pub(crate) const PERIOD: Duration = Duration::from_secs(5);
/// Looks in a row that may find no turn. The nucleus rations exits (three an hour), so this is not for what is only slow.
const PATIENCE: u32 = 6;
/// What the log needs for the last line.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// The thread only counts.
const STACK: usize = 64 * 1024;

/// Watches for the life of the process.
pub(crate) fn start() {
    let builder = thread::Builder::new()
        .name("watchdog".to_owned())
        .stack_size(STACK);
    if let Err(error) = builder.spawn(watch) {
        tracing::warn!("nobody watches the thread that decides: {error}");
    }
}

fn watch() {
    let (mut seen, mut idle) = (turns::count(), 0);
    loop {
        clock::pause(PERIOD);
        let count = turns::count();
        idle = if count == seen { idle + 1 } else { 0 };
        seen = count;
        if idle >= PATIENCE {
            let holder = turns::holder().unwrap_or("the runtime");
            let seconds = (PERIOD * PATIENCE).as_secs();
            tracing::error!(
                "{holder} has held the thread that decides for {seconds} s: the agent ends, to be started again"
            );
            clock::pause(LAST_WORDS);
            // Nothing that could hang as well: no destructors, no last writes.
            let _dead = kill_process(getpid(), Signal::KILL);
            // The first process of a container is not killed by its own signals: it ends by a fault.
            std::process::abort();
        }
    }
}
