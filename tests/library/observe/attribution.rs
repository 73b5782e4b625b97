//! Whose bytes they are, in real network namespaces: processes that live for milliseconds, sockets that change hands,
//! containers, and devices behind address translation. Expected counts come from the sender.

use std::io::Write as _;
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use edgewarden::agent::observer::Observer;
use edgewarden::observe::Counters;
use edgewarden::observe::flow::IpProtocol;
use edgewarden::observe::interval::{ForwardedTraffic, Interval, UnattributedReason};
use edgewarden::process::Workload;
use edgewarden_lab::lab_test;

use super::brief::{Brief, Haste, in_lab_or_brief};
use super::measure::{downstream, upstream};
use super::site::{
    Neighbour, PORT, Program, Sent, UDP_DATAGRAMS, UDP_PAYLOAD, now, run, wait_for, wait_until,
};
use super::{UDP4, UDP6};

/// Rounds of them at most.
const ROUNDS: usize = 20;
/// Nothing is under way when nothing more was counted for this long.
const STILL: Duration = Duration::from_millis(50);
/// How many short processes.
const PROCESSES: usize = 50;

/// An observer whose first interval begins now.
fn start(interfaces: &[&str]) -> Observer {
    let observer = super::measure::start(interfaces);
    observer.take_interval(now());
    observer
}

/// Waits until nothing is under way, which is when capture has what the kernel has and nothing is added, and closes.
fn close(observer: &Observer) -> Interval {
    let mut before = Counters::default();
    let quiet = wait_for(|| {
        std::thread::sleep(STILL);
        let interval = observer.peek(now());
        let same = std::mem::replace(&mut before, interval.captured_total) == interval.captured_total;
        same && interval.captured_total.packets() > 0
    });
    assert!(quiet, "the links do not come to rest");
    observer.take_interval(now())
}

/// Bytes of payload that are under the name of the process that sent them, in thousandths of all. Panics if anything is
/// under a wrong name: more than a process sent, or a name that is none of them.
/// The last packets of a connection may fall into the round after: `earlier` are the processes of those before.
fn share(interval: &Interval, sent: &[Brief], earlier: &[u32]) -> u64 {
    let mut right = 0;
    let known = |pid: &u32| earlier.contains(pid);
    for process in interval
        .processes
        .iter()
        .filter(|item| !known(&item.identity.pid))
    {
        let Some(own) = sent.iter().find(|own| own.pid == process.identity.pid) else {
            panic!("{} ({}) sent nothing", process.name, process.identity.pid);
        };
        let most = own.payload + own.payload / 8;
        let bytes = process.counters.bytes_out;
        assert!(
            bytes <= most,
            "{bytes} bytes are more than process {} sent",
            own.pid
        );
        right += bytes.min(own.payload);
    }
    let allowed = [
        UnattributedReason::NoSocket,
        UnattributedReason::NoProcess,
        UnattributedReason::NoPorts,
        UnattributedReason::NotIp,
    ];
    for item in &interval.unattributed_by_reason {
        assert!(allowed.contains(&item.reason), "{item:?}");
    }
    right * 1_000 / sent.iter().map(|own| own.payload).sum::<u64>()
}

/// Lets short processes run until one round of them reaches `least`. A machine that is filled many times over by others
/// may keep us from the processor for longer than they live; in [`ROUNDS`] rounds it does not.
fn check_brief(protocol: &str, together: bool, haste: Haste, least: u64) {
    let peer = upstream();
    let _sink = Program::sink(Some(&peer));
    super::brief::run(1, "tcp", false, Haste::Patient); // resolves the neighbour's address
    let observer = start(&["up0"]);
    let mut earlier = Vec::new();
    let reached = (0..ROUNDS).any(|_| round(&observer, protocol, together, haste, &mut earlier) >= least);
    assert!(reached, "no round reached {least} of 1000 bytes");
}

fn round(observer: &Observer, protocol: &str, together: bool, haste: Haste, earlier: &mut Vec<u32>) -> u64 {
    let sent = super::brief::run(PROCESSES, protocol, together, haste);
    let interval = close(observer);
    let share = share(&interval, &sent, earlier);
    earlier.extend(sent.iter().map(|own| own.pid));
    let mut lives: Vec<u64> = sent.iter().map(|own| own.micros).collect();
    lives.sort_unstable();
    println!(
        "{PROCESSES} processes, {protocol}, together {together}, {haste:?}, life from connect to exit median {} us, longest {} us: \
         {share} of 1000 bytes under their names; the rest {:?}",
        lives[lives.len() / 2],
        lives[lives.len() - 1],
        interval.unattributed_by_reason
    );
    share
}

