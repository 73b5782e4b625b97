//! The relay over real sockets of the loopback.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

use super::{FrontArgs, serve};

/// How long something that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long something that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(200);
const CONNECT: &[u8] = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x1e\x00\x02gw";
const CONNACK: &[u8] = b"\x20\x02\x00\x00";

/// A relay before a listener of the test's own.
struct Way {
    address: SocketAddr,
    broker: TcpListener,
    events: Arc<Mutex<Vec<Value>>>,
    control: PathBuf,
    _folder: tempfile::TempDir,
}

impl Way {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = folder.path().join("control");
        let args = FrontArgs {
            listen: "127.0.0.1:0".parse().unwrap(),
            to: broker.local_addr().unwrap(),
            control: control.clone(),
            delay_millis: 0,
        };
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let told = Arc::clone(&events);
        tokio::spawn(serve(
            args,
            Arc::new(move |line| {
                told.lock().unwrap().push(line.clone());
                Ok(())
            }),
        ));
        let mut way = Self {
            address: ([127, 0, 0, 1], 0).into(),
            broker,
            events,
            control,
            _folder: folder,
        };
        let listening = way.event("listening").await;
        way.address = listening["address"].as_str().unwrap().parse().unwrap();
        way
    }

    /// A client and the broker's end of its connection.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.address).await.unwrap();
        let (broker, _) = timeout(PATIENCE, self.broker.accept()).await.unwrap().unwrap();
        (client, broker)
    }

    async fn ask(&self, change: &str) -> Value {
        let mut stream = UnixStream::connect(&self.control).await.unwrap();
        stream.write_all(format!("{change}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await.unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    async fn change(&self, change: &str) {
        assert_eq!(self.ask(change).await["ok"], true, "{change}");
    }

    /// The first event of this kind.
    async fn event(&self, name: &str) -> Value {
        let look = async {
            loop {
                let found = self
                    .events
                    .lock()
                    .unwrap()
                    .iter()
                    .find(|line| line["event"] == name)
                    .cloned();
                match found {
                    Some(line) => return line,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(PATIENCE, look)
            .await
            .unwrap_or_else(|_| panic!("no event {name}"))
    }
}

async fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    timeout(PATIENCE, stream.read_exact(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    bytes
}

/// Whether the other side ended it.
async fn ended(stream: &mut TcpStream) -> bool {
    match timeout(PATIENCE, stream.read(&mut [0])).await.unwrap() {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

async fn silent(stream: &mut TcpStream) -> bool {
    timeout(SILENCE, stream.read(&mut [0])).await.is_err()
}

fn publish(topic: &str) -> Vec<u8> {
    let length = u8::try_from(topic.len()).unwrap();
    [&[0x30, length + 2, 0, length], topic.as_bytes()].concat()
}

#[tokio::test]
async fn without_a_delay_bytes_pass_both_ways_and_the_end_too() {
    let way = Way::new().await;
    let (mut client, mut broker) = way.connect().await;
    client.write_all(b"to").await.unwrap();
    broker.write_all(b"fro").await.unwrap();
    assert_eq!(
        (read(&mut broker, 2).await, read(&mut client, 3).await),
        (b"to".to_vec(), b"fro".to_vec())
    );
    drop(client);
    assert!(ended(&mut broker).await);
    drop(broker);
    assert_eq!(way.event("ended").await["cause"], "closed");
}

#[tokio::test]
async fn each_direction_takes_the_delay_and_keeps_the_order() {
    let way = Way::new().await;
    let (mut client, mut broker) = way.connect().await;
    way.change(r#"{"delayMillis":150}"#).await;
    let began = Instant::now();
    for byte in 0..20_u8 {
        client.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(read(&mut broker, 20).await, (0..20).collect::<Vec<_>>());
    // All of it was under way at once: the delay is the way's, not each byte's.
    assert!((Duration::from_millis(150)..Duration::from_millis(1_500)).contains(&began.elapsed()));
    let began = Instant::now();
    broker.write_all(b"x").await.unwrap();
    read(&mut client, 1).await;
    assert!(began.elapsed() >= Duration::from_millis(150));
    // A connection takes there and back before its first byte sets out.
    let began = Instant::now();
    let (mut client, mut broker) = way.connect().await;
    client.write_all(b"x").await.unwrap();
    read(&mut broker, 1).await;
    assert!(began.elapsed() >= Duration::from_millis(450));
}

#[tokio::test]
async fn a_black_hole_holds_back_and_keeps_connections() {
    let way = Way::new().await;
    let (mut client, mut broker) = way.connect().await;
    way.change(r#"{"blackHole":true}"#).await;
    client.write_all(b"held").await.unwrap();
    assert!(silent(&mut broker).await && silent(&mut client).await);
    way.change(r#"{"blackHole":false}"#).await;
    assert_eq!(read(&mut broker, 4).await, b"held");
}

#[tokio::test]
async fn what_waits_in_a_black_hole_is_bounded() {
    let way = Way::new().await;
    let (mut client, _broker) = way.connect().await;
    way.change(r#"{"blackHole":true}"#).await;
    let part = vec![0; 64 * 1024];
    let mut taken = 0;
    while timeout(SILENCE * 5, client.write_all(&part)).await.is_ok() {
        taken += part.len();
        // The queue's 4 MB, and what the kernel buffers at both ends of the loopback.
        assert!(taken < 64 * 1024 * 1024, "the relay takes without end");
    }
    assert!(taken >= 1024 * 1024, "{taken}");
}

#[tokio::test]
async fn connections_are_cut_and_refused_and_come_back() {
    let way = Way::new().await;
    let (mut client, mut broker) = way.connect().await;
    way.change(r#"{"cut":true,"refuse":true}"#).await;
    assert!(ended(&mut client).await && ended(&mut broker).await);
    assert_eq!(way.event("ended").await["cause"], "cut");
    let refused = async {
        while TcpStream::connect(way.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("refused");
    way.change(r#"{"refuse":false}"#).await;
    let back = async {
        while TcpStream::connect(way.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, back).await.expect("taken again");
}

#[tokio::test]
async fn a_denied_publish_ends_the_connection_and_arrives_nowhere() {
    let way = Way::new().await;
    let (mut client, mut broker) = way.connect().await;
    way.change(r#"{"deny":["$aws/things/+/shadow/get"]}"#).await;
    client.write_all(CONNECT).await.unwrap();
    assert_eq!(read(&mut broker, CONNECT.len()).await, CONNECT);
    broker.write_all(CONNACK).await.unwrap();
    assert_eq!(read(&mut client, CONNACK.len()).await, CONNACK);
    let session = way.event("session").await;
    assert_eq!(
        (&session["client"], &session["accepted"]),
        (&"gw".into(), &true.into())
    );
    let allowed = publish("$aws/things/gw/shadow/update");
    client.write_all(&allowed).await.unwrap();
    assert_eq!(read(&mut broker, allowed.len()).await, allowed);
    client
        .write_all(&publish("$aws/things/gw/shadow/get"))
        .await
        .unwrap();
    assert!(ended(&mut client).await && ended(&mut broker).await);
    assert_eq!(way.event("denied").await["topic"], "$aws/things/gw/shadow/get");
    assert_eq!(way.event("ended").await["cause"], "denied");
}

#[tokio::test]
async fn a_broker_that_is_away_ends_the_connection() {
    let mut way = Way::new().await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(std::mem::replace(&mut way.broker, elsewhere));
    let mut client = TcpStream::connect(way.address).await.unwrap();
    assert!(ended(&mut client).await);
    assert_eq!(way.event("ended").await["cause"], "unreachable");
}

#[tokio::test]
async fn a_change_that_is_none_is_refused_and_changes_nothing() {
    let way = Way::new().await;
    for line in [r#"{"delay":1}"#, "1", r#"{"delayMillis":-1}"#] {
        assert!(way.ask(line).await["error"].is_string(), "{line}");
    }
    let (mut client, mut broker) = way.connect().await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(read(&mut broker, 1).await, b"x");
}

#[tokio::test]
async fn one_message_to_the_client_is_lost_and_what_is_behind_it_arrives() {
    let way = Way::new().await;
    let (mut client, mut broker) = way.connect().await;
    broker.write_all(CONNACK).await.unwrap();
    assert_eq!(read(&mut client, CONNACK.len()).await, CONNACK);
    way.change(r#"{"lose":"a/+"}"#).await;
    let (lost, other) = (publish("a/b"), publish("c/d"));
    for messages in [[&other[..], &lost], [&lost, &other]] {
        // In pieces, of which some begin in the middle of a packet.
        for piece in messages.concat().chunks(3) {
            broker.write_all(piece).await.unwrap();
            broker.flush().await.unwrap();
        }
    }
    let left = [&other[..], &lost, &other].concat();
    assert_eq!(read(&mut client, left.len()).await, left);
    assert_eq!(way.event("lost").await["topic"], "a/b");
    client.write_all(&lost).await.unwrap();
    assert_eq!(read(&mut broker, lost.len()).await, lost, "its own are not");
}
