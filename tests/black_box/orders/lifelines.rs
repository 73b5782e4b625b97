//! What isolation never cuts: names, time, neighbours, and the control channel when its address changes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, GATEWAY_WAN_V4, INTERNET_V4, Ns, Running, ask_name_servers, wait_until,
};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use crate::common::agent::restart_behind;
use crate::common::gateway::{ip, run};
use crate::common::{LIMIT, connected_and_released, done, isolate, options, ready, release, reports};

pub(crate) const ENDPOINT: &str = "a1b2c3-ats.iot.example";

/// A connected lab whose nucleus knows the endpoint by its name, which a server in the internet answers for.
pub(crate) fn by_name(configuration: Value) -> (Stage, [Running; 2]) {
    let more = StageOptions {
        configuration,
        ..options()
    };
    with_names(more, &json!({ENDPOINT: [INTERNET_V4.to_string()]}))
}

pub(crate) fn with_names(more: StageOptions, names: &Value) -> (Stage, [Running; 2]) {
    let (mut stage, servers) = nucleus_by_name(more, names);
    stage.start_agent().unwrap();
    connected_and_released(&stage);
    (stage, servers)
}

/// The same with the agent still to be started.
fn nucleus_by_name(more: StageOptions, names: &Value) -> (Stage, [Running; 2]) {
    ask_name_servers(&[INTERNET_V4]).unwrap();
    let mut stage = Stage::start(StageOptions {
        broker: format!("{ENDPOINT}:8883"),
        online: false,
        ..more
    })
    .unwrap();
    stage.site.set_names(names).unwrap();
    let servers =
        [INTERNET_V4, ATTACKER_V4].map(|address| stage.site.name_server(Ns::Internet, address).unwrap());
    stage.go_online().unwrap();
    (stage, servers)
}

/// Whether a name server answers a program of the gateway: a question for the endpoint's address, byte by byte.
fn answers(stage: &Stage, server: IpAddr) -> bool {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ENDPOINT.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut answer = [0; 512];
        socket.send_to(&question, SocketAddr::new(server, 53)).is_ok() && socket.recv(&mut answer).is_ok()
    };
    stage.site.run_in(Ns::Gateway, ask).unwrap()
}

lab_test!(the_control_channel_follows_its_name_while_isolated, || {
    let (mut stage, _servers) = by_name(json!({}));
    isolate(&stage);
    let reaches = |stage: &Stage, address| stage.site.tcp_connects(Ns::Gateway, address, 8883).unwrap();
    assert!(
        reaches(&stage, INTERNET_V4),
        "control: the address of before is a lifeline"
    );
    assert!(!reaches(&stage, ATTACKER_V4), "control: the other one is not");

    // The name moves, and the old address dies with its connections.
    stage
        .site
        .set_names(&json!({ENDPOINT: [ATTACKER_V4.to_string()]}))
        .unwrap();
    let old = INTERNET_V4.to_string();
    let dead = format!(
        "add table inet moved; add chain inet moved in {{ type filter hook input priority -1; }}; \
             add rule inet moved in iifname \"gw0\" ip daddr {old} tcp dport 8883 drop"
    );
    run(&stage, Ns::Internet, "/usr/sbin/nft", &[&dead]);
    run(
        &stage,
        Ns::Internet,
        "ss",
        &["-K", "src", &old, "sport", "=", "8883"],
    );
    run(
        &stage,
        Ns::Gateway,
        "ss",
        &["-K", "dst", &old, "dport", "=", "8883"],
    );
    let mqtt = |state: &'static str| move |event: &Value| event["event"] == "mqtt" && event["state"] == state;
    stage.nucleus.wait_event(LIMIT, mqtt("disconnected")).unwrap();
    stage.nucleus.wait_event(LIMIT, mqtt("connected")).unwrap();

    // An order that arrives now can only have come the new way.
    stage
        .desire(&json!({"quarantine": {"id": "moved", "posture": "isolate"}}))
        .unwrap();
    let came =
        |s: &Value| s["enforcement"]["phase"] == "enforced" && s["enforcement"]["orders"][0]["id"] == "moved";
    let status = stage.wait_status(LIMIT, "heard the new way", came).unwrap();
    assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
    assert!(reaches(&stage, ATTACKER_V4));
    assert!(
        !stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap(),
        "nothing else of the new address"
    );
    reports(&stage, &json!({"id": "moved", "posture": "isolate"}));
    release(&stage);
});

