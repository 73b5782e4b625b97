//! What a program with the right to make packets by hand says in others' names: on a link of where an address is and who is behind a
//! port of a switch, in a stream whose name somebody translates, in a lifeline's name to a neighbour who hands it back.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{BROKER_PORT, DEVICE_V4, GATEWAY_WAN_V4, INTERNET_V4, Ns, wait_until};
use edgewarden_lab::stage::StageOptions;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

use super::said::{CALLED_TAGGED, DECLARED, NOWHERE, Said, arp, endings, said};
use super::silence_inside::{
    ISOLATE, Resets, in_force_all_the_time, restriction, short_windows, silences_the_free_device_only,
};
use crate::common::gateway::{by_user, ip, run};
use crate::common::packet::{TCP, ip as packet, tcp};
use crate::common::programs::build;
use crate::common::{LIMIT, done, options, ready};
use crate::layers::frames::{ARP, IPV4, UNKNOWN};
use crate::layers::wire::{Ear, NOBODY, Port, ROOT, emit, packets_of};

/// Ethernet type of a tag.
const VLAN: u16 = 0x8100;
/// The account of some service.
const SERVICE: u32 = 101;
/// From one lie to the next: as often as an ordinary user may speak.
pub(super) const PACE: Duration = Duration::from_millis(500);
/// How long a frame may be under way behind another one.
const FLIGHT: Duration = Duration::from_millis(200);

/// Somebody who says on the uplink twice a second that the device is elsewhere.
fn begin_lying() -> Resets {
    let uplink = Port::of("gateway", "wan0");
    lying(uplink.sender_as(ARP, NOBODY))
}

/// The same by this socket, which sends on the uplink.
pub(super) fn lying(lies: OwnedFd) -> Resets {
    let lie = arp(Port::of("gateway", "wan0").mac(), GATEWAY_WAN_V4, NOWHERE);
    let last = Cell::new(None::<Instant>);
    Resets::begin(move |_| {
        let due = last.get().is_none_or(|at| at.elapsed() > PACE);
        if due {
            last.set(Some(Instant::now()));
            emit(&lies, &lie);
        }
        due
    })
}

lab_test!(who_says_that_the_device_is_elsewhere_ends_no_isolation, || {
    silences_the_free_device_only(&ready(short_windows()), begin_lying, &ISOLATE);
});

lab_test!(
    a_router_that_was_told_a_lie_before_the_order_hears_the_truth,
    || {
        let stage = ready(short_windows());
        // It believes for hours what it was told, as many routers do.
        let slow = "echo 14400000 > /proc/sys/net/ipv4/neigh/gw0/base_reachable_time_ms";
        run(&stage, Ns::Internet, "sh", &["-c", slow]);
        let believes = || {
            let ask = || {
                Command::new("ip")
                    .args(["neigh", "show", "198.51.100.2"])
                    .output()
            };
            let shown = stage.site.run_in(Ns::Internet, ask).unwrap().unwrap();
            String::from_utf8(shown.stdout)
                .unwrap()
                .contains("02:de:ad:00:00:01")
        };
        let attacker = begin_lying();
        wait_until(LIMIT, "control: it believes the lie", believes).unwrap();
        attacker.end();
        assert!(believes(), "control: also when nobody says it any more");
        done(&stage, &ISOLATE);
        wait_until(LIMIT / 6, "it hears the truth", || !believes()).unwrap();
        in_force_all_the_time(&stage, &ISOLATE);
    }
);

lab_test!(who_says_that_the_device_is_elsewhere_ends_no_restriction, || {
    let stage = ready(short_windows());
    let file = restriction(&stage);
    silences_the_free_device_only(&stage, begin_lying, &["quarantine", "--order", &file]);
});

/// Which of the frames that a user sends by the uplink are heard at its other end.
fn heard(ear: &Ear, user: u32, frames: &[Said]) -> BTreeSet<&'static str> {
    heard_by(ear, &Port::of("gateway", "wan0"), user, frames)
}

/// The same of those that are sent by some interface.
pub(super) fn heard_by(ear: &Ear, port: &Port, user: u32, frames: &[Said]) -> BTreeSet<&'static str> {
    heard_beside(ear, ("wan0", GATEWAY_WAN_V4), (port, user), frames)
}

