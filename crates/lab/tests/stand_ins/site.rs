//! The site itself: traffic flows everywhere before anybody blocks it, and probes notice when it stops.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, BROKER_PORT, DEVICE_V4, DEVICE_V6, GATEWAY_LAN_V4, GATEWAY_LAN_V6,
    GATEWAY_WAN_V4, GATEWAY_WAN_V6, INTERNET_V4, INTERNET_V6, Ns, Site, SiteError, SpawnSpec, wait_until,
};

/// Generous: the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(10);
const PORT: u16 = 7000;

/// Every direction a quarantine must cut: out of, into and through the gateway, both families.
const PATHS: [(Ns, Ns, IpAddr); 12] = [
    (Ns::Gateway, Ns::Internet, INTERNET_V4),
    (Ns::Gateway, Ns::Internet, INTERNET_V6),
    (Ns::Gateway, Ns::Internet, ATTACKER_V4),
    (Ns::Gateway, Ns::Internet, ATTACKER_V6),
    (Ns::Internet, Ns::Gateway, GATEWAY_WAN_V4),
    (Ns::Internet, Ns::Gateway, GATEWAY_WAN_V6),
    (Ns::Lan, Ns::Gateway, GATEWAY_LAN_V4),
    (Ns::Lan, Ns::Gateway, GATEWAY_LAN_V6),
    (Ns::Lan, Ns::Internet, ATTACKER_V4),
    (Ns::Lan, Ns::Internet, ATTACKER_V6),
    (Ns::Internet, Ns::Lan, DEVICE_V4),
    (Ns::Internet, Ns::Lan, DEVICE_V6),
];

fn ip(site: &Site, ns: Ns, args: &[&str]) {
    let status = site
        .run_in(ns, || Command::new("/usr/sbin/ip").args(args).status())
        .unwrap()
        .unwrap();
    assert!(status.success(), "ip {args:?}");
}

lab_test!(traffic_flows_in_every_direction, || {
    let site = Site::new().unwrap();
    let _servers = [Ns::Gateway, Ns::Internet, Ns::Lan].map(|ns| site.echo_server(ns, PORT).unwrap());
    for (from, to, address) in PATHS {
        assert!(
            site.tcp_connects(from, address, PORT).unwrap(),
            "tcp {from:?} -> {address}"
        );
        assert!(
            site.udp_reaches(from, to, address, 7001).unwrap(),
            "udp {from:?} -> {address}"
        );
        assert!(site.ping(from, address).unwrap(), "ping {from:?} -> {address}");
        let mut connection = site.open_connection(from, address, PORT).unwrap();
        assert!(
            connection.exchange() && connection.exchange(),
            "echo {from:?} -> {address}"
        );
    }
    assert!(
        !site.tcp_connects(Ns::Gateway, INTERNET_V4, PORT + 9).unwrap(),
        "nobody listens there"
    );
});

lab_test!(probes_say_no_when_the_firewall_drops, || {
    let site = Site::new().unwrap();
    let _servers = [Ns::Gateway, Ns::Internet, Ns::Lan].map(|ns| site.echo_server(ns, PORT).unwrap());
    let mut connections: Vec<_> = PATHS
        .iter()
        .map(|(from, _, address)| site.open_connection(*from, *address, PORT).unwrap())
        .collect();
    assert!(
        connections.iter_mut().all(|connection| connection.exchange()),
        "control: open before"
    );
    let rules = "table inet t {\nchain i {\ntype filter hook input priority 0\npolicy drop\n}\n\
            chain o {\ntype filter hook output priority 0\npolicy drop\n}\n\
            chain f {\ntype filter hook forward priority 0\npolicy drop\n}\n}\n";
    let file = site.directory().join("rules.nft");
    std::fs::write(&file, rules).unwrap();
    let status = site.run_in(Ns::Gateway, || {
        Command::new("/usr/sbin/nft").arg("-f").arg(&file).status()
    });
    assert!(status.unwrap().unwrap().success());
    std::thread::scope(|scope| {
        for ((from, to, address), (port, connection)) in PATHS.iter().zip((7100..).zip(&mut connections)) {
            let site = &site;
            scope.spawn(move || {
                assert!(
                    !site.tcp_connects(*from, *address, PORT).unwrap(),
                    "tcp {from:?} -> {address}"
                );
                assert!(
                    !site.udp_reaches(*from, *to, *address, port).unwrap(),
                    "udp {from:?} -> {address}"
                );
                assert!(!site.ping(*from, *address).unwrap(), "ping {from:?} -> {address}");
                assert!(!connection.exchange(), "open connection {from:?} -> {address}");
            });
        }
    });
    let flush = site.run_in(Ns::Gateway, || {
        Command::new("/usr/sbin/nft").args(["flush", "ruleset"]).status()
    });
    assert!(flush.unwrap().unwrap().success());
    assert!(
        site.tcp_connects(Ns::Lan, ATTACKER_V6, PORT).unwrap(),
        "flows again"
    );
    wait_until(
        LIMIT,
        "an open connection recovers: TCP repeats what was dropped",
        || connections[0].exchange(),
    )
    .unwrap();
});

