//! The log, which neither holds up nor fails whoever has something to say.
//!
//! In: lines. Out: standard output or standard error, written by a thread of its own: a pipe may be full because whoever
//! reads it is stopped, or broken because it died, and a file may lie on a disk that hangs. Bounded: what finds no room is
//! dropped and counted, and the count is a line once there is room. Absent: what is worth a line.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait: a busy minute of the agent.
const MAX_LINES: usize = 1_024;
/// Bytes that wait.
const MAX_BYTES: usize = 256 * 1024;
/// The thread only writes.
const STACK: usize = 64 * 1024;
/// The last words of a process may take this long: whoever stops it does not wait for a log that nobody reads.
const LAST_LIMIT: Duration = Duration::from_millis(300);
/// How often it is told how many lines were dropped.
const TELL_LOST: Duration = Duration::from_secs(1);

/// Where the lines go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LogStream {
    Output,
    Error,
}

enum Entry {
    Line(Vec<u8>),
    /// Everything before it was written.
    Mark(SyncSender<()>),
}

/// Takes lines. Clones share one thread.
#[derive(Debug, Clone)]
pub(crate) struct LogWriter {
    entries: SyncSender<Entry>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

/// Waits, when it is dropped, until what was said is written, but not for long.
#[derive(Debug)]
pub(crate) struct LogGuard(SyncSender<Entry>);

impl LogWriter {
    /// Starts the thread. Without one every line is dropped: the machine is out of threads or memory.
    pub(crate) fn start(stream: LogStream) -> (Self, LogGuard) {
        let (entries, received) = sync_channel(MAX_LINES);
        let (waiting, lost) = (Arc::default(), Arc::default());
        let writer = Self {
            entries: entries.clone(),
            waiting: Arc::clone(&waiting),
            lost: Arc::clone(&lost),
        };
        let write = move || match stream {
            LogStream::Output => write_all(&received, &waiting, &lost, &mut io::stdout()),
            LogStream::Error => write_all(&received, &waiting, &lost, &mut io::stderr()),
        };
        let builder = thread::Builder::new().name("log".to_owned()).stack_size(STACK);
        // Nobody could be told.
        let _no_thread = builder.spawn(write);
        (writer, LogGuard(entries))
    }
}

/// Whether a character does something other than being seen: controls (C0, DEL, C1), line separators, directions,
/// zero widths, tags.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The line without what would show another one to its reader: others name processes and files. Ends of lines are ours.
fn readable(line: &[u8]) -> Vec<u8> {
    let steers = |c: char| is_unsafe(c) && c != '\n' && c != '\t';
    match std::str::from_utf8(line) {
        Ok(text) if text.contains(steers) => {
            let escaped = text.chars().flat_map(|c| {
                let (hidden, shown) = if steers(c) {
                    (Some(c), None)
                } else {
                    (None, Some(c))
                };
                hidden.into_iter().flat_map(char::escape_unicode).chain(shown)
            });
            escaped.collect::<String>().into_bytes()
        }
        _ => line.to_vec(),
    }
}

impl Write for LogWriter {
    /// Takes a line whole, or drops it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let taken = line.len();
        let line = readable(line);
        let length = line.len();
        let before = self.waiting.fetch_add(length, Ordering::Relaxed);
        let fits = before + length <= MAX_BYTES;
        if !fits || self.entries.try_send(Entry::Line(line)).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (reply, done) = sync_channel(1);
        match self.0.try_send(Entry::Mark(reply)) {
            // Late or not: there is nothing more to do.
            Ok(()) => drop(done.recv_timeout(LAST_LIMIT)),
            // Nobody reads, or nobody writes.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// Writes until nobody has anything to say any more. A stream that cannot be written is tried again with the next line: a
/// reader may come back.
fn write_all(received: &Receiver<Entry>, waiting: &AtomicUsize, lost: &AtomicU64, stream: &mut dyn Write) {
    loop {
        let mut write = |line: &[u8]| drop(stream.write_all(line).and_then(|()| stream.flush()));
        match received.recv_timeout(TELL_LOST) {
            Ok(Entry::Line(line)) => {
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
                write(&line);
            }
            // Whoever waits may have given up.
            Ok(Entry::Mark(reply)) => drop(reply.try_send(())),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            write(format!("{count} lines of this log were dropped: nobody read it in time\n").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_in_letters() {
        let line = |text: &str| String::from_utf8(readable(text.as_bytes())).unwrap();
        assert_eq!(
            line("name=a\u{202e}b\x1b[0m\tö\n"),
            "name=a\\u{202e}b\\u{1b}[0m\tö\n"
        );
        assert_eq!(readable(b"\xff\n"), b"\xff\n");
    }

    #[test]
    fn lines_beyond_the_limit_are_dropped_counted_and_hold_nobody_up() {
        // Nobody writes: as behind a pipe that is full.
        let (entries, received) = sync_channel(MAX_LINES);
        let mut writer = LogWriter {
            entries,
            waiting: Arc::default(),
            lost: Arc::default(),
        };
        for _ in 0..MAX_LINES + 7 {
            writer.write_all(b"a line\n").unwrap();
        }
        assert_eq!(writer.lost.load(Ordering::Relaxed), 7);
        while received.try_recv().is_ok() {}
        writer.waiting.store(0, Ordering::Relaxed);
        let long = vec![b'x'; MAX_BYTES / 2 + 1];
        for _ in 0..2 {
            writer.write_all(&long).unwrap();
        }
        assert_eq!(writer.lost.load(Ordering::Relaxed), 8, "bytes are counted too");
    }

    #[test]
    fn what_was_dropped_is_told_and_what_was_said_is_written_in_order() {
        let (entries, received) = sync_channel(4);
        let (waiting, lost) = (AtomicUsize::new(4), AtomicU64::new(3));
        for line in ["a\n", "b\n"] {
            entries.send(Entry::Line(line.into())).unwrap();
        }
        let said = thread::scope(|scope| {
            let (waiting, lost) = (&waiting, &lost);
            let writing = scope.spawn(move || {
                let mut said = Vec::new();
                write_all(&received, waiting, lost, &mut said);
                said
            });
            while lost.load(Ordering::Relaxed) > 0 {
                thread::yield_now();
            }
            drop(entries);
            String::from_utf8(writing.join().unwrap()).unwrap()
        });
        assert_eq!(
            said,
            "a\n3 lines of this log were dropped: nobody read it in time\nb\n"
        );
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }
}