/// The same of those that leave by this interface of the device, which has that address.
pub(super) fn heard_beside(
    ear: &Ear,
    (interface, address): (&str, IpAddr),
    (port, user): (&Port, u32),
    frames: &[Said],
) -> BTreeSet<&'static str> {
    let uplink = Port::of("gateway", interface);
    // What comes last: no rule cuts what root says of himself.
    let last = arp(uplink.mac(), address, uplink.mac());
    let last = [last, user.to_be_bytes().to_vec()].concat();
    ear.drain();
    for (name, bytes) in frames {
        let kind = match *name {
            DECLARED => UNKNOWN,
            CALLED_TAGGED => VLAN,
            _ => u16::from_be_bytes([bytes[12], bytes[13]]),
        };
        emit(&port.sender_as(kind, user), bytes);
    }
    let mut arrived = Vec::new();
    wait_until(LIMIT, "control: the last one", || {
        emit(&uplink.sender_as(ARP, ROOT), &last);
        std::thread::sleep(FLIGHT);
        arrived.extend(ear.drain());
        arrived.contains(&last)
    })
    .unwrap();
    // The kernel takes a tag off before anybody hears it.
    let untagged = |bytes: &Vec<u8>| match bytes[12..14] {
        [0x81, 0] => [&bytes[..12], &bytes[16..]].concat(),
        _ => bytes.clone(),
    };
    let came = frames
        .iter()
        .filter(|(_, bytes)| arrived.contains(&untagged(bytes)));
    came.map(|(name, _)| *name).collect()
}

