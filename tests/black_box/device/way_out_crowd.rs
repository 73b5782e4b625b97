//! The way out in a crowd: an agent that is well is not killed, and no command is refused or kept waiting.

use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{Ns, wait_until};
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::filter_hook::{FilterHook, HANGS, HELD, SLOW};
use edgewarden_lab::stage::preload::Hang;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::guard::lives;
use super::way_out::{OVERRIDE, said};
use super::way_out_done::command;
use crate::common::{LIMIT, isolate, options, ready};

// Q-105, a healthy agent is killed: 32 places for a second each are no defence, only a larger number.
lab_test!(
    a_well_agent_with_very_many_silent_clients_is_not_killed_by_a_release,
    || {
        let stage = ready(options());
        isolate(&stage);
        let pid = stage.agent.as_ref().unwrap().pid();
        // A younger one is asked once more.
        thread::sleep(Duration::from_secs(3));
        let clients: Vec<UnixStream> = (0..120)
            .map(|_| UnixStream::connect(stage.control_socket()).unwrap())
            .collect();
        said(&stage, &OVERRIDE);
        drop(clients);
        assert!(lives(pid), "a healthy agent was killed by a command");
    }
);

/// Somebody who listens where the agent did and answers every question with a line.
pub(super) fn stranger(stage: &Stage, line: &'static str) {
    use std::io::{BufRead as _, BufReader, Write as _};
    std::fs::remove_file(stage.control_socket()).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(stage.control_socket()).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = String::new();
            let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked);
            let _ = stream.write_all(line.as_bytes());
        }
    });
}

// Q-104: a stranger at the socket of an agent that hangs, and not of a dead one.
lab_test!(
    nonsense_at_the_socket_of_a_stopped_agent_does_not_take_away_the_way_out,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        stranger(&stage, "hello\n");
        let (code, ..) = said(&stage, &OVERRIDE);
        assert!(!stage.has_table().unwrap(), "exit {code:?}: no way out");
    }
);

// Q-104: the same, of one that refuses everything, or of another version.
lab_test!(
    a_refusal_at_the_socket_of_a_dead_agent_does_not_take_away_the_way_out,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        stranger(&stage, "{\"protocol\":1,\"error\":\"no\"}\n");
        let (code, ..) = said(&stage, &OVERRIDE);
        assert!(!stage.has_table().unwrap(), "exit {code:?}: no way out");
    }
);

