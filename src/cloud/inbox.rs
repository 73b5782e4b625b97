//! Several MQTT subscriptions as one queue.
//!
//! In: the link and topics. Out: [`InboxEvent`]s. Each topic is subscribed for as long as the inbox lives: nucleus
//! lite refuses subscriptions while it is offline, classic answers them only once it is online, and both may refuse
//! them for want of rights; none of that ends the agent.
//!
//! What is subscribed at one time is a *round*. Another round is opened beside the one there is ([`Inbox::renew`]), and closes
//! the earlier ones when all of it stands and it has brought something ([`Inbox::settle`]): the nucleus forgets a topic at the
//! broker when its last stream ends, so the last one never ends before another stands.
//!
//! On nucleus lite what is closed is kept until nothing has come for a while: its MQTT service takes two locks in one order where
//! it hands a message on and in the other where a subscription ends, and where both come together the device has no cloud any more
//! (docs/reference/ipc-wire.md#mqtt).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use greengrass_ipc::{Client, IotCoreMessage, IpcError, Qos, Subscription, SubscriptionEvent};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::link::{LinkWatch, Nucleus};

/// Messages waiting for the agent. Beyond this the client's own bounded queues drop the oldest and say so.
const QUEUE: usize = 64;
/// First and longest pause between tries to subscribe.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Pause after a refusal for want of rights: only a deployment can change that.
const UNAUTHORIZED_PAUSE: Duration = Duration::from_secs(60);

/// How long nothing has come on lite before a subscription is ended.
const QUIET: Duration = Duration::from_secs(1);
/// And how long that is waited for at most, where something comes all the time.
const LONGEST_KEPT: Duration = Duration::from_secs(10);
/// Rounds that are kept for that at most: lite has room for some hundred subscriptions of all components.
const MOST_KEPT: usize = 4;

/// What comes out of the queue.
#[derive(Debug)]
pub(crate) enum InboxEvent {
    /// Every required topic is subscribed, for the first time or again after a reconnect.
    Ready {
        /// How long the nucleus took to say so, the first time.
        took: Duration,
    },
    /// What was subscribed beside the rest stands, all of it.
    Renewed {
        /// It is one subscription for each topic: some may have stood, and been answered on, long before others.
        by_topics: bool,
    },
    /// Messages were lost.
    Lost,
    /// The filter that stands for all topics is refused while the topics themselves stand.
    Narrowed {
        /// A sentence for the operator.
        why: String,
    },
    Message {
        topic: String,
        payload: Bytes,
    },
    /// A topic was refused; it is tried again. Told once for each reason: all topics are refused for the same one while
    /// nucleus lite is offline.
    Refused {
        topic: String,
        /// A sentence for the operator.
        why: String,
    },
}

/// What an inbox listens to.
#[derive(Debug, Clone)]
pub(crate) struct InboxTopics {
    /// A filter that stands for all of them, to be tried first.
    pub(crate) wide: Option<String>,
    pub(crate) topics: Vec<String>,
    /// How many of them, from the first, must stand for [`InboxEvent::Ready`].
    pub(crate) required: usize,
}

enum SubscriptionNews {
    Subscribed(usize),
    Lost(u64),
    Message(IotCoreMessage),
    Refused(String, IpcError),
}

/// The queue; dropping it unsubscribes.
#[derive(Debug)]
pub(crate) struct Inbox {
    client: Client,
    link: LinkWatch,
    topics: InboxTopics,
    sender: mpsc::Sender<(u64, SubscriptionNews)>,
    raw: mpsc::Receiver<(u64, SubscriptionNews)>,
    /// The oldest first; at most two but for a moment.
    rounds: Vec<Round>,
    /// Those that nobody listens to any more, and since when; none but on lite.
    ending: VecDeque<(Instant, Round)>,
    waits_for_quiet: bool,
    /// When a message came last.
    heard: Instant,
    last_round: u64,
    /// The connection of which [`InboxEvent::Ready`] was told.
    epoch: Option<u64>,
    opened: Instant,
    /// The newest round takes over once it stands and brings something.
    settling: bool,
    /// Ends the pauses between tries to subscribe.
    hurry: Arc<Notify>,
    /// What else there is to tell.
    waiting: VecDeque<InboxEvent>,
    /// Why a topic was last refused, until every topic is subscribed.
    refused: Option<String>,
    forwarders: JoinSet<()>,
}

/// What was subscribed at one time.
#[derive(Debug)]
struct Round {
    number: u64,
    wide: bool,
    required: usize,
    /// The connection that `subscribed` speaks of.
    epoch: Option<u64>,
    /// Topics subscribed on this connection.
    subscribed: BTreeSet<usize>,
    forwarders: Vec<AbortHandle>,
}

