//! The traffic page: rates across refreshes and closed intervals, hostile names, every width and height.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::host::clock;

fn sum(bytes_in: u64, bytes_out: u64) -> Value {
    json!({"bytesIn": bytes_in, "bytesOut": bytes_out, "packetsIn": bytes_in / 100, "packetsOut": bytes_out / 100})
}

fn process(pid: u32, exe: &str, counters: &Value, remote: &str) -> Value {
    json!({
        "identity": {"pid": pid, "startTicks": 1}, "name": "x", "exe": exe,
        "workload": {"component": "com.example.Camera"}, "counters": counters, "otherRemotes": sum(0, 0),
        "remotes": [{"interface": "wan", "address": remote, "port": 443, "protocol": "tcp", "counters": counters}],
    })
}

fn interval(started: i64, seconds: i64, processes: &Value) -> Value {
    let started = Timestamp::from_second(started).unwrap();
    json!({
        "started": started, "ended": started + SignedDuration::from_secs(seconds),
        "interfaces": [{"name": "wan", "kernel": sum(5_000, 6_000), "captured": sum(4_000, 5_000), "forwarded": sum(1, 0)}],
        "processes": processes, "forwarded": sum(700, 700),
        "forwardedByPeer": [
            {"peer": "192.0.2.2", "remote": "203.0.113.1", "port": 443, "protocol": "udp", "counters": sum(500, 500)},
            {"peer": "192.0.2.2", "remote": "203.0.113.2", "port": 0, "protocol": {"other": 47}, "counters": sum(200, 200)},
        ],
        "otherForwarded": sum(0, 0), "stacked": sum(0, 0), "unattributed": sum(300, 0),
        "unattributedByReason": [{"reason": "noSocket", "counters": sum(300, 0)}],
        "other": sum(0, 0), "capturedTotal": sum(0, 0), "unparsed": 0, "lostFrames": 12,
        "captureFaults": ["eth9: \u{1b}[31mno such device"],
    })
}

fn look(value: Value, after: Duration) -> TrafficLook {
    TrafficLook {
        at: clock::instant() + after,
        interval: serde_json::from_value(value).unwrap(),
    }
}

const LAYOUT: PageLayout = PageLayout {
    by: Grouping::Process,
    sort: SortKey::Bytes,
    rows: 20,
    width: 120,
    height: None,
};

