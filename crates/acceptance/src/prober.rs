//! Whether a way that no lifeline covers is open, watched all the time.
//!
//! In: the gateway's namespace. Out: when the way was open, and each moment at which it was although it had to be closed.
//! Two probes run side by side: a datagram every 10 ms, which shows an opening as short as that, and a TCP connection
//! every 50 ms, as an attacker would try. Times are those of sending.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edgewarden_lab::site::{ATTACKER_V4, EchoServer, Ns, Site, wait_until};
use nix::sched::{CloneFlags, setns};

use crate::error::{Trouble, io as failed};
use crate::processes::GATEWAY;

/// Between two datagrams.
const DATAGRAM_EVERY: Duration = Duration::from_millis(10);
/// Between two connections, and how long one is waited for.
const CONNECT_EVERY: Duration = Duration::from_millis(50);
/// So many datagrams must be lost in a row, and so long ago must the last have come through, before the way counts as
/// closed: a busy machine delays some.
const LOST_WHEN_CLOSED: u64 = 8;
const QUIET_WHEN_CLOSED: Duration = Duration::from_millis(150);
const DATAGRAM_PORT: u16 = 5_556;
const CONNECT_PORT: u16 = 4_445;

/// What all probers of a run share.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Since when the way has to be closed.
    guarded_since: Option<Instant>,
    /// How long it had to be closed so far.
    guarded: Duration,
    /// When it was open all the same.
    breaches: Vec<Instant>,
    last_open: Option<Instant>,
    lost: u64,
}

/// Watches one site.
#[derive(Debug)]
pub(crate) struct Prober {
    book: Arc<Mutex<Book>>,
    stopped: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    _server: EchoServer,
}

impl Prober {
    pub(crate) fn start(site: &Site, book: Arc<Mutex<Book>>) -> Result<Self, Trouble> {
        lock(&book).last_open = None;
        let server = site.echo_server(Ns::Internet, CONNECT_PORT)?;
        let target = SocketAddr::new(ATTACKER_V4, DATAGRAM_PORT);
        let receiver = site
            .run_in(Ns::Internet, || UdpSocket::bind(target))?
            .map_err(failed("receive the prober's datagrams"))?;
        let sender = site
            .run_in(Ns::Gateway, || UdpSocket::bind(("0.0.0.0", 0)))?
            .map_err(failed("send the prober's datagrams"))?;
        for socket in [&receiver, &sender] {
            socket
                .set_nonblocking(true)
                .map_err(failed("set up the prober's sockets"))?;
        }
        let stopped = Arc::new(AtomicBool::new(false));
        let threads = vec![
            spawn(&book, &stopped, move |book| {
                datagram(&sender, &receiver, target, book)
            }),
            spawn(&book, &stopped, connect()),
        ];
        Ok(Self {
            book,
            stopped,
            threads,
            _server: server,
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// From here on the way has to be closed.
    pub(crate) fn guard(&self) {
        let mut book = self.book();
        book.guarded_since.get_or_insert_with(Instant::now);
    }

    /// From here on it may open.
    pub(crate) fn unguard(&self) {
        let mut book = self.book();
        if let Some(since) = book.guarded_since.take() {
            book.guarded += since.elapsed();
        }
    }

    /// Whether it is open now.
    pub(crate) fn is_open(&self) -> bool {
        let book = self.book();
        book.lost <= 1 && book.last_open.is_some_and(|at| at.elapsed() < QUIET_WHEN_CLOSED)
    }

    /// Whether it is closed now.
    pub(crate) fn is_closed(&self) -> bool {
        let book = self.book();
        book.lost >= LOST_WHEN_CLOSED && book.last_open.is_none_or(|at| at.elapsed() > QUIET_WHEN_CLOSED)
    }

    /// How long after `since` the last datagram came through before the way closed.
    pub(crate) fn wait_closed(&self, since: Instant, limit: Duration) -> Option<Duration> {
        wait_until(limit, "the way closes", || self.is_closed()).ok()?;
        let last = self.book().last_open;
        Some(last.map_or(Duration::ZERO, |at| at.saturating_duration_since(since)))
    }

    /// How long after `since` the first datagram came through.
    pub(crate) fn wait_open(&self, since: Instant, limit: Duration) -> Option<Duration> {
        let mut open = None;
        let _ = wait_until(limit, "the way opens", || {
            open = self.book().last_open.filter(|at| *at >= since);
            open.is_some()
        });
        open.map(|at| at.duration_since(since))
    }

    /// How often it was open although it had to be closed, and how long it had to be in all.
    pub(crate) fn breaches(&self) -> (usize, Duration) {
        let book = self.book();
        let running = book.guarded_since.map_or(Duration::ZERO, |since| since.elapsed());
        (book.breaches.len(), book.guarded + running)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.unguard();
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    fn came_through(&mut self, sent: Instant) {
        self.lost = 0;
        self.last_open = self.last_open.max(Some(sent));
        if self.guarded_since.is_some_and(|since| sent >= since) {
            self.breaches.push(sent);
        }
    }
}

fn spawn(
    book: &Arc<Mutex<Book>>,
    stopped: &Arc<AtomicBool>,
    mut probe: impl FnMut(&Mutex<Book>) + Send + 'static,
) -> std::thread::JoinHandle<()> {
    let (book, stopped) = (Arc::clone(book), Arc::clone(stopped));
    std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            probe(&book);
        }
    })
}

/// Sends one, and takes what has come.
fn datagram(sender: &UdpSocket, receiver: &UdpSocket, target: SocketAddr, book: &Mutex<Book>) {
    let began = Instant::now();
    lock(book).lost += 1;
    // A firewall's refusal is an answer: the datagram does not arrive.
    let _ = sender.send_to(b"probe", target);
    while began.elapsed() < DATAGRAM_EVERY {
        std::thread::sleep(Duration::from_millis(2));
        let mut buffer = [0; 8];
        while receiver.recv(&mut buffer).is_ok() {
            lock(book).came_through(began);
        }
    }
}

/// Connects from the gateway: the thread that calls it enters its namespace for good.
fn connect() -> impl FnMut(&Mutex<Book>) + Send {
    let target = SocketAddr::new(ATTACKER_V4, CONNECT_PORT);
    let mut inside = false;
    move |book| {
        let began = Instant::now();
        inside = inside || enter().is_ok();
        if inside && TcpStream::connect_timeout(&target, CONNECT_EVERY).is_ok() {
            lock(book).came_through(began);
        }
        std::thread::sleep(CONNECT_EVERY.saturating_sub(began.elapsed()));
    }
}

fn enter() -> io::Result<()> {
    Ok(setns(File::open(GATEWAY)?, CloneFlags::CLONE_NEWNET)?)
}
