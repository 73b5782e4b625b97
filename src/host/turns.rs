//! What the thread that decides is doing, turn by turn: a turn is one poll of one task.
//!
//! In: tasks, each wrapped by [`timed`]. Out: how many turns there were, and whose is under way, for the
//! [watchdog](super::watchdog); with [`measure`] also every turn that held the thread for more than [`LONG`].
//! Deliberately absent: what a task does about it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::clock;
use crate::lock;

/// What is told of: ten times what a task usually needs.
const LONG: Duration = Duration::from_millis(10);

/// Turns taken since the process began.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Whose turn it is.
static HOLDER: Mutex<Option<&'static str>> = Mutex::new(None);
/// Measures, once that was asked for.
static QUEUE: OnceLock<RunQueue> = OnceLock::new();
/// Where it is told besides the log.
static TOLD: OnceLock<File> = OnceLock::new();

/// How many turns there were.
pub(crate) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Whose turn it is.
pub(crate) fn holder() -> Option<&'static str> {
    *lock(&HOLDER)
}

/// Tells every long turn of the calling thread from now on: in the log, and in that file, because the log may be what is
/// broken.
///
/// # Errors
/// The file cannot be made.
pub(crate) fn measure(file: &Path) -> io::Result<()> {
    let file = File::options().append(true).create(true).open(file)?;
    let _measured_already = (QUEUE.set(RunQueue::open()), TOLD.set(file));
    Ok(())
}

/// A line for whoever measures.
pub(crate) fn tell(line: &str) {
    tracing::info!("{line}");
    if let Some(mut file) = TOLD.get() {
        // Nobody could be told.
        let _unwritten = file.write_all(format!("{line}\n").as_bytes());
    }
}

/// Whether turns are measured.
pub(crate) fn is_measured() -> bool {
    QUEUE.get().is_some()
}

/// A future whose turns are counted under a name.
#[derive(Debug)]
pub(crate) struct Timed<F: ?Sized> {
    name: &'static str,
    inner: Pin<Box<F>>,
}

/// Counts the turns of a future under `name`.
pub(crate) const fn timed<F: Future + ?Sized>(name: &'static str, inner: Pin<Box<F>>) -> Timed<F> {
    Timed { name, inner }
}

impl<F: Future + ?Sized> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _turn = Turn::begin(self.name);
        self.inner.as_mut().poll(context)
    }
}

/// A turn that is under way; it ends when this is dropped, after a panic too.
struct Turn {
    name: &'static str,
    begun: Option<(Instant, Duration)>,
}

impl Turn {
    fn begin(name: &'static str) -> Self {
        COUNT.fetch_add(1, Ordering::Relaxed);
        *lock(&HOLDER) = Some(name);
        let begun = QUEUE.get().map(|queue| (clock::instant(), queue.waited()));
        Self { name, begun }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&HOLDER) = None;
        let (Some(queue), Some((begun, waited))) = (QUEUE.get(), self.begun) else {
            return;
        };
        let took = clock::instant().saturating_duration_since(begun);
        if took >= LONG {
            let waited = queue.waited().saturating_sub(waited);
            let held = took.saturating_sub(waited);
            tell(&format!(
                "a long turn of {}: held_ms={} waited_ms={}",
                self.name,
                held.as_millis(),
                waited.as_millis()
            ));
        }
    }
}

/// How long the thread that opened it has waited for a processor: that is the machine's doing, not a task's.
#[derive(Debug)]
struct RunQueue(Option<File>);

impl RunQueue {
    #[expect(
        clippy::disallowed_methods,
        reason = "host is a door: the kernel's word about our own thread"
    )]
    fn open() -> Self {
        Self(File::open("/proc/thread-self/schedstat").ok())
    }

    /// Nothing where the kernel does not tell.
    fn waited(&self) -> Duration {
        let mut text = [0; 64];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let words = read.and_then(|length| std::str::from_utf8(text.get(..length)?).ok());
        let waited = words.and_then(|words| words.split_ascii_whitespace().nth(1)?.parse().ok());
        Duration::from_nanos(waited.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_turn_has_a_holder_while_it_lasts_and_counts_once_a_poll() {
        let before = count();
        let look = async {
            let own = holder();
            tokio::task::yield_now().await;
            own
        };
        assert_eq!(timed("test", Box::pin(look)).await, Some("test"));
        assert!(count() >= before + 2);
    }

    #[test]
    fn the_kernel_tells_how_long_we_waited() {
        let queue = RunQueue::open();
        assert!(queue.0.is_some());
        assert!(queue.waited() < Duration::from_secs(600));
    }
}
