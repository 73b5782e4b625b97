//! Rogue, sensor and sink against each other over loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::lines::Tell;
use super::rogue::{self, RogueArgs};
use super::sensor::{self, SensorArgs};
use super::*;

/// Longest wait for anything; far above what is needed, so that a loaded machine does not fail a test.
const LIMIT: Duration = Duration::from_secs(20);

/// A task that is stopped with the test.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The JSON lines of a program.
struct Lines(UnboundedReceiver<Value>);

impl Lines {
    fn new() -> (Tell, Self) {
        let (sender, lines) = unbounded_channel();
        let tell: Tell = Arc::new(move |line: &Value| {
            // The test may have ended already.
            let _ended = sender.send(line.clone());
            Ok(())
        });
        (tell, Self(lines))
    }

    /// The next line of this event that is wanted; what comes before it is passed over.
    async fn next_where(&mut self, event: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        let found = tokio::time::timeout(LIMIT, async {
            while let Some(line) = self.0.recv().await {
                seen.push(line.clone());
                if line["event"] == json!(event) && wanted(&line) {
                    return Some(line);
                }
            }
            None
        });
        match found.await {
            Ok(Some(line)) => line,
            _ => panic!("no {event:?}: {seen:#?}"),
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A sink on a free port and its lines.
async fn start_sink() -> (Running, Lines, SocketAddr) {
    let (tell, mut lines) = Lines::new();
    let task = tokio::spawn(async move {
        if let Err(error) = sink::serve((Ipv4Addr::LOCALHOST, 0).into(), tell).await {
            panic!("the sink ended: {error}");
        }
    });
    let listening = lines.next_where("listening", |_| true).await;
    let address = listening["address"]
        .as_str()
        .expect("an address")
        .parse()
        .expect("ADDR:PORT");
    (Running(task), lines, address)
}

#[tokio::test]
async fn the_sink_counts_every_byte_the_rogue_sends_to_each_remote() {
    let (_first, mut first_lines, remote) = start_sink().await;
    let (_second, mut second_lines, also) = start_sink().await;
    let (tell, mut sent) = Lines::new();
    let args = RogueArgs {
        remote,
        also: vec![also],
        messages: 3,
        size: 5_000,
        every_millis: 1,
        forever: false,
        user_timeout_millis: 3_000,
    };
    rogue::attack_all(args, tell)
        .await
        .expect("all messages are sent");
    let to_remote = sent
        .next_where("sent", |line| {
            line["remote"] == json!(remote.to_string()) && line["total"].as_u64() > Some(15_000)
        })
        .await;
    assert_eq!(
        to_remote["total"],
        json!(3 * (5_000 + 15)),
        "three documents with their frame"
    );
    for lines in [&mut first_lines, &mut second_lines] {
        lines
            .next_where("received", |line| {
                line["total"] == to_remote["total"] && line["protocol"] == json!("tcp")
            })
            .await;
    }
}

#[tokio::test]
async fn the_rogue_tells_errors_and_ends() {
    let (tell, mut lines) = Lines::new();
    let args = RogueArgs {
        remote: (Ipv4Addr::LOCALHOST, free_port()).into(),
        also: Vec::new(),
        messages: 2,
        size: 10,
        every_millis: 1,
        forever: false,
        user_timeout_millis: 3_000,
    };
    rogue::attack_all(args, tell)
        .await
        .expect("errors are lines, not the end");
    for _ in 0..2 {
        assert!(
            lines.next_where("error", |_| true).await["error"]
                .as_str()
                .is_some_and(|error| error.contains("refused"))
        );
    }
}

#[tokio::test]
async fn the_sensor_sends_over_tcp_and_udp() {
    let (_sink, mut lines, remote) = start_sink().await;
    for (udp, protocol) in [(false, "tcp"), (true, "udp")] {
        let args = SensorArgs {
            remote,
            bytes: 200,
            every_millis: 5,
            udp,
        };
        let _sensor = Running(tokio::spawn(async move {
            if let Err(error) = sensor::run(args).await {
                panic!("the sensor ended: {error}");
            }
        }));
        let line = lines
            .next_where("received", |line| {
                line["protocol"] == json!(protocol) && line["total"].as_u64() >= Some(400)
            })
            .await;
        assert_eq!(
            line["total"].as_u64().map(|total| total % 200),
            Some(0),
            "whole messages"
        );
    }
}

#[derive(Debug, clap::Parser)]
enum Lab {
    Sensor(SensorArgs),
    Rogue(RogueArgs),
    Sink(sink::SinkArgs),
}

fn parses(line: &str) -> bool {
    <Lab as clap::Parser>::try_parse_from(["lab"].into_iter().chain(line.split(' '))).is_ok()
}

#[test]
fn command_lines_are_read_and_limits_are_kept() {
    <Lab as clap::CommandFactory>::command().debug_assert();
    for line in [
        "sensor --remote 192.0.2.1:80 --bytes 200 --every-millis 500 --udp",
        "rogue --remote 192.0.2.1:80 --also [2001:db8::1]:80 --also 192.0.2.2:80 --messages 10 --size 5000 --forever",
        "sink --listen [::1]:0",
    ] {
        assert!(parses(line), "{line}");
    }
    for line in [
        "sensor",
        "sensor --remote 192.0.2.1",
        "sensor --remote 192.0.2.1:80 --bytes 0",
        "sensor --remote 192.0.2.1:80 --every-millis 0",
        "rogue --remote 192.0.2.1:80 --size 1048577",
        "rogue --remote 192.0.2.1:80 --every-millis 0",
        "sink --listen port",
    ] {
        assert!(!parses(line), "{line}");
    }
}
