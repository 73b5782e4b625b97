//! `edgewarden top` and `edgewarden connections` in a stage: real traffic under its owner's name, nothing hostile on the
//! terminal, and the terminal given back.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, DEVICE_V4, INTERNET_V4, Ns, Running, lab_program, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::common::programs::start_named;
use crate::common::{self, LIMIT, done};

/// A report every five minutes: what a test sends stays in one interval.
fn options() -> StageOptions {
    StageOptions {
        configuration: json!({}),
        ..common::options()
    }
}

/// A lab whose agent reads every interface and is connected.
fn ready() -> Stage {
    let mut stage = Stage::start(options()).unwrap();
    stage.start_agent().unwrap();
    stage
        .wait_status(LIMIT, "connected, and both interfaces are read", |s| {
            s["cloud"]["channelWorks"] == true
                && s["capture"]["interfaces"]
                    .as_array()
                    .is_some_and(|list| list.len() == 2)
        })
        .unwrap();
    stage
}

/// A sensor under a program name of its own, sending fifty messages a second.
fn sensor(stage: &Stage, ns: Ns, name: &str, more: &[&str]) -> Running {
    let mut args = vec!["sensor", "--every-millis", "20"];
    args.extend(more);
    start_named(stage, ns, name, &args)
}

fn sink(stage: &Stage) -> Running {
    let log = stage.site.directory().join("sink.log");
    let args = ["sink", "--listen", "198.51.100.1:9000"];
    let mut sink = stage
        .site
        .spawn(Ns::Internet, lab_program().unwrap(), &args, &[], log)
        .unwrap();
    sink.wait_event(LIMIT, |event| event["event"] == "listening")
        .unwrap();
    sink
}

/// What a command prints; it must succeed and must not steer the terminal.
fn output(stage: &Stage, args: &[&str]) -> String {
    let output = done(stage, args);
    let steers = |c: char| c == '\u{202e}' || c.is_control() && c != '\n';
    assert!(!output.contains(steers), "{args:?} printed {output:?}");
    output
}

/// Waits until a command prints a line with all of `parts` in it, and gives that line.
fn line_with(stage: &Stage, args: &[&str], parts: &[&str]) -> String {
    let mut last = String::new();
    let mut found = None;
    let done = wait_until(LIMIT, "the line", || {
        last = output(stage, args);
        let line = last
            .lines()
            .find(|line| parts.iter().all(|part| line.contains(part)));
        found = line.map(str::to_owned);
        found.is_some()
    });
    assert!(done.is_ok(), "{args:?} has no line with {parts:?}:\n{last}");
    found.unwrap()
}

fn json_of(stage: &Stage, args: &[&str]) -> Value {
    serde_json::from_str(&output(stage, args)).unwrap()
}

