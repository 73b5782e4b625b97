//! Programs that live for milliseconds and say what they sent, and one that gives its socket away.
//!
//! Every program is this test binary again, told by [`ROLE`] what to be. In: a protocol and how fast. Out: [`Brief`],
//! from the program itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::site::{PORT, in_own_namespace, this_test_again};

const ROLE: &str = "EDGEWARDEN_BRIEF_ROLE";
/// The port a program sends its datagrams from.
const FROM_PORT: &str = "EDGEWARDEN_BRIEF_FROM_PORT";
/// The first of them, below those that the kernel gives. The kernel gives one of 28,000 at random, and now and then two
/// programs within a second have the same: then the first is called the sender of both (`observe::attribution` says so).
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);
/// The sink.
const REMOTE: &str = "192.0.2.2";
/// Pieces of what is sent.
const PIECES: usize = 10;
/// Bytes in each.
const PIECE: usize = 10_000;
/// Bytes in a datagram, ten of which are a piece.
const DATAGRAM: usize = 1_000;
/// Between two pieces: with ten of them the program ends within 20 ms where the machine keeps up.
const BREATH: Duration = Duration::from_micros(1_500);

/// How long a program takes over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// Some 15 ms.
    Patient,
    /// As fast as it can.
    AtOnce,
}

/// What a program says of itself.
#[derive(Debug)]
pub(super) struct Brief {
    pub(super) pid: u32,
    /// Bytes handed to the kernel.
    pub(super) payload: u64,
    /// From connect to exit, in microseconds.
    pub(super) micros: u64,
}

/// Runs `body` in a lab, or the program this test binary was asked to be.
pub(super) fn in_lab_or_brief(test: &str, body: impl FnOnce()) {
    match std::env::var(ROLE).as_deref() {
        Ok("giver") => give(),
        Ok(role) => send(role),
        Err(_) => in_own_namespace(test, body),
    }
}

/// Runs `count` programs, one after another or without waiting for any.
pub(super) fn run(count: usize, protocol: &str, together: bool, haste: Haste) -> Vec<Brief> {
    let role = match haste {
        Haste::Patient => format!("{protocol} patient"),
        Haste::AtOnce => protocol.to_owned(),
    };
    let start = || program(&role, Stdio::null());
    if together {
        let all: Vec<Child> = (0..count).map(|_| start()).collect();
        all.into_iter().map(finish).collect()
    } else {
        (0..count).map(|_| finish(start())).collect()
    }
}

fn program(role: &str, input: Stdio) -> Child {
    this_test_again(&[])
        .env(ROLE, role)
        .env(FROM_PORT, NEXT_PORT.fetch_add(1, Ordering::Relaxed).to_string())
        .stdin(input)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finish(child: Child) -> Brief {
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, said) = text.split_once("sent ").unwrap();
    let numbers: Vec<u64> = said
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    Brief {
        pid,
        payload: numbers[0],
        micros: numbers[1],
    }
}

fn send(role: &str) {
    let (tcp, patient) = (role.starts_with("tcp"), role.ends_with("patient"));
    let began = Instant::now();
    let mut payload = 0;
    let mut stream = tcp.then(|| TcpStream::connect((REMOTE, PORT)).unwrap());
    let port: u16 = std::env::var(FROM_PORT).unwrap().parse().unwrap();
    let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
    for _ in 0..PIECES {
        match &mut stream {
            Some(stream) => {
                stream.write_all(&[7; PIECE]).unwrap();
                payload += PIECE;
            }
            None => {
                for _ in 0..PIECE / DATAGRAM {
                    payload += socket.send_to(&[7; DATAGRAM], (REMOTE, PORT)).unwrap();
                }
            }
        }
        if patient {
            std::thread::sleep(BREATH);
        }
    }
    println!("sent {payload} {}", began.elapsed().as_micros());
    std::process::exit(0);
}

/// A program that connects, sends 100 kB and lets its socket be taken.
pub(super) struct Giver {
    child: Child,
    descriptor: i32,
}

impl Giver {
    pub(super) fn start() -> Self {
        let mut child = program("giver", Stdio::piped());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let descriptor = loop {
            line.clear();
            assert_ne!(output.read_line(&mut line).unwrap(), 0, "the giver ended");
            if let Some((_, number)) = line.trim_end().split_once("descriptor ") {
                break number.parse().unwrap();
            }
        };
        Self { child, descriptor }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The giver's socket, as our own.
    pub(super) fn take(&self) -> TcpStream {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        let handle = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        TcpStream::from(pidfd_getfd(handle, self.descriptor, PidfdGetfdFlags::empty()).unwrap())
    }

    pub(super) fn end(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn give() {
    let mut stream = TcpStream::connect((REMOTE, PORT)).unwrap();
    stream.write_all(&[7; PIECES * PIECE]).unwrap();
    println!("descriptor {}", stream.as_raw_fd());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    std::process::exit(0);
}
