//! What others say of the lifelines' names: forged questions and answers on loopback, and from a neighbour on the LAN.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, GATEWAY_WAN_V4, INTERNET_V4, Ns, wait_until};
use edgewarden_lab::stage::Stage;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::agent::restart;
use crate::common::gateway::{ip, run};
use crate::common::packet::{UDP, ip as packet, udp};
use crate::common::{LIMIT, connected_and_released, done, isolate};
use crate::layers::wire::{Port, emit};
use crate::orders::lifelines::{ENDPOINT, by_name, planned};

pub(super) const DNS: u16 = 53;
const HTTPS: u16 = 443;
/// The forged client's port.
const ASKER: u16 = 4_000;
/// Forged addresses beside the attacker's own: more than are kept for a lifeline.
const FORGERIES: u8 = 190;
/// How long what was seen may take to the plan: many times what it took when it was believed.
pub(super) const EFFECT: Duration = Duration::from_secs(3);

/// A question for a name, or an answer to it.
pub(super) fn message(name: &str, answer: Option<Ipv4Addr>) -> Vec<u8> {
    let mut data = vec![0x12, 0x34];
    data.extend(match answer {
        None => [1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        Some(_) => [0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
    });
    for label in name.split('.') {
        data.push(u8::try_from(label.len()).unwrap());
        data.extend(label.as_bytes());
    }
    data.extend([0, 0, 1, 0, 1]);
    if let Some(address) = answer {
        data.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        data.extend(address.octets());
    }
    data
}

/// Sends an IP packet as a frame on lo, as whoever has `CAP_NET_RAW` can.
fn on_loopback(bytes: &[u8]) {
    let frame = [[0_u8; 12].as_slice(), &[8, 0], bytes].concat();
    emit(&Port::of("gateway", "lo").sender(0x0800), &frame);
}

/// A program asks for the name and is answered, both forged.
fn forge(name: &str, address: Ipv4Addr) {
    let (client, resolver) = (GATEWAY_WAN_V4, INTERNET_V4);
    let question = packet(client, resolver, UDP, 0, &udp(ASKER, DNS, &message(name, None)));
    let answer = udp(DNS, ASKER, &message(name, Some(address)));
    let answer = packet(resolver, client, UDP, 0, &answer);
    on_loopback(&question);
    std::thread::sleep(Duration::from_millis(5));
    on_loopback(&answer);
}

pub(super) fn attacker() -> Ipv4Addr {
    match ATTACKER_V4 {
        IpAddr::V4(attacker) => attacker,
        IpAddr::V6(_) => panic!("it is an IPv4 address"),
    }
}

/// Whether the attacker's address, or another one that was forged, is a lifeline within [`EFFECT`].
pub(super) fn becomes_lifeline(stage: &Stage, is_forged: impl Fn(&str) -> bool) -> bool {
    let seen = || planned(stage).iter().any(|(address, _)| is_forged(address));
    wait_until(EFFECT, "a forged address is a lifeline", seen).is_ok()
}

lab_test!(forged_answers_on_loopback_name_no_lifeline, || {
    let (stage, _servers) = by_name(json!({}));
    let _sink = stage.site.echo_server(Ns::Internet, HTTPS).unwrap();
    let reaches = |address, port| stage.site.tcp_connects(Ns::Gateway, address, port).unwrap();
    assert!(reaches(ATTACKER_V4, HTTPS), "control: free");
    isolate(&stage);
    assert!(!reaches(ATTACKER_V4, HTTPS), "control: cut");
    for last in 1..=FORGERIES {
        forge(ENDPOINT, Ipv4Addr::new(203, 0, 113, last.max(2)));
    }
    forge(ENDPOINT, attacker());
    let forged = becomes_lifeline(&stage, |address| address.starts_with("203.0.113."));
    assert!(!forged, "{:?}", planned(&stage));
    assert!(!reaches(ATTACKER_V4, HTTPS), "bytes leave to a forged address");
    let own = (INTERNET_V4.to_string(), 8883);
    assert!(planned(&stage).contains(&own), "the true one was pushed out");
    assert!(reaches(INTERNET_V4, 8883), "the lifeline lives");
    let status = stage.status();
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
});

lab_test!(every_lifeline_address_says_who_names_it, || {
    let servers =
        json!({"isolation": {"timeServers": [INTERNET_V4.to_string()], "lifelines": {"logs": true}}});
    let (stage, _servers) = by_name(servers);
    isolate(&stage);
    let looked_up = format!("look-up of {ENDPOINT}");
    let said = |list: &Value, address: &str, port: u64| {
        let mut list = list.as_array().into_iter().flatten();
        let found = list.find(|one| one["address"] == address && one["port"] == port);
        let by = found.map(|one| one["origin"]["by"].clone());
        (by, found.map(|one| one["used"].clone()))
    };
    let own = INTERNET_V4.to_string();
    let expected = [
        (8883, json!("lookUp"), true),
        (53, json!("settings"), false),
        (123, json!("configuration"), false),
    ];
    let fits = |list: &Value| {
        let mut expected = expected.iter();
        expected.all(|(port, by, used)| said(list, &own, *port) == (Some(by.clone()), Some(json!(used))))
    };
    stage
        .wait_status(LIMIT, "status says who", |s| fits(&s["enforcement"]["lifelines"]))
        .unwrap();
    let plan: Value = serde_json::from_str(&done(&stage, &["plan", "--json"])).unwrap();
    assert!(fits(&plan["plan"]["endpoints"]), "{plan:#}");
    let page = done(&stage, &["plan"]);
    assert!(page.contains(&looked_up) && page.contains("in use"), "{page}");
    let directory = stage.state_directory();
    let history = || done(&stage, &["history", "--state-dir", directory.to_str().unwrap()]);
    wait_until(LIMIT, "the history says who", || history().contains(&looked_up)).unwrap();
    // A lifeline without an address: logs are on, and their name is nobody's.
    let missing = "logs: no address is known";
    assert!(
        stage.status()["enforcement"]["missingLifelines"]
            .to_string()
            .contains(missing)
    );
    assert!(plan["plan"]["missing"].to_string().contains(missing), "{plan:#}");
    let said = done(&stage, &["quarantine", "--reason", "test"]);
    assert!(said.contains(missing), "{said}");
    // The journal keeps it over a restart.
    let journal = std::fs::read_to_string(directory.join("journal")).unwrap();
    assert!(journal.contains(r#""by":"lookUp""#), "{journal}");
});

/// Answers every question for the name that this machine sends, on loopback and at once, with the attacker's address.
fn race(stop: &AtomicBool) -> usize {
    let hears = Port::of("gateway", "wan0").sender(0x0003);
    let lies = Port::of("gateway", "lo").sender(0x0800);
    let wanted = message(ENDPOINT, None);
    let (mut buffer, mut told) = ([0; 2_048], 0);
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = recv(hears.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) else {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        };
        let frame = &buffer[..length];
        // Ethernet, IPv4 without options, UDP to port 53, and the name with the type for IPv4.
        let is_question = length > 54 && frame[12..14] == [8, 0] && frame[36..38] == [0, 53];
        if !is_question
            || frame
                .get(54..)
                .is_none_or(|rest| !rest.starts_with(&wanted[12..]))
        {
            continue;
        }
        let mut lie = message(ENDPOINT, Some(attacker()));
        lie[..2].copy_from_slice(&frame[42..44]);
        let port = u16::from_be_bytes([frame[34], frame[35]]);
        let datagram = packet(INTERNET_V4, GATEWAY_WAN_V4, UDP, 0, &udp(DNS, port, &lie));
        emit(&lies, &[[0_u8; 12].as_slice(), &[8, 0], &datagram].concat());
        told += 1;
    }
    told
}

/// The resolver is far away: its process stands still for most of the time.
pub(super) fn slow_down(resolver: u32, stop: &AtomicBool) {
    let pid = Pid::from_raw(i32::try_from(resolver).unwrap());
    while !stop.load(Ordering::Relaxed) {
        kill(pid, Signal::SIGSTOP).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        kill(pid, Signal::SIGCONT).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
}

lab_test!(
    who_answers_our_own_question_first_on_loopback_names_no_lifeline,
    || {
        let (mut stage, servers) = by_name(json!({}));
        let (stop, resolver) = (AtomicBool::new(false), servers[0].pid());
        let (free, cut, told) = std::thread::scope(|scope| {
            scope.spawn(|| slow_down(resolver, &stop));
            let racer = scope.spawn(|| race(&stop));
            let forged = ATTACKER_V4.to_string();
            // An agent that starts looks every name up.
            restart(&mut stage);
            connected_and_released(&stage);
            let free = becomes_lifeline(&stage, |address| address == forged);
            isolate(&stage);
            let ask = || {
                let program = UdpSocket::bind("0.0.0.0:0").unwrap();
                let to = SocketAddr::new(INTERNET_V4, DNS);
                program.send_to(&message(ENDPOINT, None), to).unwrap();
            };
            for _ in 0..3 {
                stage.site.run_in(Ns::Gateway, ask).unwrap();
                std::thread::sleep(EFFECT);
            }
            let cut = becomes_lifeline(&stage, |address| address == forged);
            stop.store(true, Ordering::Relaxed);
            (free, cut, racer.join().unwrap())
        });
        assert!(
            told > 3,
            "control: {told} questions were answered by the attacker"
        );
        assert_eq!((free, cut), (false, false), "{:?}", planned(&stage));
        assert!(planned(&stage).contains(&(INTERNET_V4.to_string(), 8883)));
    }
);

lab_test!(a_neighbour_who_answers_for_the_resolver_names_no_lifeline, || {
    let (stage, _servers) = by_name(json!({}));
    // A LAN host claims the resolver's address and answers what a program asks there, bound to that interface.
    let claim = format!("addr add {INTERNET_V4}/32 dev eth0");
    run(&stage, Ns::Lan, "ip", &claim.split(' ').collect::<Vec<_>>());
    ip(&stage, "neigh flush all");
    isolate(&stage);
    let answers = stage
        .site
        .run_in(Ns::Lan, || UdpSocket::bind((INTERNET_V4, DNS)).unwrap())
        .unwrap();
    answers.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let ask = || -> io::Result<UdpSocket> {
        let program = UdpSocket::bind("0.0.0.0:0")?;
        setsockopt(&program, sockopt::BindToDevice, &"lan0".into())?;
        program.send_to(&message(ENDPOINT, None), SocketAddr::new(INTERNET_V4, DNS))?;
        Ok(program)
    };
    // Where the lifeline is bound to its interface too, the question does not even leave.
    let asked = stage.site.run_in(Ns::Gateway, ask).unwrap();
    let mut buffer = [0; 512];
    if asked.is_ok()
        && let Ok((_, program)) = answers.recv_from(&mut buffer)
    {
        let lie = message(ENDPOINT, Some(attacker()));
        answers.send_to(&lie, program).unwrap();
    }
    let forged = ATTACKER_V4.to_string();
    assert!(
        !becomes_lifeline(&stage, |address| address == forged),
        "{:?}",
        planned(&stage)
    );
    let _held = asked;
});

lab_test!(a_name_that_moves_is_found_when_a_program_asks_for_it, || {
    let (stage, _servers) = by_name(json!({}));
    isolate(&stage);
    let there = || planned(&stage).contains(&(ATTACKER_V4.to_string(), 8883));
    stage
        .site
        .set_names(&json!({ENDPOINT: [ATTACKER_V4.to_string()]}))
        .unwrap();
    // Our own look-up is due once a minute while the channel works.
    std::thread::sleep(EFFECT);
    let before = there();
    let ask = || {
        let program = UdpSocket::bind("0.0.0.0:0").unwrap();
        let to = SocketAddr::new(INTERNET_V4, DNS);
        program.send_to(&message(ENDPOINT, None), to).unwrap();
    };
    wait_until(LIMIT / 3, "the new address is a lifeline", || {
        stage.site.run_in(Ns::Gateway, ask).unwrap();
        there()
    })
    .unwrap();
    if before {
        println!("SKIPPED: the look-up was due just then");
    }
});