lab_test!(traffic_is_shown_by_process_interface_remote_and_peer, || {
    let stage = ready();
    let _sink = sink(&stage);
    let sensor_here = sensor(
        &stage,
        Ns::Gateway,
        "shown-sensor",
        &["--remote", "198.51.100.1:9000"],
    );
    let attacker = format!("{ATTACKER_V4}:9001");
    let _behind = sensor(&stage, Ns::Lan, "device", &["--remote", &attacker, "--udp"]);

    let owner = format!("opt/shown-sensor ({})", sensor_here.pid());
    let top = ["top", "--once"];
    let line = line_with(&stage, &top, &[&owner, "kB"]);
    assert!(!line.trim_end().ends_with(" 0"), "packets are counted: {line}");
    line_with(
        &stage,
        &[&top[..], &["--by", "interface", "--sort", "name"]].concat(),
        &["wan0", "captured"],
    );
    let remote = format!("tcp {INTERNET_V4}:9000");
    line_with(
        &stage,
        &[&top[..], &["--by", "remote", "--sort", "out"]].concat(),
        &[&remote, "shown-sensor"],
    );
    let peer = DEVICE_V4.to_string();
    line_with(
        &stage,
        &[&top[..], &["--by", "peer"]].concat(),
        &[&peer, &attacker],
    );
    line_with(&stage, &top, &["forwarded", "kB"]);
    let page = output(&stage, &[&top[..], &["--rows", "1"]].concat());
    for foot in ["and ", "unattributed", "stacked", "other", "lost frames: 0"] {
        assert!(
            page.lines().any(|line| line.starts_with(foot)),
            "{foot} in\n{page}"
        );
    }

    let interval = json_of(&stage, &["top", "--json"]);
    let sent = interval["processes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|process| process["identity"]["pid"] == sensor_here.pid());
    let sent = &sent.unwrap()["counters"];
    assert!(
        sent["bytesOut"].as_u64() > sent["bytesIn"].as_u64(),
        "a sensor sends: {sent}"
    );
});

lab_test!(connections_have_their_owner_state_and_bytes, || {
    let stage = ready();
    let _sink = sink(&stage);
    let sensor = sensor(
        &stage,
        Ns::Gateway,
        "held-sensor",
        &["--remote", "198.51.100.1:9000"],
    );
    let _listener = stage.site.echo_server(Ns::Gateway, 8080).unwrap();

    let end = format!("{INTERNET_V4}:9000");
    let owner = format!("held-sensor ({})", sensor.pid());
    line_with(
        &stage,
        &["connections", "--remote", &end],
        &["tcp", "established", "wan0", "kB", &owner],
    );
    let held = json_of(
        &stage,
        &["connections", "--json", "--process", &sensor.pid().to_string()],
    );
    assert_eq!(held["matching"], 1, "{held}");
    assert!(held["open"].as_u64() > Some(1), "{held}");
    let one = &held["connections"][0];
    assert_eq!(
        (&one["state"], &one["interface"]),
        (&json!("established"), &json!("wan0"))
    );
    assert_eq!(one["process"]["identity"]["pid"], sensor.pid());
    assert!(one["traffic"]["bytesOut"].as_u64() > Some(1_000), "{one}");

    let broker = format!("{INTERNET_V4}:8883");
    let uplink = json_of(&stage, &["connections", "--json", "--remote", &broker]);
    let pids: Vec<&Value> = uplink["connections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["process"]["identity"]["pid"])
        .collect();
    assert_eq!(pids, [&json!(stage.nucleus.pid())], "{uplink}");

    let own = std::process::id().to_string();
    let listening = json_of(
        &stage,
        &["connections", "--json", "--listening", "--process", &own],
    );
    assert_eq!(listening["connections"][0]["local"], "[::]:8080", "{listening}");
    let elsewhere = json_of(&stage, &["connections", "--json", "--remote", "2001:db8:99::/48"]);
    assert_eq!(elsewhere["matching"], 0);
});

lab_test!(a_hostile_program_name_reaches_no_terminal, || {
    let stage = ready();
    let _sink = sink(&stage);
    let name = "evil\u{1b}[2J\u{1b}]0;owned\u{7}\n\u{9b}31m\u{202e}";
    let sensor = sensor(&stage, Ns::Gateway, name, &["--remote", "198.51.100.1:9000"]);
    let pid = format!("({})", sensor.pid());
    line_with(&stage, &["top", "--once"], &["31m\\u{202e}", &pid]);
    line_with(&stage, &["connections"], &["31m\\u{202e}", &pid]);
    // The same name, read by a machine, is what it is.
    let list = json_of(
        &stage,
        &["connections", "--json", "--process", &sensor.pid().to_string()],
    );
    let exe = list["connections"][0]["process"]["exe"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(exe.ends_with(name), "{exe:?}");
    let top = output(&stage, &["top", "--json"]);
    assert!(top.contains("evil\\u001b[2J"), "JSON keeps the name, escaped");
});

lab_test!(without_an_agent_the_commands_say_what_to_do, || {
    let stage = Stage::start(options()).unwrap();
    for args in [
        &["top", "--once"][..],
        &["top"],
        &["connections"],
        &["orders"],
        &["status"],
    ] {
        let (code, _, errors) = stage.edgewarden(args).unwrap();
        assert_eq!(code, Some(3), "{args:?}: {errors}");
        let socket = stage.control_socket().display().to_string();
        for part in [
            "the agent is not running",
            &socket,
            "start the component",
            "--control-socket",
        ] {
            assert!(errors.contains(part), "{args:?} does not say {part}: {errors}");
        }
    }
    let (code, _, errors) = stage.edgewarden(&["connections", "--remote", "nowhere"]).unwrap();
    assert_eq!(code, Some(2));
    assert!(errors.contains("expected an address"), "{errors}");
});

/// `edgewarden top` on a pseudo terminal.
struct Terminal {
    program: Child,
    ours: File,
    theirs: OwnedFd,
    before: Termios,
    seen: String,
}

impl Terminal {
    fn top(stage: &Stage) -> Self {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let program = Command::new(env!("CARGO_BIN_EXE_edgewarden"))
            .arg("--control-socket")
            .arg(stage.control_socket())
            .args(["top", "--interval", "1"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            program,
            ours: pty.master.into(),
            theirs: pty.slave,
            before,
            seen: String::new(),
        }
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.theirs).unwrap()
    }

    /// Reads until `text` was written `count` times.
    fn read_until(&mut self, text: &str, count: usize) {
        let mut buffer = [0; 4096];
        while self.seen.matches(text).count() < count {
            let mut sources = [PollFd::new(self.ours.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut sources, PollTimeout::try_from(LIMIT).unwrap()).unwrap();
            assert_eq!(ready, 1, "{text:?} is not written, only {:?}", self.seen);
            let read = self.ours.read(&mut buffer).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    /// The program ends well and everything is as before.
    fn check_end(mut self) {
        self.read_until("\x1b[?25h\x1b[?1049l", 1);
        wait_until(LIMIT, "top ends", || self.program.try_wait().unwrap().is_some()).unwrap();
        assert!(self.program.wait().unwrap().success());
        assert!(self.modes() == self.before, "the keyboard is as it was");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ended already, unless the test failed.
        let _ended = self.program.kill();
        let _ended = self.program.wait();
    }
}

lab_test!(the_terminal_is_given_back, || {
    let stage = ready();
    let quit = |terminal: &mut Terminal| terminal.ours.write_all(b"xq").unwrap();
    let interrupt = |terminal: &mut Terminal| {
        let pid = Pid::from_raw(terminal.program.id().try_into().unwrap());
        kill(pid, Signal::SIGINT).unwrap();
    };
    let ends: [fn(&mut Terminal); 2] = [quit, interrupt];
    for end in ends {
        let mut terminal = Terminal::top(&stage);
        terminal.read_until("interval since", 3);
        let cooked = LocalFlags::ICANON | LocalFlags::ECHO;
        assert!(
            terminal.before.local_flags.contains(cooked) && !terminal.modes().local_flags.intersects(cooked),
            "keys are read as they come"
        );
        let seen = &terminal.seen;
        assert!(
            seen.starts_with("\x1b[?1049h"),
            "another screen is used: {seen:?}"
        );
        end(&mut terminal);
        terminal.check_end();
    }
});

lab_test!(a_pipe_gets_plain_pages_and_ends_top_by_closing, || {
    let stage = ready();
    let mut top = Command::new(env!("CARGO_BIN_EXE_edgewarden"))
        .arg("--control-socket")
        .arg(stage.control_socket())
        .args(["top", "--interval", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let mut pages = 0;
    while pages < 2 {
        let line = lines.next().unwrap().unwrap();
        assert!(!line.contains(char::is_control), "{line:?}");
        pages += usize::from(line.starts_with("interval since"));
    }
    drop(lines);
    let ended = wait_until(LIMIT, "top ends", || top.try_wait().unwrap().is_some());
    // Before judging: nothing may be left running.
    let _ended = top.kill();
    let output = top.wait_with_output().unwrap();
    ended.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
});