lab_test!(
    processes_of_some_milliseconds_one_after_another_get_their_tcp_bytes,
    in_lab_or_brief,
    || check_brief("tcp", false, Haste::Patient, 950)
);

lab_test!(
    processes_of_some_milliseconds_together_get_their_tcp_bytes,
    in_lab_or_brief,
    || check_brief("tcp", true, Haste::Patient, 950)
);

lab_test!(
    processes_of_some_milliseconds_get_their_udp_bytes,
    in_lab_or_brief,
    || {
        check_brief("udp", false, Haste::Patient, 950);
    }
);

lab_test!(
    processes_that_end_at_once_are_never_called_by_a_wrong_name,
    in_lab_or_brief,
    || check_brief("tcp", true, Haste::AtOnce, 0)
);

// As with SCM_RIGHTS, to a process that is older, so that "the one that started last" is no help.
lab_test!(
    a_socket_that_an_older_process_takes_over_takes_its_bytes_along,
    in_lab_or_brief,
    || {
        let peer = upstream();
        let _sink = Program::sink(Some(&peer));
        let observer = start(&["up0"]);
        let mut giver = super::brief::Giver::start();
        wait_until("the giver is known", || {
            has(&observer.peek(now()), giver.pid(), 100_000)
        });
        let mut socket: TcpStream = giver.take();
        giver.end();
        let own = std::process::id();
        wait_until("we are known", || {
            socket.write_all(&[7; 100]).unwrap();
            has(&observer.peek(now()), own, 1)
        });
        socket.write_all(&[7; 300_000]).unwrap();
        let interval = close(&observer);
        assert!(has(&interval, own, 300_000), "{:#?}", interval.processes);
        let of_giver = interval
            .processes
            .iter()
            .find(|item| item.identity.pid == giver.pid());
        assert!(
            of_giver.is_some_and(|item| item.counters.bytes_out < 200_000),
            "{of_giver:?}"
        );
    }
);

fn has(interval: &Interval, pid: u32, bytes: u64) -> bool {
    interval
        .processes
        .iter()
        .any(|item| item.identity.pid == pid && item.counters.bytes_out >= bytes)
}

lab_test!(a_container_is_named_by_its_cgroup, in_lab_or_brief, || {
    let short = format!("{:012x}", std::process::id());
    let cgroup = format!("/sys/fs/cgroup/docker-{short}{}.scope", "0".repeat(52));
    if let Err(error) = std::fs::create_dir(&cgroup) {
        assert!(std::env::var_os("CI").is_none(), "{cgroup}: {error}");
        println!("SKIPPED: no cgroup v2 to write to: {error}");
        return;
    }
    let peer = upstream();
    let _sink = Program::sink(Some(&peer));
    let observer = start(&["up0"]);
    let mut sender = Program::sender(None, &["192.0.2.2"]);
    let pid = sender.pid();
    std::fs::write(format!("{cgroup}/cgroup.procs"), pid.to_string()).unwrap();
    let sent = sender.run();
    wait_until("the sender's bytes are counted", || {
        has(&observer.peek(now()), pid, sent.tcp)
    });
    let interval = close(&observer);
    drop(sender);
    std::fs::remove_dir(&cgroup).unwrap();
    let process = interval.processes.iter().find(|item| item.identity.pid == pid);
    let process = process.unwrap_or_else(|| panic!("{:#?}", interval.processes));
    assert_eq!(process.workload, Some(Workload::Container(short)), "{process:?}");
});

/// As [`upstream`], reached as if it were behind a router: its network is not ours.
fn far_upstream() -> Neighbour {
    let up = Neighbour::new(
        "up0",
        "192.0.2.1/32",
        "2001:db8:1::1/128",
        "192.0.2.2/24",
        "2001:db8:1::2/64",
    );
    run("ip", &["route", "add", "192.0.2.2", "dev", "up0"]);
    run("ip", &["-6", "route", "add", "2001:db8:1::2", "dev", "up0"]);
    up
}

