//! The list of connections: what is wanted, what fits, whose bytes.

use super::*;

fn connection(local: &str, remote: Option<&str>, pid: u32) -> Connection {
    Connection {
        protocol: Transport::Tcp,
        state: if remote.is_some() {
            State::Established
        } else {
            State::Listening
        },
        local: local.parse().unwrap(),
        remote: remote.map(|end| end.parse().unwrap()),
        interface: None,
        uid: 0,
        process: Some(Owner {
            identity: ProcessId { pid, start_ticks: 7 },
            name: format!("sensor-{pid}"),
            exe: Some("/opt/factory/sensor".into()),
            workload: Some("component com.example.Camera".into()),
        }),
        traffic: None,
    }
}

fn query(process: Option<&str>, remote: Option<&str>) -> Query {
    Query {
        listening: false,
        process: process.map(Into::into),
        remote: remote.map(|text| text.parse().unwrap()),
    }
}

#[test]
fn filters_narrow_and_the_totals_stay_true() {
    let all = vec![
        connection("192.0.2.1:40000", Some("203.0.113.9:443"), 10),
        connection("192.0.2.1:40001", Some("203.0.113.9:80"), 10),
        connection("[2001:db8::1]:40002", Some("[2001:db8::2]:443"), 11),
        connection("0.0.0.0:22", None, 12),
    ];
    let count = |query: &Query| list(all.clone().into_iter(), 9, query, &TrafficByEnd::new()).matching;
    assert_eq!(count(&Query::default()), 4);
    assert_eq!(count(&query(Some("10"), None)), 2);
    assert_eq!(count(&query(Some("sensor-11"), None)), 1);
    assert_eq!(count(&query(Some("Camera"), None)), 4);
    assert_eq!(count(&query(Some("nobody"), None)), 0);
    assert_eq!(count(&query(None, Some("203.0.113.9"))), 2);
    assert_eq!(count(&query(None, Some("203.0.113.9:443"))), 1);
    assert_eq!(count(&query(None, Some("2001:db8::/64"))), 1);
    assert_eq!(count(&query(None, Some("[2001:db8::2]:80"))), 0);
    let listening = Query {
        listening: true,
        ..Query::default()
    };
    let answer = list(all.clone().into_iter(), 9, &listening, &TrafficByEnd::new());
    assert_eq!((answer.open, answer.matching), (9, 1));
    assert_eq!(answer.connections[0].local.port(), 22);
}

#[test]
fn what_is_no_remote_end_is_refused() {
    for text in ["", "443", "host.example", "203.0.113.9/40", "203.0.113.9:99999"] {
        assert_eq!(text.parse::<Remote>(), Err(NotRemote), "{text}");
    }
    let mapped: Remote = "::ffff:203.0.113.9".parse().unwrap();
    assert_eq!(
        mapped,
        "203.0.113.9".parse().unwrap(),
        "sockets are listed as IPv4"
    );
}

#[test]
fn bytes_of_sockets_that_share_an_end_are_said_to_be_shared() {
    let all = vec![
        connection("192.0.2.1:40000", Some("203.0.113.9:443"), 10),
        connection("192.0.2.1:40001", Some("203.0.113.9:443"), 10),
        connection("192.0.2.1:40002", Some("203.0.113.9:443"), 11),
        connection("192.0.2.1:40003", Some("203.0.113.9:444"), 11),
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
    let answer = list(all.into_iter(), 4, &Query::default(), &traffic);
    let shown: Vec<_> = answer.connections.iter().map(|one| one.traffic).collect();
    let of = |bytes_in, bytes_out, sockets| {
        Some(Traffic {
            bytes_in,
            bytes_out,
            sockets,
        })
    };
    assert_eq!(shown, [of(1, 2, 2), of(1, 2, 2), of(3, 4, 1), None]);
}

#[test]
fn the_answer_is_bounded_in_number_and_in_bytes() {
    let many = vec![connection("192.0.2.1:40000", Some("203.0.113.9:443"), 10); MAX_LISTED + 5];
    let answer = list(many.into_iter(), 70_000, &Query::default(), &TrafficByEnd::new());
    assert_eq!((answer.open, answer.matching), (70_000, MAX_LISTED as u64 + 5));
    assert_eq!(answer.connections.len(), MAX_LISTED);

    let mut long = connection("192.0.2.1:40000", Some("203.0.113.9:443"), 10);
    long.process.as_mut().unwrap().exe = Some("\u{1}".repeat(4_000));
    let answer = list(
        std::iter::repeat_n(long, 2_000),
        2_000,
        &Query::default(),
        &TrafficByEnd::new(),
    );
    let size = serde_json::to_vec(&answer).unwrap().len();
    assert!(size < LIST_BYTES + 100_000, "{size}");
    assert!(!answer.connections.is_empty() && answer.connections.len() < 2_000);
    assert_eq!(answer.matching, 2_000);
}
