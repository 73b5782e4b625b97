//! Seats at the queues of an interface: one for each queue, given back when they are closed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "makes the interfaces with ip")]

use std::process::Command;
use std::time::Duration;

use edgewarden_lab::site::{in_lab, wait_until};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use packet_ring::QueueSeat;

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
}

#[test]
fn a_queue_has_one_seat_and_what_was_refused_can_try_another() {
    in_lab(
        "a_queue_has_one_seat_and_what_was_refused_can_try_another",
        || {
            ip("link add seat0 numtxqueues 2 numrxqueues 2 type veth peer name seat1");
            let interface = if_nametoindex("seat0").unwrap();
            let [first, second, third] = [(); 3].map(|()| QueueSeat::prepare().unwrap());
            assert_eq!(first.take(interface, 0), Ok(()));
            assert_eq!(second.take(interface, 0), Err(Errno::EBUSY));
            assert_eq!(second.take(interface, 0), Err(Errno::EBUSY), "and again");
            assert_eq!(second.take(interface, 2), Err(Errno::EINVAL), "there are two");
            assert_eq!(second.take(interface + 100, 0), Err(Errno::ENODEV));
            assert_eq!(second.take(interface, 1), Ok(()), "after all these");
            assert_eq!(third.take(interface, 1), Err(Errno::EBUSY));
            drop(second);
            // The kernel gives it back a moment after the descriptor is closed.
            let given_back = || third.take(interface, 1) == Ok(());
            wait_until(Duration::from_secs(10), "it was given back", given_back).unwrap();
            ip("link del seat0");
        },
    );
}
