//! How these tests measure: begin with quiet links, close when capture has counted what the kernel has, and check what
//! always holds.

use std::time::Duration;

use edgewarden::agent::observer::{ObserveSettings, Observer};
use edgewarden::host::capture::Receiver;
use edgewarden::observe::Counters;
use edgewarden::observe::flow::IpProtocol;
use edgewarden::observe::interval::{Interval, ProcessTraffic};

use super::site::{Neighbour, forward, now, wait_for, wait_until};

/// Links are quiet when nothing was counted for this long; the kernel's own IPv6 messages are seconds apart.
const QUIET: Duration = Duration::from_millis(300);

/// The ring on every interface.
pub(super) fn start(interfaces: &[&str]) -> Observer {
    start_with(ObserveSettings::all_interfaces(now()), interfaces)
}

/// Waits until the receiver that was asked for reads these interfaces.
pub(super) fn start_with(settings: ObserveSettings, interfaces: &[&str]) -> Observer {
    let receiver: Receiver = settings.receiver;
    let observer = Observer::start(settings);
    wait_until("capture runs", || {
        let status = observer.status();
        assert_eq!(status.faults(), Vec::<String>::new());
        status.receiver == Some(receiver)
            && interfaces
                .iter()
                .all(|name| status.interfaces.contains_key(*name))
    });
    observer
}

/// Begins an interval in which the kernel and capture count the same: nothing is under way, and what the kernel
/// counted before capture was open is behind us.
pub(super) fn begin(observer: &Observer) {
    let mut before = observer.peek(now()).interfaces;
    wait_until("the links are quiet", || {
        std::thread::sleep(QUIET);
        let interfaces = observer.peek(now()).interfaces;
        std::mem::replace(&mut before, interfaces.clone()) == interfaces
    });
    observer.take_interval(now());
}

/// Waits until capture has counted what the kernel has, to the byte, and closes the interval.
pub(super) fn close(observer: &Observer) -> Interval {
    close_when(observer, |kernel, captured| kernel == captured)
}

/// As [`close`], by packets: the kernel's counters of bridges and VLANs leave out the link header of what they receive.
pub(super) fn close_stacked(observer: &Observer) -> Interval {
    close_when(observer, |kernel, captured| {
        (kernel.packets_in, kernel.packets_out) == (captured.packets_in, captured.packets_out)
    })
}

fn close_when(observer: &Observer, same: impl Fn(Counters, Counters) -> bool) -> Interval {
    let mut interfaces = Vec::new();
    let caught_up = wait_for(|| {
        interfaces = observer.peek(now()).interfaces;
        interfaces
            .iter()
            .all(|item| item.kernel.is_some_and(|kernel| same(kernel, item.captured)))
    });
    assert!(
        caught_up,
        "capture did not count what the kernel counted: {interfaces:#?}"
    );
    observer.take_interval(now())
}

pub(super) fn check_conservation(interval: &Interval) {
    let mut sum: Counters = interval.processes.iter().map(|item| item.counters).sum();
    sum += interval.unattributed;
    sum += interval.forwarded;
    sum += interval.other;
    sum += interval.stacked;
    assert_eq!(sum, interval.captured_total);
    let interfaces: Counters = interval.interfaces.iter().map(|item| item.captured).sum();
    assert_eq!(interfaces, interval.captured_total);
}

/// A long-lived process gets at least 99.9 % of what it alone causes.
pub(super) fn check_share(process: &ProcessTraffic, interval: &Interval) {
    let (own, all) = (process.counters.bytes(), interval.captured_total.bytes());
    let rest = &interval.unattributed_by_reason;
    assert!(
        own * 1_000 >= all * 999,
        "{own} of {all} bytes attributed, the rest is {rest:?}"
    );
}

/// A neighbour on 192.0.2.0/24 and 2001:db8::/64; we are .1, it is .2.
pub(super) fn neighbour(interface: &str) -> Neighbour {
    Neighbour::new(
        interface,
        "192.0.2.1/24",
        "2001:db8::1/64",
        "192.0.2.2/24",
        "2001:db8::2/64",
    )
}

/// A neighbour towards the internet on `up0`; we are .1, it is .2.
pub(super) fn upstream() -> Neighbour {
    Neighbour::new(
        "up0",
        "192.0.2.1/24",
        "2001:db8:1::1/64",
        "192.0.2.2/24",
        "2001:db8:1::2/64",
    )
}

/// A device on `down0` whose addresses nobody upstream knows.
pub(super) fn downstream() -> Neighbour {
    let down = Neighbour::new(
        "down0",
        "198.51.100.1/24",
        "2001:db8:2::1/64",
        "198.51.100.2/24",
        "2001:db8:2::2/64",
    );
    down.default_route("198.51.100.1", "2001:db8:2::1");
    forward();
    down
}

pub(super) fn of(interval: &Interval, pid: u32) -> &ProcessTraffic {
    let found = interval.processes.iter().find(|item| item.identity.pid == pid);
    found.unwrap_or_else(|| panic!("no traffic of process {pid} in {interval:#?}"))
}

pub(super) fn remote(process: &ProcessTraffic, protocol: IpProtocol, address: &str) -> Counters {
    let address: std::net::IpAddr = address.parse().unwrap();
    process
        .remotes
        .iter()
        .filter(|item| item.protocol == protocol && item.address == address)
        .map(|item| item.counters)
        .sum()
}
