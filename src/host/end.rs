//! Being told to end: SIGTERM and SIGINT, taken by a thread of their own, so that they are heard whatever hangs.
//!
//! In: the signals. Out: a word to whoever runs, and the end of the process in time, whether or not it was listened to. A
//! nucleus gives a component five seconds or more and then kills it, which it counts and tells. Absent: what is to be done
//! before the end.

#![expect(
    clippy::disallowed_methods,
    reason = "ends a process that does not end by itself"
)]

use std::io;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::oneshot;

use super::clock;

/// A component that is told to stop ends within a second, with what the log still needs.
const LIMIT: Duration = Duration::from_millis(700);
/// The thread only waits.
const STACK: usize = 64 * 1024;

/// Comes true when the process is told to end; from then on it has [`LIMIT`]. To be called before any other thread is started:
/// the signals are blocked in the calling one and those that it starts. Programs that are started have them as ever.
///
/// # Errors
/// The signals cannot be blocked, or there is no thread for them.
pub(crate) fn told() -> io::Result<oneshot::Receiver<()>> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    let (tell, told) = oneshot::channel();
    let wait = move || {
        while signals.wait().is_err() {}
        // Who does not listen any more is ending already.
        let _unheard = tell.send(());
        clock::pause(LIMIT);
        std::process::exit(0);
    };
    thread::Builder::new()
        .name("end".to_owned())
        .stack_size(STACK)
        .spawn(wait)?;
    Ok(told)
}
