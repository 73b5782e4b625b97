//! The nucleus' one MQTT connection.
//!
//! In: publishes and subscriptions of components, packets of the broker. Out: packets to the broker, messages to
//! [`super::subscriptions`]. MQTT 5 over plain TCP, client id = thing, clean start, keep alive 30 s; after a reconnect
//! every filter is subscribed anew. Deliberately absent: TLS, topic aliases.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, SubAck, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use serde_json::json;
use tokio::sync::oneshot;

use super::events::{Nanoseconds, To, emit, emit_message};
use super::personality::Personality;
use super::refusal::Refusal;
use super::spool::{Outgoing, Spool};
use super::subscriptions::Subscriptions;

/// Requests waiting for the MQTT client; more are refused like any other failure to publish.
const REQUEST_QUEUE: usize = 4_096;
/// As the real nuclei's client does.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A broker that does not answer the connection attempt within this many seconds is not there.
const CONNECT_SECONDS: u64 = 5;

/// Where and as whom to connect.
#[derive(Clone, Debug)]
pub(super) struct BridgeOptions {
    pub(super) thing: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// After a lost connection; doubles up to `max_pause`.
    pub(super) first_pause: Duration,
    pub(super) max_pause: Duration,
    pub(super) personality: Personality,
    /// Print every message, with its time.
    pub(super) tell_messages: bool,
}

/// What a subscriber has to wait for before it is answered.
pub(super) enum Subscribed {
    /// Nothing.
    Now,
    /// The broker's word.
    Later(oneshot::Receiver<Result<(), Refusal>>),
}

/// The half that operations use.
pub(super) struct Bridge {
    personality: Personality,
    tell_messages: bool,
    client: AsyncClient,
    state: Mutex<State>,
}

struct State {
    spool: Spool,
    /// Filters at the broker, with their QoS and how many subscriptions use them.
    filters: BTreeMap<String, (QoS, usize)>,
    /// Filters handed to the MQTT client, in order, until it tells their packet id.
    handed_over: VecDeque<String>,
    unanswered: HashMap<u16, String>,
    waiters: HashMap<String, Vec<oneshot::Sender<Result<(), Refusal>>>>,
    /// Filters the broker has granted.
    granted: BTreeSet<String>,
}

fn no_subscription() -> Refusal {
    Refusal::service("Failed to bind the subscription.")
}

