//! Look-ups of lifelines' names when somebody silences the resolver, speaks for it from another link, or has names asked for
//! without end; and answers and settings that are more than is read at first sight.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, GATEWAY_WAN_V4, INTERNET_V4, INTERNET_V6, Ns, Running, ask_name_servers,
    wait_until,
};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::socket::{MsgFlags, recv};
use serde_json::{Value, json};

use super::names::{DNS, EFFECT, attacker, becomes_lifeline, message, slow_down};
use crate::common::agent::{restart, restart_behind};
use crate::common::gateway::{ip, run};
use crate::common::packet::{ICMP, UDP, ip as packet, udp};
use crate::common::{LIMIT, connected_and_released, done, isolate, options, ready};
use crate::layers::wire::{Port, emit};
use crate::orders::lifelines::{ENDPOINT, by_name, planned};

/// From the forged answer to the refusal of the asker's port: the C library has its answer by then.
const REFUSED_AFTER: Duration = Duration::from_millis(20);
/// Ethernet, IPv4 without options, UDP.
const HEADERS: usize = 42;

/// A question that leaves.
struct Seen {
    from: u16,
    /// The IP header and eight bytes, as an ICMP error quotes them.
    quoted: Vec<u8>,
    question: Vec<u8>,
}

fn questions(hears: &OwnedFd) -> Vec<Seen> {
    let (mut buffer, mut all) = ([0; 2_048], Vec::new());
    while let Ok(length) = recv(hears.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
        let frame = &buffer[..length];
        let is_question = length > HEADERS + 12 && frame[12..14] == [8, 0] && frame[23] == UDP;
        if is_question && frame[36..38] == [0, 53] {
            all.push(Seen {
                from: u16::from_be_bytes([frame[34], frame[35]]),
                quoted: frame[14..HEADERS].to_vec(),
                question: frame[HEADERS..].to_vec(),
            });
        }
    }
    all
}

/// What an attacker would have it answered: his address, and no other kind of address.
fn lie(seen: &Seen) -> Option<Vec<u8>> {
    let plain = message(ENDPOINT, None);
    let (name, kind) = (&plain[12..plain.len() - 4], plain.len() - 4);
    if !seen.question.get(12..)?.starts_with(name) {
        return None;
    }
    let mut lie = if seen.question.get(kind..kind + 2)? == [0, 1] {
        message(ENDPOINT, Some(attacker()))
    } else {
        let mut none = seen.question.get(..kind + 4)?.to_vec();
        none[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
        none
    };
    lie[..2].copy_from_slice(&seen.question[..2]);
    Some(lie)
}

/// Port unreachable.
fn refusal(quoted: &[u8]) -> Vec<u8> {
    let mut message = [&[3, 3, 0, 0, 0, 0, 0, 0], quoted].concat();
    let sum = message.chunks_exact(2).fold(0_u16, |sum, pair| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
        sum + u16::from(carry)
    });
    message[2..4].copy_from_slice(&(!sum).to_be_bytes());
    message
}

