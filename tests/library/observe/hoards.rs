//! Very many open files of others: closing an interval ends all the same, and names nobody wrongly.

use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use edgewarden::observe::interval::UnattributedReason;
use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Running, SpawnSpec, lab_program};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::time::{ClockId, clock_gettime};

use super::measure::{begin, start, upstream};
use super::site::{PORT, alone_in_own_namespace, now, wait_until};

/// Processes that hoard, and files of each: an ordinary user may have as many.
const HOARDS: usize = 40;
const FILES: &str = "10000";
/// Open files at least, for the test to prove anything.
const LEAST: u64 = 100_000;
/// Closing may take so long on the processor: the walk's own limit, and as much again for everything else.
const LIMIT: Duration = Duration::from_millis(400);

fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn hoard() -> Vec<Running> {
    let one = |number: usize| {
        let log = std::env::temp_dir().join(format!("hoard-{}-{number}.log", std::process::id()));
        let mut spec = SpawnSpec::new(lab_program().unwrap(), log);
        spec.args = ["hoard", "--files", FILES].map(Into::into).into();
        Running::start_here(spec).unwrap()
    };
    let mut all: Vec<Running> = (0..HOARDS).map(one).collect();
    let mut files = 0;
    for hoard in &mut all {
        let said = hoard
            .wait_event(Duration::from_secs(30), |event| event["event"] == "hoarding")
            .unwrap();
        files += said["files"].as_u64().unwrap();
        let _log = std::fs::remove_file(hoard.log());
    }
    println!("{HOARDS} processes with {files} open files");
    assert!(files > LEAST, "control: {files} files");
    all
}

/// A socket that lives and that no process holds: it is on its way from us to ourselves.
fn held_by_nobody(address: &str) -> (UnixDatagram, UnixDatagram) {
    let socket = UdpSocket::bind((address, PORT)).unwrap();
    let (from, to) = UnixDatagram::pair().unwrap();
    let descriptors = [socket.as_raw_fd()];
    sendmsg::<()>(
        from.as_raw_fd(),
        &[IoSlice::new(b"x")],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    (from, to)
}

lab_test!(
    very_many_open_files_of_others_do_not_hold_up_the_close_of_an_interval,
    alone_in_own_namespace,
    || {
        let peer = upstream();
        let _away = held_by_nobody("192.0.2.1");
        let observer = start(&["up0"]);
        begin(&observer);
        let close = |what: &str| {
            let remote = format!("192.0.2.1:{PORT}");
            let words = [
                "flood", "--flows", "1", "--rate", "500", "--millis", "200", "--remote", &remote,
            ];
            peer.run(lab_program().unwrap().to_str().unwrap(), &words);
            let nobody = |counted: &edgewarden::observe::Interval| {
                let reasons = &counted.unattributed_by_reason;
                reasons
                    .iter()
                    .any(|item| item.reason == UnattributedReason::NoProcess)
            };
            wait_until("traffic that is nobody's", || nobody(&observer.peek(now())));
            let before = spent();
            let interval = observer.take_interval(now());
            let took = spent().saturating_sub(before);
            println!("{what}: closing took {took:?} of processor time");
            assert!(nobody(&interval), "{:?}", interval.unattributed_by_reason);
            assert!(interval.processes.is_empty(), "{:?}", interval.processes);
            took
        };
        let few = close("without hoards");
        assert!(few < LIMIT, "control: {few:?}");
        let _hoards = hoard();
        for _ in 0..3 {
            let many = close("with hoards");
            assert!(many < LIMIT, "{many:?}");
        }
    }
);
