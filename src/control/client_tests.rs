//! Agents that answer, that hang, that say little or nonsense, and nobody.

#![expect(
    clippy::disallowed_methods,
    reason = "is what it talks to, in files of its own"
)]

use super::*;
use crate::control::question::GetStatus;
use std::os::unix::net::UnixListener;
use std::thread;

#[test]
fn each_way_of_not_being_answered_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let missing = ask(&socket, GetStatus {}).unwrap_err();
    assert!(missing.is_nobody());
    let text = missing.to_string();
    assert!(
        text.contains("there is no socket") && text.contains("--control-socket"),
        "{text}"
    );

    drop(UnixListener::bind(&socket).unwrap());
    let dead = ask(&socket, GetStatus {}).unwrap_err();
    assert!(dead.is_nobody());
    let text = dead.to_string();
    assert!(
        text.contains("nobody answers at") && text.contains("control.sock"),
        "{text}"
    );
}

fn listens() -> (tempfile::TempDir, PathBuf, UnixListener) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    (directory, socket, listener)
}

/// What is said to whoever asks somebody who answers so often, each time with one line.
fn asked_of_one_who_says(line: &'static [u8], answers: usize) -> AskError {
    let (_directory, socket, listener) = listens();
    let agent = thread::spawn(move || {
        let answer = |_| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(stream.try_clone().unwrap())
                .read_line(&mut request)
                .unwrap();
            stream.write_all(line).unwrap();
            request
        };
        (0..answers).map(answer).collect::<Vec<String>>()
    });
    let error = ask(&socket, GetStatus {}).unwrap_err();
    let asked = ["pulse", "status"].iter().take(answers);
    let asked = asked.map(|command| format!("{{\"protocol\":1,\"command\":\"{command}\"}}\n"));
    assert_eq!(agent.join().unwrap(), asked.collect::<Vec<String>>());
    error
}

#[test]
fn silence_is_told_in_words() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let _nobody_reads = UnixListener::bind(&socket).unwrap();
    let asked = ask_json_within(&socket, GetStatus {}, Duration::from_secs(1), |_| Ok(()));
    let text = crate::error_text(&asked.unwrap_err());
    assert!(text.ends_with("it said nothing within 1 s"), "{text}");
    let silent = ask(&socket, GetStatus {}).unwrap_err();
    assert!(silent.is_nobody(), "{silent}");
    let text = crate::error_text(&silent);
    assert!(text.contains("stopped, or it hangs"), "{text}");
    let AskError::Silent { pid, .. } = silent else {
        panic!("{silent:?}")
    };
    assert_eq!(pid, Some(std::process::id()), "the kernel names who listens");
}

#[test]
fn one_that_hangs_after_it_was_asked_is_found() {
    let (_directory, socket, listener) = listens();
    let beats_once = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"{\"protocol\":1,\"ok\":{}}\n").unwrap();
        listener
    });
    let begun = Instant::now();
    let silent = ask(&socket, GetStatus {}).unwrap_err();
    assert!(matches!(silent, AskError::Silent { .. }), "{silent:?}");
    assert!(begun.elapsed() < LIMIT / 2, "{:?}", begun.elapsed());
    drop(beats_once.join().unwrap());
}

#[test]
fn a_full_queue_and_a_trickle_end_in_time() {
    let (_directory, socket, listener) = listens();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _only_one = UnixStream::connect(&socket).unwrap();
    let limit = Duration::from_millis(300);
    let full = connected(&socket, End::after(limit)).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::TimedOut, "{full}");
    assert!(matches!(feel_pulse(&socket), Err(AskError::Silent { .. })));

    std::fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let trickles = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(b" ").is_ok() {
            thread::sleep(limit / 4);
        }
    });
    assert!(matches!(feel_pulse(&socket), Err(AskError::Silent { .. })));
    trickles.join().unwrap();
}

#[test]
fn who_is_no_agent_is_nobody_and_each_is_named() {
    for said in [&b"hello\n"[..], b"\xff\xfe\n", b"{\"protocol\":1,\"ok\":7}\n"] {
        let error = asked_of_one_who_says(said, 1);
        assert!(error.is_nobody(), "{error:?}");
        assert!(error.to_string().contains("is no agent"), "{error}");
    }
    let error = asked_of_one_who_says(b"", 1);
    assert!(error.is_nobody(), "{error:?}");
    assert!(error.to_string().contains("hangs up"), "{error}");
}

#[test]
fn an_agent_of_another_version_is_named_with_both_protocols() {
    let early = b"{\"error\":\"the request cannot be read: unknown field `protocol`\"}\n";
    for (line, theirs) in [
        (&early[..], "an early protocol without a number"),
        (b"{\"protocol\":7,\"ok\":{}}\n", "protocol 7"),
    ] {
        let error = asked_of_one_who_says(line, 1);
        assert!(!error.is_nobody());
        let text = crate::error_text(&error);
        for part in [
            "another version",
            "control.sock",
            theirs,
            "this program speaks protocol 1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let refused = asked_of_one_who_says(b"{\"protocol\":1,\"error\":\"no\"}\n", 2);
    assert_eq!(refused.to_string(), "no");
}