/// On loopback answers every question for the name that leaves, and then tells whoever asked that nobody is there.
fn silence(stop: &AtomicBool) -> usize {
    let hears = Port::of("gateway", "wan0").sender(0x0003);
    let lies = Port::of("gateway", "lo").sender(0x0800);
    let send = |datagram: Vec<u8>| emit(&lies, &[[0_u8; 12].as_slice(), &[8, 0], &datagram].concat());
    let (mut waiting, mut told): (Vec<(Instant, Vec<u8>)>, usize) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        for seen in questions(&hears) {
            let Some(lie) = lie(&seen) else { continue };
            let answer = udp(DNS, seen.from, &lie);
            send(packet(INTERNET_V4, GATEWAY_WAN_V4, UDP, 0, &answer));
            waiting.push((Instant::now() + REFUSED_AFTER, refusal(&seen.quoted)));
            told += 1;
        }
        let due = waiting
            .iter()
            .take_while(|(when, _)| *when <= Instant::now())
            .count();
        for (_, refusal) in waiting.drain(..due) {
            send(packet(INTERNET_V4, GATEWAY_WAN_V4, ICMP, 0, &refusal));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    told
}

/// What a program of the gateway's is told by the C library.
fn library_says(stage: &Stage) -> BTreeSet<IpAddr> {
    let ask = || (ENDPOINT, 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let found = stage.site.run_in(Ns::Gateway, ask).unwrap();
    found.unwrap_or_default().iter().map(SocketAddr::ip).collect()
}

/// Has the name asked for, as any program can.
fn hurry(stage: &Stage) {
    let ask = || {
        let program = UdpSocket::bind("0.0.0.0:0").unwrap();
        let to = SocketAddr::new(INTERNET_V4, DNS);
        program.send_to(&message(ENDPOINT, None), to).unwrap();
    };
    stage.site.run_in(Ns::Gateway, ask).unwrap();
}

/// Runs `attack` beside an agent that starts, and one that is isolated; whether the C library, and a lifeline, took the forgery.
fn under(stage: &mut Stage, resolver: u32, attack: impl Fn(&AtomicBool) -> usize + Sync) -> [bool; 3] {
    let (stop, forged) = (AtomicBool::new(false), ATTACKER_V4.to_string());
    let (told, taken) = std::thread::scope(|scope| {
        scope.spawn(|| slow_down(resolver, &stop));
        let attacker = scope.spawn(|| attack(&stop));
        let believed = wait_until(LIMIT / 3, "control: the C library is told", || {
            library_says(stage).contains(&ATTACKER_V4)
        });
        // An agent that starts looks every name up.
        restart(stage);
        connected_and_released(stage);
        let free = becomes_lifeline(stage, |address| address == forged);
        isolate(stage);
        for _ in 0..3 {
            hurry(stage);
            std::thread::sleep(EFFECT);
        }
        let cut = becomes_lifeline(stage, |address| address == forged);
        stop.store(true, Ordering::Relaxed);
        (attacker.join().unwrap(), [believed.is_ok(), free, cut])
    });
    assert!(told > 3, "control: {told} questions were answered");
    taken
}

lab_test!(
    who_silences_our_own_question_and_answers_the_c_library_names_no_lifeline,
    || {
        let (mut stage, servers) = by_name(json!({}));
        let taken = under(&mut stage, servers[0].pid(), silence);
        assert_eq!(taken, [true, false, false], "{:?}", planned(&stage));
        assert!(planned(&stage).contains(&(INTERNET_V4.to_string(), 8883)));
    }
);

lab_test!(
    a_neighbour_on_another_link_who_knows_our_question_names_no_lifeline,
    || {
        let (mut stage, servers) = by_name(json!({}));
        // A LAN host claims the resolver's address; somebody on the device tells it port and number.
        let claim = format!("addr add {INTERNET_V4}/32 dev eth0");
        run(&stage, Ns::Lan, "ip", &claim.split(' ').collect::<Vec<_>>());
        ip(&stage, "neigh flush all");
        let lies = stage
            .site
            .run_in(Ns::Lan, || UdpSocket::bind((INTERNET_V4, DNS)).unwrap());
        let lies = lies.unwrap();
        let answer = |stop: &AtomicBool| {
            let hears = Port::of("gateway", "wan0").sender(0x0003);
            let mut told = 0;
            while !stop.load(Ordering::Relaxed) {
                for seen in questions(&hears) {
                    let Some(lie) = lie(&seen) else { continue };
                    told += usize::from(lies.send_to(&lie, (GATEWAY_WAN_V4, seen.from)).is_ok());
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            told
        };
        let taken = under(&mut stage, servers[0].pid(), answer);
        assert_eq!(taken, [true, false, false], "{:?}", planned(&stage));
        assert!(planned(&stage).contains(&(INTERNET_V4.to_string(), 8883)));
    }
);

/// A device whose `resolv.conf` names these alone, while `stub` answers for the endpoint on it: with an address of the broker's and
/// one where the nucleus is not connected.
fn with_stub(named: &[IpAddr], stub: IpAddr) -> (Stage, [Running; 2]) {
    ask_name_servers(named).unwrap();
    let mut stage = Stage::start(StageOptions {
        broker: format!("{ENDPOINT}:8883"),
        online: false,
        ..options()
    })
    .unwrap();
    stage
        .site
        .set_names(&json!({ENDPOINT: [INTERNET_V4.to_string(), ATTACKER_V4.to_string()]}))
        .unwrap();
    let server = stage.site.name_server(Ns::Internet, INTERNET_V4).unwrap();
    let stub = stage.site.name_stub(Ns::Gateway, stub, INTERNET_V4).unwrap();
    stage.go_online().unwrap();
    stage.start_agent().unwrap();
    connected_and_released(&stage);
    (stage, [server, stub])
}

lab_test!(
    a_device_whose_resolver_is_a_stub_alone_finds_its_lifelines,
    || {
        let stub = IpAddr::from([127, 0, 0, 53]);
        let (stage, _servers) = with_stub(&[stub], stub);
        let other = (ATTACKER_V4.to_string(), 443);
        wait_until(LIMIT, "the stub's word counts", || {
            planned(&stage).contains(&other)
        })
        .unwrap();
    }
);

lab_test!(
    who_answers_on_a_device_that_names_no_resolver_names_no_lifeline,
    || {
        // As at boot, before there is a lease: the C library asks loopback, where anybody may answer.
        let (stage, _servers) = with_stub(&[], IpAddr::from([127, 0, 0, 1]));
        assert!(library_says(&stage).contains(&ATTACKER_V4), "control: it is told");
        let told = |s: &Value| {
            let unresolved = s["lifelines"]["unresolved"].to_string();
            unresolved.contains(&format!("{ENDPOINT} did not resolve"))
        };
        stage.wait_status(LIMIT, "it does not resolve", told).unwrap();
        isolate(&stage);
        // It is looked up again after five.
        std::thread::sleep(2 * EFFECT);
        let other = (ATTACKER_V4.to_string(), 443);
        assert!(!planned(&stage).contains(&other), "{:?}", planned(&stage));
    }
);

lab_test!(a_resolver_that_moves_to_another_link_is_asked_there, || {
    let (stage, mut servers) = by_name(json!({}));
    isolate(&stage);
    // From now on a LAN host has the resolver's address, and the route leads there.
    let moved = ATTACKER_V4.to_string();
    for server in &mut servers {
        server.kill9().unwrap();
    }
    let claim = format!("addr add {INTERNET_V4}/32 dev eth0");
    run(&stage, Ns::Lan, "ip", &claim.split(' ').collect::<Vec<_>>());
    ip(
        &stage,
        &format!("route add {INTERNET_V4}/32 via 192.0.2.2 dev lan0"),
    );
    stage.site.set_names(&json!({ENDPOINT: [moved]})).unwrap();
    let _server = stage.site.name_server(Ns::Lan, INTERNET_V4).unwrap();
    let found = wait_until(LIMIT, "the new address is a lifeline", || {
        hurry(&stage);
        planned(&stage).contains(&(moved.clone(), 8883))
    });
    assert!(found.is_ok(), "{}", stage.status()["lifelines"]);
});

lab_test!(a_large_answer_is_taken_whole_in_both_families, || {
    let (mut stage, _servers) = by_name(json!({}));
    let mut all: Vec<IpAddr> = (100..116)
        .map(|last| IpAddr::from([198, 51, 100, last]))
        .collect();
    all.extend([INTERNET_V4, INTERNET_V6, ATTACKER_V6]);
    let texts: Vec<String> = all.iter().map(IpAddr::to_string).collect();
    stage.site.set_names(&json!({ ENDPOINT: texts })).unwrap();
    restart(&mut stage);
    connected_and_released(&stage);
    wait_until(LIMIT, "all nineteen are lifelines", || {
        let planned = planned(&stage);
        texts.iter().all(|one| planned.contains(&(one.clone(), 8883)))
    })
    .unwrap();
});

/// Questions of ten seconds that leave.
fn asked_in_ten_seconds(flood: impl Fn()) -> usize {
    let hears = Port::of("gateway", "wan0").sender(0x0003);
    let (begin, mut asked) = (Instant::now(), 0);
    questions(&hears);
    while begin.elapsed() < Duration::from_secs(10) {
        flood();
        std::thread::sleep(Duration::from_millis(50));
        asked += questions(&hears).len();
    }
    asked
}

lab_test!(
    who_asks_on_loopback_has_few_questions_asked_of_the_resolver,
    || {
        let (stage, _servers) = by_name(json!({}));
        isolate(&stage);
        let s3 = "s3.eu-central-1.amazonaws.com";
        let named = wait_until(LIMIT, "control: the Region is known", || {
            stage.status()["lifelines"]["unresolved"].to_string().contains(s3)
        });
        named.unwrap();
        std::thread::sleep(EFFECT);
        let quiet = asked_in_ten_seconds(|| {});
        let program = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let program = stage.site.run_in(Ns::Gateway, program).unwrap();
        let flood = || {
            let below = (0..40).map(|n| format!("b{n}.{s3}"));
            for name in below.chain([ENDPOINT, s3, "s3.amazonaws.com"].map(str::to_owned)) {
                // Nobody is there.
                let _ = program.send_to(&message(&name, None), "127.0.0.9:53");
            }
        };
        let (first, then) = (asked_in_ten_seconds(flood), asked_in_ten_seconds(flood));
        println!("questions in ten seconds: {quiet}, {first} at first, {then} then");
        // One name of the control channel's and one other in two seconds, of both kinds.
        assert!(first > quiet, "control: some are hurried");
        assert!(then <= quiet + 30, "{then} questions instead of {quiet}");
    }
);

/// dnsmasq's settings where others than its own files name those whom it asks.
const DNSMASQ: &str = "mount -t tmpfs t /mnt && mkdir -p /mnt/up/dnsmasq.d /mnt/work && \
    echo resolv-file=/etc/upstream > /mnt/up/dnsmasq.conf && echo nameserver 203.0.113.51 > /mnt/up/upstream && \
    printf 'no-resolv\\nserver=203.0.113.52\\n' > /mnt/up/dnsmasq.d/no-resolv.conf && \
    echo server=203.0.113.53 > /mnt/up/dnsmasq.d/control.conf && \
    mount -t overlay o -o lowerdir=/etc,upperdir=/mnt/up,workdir=/mnt/work /etc";

lab_test!(whom_dnsmasq_asks_is_found_whatever_its_files_are_called, || {
    let mut stage = ready(options());
    restart_behind(&mut stage, DNSMASQ);
    connected_and_released(&stage);
    let has = |address: &str| planned(&stage).contains(&(address.to_owned(), 53));
    wait_until(LIMIT, "control: a plain file is read", || has("203.0.113.53")).unwrap();
    let others = ["203.0.113.51", "203.0.113.52"].map(has);
    assert_eq!(others, [true, true], "{:?}", planned(&stage));
});

lab_test!(the_history_tells_every_lifeline_of_many, || {
    let servers: Vec<String> = (1..=60).map(|last| format!("203.0.113.{last}")).collect();
    let resolvers: Vec<IpAddr> = (101..=120)
        .map(|last| IpAddr::from([203, 0, 113, last]))
        .collect();
    ask_name_servers(&resolvers).unwrap();
    let stage = ready(StageOptions {
        configuration: json!({"isolation": {"timeServers": servers}}),
        ..options()
    });
    isolate(&stage);
    let all: BTreeSet<String> = planned(&stage).into_iter().map(|(address, _)| address).collect();
    assert!(all.len() > 64, "control: more than one turn tells, {}", all.len());
    let directory = stage.state_directory();
    let missing = || {
        let history = done(&stage, &["history", "--state-dir", directory.to_str().unwrap()]);
        let missing = all.iter().filter(|one| !history.contains(&format!(" {one} ")));
        missing.cloned().collect::<Vec<_>>()
    };
    let some = || missing().len() < all.len();
    wait_until(LIMIT, "control: the history tells some", some).unwrap();
    // The next turn is a minute later.
    let whole = wait_until(3 * LIMIT, "the history tells all", || missing().is_empty());
    whole.unwrap_or_else(|_| panic!("never told: {:?}", missing()));
});