lab_test!(
    an_order_given_while_disconnected_is_heard_after_the_reconnect,
    || {
        let mut stage = ready(options());
        // The agent has seen where the nucleus is connected; what it heard last is far from its next question.
        let known = |s: &Value| s["lifelines"]["addresses"].as_u64() > Some(0);
        stage.wait_status(LIMIT, "control: looked around", known).unwrap();
        let deaf = "add table inet deaf; add chain inet deaf in { type filter hook input priority -1; }; \
                        add rule inet deaf in iifname \"gw0\" tcp dport 8883 drop";
        run(&stage, Ns::Internet, "/usr/sbin/nft", &[deaf]);
        run(&stage, Ns::Gateway, "ss", &["-K", "dport", "=", "8883"]);
        run(
            &stage,
            Ns::Internet,
            "ss",
            &["-K", "sport", "=", "8883", "dst", &GATEWAY_WAN_V4.to_string()],
        );
        let mqtt =
            |state: &'static str| move |event: &Value| event["event"] == "mqtt" && event["state"] == state;
        stage.nucleus.wait_event(LIMIT, mqtt("disconnected")).unwrap();
        stage.desire(&json!({"quarantine": true})).unwrap();
        assert!(!stage.has_table().unwrap(), "control: not heard");
        run(&stage, Ns::Internet, "/usr/sbin/nft", &["delete table inet deaf"]);
        stage.nucleus.wait_event(LIMIT, mqtt("connected")).unwrap();
        stage.wait_phase(LIMIT / 3, "enforced").unwrap();
        reports(&stage, &json!(true));
    }
);

lab_test!(names_and_time_pass_to_the_configured_servers_only, || {
    let servers = json!({"isolation": {"timeServers": [INTERNET_V4.to_string()]}});
    let (stage, _servers) = by_name(servers);
    let time = |address| {
        stage
            .site
            .udp_reaches(Ns::Gateway, Ns::Internet, address, 123)
            .unwrap()
    };
    let ways = || {
        [
            answers(&stage, INTERNET_V4),
            time(INTERNET_V4),
            answers(&stage, ATTACKER_V4),
            time(ATTACKER_V4),
        ]
    };
    assert_eq!(ways(), [true; 4], "control");
    isolate(&stage);
    wait_until(LIMIT, "the time server's name is looked up", || time(INTERNET_V4)).unwrap();
    assert_eq!(ways(), [true, true, false, false]);
    release(&stage);
    assert_eq!(ways(), [true; 4]);
});

lab_test!(
    lifelines_live_where_others_keep_them_from_connection_tracking,
    || {
        let (stage, _servers) = by_name(json!({}));
        let _other = stage.site.echo_server(Ns::Internet, 4444).unwrap();
        let connects = |address, port| stage.site.tcp_connects(Ns::Gateway, address, port).unwrap();
        isolate(&stage);
        let ways = || {
            [
                answers(&stage, INTERNET_V4),
                connects(INTERNET_V4, 8883),
                answers(&stage, ATTACKER_V4),
                connects(ATTACKER_V4, 4444),
            ]
        };
        assert_eq!(ways(), [true, true, false, false], "control");
        for hooks in [&["prerouting"][..], &["prerouting", "output"]] {
            let chains = hooks.iter().map(|hook| {
            format!(
                "add chain ip theirs {hook} {{ type filter hook {hook} priority -300; }}; add rule ip theirs {hook} notrack; "
            )
        });
            let theirs = format!("add table ip theirs; {}", chains.collect::<String>());
            run(&stage, Ns::Gateway, "/usr/sbin/nft", &[&theirs]);
            assert_eq!(ways(), [true, true, false, false], "{hooks:?}");
            run(&stage, Ns::Gateway, "/usr/sbin/nft", &["delete table ip theirs"]);
        }
        release(&stage);
    }
);

