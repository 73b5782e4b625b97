//! The terminal: its size, its keys, and leaving it as it was.
//!
//! In: pages. Out: a screen that is drawn again and again, until `q`, Ctrl-C or the end of the terminal. Only what is a
//! terminal is treated as one; a pipe gets plain text.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

/// Width of what is no terminal and has no COLUMNS.
const WIDTH: usize = 100;
/// Widths beyond this are a mistake, and would fill memory with spaces.
const MAX_WIDTH: usize = 1_000;
/// The other screen, so that what was shown before is still there afterwards; without cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// What Ctrl-C is where it makes no signal.
const CTRL_C: u8 = 3;

/// Width and, of a terminal, height in characters.
pub(super) fn size() -> (usize, Option<usize>) {
    let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0);
    let columns = || {
        #[expect(
            clippy::disallowed_methods,
            reason = "where a pipe's reader says how wide it is"
        )]
        std::env::var("COLUMNS").ok()?.parse().ok()
    };
    let width = size.map(|size| usize::from(size.ws_col)).or_else(columns);
    let height = size.map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0);
    (
        width.filter(|width| *width > 0).unwrap_or(WIDTH).min(MAX_WIDTH),
        height,
    )
}

/// Writes to standard output. Unlike `print!` it does not panic when the reader has gone.
pub(super) fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A terminal that shows pages.
pub(super) struct Screen {
    signals: SignalFd,
    /// How the keyboard was, if there is one.
    before: Option<Termios>,
}

impl Screen {
    /// Takes the terminal; `None` when the output is none.
    pub(super) fn open() -> io::Result<Option<Self>> {
        if !io::stdout().is_terminal() {
            return Ok(None);
        }
        // Before anything is changed: from here on these signals wait to be read, and the terminal is given back first.
        let mut set = SigSet::empty();
        for signal in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGWINCH,
        ] {
            set.add(signal);
        }
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut screen = Self {
            signals,
            before: None,
        };
        if let Ok(before) = tcgetattr(io::stdin()) {
            let mut modes = before.clone();
            modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            screen.before = Some(before);
            tcsetattr(io::stdin(), OptionalActions::Now, &modes)?;
        }
        write(ENTER)?;
        Ok(Some(screen))
    }

    /// Draws a page over the one before, without a moment of nothing.
    pub(super) fn show(&self, page: &str) -> io::Result<()> {
        let lines: Vec<&str> = page.lines().collect();
        write(&format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\n")))
    }

    /// Waits until it is time for the next page (`true`), or until somebody wants an end.
    pub(super) fn wait(&mut self, time: Duration) -> io::Result<bool> {
        let stdin = io::stdin();
        let mut sources = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if self.before.is_some() {
            sources.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
        let limit = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut sources, limit) {
            Ok(0) | Err(Errno::EINTR) => return Ok(true),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let awake: Vec<bool> = sources.iter().map(|source| source.any() == Some(true)).collect();
        if awake.first() == Some(&true)
            && let Some(signal) = self.signals.read_signal()?
            && i32::try_from(signal.ssi_signo) != Ok(Signal::SIGWINCH as i32)
        {
            return Ok(false);
        }
        if awake.get(1) == Some(&true) {
            let mut keys = [0; 64];
            let count = nix::unistd::read(io::stdin(), &mut keys)?;
            return Ok(count > 0
                && !keys[..count]
                    .iter()
                    .any(|key| matches!(*key, b'q' | b'Q' | CTRL_C)));
        }
        Ok(true)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing back.
        let _gone = write(LEAVE);
        if let Some(before) = &self.before {
            let _gone = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
