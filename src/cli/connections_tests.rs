//! The table of connections.

use serde_json::json;

use super::*;

fn list(exe: &str) -> SocketList {
    serde_json::from_value(json!({
        "open": 70, "matching": 3, "everyProcessSeen": true,
        "connections": [
            {"protocol": "tcp", "state": "listening", "local": "0.0.0.0:22", "remote": null, "interface": null, "uid": 0,
             "process": {"identity": {"pid": 5, "startTicks": 1}, "name": "sshd", "exe": null,
                         "workload": "service ssh"}, "traffic": null},
            {"protocol": "tcp", "state": "established", "local": "[2001:db8::1]:40000", "remote": "[2001:db8::2]:443",
             "interface": "wan", "uid": 0,
             "process": {"identity": {"pid": 6, "startTicks": 1}, "name": "x", "exe": exe, "workload": null},
             "traffic": {"bytesIn": 1500, "bytesOut": 20, "sockets": 2}},
        ],
    }))
    .unwrap()
}

#[test]
fn a_socket_is_shown_with_its_owner_and_bytes() {
    let text = table(&list("/opt/sensor"), 120);
    let line = |pid: &str| text.lines().find(|line| line.ends_with(pid)).unwrap().to_owned();
    let words = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        words(line("(5)")),
        "tcp listening 0.0.0.0:22 - * - - service ssh sshd (5)"
    );
    assert_eq!(
        words(line("(6)")),
        "tcp established [2001:db8::1]:40000 [2001:db8::2]:443 wan 1.5 kB /2 20 B /2 /opt/sensor (6)"
    );
    assert!(text.ends_with(
        "70 open, 3 as wanted, 2 shown: narrow them down with --process, --remote, --listening\n"
    ));
}

#[test]
fn a_hostile_name_stays_in_its_line_and_width() {
    let text = table(&list(&format!("/tmp/\u{1b}[2J\n\u{9b}{}", "漢".repeat(90))), 120);
    assert_eq!(text.lines().count(), 4);
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    assert!(text.lines().take(3).all(|line| columns(line) <= 120), "{text}");
    assert!(text.contains("(6)"), "the pid is never cut: {text}");
}