lab_test!(neighbours_are_found_anew_while_isolated, || {
    let stage = ready(options());
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    let reaches = || stage.site.tcp_connects(Ns::Gateway, ATTACKER_V6, 4444).unwrap();
    assert!(reaches(), "control");
    let allow = json!([{"remote": format!("{ATTACKER_V6}/128"), "protocol": "tcp", "ports": [4444],
                            "direction": "out"}]);
    let order = json!({"id": "n", "posture": "isolate", "allow": allow});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    reports(&stage, &order);
    ip(&stage, "-6 neigh flush all\n-4 neigh flush all");
    assert!(reaches(), "IPv6 neighbour discovery passes");
    assert!(
        stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, 8883).unwrap(),
        "ARP passes"
    );
    assert!(!stage.site.ping(Ns::Gateway, ATTACKER_V4).unwrap());
    release(&stage);
});

/// Whether a datagram from UDP `from` of the gateway arrives at a DHCP server, and the server's answer at the gateway.
fn leased(stage: &Stage, from: u16, to: IpAddr) -> bool {
    let open = |ns, port| {
        let bind = || {
            let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
            socket.set_broadcast(true).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket
        };
        stage.site.run_in(ns, bind).unwrap()
    };
    let (server, client) = (open(Ns::Internet, 67), open(Ns::Gateway, from));
    let mut buffer = [0; 64];
    if client.send_to(b"lease, please", SocketAddr::new(to, 67)).is_err() {
        return false;
    }
    let Ok((_, asked)) = server.recv_from(&mut buffer) else {
        return false;
    };
    server.send_to(b"yours", asked).unwrap();
    client.recv(&mut buffer).is_ok()
}

lab_test!(leases_are_asked_for_and_renewed_while_isolated, || {
    let stage = ready(options());
    let everybody = IpAddr::from([255; 4]);
    let ways = || {
        [
            leased(&stage, 68, everybody),
            leased(&stage, 68, INTERNET_V4),
            leased(&stage, 5068, everybody),
            leased(&stage, 5068, INTERNET_V4),
        ]
    };
    assert_eq!(ways(), [true; 4], "control");
    isolate(&stage);
    assert_eq!(ways(), [true, true, false, false]);
    release(&stage);
    assert_eq!(ways(), [true; 4]);
});

/// What an isolation would let pass now, as address and port.
pub(crate) fn planned(stage: &Stage) -> Vec<(String, u64)> {
    let path = stage.site.directory().join("order.json");
    std::fs::write(&path, json!({"posture": "isolate"}).to_string()).unwrap();
    let args = ["plan", "--order", path.to_str().unwrap(), "--json"];
    let value: Value = serde_json::from_str(&done(stage, &args)).unwrap();
    let endpoints = value["plan"]["endpoints"].as_array().unwrap();
    endpoints
        .iter()
        .map(|one| {
            let address = one["address"].as_str().unwrap().to_owned();
            (address, one["port"].as_u64().unwrap_or_default())
        })
        .collect()
}

lab_test!(an_endpoint_told_late_is_no_fault_and_one_never_told_is, || {
    let with = |personality, arguments: [&str; 2]| {
        let nucleus = arguments.map(str::to_owned).to_vec();
        ready(StageOptions {
            personality,
            nucleus,
            ..options()
        })
    };
    let told = |stage: &Stage| {
        let text = "the nucleus tells no iotDataEndpoint";
        let status = stage.status()["lifelines"]["unresolved"].to_string();
        (stage.agent_output().contains(text), status.contains(text))
    };
    for personality in [Personality::Lite, Personality::Classic] {
        let stage = with(personality, ["--endpoint-late-millis", "1500"]);
        // Its connection has another port.
        let of_endpoint = (INTERNET_V4.to_string(), 443);
        wait_until(LIMIT, "the endpoint is told", || {
            planned(&stage).contains(&of_endpoint)
        })
        .unwrap();
        assert_eq!(told(&stage), (false, false), "{}", stage.agent_output());
    }
    let stage = with(Personality::Lite, ["--data-endpoint", ""]);
    wait_until(LIMIT, "control: an endpoint that is never told is", || {
        told(&stage) == (true, true)
    })
    .unwrap();
});

