//! The nucleus' one MQTT connection.
//!
//! In: publishes and subscriptions of components, packets of the broker. Out: packets to the broker, messages to
//! [`super::subscriptions`]. MQTT 5 over plain TCP, client id = thing, clean start, keep alive 30 s; after a reconnect
//! every filter is subscribed anew. The classic nucleus starts clean once and joins its session at every later connection.
//! Deliberately absent: TLS, topic aliases.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, SubAck, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use serde_json::json;
use tokio::sync::oneshot;

use super::events::{Nanoseconds, To, emit, emit_message};
use super::filters::{Entry, Filters};
use super::personality::Personality;
use super::refusal::Refusal;
use super::spool::{Outgoing, Spool};
use super::subscriptions::Subscriptions;

/// Requests waiting for the MQTT client; more are refused like any other failure to publish.
const REQUEST_QUEUE: usize = 4_096;
/// As the real nuclei's client does.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long the broker keeps a session whose connection has ended.
const SESSION_SECONDS: u32 = 3_600;
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
    filters: Filters,
    /// Filters handed to the MQTT client, in order, until it tells their packet id.
    handed_over: VecDeque<String>,
    unanswered: HashMap<u16, String>,
    /// The same of those that are to end.
    ending: VecDeque<String>,
    not_ended: HashMap<u16, String>,
    /// Filters with this in them are refused to whoever subscribes anew.
    refused: Option<String>,
    /// Who waits for the broker's answer to a filter.
    waiters: HashMap<String, Vec<oneshot::Sender<Result<(), Refusal>>>>,
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
        if options.personality.keeps_session() {
            mqtt.set_session_expiry_interval(Some(SESSION_SECONDS));
        }
        let (client, events) = AsyncClient::new(mqtt, REQUEST_QUEUE);
        let state = State {
            spool: Spool::new(options.personality),
            filters: Filters::new(options.personality.shares_subscriptions()),
            handed_over: VecDeque::new(),
            unanswered: HashMap::new(),
            ending: VecDeque::new(),
            not_ended: HashMap::new(),
            refused: None,
            waiters: HashMap::new(),
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
        state.filters.forget();
        state.waiters.clear();
        let _ = self.client.try_disconnect();
    }

    /// From now on filters with this in them are refused; none: no filter is.
    pub(super) fn refuse(&self, text: Option<String>) {
        self.state().refused = text;
    }

    /// Subscribes at the broker, or counts one more user of a filter that is there.
    pub(super) fn subscribe(&self, filter: &str, qos: QoS) -> Result<Subscribed, Refusal> {
        let mut state = self.state();
        let connected = state.spool.is_connected();
        let is_refused = |text: &String| filter.contains(text.as_str());
        if self.personality.is_lite() && !connected || state.refused.as_ref().is_some_and(is_refused) {
            return Err(no_subscription());
        }
        let wide = match state.filters.enter(filter, qos) {
            Entry::Stands => return Ok(Subscribed::Now),
            Entry::Waits(wide) => wide,
            Entry::Asks => {
                if connected {
                    self.request(&mut state, filter, qos).inspect_err(|_| {
                        state.filters.leave(filter);
                    })?;
                }
                filter.to_owned()
            }
        };
        if self.personality.is_lite() {
            return Ok(Subscribed::Now);
        }
        let (sender, receiver) = oneshot::channel();
        state.waiters.entry(wide).or_default().push(sender);
        Ok(Subscribed::Later(receiver))
    }

    fn request(&self, state: &mut State, filter: &str, qos: QoS) -> Result<(), Refusal> {
        self.client
            .try_subscribe(filter, qos)
            .map_err(|_| no_subscription())?;
        state.filters.asked(filter);
        state.handed_over.push_back(filter.to_owned());
        Ok(())
    }

    /// One user of a filter less; the last one unsubscribes.
    pub(super) fn unsubscribe(&self, filter: &str) {
        let mut state = self.state();
        for filter in state.filters.leave(filter) {
            let asked = state.spool.is_connected() && self.client.try_unsubscribe(filter.as_str()).is_ok();
            if asked && self.personality.shares_subscriptions() {
                state.ending.push_back(filter);
            } else {
                state.filters.ended(&filter);
            }
        }
    }

    fn connected(&self, session: bool) {
        let mut state = self.state();
        for (filter, qos) in state.filters.connected(session) {
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
        state.ending.clear();
        state.not_ended.clear();
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
        state.filters.answered(&filter, granted);
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

    fn ending_numbered(&self, packet_id: u16) {
        let mut state = self.state();
        if let Some(filter) = state.ending.pop_front() {
            state.not_ended.insert(packet_id, filter);
        }
    }

    fn ended(&self, packet_id: u16) {
        let mut state = self.state();
        if let Some(filter) = state.not_ended.remove(&packet_id) {
            state.filters.ended(&filter);
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
            Ok(Event::Incoming(Packet::ConnAck(accepted))) => {
                pause = first_pause;
                events
                    .options
                    .set_clean_start(!bridge.personality.keeps_session());
                bridge.connected(accepted.session_present);
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
            Ok(Event::Incoming(Packet::UnsubAck(answer))) => bridge.ended(answer.pkid),
            Ok(Event::Outgoing(rumqttc::Outgoing::Subscribe(packet_id))) => bridge.numbered(packet_id),
            Ok(Event::Outgoing(rumqttc::Outgoing::Unsubscribe(packet_id))) => {
                bridge.ending_numbered(packet_id)
            }
            Ok(_) => {}
            Err(error) => {
                // What was not sent is the bridge's to repeat: it knows what is still wanted.
                events.pending.clear();
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