/// The numbers of the line that has `name`.
fn numbers_of(page: &str, name: &str) -> String {
    let line = page.lines().find(|line| line.contains(name));
    let line = line.unwrap_or_else(|| panic!("no line has {name} in\n{page}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words
        .iter()
        .rposition(|word| word.contains('(') || word.contains("Camera"))
        .unwrap_or(0);
    words[at + 1..].join(" ")
}

#[test]
fn rates_are_of_the_time_between_two_looks() {
    let then = interval(
        0,
        10,
        &json!([process(7, "/bin/a", &sum(1_000, 2_000), "203.0.113.9")]),
    );
    let more = interval(
        0,
        12,
        &json!([process(7, "/bin/a", &sum(5_000, 4_000), "203.0.113.9")]),
    );
    let before = look(then.clone(), Duration::ZERO);
    let mut now = look(more, Duration::ZERO);
    now.at = before.at + Duration::from_secs(2);
    let page = page(&now, Some(&before), &LAYOUT);
    assert_eq!(
        numbers_of(&page, "/bin/a (7)"),
        "1.0 kB 2.0 kB 30 4.0 kB 5.0 kB 90",
        "{page}"
    );
    assert!(page.contains("rates over 2.0 s"), "{page}");
    // The first look knows only the interval so far.
    let alone = super::page(&look(then, Duration::ZERO), None, &LAYOUT);
    assert_eq!(
        numbers_of(&alone, "/bin/a (7)"),
        "200 B 100 B 3 2.0 kB 1.0 kB 30",
        "{alone}"
    );
}

#[test]
fn an_interval_closed_between_two_looks_gives_the_new_ones_rate() {
    let before = look(
        interval(
            0,
            10,
            &json!([process(7, "/bin/a", &sum(1_000_000, 2_000), "203.0.113.9")]),
        ),
        Duration::ZERO,
    );
    let fresh = |seconds| {
        interval(
            11,
            seconds,
            &json!([process(7, "/bin/a", &sum(3_000, 1_000), "203.0.113.9")]),
        )
    };
    let now = look(fresh(1), Duration::from_secs(2));
    let page = page(&now, Some(&before), &LAYOUT);
    assert_eq!(
        numbers_of(&page, "/bin/a (7)"),
        "1.0 kB 3.0 kB 40 1.0 kB 3.0 kB 40",
        "{page}"
    );
    // A clock that was set forward: the new interval cannot be older than the look before.
    let mut jumped = look(fresh(900), Duration::ZERO);
    jumped.at = before.at + Duration::from_secs(1);
    assert!(super::page(&jumped, Some(&before), &LAYOUT).contains("rates over 1.0 s"));
    // Too short to say, and a clock that was set back: no rate, never a wrong one.
    for seconds in [0, -50] {
        let page = super::page(
            &look(fresh(seconds), Duration::from_secs(2)),
            Some(&before),
            &LAYOUT,
        );
        assert_eq!(
            numbers_of(&page, "/bin/a (7)"),
            "- - - 1.0 kB 3.0 kB 40",
            "{page}"
        );
    }
}

#[test]
fn a_count_that_fell_is_no_growth() {
    let before = look(interval(0, 10, &json!([])), Duration::ZERO);
    let mut less = interval(0, 12, &json!([]));
    less["unattributedByReason"] = json!([]);
    let mut now = look(less, Duration::ZERO);
    now.at = before.at + Duration::from_secs(2);
    let page = page(&now, Some(&before), &LAYOUT);
    let line = page
        .lines()
        .find(|line| line.starts_with("unattributed"))
        .unwrap();
    let numbers = line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(numbers.ends_with("process 0 B 0 B 0 0 B 0 B 0"), "{line}");
}

#[test]
fn what_has_no_row_is_at_the_foot_with_its_reason() {
    let page = page(&look(interval(0, 10, &json!([])), Duration::ZERO), None, &LAYOUT);
    for part in [
        "forwarded",
        "stacked",
        "other",
        "unattributed",
        "  noSocket",
        "lost frames: 12",
    ] {
        assert!(
            page.lines().any(|line| line.starts_with(part)),
            "{part} in\n{page}"
        );
    }
    assert!(page.contains("fault: eth9: \\u{1b}[31mno such device"), "{page}");
}

#[test]
fn remotes_peers_and_interfaces_have_their_tables() {
    let value = interval(
        0,
        10,
        &json!([process(7, "/bin/a", &sum(1_000, 2_000), "2001:db8::9")]),
    );
    let look = look(value, Duration::ZERO);
    let by = |by| {
        page(
            &look,
            None,
            &PageLayout {
                by,
                width: 160,
                ..LAYOUT
            },
        )
    };
    let remotes = by(Grouping::Remote);
    assert!(remotes.contains("tcp [2001:db8::9]:443"), "{remotes}");
    assert!(remotes.contains("wan /bin/a (7)"), "{remotes}");
    assert!(
        remotes.contains("protocol 47 203.0.113.2") && remotes.contains("routed for 192.0.2.2"),
        "{remotes}"
    );
    let peers = by(Grouping::Peer);
    let line = peers.lines().find(|line| line.starts_with("192.0.2.2")).unwrap();
    assert!(
        line.contains("udp 203.0.113.1:443 and 1 more") && line.contains("700 B"),
        "{line}"
    );
    let interfaces = by(Grouping::Interface);
    let line = interfaces.lines().find(|line| line.starts_with("wan")).unwrap();
    assert!(
        line.contains("9.0 kB captured, 1 B forwarded") && line.contains("5.0 kB"),
        "{line}"
    );
    assert!(by(Grouping::Process).contains("component com.example.Camera"));
}

#[test]
fn rows_are_sorted_as_asked() {
    let processes = json!([
        process(1, "/bin/b", &sum(10, 900), "203.0.113.9"),
        process(2, "/bin/a", &sum(800, 20), "203.0.113.9"),
    ]);
    let look = look(interval(0, 10, &processes), Duration::ZERO);
    let first = |sort| {
        let page = page(&look, None, &PageLayout { sort, ..LAYOUT });
        page.lines().nth(2).unwrap().chars().take(6).collect::<String>()
    };
    let b = [SortKey::Bytes, SortKey::Out, SortKey::Packets, SortKey::Rate].map(first);
    assert_eq!(b, ["/bin/b"; 4]);
    assert_eq!([SortKey::In, SortKey::Name].map(first), ["/bin/a"; 2]);
}

#[test]
fn hostile_names_and_every_size_of_terminal() {
    let hostile = format!(
        "/tmp/\u{1b}[2J\u{1b}]0;owned\u{7}\n\u{202e}漢字{}",
        "x".repeat(300)
    );
    let many = (1..60).map(|pid| process(pid, &hostile, &sum(u64::MAX, u64::MAX), "203.0.113.9"));
    let look = look(interval(0, 10, &many.collect()), Duration::ZERO);
    for by in [
        Grouping::Process,
        Grouping::Remote,
        Grouping::Interface,
        Grouping::Peer,
    ] {
        for width in (1..140).step_by(6) {
            for height in [None, Some(1), Some(5), Some(12), Some(40)] {
                let page = page(
                    &look,
                    None,
                    &PageLayout {
                        by,
                        width,
                        height,
                        ..LAYOUT
                    },
                );
                assert!(!page.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'));
                for line in page.lines() {
                    assert!(columns(line) <= width, "{} of {width}: {line}", columns(line));
                }
                assert!(page.lines().count() <= height.unwrap_or(usize::MAX));
            }
        }
    }
    let page = page(
        &look,
        None,
        &PageLayout {
            height: Some(20),
            ..LAYOUT
        },
    );
    assert!(
        page.contains("and 49 more") && page.lines().count() == 20,
        "{page}"
    );
}

#[test]
fn two_interfaces_of_one_name_keep_their_own_counts() {
    let of = |new: u64, seconds| {
        let mut value = interval(0, seconds, &json!([]));
        let item = |count| json!({"name": "usb0", "kernel": null, "captured": sum(count, 0), "forwarded": sum(0, 0)});
        value["interfaces"] = json!([item(1_000_000), item(new)]);
        value
    };
    let before = look(of(1_000, 10), Duration::ZERO);
    let mut now = look(of(3_000, 12), Duration::ZERO);
    now.at = before.at + Duration::from_secs(2);
    let layout = PageLayout {
        by: Grouping::Interface,
        ..LAYOUT
    };
    let page = page(&now, Some(&before), &layout);
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("usb0"))
        .map(|line| line.split_whitespace().skip(5).take(4).collect())
        .collect();
    assert_eq!(rows, [["0", "B", "0", "B"], ["0", "B", "1.0", "kB"]], "{page}");
}