lab_test!(the_nucleus_proxy_and_chosen_groups_are_lifelines, || {
    let proxy = json!({"networkProxy": {"proxy": {"url": "http://user@proxy.example:3128"}}});
    let more = StageOptions {
        nucleus: vec!["--nucleus-configuration".into(), proxy.to_string()],
        ..options()
    };
    let names = json!({
        ENDPOINT: [INTERNET_V4.to_string()],
        "proxy.example": [ATTACKER_V4.to_string()],
        "logs.eu-central-1.amazonaws.com": ["203.0.113.77"],
    });
    let (mut stage, _servers) = with_names(more, &names);
    let _proxy = stage.site.echo_server(Ns::Internet, 3128).unwrap();
    let _other = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    let has = |stage: &Stage, address: &str, port| planned(stage).contains(&(address.to_owned(), port));
    let proxy = ATTACKER_V4.to_string();
    wait_until(LIMIT, "the proxy is planned", || has(&stage, &proxy, 3128)).unwrap();
    assert!(!has(&stage, "203.0.113.77", 443), "logs are off");
    stage
        .deploy(&json!({"isolation": {"lifelines": {"logs": true}}}))
        .unwrap();
    wait_until(LIMIT, "logs are planned", || has(&stage, "203.0.113.77", 443)).unwrap();
    stage
        .deploy(&json!({"isolation": {"lifelines": {"logs": false}}}))
        .unwrap();
    wait_until(LIMIT, "logs are not planned", || {
        !has(&stage, "203.0.113.77", 443)
    })
    .unwrap();

    let reaches = |port| stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, port).unwrap();
    assert!(reaches(3128) && reaches(4444), "control");
    isolate(&stage);
    assert!(reaches(3128), "the proxy");
    assert!(!reaches(4444), "nothing else of its address");
    release(&stage);
});

/// Settings as services leave them, in a mount namespace of the agent's own: a lease of networkd, a source of chrony in a folder
/// that its file names, resolved's word about TLS.
const SETTINGS: &str = "mkdir -p /run/systemd && mount -t tmpfs t /run/systemd && mkdir -p /run/systemd/netif/leases && \
    echo DNS=203.0.113.1 > /run/systemd/netif/leases/2 && \
    mount -t tmpfs t /mnt && mkdir -p /mnt/up/chrony.more /mnt/up/systemd /mnt/work && \
    echo 'sourcedir /etc/chrony.more' > /mnt/up/chrony.conf && \
    echo 'server 203.0.113.1 iburst' > /mnt/up/chrony.more/dhcp.sources && \
    printf '[Resolve]\\nDNSOverTLS=opportunistic\\n' > /mnt/up/systemd/resolved.conf && \
    printf 'server=203.0.113.9#5353\\n' > /mnt/up/dnsmasq.conf && \
    mount -t overlay o -o lowerdir=/etc,upperdir=/mnt/up,workdir=/mnt/work /etc";

lab_test!(servers_that_services_were_told_are_lifelines, || {
    let mut stage = ready(options());
    restart_behind(&mut stage, SETTINGS);
    connected_and_released(&stage);
    let reaches = |port| {
        let site = &stage.site;
        site.udp_reaches(Ns::Gateway, Ns::Internet, ATTACKER_V4, port)
            .unwrap()
    };
    assert!(reaches(53) && reaches(123) && reaches(4444), "control");
    isolate(&stage);
    let attacker = ATTACKER_V4.to_string();
    let ports = |stage: &Stage| -> Vec<u64> {
        let all = planned(stage).into_iter();
        all.filter(|(address, _)| *address == attacker)
            .map(|(_, port)| port)
            .collect()
    };
    wait_until(LIMIT, "they are planned", || {
        [53, 123, 853].iter().all(|port| ports(&stage).contains(port))
    })
    .unwrap();
    assert!(reaches(53) && reaches(123) && !reaches(4444));
    let status = stage.status();
    let lifelines = status["enforcement"]["lifelines"].to_string();
    for file in ["/run/systemd/netif/leases/2", "/etc/chrony.more/dhcp.sources"] {
        assert!(lifelines.contains(file), "{file}: {status}");
    }
    let told = "/etc/dnsmasq.conf: the resolver 203.0.113.9 is asked on port 5353";
    assert!(
        status["lifelines"]["unresolved"].to_string().contains(told),
        "{status}"
    );
});