impl Round {
    fn is_complete(&self) -> bool {
        (0..self.required).all(|index| self.subscribed.contains(&index))
    }

    /// Whether it hears: it was answered.
    fn stands(&self) -> bool {
        !self.subscribed.is_empty() && self.is_complete()
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        for forwarder in &self.forwarders {
            forwarder.abort();
        }
    }
}

impl Inbox {
    /// Subscribes with QoS 1.
    pub(crate) fn open(nucleus: &Nucleus, topics: InboxTopics) -> Self {
        let (sender, raw) = mpsc::channel(QUEUE);
        let mut inbox = Self {
            client: nucleus.client.clone(),
            link: nucleus.link(),
            sender,
            raw,
            rounds: Vec::new(),
            ending: VecDeque::new(),
            waits_for_quiet: nucleus.is_lite(),
            heard: Instant::now(),
            last_round: 0,
            epoch: None,
            opened: Instant::now(),
            settling: false,
            hurry: Arc::default(),
            waiting: VecDeque::new(),
            refused: None,
            forwarders: JoinSet::new(),
            topics,
        };
        inbox.begin_round(inbox.topics.wide.is_some());
        inbox
    }

    /// Subscribes once more, beside what there is; not while an earlier one is still unanswered, which is the same.
    pub(crate) fn renew(&mut self) {
        let Some(newest) = self.rounds.last().filter(|round| round.stands()) else {
            return;
        };
        self.begin_round(newest.wide);
        while self.rounds.len() > 2 {
            // The first one was proven, or is as good as those after it.
            let surplus = self.rounds.remove(1);
            self.give_up(surplus);
        }
    }

    /// Nobody listens to these any more.
    fn give_up(&mut self, round: Round) {
        if self.waits_for_quiet {
            self.ending.push_back((Instant::now(), round));
            self.ending.drain(..self.ending.len().saturating_sub(MOST_KEPT));
        }
    }