/// The peer's traffic in the direction it sent, or took, by protocol.
fn of_peer(interval: &Interval, peer: &str, protocol: IpProtocol) -> Counters {
    let peer: IpAddr = peer.parse().unwrap();
    let list: Vec<&ForwardedTraffic> = interval
        .forwarded_by_peer
        .iter()
        .filter(|item| item.peer == peer && item.protocol == protocol)
        .collect();
    list.iter().map(|item| item.counters).sum()
}

fn check_all_forwarded(interval: &Interval) {
    assert!(interval.processes.is_empty(), "{:#?}", interval.processes);
    let without = interval
        .unattributed_by_reason
        .iter()
        .find(|item| item.reason == UnattributedReason::NoSocket);
    assert_eq!(without, None);
    let peers = DEVICES.map(|(peer, _)| peer.parse::<IpAddr>().unwrap());
    for item in &interval.forwarded_by_peer {
        // Neighbour discovery of the links themselves is nobody's, everything else is the device's.
        assert!(peers.contains(&item.peer), "{item:?}");
    }
    let forwarded = interval.forwarded;
    assert_eq!(
        (forwarded.bytes_in, forwarded.packets_in),
        (forwarded.bytes_out, forwarded.packets_out),
        "everything that entered left"
    );
}

/// The devices on `down0`, and how long the headers of their datagrams are.
const DEVICES: [(&str, u64); 2] = [("198.51.100.2", UDP4), ("2001:db8:2::2", UDP6)];

/// Sends from one neighbour to the other, past us; gives what was sent and what was observed of it.
fn forwarded(from: &Neighbour, remotes: &[&str], to: &Neighbour) -> (Sent, Interval) {
    let _sink = Program::sink(Some(to));
    let mut sender = Program::sender(Some(from), remotes);
    let observer = start(&["up0", "down0"]);
    let sent = sender.run();
    let interval = close(&observer);
    check_all_forwarded(&interval);
    (sent, interval)
}

/// What was sent is told of the devices, datagrams to the byte; `way` gives the bytes and packets of its direction.
fn check_device(interval: &Interval, sent: &Sent, way: impl Fn(Counters) -> (u64, u64)) {
    for (peer, headers) in DEVICES {
        assert_eq!(
            way(of_peer(interval, peer, IpProtocol::Udp)),
            (UDP_DATAGRAMS * (UDP_PAYLOAD + headers), UDP_DATAGRAMS),
            "{peer}"
        );
        let (tcp, _) = way(of_peer(interval, peer, IpProtocol::Tcp));
        assert!(
            tcp > sent.tcp && tcp < sent.tcp + sent.tcp / 10,
            "{peer}: {tcp} for {}",
            sent.tcp
        );
    }
}

lab_test!(
    what_a_device_behind_masquerading_sends_is_forwarded_for_it,
    in_lab_or_brief,
    || {
        let up = far_upstream();
        let down = downstream();
        run(
            "nft",
            &[
                "table inet t { chain c { type nat hook postrouting priority srcnat; oifname up0 masquerade; }; }",
            ],
        );
        let (sent, interval) = forwarded(&down, &["192.0.2.2", "2001:db8:1::2"], &up);
        check_device(&interval, &sent, |device| (device.bytes_out, device.packets_out));
        for (peer, _) in DEVICES {
            let tcp = of_peer(&interval, peer, IpProtocol::Tcp);
            assert!(
                tcp.bytes_in > 0 && tcp.bytes_in < sent.tcp / 10,
                "{peer}: {tcp:?}"
            );
        }
    }
);

lab_test!(
    what_comes_to_a_redirected_port_is_forwarded_to_the_device_behind,
    in_lab_or_brief,
    || {
        let up = far_upstream();
        let down = downstream();
        let rules = format!(
            "table inet t {{ chain c {{ type nat hook prerouting priority dstnat; \
                 iifname up0 meta l4proto {{ tcp, udp }} th dport {PORT} dnat ip to 198.51.100.2; \
                 iifname up0 meta l4proto {{ tcp, udp }} th dport {PORT} dnat ip6 to 2001:db8:2::2; }}; }}"
        );
        run("nft", &[&rules]);
        let (sent, interval) = forwarded(&up, &["192.0.2.1", "2001:db8:1::1"], &down);
        check_device(&interval, &sent, |device| (device.bytes_in, device.packets_in));
    }
);