lab_test!(an_open_connection_dies_with_its_route_or_link, || {
    let site = Site::new().unwrap();
    let _server = site.echo_server(Ns::Internet, PORT).unwrap();
    let mut by_route = site.open_connection(Ns::Gateway, ATTACKER_V4, PORT).unwrap();
    let mut by_link = site.open_connection(Ns::Lan, INTERNET_V6, PORT).unwrap();
    assert!(by_route.exchange() && by_link.exchange(), "control: open before");
    ip(
        &site,
        Ns::Gateway,
        &["route", "add", "blackhole", "203.0.113.1/32"],
    );
    assert!(!by_route.exchange());
    assert!(by_link.exchange(), "the other one does not use that route");
    ip(&site, Ns::Gateway, &["link", "set", "lan0", "down"]);
    assert!(!by_link.exchange());
    assert!(
        !site.ping(Ns::Gateway, ATTACKER_V4).unwrap(),
        "no route is an answer, not an error"
    );
});

lab_test!(programs_run_in_their_namespace_and_end_with_the_site, || {
    let site = Site::new().unwrap();
    let log = site.directory().join("sh.log");
    let script = "echo not json; echo \"{\\\"event\\\":\\\"hello\\\",\\\"pid\\\":$$,\
            \\\"interfaces\\\":\\\"$(ls /sys/class/net | tr '\\n' ' ')\\\"}\"; exec sleep 1000";
    let mut program = site
        .spawn(Ns::Gateway, "/bin/sh", &["-c", script], &[("A", "b")], &log)
        .unwrap();
    let hello = program
        .wait_event(LIMIT, |event| event["event"] == "hello")
        .unwrap();
    assert_eq!(hello["pid"], program.pid());
    assert_eq!(hello["interfaces"], "lan0 lo wan0 ");
    assert!(std::fs::read_to_string(&log).unwrap().starts_with("not json\n"));

    let error = program
        .wait_event(Duration::from_millis(100), |_| true)
        .unwrap_err();
    assert!(
        matches!(error, SiteError::Timeout { .. }),
        "an event is handed out once: {error}"
    );
    program.terminate().unwrap();
    assert!(!program.wait_exit(LIMIT).unwrap().success());
    let error = program.wait_event(LIMIT, |_| true).unwrap_err();
    assert!(matches!(error, SiteError::Ended { .. }), "{error}");
    program.restart().unwrap();
    assert_eq!(program.wait_event(LIMIT, |_| true).unwrap()["pid"], program.pid());

    let orphan = site.spawn(
        Ns::Lan,
        "/bin/sh",
        &["-c", "sleep 1000 & echo \"{\\\"pid\\\":$!}\""],
        &[],
        &log,
    );
    let pid = orphan.unwrap().wait_event(LIMIT, |_| true).unwrap()["pid"]
        .as_u64()
        .unwrap();
    let alive =
        || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(alive(), "control: an orphan outlives its parent");
    drop(site);
    wait_until(LIMIT, "the orphan is killed with the site", || !alive()).unwrap();
    let error = program.wait_event(LIMIT, |_| true).unwrap_err();
    assert!(matches!(error, SiteError::Ended { .. }), "{error}");
    Site::new().expect("a second site after the first");
});

lab_test!(the_broker_listens_on_both_families_and_comes_back, || {
    let site = Site::new().unwrap();
    let mut broker = site.mosquitto().unwrap();
    let reachable = |expected: bool| {
        for address in [INTERNET_V4, INTERNET_V6] {
            assert_eq!(
                site.tcp_connects(Ns::Gateway, address, BROKER_PORT).unwrap(),
                expected,
                "{address}"
            );
        }
    };
    reachable(true);
    broker.kill9().unwrap();
    reachable(false);
    broker.restart().unwrap();
    reachable(true);
});

lab_test!(cgroup_version_two_is_where_programs_look_for_it, || {
    let site = Site::new().unwrap();
    for ns in [Ns::Gateway, Ns::Lan] {
        let spec = SpawnSpec {
            args: vec!["/sys/fs/cgroup/cgroup.procs".into()],
            ..SpawnSpec::new("/bin/cat", site.directory().join("cat.log"))
        };
        let status = site.spawn_with(ns, spec).unwrap().wait_exit(LIMIT).unwrap();
        assert!(status.success(), "{ns:?}");
    }
});

#[test]
fn a_site_outside_a_lab_is_refused() {
    if std::env::var_os("EDGEWARDEN_IN_LAB").is_none() {
        assert!(matches!(Site::new(), Err(SiteError::OutsideLab)));
    }
}
