//! A small site for the observer's tests: neighbours in namespaces of their own and programs that run in them.
//!
//! Every program is this test binary again, told by [`ROLE`] what to be.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use edgewarden::agent::observer::{ObserveSettings, Observer};
use edgewarden_lab::site::in_lab;
use jiff::Timestamp;

const ROLE: &str = "EDGEWARDEN_OBSERVE_ROLE";
const REMOTES: &str = "EDGEWARDEN_OBSERVE_REMOTES";
const PAYLOAD: &str = "EDGEWARDEN_OBSERVE_PAYLOAD";

/// The limit of every wait in these tests.
const LIMIT: Duration = Duration::from_secs(20);
/// Where the sink listens, TCP and UDP.
pub(super) const PORT: u16 = 7_000;
/// Datagrams sent to each remote.
pub(super) const UDP_DATAGRAMS: u64 = 200;
/// Bytes in each, unless a test asks for another size.
pub(super) const UDP_PAYLOAD: u64 = 400;
/// Bytes sent over TCP to each remote.
const TCP_BYTES: u64 = 3_000_000;

/// Runs `body` in a lab, or the program this test binary was asked to be.
pub(super) fn in_own_namespace(test: &str, body: impl FnOnce()) {
    match std::env::var(ROLE).as_deref() {
        Ok("sink") => sink(),
        Ok("sender") => sender(),
        Ok("observer") => observer(),
        Ok(other) => panic!("unknown role {other}"),
        Err(_) => in_lab(test, || {
            let _with_others = machine(File::lock_shared);
            body();
        }),
    }
}

/// As [`in_own_namespace`], for a test that takes the whole machine: labs share its processes.
pub(super) fn alone_in_own_namespace(test: &str, body: impl FnOnce()) {
    in_lab(test, || {
        let _without_others = machine(File::lock);
        body();
    });
}

/// The machine, for as long as the file is kept.
fn machine(lock: impl FnOnce(&File) -> std::io::Result<()>) -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("observe.lock");
    let file = File::create(path).unwrap();
    lock(&file).unwrap();
    file
}

pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// Waits for a condition, at most [`LIMIT`].
pub(super) fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(wait_for(condition), "not within {LIMIT:?}: {what}");
}

/// Waits for a condition, at most [`LIMIT`]; says whether it came true.
pub(super) fn wait_for(condition: impl FnMut() -> bool) -> bool {
    edgewarden_lab::site::wait_until(LIMIT, "a value", condition).is_ok()
}

/// The test that runs now, as a program behind these words; the caller tells it by its environment what to be.
pub(super) fn this_test_again(before: &[&str]) -> Command {
    let own = std::env::current_exe().unwrap();
    let test = std::thread::current().name().unwrap().to_owned();
    let mut words: Vec<OsString> = before.iter().map(Into::into).collect();
    words.extend([own.into(), "--exact".into(), test.into()]);
    words.extend(["--nocapture", "--test-threads=1"].map(Into::into));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

pub(super) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Lets this namespace route.
pub(super) fn forward() {
    for path in [
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv6/conf/all/forwarding",
    ] {
        std::fs::write(path, "1").unwrap();
    }
}

/// A namespace joined to ours by a veth pair; lives as long as its process.
pub(super) struct Neighbour {
    holder: Child,
}

impl Neighbour {
    /// `interface` is our end, `eth0` the other.
    pub(super) fn new(interface: &str, own4: &str, own6: &str, peer4: &str, peer6: &str) -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        let neighbour = Self { holder };
        let pid = neighbour.holder.id().to_string();
        run(
            "ip",
            &[
                "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", &pid,
            ],
        );
        for (address, device) in [(own4, interface), (own6, interface)] {
            run("ip", &["addr", "add", address, "dev", device, "nodad"]);
        }
        run("ip", &["link", "set", interface, "up"]);
        for address in [peer4, peer6] {
            neighbour.ip(&["addr", "add", address, "dev", "eth0", "nodad"]);
        }
        neighbour.ip(&["link", "set", "eth0", "up"]);
        neighbour.ip(&["link", "set", "lo", "up"]);
        neighbour
    }

    pub(super) fn ip(&self, arguments: &[&str]) {
        self.run("ip", arguments);
    }

    /// Runs a program there to its end.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) {
        let net = format!("--net=/proc/{}/ns/net", self.holder.id());
        let all: Vec<&str> = [net.as_str(), program].iter().chain(arguments).copied().collect();
        run("nsenter", &all);
    }

    pub(super) fn default_route(&self, via4: &str, via6: &str) {
        self.ip(&["route", "add", "default", "via", via4]);
        self.ip(&["-6", "route", "add", "default", "via", via6]);
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _waited = self.holder.wait();
    }
}

/// What a sender says it sent to each remote.
pub(super) struct Sent {
    /// Bytes over TCP.
    pub(super) tcp: u64,
}

/// What an observer without rights says.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) faults: Vec<String>,
    pub(super) kernel_interfaces: Vec<String>,
}