// Q-104: eight questions may wait, and thirty-two are taken at once.
lab_test!(
    many_questions_at_once_do_not_make_the_agent_refuse_a_release,
    || {
        use std::io::{Read as _, Write as _};
        use std::sync::atomic::{AtomicBool, Ordering};
        let stage = ready(options());
        let over = AtomicBool::new(false);
        let socket = stage.control_socket();
        let mut refused = Vec::new();
        thread::scope(|scope| {
            let ask = || {
                let mut seen = 0;
                while !over.load(Ordering::Relaxed) {
                    let mut all: Vec<UnixStream> = (0..24)
                        .filter_map(|_| UnixStream::connect(&socket).ok())
                        .collect();
                    for one in &mut all {
                        let _ = one.write_all(b"{\"protocol\":1,\"command\":\"status\"}\n");
                    }
                    for one in &mut all {
                        let mut text = String::new();
                        let _ = one.read_to_string(&mut text);
                        if text.contains("\"error\"") {
                            seen += 1;
                            if seen == 1 {
                                println!("a status: {text}");
                            }
                        }
                    }
                }
                println!("refused: {seen}");
            };
            scope.spawn(ask);
            for _ in 0..30 {
                let (code, text, errors) = said(&stage, &OVERRIDE);
                if code != Some(0) {
                    refused.push(format!("{code:?} {text}{errors}"));
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(refused.is_empty(), "{refused:#?}");
    }
);

/// No thread is to be had: a fork bomb, a machine whose numbers are used up.
const NO_THREADS: &str = r#"
#include <errno.h>
#include <pthread.h>
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*begin)(void *), void *with) {
    return EAGAIN;
}
"#;

// Q-104: on a machine under attack there may be no thread, and an agent that is well answers all the same.
lab_test!(a_release_needs_no_thread_to_ask_an_agent_that_is_well, || {
    let stage = ready(options());
    isolate(&stage);
    let none = Hang::prepare(&stage, NO_THREADS).unwrap();
    let mut release = command(&stage, &OVERRIDE);
    let [preload, _] = none.environment();
    let (name, value) = preload.split_once('=').unwrap();
    release.env(name, value);
    let output = stage
        .site
        .run_in(Ns::Gateway, || release.output())
        .unwrap()
        .unwrap();
    println!("{output:?}");
    assert!(!stage.has_table().unwrap(), "{:?}", output.status);
});

/// Whoever opens the journal waits: a disk that is not read from any more.
const HANGING_JOURNAL: &str = r#"
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
int open64(const char *path, int flags, ...) {
    va_list all;
    va_start(all, flags);
    int mode = va_arg(all, int);
    va_end(all);
    size_t length = strlen(path);
    if (length > 8 && strcmp(path + length - 8, "/journal") == 0) wait_here();
    return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64"))(path, flags, mode);
}
"#;

// Q-104: the disk is why the agent is dead.
lab_test!(a_journal_that_is_not_read_does_not_hold_the_way_out_up, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let hang = Hang::prepare(&stage, HANGING_JOURNAL).unwrap();
    hang.begin().unwrap();
    let timed = |args: &[&str]| {
        let mut command = command(&stage, args);
        for variable in hang.environment() {
            let (name, value) = variable.split_once('=').unwrap();
            command.env(name, value);
        }
        let begun = Instant::now();
        let mut running = stage
            .site
            .run_in(Ns::Gateway, || command.spawn())
            .unwrap()
            .unwrap();
        let ended = wait_until(Duration::from_secs(30), "it ends", || {
            running.try_wait().unwrap().is_some()
        });
        println!("{args:?} in {:?}: {ended:?}", begun.elapsed());
        let _ended = running.kill();
        let _ended = running.wait();
        ended.is_ok()
    };
    let (status, release) = (timed(&["status"]), timed(&OVERRIDE));
    println!("open: {}", !stage.has_table().unwrap());
    assert!(status && release, "status {status}, release {release}");
});

// Q-105, a healthy agent is killed: the silence was its predecessor's, seconds ago.
lab_test!(
    a_silence_of_before_does_not_kill_the_agent_that_has_started_since,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        // As a listing of very many remotes takes on a small processor; the command's own, the agent's is quick.
        let hook = FilterHook::prepare(&stage).unwrap();
        hook.begin(HANGS, "").unwrap();
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        let mut release = command(&stage, &OVERRIDE);
        for variable in hook.environment() {
            let (name, value) = variable.split_once('=').unwrap();
            release.env(name, value);
        }
        release.stdout(Stdio::piped()).stderr(Stdio::piped());
        let release = stage
            .site
            .run_in(Ns::Gateway, || release.spawn())
            .unwrap()
            .unwrap();
        wait_until(LIMIT, "it looks at the kernel", || hook.written(HELD).is_some()).unwrap();
        // Watchdog, nucleus or guard end the one that hangs, and start another.
        stage.agent = None;
        stage.start_agent().unwrap();
        let pid = stage.agent.as_ref().unwrap().pid();
        let well = |s: &Value| s["cloud"]["channelWorks"] == true;
        let is_well = stage.wait_status(Duration::from_secs(3), "it hears the cloud", well);
        // Older than a question takes.
        thread::sleep(Duration::from_secs(2));
        hook.end(HANGS).unwrap();
        let output = release.wait_with_output().unwrap();
        println!("{output:?} {:?}", is_well.is_ok());
        assert!(lives(pid), "a healthy agent was killed by a command");
    }
);

// Q-105, a healthy agent is killed: each of its questions keeps within the kernel's limit, and all together take long.
lab_test!(
    an_agent_that_starts_very_slowly_is_not_killed_by_a_release,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        stage.agent = None;
        let hook = FilterHook::prepare(&stage).unwrap();
        hook.begin(SLOW, "").unwrap();
        let [preload, place] = hook.environment();
        stage
            .start_agent_as(std::path::Path::new("env"), &[&preload, &place])
            .unwrap();
        let pid = stage.agent.as_ref().unwrap().pid();
        wait_until(Duration::from_secs(30), "it has the directory", || {
            std::fs::read_to_string(stage.state_directory().join("lock"))
                .is_ok_and(|lock| lock.contains(&pid.to_string()))
        })
        .unwrap();
        said(&stage, &OVERRIDE);
        assert!(lives(pid), "an agent that was starting was killed by a command");
    }
);