lab_test!(nobody_but_root_says_on_the_link_where_others_are, || {
    let stage = ready(options());
    let ear = Ear::open("internet");
    let (lies, truths) = said();
    let endings = endings();
    let all = [lies.clone(), truths.clone(), endings.clone()].concat();
    let names =
        |frames: &[(&'static str, Vec<u8>)]| frames.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>();
    assert_eq!(heard(&ear, NOBODY, &all), names(&all), "control");
    let file = restriction(&stage);
    for order in [ISOLATE.as_slice(), &["quarantine", "--order", &file]] {
        done(&stage, order);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        for user in [NOBODY, SERVICE] {
            assert_eq!(heard(&ear, user, &lies), BTreeSet::new(), "{order:?} {user}");
        }
        assert_eq!(heard(&ear, NOBODY, &endings), BTreeSet::new(), "{order:?}");
        assert_eq!(heard(&ear, SERVICE, &truths), names(&truths), "{order:?}");
        done(&stage, &["release"]);
        stage.wait_phase(LIMIT, "released").unwrap();
    }
});

/// Sends a frame by an interface that is its own, as a virtual machine does, ten times a second.
const MACHINE: &str = r#"
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
int main(int count, char **words) {
    struct ifreq asked = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int tap = open(words[1], O_RDWR);
    strncpy(asked.ifr_name, "tap0", IFNAMSIZ - 1);
    if (ioctl(tap, TUNSETIFF, &asked)) { perror("tap"); return 1; }
    unsigned char frame[1500];
    int length = strlen(words[2]) / 2;
    for (int i = 0; i < length; i++) sscanf(words[2] + 2 * i, "%2hhx", &frame[i]);
    for (;;) { write(tap, frame, length); usleep(100000); }
}
"#;

lab_test!(
    a_virtual_machine_on_a_bridge_speaks_for_itself_in_a_restriction,
    || {
        let stage = ready(options());
        ip(
            &stage,
            "link add br0 type bridge
         link set br0 up
         link set lan0 master br0
         tuntap add dev tap0 mode tap user 65534
         link set tap0 master br0
         link set tap0 up",
        );
        let own = arp(NOWHERE, DEVICE_V4, NOWHERE);
        let digits: String = own.iter().map(|byte| format!("{byte:02x}")).collect();
        let program = build(&stage, "machine", MACHINE);
        // As distributions have it: everybody may open it, and only its owner have an interface.
        let tun = stage.site.directory().join("tun");
        let made = mknod(
            &tun,
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            makedev(10, 200),
        );
        if made.is_err() && std::env::var_os("CI").is_none() {
            println!("SKIPPED: no device can be made here: {made:?}");
            return;
        }
        let open = |path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        open(stage.site.directory(), 0o711);
        open(&tun, 0o666);
        let words = [tun.to_str().unwrap(), &digits];
        let _machine = by_user(&stage, "65534", &[], &program, &words);
        let ear = Ear::open("lan");
        let heard = || ear.drain().contains(&own);
        let control = wait_until(LIMIT / 6, "control: it is heard", heard);
        let log = std::fs::read_to_string(stage.site.directory().join("machine-65534.log"));
        control.unwrap_or_else(|error| panic!("{error}: {log:?}"));
        let file = restriction(&stage);
        done(&stage, &["quarantine", "--order", &file]);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        ear.drain();
        wait_until(FLIGHT * 10, "it is heard in a restriction", heard).unwrap();
    }
);

/// Resets in the name that a connection has on the uplink.
fn begin_resetting() -> Resets {
    Resets::by_packets(packets_of("gateway", NOBODY))
}

lab_test!(what_is_sent_in_a_translated_name_ends_no_isolation, || {
    let stage = ready(short_windows());
    let translation = "add table ip own; add chain ip own out { type nat hook postrouting priority 100; }; \
                       add rule ip own out oifname wan0 masquerade random";
    run(&stage, Ns::Gateway, "/usr/sbin/nft", &[translation]);
    silences_the_free_device_only(&stage, begin_resetting, &ISOLATE);
});

lab_test!(
    an_uplink_behind_a_pair_and_a_bridge_lives_in_a_restriction,
    || {
        let stage = ready(short_windows());
        ip(
            &stage,
            "link add br0 type bridge
         addr flush dev wan0
         link set wan0 master br0
         link set br0 up
         link add va type veth peer name vb
         link set vb master br0
         link set vb up
         link set va up
         addr add 198.51.100.2/24 dev va
         route add default via 198.51.100.1",
        );
        let heard = || stage.status()["cloud"]["lastRoundTrip"].clone();
        let before = heard();
        wait_until(LIMIT * 3, "control: it is heard that way", || heard() != before).unwrap();
        let file = restriction(&stage);
        in_force_all_the_time(&stage, &["quarantine", "--order", &file]);
    }
);

lab_test!(
    nobody_hands_a_neighbour_what_seems_to_come_from_a_lifeline,
    || {
        let stage = ready(options());
        let ear = Ear::open("lan");
        let port = Port::of("gateway", "lan0");
        let answer = |from: IpAddr, at: u16| {
            let segment = tcp(at, 50_000, 0x04, b"reflected");
            let header = [Port::of("lan", "eth0").mac().as_slice(), &port.mac(), &[8, 0]].concat();
            [header, packet(from, GATEWAY_WAN_V4, TCP, 0, &segment)].concat()
        };
        let arrives = |frame: &[u8]| {
            ear.drain();
            let mut heard = Vec::new();
            let sends = port.sender_as(IPV4, NOBODY);
            for _ in 0..5 {
                emit(&sends, frame);
                std::thread::sleep(FLIGHT / 2);
                heard.extend(ear.drain());
            }
            heard.iter().any(|heard| heard == frame)
        };
        let lie = answer(INTERNET_V4, BROKER_PORT);
        assert!(arrives(&lie), "control");
        let file = restriction(&stage);
        done(&stage, &["quarantine", "--order", &file]);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert!(!arrives(&lie));
        assert!(
            arrives(&answer(DEVICE_V4, BROKER_PORT)),
            "control: of somebody else"
        );
    }
);

lab_test!(
    a_stream_that_the_owner_has_allowed_himself_is_nobody_elses,
    || {
        let allowance = json!({"remote": "198.51.100.1/32", "protocol": "tcp", "ports": [BROKER_PORT], "direction": "out"});
        let stage = ready(StageOptions {
            configuration: json!({"isolation": {
                "lifelines": {"dataEndpoint": false},
                "allow": [allowance],
            }}),
            ..options()
        });
        let ear = Ear::open("internet");
        // How many resets arrive while root has connections to the broker, and whether anybody has sent one.
        let resets = || {
            ear.drain();
            let attacker = begin_resetting();
            for _ in 0..10 {
                let connects = stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, BROKER_PORT);
                assert!(connects.unwrap(), "control: allowed");
                std::thread::sleep(FLIGHT);
            }
            assert!(attacker.end() > 0, "control");
            let heard = ear.drain();
            let is_reset = |frame: &&Vec<u8>| frame.len() > 47 && frame[23] == TCP && frame[47] == 0x04;
            heard.iter().filter(is_reset).count()
        };
        assert!(resets() > 0, "control: they arrive");
        done(&stage, &ISOLATE);
        let cut = |s: &serde_json::Value| s["enforcement"]["posture"] == "isolate";
        stage.wait_status(LIMIT, "it is cut off", cut).unwrap();
        assert_eq!(resets(), 0);
    }
);