impl Bridge {
    /// The bridge and its event loop, which [`drive`] runs.
    pub(super) fn new(options: &BridgeOptions) -> (Self, EventLoop) {
        // The client joins host and port by a colon, so an IPv6 address needs its brackets.
        let host = if options.host.contains(':') {
            format!("[{}]", options.host)
        } else {
            options.host.clone()
        };
        let mut mqtt = MqttOptions::new(&options.thing, host, options.port);
        mqtt.set_clean_start(true)
            .set_keep_alive(KEEP_ALIVE)
            .set_connection_timeout(CONNECT_SECONDS);
        mqtt.set_max_packet_size(Some(options.personality.max_mqtt_packet()));
        let (client, events) = AsyncClient::new(mqtt, REQUEST_QUEUE);
        let state = State {
            spool: Spool::new(options.personality),
            filters: BTreeMap::new(),
            handed_over: VecDeque::new(),
            unanswered: HashMap::new(),
            waiters: HashMap::new(),
            granted: BTreeSet::new(),
        };
        (
            Self {
                personality: options.personality,
                tell_messages: options.tell_messages,
                client,
                state: Mutex::new(state),
            },
            events,
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the broker is connected.
    pub(super) fn is_connected(&self) -> bool {
        self.state().spool.is_connected()
    }

    /// Sends or spools a message.
    pub(super) fn publish(&self, message: Outgoing) -> Result<(), Refusal> {
        self.tell(To::Cloud, Nanoseconds::now(), &message.topic, &message.payload);
        let Some(message) = self.state().spool.admit(message)? else {
            return Ok(());
        };
        self.hand_over(message)
    }

    /// Prints a message, if that was asked for.
    fn tell(&self, to: To, at: Option<Nanoseconds>, topic: &str, payload: &[u8]) {
        if self.tell_messages {
            emit_message(to, at, topic, payload);
        }
    }

    fn hand_over(&self, message: Outgoing) -> Result<(), Refusal> {
        let qos = if message.acknowledged {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        };
        let sent = self.client.try_publish_with_properties(
            message.topic,
            qos,
            message.retain,
            message.payload,
            message.properties.unwrap_or_default(),
        );
        sent.map_err(|_| Refusal::service("Failed to publish the message."))
    }

    /// What a broker does to who publishes to a wildcard: the connection ends, for every component.
    pub(super) fn offend_broker(&self) {
        let _ = self.client.try_disconnect();
    }

    /// What a restart of lite's `iotcored` leaves: a connection that is made anew, and no subscription.
    pub(super) fn forget_everything(&self) {
        let mut state = self.state();
        state.filters.clear();
        state.granted.clear();
        state.waiters.clear();
        let _ = self.client.try_disconnect();
    }

    /// Subscribes at the broker, or counts one more user of a filter that is there.
    pub(super) fn subscribe(&self, filter: &str, qos: QoS) -> Result<Subscribed, Refusal> {
        let mut state = self.state();
        let connected = state.spool.is_connected();
        if self.personality.is_lite() && !connected {
            return Err(no_subscription());
        }
        if let Some((_, users)) = state.filters.get_mut(filter) {
            *users += 1;
        } else {
            if connected {
                self.request(&mut state, filter, qos)?;
            }
            state.filters.insert(filter.to_owned(), (qos, 1));
        }
        if self.personality.is_lite() || state.granted.contains(filter) {
            return Ok(Subscribed::Now);
        }
        let (sender, receiver) = oneshot::channel();
        state.waiters.entry(filter.to_owned()).or_default().push(sender);
        Ok(Subscribed::Later(receiver))
    }

    fn request(&self, state: &mut State, filter: &str, qos: QoS) -> Result<(), Refusal> {
        self.client
            .try_subscribe(filter, qos)
            .map_err(|_| no_subscription())?;
        state.handed_over.push_back(filter.to_owned());
        Ok(())
    }

    /// One user of a filter less; the last one unsubscribes.
    pub(super) fn unsubscribe(&self, filter: &str) {
        let mut state = self.state();
        let Some((_, users)) = state.filters.get_mut(filter) else {
            return;
        };
        *users -= 1;
        if *users == 0 {
            state.filters.remove(filter);
            state.granted.remove(filter);
            let _ = self.client.try_unsubscribe(filter);
        }
    }

    fn connected(&self) {
        let mut state = self.state();
        let filters: Vec<_> = state
            .filters
            .iter()
            .map(|(filter, (qos, _))| (filter.clone(), *qos))
            .collect();
        for (filter, qos) in filters {
            let _ = self.request(&mut state, &filter, qos);
        }
        for message in state.spool.connected() {
            let _ = self.hand_over(message);
        }
    }

    /// True when there was a connection.
    fn disconnected(&self) -> bool {
        let mut state = self.state();
        let was = state.spool.is_connected();
        state.spool.disconnected();
        state.handed_over.clear();
        state.unanswered.clear();
        was
    }

    fn answered(&self, answer: &SubAck) {
        let mut state = self.state();
        let Some(filter) = state.unanswered.remove(&answer.pkid) else {
            return;
        };
        let granted = answer
            .return_codes
            .iter()
            .all(|code| matches!(code, SubscribeReasonCode::Success(_)));
        let outcome = if granted { Ok(()) } else { Err(no_subscription()) };
        if granted {
            state.granted.insert(filter.clone());
        }
        for waiter in state.waiters.remove(&filter).unwrap_or_default() {
            let _ = waiter.send(outcome.clone());
        }
    }

    fn numbered(&self, packet_id: u16) {
        let mut state = self.state();
        if let Some(filter) = state.handed_over.pop_front() {
            state.unanswered.insert(packet_id, filter);
        }
    }
}

/// Runs the connection for ever.
pub(super) async fn drive(
    bridge: Arc<Bridge>,
    subscriptions: Arc<Subscriptions>,
    mut events: EventLoop,
    (first_pause, max_pause): (Duration, Duration),
) {
    let mut pause = first_pause;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                pause = first_pause;
                bridge.connected();
                subscriptions.connection_changed(true);
                emit(&json!({ "event": "mqtt", "state": "connected" }));
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                // The time is that of the beginning; printing must not delay what is measured with it.
                let at = Nanoseconds::now();
                subscriptions.deliver(&message);
                let topic = String::from_utf8_lossy(&message.topic);
                bridge.tell(To::Component, at, &topic, &message.payload);
            }
            Ok(Event::Incoming(Packet::PubAck(_))) => bridge.state().spool.acknowledged(),
            Ok(Event::Incoming(Packet::SubAck(answer))) => bridge.answered(&answer),
            Ok(Event::Outgoing(rumqttc::Outgoing::Subscribe(packet_id))) => bridge.numbered(packet_id),
            Ok(_) => {}
            Err(error) => {
                if bridge.disconnected() {
                    subscriptions.connection_changed(false);
                    emit(&json!({ "event": "mqtt", "state": "disconnected", "reason": error.to_string() }));
                }
                tokio::time::sleep(pause.min(max_pause)).await;
                pause = (pause * 2).min(max_pause);
            }
        }
    }
}
