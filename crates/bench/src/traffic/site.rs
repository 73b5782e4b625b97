//! The namespaces of the bench: the lab's site, waits, and the kernel's own count.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use edgewarden_lab::site::{Ns, Running, Site, wait_until};
use serde_json::Value;
use xtask::workspace;

use super::subject::{Programs, Subject};
use crate::error::{self, BenchError, content};
use crate::machine;

/// The interface of the gateway that all work passes.
pub(crate) const INTERFACE: &str = "wan0";
/// Where work is sent to.
pub(crate) const PORT: u16 = 7_000;
/// For what takes as long as it takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// After work, until blocks are handed over, sums are asked for and an agent's ticks have passed.
const SETTLE: Duration = Duration::from_millis(400);

/// Site and programs.
pub(crate) struct Testbed {
    pub(crate) site: Site,
    pub(crate) programs: Programs,
    /// Takes datagrams in the gateway and never reads them: whoever counts them does not have to wait for a reader.
    _taker: UdpSocket,
}

impl Testbed {
    pub(crate) fn new(programs: Programs) -> Result<Self, BenchError> {
        let site = Site::new()?;
        let taker = site.run_in(Ns::Gateway, || UdpSocket::bind(("0.0.0.0", PORT)))?;
        let taker = taker.map_err(error::start("a socket that takes datagrams"))?;
        Ok(Self {
            site,
            programs,
            _taker: taker,
        })
    }

    /// Starts a subject and waits until it captures.
    pub(crate) fn start(&self, subject: Subject, interfaces: &[&str]) -> Result<Running, BenchError> {
        let before = self.packet_sockets()?;
        let running = subject.start(&self.site, &self.programs, interfaces)?;
        let mut fault = None;
        wait_until(PATIENCE, "a packet socket", || match self.packet_sockets() {
            Ok(now) => now > before,
            Err(error) => {
                fault = Some(error);
                true
            }
        })
        .map_err(|late| content(subject.name(), late.to_string()))?;
        if let Some(error) = fault {
            return Err(error);
        }
        self.settle();
        Ok(running)
    }

    /// Lets everything come to rest.
    pub(crate) fn settle(&self) {
        std::thread::sleep(SETTLE);
    }

    /// Starts a program of the lab.
    pub(crate) fn lab(&self, ns: Ns, arguments: &[&str]) -> Result<Running, BenchError> {
        let log = self.site.directory().join("lab.log");
        Ok(self
            .site
            .spawn(ns, machine::release("edgewarden-lab"), arguments, &[], log)?)
    }

    /// Floods an address from a namespace and waits for the end; the program's own line.
    pub(crate) fn flood(&self, from: Ns, to: IpAddr, arguments: &[&str]) -> Result<(u32, Value), BenchError> {
        let remote = SocketAddr::from((to, PORT)).to_string();
        let mut all = vec!["flood", "--remote", &remote];
        all.extend(arguments);
        let mut flood = self.lab(from, &all)?;
        let line = flood.wait_event(PATIENCE, |event| event["event"] == "flooded")?;
        flood.wait_exit(PATIENCE)?;
        Ok((flood.pid(), line))
    }

    /// Bytes that the kernel counted on [`INTERFACE`], in and out.
    pub(crate) fn kernel_bytes(&self) -> Result<u64, BenchError> {
        let text = self.proc_net("dev")?;
        let columns = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(INTERFACE)?.strip_prefix(':'))
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        // The first column is bytes received, the ninth bytes sent.
        columns
            .and_then(|columns| {
                let column = |at: usize| columns.get(at)?.parse::<u64>().ok();
                column(0)?.checked_add(column(8)?)
            })
            .ok_or_else(|| content("/proc/net/dev", format!("expected the counters of {INTERFACE}")))
    }

    /// Packet sockets in the gateway that take every protocol.
    fn packet_sockets(&self) -> Result<usize, BenchError> {
        let every_protocol = |line: &&str| line.split_whitespace().nth(3) == Some("0003");
        Ok(self.proc_net("packet")?.lines().filter(every_protocol).count())
    }

    fn proc_net(&self, name: &str) -> Result<String, BenchError> {
        let path = std::path::PathBuf::from("/proc/thread-self/net").join(name);
        let read = self.site.run_in(Ns::Gateway, || std::fs::read_to_string(&path))?;
        Ok(read.map_err(workspace::file("read", &path))?)
    }
}