/// Nobody has it; somebody's rules know better.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));

/// A connected lab whose nucleus finds its broker only because somebody's rules lead its connection there.
fn led_elsewhere() -> Stage {
    let mut stage = Stage::start(StageOptions {
        broker: format!("{NOWHERE}:8883"),
        online: false,
        ..options()
    })
    .unwrap();
    let elsewhere = format!(
        "add table ip elsewhere; add chain ip elsewhere out {{ type nat hook output priority -100; }}; \
         add rule ip elsewhere out ip daddr {NOWHERE} tcp dport 8883 dnat to {INTERNET_V4}"
    );
    run(&stage, Ns::Gateway, "/usr/sbin/nft", &[&elsewhere]);
    stage.go_online().unwrap();
    stage.start_agent().unwrap();
    connected_and_released(&stage);
    stage
}

/// Whether a program of this user is connected to a broker there.
fn connects_as(stage: &Stage, user: &str, address: IpAddr) -> bool {
    let open = format!("exec 3<>/dev/tcp/{address}/8883");
    let identity = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"];
    let connect = || {
        let mut command = Command::new("timeout");
        command
            .arg("2")
            .args(identity)
            .args(["bash", "-c", &open])
            .output()
    };
    let output = stage.site.run_in(Ns::Gateway, connect).unwrap().unwrap();
    output.status.success()
}

lab_test!(
    a_lifeline_that_others_lead_elsewhere_lives_there_and_is_told,
    || {
        let stage = led_elsewhere();
        stage.desire(&json!({"quarantine": true})).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        let told = format!("connection to {NOWHERE}:8883 on to {INTERNET_V4}:8883");
        let tells = |s: &Value| s["lifelines"]["unresolved"].to_string().contains(&told);
        let status = stage.wait_status(LIMIT, "the detour is told", tells).unwrap();
        assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
        assert!(stage.site.tcp_connects(Ns::Gateway, NOWHERE, 8883).unwrap());
        reports(&stage, &json!(true));
        release(&stage);
    }
);

lab_test!(
    an_address_that_only_the_nucleus_socket_names_is_nobody_elses,
    || {
        const SERVICE: &str = "101";
        // The nucleus was given another answer than the one that holds.
        let astray = json!({ENDPOINT: [ATTACKER_V4.to_string()]});
        let (mut stage, _servers) = nucleus_by_name(options(), &astray);
        let connected = |event: &Value| event["event"] == "mqtt" && event["state"] == "connected";
        stage.nucleus.wait_event(LIMIT, connected).unwrap();
        let right = json!({ENDPOINT: [INTERNET_V4.to_string()]});
        stage.site.set_names(&right).unwrap();
        stage.start_agent().unwrap();
        connected_and_released(&stage);
        let connects = |user| [ATTACKER_V4, INTERNET_V4].map(|address| connects_as(&stage, user, address));
        assert_eq!(connects(SERVICE), [true; 2], "control: before");
        let named = |s: &Value| {
            s["enforcement"]["lifelines"]
                .to_string()
                .contains(&ATTACKER_V4.to_string())
        };
        stage
            .wait_status(LIMIT, "control: its socket is seen", named)
            .unwrap();
        isolate(&stage);
        assert_eq!(connects("0"), [true; 2], "control: both pass for root");
        assert_eq!(connects(SERVICE), [false, true]);
        assert_eq!(stage.status()["enforcement"]["scope"], "pinned", "control");
        reports(&stage, &json!(true));
        release(&stage);
    }
);
