//! The list of connections: what is wanted, what fits, whose bytes.

use super::*;

fn socket(local: &str, remote: Option<&str>, pid: u32) -> ListedSocket {
    ListedSocket {
        protocol: Transport::Tcp,
        state: if remote.is_some() {
            SocketState::Established
        } else {
            SocketState::Listening
        },
        local: local.parse().unwrap(),
        remote: remote.map(|end| end.parse().unwrap()),
        interface: None,
        uid: 0,
        process: Some(SocketHolder {
            identity: ProcessId { pid, start_ticks: 7 },
            name: format!("sensor-{pid}"),
            exe: Some("/opt/factory/sensor".into()),
            workload: Some("component com.example.Camera".into()),
        }),
        traffic: None,
    }
}

fn filter(process: Option<&str>, remote: Option<&str>) -> SocketFilter {
    SocketFilter {
        listening: false,
        process: process.map(Into::into),
        remote: remote.map(|text| text.parse().unwrap()),
    }
}

#[test]
fn filters_narrow_and_the_totals_stay_true() {
    let all = vec![
        socket("192.0.2.1:40000", Some("203.0.113.9:443"), 10),
        socket("192.0.2.1:40001", Some("203.0.113.9:80"), 10),
        socket("[2001:db8::1]:40002", Some("[2001:db8::2]:443"), 11),
        socket("0.0.0.0:22", None, 12),
    ];
    let count =
        |filter: &SocketFilter| list(all.clone().into_iter(), 9, filter, &TrafficByEnd::new()).matching;
    assert_eq!(count(&SocketFilter::default()), 4);
    assert_eq!(count(&filter(Some("10"), None)), 2);
    assert_eq!(count(&filter(Some("sensor-11"), None)), 1);
    assert_eq!(count(&filter(Some("Camera"), None)), 4);
    assert_eq!(count(&filter(Some("nobody"), None)), 0);
    assert_eq!(count(&filter(None, Some("203.0.113.9"))), 2);
    assert_eq!(count(&filter(None, Some("203.0.113.9:443"))), 1);
    assert_eq!(count(&filter(None, Some("2001:db8::/64"))), 1);
    assert_eq!(count(&filter(None, Some("[2001:db8::2]:80"))), 0);
    let listening = SocketFilter {
        listening: true,
        ..SocketFilter::default()
    };
    let answer = list(all.clone().into_iter(), 9, &listening, &TrafficByEnd::new());
    assert_eq!((answer.open, answer.matching), (9, 1));
    assert_eq!(answer.connections[0].local.port(), 22);
}

#[test]
fn what_is_no_remote_end_is_refused() {
    for text in ["", "443", "host.example", "203.0.113.9/40", "203.0.113.9:99999"] {
        assert_eq!(text.parse::<RemoteFilter>(), Err(NotRemoteFilter), "{text}");
    }
    let mapped: RemoteFilter = "::ffff:203.0.113.9".parse().unwrap();
    assert_eq!(
        mapped,
        "203.0.113.9".parse().unwrap(),
        "sockets are listed as IPv4"
    );
}

#[test]
fn bytes_of_sockets_that_share_an_end_are_said_to_be_shared() {
    let all = vec![
        socket("192.0.2.1:40000", Some("203.0.113.9:443"), 10),
        socket("192.0.2.1:40001", Some("203.0.113.9:443"), 10),
        socket("192.0.2.1:40002", Some("203.0.113.9:443"), 11),
        socket("192.0.2.1:40003", Some("203.0.113.9:444"), 11),
    ];
    let key = |pid, end: &str| {
        (
            ProcessId { pid, start_ticks: 7 },
            Transport::Tcp,
            end.parse().unwrap(),
        )
    };
    let traffic = TrafficByEnd::from([
        (key(10, "203.0.113.9:443"), (1, 2)),
        (key(11, "203.0.113.9:443"), (3, 4)),
    ]);
    let answer = list(all.into_iter(), 4, &SocketFilter::default(), &traffic);
    let shown: Vec<_> = answer.connections.iter().map(|one| one.traffic).collect();
    let of = |bytes_in, bytes_out, sockets| {
        Some(EndTraffic {
            bytes_in,
            bytes_out,
            sockets,
        })
    };
    assert_eq!(shown, [of(1, 2, 2), of(1, 2, 2), of(3, 4, 1), None]);
}

#[test]
fn the_answer_is_bounded_in_number_and_in_bytes() {
    let many = vec![socket("192.0.2.1:40000", Some("203.0.113.9:443"), 10); MAX_LISTED + 5];
    let answer = list(
        many.into_iter(),
        70_000,
        &SocketFilter::default(),
        &TrafficByEnd::new(),
    );
    assert_eq!((answer.open, answer.matching), (70_000, MAX_LISTED as u64 + 5));
    assert_eq!(answer.connections.len(), MAX_LISTED);

    let mut long = socket("192.0.2.1:40000", Some("203.0.113.9:443"), 10);
    long.process.as_mut().unwrap().exe = Some("\u{1}".repeat(4_000));
    let answer = list(
        std::iter::repeat_n(long, 2_000),
        2_000,
        &SocketFilter::default(),
        &TrafficByEnd::new(),
    );
    let size = serde_json::to_vec(&answer).unwrap().len();
    assert!(size < LIST_BYTES + 100_000, "{size}");
    assert!(!answer.connections.is_empty() && answer.connections.len() < 2_000);
    assert_eq!(answer.matching, 2_000);
}
