//! A bench for the nucleus: broker, nucleus, a cloud-side MQTT client and a plain IPC client.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum as _;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::nucleus::{LoopbackNucleus, read_component_env};
use edgewarden_lab::site::{LoopbackBroker, Running, wait_until};
use greengrass_ipc::frame::{Decoder, Message, MessageKind, encode};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client as MqttClient, Event, MqttOptions};
use serde_json::{Value, json};

/// Generous: the machine may be busy with other tests.
pub const LIMIT: Duration = Duration::from_secs(15);
/// How long nothing has to come before "nothing comes" is believed; a marker sent behind it is better where possible.
pub const SILENCE: Duration = Duration::from_millis(300);

pub const RECIPE: &str = r#"
RecipeFormatVersion: "2020-01-25"
ComponentName: com.example.C
ComponentVersion: "1.0.0"
ComponentConfiguration:
  DefaultConfiguration:
    interval: 300
    nested: {on: true}
    accessControl:
      aws.greengrass.ipc.mqttproxy:
        "p:1":
          operations: [aws.greengrass#PublishToIoTCore]
          resources: ["$aws/things/+/shadow/get", "$aws/things/+/shadow/update", "test/#"]
        "p:2":
          operations: [aws.greengrass#SubscribeToIoTCore]
          resources: ["$aws/things/+/shadow/get/+", "$aws/things/+/shadow/update/+", "many/*", "test/*"]
      aws.greengrass.ipc.pubsub:
        "p:3":
          operations: [aws.greengrass#PublishToTopic, aws.greengrass#SubscribeToTopic]
          resources: ["local/*", "$aws/things/gateway-01/shadow/*"]
      aws.greengrass.ShadowManager:
        "p:4":
          operations: ["*"]
          resources: ["$aws/things/gateway-01/shadow", "$aws/things/gateway-01/shadow/name/*", gateway-01]
      aws.greengrass.ipc.lifecycle:
        "p:5":
          operations: ["*"]
          resources: [com.example.C, com.example.Other]
      aws.greengrass.Cli:
        "p:6":
          operations: ["*"]
          resources: [com.example.C, com.example.Other]
      aws.greengrass.ipc.componentmetric:
        "p:7":
          operations: ["*"]
          resources: ["*"]
Manifests:
  - Platform: {os: linux, runtime: "*"}
    Lifecycle:
      run: {RequiresPrivilege: true, Script: "exec sh {artifacts:path}/component.sh {configuration:/interval} {work:path}"}
"#;

pub struct Bench {
    pub nucleus: Running,
    pub broker: LoopbackBroker,
    pub folder: tempfile::TempDir,
    socket: PathBuf,
}

impl Bench {
    pub fn start(personality: &str, more: &[&str]) -> Self {
        Self::start_with(personality, more, |_| {})
    }

    /// The broker at `host`, a loopback address.
    pub fn start_at(personality: &str, host: &str) -> Self {
        Self::assemble(personality, host, &[], |_| {})
    }

    /// `prepare` may put files into the bench's folder first, or change its `recipe.yaml`.
    pub fn start_with(personality: &str, more: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        Self::assemble(personality, "127.0.0.1", more, prepare)
    }

    fn assemble(personality: &str, host: &str, more: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.yaml"), RECIPE).unwrap();
        std::fs::create_dir(folder.path().join("artifacts")).unwrap();
        prepare(folder.path());
        let nucleus = LoopbackNucleus::start(
            Path::new(env!("CARGO_BIN_EXE_edgewarden-lab")),
            folder.path(),
            Personality::from_str(personality, false).unwrap(),
            host,
            more,
        )
        .unwrap();
        Self {
            nucleus: nucleus.running,
            broker: nucleus.broker,
            folder,
            socket: nucleus.socket,
        }
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn token(&self) -> String {
        read_component_env(&self.root()).unwrap()["SVCUID"].clone()
    }

    /// A connection that has said nothing.
    pub fn dial(&self) -> Ipc {
        Ipc::dial(&self.socket)
    }

    /// An accepted connection.
    pub fn ipc(&self) -> Ipc {
        let mut ipc = self.dial();
        let ack = ipc
            .hello(&json!({ "authToken": self.token() }), "0.1.0")
            .expect("accepted");
        assert_eq!(
            (ack.kind, ack.flags, ack.payload.len()),
            (MessageKind::ConnectAck, 1, 0)
        );
        ipc
    }

    /// The cloud's side: an MQTT client subscribed to `filter`.
    pub fn cloud(&self, filter: &str) -> Cloud {
        Cloud::connect(self.broker.port, filter)
    }

    /// Kills the broker and waits until the nucleus noticed.
    pub fn lose_broker(&mut self) {
        self.broker.running.kill9().unwrap();
        self.nucleus
            .wait_event(LIMIT, |event| event["state"] == "disconnected")
            .unwrap();
    }

    /// Brings it back and waits until the nucleus is connected.
    pub fn restore_broker(&mut self) {
        self.broker.running.restart().unwrap();
        self.await_mqtt();
    }

    pub fn await_mqtt(&mut self) {
        self.nucleus
            .wait_event(LIMIT, |event| {
                event["event"] == "mqtt" && event["state"] == "connected"
            })
            .unwrap();
    }
}

impl Drop for Bench {
    /// A killed nucleus would leave its component behind.
    fn drop(&mut self) {
        if self.nucleus.terminate().is_ok() {
            let _ = self.nucleus.wait_exit(LIMIT);
        }
    }
}

pub struct Ipc {
    stream: UnixStream,
    decoder: Decoder,
    next_stream: i32,
}

impl Ipc {
    pub fn dial(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        Self {
            stream,
            decoder: Decoder::new(24 * 1024 * 1024),
            next_stream: 1,
        }
    }

    /// Sends a connect message; the answer, or none when the connection is closed.
    pub fn hello(&mut self, body: &Value, version: &str) -> Option<Message> {
        let hello = Message::new(MessageKind::Connect, 0).with_version(version);
        self.send(&hello.with_json(body.to_string()));
        self.read()
    }

    pub fn send(&mut self, message: &Message) {
        let _ = self.send_bytes(&encode(message).unwrap());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.set_write_timeout(Some(LIMIT)).unwrap();
        self.stream.write_all(bytes)
    }

    /// The next message; none when the nucleus closed the connection.
    pub fn read(&mut self) -> Option<Message> {
        self.read_within(LIMIT).expect("an answer in time")
    }

    /// `None`: nothing came. `Some(None)`: closed.
    pub fn read_within(&mut self, limit: Duration) -> Option<Option<Message>> {
        let deadline = Instant::now() + limit;
        let mut buffer = [0_u8; 16 * 1024];
        loop {
            if let Some(message) = self.decoder.next().unwrap() {
                return Some(Some(message));
            }
            let left = deadline
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())?;
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(None),
                Ok(length) => self.decoder.push(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Some(None),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return None;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Sends a request on the next stream id.
    pub fn request(&mut self, operation: &str, body: &Value) -> i32 {
        let stream = self.next_stream;
        self.next_stream += 1;
        self.request_on(stream, operation, body);
        stream
    }

    pub fn request_on(&mut self, stream: i32, operation: &str, body: &Value) {
        let request = Message::new(MessageKind::ApplicationMessage, stream)
            .with_operation(format!("aws.greengrass#{operation}"))
            .with_service_model_type(format!("aws.greengrass#{operation}Request"));
        self.send(&request.with_json(body.to_string()));
    }

    /// A request and its answer.
    pub fn call(&mut self, operation: &str, body: &Value) -> Result<Value, Value> {
        let stream = self.request(operation, body);
        let answer = self.read().expect("still connected");
        assert_eq!(answer.stream_id, stream);
        let body = serde_json::from_slice(&answer.payload).unwrap();
        match answer.kind {
            MessageKind::ApplicationMessage => {
                let shape = format!("aws.greengrass#{operation}Response");
                assert_eq!(answer.service_model_type.as_deref(), Some(&*shape));
                Ok(body)
            }
            MessageKind::ApplicationError => {
                assert_eq!(answer.flags, 2, "an error ends the stream");
                Err(body)
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn publish(&mut self, topic: &str, qos: &str, payload: &[u8]) -> Result<Value, Value> {
        let payload = STANDARD.encode(payload);
        self.call(
            "PublishToIoTCore",
            &json!({ "topicName": topic, "qos": qos, "payload": payload }),
        )
    }

    pub fn subscribe(&mut self, filter: &str) -> Result<Value, Value> {
        self.call("SubscribeToIoTCore", &json!({ "topicName": filter, "qos": "1" }))
    }

    pub fn get(&mut self, path: &[&str]) -> Result<Value, Value> {
        self.call("GetConfiguration", &json!({ "keyPath": path }))
    }

    /// The next event, which must be of this shape: stream, body.
    pub fn event(&mut self, shape: &str) -> (i32, Value) {
        let event = self.read().expect("still connected");
        assert_eq!(
            event.service_model_type.as_deref(),
            Some(&*format!("aws.greengrass#{shape}"))
        );
        (event.stream_id, serde_json::from_slice(&event.payload).unwrap())
    }

    /// The next IoT Core message: stream, topic, payload.
    pub fn message(&mut self) -> (i32, String, Vec<u8>) {
        let (stream, body) = self.event("IoTCoreMessage");
        let payload = STANDARD
            .decode(body["message"]["payload"].as_str().unwrap())
            .unwrap();
        (
            stream,
            body["message"]["topicName"].as_str().unwrap().to_owned(),
            payload,
        )
    }
}

pub struct Cloud {
    client: MqttClient,
    messages: Receiver<(String, Vec<u8>)>,
}

impl Cloud {
    fn connect(port: u16, filter: &str) -> Self {
        let mut options = MqttOptions::new("cloud", "127.0.0.1", port);
        options.set_max_packet_size(Some(1024 * 1024));
        let (client, mut connection) = MqttClient::new(options, 100);
        client.subscribe(filter, QoS::AtLeastOnce).unwrap();
        let (sender, messages) = channel();
        let (ready, subscribed) = channel();
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(ready.send(())),
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let topic = String::from_utf8_lossy(&message.topic).into_owned();
                        if sender.send((topic, message.payload.to_vec())).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        subscribed.recv_timeout(LIMIT).expect("subscribed");
        Self { client, messages }
    }

    pub fn publish(&self, topic: &str, payload: &[u8]) {
        self.client
            .publish(topic, QoS::AtLeastOnce, false, payload.to_vec())
            .unwrap();
    }

    pub fn next(&self) -> (String, Vec<u8>) {
        self.messages.recv_timeout(LIMIT).expect("a message")
    }
}

/// Waits for a condition, or fails the test with its name.
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    wait_until(LIMIT, what, condition).unwrap();
}

/// The error code of an answer that must be an error.
pub fn code(answer: Result<Value, Value>) -> String {
    answer.unwrap_err()["_errorCode"].as_str().unwrap().to_owned()
}

pub const UPDATE: &str = "$aws/things/gateway-01/shadow/update";
pub const GET: &str = "$aws/things/gateway-01/shadow/get";
pub const ACCEPTED: &str = "$aws/things/gateway-01/shadow/get/accepted";
pub const ANSWERS: &str = "$aws/things/gateway-01/shadow/get/+";
