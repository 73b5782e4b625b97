//! The ring and pnet's receiver count the same, and neither makes an interface promiscuous unless asked. A thread that fails
//! is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edgewarden::agent::observer::ObserveSettings;
use edgewarden::host::capture::Receiver;
use edgewarden::observe::flow::IpProtocol;
use edgewarden_lab::lab_test;

use super::UDP4;
use super::measure::{begin, check_conservation, close, neighbour, of, remote, start_with};
use super::site::{Program, UDP_DATAGRAMS, UDP_PAYLOAD, in_own_namespace, now, run, wait_until};

/// How many ask the kernel for frames of other hardware on this interface.
fn promiscuity(interface: &str) -> u32 {
    let output = std::process::Command::new("ip")
        .args(["-details", "link", "show", "dev", interface])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != "promiscuity");
    words.nth(1).unwrap().parse().unwrap()
}

lab_test!(
    pnets_receiver_counts_what_the_ring_counts,
    in_own_namespace,
    || {
        let peer = neighbour("up0");
        let _sink = Program::sink(Some(&peer));
        for receiver in [Receiver::Ring, Receiver::Pnet] {
            let mut sender = Program::sender(None, &["192.0.2.2"]);
            let settings = ObserveSettings {
                receiver,
                ..ObserveSettings::all_interfaces(now())
            };
            let observer = start_with(settings, &["up0"]);
            begin(&observer);
            sender.run();
            let interval = close(&observer);
            check_conservation(&interval);
            assert_eq!(
                remote(of(&interval, sender.pid()), IpProtocol::Udp, "192.0.2.2").bytes_out,
                UDP_DATAGRAMS * (UDP_PAYLOAD + UDP4),
                "{receiver:?}"
            );
            let expected = (receiver == Receiver::Ring).then_some(0);
            assert_eq!(interval.lost_frames, expected, "{receiver:?}");
        }
    }
);

lab_test!(promiscuous_only_when_asked, in_own_namespace, || {
    let _peer = neighbour("up0");
    for receiver in [Receiver::Ring, Receiver::Pnet] {
        for promiscuous in [false, true] {
            let settings = ObserveSettings {
                receiver,
                promiscuous,
                ..ObserveSettings::all_interfaces(now())
            };
            let observer = start_with(settings, &["up0"]);
            assert_eq!(promiscuity("up0"), u32::from(promiscuous), "{receiver:?}");
            drop(observer);
            wait_until("promiscuity ends with capture", || promiscuity("up0") == 0);
        }
    }
});

lab_test!(a_capture_thread_that_fails_is_told, in_own_namespace, || {
    let _peer = neighbour("up0");
    let fails = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&fails);
    let settings = ObserveSettings {
        wanted: Arc::new(move |_| {
            assert!(!shared.load(Ordering::Relaxed), "on purpose");
            true
        }),
        ..ObserveSettings::all_interfaces(now())
    };
    let observer = start_with(settings, &["up0"]);
    fails.store(true, Ordering::Relaxed);
    // It looks at the interfaces when one changes.
    run("ip", &["link", "set", "up0", "mtu", "1400"]);
    let told = |fault: &String| fault.contains("the capture thread has failed");
    wait_until("the fault is told", || {
        observer.status().faults().iter().any(told)
    });
    assert!(observer.status().interfaces.is_empty(), "nothing is claimed");
});