/// A program in a namespace; ends when dropped.
pub(super) struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    pub(super) fn sink(place: Option<&Neighbour>) -> Self {
        let mut program = Self::start(place, "sink", &[], &[], UDP_PAYLOAD);
        program.expect("ready");
        program
    }

    pub(super) fn sender(place: Option<&Neighbour>, remotes: &[&str]) -> Self {
        Self::sender_of(place, remotes, UDP_PAYLOAD)
    }

    /// A sender of datagrams of this many bytes.
    pub(super) fn sender_of(place: Option<&Neighbour>, remotes: &[&str], payload: u64) -> Self {
        let mut program = Self::start(place, "sender", remotes, &[], payload);
        program.expect("ready");
        program
    }

    /// An observer in our namespace without the capability to capture.
    pub(super) fn observe_without_rights() -> Told {
        let mut program = Self::start(
            None,
            "observer",
            &[],
            &["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"],
            UDP_PAYLOAD,
        );
        let mut lines = |prefix| program.expect(prefix).split('|').map(str::to_owned).collect();
        Told {
            faults: lines("faults "),
            kernel_interfaces: lines("kernel "),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets a sender send, and waits until it has.
    pub(super) fn run(&mut self) -> Sent {
        writeln!(self.input, "go").unwrap();
        Sent {
            tcp: self.expect("sent ").parse().unwrap(),
        }
    }

    fn start(
        place: Option<&Neighbour>,
        role: &str,
        remotes: &[&str],
        wrapper: &[&str],
        payload: u64,
    ) -> Self {
        // `nsenter` and `setpriv` become the program, so the child's pid is the program's.
        let net = place.map(|neighbour| format!("--net=/proc/{}/ns/net", neighbour.holder.id()));
        let mut words: Vec<&str> = net.iter().flat_map(|net| ["nsenter", net.as_str()]).collect();
        words.extend(wrapper);
        let mut child = this_test_again(&words)
            .env(ROLE, role)
            .env(REMOTES, remotes.join(","))
            .env(PAYLOAD, payload.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// Reads until a line with this prefix and returns the rest; the test harness writes lines of its own.
    fn expect(&mut self, prefix: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(
                self.output.read_line(&mut line).unwrap(),
                0,
                "the program ended before saying {prefix:?}"
            );
            // The harness begins a line with the test's name and does not end it.
            if let Some((_, rest)) = line.trim_end().split_once(prefix) {
                return rest.to_owned();
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

/// Takes TCP and UDP on [`PORT`] of both families until killed.
fn sink() {
    let listener = TcpListener::bind(("::", PORT)).unwrap();
    let socket = UdpSocket::bind(("::", PORT)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while socket.recv_from(&mut buffer).is_ok() {}
    });
    say("ready");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            let mut total = 0_u64;
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => total += count as u64,
                }
                if total == TCP_BYTES {
                    stream.write_all(b"!").unwrap();
                }
            }
        });
    }
}

/// Waits for a word, sends to every remote, says how much, and stays.
fn sender() {
    say("ready");
    let mut word = String::new();
    std::io::stdin().read_line(&mut word).unwrap();
    let remotes = std::env::var(REMOTES).unwrap();
    // Sockets stay open, as those of a long-lived process do.
    let mut open = Vec::new();
    for remote in remotes.split(',') {
        let remote = SocketAddr::new(remote.parse().unwrap(), PORT);
        let any: SocketAddr = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
            .parse()
            .unwrap();
        // TCP first: while a neighbour's address is being resolved the kernel queues few datagrams and drops the rest.
        let mut stream = TcpStream::connect(remote).unwrap();
        stream
            .write_all(&vec![7; usize::try_from(TCP_BYTES).unwrap()])
            .unwrap();
        // The sink answers when it has everything, so that nothing is under way when we say so.
        stream.read_exact(&mut [0]).unwrap();
        let socket = UdpSocket::bind(any).unwrap();
        let payload = vec![7; std::env::var(PAYLOAD).unwrap().parse().unwrap()];
        for _ in 0..UDP_DATAGRAMS {
            assert_eq!(socket.send_to(&payload, remote).unwrap(), payload.len());
        }
        open.push((stream, socket));
    }
    say(&format!("sent {TCP_BYTES}"));
    while std::io::stdin().read_line(&mut word).unwrap() != 0 {}
}

/// Observes without the right to capture and says what it is told.
fn observer() {
    let observer = Observer::start(ObserveSettings::all_interfaces(now()));
    wait_until("the fault is told", || !observer.status().faults().is_empty());
    let interval = observer.take_interval(now());
    say(&format!("faults {}", interval.capture_faults.join("|")));
    let kernel = interval.interfaces.iter().filter(|item| item.kernel.is_some());
    say(&format!(
        "kernel {}",
        kernel.map(|item| item.name.clone()).collect::<Vec<_>>().join("|")
    ));
}