    /// Whether nothing came lately: what is subscribed may be ended.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.waits_for_quiet || self.heard.elapsed() >= QUIET
    }

    /// When the oldest of those that nobody listens to may end.
    fn ends_at(&self) -> Option<Instant> {
        let (since, _) = self.ending.front()?;
        Some((self.heard.max(*since) + QUIET).min(*since + LONGEST_KEPT))
    }

    /// The nucleus is connected anew: what it refused meanwhile is tried at once.
    pub(crate) fn hasten(&self) {
        self.hurry.notify_waiters();
    }

    /// What is subscribed was proven: the newest round is enough once all of it stands and it has brought something.
    pub(crate) fn settle(&mut self) {
        self.settling = self.rounds.len() > 1;
    }

    /// The next event; cancel-safe. `None` when a topic is no longer listened to: its task does not end by itself, so it
    /// has failed, and the inbox must be opened anew.
    pub(crate) async fn next(&mut self) -> Option<InboxEvent> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let ends_at = self.ends_at();
            let quiet = async {
                match ends_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let (round, news) = tokio::select! {
                raw = self.raw.recv() => raw?,
                () = quiet => {
                    self.ending.pop_front();
                    continue;
                }
                Some(ended) = self.forwarders.join_next() => {
                    if ended.as_ref().is_err_and(tokio::task::JoinError::is_cancelled) {
                        continue;
                    }
                    tracing::error!("the task that listens to a topic has ended: {ended:?}");
                    return None;
                }
            };
            if matches!(news, SubscriptionNews::Message(_)) {
                self.heard = Instant::now();
            }
            // A round that is gone has nothing to say.
            if let Some(place) = self.rounds.iter().position(|known| known.number == round) {
                self.take(place, news);
            }
        }
    }

    fn begin_round(&mut self, wide: bool) {
        let filter = self.topics.wide.clone().filter(|_| wide);
        let (topics, required) = match filter {
            Some(filter) => (vec![filter], 1),
            None => (self.topics.topics.clone(), self.topics.required),
        };
        self.last_round += 1;
        let number = self.last_round;
        let forwarders = topics.into_iter().enumerate().map(|(index, topic)| {
            let sender = self.sender.clone();
            let hurry = Arc::clone(&self.hurry);
            let forwarder = forward(self.client.clone(), topic, (number, index), sender, hurry);
            self.forwarders.spawn(forwarder)
        });
        let forwarders = forwarders.collect();
        self.rounds.push(Round {
            number,
            wide,
            required,
            epoch: None,
            subscribed: BTreeSet::new(),
            forwarders,
        });
    }

    fn take(&mut self, place: usize, news: SubscriptionNews) {
        match news {
            SubscriptionNews::Message(message) => {
                let is_newest = place + 1 == self.rounds.len();
                // One topic of it may be answered long before another is subscribed.
                let stands = self.rounds.get(place).is_some_and(Round::stands);
                if is_newest && stands && std::mem::take(&mut self.settling) {
                    let earlier: Vec<Round> = self.rounds.drain(..place).collect();
                    earlier.into_iter().for_each(|round| self.give_up(round));
                }
                self.waiting.push_back(InboxEvent::Message {
                    topic: message.topic,
                    payload: message.payload,
                });
            }
            SubscriptionNews::Refused(topic, error) => self.refuse(place, topic, &error),
            SubscriptionNews::Lost(count) => {
                tracing::warn!(count, "messages were lost because they came too fast");
                self.waiting.push_back(InboxEvent::Lost);
            }
            SubscriptionNews::Subscribed(index) => self.subscribed(place, index),
        }
    }

    /// Notes a subscribed topic; on a new connection all of a round must come again before it is complete.
    fn subscribed(&mut self, place: usize, index: usize) {
        let epoch = self.link.epoch();
        let Some(round) = self.rounds.get_mut(place) else {
            return;
        };
        if epoch != round.epoch {
            round.epoch = epoch;
            round.subscribed.clear();
        }
        let again = !round.subscribed.insert(index);
        if index >= round.required || !round.is_complete() {
            return;
        }
        self.refused = None;
        let wide = round.wide;
        if std::mem::replace(&mut self.epoch, epoch) == epoch && !again {
            self.waiting.push_back(InboxEvent::Renewed { by_topics: !wide });
        } else {
            let took = self.opened.elapsed();
            self.waiting.push_back(InboxEvent::Ready { took });
        }
        let refused = |round: &Round| round.wide && !round.stands();
        if !wide && self.rounds.iter().any(refused) {
            // It was refused, perhaps only because nobody was connected: this tells.
            self.rounds.retain(|round| !refused(round));
            self.begin_round(true);
        }
    }

    fn refuse(&mut self, place: usize, topic: String, error: &IpcError) {
        let why = crate::error_text(error);
        if self.rounds.get(place).is_some_and(|round| round.wide) && error.code().is_some() {
            if self.rounds.iter().any(|round| !round.wide && round.stands()) {
                self.rounds.remove(place);
                self.waiting.push_back(InboxEvent::Narrowed { why });
                return;
            }
            if self.rounds.iter().all(|round| round.wide) {
                self.begin_round(false);
            }
        }
        if self.refused.as_ref() == Some(&why) {
            tracing::debug!("{topic} was refused as well: {why}");
            return;
        }
        self.refused = Some(why.clone());
        self.waiting.push_back(InboxEvent::Refused { topic, why });
    }
}

async fn forward(
    client: Client,
    topic: String,
    (round, index): (u64, usize),
    sender: mpsc::Sender<(u64, SubscriptionNews)>,
    hurry: Arc<Notify>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        match client.subscribe_to_iot_core(&topic, Qos::AtLeastOnce).await {
            Ok(subscription) => {
                pause = FIRST_PAUSE;
                let stands = SubscriptionNews::Subscribed(index);
                if sender.send((round, stands)).await.is_err()
                    || drain(subscription, (round, index), &sender).await.is_none()
                {
                    return;
                }
            }
            Err(error) => {
                let wait = if error.is_unauthorized() {
                    UNAUTHORIZED_PAUSE
                } else {
                    pause
                };
                let refused = SubscriptionNews::Refused(topic.clone(), error);
                if sender.send((round, refused)).await.is_err() {
                    return;
                }
                let wait = wait.mul_f64(0.75 + 0.5 * fastrand::f64());
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = hurry.notified() => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Forwards until the subscription ends (`Some`) or nobody listens any more (`None`).
async fn drain(
    mut subscription: Subscription<IotCoreMessage>,
    (round, index): (u64, usize),
    sender: &mpsc::Sender<(u64, SubscriptionNews)>,
) -> Option<()> {
    while let Some(event) = subscription.next().await {
        let raw = match event {
            SubscriptionEvent::Message(message) => SubscriptionNews::Message(message),
            SubscriptionEvent::Missed { count } => SubscriptionNews::Lost(count),
            SubscriptionEvent::Resubscribed => SubscriptionNews::Subscribed(index),
            // What a later client may tell besides is no message.
            _ => continue,
        };
        sender.send((round, raw)).await.ok()?;
    }
    Some(())
}
